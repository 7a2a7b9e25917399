"""What the directions of a link differ by once the offsets are taken off, and the two things that explain it.

A scatterer that moved between the slots leaves **paths** of its own. Transmit and receive chains that differ over
frequency leave the channel itself times a **smooth** function of frequency (docs/methods/reciprocity.md eq. 14). Both
lie near the channel's paths in delay and pull the time offset, paths by hundreds of picoseconds; the difference is
fitted with either, the time offset with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.polynomial import legendre
from scipy import fft

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.matched_product import Residual, TwoWayLink
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["SMOOTH_TERMS", "DirectionDifference", "Explanation", "explained", "smooth_gain"]

_SMOOTH_ORDER = 4
"""Of the polynomials: those of an AD936x's filters fall off by three from order to order, the fifth is below 1e-3."""
SMOOTH_TERMS = 2 * _SMOOTH_ORDER - 1
"""Without the common gain and phase, and the phase's slope, which is a delay."""
_FALSE_ALARM = 0.01  # per link; a path found in noise costs a little deviation, not the estimate
_LARGEST_COUNT = 6
_PADDING = 4
_ALIGNMENTS = 4  # of the directions with a new path: its delay was found while they were not yet aligned
_SETTLED = 0.1  # of the time offset's deviation


@dataclass(frozen=True)
class DirectionDifference:
    """Forward less reverse direction, averaged over symbols; all arrays of shape (subcarrier,)."""

    values: ComplexArray
    channel: ComplexArray
    """Mean of both directions."""
    information: FloatArray
    """Inverse noise variance of each value, times two: that of its real and imaginary part."""
    subcarrier_hz: FloatArray
    steps: np.ndarray[tuple[int], np.dtype[np.intp]]
    """Place of each subcarrier in the uniform grid."""
    window_s: tuple[float, float]
    """Delays in which paths are looked for."""

    @classmethod
    def of(cls, link: TwoWayLink, residual: Residual, to_s: float) -> DirectionDifference:
        """Difference with the time offset ``to_s`` and the residual's frequency offset taken off.

        Average, because what matters to the time offset is what stays in the sum over symbols: a path whose Doppler
        the slot resolves has gone from both. The common phase is taken off each frame first.
        """
        weights = link.weights
        f = link.subcarrier_hz
        aligned = link.derotated(link.forward, to_s, residual.cfo_hz)
        for block in frame_blocks(link.frame_of_symbol):  # slow phase wander between frames must not dim the average
            aligned[block] *= np.exp(-1j * np.angle(np.sum((weights * aligned * np.conj(link.reverse))[block])))
        sums = weights.sum(axis=0)
        known = sums > 0.0
        difference = np.sum(weights * (aligned - link.reverse), axis=0)[known] / sums[known]
        channel = 0.5 * np.sum(weights * (aligned + link.reverse), axis=0)[known] / sums[known]
        frequencies = f[known]
        spacing = float(np.min(np.diff(frequencies)))
        lag = np.angle(np.sum(channel[1:] * np.conj(channel[:-1])))
        centre_s, half_s = -lag / (2.0 * pi * spacing), 0.22 / spacing
        return cls(
            values=difference,
            channel=channel,
            information=2.0 * sums[known],
            subcarrier_hz=frequencies,
            steps=grid_steps(frequencies),
            window_s=(centre_s - half_s, centre_s + half_s),
        )


@dataclass(frozen=True)
class Explanation:
    """Joint fit of the difference by time offset and paths, with or without smooth terms."""

    delays_s: FloatArray
    """Delay of each path in the aligned channel's own delay origin."""
    amplitudes: ComplexArray
    """Of the paths, relative to the root mean square of the channel."""
    smooth_power: float
    """Mean square of the smooth terms' function; 0 without them."""
    to_correction_s: float
    """What the joint fit adds to the time offset."""
    to_std_s: float
    plain_std_s: float
    """Deviation without paths and smooth terms."""
    noise_ratio: float
    """Noise seen, as the median over delays, over noise stated."""
    misfit: float
    """Weighted sum of squares that is left, in units of the noise stated."""
    static_part: float
    """Power that the average over the slot keeps."""
    exhausted: bool
    """More paths than can be fitted."""

    @property
    def power(self) -> float:
        """Of the paths, of the channel's."""
        return float(np.sum(np.abs(self.amplitudes) ** 2))

    @property
    def deviation_factor(self) -> float:
        """Growth of the time offset's deviation by what is fitted with it."""
        return max(self.to_std_s / self.plain_std_s, 1.0)


def smooth_gain(difference: DirectionDifference, *, least: float = 0.0) -> float:
    """Twice the log-likelihood that smooth terms alone gain, in units of the noise seen, or stated if that is more.

    Chi-squared with `SMOOTH_TERMS` degrees of freedom where the chains do not differ. What is not ``least`` in units of
    the noise stated is no more in those of the noise seen, for which nobody looks then.
    """
    plain, smooth = (_Fit(difference, [], smooth=wanted) for wanted in (False, True))
    gain = plain.misfit - smooth.misfit
    return gain if gain < least else gain / max(_noise_ratio(smooth.likelihood_ratio()[0]), 1.0)


def explained(
    difference: DirectionDifference, link: TwoWayLink, residual: Residual, *, smooth: bool, fewest: int = 0
) -> Explanation:
    """Difference of the directions by as many paths as it takes, and smooth terms if wanted.

    ``difference`` is taken at the residual's own offsets; with every path the directions are aligned anew.

    The difference is modelled as complex gain times h, time offset times -j4πf·h, paths exp(-j2πf·tau), and h times
    real and imaginary Legendre polynomials of frequency over the band: their part without a slope, so that the time
    offset is the delay by which the chains' phase difference, every subcarrier counting alike, departs from none.
    Each next path is the delay of greatest likelihood ratio given the model so far, at a false-alarm rate of one
    percent per link against the noise found as the median over delays; the first ``fewest`` are taken as they are.
    """
    delays: list[float] = []
    correction_s = 0.0
    exhausted = False
    plain_std_s = _Fit(difference, [], smooth=False).to_std_s
    while True:
        fit = _Fit(difference, delays, smooth=smooth)
        statistic, grid_s = fit.likelihood_ratio()
        noise_ratio = _noise_ratio(statistic)
        threshold = 2.0 * log(len(statistic) / _PADDING * 2.0 / _FALSE_ALARM) * max(noise_ratio, 1.0)
        if float(statistic.max()) < threshold and len(delays) >= fewest:
            break
        if len(delays) == _LARGEST_COUNT:
            exhausted = True
            break
        delays.append(fit.refined(float(grid_s[int(np.argmax(statistic))])))
        for _ in range(_ALIGNMENTS):
            for number in range(len(delays)):
                others = delays[:number] + delays[number + 1 :]
                delays[number] = _Fit(difference, others, smooth=smooth).refined(delays[number])
            fit = _Fit(difference, delays, smooth=smooth)
            correction_s += fit.to_correction_s
            difference = DirectionDifference.of(link, residual, residual.to_s + correction_s)
            if abs(fit.to_correction_s) < _SETTLED * fit.to_std_s:
                break
    fit = _Fit(difference, delays, smooth=smooth)
    return Explanation(
        delays_s=np.array(delays),
        amplitudes=fit.amplitudes,
        smooth_power=fit.smooth_power,
        to_correction_s=correction_s + fit.to_correction_s,
        to_std_s=fit.to_std_s,
        plain_std_s=plain_std_s,
        noise_ratio=noise_ratio,
        misfit=fit.misfit,
        static_part=float(np.mean(np.abs(difference.channel) ** 2 - 0.5 / difference.information)),
        exhausted=exhausted,
    )


class _Fit:
    """Weighted least squares of the difference on gain, time offset, smooth terms and the paths found so far."""

    def __init__(self, difference: DirectionDifference, delays_s: list[float], *, smooth: bool) -> None:
        self._difference = difference
        f, h = difference.subcarrier_hz, difference.channel
        terms = _smooth_terms(f) if smooth else np.zeros((0, len(f)))
        columns = [h, 1j * h, -4j * pi * f * h, *(h * terms)]
        first_path = len(columns)
        for delay_s in delays_s:
            path = np.exp(-2j * pi * f * delay_s)
            columns += [path, 1j * path]
        root = np.sqrt(difference.information)
        matrix = _stacked(np.stack(columns, axis=1) * root[:, None])
        scale = np.linalg.norm(matrix, axis=0)
        basis, triangle = np.linalg.qr(matrix / scale)
        target = _stacked(difference.values * root)
        coordinates = basis.T @ target
        solution = np.linalg.solve(triangle, coordinates) / scale
        inverse = np.linalg.inv(triangle)
        self.to_correction_s = float(solution[2])
        self.to_std_s = float(np.sqrt(np.sum(inverse[2] ** 2)) / scale[2])
        self.smooth_power = float(np.mean(np.abs(solution[3:first_path] @ terms) ** 2))
        level = float(np.sqrt(np.mean(np.abs(h) ** 2)))
        self.amplitudes: ComplexArray = (solution[first_path::2] + 1j * solution[first_path + 1 :: 2]) / level
        half = len(f)
        left = target - basis @ coordinates
        self.misfit = float(left @ left)
        self._left = left[:half] + 1j * left[half:]
        self._basis = basis[:half] + 1j * basis[half:]
        self._root = root

    def likelihood_ratio(self) -> tuple[FloatArray, FloatArray]:
        """Twice the log-likelihood gained by one more path, over a grid of delays in the window."""
        difference = self._difference
        spacing = float(np.min(np.diff(difference.subcarrier_hz)))
        size = fft.next_fast_len(_PADDING * int(difference.steps[-1] + 1))
        padded = np.zeros((size, 1 + self._basis.shape[1]), dtype=np.complex128)
        padded[difference.steps] = np.column_stack([self._left, self._basis]) * self._root[:, None]
        grid_s = fft.fftfreq(size, spacing)
        centre_s = 0.5 * sum(difference.window_s)
        grid_s = grid_s + np.rint((centre_s - grid_s) * spacing) / spacing
        inside = (grid_s >= difference.window_s[0]) & (grid_s <= difference.window_s[1])
        grid_s = grid_s[inside]
        sums = size * fft.ifft(padded, axis=0)[inside]
        sums *= np.exp(2j * pi * difference.subcarrier_hz[0] * grid_s)[:, None]
        return self._gain(sums), grid_s

    def refined(self, delay_s: float) -> float:
        """Delay of greatest likelihood ratio near the given one, to a part in 128 of 1/B."""
        f = self._difference.subcarrier_hz
        cell_s = 1.0 / float(np.ptp(f))
        columns = np.column_stack([self._left, self._basis]) * self._root[:, None]
        for reach in (0.25, 1 / 32):
            trials = delay_s + np.linspace(-reach, reach, 17) * cell_s
            sums = np.exp(2j * pi * np.outer(trials, f)) @ columns
            delay_s = float(trials[int(np.argmax(self._gain(sums)))])
        return delay_s

    def _gain(self, sums: ComplexArray) -> FloatArray:
        """Energy of the remainder that a path explains beyond the present model; sums over (delay, column)."""
        left, onto = sums[:, 0], sums[:, 1:]
        total = float(np.sum(self._difference.information))
        real = total - np.sum(onto.real**2, axis=1)
        imaginary = total - np.sum(onto.imag**2, axis=1)
        mixed = -np.sum(onto.real * onto.imag, axis=1)
        determinant = real * imaginary - mixed**2
        energy = imaginary * left.real**2 - 2.0 * mixed * left.real * left.imag + real * left.imag**2
        usable = determinant > 1e-9 * total**2
        gain: FloatArray = np.divide(energy, determinant, out=np.zeros_like(energy), where=usable)
        return gain


def _smooth_terms(subcarrier_hz: FloatArray) -> ComplexArray:
    """Functions by which the channel is multiplied, shape (term, subcarrier): real from order 1, imaginary from 2."""
    middle_hz = 0.5 * float(subcarrier_hz.max() + subcarrier_hz.min())
    place = (subcarrier_hz - middle_hz) * 2.0 / float(np.ptp(subcarrier_hz))
    polynomials = legendre.legvander(place, _SMOOTH_ORDER).T
    return np.concatenate([polynomials[1:], 1j * polynomials[2:]])


def _noise_ratio(statistic: FloatArray) -> float:
    """Noise seen over noise stated, by the median of a likelihood ratio of two degrees of freedom."""
    return float(np.median(statistic)) / (2.0 * log(2.0))


def _stacked(values: ComplexArray) -> FloatArray:
    stacked: FloatArray = np.concatenate([values.real, values.imag])
    return stacked
