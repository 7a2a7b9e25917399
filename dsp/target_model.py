"""One target's delays, Dopplers and sines as functions of its position and velocity: residuals and their minimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.localization import delay_curvature
from dsp.channel import FloatArray

__all__ = ["VELOCITY_STD_MPS", "LinkMeasurement", "Station", "TargetModel"]

VELOCITY_STD_MPS = 30.0
"""Prior deviation of each component of a target's velocity; its mean is zero."""
_OPEN_MPS = 0.5
"""Deviation of the velocity along a direction beyond which its sign is open."""
_STEPS = 80
_ELLIPSE_STARTS = 72
_SHELL_STARTS = 12
"""Best of the points on an ellipsoid from which the search in three dimensions starts."""


@dataclass(frozen=True)
class Station:
    """A node as geometry."""

    name: str
    position_m: FloatArray
    """Centre of the receiving array, shape (2,) or (3,): bearings are seen from there, and the delay of a path heard
    by all antennas alike is the delay to it."""
    heading_rad: float
    """Direction of the array's broadside, counter-clockwise from +x."""
    transmit_m: FloatArray | None = None
    """Transmitting antenna; where the array's centre is if not given."""

    @property
    def axis(self) -> FloatArray:
        """Unit vector along the array, towards heading's left; level."""
        left = np.array([-np.sin(self.heading_rad), np.cos(self.heading_rad)])
        return left if self.position_m.size == 2 else np.append(left, 0.0)

    @property
    def source_m(self) -> FloatArray:
        """Where the node transmits from."""
        return self.position_m if self.transmit_m is None else self.transmit_m


@dataclass(frozen=True)
class LinkMeasurement:
    """One detection on one link."""

    receiver: str
    transmitter: str
    delay_s: float
    """Absolute bistatic delay, target's whole path."""
    delay_std_s: float
    """Of the detection alone, without what the clock offset adds."""
    sines: tuple[float, ...] = ()
    """Sine of the bearing at the receiver with its grating repetitions; empty without an array. Front and back have
    one sine: the mirror needs no choice here."""
    sine_std: float = 0.0
    doppler_hz: float | None = None
    doppler_std_hz: float | None = None
    carrier_hz: float = 0.0
    """Needed where a Doppler is given."""
    time_s: float = 0.0
    """When the link saw the target, after the instant at which the position is asked for."""
    offset_std_s: float = 0.0
    """Deviation that the clocks' offset adds to the delay: one error with opposite signs in the two directions of a
    pair, which therefore cancels between them."""


class TargetModel:
    """Residuals of one target's measurements against its state, position and then velocity, at the common instant.

    The target moves straight at constant speed. Deviations are one after whitening: rows are delays, Dopplers, sines
    and the velocity's prior, and the clock offsets' errors are in the delays' covariance.

    Raises
    ------
    ValueError
        If a measurement names an unknown node, has no positive deviation, or a Doppler without its carrier.
    """

    def __init__(self, measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station]) -> None:
        _check(measurements, stations)
        heights = [float(station.position_m[2]) for station in stations.values() if station.position_m.size == 3]
        level = len(heights) < len(stations) or float(np.ptp(heights)) < 1e-6
        self.dimension = dimension = 2 if level else 3
        self._measurements = measurements
        geometry = [
            (stations[one.receiver].position_m, stations[one.transmitter].source_m, stations[one.receiver].axis)
            for one in measurements
        ]
        self._geometry = np.array(
            [[link[part][:dimension] for link in geometry] for part in range(3)], dtype=np.float64
        ).reshape(3, len(measurements), dimension)
        self._figures = np.array([_figures(one) for one in measurements], dtype=np.float64).reshape(-1, 5).T.copy()
        most = max((len(one.sines) for one in measurements), default=0)
        self._sines = np.array(
            [[*one.sines, *([np.inf] * (most - len(one.sines)))] for one in measurements], dtype=np.float64
        ).reshape(len(measurements), most)
        self._whiten_delays = np.linalg.inv(np.linalg.cholesky(_delay_covariance(measurements)))
        self.count = len(measurements) + sum(1 for one in measurements if one.sines)
        """Measurements that say where the target is."""
        self.total = self.count + sum(1 for one in measurements if one.doppler_hz is not None)

    @property
    def _inputs(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, float]:
        return self._geometry, self._figures, self._sines, self._whiten_delays, VELOCITY_STD_MPS

    def _outputs(self, *sets: int) -> tuple[FloatArray, FloatArray]:
        """Room for residuals and their gradients."""
        rows = 3 * len(self._measurements) + self.dimension
        return np.empty((*sets, rows)), np.empty((*sets, rows, 2 * self.dimension))

    def residuals(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Whitened residuals, shape (row,), and gradients of the predictions, shape (row, 2·dimension).

        Rows: a delay, a Doppler and a sine of each measurement, zero where it has none; then the prior.
        """
        from dsp.kernels.target import _residuals

        values, slopes = self._outputs()
        _residuals(np.ascontiguousarray(state, dtype=np.float64), *self._inputs, values, slopes)
        return values, slopes

    def information(self, state: FloatArray) -> FloatArray:
        """Fisher information of the state, prior included."""
        _, slopes = self.residuals(state)
        return np.asarray(slopes.T @ slopes)

    def cost(self, state: FloatArray) -> float:
        """Chi-square of the measurements and of the velocity's prior."""
        values, _ = self.residuals(state)
        return float(values @ values)

    def innovation(self, state: FloatArray, covariance: FloatArray, span_s: float) -> float:
        """Squared normalised distance of the measurements from a state known with ``covariance``.

        The Doppler's change over ``span_s``, from the measurements behind the state to these, is of second order in a
        motion across the line of sight that may be unknown: its size at one deviation is allowed for.
        """
        dimension, links = self.dimension, len(self._measurements)
        values, slopes = self.residuals(state)
        values, slopes = values[: 3 * links], slopes[: 3 * links]
        spread = slopes @ covariance @ slopes.T + np.eye(3 * links)
        place = state[:dimension] + self._figures[0][:, None] * state[dimension:]
        curvature = delay_curvature(place, self._geometry[1], self._geometry[0])
        turn = np.einsum("nij,ij->n", curvature, covariance[dimension:, dimension:])
        dopplers = np.arange(links, 2 * links)
        spread[dopplers, dopplers] += (self._figures[2] * turn * span_s) ** 2
        return float(values @ np.linalg.solve(spread, values))

    def minimise(self, start: FloatArray) -> tuple[float, FloatArray]:
        """Cost and state of the minimum reached from ``start``, by Gauss–Newton with Marquardt's damping."""
        from dsp.kernels.target import _minimise

        state = np.array(start, dtype=np.float64)
        cost = _minimise(state, *self._inputs, *self._outputs(2), _STEPS)
        return cost, state

    def at_rest(self, place: FloatArray) -> FloatArray:
        """State at ``place`` with the least velocity that the Dopplers allow."""
        state = np.concatenate([place, np.zeros(self.dimension)])
        information, gradient = self._of_velocity(state)
        state[self.dimension :] = np.linalg.solve(information, gradient)
        return state

    def across(self, state: FloatArray) -> list[FloatArray]:
        """States at the same place, but fast either way in the directions that no Doppler sees well.

        What turns a Doppler between two slots is the square of the motion across the line of sight: there either
        sign is a minimum, and standing still the ridge between them.
        """
        if float(np.ptp(self._figures[0])) == 0.0:
            return []
        # of a standing target: moving, it would show the very turn whose sign is sought
        information, _ = self._of_velocity(np.concatenate([state[: self.dimension], np.zeros(self.dimension)]))
        eigenvalues, directions = np.linalg.eigh(information)
        states = []
        for value, direction in zip(eigenvalues, directions.T, strict=True):
            if value < 1.0 / _OPEN_MPS**2:
                for sign in (1.0, -1.0):
                    start = state.copy()
                    along = float(state[self.dimension :] @ direction)
                    start[self.dimension :] += (sign * 0.3 * VELOCITY_STD_MPS - along) * direction
                    states.append(start)
        return states

    def _of_velocity(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Information that Dopplers and prior have of the velocity, and the gradient of their likelihood."""
        values, slopes = self.residuals(state)
        links = len(self._measurements)
        rows = np.r_[links : 2 * links, 3 * links : len(values)]
        columns = slopes[rows][:, self.dimension :]
        return columns.T @ columns, columns.T @ values[rows]

    def starts(self) -> list[FloatArray]:
        """Crossings of every ray with its link's ellipse; points along the most accurate ellipse."""
        found = [point for index in range(len(self._measurements)) for point in self._crossings(index)]
        if not self._sines.shape[1] or self.dimension == 3:
            sharpest = int(np.argmin([one.delay_std_s for one in self._measurements]))
            ring = self._on_ellipse(sharpest, self._directions(_ELLIPSE_STARTS))
            costs = self._costs(np.hstack([ring, np.zeros_like(ring)]))
            if self.dimension == 2:
                chosen = np.flatnonzero((costs <= np.roll(costs, 1)) & (costs < np.roll(costs, -1)))
            else:
                chosen = np.argsort(costs)[:_SHELL_STARTS]
            found += list(ring[chosen])
        return found

    def _costs(self, states: FloatArray) -> FloatArray:
        from dsp.kernels.target import _costs

        costs = np.empty(len(states))
        _costs(states, *self._inputs, *self._outputs(), costs)
        return costs

    def _directions(self, number: int) -> FloatArray:
        """Unit vectors, shape (direction, dimension)."""
        turn = 2.0 * np.pi * (np.arange(number) + 0.5) / number
        if self.dimension == 2:
            return np.stack([np.cos(turn), np.sin(turn)], axis=1)
        heights = np.array([-0.7, -0.3, 0.0, 0.3, 0.7])
        level = np.sqrt(1.0 - heights**2)
        around = turn[::6, None]
        ways = np.stack(
            [np.cos(around) * level, np.sin(around) * level, np.broadcast_to(heights, (around.size, heights.size))],
            axis=-1,
        )
        return np.asarray(ways.reshape(-1, 3))

    def _crossings(self, index: int) -> list[FloatArray]:
        axis = self._geometry[2, index]
        broadside = np.array([axis[1], -axis[0], *([0.0] * (self.dimension - 2))])
        sine = np.clip(np.array(self._measurements[index].sines, dtype=np.float64), -1.0, 1.0)[:, None]
        across = np.sqrt(1.0 - sine**2) * broadside
        return list(self._on_ellipse(index, np.concatenate([sine * axis + across, sine * axis - across])))

    def _on_ellipse(self, index: int, ways: FloatArray) -> FloatArray:
        """Points of a link's ellipse in the directions ``ways`` from its receiver."""
        receiver = self._geometry[0, index]
        baseline = self._geometry[1, index] - receiver
        length = float(np.linalg.norm(baseline))
        # a delay that noise has put below the baseline's: the narrowest ellipse that is left
        total = max(float(self._figures[1, index]) * SPEED_OF_LIGHT_MPS, length * (1.0 + 1e-6) + 1e-6)
        distance = (total**2 - length**2) / (2.0 * (total - ways @ baseline))
        return np.asarray(receiver + ways * distance[:, None])


def _check(measurements: Sequence[LinkMeasurement], stations: Mapping[str, Station]) -> None:
    for one in measurements:
        for name in (one.receiver, one.transmitter):
            if name not in stations:
                raise ValueError(f"measurement names node {name!r}, which has no position")
        moving = one.doppler_hz is not None
        if (
            one.delay_std_s <= 0
            or (one.sines and one.sine_std <= 0)
            or (moving and (one.doppler_std_hz is None or one.doppler_std_hz <= 0))
        ):
            raise ValueError("a measurement has no positive deviation")
        if moving and one.carrier_hz <= 0:
            raise ValueError("a Doppler says nothing of a velocity without its carrier")


def _figures(one: LinkMeasurement) -> tuple[float, float, float, float, float]:
    """Time, delay, carrier over the Doppler's deviation, Doppler over it, inverse of the sine's deviation."""
    sine = 1.0 / one.sine_std if one.sines else 0.0
    if one.doppler_hz is None or one.doppler_std_hz is None:
        return one.time_s, one.delay_s, 0.0, 0.0, sine
    return one.time_s, one.delay_s, one.carrier_hz / one.doppler_std_hz, one.doppler_hz / one.doppler_std_hz, sine


def _delay_covariance(measurements: Sequence[LinkMeasurement]) -> FloatArray:
    """Covariance of the delays: own noise, and one clock offset for each pair of nodes with opposite signs."""
    covariance = np.diag([one.delay_std_s**2 for one in measurements])
    for row, first in enumerate(measurements):
        for column, second in enumerate(measurements):
            if first.receiver == first.transmitter or {first.receiver, first.transmitter} != {
                second.receiver,
                second.transmitter,
            }:
                continue
            sign = 1.0 if first.receiver == second.receiver else -1.0
            covariance[row, column] += sign * first.offset_std_s * second.offset_std_s
    return covariance
