"""Cell-averaging CFAR on a delay-Doppler map, exact for windowed and zero-padded maps, and its closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsp.channel import FloatArray
from dsp.sensing.delay_doppler import DelayDopplerMap

__all__ = [
    "CfarResult",
    "Training",
    "cfar",
    "detection_probability",
    "threshold_factor",
    "training_efficiency",
    "training_means",
]

_MIN_TRAINING = 8
"""Fewer training cells than this estimate no noise floor: the cell is not tested."""
_MIN_USABLE = 0.5
"""Dopplers where clutter removal leaves less of a mover than this are neither tested nor trained on."""


@dataclass(frozen=True)
class Training:
    """Cells around the tested one, in resolution cells on each side, (Doppler, delay)."""

    guard: tuple[int, int] = (2, 2)
    reach: tuple[int, int] = (7, 7)
    """Outer edge of the training cells; beyond the guard."""


@dataclass(frozen=True)
class CfarResult:
    """Decision of every cell of a map."""

    exceeds: NDArray[np.bool_]
    """Power above threshold, shape (doppler, delay)."""
    threshold: FloatArray
    """Infinite where the cell is not tested."""
    tested: NDArray[np.bool_]
    noise: FloatArray
    """Mean power of the training cells."""
    efficiency: float
    """Independent training cells per training cell, from the windows' correlation."""

    @property
    def alarms(self) -> int:
        """Number of cells above their threshold."""
        return int(np.count_nonzero(self.exceeds))


def threshold_factor(cells: FloatArray | float, false_alarm_rate: float, *, looks: int = 1) -> FloatArray:
    """Factor over the training mean at which a noise cell alarms with the given probability.

    The tested power is Gamma(looks), the training mean of n independent cells Gamma(n·looks)/n; their ratio's tail
    is an incomplete beta function. For one look: n·(P^(−1/n) − 1).

    Parameters
    ----------
    cells : float array > 0
        Independent training cells; need not be whole.
    false_alarm_rate : float, 0 < P < 1
    looks : int ≥ 1
        Powers summed in every cell, one an antenna.

    Raises
    ------
    ValueError
        If the rate is not a probability.

    Source: Finn and Johnson 1968 (one look); the F distribution of a ratio of Gamma variables (several).
    """
    from scipy.special import betainccinv

    if not 0.0 < false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate is {false_alarm_rate}: a probability between 0 and 1 is needed")
    number = np.asarray(cells, dtype=np.float64)
    share = betainccinv(float(looks), number * looks, false_alarm_rate)
    return np.asarray(number * share / (1.0 - share))


def detection_probability(
    snr: FloatArray | float, cells: float, false_alarm_rate: float, *, looks: int = 1, swerling: int = 0
) -> FloatArray:
    """Probability that CA-CFAR detects a target of power ratio ``snr`` per look.

    Steady targets (Swerling 0) by the noncentral F distribution; slowly fluctuating ones (Swerling 1), one
    exponential power common to all looks, as its average: (1 + α/(n(1+snr)))^(−n) for one look.

    Raises
    ------
    ValueError
        If the model is neither 0 nor 1.

    Source: Gandhi and Kassam 1988, eq. 8 (Swerling 1); noncentral F as the ratio of Gamma variables (Swerling 0).
    """
    from scipy.special import ncfdtr

    factor = float(threshold_factor(cells, false_alarm_rate, looks=looks))
    ratio = np.asarray(snr, dtype=np.float64)
    if swerling == 0:
        return np.asarray(1.0 - ncfdtr(2.0 * looks, 2.0 * looks * cells, 2.0 * looks * ratio, factor))
    if swerling == 1:
        if looks == 1:
            return np.asarray((1.0 + factor / (cells * (1.0 + ratio))) ** -cells)
        # quantiles of the exponential power, midpoints of 4000 equal shares
        power = -np.log1p(-(np.arange(4000) + 0.5) / 4000)
        steady = ncfdtr(2.0 * looks, 2.0 * looks * cells, 2.0 * looks * np.multiply.outer(ratio, power), factor)
        return np.asarray(1.0 - steady.mean(axis=-1))
    raise ValueError(f"Swerling model {swerling} is not 0 or 1")


def training_efficiency(found: DelayDopplerMap, training: Training) -> float:
    """Independent cells per training cell: n/Σ_ij|ρ_ij|² with the windows' own correlation ρ.

    The mean of n correlated exponentials has the variance of that of n²/Σ|ρ_ij|² independent ones; noise is white
    over symbols and subcarriers, so that ρ is the Fourier transform of the squared windows and separable.
    """
    rows, columns = training.reach
    over_doppler = _correlation(found.slow_weights, found.time_s, found.doppler_cell_hz, 2 * rows)
    over_delay = _correlation(found.delay_weights, found.frequency_hz, found.delay_cell_s, 2 * columns)
    number, pairs = _training_pairs(training)
    return float(number / (over_doppler @ pairs @ over_delay))


@lru_cache(maxsize=4)
def _training_pairs(training: Training) -> tuple[int, FloatArray]:
    """Training cells, and how many ordered pairs of them stand so many resolution cells apart, by (Doppler, delay)."""
    rows, columns = training.reach
    grid = np.array([(a, b) for a in range(-rows, rows + 1) for b in range(-columns, columns + 1)])
    cells = grid[(np.abs(grid[:, 0]) > training.guard[0]) | (np.abs(grid[:, 1]) > training.guard[1])]
    apart = np.abs(cells[:, None, :] - cells[None, :, :])
    pairs = np.zeros((2 * rows + 1, 2 * columns + 1))
    np.add.at(pairs, (apart[..., 0], apart[..., 1]), 1.0)
    return len(cells), pairs


def cfar(
    found: DelayDopplerMap,
    *,
    false_alarm_rate: float,
    training: Training | None = None,
    candidates: NDArray[np.bool_] | None = None,
) -> CfarResult:
    """Decision of every cell of the map against the mean of the cells around it.

    A cell is one cell of the map as it is, padding included: each tested cell of noise alone alarms with
    probability ``false_alarm_rate``, so that a map of M cells gives M times as many alarming cells on average
    (padded neighbours alarm together). Training cells stand one resolution cell apart, so that padding does not
    count the same noise twice; what correlation the window leaves is taken out by `training_efficiency`. At the
    edges the missing training cells are left out and the threshold follows their number; neither dimension
    wraps. Dopplers blanked by clutter removal are not tested.

    Parameters
    ----------
    found : DelayDopplerMap
    false_alarm_rate : float, 0 < P < 1
        Per tested cell.
    training : Training
        Guard and reach in resolution cells.
    candidates : bool array, shape (doppler, delay), optional
        Cells to leave out of testing and training are False.

    Raises
    ------
    ValueError
        If the rate is no probability or the training region is empty.
    """
    region = training or Training()
    if region.reach[0] < region.guard[0] or region.reach[1] < region.guard[1] or region.reach == region.guard:
        raise ValueError(f"training cells must reach beyond the guard: {region}")
    power: NDArray[np.float64] = np.ascontiguousarray(found.power, dtype=np.float64)
    usable = np.broadcast_to((found.usable >= _MIN_USABLE)[:, None], power.shape)
    usable = np.ascontiguousarray(usable if candidates is None else usable & candidates)
    mean, number = training_means(power, usable, (found.doppler_padding, found.delay_padding), region)
    efficiency = training_efficiency(found, region)
    factor = _factors(int(number.max(initial=0)), efficiency, false_alarm_rate, found.values.shape[0])[number]
    tested = usable & np.isfinite(factor)
    threshold = np.full(power.shape, np.inf)
    threshold[tested] = factor[tested] * mean[tested]
    return CfarResult(power > threshold, threshold, tested, mean, efficiency)


@lru_cache(maxsize=8)
def _factors(most: int, efficiency: float, false_alarm_rate: float, looks: int) -> FloatArray:
    """`threshold_factor` of 0…``most`` training cells, infinite where they are too few."""
    factors = np.full(most + 1, np.inf)
    if most >= _MIN_TRAINING:
        cells = efficiency * np.arange(_MIN_TRAINING, most + 1)
        factors[_MIN_TRAINING:] = threshold_factor(cells, false_alarm_rate, looks=looks)
    return factors


def training_means(
    power: NDArray[np.float64], usable: NDArray[np.bool_], strides: tuple[int, int], training: Training
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean power and number of each cell's training cells, by running sums in double precision.

    Parameters
    ----------
    power, usable : float64 and bool arrays, shape (doppler, delay), C-contiguous
        Cells that are not usable are left out.
    strides : (int, int)
        Cells of the map per resolution cell, over which guard and reach are counted.
    training : Training
    """
    from dsp.kernels.cfar import _training

    mean, number = np.empty(power.shape), np.empty(power.shape, np.int64)
    _training(power, usable, strides, training.guard, training.reach, mean, number)
    return mean, number


def _correlation(weights: FloatArray, position: FloatArray, step: float, reach: int) -> FloatArray:
    """|ρ|² between cells 0…reach resolution cells apart."""
    turns = np.tile(np.exp(2j * np.pi * step * position), (reach + 1, 1))
    turns[0] = weights
    return np.asarray(np.abs(np.cumprod(turns, axis=0).sum(axis=1)) ** 2 / float(weights.sum()) ** 2)
