"""Cross-antenna cross-correlation: movers relative to the line of sight, whatever the clocks do."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10, pi

import numpy as np
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.sensing.cross_antenna import mean_product
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.cacc_fit import Fitted, MirroredFit

__all__ = ["CrossAntennaCorrelation", "CrossAntennaSensing", "RelativePath", "cross_antenna_paths"]

NO_OFFSET = "cross-antenna correlation cancels the clock offsets and so gives none"
_LARGEST_ECHO = 0.12
"""Ripple p/(1 + p)² that other static paths of relative power p in total, -8 dB, make; two alike make a quarter."""
_LARGEST_MOTION = 0.18
"""The same for movers, -5 dB."""
_ANTENNA_SIGMAS = 6.0
"""Excess of an antenna's power over its noise, in deviations, without which it hears nothing."""
_FRONTS = 3
"""Passes in which the movers' wave fronts across the array are found."""
_ONE_DOPPLER = 0.6
"""Coherence over the slot's symbols above which two Dopplers are one, or grating lobes of one: half a cell."""
_AS_STRONG = 2.0
"""Amplitude, of what a static echo must make of a mover, up to which a path is that product."""
_UNSEEN = 0.02
"""Energy, of one element's noise, by which what the wave fronts make of the products may still change."""


@dataclass(frozen=True)
class RelativePath:
    """A moving path against the line of sight."""

    delay_s: float
    """Delay beyond the line of sight's; add distance over speed of light for the absolute one."""
    delay_std_s: float
    doppler_hz: float
    """Against the line of sight; positive when the path shortens."""
    doppler_std_hz: float
    angle_rad: float | None
    """Angle from broadside; None without antenna positions."""
    snr_db: float
    """Over the whole frame and all antennas, after integration."""


@dataclass(frozen=True)
class CrossAntennaSensing:
    """What the cross-antenna correlation tells of the scene."""

    paths: tuple[RelativePath, ...]
    valid: bool
    reason: str


@dataclass(frozen=True)
class CrossAntennaCorrelation:
    """Offset-free sensing by cross-antenna correlation; says that it gives no clock offset.

    ``valid`` judges the sensing (`cross_antenna_paths`): a line of sight that dominates.

    Source: survey equation 32; methods section 3.2.
    """

    name: str = "cacc"
    needs: frozenset[Need] = frozenset({Need.SECOND_ANTENNA})

    def estimate(self, observation: Observation) -> Offset:
        """Offset without numbers; the sensing result stands in ``details["sensing"]``.

        Raises
        ------
        MissingInputError
            If the forward link has a single antenna.
        """
        require(observation, self.needs)
        csi = observation.forward
        sensing = cross_antenna_paths(csi)
        snr = csi.snr
        return Offset(
            to_s=None,
            cfo_hz=None,
            epoch=csi.reference.shifted(float(np.mean(csi.symbol_s))),
            snr_db=10.0 * log10(snr) if snr > 0.0 else None,
            valid=sensing.valid,
            reason=NO_OFFSET if sensing.valid else sensing.reason,
            details={"sensing": sensing},
        )


def cross_antenna_paths(csi: ChannelState, *, antenna_m: FloatArray | None = None) -> CrossAntennaSensing:
    """Moving paths against the line of sight, from products of antennas that cancel every common offset.

    The products H_a·conj(H_0), less their means over the slot, hold each mover's product with the line of sight
    and, mirrored in delay and Doppler, its conjugate. Folding subcarriers f and -f turns both into one source of
    steering cos(2πf·tau), tau > 0: MUSIC on the folded covariance finds the delays, a scan along each the
    signed Doppler. All are then refined together by least squares with the mirrored pairs' amplitudes free per
    antenna, and what remains is searched for more. Angles follow from the direct amplitudes over the antennas.

    Parameters
    ----------
    csi : ChannelState
        At least two antennas; subcarriers symmetric about zero for the folded search.
    antenna_m : float array, shape (antenna,), optional
        Positions along the array, positive to its left; angles are left out if not given.

    Returns
    -------
    CrossAntennaSensing
        Invalid, with the reason and without paths, where no line of sight stands 8 dB above the other static paths
        together or movers are not well below it: products among the weak paths then pose as targets.

    Raises
    ------
    ValueError
        If there is one antenna or fewer than eight symbols.

    Source: survey equation 32; methods section 3.2 (mirrored MUSIC, the project's derivation).
    """
    if csi.values.shape[0] < 2 or len(csi.symbol_s) < 8:
        raise ValueError(f"need two antennas and eight symbols, got {csi.values.shape[0]} and {len(csi.symbol_s)}")
    known: NDArray[np.bool_] = np.all(csi.weights > 0.0, axis=0)
    f, t = csi.subcarrier_hz[known], csi.symbol_s - csi.symbol_s.mean()
    values = csi.values[:, :, known].astype(np.complex128)
    reason = _deaf(values, csi, known) or _unfit(values, csi, known)
    if reason:  # what would be fitted there are products among the weak paths, at great length
        return CrossAntennaSensing(paths=(), valid=False, reason=reason)
    products = values[1:] * np.conj(values[0])
    mean = mean_product(csi.values[:, :, known])[:, None]
    noise = csi.noise * float(np.mean(1.0 / csi.weights[:, known]))
    colour = _noise_root(values, noise)
    sight = mean.mean(axis=(1, 2))
    level = float(np.mean(np.abs(values[0]) ** 2) - noise[0])
    carrier_hz = float(csi.carrier_hz)
    # the line of sight at one time on all antennas
    products = (products - mean) * _early(f, _step_rad(np.concatenate([[level], sight])), len(products), carrier_hz)
    paths = _straight_paths(products, colour, f, t, carrier_hz, sight, level)
    echoes = _StaticEchoes(values, f, t)
    paths = [path for number, path in enumerate(paths) if not echoes.made(path, paths[:number], colour)]
    return CrossAntennaSensing(
        paths=tuple(
            RelativePath(
                delay_s=float(path.delay_s),
                delay_std_s=path.delay_std_s,
                doppler_hz=float(path.doppler_hz),
                doppler_std_hz=path.doppler_std_hz,
                angle_rad=None
                if antenna_m is None
                else _angle(
                    _direct(colour @ path.direct, colour @ path.mirrored, sight, level),
                    antenna_m,
                    SPEED_OF_LIGHT_MPS / carrier_hz,
                ),
                snr_db=path.snr_db,
            )
            for path in paths
        ),
        valid=True,
        reason="",
    )


def _straight_paths(
    products: ComplexArray,
    colour: ComplexArray,
    f: FloatArray,
    t: FloatArray,
    carrier_hz: float,
    sight: ComplexArray,
    level: float,
) -> list[Fitted]:
    """Paths of products whose line of sight is laid flat, with the movers' own wave fronts across the array.

    A mover reaches each antenna earlier than the one before by what its phase's step says, a line of sight laid flat
    taken off. The fit's terms are alike on all products; what the wave fronts make of them is taken off the products,
    and the rest fitted anew.
    """

    def fitted(left: ComplexArray) -> MirroredFit:
        white = np.linalg.solve(colour, left.reshape(len(left), -1)).reshape(left.shape)
        return MirroredFit(white, f, t, carrier_hz)

    fit = fitted(products)
    paths = fit.paths()
    flat_rad = _step_rad(np.concatenate([[level], sight]))
    before = np.zeros_like(products)
    for _ in range(_FRONTS):
        bent = np.zeros_like(products)
        for path in paths:
            direct = colour @ path.direct
            step_rad = _step_rad(_direct(direct, colour @ path.mirrored, sight, level)) - flat_rad
            ahead = _early(f, -step_rad, len(products), carrier_hz) - 1.0
            bent += direct[:, None, None] * ahead * fit.direct(path)
        change = np.linalg.solve(colour, (bent - before).reshape(len(bent), -1))
        if np.sum(np.abs(change) ** 2) < _UNSEEN:
            break
        fit, before = fitted(products - bent), bent
        paths = fit.paths()
    return paths


class _StaticEchoes:
    """Echoes that stand beside the line of sight, by the beats that they leave in the antennas' power over the band."""

    def __init__(self, values: ComplexArray, f: FloatArray, t: FloatArray) -> None:
        power = np.mean(np.abs(values) ** 2, axis=1)
        self._beats = (power - power.mean(axis=1, keepdims=True)) / power.sum(axis=1, keepdims=True)
        self._f, self._t = f, t
        self._cell_s = 1.0 / float(np.ptp(f))

    def made(self, path: Fitted, stronger: list[Fitted], colour: ComplexArray) -> bool:
        """Whether a path stands where the product of a stronger mover with a static echo must, as strong as it must be.

        An echo later than the line of sight by d makes of a mover at tau one at tau - d, of the same Doppler, or where
        frames leave gaps one of its grating lobes; mirrored where d is greater. The echo's own product with the line of
        sight ripples every antenna's power over the band, mover and ghost having the ratio of amplitudes that the
        ripple has.
        """
        size = float(np.linalg.norm(colour @ path.direct))
        for one in stronger:
            for sign in (1.0, -1.0):
                apart_hz = one.doppler_hz - sign * path.doppler_hz
                if abs(np.mean(np.exp(2j * pi * apart_hz * self._t))) < _ONE_DOPPLER:
                    continue
                lag_s = one.delay_s - sign * path.delay_s
                if lag_s > 0.0 and size < _AS_STRONG * self._ripple(lag_s) * float(np.linalg.norm(colour @ one.direct)):
                    return True
        return False

    def _ripple(self, lag_s: float) -> float:
        """Amplitude of the power's ripple at a lag within half a resolution cell, of its mean; root mean square."""
        lags_s = lag_s + np.linspace(-0.5, 0.5, 9) * self._cell_s
        turns = np.exp(2j * pi * np.outer(self._f, lags_s))
        return float(np.sqrt(np.max(np.mean(np.abs(self._beats @ turns) ** 2, axis=0))))


def _step_rad(amplitudes: ComplexArray) -> float:
    """Phase from each antenna of a uniform line to the next."""
    return float(np.angle(np.sum(amplitudes[1:] * amplitudes[:-1].conj())))


def _early(f: FloatArray, step_rad: float, products: int, carrier_hz: float) -> ComplexArray:
    """Turns, shape (antenna 1…, 1, subcarrier), that delay what is early by the step's time from antenna to antenna."""
    early_s = step_rad / (2.0 * pi * carrier_hz) * np.arange(1, products + 1)
    return np.asarray(np.exp(-2j * pi * early_s[:, None, None] * f))


def _deaf(values: ComplexArray, csi: ChannelState, known: NDArray[np.bool_]) -> str:
    """Which antenna hears nothing; empty if all do."""
    noise = csi.noise[:, None, None] / csi.weights[:, known]
    excess = np.sum(np.abs(values) ** 2 / noise - 1.0, axis=(1, 2))
    deaf = np.flatnonzero(excess < _ANTENNA_SIGMAS * np.sqrt(noise[0].size))
    return f"antenna {int(deaf[0])} hears nothing: no product" if deaf.size else ""


def _unfit(values: ComplexArray, csi: ChannelState, known: NDArray[np.bool_]) -> str:
    """Why the products cannot be read as movers against a line of sight; empty if they can.

    One path alone makes every product of antennas flat over frequency; others of p times its power in total ripple all
    of them, power and phase, by a variance of 2p/(1 + p)² of the squared mean power, which includes them. A band of few
    resolution cells sees few fringes, and one antenna's power may miss them: every antenna meets the paths otherwise.
    """
    antennas, symbols, subcarriers = values.shape
    noise = csi.noise * float(np.mean(1.0 / csi.weights[:, known]))
    products = np.einsum("alk,blk->abk", values, values.conj()) / symbols - np.diag(noise)[:, :, None]
    levels = products[range(antennas), range(antennas)].real.mean(axis=1)
    if levels.min() <= 0.0:
        return "no signal above the noise"
    scale = float(levels.sum()) ** 2
    scatter = np.outer(noise, levels) + np.outer(levels, noise) + np.outer(noise, noise)  # of one symbol's products
    ripple = float(np.sum(np.mean(np.abs(products - products.mean(axis=2, keepdims=True)) ** 2, axis=2)))
    echoes = 0.5 * max(ripple - float(scatter.sum()) / symbols, 0.0) / scale
    # the deviation of that ripple by noise alone; a product and its conjugate are one
    unsure = float(np.sqrt(2.0 / subcarriers * np.sum(scatter**2))) / symbols / scale
    if 0.5 * unsure > _LARGEST_ECHO:
        return "the line of sight is too weak to show that it dominates"
    if echoes > _LARGEST_ECHO:
        return "no line of sight that dominates: the channel is not flat over the band"
    power = np.abs(values[0]) ** 2
    moving = float(np.mean((power - power.mean(axis=0)) ** 2)) - float(scatter[0, 0])
    if 0.5 * max(moving, 0.0) / float(np.mean(power.mean(axis=0) ** 2)) > _LARGEST_MOTION:
        return "no line of sight that dominates: moving paths are too strong"
    return ""


def _noise_root(values: ComplexArray, noise: FloatArray) -> ComplexArray:
    """Root of the products' noise covariance over antennas 1…, lower triangular.

    An antenna's own noise meets the reference's signal, the reference's noise, common to all products, meets theirs:
    C = diag(σ_a²)·mean |H_0|² + σ_0²·(R - diag σ_a²), R the antennas' covariance as received.
    """
    others = values[1:].reshape(len(values) - 1, -1)
    signal = others @ others.conj().T / others.shape[1] - np.diag(noise[1:])
    own = noise[1:] * float(np.mean(np.abs(values[0]) ** 2))
    levels, turns = np.linalg.eigh(signal)
    common = (turns * np.maximum(levels, 0.0)) @ turns.conj().T
    # without noise any small one serves: all that counts is that every antenna is weighed alike
    least = 1e-9 * float(np.mean(np.abs(values) ** 2)) ** 2
    root: ComplexArray = np.linalg.cholesky(np.diag(np.maximum(own, least)) + noise[0] * common)
    return root


def _direct(direct: ComplexArray, mirrored: ComplexArray, sight: ComplexArray, level: float) -> ComplexArray:
    """Direct amplitudes b_a·g_0* on all antennas: the reference's by least squares from the mirrored ones, g_a·b_0*.

    ``sight`` is g_a·g_0*, ``level`` |g_0|².
    """
    reference = level * np.vdot(mirrored, sight) / np.vdot(sight, sight)
    return np.concatenate([[reference], direct])


def _angle(direct: ComplexArray, antenna_m: FloatArray, wavelength_m: float) -> float:
    """Angle of greatest correlation with the array's steering, from broadside."""
    best, sines = 0.0, np.linspace(-1.0, 1.0, 721)
    for reach in (1 / 360, 1 / 7200, 1 / 144000):
        steering = np.exp(-2j * pi / wavelength_m * np.outer(sines, antenna_m))
        best = float(sines[int(np.argmax(np.abs(steering @ direct)))])
        sines = np.clip(best + np.linspace(-reach, reach, 41), -1.0, 1.0)
    return float(np.arcsin(best))
