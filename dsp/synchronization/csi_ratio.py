"""CSI ratio: Doppler of a moving path from the quotient of two antennas, whatever the clocks do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log10

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.base import Need, Observation, Offset, require, undecided
from dsp.synchronization.csi_ratio_fit import CircleFit, Ratios, circle_fit, line_power, ratios

__all__ = ["CsiRatio", "CsiRatioFirstOrder"]

_FALSE_ALARM = 1e-3
"""Per link, of each of the two searches for lines: for the moving path, and for what it leaves."""
_ANTENNA_SIGMAS = 6.0
"""Excess of an antenna's power over its noise, in deviations, without which it hears nothing."""
_LARGEST_MOVING = 10.0 ** (-0.5)
"""Of the static power: nearer to one the two change roles, and the Doppler its sign; another mover blurs which is which
by as much as 4.6 dB."""
_LARGEST_FIRST_ORDER = 10.0 ** (-1.4)
"""Of the static power: -14 dB, beyond which the first order is biased by more than its deviation."""
_LARGEST_REST = 0.02
"""Power of a second line against the moving path's, beyond which one circle is no model."""
_LARGEST_HARMONIC = 0.05
"""The same for the first order, whose neglected part is such a line at twice the Doppler."""
_SLOPE_OF_PATH = 0.3
"""Deviation in cells that a second line of unit relative amplitude and any phase causes at the worst distance, 0.7
cells; it falls as 0.21 over the distance."""
_NOISE_TOLERANCE = 1.5
_BENT_SIGMAS = 8.0
"""Gain in likelihood, over its mean without cause in deviations, for which the exact fit's third parameter is kept.
Weak subcarriers gain up to seven without cause, at a moving path far too strong; below eight what the first order
neglects is less than its noise."""
_FEWEST_SYMBOLS = 8
_FEWEST_TURNS = 1.0
_NO_OFFSET = "gives no clock offset: the quotient of antennas cancels it"


@dataclass(frozen=True)
class CsiRatio:
    """Doppler of one moving path from the ratios of antennas, by the exact three-parameter Möbius fit.

    What the antennas of one receiver share cancels in their quotient: timing, carrier phase, gain, even when new
    in every symbol. One path moving beside a static channel makes the quotient a Möbius map of
    w = exp(j2π·nu·t), with three complex parameters for each subcarrier and one Doppler for all. It is fitted by
    maximum likelihood for free gains, in homogeneous coordinates (`csi_ratio_fit`), from the strongest line of
    the quotient's first order; the third parameter is kept
    where it shows above the noise.

    Gives no clock offset: ``to_s`` and ``cfo_hz`` are None and ``valid`` judges the Doppler, in
    ``details["doppler_hz"]`` and ``details["doppler_std_hz"]`` (predicted by the bound of the circle fitted).
    It counts against the strongest path, which must be at rest: what is static cannot be seen when every symbol
    has a phase of its own. Invalid where no line stands out of the noise (nothing moves, or the moving path stands
    to the static one alike on all antennas, a1/s1 = a2/s2, told apart by the antennas' power), where the motion
    makes less than one turn, where the moving path is nearly as strong as the static one, and where the quotient
    is not one circle (several movers, acceleration).

    Source: survey V-A1; exact fit and bound by the project, docs/methods/csi-ratio.md.
    """

    name: str = "csi-ratio"
    needs: frozenset[Need] = frozenset({Need.SECOND_ANTENNA})

    def estimate(self, observation: Observation) -> Offset:
        """Doppler against the static path, as details of an offset without numbers.

        Raises
        ------
        MissingInputError
            If there is one antenna.
        ValueError
            If no element is known, or there are fewer than eight symbols.
        """
        return _estimate(observation, exact=True)


@dataclass(frozen=True)
class CsiRatioFirstOrder:
    """Doppler from the ratios of antennas to first order in the moving path: a circle at constant speed.

    As `CsiRatio`, with two complex parameters for each subcarrier. Invalid above -14 dB of moving to static power,
    where the neglected part bends the circle's phase.

    Source: survey V-A1; methods section 3.1 for the bound.
    """

    name: str = "csi-ratio-first-order"
    needs: frozenset[Need] = frozenset({Need.SECOND_ANTENNA})

    def estimate(self, observation: Observation) -> Offset:
        """Doppler against the static path; raises as `CsiRatio.estimate`."""
        return _estimate(observation, exact=False)


def _estimate(observation: Observation, *, exact: bool) -> Offset:
    require(observation, frozenset({Need.SECOND_ANTENNA}))
    csi = observation.forward
    if csi.values.shape[1] < _FEWEST_SYMBOLS:
        raise ValueError(f"the CSI ratio needs {_FEWEST_SYMBOLS} symbols, got {csi.values.shape[1]}")
    blank = undecided(csi, _NO_OFFSET)
    seen = ratios(csi)
    deaf = _deaf_antenna(seen)
    if deaf is not None:
        return replace(blank, reason=f"antenna {deaf} hears nothing: no quotient")
    across = _across(seen, seen.phase_aligned)
    line = _strongest_line(across - across.mean(axis=1, keepdims=True), seen.time_s)
    if not line.significant:
        return replace(blank, reason=_nothing_moves(seen))
    fit = circle_fit(seen, line.frequency_hz, exact=False)
    if exact:
        bent = circle_fit(seen, fit.doppler_hz, exact=True)
        # where noise hides the third parameter it only costs: its gain is then Gamma(subcarriers)
        count = len(seen.values)
        if fit.cost - bent.cost > count + _BENT_SIGMAS * np.sqrt(count):
            fit = bent
    return _judged(blank, seen, fit, exact)


@dataclass(frozen=True)
class _Line:
    frequency_hz: float
    power: float
    """Excess over the noise."""
    noise: float
    """Noise seen over noise stated."""
    significant: bool


def _strongest_line(series: ComplexArray, time_s: FloatArray) -> _Line:
    """Strongest line of series (row, symbol) of unit noise; significant if noise makes its like once in a thousand."""
    from scipy.stats import gamma

    power, axis = line_power(series, time_s)
    rows = len(series)
    noise = max(float(np.median(power)) / float(gamma.median(rows)), 1.0)
    peak = int(np.argmax(power))
    cells = 2.0 * float(np.ptp(time_s)) / float(np.min(np.diff(time_s)))
    threshold = noise * float(gamma.isf(_FALSE_ALARM / cells, rows))
    excess = float(power[peak]) - rows * noise
    return _Line(float(axis[peak]), max(excess, 0.0), noise, float(power[peak]) > threshold)


def _across(seen: Ratios, values: ComplexArray) -> ComplexArray:
    """Components across the static direction as rows of series, shape (subcarrier · (antenna - 1), symbol)."""
    parts = np.einsum("knm,kln->kml", seen.moving_basis.conj(), values)
    return np.asarray(parts.reshape(-1, parts.shape[-1]))


def _deaf_antenna(seen: Ratios) -> int | None:
    """Index of an antenna whose power is that of its noise."""
    known = float(np.count_nonzero(seen.scale))
    excess = np.sum(np.abs(seen.values) ** 2, axis=(0, 1)) - known
    deaf = np.flatnonzero(excess < _ANTENNA_SIGMAS * np.sqrt(known))
    return int(deaf[0]) if deaf.size else None


def _nothing_moves(seen: Ratios) -> str:
    """Why no line was found: the antennas' common power tells a blind geometry from a still scene."""
    along = np.abs(np.einsum("kn,kln->kl", seen.static.conj(), seen.values))
    level = np.divide(along, seen.scale, out=np.zeros_like(along), where=seen.scale > 0.0)
    known = seen.scale > 0.0
    mean = level.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    # the noise of a magnitude is that of one real dimension: variance a half at unit scale
    wave = np.where(known, (level - mean[:, None]) * seen.scale * np.sqrt(2.0), 0.0)
    if _strongest_line(wave.astype(np.complex128), seen.time_s).significant:
        return (
            "blind: the antennas' power shows a moving path, their quotient does not: it stands to the static path "
            "alike on all antennas"
        )
    return "no moving path seen"


def _judged(blank: Offset, seen: Ratios, fit: CircleFit, exact: bool) -> Offset:
    """Offset with the Doppler in its details, and its validity."""
    span_s = float(np.ptp(seen.time_s))
    known = np.count_nonzero(seen.scale, axis=1)
    static = float(known @ np.sum(np.abs(fit.static) ** 2, axis=1))
    moving = float(known @ np.sum(np.abs(fit.moving) ** 2, axis=1))
    crossing = np.einsum("knm,kn->km", seen.moving_basis.conj(), fit.moving)
    line = max(float(known @ np.sum(np.abs(crossing) ** 2, axis=1)), 1e-300)
    rest = _strongest_line(_across(seen, fit.residual), seen.time_s)
    share = rest.power / line if rest.significant else 0.0
    deviation_hz = fit.doppler_std_hz * (np.sqrt(rest.noise) if rest.noise > _NOISE_TOLERANCE else 1.0)
    distance = max(1.0, 1.4 * abs(rest.frequency_hz - fit.doppler_hz) * span_s)
    deviation_hz = float(np.hypot(deviation_hz, _SLOPE_OF_PATH * np.sqrt(share) / (distance * span_s)))
    spacing_s = float(np.min(np.diff(seen.time_s)))
    reason = ""
    if moving > (_LARGEST_MOVING if exact else _LARGEST_FIRST_ORDER) * static:
        reason = (
            "no static path clearly stronger than the moving one"
            if exact
            else "the moving path is above -14 dB of the static one: the first order is biased, csi-ratio is exact"
        )
    elif share > (_LARGEST_REST if exact else _LARGEST_HARMONIC):
        reason = "the quotient is not one circle: several moving paths, or one that accelerates"
    elif abs(fit.doppler_hz) * span_s < _FEWEST_TURNS:
        reason = "the motion makes less than one turn in the slot: static and moving path cannot be told apart"
    elif abs(fit.doppler_hz) > 0.5 / spacing_s - 1.0 / span_s:
        reason = "Doppler at the edge of what the symbols' spacing tells apart: its sign is open"
    notes = [_NO_OFFSET]
    if share > 0.0:
        notes.append("a second, weak line in the quotient: deviation widened")
    if rest.noise > _NOISE_TOLERANCE:
        notes.append("more noise than stated: deviation widened")
    return replace(
        blank,
        valid=not reason,
        reason=reason or "; ".join(notes),
        details={
            "doppler_hz": fit.doppler_hz,
            "doppler_std_hz": deviation_hz,
            "static": fit.static,
            "moving": fit.moving,
            "moving_to_static_db": 10.0 * log10(max(moving / static, 1e-30)),
            "second_line": share,
            "noise_ratio": rest.noise,
        },
    )
