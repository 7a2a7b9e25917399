"""Positions of targets from the bistatic delays, Dopplers and angles of all links, by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsp.channel import FloatArray
from dsp.target_model import VELOCITY_STD_MPS, LinkMeasurement, Station, TargetModel

__all__ = ["LinkMeasurement", "Position", "Station", "associate", "averaged", "locate"]

_GATE = 13.8
"""Squared normalised distance below which two hypotheses agree: 99.9 % of a chi-square with two degrees."""
_MIN_SEPARATION_M = 1e-3
_SINGULAR = 1e-12
"""Eigenvalue of the normalised information at which a direction counts as undetermined."""
_CURVED = 4.0
"""Margin of the linear gate before the exact one."""


@dataclass(frozen=True)
class Position:
    """One target at the common instant."""

    position_m: FloatArray
    """Shape (2,), or (3,) where the nodes' heights differ."""
    covariance_m2: FloatArray
    """Inverse Fisher information, the velocity unknown; widened where two motions fit and differ in the position."""
    velocity_mps: FloatArray
    """Same shape; drawn to zero by its prior where the measurements leave it open."""
    velocity_covariance: FloatArray
    """m²/s²; of the prior's size in directions that no measurement sees."""
    chi2: float
    """Squared normalised residuals at the position."""
    degrees: int
    """Measurements less what they determine, the velocity's directions counted by the information they have beyond
    the prior's: what ``chi2`` should be near."""
    alternatives_m: tuple[FloatArray, ...]
    """Other positions that the measurements do not exclude (99.9 %)."""
    members: tuple[int, ...]
    """Index of the measurements used."""

    @property
    def ambiguous(self) -> bool:
        """Whether another position fits as well: mirror image of a lone array, second crossing of ellipses."""
        return bool(self.alternatives_m)


@dataclass(frozen=True)
class _Minimum:
    """A state that the measurements bear out."""

    cost: float
    state: FloatArray
    covariance: FloatArray

    def position(self, dimension: int) -> tuple[FloatArray, FloatArray]:
        """Place and its covariance."""
        return self.state[:dimension], self.covariance[:dimension, :dimension]


def locate(measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station]) -> Position | None:
    """Position and velocity of one target from all its measurements, by maximum likelihood.

    At a link's time the target is at position + velocity·time. Every delay is then an ellipse about its two nodes,
    every sine a pair of rays, front and back, from its receiver, and every Doppler the velocity along its ellipse's
    normal; the velocity has a Gaussian prior of 30 m/s about zero for each component. Each crossing of a ray with
    its own link's ellipse, and points along the narrowest ellipse where there are no rays, start a damped
    Gauss–Newton search over all measurements, with the velocity that the Dopplers give and, where they leave it
    open, fast ones either way. Distinct minima that no other beats by more than the 99.9 % gate are kept, the best
    as the position, the rest as alternatives; minima that differ in the motion alone, or in the position by no more
    than its deviation, count as one.

    Parameters
    ----------
    measurements : sequence of LinkMeasurement
        At most one clock offset's error for each pair of nodes: all of one round.
    stations : mapping from node name to Station

    Returns
    -------
    Position or None
        None where the measurements are too few, or leave a direction undetermined (target on the baseline).
        In two dimensions where all nodes have one height: the target is taken to be in their plane.

    Raises
    ------
    ValueError
        If a measurement names an unknown node, has no positive deviation, or a Doppler without its carrier.

    Source: survey section IV (ToF ellipses and AoA); joint velocity and numerics ours, docs/methods/localization.md.
    """
    model = TargetModel(measurements, stations)
    if model.count < model.dimension:
        return None
    minima = _minima(model)
    if not minima:
        return None
    dimension = model.dimension
    best = minima[0]
    place, covariance = best.position(dimension)
    spread = np.linalg.eigvalsh(covariance)
    if not np.all(np.isfinite(spread)) or spread[0] <= 1e-12 * spread[-1]:
        return None
    others: list[FloatArray] = []
    total, weights = best.covariance, 1.0
    for other in minima[1:]:
        if other.cost - best.cost >= _GATE:
            continue
        where, its_covariance = other.position(dimension)
        apart = where - place
        if _near(apart, covariance + its_covariance, _GATE):
            # two motions, one place within what either claims: the mixture's second moment about the better
            weight = float(np.exp(-0.5 * (other.cost - best.cost)))
            difference = other.state - best.state
            total = total + weight * (other.covariance + np.outer(difference, difference))
            weights += weight
        else:
            others.append(where)
    total = total / weights
    determined = dimension - float(np.trace(best.covariance[dimension:, dimension:])) / VELOCITY_STD_MPS**2
    return Position(
        position_m=place,
        covariance_m2=total[:dimension, :dimension],
        velocity_mps=best.state[dimension:],
        velocity_covariance=total[dimension:, dimension:],
        chi2=best.cost,
        degrees=round(model.total - dimension - determined),
        alternatives_m=tuple(others),
        members=tuple(range(len(measurements))),
    )


def averaged(positions: Sequence[Position]) -> tuple[FloatArray, FloatArray]:
    """Mean of positions that nodes found each alone, and its covariance as if their errors were independent.

    Decentralised fusion: what a clock's offset adds to several nodes' delays with opposite signs is in each position
    already, and does not cancel here as it does in `locate` with all links.

    Raises
    ------
    ValueError
        If there is no position.
    """
    if not positions:
        raise ValueError("there is no position to average")
    number = len(positions)
    return (
        np.mean([one.position_m for one in positions], axis=0),
        np.sum([one.covariance_m2 for one in positions], axis=0) / number**2,
    )


def associate(
    measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station], *, false_rejection: float = 1e-3
) -> list[Position]:
    """Targets from the detections of all links, each detection given to one target at most.

    Every single measurement that locates by itself (delay with angle), and every pair across links, proposes
    positions; each other link adds the detection nearest to the proposal if its normalised distance passes the
    chi-square gate; the joint solution must pass the gate too. The proposal supported by the most links wins, then
    the one with the smallest chi-square; its detections are taken out and the search repeats.

    Parameters
    ----------
    false_rejection : float
        Probability that a true member is turned away by a gate.

    Returns
    -------
    list of Position
        Best supported first; ``members`` index ``measurements``.
    """
    left = list(range(len(measurements)))
    targets: list[Position] = []
    while left:
        grown = [
            hypothesis
            for members in _proposals(measurements, left)
            for hypothesis in _grown(measurements, members, left, stations, false_rejection)
        ]
        if not grown:
            break
        best = min(grown, key=lambda one: (-len(one.members), one.chi2))
        solution = locate([measurements[index] for index in best.members], stations)
        if solution is None:
            break
        targets.append(replace(solution, members=best.members))
        left = [index for index in left if index not in best.members]
    return targets


def _minima(model: TargetModel) -> list[_Minimum]:
    """Distinct minima that the measurements bear out, best first: of the places first, then of motions across."""
    minima: list[_Minimum] = []
    for place in model.starts():
        _add(minima, model, model.at_rest(place))
    for found in tuple(minima):
        # however poor: it may be the ridge between two motions that fit
        for start in model.across(found.state):
            _add(minima, model, start)
    return sorted(minima, key=lambda one: one.cost)


def _add(minima: list[_Minimum], model: TargetModel, start: FloatArray) -> None:
    """Put the minimum reached from ``start`` among ``minima``, unless it is there."""
    cost, state = model.minimise(start)
    information = model.information(state)
    for index, other in enumerate(minima):
        difference = state - other.state
        same = float(difference @ information @ difference) < 1.0
        if same or float(np.linalg.norm(difference)) < _MIN_SEPARATION_M:
            if cost < other.cost:
                minima[index] = _Minimum(cost, state, _covariance(information))
            return
    minima.append(_Minimum(cost, state, _covariance(information)))


def _covariance(information: FloatArray) -> FloatArray:
    """Inverse information of the state; infinite where a direction is not determined."""
    scale = np.sqrt(np.diag(information))
    if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        return np.full_like(information, np.inf)
    # positions to centimetres beside velocities known by their prior alone: scaled before they are compared
    eigenvalues, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    if eigenvalues[0] <= _SINGULAR:
        return np.full_like(information, np.inf)
    scaled = vectors / scale[:, None]
    return np.asarray((scaled / eigenvalues) @ scaled.T)


def _near(difference: FloatArray, covariance: FloatArray, gate: float) -> bool:
    if float(np.linalg.norm(difference)) < _MIN_SEPARATION_M:
        return True
    return bool(np.all(np.isfinite(covariance))) and float(difference @ np.linalg.solve(covariance, difference)) < gate


@dataclass(frozen=True)
class _Hypothesis:
    """Detections that one state explains."""

    members: tuple[int, ...]
    state: FloatArray
    chi2: float


def _proposals(measurements: Sequence[LinkMeasurement], left: list[int]) -> list[tuple[int, ...]]:
    """Single detections with an angle; pairs of detections across links where neither has one."""
    single = [(index,) for index in left if measurements[index].sines]
    bare = [index for index in left if not measurements[index].sines]
    pairs = [
        (first, second)
        for position, first in enumerate(bare)
        for second in bare[position + 1 :]
        if _pair(measurements[first]) != _pair(measurements[second])
    ]
    return [*single, *pairs]


def _pair(measurement: LinkMeasurement) -> frozenset[str]:
    return frozenset((measurement.receiver, measurement.transmitter))


def _link(measurement: LinkMeasurement) -> tuple[str, str]:
    return measurement.receiver, measurement.transmitter


def _grown(
    measurements: Sequence[LinkMeasurement],
    members: tuple[int, ...],
    left: list[int],
    stations: Mapping[str, Station],
    false_rejection: float,
) -> list[_Hypothesis]:
    """Every state a proposal allows, each with the nearest fitting detection of the other links added in turn."""
    from scipy.special import chdtri

    gates = [float(chdtri(float(degrees), false_rejection)) for degrees in (1, 2, 3)]
    model = TargetModel([measurements[index] for index in members], stations)
    if model.count < model.dimension:
        return []
    minima = _minima(model)
    found = []
    for minimum in minima:
        spare = model.count - model.dimension
        if minimum.cost - minima[0].cost >= _GATE or not np.all(np.isfinite(minimum.covariance)):
            continue
        if spare > 0 and minimum.cost > float(chdtri(float(spare), false_rejection)):
            continue
        grown = _Hypothesis(members, minimum.state, minimum.cost)
        while True:
            following = _joined(measurements, grown, left, stations, gates)
            if following is None:
                break
            grown = following
        found.append(grown)
    return found


def _joined(
    measurements: Sequence[LinkMeasurement],
    grown: _Hypothesis,
    left: list[int],
    stations: Mapping[str, Station],
    gates: list[float],
) -> _Hypothesis | None:
    """Hypothesis with the detection added that fits best; None if none of another link fits."""
    links = {_link(measurements[index]) for index in grown.members}
    chosen = [measurements[index] for index in grown.members]
    covariance = np.linalg.pinv(TargetModel(chosen, stations).information(grown.state), hermitian=True)
    best: _Hypothesis | None = None
    for index in left:
        candidate = measurements[index]
        if _link(candidate) in links:
            continue
        alone = TargetModel([candidate], stations)
        gate = gates[alone.total - 1]
        span_s = max(abs(candidate.time_s - one.time_s) for one in chosen)
        # the linear prediction turns most away; it is generous, since rays and ellipses are curved
        if alone.innovation(grown.state, covariance, span_s) > _CURVED * gate:
            continue
        model = TargetModel([*chosen, candidate], stations)
        starts = [grown.state, *model.across(grown.state)]
        cost, state = min(map(model.minimise, starts), key=lambda pair: pair[0])
        if cost - grown.chi2 < gate and (best is None or cost < best.chi2):
            best = _Hypothesis((*grown.members, index), state, cost)
    return best
