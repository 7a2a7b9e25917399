"""Positions of targets from the bistatic delays and angles of all links, by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.localization import delay_gradient, position_information, sine_gradient
from dsp.channel import FloatArray

__all__ = ["LinkMeasurement", "Position", "Station", "associate", "locate"]

_GATE = 13.8
"""Squared normalised distance below which two hypotheses agree: 99.9 % of a chi-square with two degrees."""
_ELLIPSE_STARTS = 72
_SHELL_STARTS = 12
"""Best of the points on an ellipsoid from which the search in three dimensions starts."""
_MIN_SEPARATION_M = 1e-3
_CURVED = 4.0
"""Margin of the linear gate before the exact one."""


@dataclass(frozen=True)
class Station:
    """A node as geometry."""

    name: str
    position_m: FloatArray
    """Shape (2,) or (3,)."""
    heading_rad: float
    """Direction of the array's broadside, counter-clockwise from +x."""

    @property
    def axis(self) -> FloatArray:
        """Unit vector along the array, towards heading's left; level."""
        left = np.array([-np.sin(self.heading_rad), np.cos(self.heading_rad)])
        return left if self.position_m.size == 2 else np.append(left, 0.0)


@dataclass(frozen=True)
class LinkMeasurement:
    """One detection on one link."""

    receiver: str
    transmitter: str
    delay_s: float
    """Absolute bistatic delay, target's whole path."""
    delay_std_s: float
    """Including what the clock offset adds."""
    sines: tuple[float, ...] = ()
    """Sine of the bearing at the receiver with its grating repetitions; empty without an array. Front and back have
    one sine: the mirror needs no choice here."""
    sine_std: float = 0.0
    doppler_hz: float | None = None
    doppler_std_hz: float | None = None
    """Used only to match the two directions of one pair, which see one Doppler."""


@dataclass(frozen=True)
class Position:
    """One target."""

    position_m: FloatArray
    """Shape (2,), or (3,) where the nodes' heights differ."""
    covariance_m2: FloatArray
    """Inverse Fisher information."""
    chi2: float
    """Squared normalised residuals at the position."""
    degrees: int
    """Measurements less dimensions: what ``chi2`` should be near."""
    alternatives_m: tuple[FloatArray, ...]
    """Other positions that the measurements do not exclude (99.9 %)."""
    members: tuple[int, ...]
    """Index of the measurements used."""

    @property
    def ambiguous(self) -> bool:
        """Whether another position fits as well: mirror image of a lone array, second crossing of ellipses."""
        return bool(self.alternatives_m)


def locate(measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station]) -> Position | None:
    """Position of one target from all its measurements, by maximum likelihood.

    Every delay is an ellipse about its two nodes and every sine a pair of rays, front and back, from its
    receiver. Each crossing of a ray with its own link's ellipse, and points along the narrowest ellipse, start a
    Gauss–Newton search with Levenberg's damping over all measurements; distinct minima that no other beats by
    more than the 99.9 % gate are kept, the best as the position, the rest as alternatives.

    Parameters
    ----------
    measurements : sequence of LinkMeasurement
    stations : mapping from node name to Station

    Returns
    -------
    Position or None
        None where the measurements are too few, or leave a direction undetermined (target on the baseline).
        In two dimensions where all nodes have one height: the target is taken to be in their plane.

    Raises
    ------
    ValueError
        If a measurement names an unknown node or has no positive deviation.

    Source: survey section IV (ToF ellipses and AoA); numerics ours.
    """
    problem = _Problem(measurements, stations)
    if problem.count < problem.dimension:
        return None
    minima: list[tuple[float, FloatArray]] = []
    for start in problem.starts():
        cost, point = problem.minimise(start)
        information = problem.information(point)
        for index, (other_cost, other) in enumerate(minima):
            difference = point - other
            near = float(difference @ information @ difference) < 1.0
            if near or float(np.linalg.norm(difference)) < _MIN_SEPARATION_M:
                if cost < other_cost:
                    minima[index] = (cost, point)
                break
        else:
            minima.append((cost, point))
    minima.sort(key=lambda pair: pair[0])
    if not minima:
        return None
    cost, point = minima[0]
    information = problem.information(point)
    eigenvalues = np.linalg.eigvalsh(information)
    if eigenvalues[0] <= 1e-12 * eigenvalues[-1] or not np.all(np.isfinite(eigenvalues)):
        return None
    return Position(
        position_m=point,
        covariance_m2=np.linalg.inv(information),
        chi2=cost,
        degrees=problem.count - problem.dimension,
        alternatives_m=tuple(other for other_cost, other in minima[1:] if other_cost - cost < _GATE),
        members=tuple(range(len(measurements))),
    )


def associate(
    measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station], *, false_rejection: float = 1e-3
) -> list[Position]:
    """Targets from the detections of all links, each detection given to one target at most.

    Every single measurement that locates by itself (delay with angle), and every pair across links, proposes
    positions; each other link adds the detection nearest to the proposal if its normalised distance passes the
    chi-square gate; the joint solution must pass the gate too. The proposal supported by the most links wins, then
    the one with the smallest chi-square; its detections are taken out and the search repeats. Detections of the two
    directions of one pair are matched only if their Dopplers agree.

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


@dataclass(frozen=True)
class _Hypothesis:
    """Detections that one position explains."""

    members: tuple[int, ...]
    point: FloatArray
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


def _agree(first: LinkMeasurement, second: LinkMeasurement, gate: float) -> bool:
    """Whether two detections of the two directions of one pair may be one target."""
    if _pair(first) != _pair(second):
        return True
    delay = (first.delay_s - second.delay_s) ** 2 / (first.delay_std_s**2 + second.delay_std_s**2)
    if delay > gate:
        return False
    if first.doppler_hz is None or second.doppler_hz is None or not first.doppler_std_hz or not second.doppler_std_hz:
        return True
    doppler = (first.doppler_hz - second.doppler_hz) ** 2 / (first.doppler_std_hz**2 + second.doppler_std_hz**2)
    return doppler < gate


def _grown(
    measurements: Sequence[LinkMeasurement],
    members: tuple[int, ...],
    left: list[int],
    stations: Mapping[str, Station],
    false_rejection: float,
) -> list[_Hypothesis]:
    """Every position a proposal allows, each with the nearest fitting detection of the other links added in turn."""
    from scipy.special import chdtri

    gates = [float(chdtri(float(degrees), false_rejection)) for degrees in (1, 2)]
    solution = locate([measurements[index] for index in members], stations)
    if solution is None or (solution.degrees > 0 and solution.chi2 > float(chdtri(solution.degrees, false_rejection))):
        return []
    found = []
    for start in (solution.position_m, *solution.alternatives_m):
        problem = _Problem([measurements[index] for index in members], stations)
        grown = _Hypothesis(members, start, problem.cost(start))
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
    covariance = np.linalg.pinv(_Problem(chosen, stations).information(grown.point))
    best: _Hypothesis | None = None
    for index in left:
        candidate = measurements[index]
        if _link(candidate) in links or not all(_agree(candidate, one, gates[0]) for one in chosen):
            continue
        gate = gates[1] if candidate.sines else gates[0]
        # the linear prediction turns most away; it is generous, since rays and ellipses are curved
        if _Problem([candidate], stations).innovation(grown.point, covariance) > _CURVED * gate:
            continue
        cost, point = _Problem([*chosen, candidate], stations).minimise(grown.point)
        if cost - grown.chi2 < gate and (best is None or cost < best.chi2):
            best = _Hypothesis((*grown.members, index), point, cost)
    return best


class _Problem:
    """Residuals and gradients of one target's measurements."""

    def __init__(self, measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station]) -> None:
        for measurement in measurements:
            for name in (measurement.receiver, measurement.transmitter):
                if name not in stations:
                    raise ValueError(f"measurement names node {name!r}, which has no position")
            if measurement.delay_std_s <= 0 or (measurement.sines and measurement.sine_std <= 0):
                raise ValueError("a measurement has no positive deviation")
        self._measurements = measurements
        heights = [float(station.position_m[2]) for station in stations.values() if station.position_m.size == 3]
        level = len(heights) < len(stations) or float(np.ptp(heights)) < 1e-6
        self.dimension = 2 if level else 3
        self._places = {name: station.position_m[: self.dimension] for name, station in stations.items()}
        self._axes = {name: station.axis[: self.dimension] for name, station in stations.items()}
        self.count = len(measurements) + sum(1 for measurement in measurements if measurement.sines)

    def _residuals(self, point: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Residuals, gradients of the predictions, deviations."""
        residuals: list[float] = []
        gradients: list[FloatArray] = []
        deviations: list[float] = []
        for one in self._measurements:
            receiver, transmitter = self._places[one.receiver], self._places[one.transmitter]
            path = float(np.linalg.norm(point - receiver) + np.linalg.norm(point - transmitter))
            residuals.append(one.delay_s - path / SPEED_OF_LIGHT_MPS)
            gradients.append(delay_gradient(point, transmitter, receiver))
            deviations.append(one.delay_std_s)
            if one.sines:
                axis = self._axes[one.receiver]
                difference = point - receiver
                sine = float(axis @ difference) / float(np.linalg.norm(difference))
                # of the grating repetitions the one nearest to the hypothesis
                residuals.append(min((value - sine for value in one.sines), key=abs))
                gradients.append(sine_gradient(point, receiver, axis))
                deviations.append(one.sine_std)
        return np.array(residuals), np.array(gradients), np.array(deviations)

    def information(self, point: FloatArray) -> FloatArray:
        """Fisher information of the position."""
        _, gradients, deviations = self._residuals(point)
        return position_information(gradients, deviations)

    def cost(self, point: FloatArray) -> float:
        """Chi-square of the measurements at ``point``."""
        residuals, _, deviations = self._residuals(point)
        return float(np.sum((residuals / deviations) ** 2))

    def innovation(self, point: FloatArray, covariance: FloatArray) -> float:
        """Squared normalised distance of the measurements from a position known with ``covariance``."""
        residuals, gradients, deviations = self._residuals(point)
        # scaled first: delays of 1e-9 s beside sines would leave the matrix singular in double precision
        scaled = gradients / deviations[:, None]
        spread = scaled @ covariance @ scaled.T + np.eye(len(residuals))
        normalised = residuals / deviations
        return float(normalised @ np.linalg.solve(spread, normalised))

    def minimise(self, start: FloatArray) -> tuple[float, FloatArray]:
        """Cost (chi-square) and place of the minimum reached from ``start``."""
        point = np.array(start, dtype=np.float64)
        residuals, gradients, deviations = self._residuals(point)
        cost = float(np.sum((residuals / deviations) ** 2))
        damping = 1e-3
        for _ in range(60):
            scaled = gradients / deviations[:, None]
            information = scaled.T @ scaled
            gradient = scaled.T @ (residuals / deviations)
            damped = information + damping * float(np.trace(information)) / self.dimension * np.eye(self.dimension)
            step = np.linalg.solve(damped, gradient)
            trial = point + step
            following = self._residuals(trial)
            trial_cost = float(np.sum((following[0] / following[2]) ** 2))
            if trial_cost > cost:
                damping *= 8.0
                if damping > 1e9:
                    break
                continue
            settled = cost - trial_cost < 1e-9 and float(step @ information @ step) < 1e-8
            point, cost = trial, trial_cost
            residuals, gradients, deviations = following
            damping = max(damping / 8.0, 1e-12)
            if settled:
                break
        return cost, point

    def starts(self) -> list[FloatArray]:
        """Crossings of every ray with its link's ellipse; points along the most accurate ellipse."""
        found = [point for one in self._measurements for point in self._crossings(one)]
        sharpest = min(self._measurements, key=lambda one: one.delay_std_s)
        if not any(one.sines for one in self._measurements) or self.dimension == 3:
            directions = self._directions(_ELLIPSE_STARTS)
            ring = [point for point in (self._on_ellipse(sharpest, way) for way in directions) if point is not None]
            costs = np.array([self.cost(point) for point in ring])
            if self.dimension == 2:
                chosen = np.flatnonzero((costs <= np.roll(costs, 1)) & (costs < np.roll(costs, -1)))
            else:
                chosen = np.argsort(costs)[:_SHELL_STARTS]
            found += [ring[index] for index in chosen]
        return found

    def _directions(self, number: int) -> list[FloatArray]:
        turn = 2.0 * np.pi * (np.arange(number) + 0.5) / number
        if self.dimension == 2:
            return [np.array([np.cos(angle), np.sin(angle)]) for angle in turn]
        heights = (-0.7, -0.3, 0.0, 0.3, 0.7)
        return [
            np.array([np.cos(angle) * np.sqrt(1 - height**2), np.sin(angle) * np.sqrt(1 - height**2), height])
            for angle in turn[::6]
            for height in heights
        ]

    def _crossings(self, one: LinkMeasurement) -> list[FloatArray]:
        if not one.sines:
            return []
        axis = self._axes[one.receiver]
        broadside = np.array([axis[1], -axis[0], *([0.0] * (self.dimension - 2))])
        points = []
        for value in one.sines:
            sine = float(np.clip(value, -1.0, 1.0))
            for side in (1.0, -1.0):
                way = sine * axis + side * np.sqrt(1.0 - sine**2) * broadside
                point = self._on_ellipse(one, way)
                if point is not None:
                    points.append(point)
        return points

    def _on_ellipse(self, one: LinkMeasurement, way: FloatArray) -> FloatArray | None:
        """Point of a link's ellipse in the direction ``way`` from its receiver."""
        receiver = self._places[one.receiver]
        baseline = self._places[one.transmitter] - receiver
        length = float(np.linalg.norm(baseline))
        # a delay that noise has put below the baseline's: the narrowest ellipse that is left
        total = max(one.delay_s * SPEED_OF_LIGHT_MPS, length * (1.0 + 1e-6) + 1e-6)
        denominator = 2.0 * (total - float(baseline @ way))
        return receiver + way * ((total**2 - length**2) / denominator) if denominator > 0 else None
