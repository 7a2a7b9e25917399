"""Time offset from scatterers that one node of the link has located by its own echo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, log, perm, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import chdtrc

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray
from dsp.localization import Station
from dsp.synchronization.base import MissingInputError, Need, Observation, Offset, require
from dsp.synchronization.cooperation_fit import StaticPaths, static_paths
from dsp.synchronization.cooperation_paths import ActiveEcho, Scatterer
from dsp.synchronization.fingerprint_scene import scene_offset, static_scene

__all__ = ["Cooperation", "CooperationCorrelation", "Predictions", "predictions"]

_FEWEST_MATCHES = 3
_ODDS = log(1e3)
"""Log-likelihood by which the best time offset must beat the next one."""
_CHANCE = 0.01
"""Of links in which strangers alone match as well, the bound."""
_APART = 4.0
"""Combined deviations beyond which two offsets are different ones."""
_EARLY = 3.0
"""Deviations by which a path must precede the straight line between the nodes to be impossible."""
_GHOST_ODDS = log(1e3)
"""Against a path being none, but noise: a thousand channels have one (`dsp.synchronization.cooperation_fit`)."""
_MOVED = 4.0
"""Deviations, of a typical pair, by which scatterers have moved where they have: fewer are within the deviations."""
_MOVED_ODDS = log(1e2)
"""The same against offsets that hold if the scatterers have moved, of which one echo in ten is suspected."""
_PROMISE_KEPT = 10.0
"""Log-likelihood by which an offset may gain over what its start promised."""
_ROUNDS = 8
_MATCH_ODDS = log(4.0)
"""Prior odds that a scatterer of the echo is heard on the link."""
_LEAST_SHARE = 0.8
"""Of the scatterers, or of the link's paths if those are fewer, that must match: fewer, and some have moved."""
_BESIDE_S = 5e-9
"""A scatterer and a path that miss each other by less are one that moved rather than two strangers."""
_CONTRADICTION = 0.005
_DOUBT = 0.1
"""Chance, by the chi-square of the residuals, below which deviations are widened to fit them."""
_FEW_DEGREES = 1.5
"""Widened beyond the residuals themselves, because a handful of them tells little of their own size."""

IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Predictions:
    """Bistatic delays that the active echo predicts, one for each place a scatterer may be."""

    delay_s: FloatArray
    """Shape (place,)."""
    std_s: FloatArray
    scatterer: IntArray
    """Scatterer of each place: front and back of a linear array, and its grating lobes, are places of one."""


@dataclass(frozen=True)
class _Solution:
    offset_s: float
    std_s: float
    score: float
    """Log-likelihood over all passive paths being strangers."""
    matches: int
    misfit: float
    """Mean squared normalised residual of what was matched."""
    displaced: int
    """Scatterers without a path, beside a path without a scatterer."""
    early: int
    """Paths that would have arrived before the straight line."""


@dataclass(frozen=True)
class _Pairs:
    """Passive delay minus predicted delay, for every passive path and place."""

    offset_s: FloatArray
    """Shape (place, passive path)."""
    variance: FloatArray
    scatterer: IntArray
    count: int
    """Scatterers."""
    span_s: float
    """Delays over which strangers are spread."""
    heard_s: FloatArray
    """Delay of each passive path, shape (passive path,)."""
    heard_std_s: FloatArray
    straight_s: float
    """Delay of the straight line between the nodes, before which nothing arrives."""

    def loosened(self) -> _Pairs:
        """The same if all scatterers may have moved since the echo, by some of their deviations."""
        return replace(self, variance=self.variance + _MOVED**2 * float(np.median(self.variance)))

    def early(self, offset_s: float, std_s: float) -> int:
        """Paths that at this offset would arrive before the straight line between the nodes."""
        sooner_s = self.straight_s - (self.heard_s - offset_s)
        return int(np.count_nonzero(sooner_s > _EARLY * np.hypot(self.heard_std_s, std_s)))

    def promise(self, starts_s: FloatArray) -> FloatArray:
        """Log-likelihood of each start, shape (start,), each scatterer free to share its path with others."""
        squares = (self.offset_s - starts_s[:, None, None]) ** 2 / self.variance
        gains = _MATCH_ODDS + np.log(self.span_s / np.sqrt(2.0 * pi * self.variance)) - 0.5 * squares
        best = np.zeros((len(starts_s), self.count))
        for scatterer in range(self.count):
            places = self.scatterer == scatterer
            if places.any():
                best[:, scatterer] = np.maximum(gains[:, places].max(axis=(1, 2)), 0.0)
        return np.asarray(best.sum(axis=1))

    def displaced(self, share: FloatArray, offset_s: float) -> int:
        """Scatterers that match no path but miss one by little, which no other matches; ``share`` of each pair."""
        lonely = 1.0 - np.bincount(self.scatterer, share.sum(axis=1), minlength=self.count) > 0.5
        free = share.sum(axis=0) < 0.5
        beside = np.any((np.abs(self.offset_s - offset_s) < _BESIDE_S) & free, axis=1)
        return len(np.unique(self.scatterer[beside & lonely[self.scatterer]]))

    def chance(self, offset_s: float) -> float:
        """Bound of the probability that strangers alone reach the log-likelihood at this offset, at some offset.

        Over strangers, uniform over the span, the likelihood ratio of a pair averages the prior odds. That of the best
        assignment is at most the sum over all assignments, whose mean is a sum over the number k of pairs: k paths in
        any order, with k scatterers at any of their places. A peak of height e^score is √(2π)·std of offsets wide, so
        that there are on average no more of them than the span holds, times that mean, over their height (Markov).
        """
        best = _assigned(self, offset_s)
        odds = exp(_MATCH_ODDS) * np.bincount(self.scatterer, minlength=self.count)
        scatterers = np.abs(np.poly(-odds))  # elementary symmetric sums
        paths = self.offset_s.shape[1]
        mean = sum(perm(paths, k) * float(scatterers[k]) for k in range(min(paths, self.count) + 1))
        peaks = max(self.span_s / (sqrt(2.0 * pi) * best.std_s), 1.0)
        return exp(min(log(mean) + log(peaks) - best.score, 0.0))

    def gains(self, offset_s: float) -> FloatArray:
        """Log-likelihood of each pair being one scatterer at this offset, over being strangers."""
        squares = (self.offset_s - offset_s) ** 2 / self.variance
        density = self.span_s / np.sqrt(2.0 * pi * self.variance)
        return np.asarray(_MATCH_ODDS + np.log(density) - 0.5 * squares)


@dataclass(frozen=True)
class Cooperation:
    """Offset from scatterers located by one node's own echo, each associated with a path of the link.

    A node's echo of its own frames has no offsets: round trip and bearing put each static scatterer on the plan,
    which predicts its bistatic delay g = (|x_T - x| + |x_R - x|)/c; a linear array leaves front and back open. Every
    pairing of a path with a prediction proposes a time offset; one-to-one assignment of greatest likelihood and the
    weighted mean of observed less predicted delays alternate from each proposal, strangers on either side
    allowed. The best must beat the next different one by 1000 to one, with three scatterers or more.

    Active echo and link need not be coherent, nor of one band or time, as long as the scatterers stand still. The
    carrier offset comes from the static scene itself. `Need.ACTIVE_ECHO` is an `ActiveEcho` of either node,
    `Need.KNOWN_POSITIONS` a mapping from node name to `Station`; heights must be equal.

    Source: survey (Han, Meng, Wang, Masouros 2025) section V-A4; docs/methods/cooperation.md.
    """

    name: str = "cooperation"
    needs: frozenset[Need] = frozenset({Need.ACTIVE_ECHO, Need.KNOWN_POSITIONS})

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter.

        Raises
        ------
        MissingInputError
            If echo or positions are not given, or the positions lack a node.
        ValueError
            If nodes stand at different heights, the echo is of a third node, or the slot has fewer than three
            symbols.
        """
        require(observation, self.needs)
        return _estimated(observation, associated=True)


@dataclass(frozen=True)
class CooperationCorrelation:
    """The same without association: active map, warped to bistatic delay, correlated with the passive map.

    Both maps are restored from their paths with each path's own deviation as its beam, so that their correlation over
    delay is a sum of Gaussians over all pairs, evaluated where it can peak. From each peak the offset is refined
    as the mean of all pairs that may be one scatterer, each weighted by the probability that it is: no pair
    is ever decided on, and what the doubt costs is in the deviation.

    Source: survey section V-A4; docs/methods/cooperation.md.
    """

    name: str = "cooperation-correlation"
    needs: frozenset[Need] = frozenset({Need.ACTIVE_ECHO, Need.KNOWN_POSITIONS})

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `Cooperation.estimate`."""
        require(observation, self.needs)
        return _estimated(observation, associated=False)


def predictions(echo: ActiveEcho, receiver: Station, transmitter: Station) -> Predictions:
    """Bistatic delays of the link by way of the scatterers, with deviations carried over to first order.

    Raises
    ------
    ValueError
        If the echo is of neither node, or the nodes stand at different heights.
    """
    if echo.node not in (receiver.name, transmitter.name):
        raise ValueError(f"the active echo is of {echo.node}, the link of {receiver.name} and {transmitter.name}")
    active = receiver if echo.node == receiver.name else transmitter
    heights = {
        float(end[2])
        for end in (active.position_m, active.source_m, receiver.position_m, transmitter.source_m)
        if end.size == 3
    }
    if len(heights) > 1:
        raise ValueError("cooperation needs both nodes at one height: bearings of a linear array are read in the plane")
    delays, deviations, owners = [], [], []
    for index, scatterer in enumerate(echo.scatterers):
        for sine in scatterer.sines:
            for side in (1.0, -1.0):
                delay_s, std_s = _predicted(scatterer, sine, side, receiver, transmitter, active)
                delays.append(delay_s)
                deviations.append(std_s)
                owners.append(index)
    return Predictions(np.array(delays), np.array(deviations), np.array(owners, dtype=np.intp))


def _predicted(
    scatterer: Scatterer, sine: float, side: float, receiver: Station, transmitter: Station, active: Station
) -> tuple[float, float]:
    """Bistatic delay over one place of a scatterer, and its deviation.

    The echo's delay is a sum of ranges from the active node's transmitting antenna and from its array's centre; the
    bearing is seen from the centre. Where the two coincide the range is half the delay's.
    """
    left = active.axis[:2]
    ahead = np.array([left[1], -left[0]])
    cosine = side * sqrt(max(1.0 - sine**2, 1e-12))
    unit = sine * left + cosine * ahead
    turned = left - sine / cosine * ahead
    whole_m = SPEED_OF_LIGHT_MPS * scatterer.delay_s
    apart = (active.source_m - active.position_m)[:2]
    excess_m = max(whole_m - float(unit @ apart), 1e-9)
    distance_m = 0.5 * (whole_m**2 - float(apart @ apart)) / excess_m
    per_delay, per_sine_m = (whole_m - distance_m) / excess_m, distance_m * float(turned @ apart) / excess_m
    place = active.position_m[:2] + distance_m * unit
    # one leg of the link is one of the echo's, the other ends at the other node
    hears = active is receiver
    passive_m = (transmitter.source_m if hears else receiver.position_m)[:2]
    own_m = distance_m if hears else whole_m - distance_m
    other_m = max(float(np.linalg.norm(place - passive_m)), 1e-9)
    towards = (place - passive_m) / other_m
    by_delay = (per_delay if hears else 1.0 - per_delay) + float(towards @ unit) * per_delay
    by_sine_m = (per_sine_m if hears else -per_sine_m) + float(towards @ (unit * per_sine_m + distance_m * turned))
    std_s = float(np.hypot(by_delay * scatterer.delay_std_s, by_sine_m / SPEED_OF_LIGHT_MPS * scatterer.sine_std))
    return (own_m + other_m) / SPEED_OF_LIGHT_MPS, std_s


def _estimated(observation: Observation, *, associated: bool) -> Offset:
    csi = observation.forward
    echo: ActiveEcho = observation.extras[Need.ACTIVE_ECHO]
    receiver, transmitter = _stations(observation)
    predicted = predictions(echo, receiver, transmitter)
    scene = static_scene(csi)
    blank = scene_offset(csi, scene, clock_std_hz=observation.clock_std_hz)
    if blank.reason:
        return blank
    passive = static_paths(scene.values, scene.variance, scene.subcarrier_hz, carrier_hz=float(csi.carrier_hz))
    scatterers = len(np.unique(predicted.scatterer))
    if min(scatterers, len(passive.delay_s)) < _FEWEST_MATCHES:
        reason = f"too few scatterers: {scatterers} in the active echo, {len(passive.delay_s)} paths on the link"
        return replace(blank, reason="; ".join(filter(None, [reason, echo.remark])))
    apart_m = float(np.linalg.norm((receiver.position_m - transmitter.source_m)[:2]))
    pairs = _pairs(predicted, passive, apart_m / SPEED_OF_LIGHT_MPS)
    solutions = _solutions(pairs, associated=associated)
    best = solutions[0]
    margin = best.score - solutions[1].score if len(solutions) > 1 else best.score
    details = {"matches": best.matches, "log_odds": margin, "misfit": best.misfit, "passive_paths": passive}
    blank = replace(blank, details=details)
    if best.matches < _FEWEST_MATCHES:
        return replace(blank, reason=f"too few scatterers in common: {best.matches}, {_FEWEST_MATCHES} needed")
    if margin < _ODDS:
        return replace(blank, reason="ambiguous association: another time offset explains the paths as well")
    if pairs.chance(best.offset_s) > _CHANCE:
        return replace(blank, reason="ambiguous association: strangers would match as well by chance")
    if best.early:
        return replace(blank, reason=f"{best.early} paths would precede the straight line between the nodes")
    if best.matches < max(_LEAST_SHARE * min(scatterers, len(passive.delay_s)), 0.5 * scatterers + 0.5):
        return replace(blank, reason=f"only {best.matches} of {scatterers} scatterers are where the link has paths")
    if best.displaced:
        return replace(blank, reason=f"{best.displaced} of {scatterers} scatterers have moved since the echo")
    chance = float(chdtrc(best.matches - 1, best.misfit * (best.matches - 1)))
    if chance < _CONTRADICTION:
        return replace(blank, reason="scatterers and positions contradict each other beyond their deviations")
    moved = _solutions(pairs.loosened(), associated=associated)
    if any(best.score - other.score < _MOVED_ODDS for other in moved if _different(best, other)):
        return replace(blank, reason="ambiguous: another time offset explains the paths if the scatterers have moved")
    std_s = best.std_s * (_FEW_DEGREES * sqrt(best.misfit) if chance < _DOUBT else 1.0)
    std_s = max([std_s, *(_mixed(best, other) for other in moved if not _different(best, other))])
    if observation.departure is None:
        return replace(blank, reason="departure unknown")
    reference_s = csi.reference.seconds_since(observation.departure)
    return replace(
        blank,
        to_s=reference_s + scene.to_reference_slope_s + best.offset_s,
        to_std_s=float(np.hypot(std_s, 2.0 * observation.departure_std_s)),
        valid=True,
        reason=f"absolute, from {best.matches} scatterers of the active echo of {echo.node}",
    )


def _stations(observation: Observation) -> tuple[Station, Station]:
    """Receiver and transmitter of the forward link."""
    stations: Mapping[str, Station] = observation.extras[Need.KNOWN_POSITIONS]
    name = observation.forward.reference.clock
    if observation.departure is not None:
        other = observation.departure.clock
    else:
        other = next((station for station in stations if station != name), "")
    if name not in stations or other not in stations:
        raise MissingInputError(Need.KNOWN_POSITIONS)
    return stations[name], stations[other]


def _pairs(predicted: Predictions, passive: StaticPaths, straight_s: float) -> _Pairs:
    reach_s = float(np.ptp(passive.delay_s)) + float(np.ptp(predicted.delay_s))
    return _Pairs(
        offset_s=passive.delay_s[None, :] - predicted.delay_s[:, None],
        variance=passive.delay_std_s[None, :] ** 2 + predicted.std_s[:, None] ** 2,
        scatterer=predicted.scatterer,
        count=int(predicted.scatterer.max()) + 1,
        span_s=max(reach_s, 1e-12),
        heard_s=passive.delay_s,
        heard_std_s=passive.delay_std_s,
        straight_s=straight_s,
    )


def _solutions(pairs: _Pairs, *, associated: bool) -> list[_Solution]:
    """Different time offsets that the pairs support, best first; of those far below the second, not all."""
    found: list[_Solution] = []
    starts_s = np.unique(pairs.offset_s)
    promises = pairs.promise(starts_s)
    for start in np.argsort(-promises):
        second = sorted((solution.score for solution in found), reverse=True)[1:2]
        if second and promises[start] < second[0] - _PROMISE_KEPT:
            break
        start_s = starts_s[start]
        solution = _assigned(pairs, float(start_s)) if associated else _weighted(pairs, float(start_s))
        for index, other in enumerate(found):
            if not _different(solution, other):
                if solution.score > other.score:
                    found[index] = solution
                break
        else:
            found.append(solution)
    return sorted(found, key=lambda solution: -solution.score)


def _different(one: _Solution, other: _Solution) -> bool:
    return abs(one.offset_s - other.offset_s) >= _APART * max(one.std_s, other.std_s)


def _mixed(best: _Solution, moved: _Solution) -> float:
    """Deviation of the best offset if either its own pairs hold, or those of scatterers that have moved."""
    share = 1.0 / (1.0 + exp(best.score - moved.score))
    apart_s = moved.offset_s - best.offset_s
    return sqrt((1.0 - share) * best.std_s**2 + share * (moved.std_s**2 + apart_s**2))


def _assigned(pairs: _Pairs, offset_s: float) -> _Solution:
    """One-to-one assignment and weighted mean in turn, from one proposal."""
    passive = np.arange(pairs.offset_s.shape[1])
    score, rows, columns = -1.0, np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    weights = np.zeros(0)
    for _ in range(_ROUNDS):
        gains = pairs.gains(offset_s)
        best = np.full((pairs.count, len(passive)), -np.inf)
        place = np.zeros((pairs.count, len(passive)), dtype=np.intp)
        for scatterer in range(pairs.count):
            places = np.flatnonzero(pairs.scatterer == scatterer)
            if len(places):
                chosen = np.argmax(gains[places], axis=0)
                place[scatterer], best[scatterer] = places[chosen], gains[places][chosen, passive]
        useful = np.maximum(best, 0.0)
        owners, columns = linear_sum_assignment(useful, maximize=True)
        matched = useful[owners, columns] > 0.0
        owners, columns = owners[matched], columns[matched]
        rows = place[owners, columns]
        following = float(useful[owners, columns].sum())
        if not len(rows):
            break
        weights = 1.0 / pairs.variance[rows, columns]
        offset_s = float(weights @ pairs.offset_s[rows, columns] / weights.sum())
        if following <= score + 1e-9:
            break
        score = following
    if not len(rows):
        return _Solution(offset_s, float(np.sqrt(pairs.variance.min())), 0.0, 0, 0.0, 0, 0)
    squares = (pairs.offset_s[rows, columns] - offset_s) ** 2 * weights
    misfit = float(squares.sum()) / max(len(rows) - 1, 1)
    share = np.zeros_like(pairs.offset_s)
    share[rows, columns] = 1.0
    std_s = 1.0 / sqrt(float(weights.sum()))
    early, displaced = pairs.early(offset_s, std_s), pairs.displaced(share, offset_s)
    return _Solution(offset_s, std_s, score - _GHOST_ODDS * early, len(rows), misfit, displaced, early)


def _weighted(pairs: _Pairs, offset_s: float) -> _Solution:
    """Mean over all pairs, each weighted by the probability that it is one scatterer, from one proposal."""
    share = np.zeros_like(pairs.offset_s)
    score = 0.0
    for _ in range(_ROUNDS):
        likelihood = np.exp(np.minimum(pairs.gains(offset_s), 300.0))
        total = np.bincount(pairs.scatterer, likelihood.sum(axis=1), minlength=pairs.count)
        share = likelihood / (1.0 + total[pairs.scatterer])[:, None]
        score = float(np.log1p(total).sum())
        weights = share / pairs.variance
        if weights.sum() <= 0.0:
            break
        offset_s = float(np.sum(weights * pairs.offset_s) / weights.sum())
    information = float(np.sum(share / pairs.variance))
    residual = (pairs.offset_s - offset_s) / pairs.variance
    # A pair in doubt moves the mean as it is in or out: information lost is the variance of its score.
    doubt = float(np.sum(share * residual**2) - np.sum(_by_scatterer(pairs, share * residual) ** 2))
    matches = float(share.sum())
    sure = max(information - max(doubt, 0.0), 0.1 * information, 1e-300)
    misfit = float(np.sum(share * residual**2 * pairs.variance)) / max(matches - 1.0, 1.0)
    std_s = 1.0 / sqrt(sure)
    early, displaced = pairs.early(offset_s, std_s), pairs.displaced(share, offset_s)
    return _Solution(offset_s, std_s, score - _GHOST_ODDS * early, round(matches), misfit, displaced, early)


def _by_scatterer(pairs: _Pairs, values: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(pairs.scatterer, values.sum(axis=1), minlength=pairs.count))
