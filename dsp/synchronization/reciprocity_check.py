"""Whether the two directions saw the same channel, and what to do where they did not quite.

Once the offsets are taken off, the directions' difference is noise if the channel is reciprocal. A scatterer that
moved between the slots, and too slowly for its Doppler to be resolved within them, leaves a path of its own in the
difference: it would pull the time offset by 300 ps at -20 dB in 16 MHz. Such paths are found one by one with a
likelihood-ratio test and fitted jointly with the time offset, whose deviation grows by what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import numpy as np

from dsp.oscillator import phase_power
from dsp.synchronization.base import Observation, Offset
from dsp.synchronization.carrier_alias import ALIASED, two_way_alias
from dsp.synchronization.direction_difference import (
    SMOOTH_TERMS,
    DirectionDifference,
    Explanation,
    explained,
    smooth_gain,
)
from dsp.synchronization.matched_product import NO_COMMON_CHANNEL, Residual, TwoWayLink, rises
from dsp.synchronization.slow_mover import turning_doubt_hz
from dsp.synchronization.symbol_grid import frame_blocks

__all__ = ["NOT_RECIPROCAL", "NonReciprocal", "frequency_doubt_hz", "judged", "non_reciprocal", "widened_by"]

NOT_RECIPROCAL = "the two directions do not see the same channel: paths not reciprocal or moved between the slots"

_LARGEST_POWER = 0.1  # of the channel's: beyond, the linear fit about the common channel has no ground
_STATIC = 0.9
_NOISE_TOLERANCE = 1.5  # of the stated noise; below it, the median's own scatter
_SMOOTH_SIGNIFICANCE = 24.3  # of SMOOTH_TERMS degrees of freedom: exceeded by noise in one of a thousand
_PATH_PENALTY = 21.0  # what a path in noise gains at one delay of a few hundred, once in a hundred links
_CHAINS_IMPROBABLE = -6.0  # evidence, one to twenty
_CHAINS_CERTAIN = 40.0  # beyond what a path within a cell leaves when it is fitted to first order only
_FEWEST_SYMBOLS = 12
_SLOW_SIGNIFICANCE = 20.0  # of six degrees of freedom: exceeded by noise in one of 200
_WANDER_SIGNIFICANCE = 5.3  # of its mean: two degrees of freedom, one cycle's, have nearly all; one of 200
_MODEL_GROWTH = 1.4  # of the deviation with a path fitted: one that turns while it is averaged is not quite a path
_SLOPE_OF_PATH = 0.15  # deviation of a slope, in cells, that a unit path at the worst distance and any phase causes


@dataclass(frozen=True)
class NonReciprocal:
    """What one direction saw otherwise than the other, and its weight on the time offset."""

    paths: Explanation
    """By changed paths alone."""
    chains: Explanation | None
    """By chains that differ over frequency, and paths; None where nothing speaks for it."""

    @property
    def evidence(self) -> float:
        """Twice the logarithm of how much likelier it is that the chains differ than that only paths do.

        The fits' misfits, each penalised by what was free to be chosen: a path's delay among all delays and its
        amplitude, the smooth terms' amplitudes.
        """
        if self.chains is None:
            return -np.inf
        noise = max(min(self.paths.noise_ratio, self.chains.noise_ratio), 1.0)
        fewer = len(self.paths.delays_s) - len(self.chains.delays_s)
        return (self.paths.misfit - self.chains.misfit) / noise + _PATH_PENALTY * fewer - 2.0 * SMOOTH_TERMS

    @property
    def likelier(self) -> Explanation:
        """The explanation that holds."""
        return self.paths if self.chains is None or self.evidence < 0.0 else self.chains

    @property
    def to_doubt_s(self) -> float:
        """Deviation of the time offset that the choice between the explanations adds.

        A path in the line of sight's own cell, over a lone line of sight, looks like chains that differ: where neither
        explanation is out of the question, how far apart they are. Where the chains differ, the plain estimate still
        weighs their phase by the channel's power, as what their constant was measured with did by another's.
        """
        if self.chains is None or self.evidence < _CHAINS_IMPROBABLE:
            return 0.0
        if self.evidence > _CHAINS_CERTAIN:
            return abs(self.chains.to_correction_s)
        other = self.chains if self.likelier is self.paths else self.paths
        return float(np.hypot(self.chains.to_correction_s - self.paths.to_correction_s, other.to_std_s))

    @property
    def reciprocal(self) -> bool:
        """Whether the directions see one channel, but for weak differences that the fit takes in."""
        found = self.likelier
        strongest = max(self.paths.power, found.power, found.smooth_power)
        return not found.exhausted and strongest <= _LARGEST_POWER


def judged(
    offset: Offset, link: TwoWayLink, residual: Residual, observation: Observation, *, correct: bool = False
) -> Offset:
    """Offset with its reciprocity tested: deviations widened, or invalid with the reason.

    With ``correct`` the time offset is replaced by the joint fit's where the channel stands still over the slot;
    otherwise its deviation takes in the difference.
    """
    if not offset.valid or offset.to_s is None or offset.to_std_s is None or offset.cfo_std_hz is None:
        return offset
    if not rises(link, residual):
        return replace(offset, valid=False, reason=NO_COMMON_CHANNEL)
    if two_way_alias(link, residual):
        return replace(offset, valid=False, reason=ALIASED)
    seen = non_reciprocal(link, residual)
    found = seen.likelier
    details = offset.details | {
        "non_reciprocal_paths": len(found.delays_s),
        "non_reciprocal_power": found.power,
        "chain_difference_power": found.smooth_power,
    }
    if not seen.reciprocal:
        return replace(offset, valid=False, reason=NOT_RECIPROCAL, details=details)
    growth = np.sqrt(found.noise_ratio) if found.noise_ratio > _NOISE_TOLERANCE else 1.0
    to_extra_s = residual.to_std_s * np.sqrt(growth**2 - 1.0)
    cfo_extra_hz = residual.cfo_std_hz * np.sqrt(growth**2 - 1.0)
    cfo_extra_hz = float(np.hypot(cfo_extra_hz, frequency_doubt_hz(link, residual, found, observation)))
    static = found.static_part >= _STATIC
    if len(found.delays_s) or found.smooth_power:
        growth *= _MODEL_GROWTH if len(found.delays_s) else 1.0
        joint_s = growth * max(residual.to_std_s, found.plain_std_s) * found.deviation_factor
        to_extra_s = np.hypot(np.sqrt(max(joint_s**2 - residual.to_std_s**2, 0.0)), seen.to_doubt_s)
        if not correct or not static:
            to_extra_s = np.hypot(to_extra_s, found.to_correction_s)
    # A channel that keeps its power in the slot's average is better fitted there: what moves has gone from it. One
    # that loses it is not, and a path found by chance must not throw away what the product knows.
    return replace(
        offset,
        to_s=offset.to_s + (found.to_correction_s if correct and static else 0.0),
        to_std_s=float(np.hypot(offset.to_std_s, to_extra_s)),
        cfo_std_hz=float(np.hypot(offset.cfo_std_hz, cfo_extra_hz)),
        reason=widened_by(found),
        details=details,
    )


def widened_by(found: Explanation) -> str:
    """Why the deviations are wider than noise alone makes them; empty if they are not."""
    reasons = []
    if found.noise_ratio > _NOISE_TOLERANCE:
        reasons.append("more noise than stated: deviations widened")
    if found.smooth_power:
        reasons.append("the chains differ over frequency, or a path changed by the line of sight: deviations widened")
    if len(found.delays_s):
        reasons.append("a path changed between the slots: deviations widened")
    return "; ".join(reasons)


def frequency_doubt_hz(link: TwoWayLink, residual: Residual, found: Explanation, observation: Observation) -> float:
    """What slow undulations of the common phase, and paths that turned or changed, add to the frequency's deviation."""
    doubt_hz = float(np.hypot(_slow_phase_deviation(link, residual, observation), _turning_deviation(link, residual)))
    if not len(found.delays_s):
        return doubt_hz
    span_s = float(np.ptp(link.symbol_s)) * len(link.symbol_s) / max(len(link.symbol_s) - 1, 1)
    return float(np.hypot(doubt_hz, _SLOPE_OF_PATH * np.sqrt(found.power) / max(span_s, 1e-12)))


def non_reciprocal(link: TwoWayLink, residual: Residual) -> NonReciprocal:
    """Both explanations of what the aligned directions differ by; of differing chains only where they show at all."""
    difference = DirectionDifference.of(link, residual, residual.to_s)
    shown = smooth_gain(difference, least=_SMOOTH_SIGNIFICANCE) > _SMOOTH_SIGNIFICANCE
    paths = explained(difference, link, residual, smooth=False, fewest=int(shown))
    return NonReciprocal(paths, explained(difference, link, residual, smooth=True) if shown else None)


def _slow_phase_deviation(link: TwoWayLink, residual: Residual, observation: Observation) -> float:
    """Deviation of the frequency offset that slow undulations of the common phase, as seen, would cause.

    A mover that the slot resolves poorly, or phase noise, bends the phase over the slot in ways that a slope
    partly takes up. The power at one to three cycles per slot, beyond that of the quicker ones, tells how much. Of
    that the clocks' own wander is no error: it bends the offset itself, whose slope over the slot is what is asked
    for. In a slot of many frames it is the greater part.
    """
    t = link.symbol_s
    if len(t) < _FEWEST_SYMBOLS:
        return 0.0
    sums = np.sum(link.derotated(link.product, residual.to_s, residual.cfo_hz), axis=1)
    phase = np.angle(sums * np.conj(sums.sum()))
    span_s = float(np.ptp(t)) * len(t) / (len(t) - 1)
    cycles = 2.0 * pi * np.outer(t / span_s, [1.0, 2.0, 3.0])
    columns = np.column_stack([np.ones_like(t), t / span_s, np.cos(cycles), np.sin(cycles)])
    basis = np.linalg.qr(columns)[0]
    slow = basis[:, 2:].T @ phase
    quick = phase - basis @ (basis.T @ phase)
    noise = float(np.sum(quick**2)) / (len(t) - columns.shape[1])
    clocks = phase_power(
        observation.oscillators,
        basis[:, 2:],
        t,
        carrier_hz=link.carrier_hz,
        separation_s=observation.separation_s,
    )
    limit = _SLOW_SIGNIFICANCE * noise + _WANDER_SIGNIFICANCE * clocks
    excess = max(float(np.sum(slow**2)) - limit, 0.0)
    return _SLOPE_OF_PATH * float(np.sqrt(2.0 * excess / len(t))) / span_s


def _turning_deviation(link: TwoWayLink, residual: Residual) -> float:
    """Deviation of the frequency offset by paths that turn within the slot otherwise in one direction than the other.

    What a slow mover adds to the path whose cell it is in turns that path in each direction by another amount; the
    offset takes half the difference, by the path's share of the power.
    """
    weights, t = link.weights, link.symbol_s
    if len(frame_blocks(link.frame_of_symbol)) > 1 or len(t) < _FEWEST_SYMBOLS:
        return 0.0  # over many frames the clocks' own wander turns more
    aligned = link.derotated(link.forward, residual.to_s, residual.cfo_hz)
    aligned *= np.exp(-1j * np.angle(np.sum(weights * aligned * np.conj(link.reverse))))
    sums = weights.sum(axis=0)
    known = sums > 0.0
    weights, time = weights[:, known], t - t.mean()
    apart, channel = (aligned - link.reverse)[:, known], 0.5 * (aligned + link.reverse)[:, known]
    scene = np.sum(weights * channel, axis=0) / sums[known]
    moment = np.sum(weights * time[:, None] * (apart - np.sum(weights * apart, axis=0) / sums[known]), axis=0)
    spread = np.sum(weights * time[:, None] ** 2, axis=0)
    power = float(np.count_nonzero(known))  # the directions are scaled to unit power
    return 0.5 * turning_doubt_hz(
        scene[None], moment[None], spread, link.subcarrier_hz[known], power=power, longest_s=float(np.ptp(t))
    )
