"""One clock against another over rounds: tracked, predicted and bridged by the oscillator's own noise model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, pi

import numpy as np

from dsp.channel import FloatArray
from dsp.oscillator import PowerLaw

__all__ = ["ClockMeasurement", "ClockPrediction", "ClockTracker", "Innovation", "smoothed"]

_PER_DECADE = 2.0
"""Gauss–Markov processes of the flicker bank per decade of time constants: its spectrum is 1/f within 1 %."""
_SMALL = 1e-2


@dataclass(frozen=True)
class ClockPrediction:
    """One clock less another at a moment."""

    offset_s: float
    offset_std_s: float
    drift: float
    drift_std: float
    covariance: FloatArray
    """Of offset and drift, shape (2, 2)."""


@dataclass(frozen=True)
class ClockMeasurement:
    """One measured offset and drift of a clock against another."""

    time_s: float
    offset_s: float
    drift: float
    covariance: FloatArray
    """Of both, shape (2, 2); the drift's with what the clock's white frequency noise leaves in the averaging time."""


@dataclass(frozen=True)
class Innovation:
    """How far a measurement lay from what was predicted."""

    nis: float
    """Squared over its covariance: ``degrees`` on the average if the model is right."""
    degrees: int


class ClockTracker:
    """Kalman filter of the offset between two clocks.

    States: time offset; drift, a random walk; and a bank of Gauss–Markov processes of equal variance and
    logarithmically spaced time constants whose sum is flicker frequency noise, S_y = h/f between the inverse of the
    longest and of the shortest one (times 2π). White frequency noise drives the offset directly. Phase noise proper
    is the measurement's: state it in its deviation.

    Parameters
    ----------
    power_law : PowerLaw
        Of the difference: the sum of both oscillators' coefficients.
    shortest_s, longest_s : float
        What the flicker bank spans: from the rounds' spacing, or less, to the run's length, or more.
    aging_std : float, optional
        Prior deviation of a constant frequency drift, 1/s; 0 for none.

    Raises
    ------
    ValueError
        If the span is empty, or a deviation negative.

    Source: flicker as a sum of relaxations, Barnes and Jarvis 1971; docs/methods/clocks.md eq. 5.
    """

    def __init__(self, power_law: PowerLaw, *, shortest_s: float, longest_s: float, aging_std: float = 0.0) -> None:
        if not 0 < shortest_s < longest_s:
            raise ValueError(f"a flicker bank from {shortest_s} s to {longest_s} s is empty")
        if aging_std < 0:
            raise ValueError("a deviation cannot be negative")
        self._law = power_law
        self._constants_s, variance = _flicker_bank(power_law.flicker_fm, shortest_s, longest_s)
        self._variance = variance
        size = 3 + len(self._constants_s)
        self._mean: FloatArray = np.zeros(size)
        self._covariance: FloatArray = np.zeros((size, size))
        self._covariance[2, 2] = aging_std**2
        self._covariance[3:, 3:] = variance * np.eye(len(self._constants_s))
        self._time_s: float | None = None
        self._marks = 0

    def update(
        self,
        time_s: float,
        offset_s: float,
        offset_std_s: float,
        *,
        drift: float,
        drift_std: float,
        correlation: float = 0.0,
    ) -> Innovation | None:
        """Take a measured offset and drift, and say how well they were predicted; None for the first.

        Parameters
        ----------
        time_s : float
            Not before the last one's, on the clock against which the drift counts.
        drift_std : float > 0
            Deviation of the measured drift from the clock's own at that moment, with what the white frequency noise
            leaves in the measurement's averaging time: (h_0/2/averaging time)^½.
        correlation : float, -1 < correlation < 1
            Of the two errors, which an offset carried to another moment by its drift has.

        Raises
        ------
        ValueError
            If the time runs backwards, a deviation is not positive or the correlation is none.
        """
        if offset_std_s <= 0 or drift_std <= 0:
            raise ValueError("a measurement has no positive deviation")
        if not abs(correlation) < 1:
            raise ValueError(f"a correlation of {correlation:g} is none")
        cross = correlation * offset_std_s * drift_std
        noise = np.array([[offset_std_s**2, cross], [cross, drift_std**2]])
        if self._time_s is None:
            self._begin(time_s, np.array([offset_s, drift]), noise)
            return None
        self._mean, self._covariance = self._propagated(time_s)
        self._time_s = time_s
        return self._corrected(np.array([offset_s, drift]), noise)

    def take(self, measured: ClockMeasurement) -> Innovation | None:
        """`update` with a measurement."""
        deviations = np.sqrt(np.diag(measured.covariance))
        return self.update(
            measured.time_s,
            measured.offset_s,
            float(deviations[0]),
            drift=measured.drift,
            drift_std=float(deviations[1]),
            correlation=float(measured.covariance[0, 1] / deviations.prod()),
        )

    def innovation(self, measured: ClockMeasurement) -> Innovation:
        """How far a measurement lies from what is predicted, without taking it.

        Raises
        ------
        ValueError
            As `predict`.
        """
        predicted = self.predict(measured.time_s)
        spread = predicted.covariance + measured.covariance
        scale = np.sqrt(np.diag(spread))
        off = np.array([measured.offset_s - predicted.offset_s, measured.drift - predicted.drift]) / scale
        return Innovation(float(off @ np.linalg.solve(spread / np.outer(scale, scale), off)), 2)

    def mark(self, time_s: float) -> int:
        """Index by which `marked` later tells the clock at ``time_s``, as everything taken by then says.

        The states at that moment are kept beside the running ones: a fixed-point smoother.

        Raises
        ------
        ValueError
            As `predict`.
        """
        self._mean, self._covariance = self._propagated(time_s)
        self._time_s = time_s
        copy = np.vstack([np.eye(len(self._mean)), self._seen()])
        self._mean, self._covariance = copy @ self._mean, copy @ self._covariance @ copy.T
        self._marks += 1
        return self._marks - 1

    @property
    def time_s(self) -> float:
        """Moment that the running states belong to.

        Raises
        ------
        ValueError
            If nothing was measured yet.
        """
        if self._time_s is None:
            raise ValueError("nothing was measured yet")
        return self._time_s

    def growth(self, mark: int) -> tuple[float, float]:
        """Offset now less that at a mark, and its deviation: what both have in common is in neither.

        Raises
        ------
        IndexError
            If there is no such mark.
        """
        self.marked(mark)
        pick = np.zeros(len(self._mean))
        pick[0], pick[len(self._mean) - 2 * (self._marks - mark)] = 1.0, -1.0
        return float(pick @ self._mean), max(float(pick @ self._covariance @ pick), 0.0) ** 0.5

    def forget(self) -> None:
        """Drop all marks."""
        kept = len(self._mean) - 2 * self._marks
        self._mean, self._covariance, self._marks = self._mean[:kept], self._covariance[:kept, :kept], 0

    def marked(self, mark: int) -> ClockPrediction:
        """Offset and drift at the moment marked.

        Raises
        ------
        IndexError
            If there is no such mark.
        """
        if not 0 <= mark < self._marks:
            raise IndexError(f"there is no mark {mark}")
        first = len(self._mean) - 2 * (self._marks - mark)
        return _prediction(self._mean[first : first + 2], self._covariance[first : first + 2, first : first + 2])

    def predict(self, time_s: float) -> ClockPrediction:
        """Offset and drift at ``time_s``, not before the last update's.

        Raises
        ------
        ValueError
            If nothing was measured yet, or the time lies before the last measurement.
        """
        mean, covariance = self._propagated(time_s)
        seen = self._seen()
        return _prediction(seen @ mean, seen @ covariance @ seen.T)

    def _begin(self, time_s: float, measured: FloatArray, noise: FloatArray) -> None:
        self._time_s = time_s
        self._mean[:2] = measured
        # the flicker that the first drift contains is not the random walk's
        bank = np.zeros(len(self._mean))
        bank[3:] = 1.0
        cross = self._covariance @ bank
        self._covariance[:2, :2] = noise
        self._covariance[1, 1] += float(bank @ cross)
        self._covariance[1, 3:] = self._covariance[3:, 1] = -cross[3:]

    def _seen(self) -> FloatArray:
        """What is measured of the states: the offset, and the drift with all flicker."""
        seen = np.zeros((2, len(self._mean)))
        seen[0, 0] = 1.0
        seen[1, 1] = 1.0
        seen[1, 3 : 3 + len(self._constants_s)] = 1.0
        return seen

    def _corrected(self, measured: FloatArray, noise: FloatArray) -> Innovation:
        # scaled to unit noise: variances of 1e-22 s² beside 1e-24 would meet the solver's limits
        deviations = np.sqrt(np.diag(noise))
        root = np.linalg.cholesky(noise / np.outer(deviations, deviations))
        seen = np.linalg.solve(root, self._seen() / deviations[:, None])
        innovation = np.linalg.solve(root, (measured - self._seen() @ self._mean) / deviations)
        spread = seen @ self._covariance @ seen.T + np.eye(2)
        gain = np.linalg.solve(spread, seen @ self._covariance).T
        self._mean = self._mean + gain @ innovation
        # Joseph's form: stays positive where the prior is many orders wider than the measurement
        keep = np.eye(len(self._mean)) - gain @ seen
        self._covariance = keep @ self._covariance @ keep.T + gain @ gain.T
        return Innovation(float(innovation @ np.linalg.solve(spread, innovation)), 2)

    def _propagated(self, time_s: float) -> tuple[FloatArray, FloatArray]:
        if self._time_s is None:
            raise ValueError("nothing was measured yet")
        step_s = time_s - self._time_s
        if step_s < 0:
            raise ValueError(f"time runs backwards, by {-step_s:g} s")
        move, noise = _transition(self._law, self._constants_s, self._variance, step_s)
        kept = 2 * self._marks
        if kept:
            move, noise = np.pad(move, (0, kept)), np.pad(noise, (0, kept))
            marks = np.arange(len(move) - kept, len(move))
            move[marks, marks] = 1.0
        return move @ self._mean, move @ self._covariance @ move.T + noise


def smoothed(
    measurements: Sequence[ClockMeasurement],
    times_s: Sequence[float],
    power_law: PowerLaw,
    *,
    shortest_s: float,
    longest_s: float,
    aging_std: float = 0.0,
) -> list[ClockPrediction]:
    """One clock against another at any ``times_s``, as all ``measurements`` together say: between, bridged, beyond.

    Times before the first measurement and after the last are extrapolated, the clock's noise being the same
    backwards.

    Parameters
    ----------
    measurements : sequence of ClockMeasurement
        In the order of their times, one at least.
    power_law, shortest_s, longest_s, aging_std
        As `ClockTracker`.

    Raises
    ------
    ValueError
        If there is no measurement, or they are out of order.
    """
    if not measurements:
        raise ValueError("nothing was measured")
    first_s, last_s = measurements[0].time_s, measurements[-1].time_s
    found: dict[float, ClockPrediction] = {}
    span = {"shortest_s": shortest_s, "longest_s": longest_s, "aging_std": aging_std}
    inside = sorted({time_s for time_s in times_s if time_s >= first_s})
    tracker = ClockTracker(power_law, **span)
    marks: list[tuple[float, int]] = []
    waiting = list(inside)
    for one in measurements:
        while waiting and waiting[0] < one.time_s:
            time_s = waiting.pop(0)
            marks.append((time_s, tracker.mark(time_s)))
        tracker.take(one)
    found |= {time_s: tracker.predict(time_s) for time_s in waiting if time_s >= last_s}
    found |= {time_s: tracker.marked(mark) for time_s, mark in marks}
    before = {time_s for time_s in times_s if time_s < first_s}
    if before:
        backwards = ClockTracker(power_law, **span)
        for one in reversed(measurements):
            turned = one.covariance * np.array([[1.0, -1.0], [-1.0, 1.0]])
            backwards.take(ClockMeasurement(-one.time_s, one.offset_s, -one.drift, turned))
        for time_s in before:
            mirrored = backwards.predict(-time_s)
            turned = mirrored.covariance * np.array([[1.0, -1.0], [-1.0, 1.0]])
            found[time_s] = _prediction(np.array([mirrored.offset_s, -mirrored.drift]), turned)
    return [found[time_s] for time_s in times_s]


def _prediction(state: FloatArray, covariance: FloatArray) -> ClockPrediction:
    deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return ClockPrediction(
        float(state[0]), float(deviations[0]), float(state[1]), float(deviations[1]), np.array(covariance)
    )


def _flicker_bank(coefficient: float, shortest_s: float, longest_s: float) -> tuple[FloatArray, float]:
    """Time constants, half a decade beyond both ends, and the variance of each process.

    A process of variance σ² and time constant T has the spectrum 4σ²T/(1 + (2πfT)²); of constants spaced by a ratio r
    the sum over all is σ²/(f·ln r), so that σ² = h·ln r.
    """
    if coefficient == 0.0:
        return np.zeros(0), 0.0
    low, high = np.log10(shortest_s / (2 * pi)) - 0.5, np.log10(longest_s / (2 * pi)) + 1.5
    count = max(2, ceil((high - low) * _PER_DECADE) + 1)
    exponents = np.linspace(low, high, count)
    ratio = 10.0 ** (exponents[1] - exponents[0])
    return np.asarray(10.0**exponents), float(coefficient * log(ratio))


def _transition(
    law: PowerLaw, constants_s: FloatArray, variance: float, step_s: float
) -> tuple[FloatArray, FloatArray]:
    """Exact transition matrix and noise covariance over ``step_s``: offset, drift, aging, flicker bank."""
    size = 3 + len(constants_s)
    move, noise = np.eye(size), np.zeros((size, size))
    move[0, 1], move[0, 2], move[1, 2] = step_s, 0.5 * step_s**2, step_s
    walk = 2.0 * pi**2 * law.random_walk_fm
    noise[0, 0] = 0.5 * law.white_fm * step_s + walk * step_s**3 / 3.0
    noise[0, 1] = noise[1, 0] = 0.5 * walk * step_s**2
    noise[1, 1] = walk * step_s
    if len(constants_s):
        age = step_s / constants_s
        decayed = -np.expm1(-age)
        bank = np.arange(3, size)
        move[bank, bank] = np.exp(-age)
        move[0, bank] = constants_s * decayed
        noise[bank, bank] = -variance * np.expm1(-2.0 * age)
        noise[0, bank] = noise[bank, 0] = variance * constants_s * decayed**2
        # the closed form loses all its digits where the step is short
        series = age**3 * (2.0 / 3.0 - age * (0.5 - age * 7.0 / 30.0))
        exact = 2.0 * age - 4.0 * decayed - np.expm1(-2.0 * age)
        noise[0, 0] += float(np.sum(variance * constants_s**2 * np.where(age < _SMALL, series, exact)))
    return move, noise
