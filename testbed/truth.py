"""What a simulation knows of the clocks: true time and clock offsets from the realisation stored with each capture.

A capture's ``truth`` states the true time at knots of the node's sample counter:

    true time at tick first + i·spacing = start_s + start_fraction_s + i·spacing/rate + elapsed_error_s[i],

with a cubic spline between. ``first`` is the capture's first tick unless ``first_tick`` states another. Whole seconds
stay integers, so that picoseconds survive wherever the clocks began. Signs as in docs/methods/conventions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dsp.moment import Moment
from testbed.capture import Capture

__all__ = ["ClockTruth", "TrueTime", "carrier_offset", "time_offset"]

_Floats = NDArray[np.float64]
_INVERSION_STEPS = 6  # each gains the crystal's error, four digits or more
_SLOPE_STEP_S = 50e-6  # between the instants over which the slope of the clocks is fitted


@dataclass(frozen=True, slots=True)
class TrueTime:
    """An instant of true time: whole seconds and a fraction, 0 ≤ fraction < 1."""

    whole_s: int
    fraction_s: float

    @classmethod
    def at(cls, whole_s: int, seconds: float) -> TrueTime:
        """Instant ``seconds`` (any real number) after ``whole_s``."""
        whole = floor(seconds)
        fraction = seconds - whole
        if fraction >= 1.0:  # a tiny negative rounds up to a whole second
            whole, fraction = whole + 1, 0.0
        return cls(whole_s + whole, fraction)

    def seconds_since(self, other: TrueTime) -> float:
        """This instant minus ``other`` in seconds."""
        return (self.whole_s - other.whole_s) + (self.fraction_s - other.fraction_s)


class _Stored(msgspec.Struct):
    start_s: int
    start_fraction_s: float
    spacing_samples: int
    elapsed_error_s: list[float]
    first_tick: int | None = None


class ClockTruth:
    """One node's clock over one capture: which true time belongs to which reading, and back."""

    def __init__(self, capture: Capture) -> None:
        """Clock of ``capture``.

        Raises
        ------
        ValueError
            If the capture carries no truth, or fewer than two knots.
        """
        if capture.truth is None:
            raise ValueError(f"capture of {capture.node!r}, round {capture.round} carries no truth")
        stored = msgspec.convert(capture.truth, _Stored)
        if len(stored.elapsed_error_s) < 2 or stored.spacing_samples < 1:
            raise ValueError("a clock's truth needs two knots or more, at ascending ticks")
        self.clock = capture.node
        self.rate_hz = capture.rate_hz
        self.first_tick = capture.stretches[0].first_tick if stored.first_tick is None else stored.first_tick
        self.start = TrueTime.at(stored.start_s, stored.start_fraction_s)
        self._error_s = np.asarray(stored.elapsed_error_s)
        self._step_s = float(stored.spacing_samples / self.rate_hz)

    @cached_property
    def _spline(self) -> Any:
        from scipy.interpolate import CubicSpline

        return CubicSpline(self._step_s * np.arange(len(self._error_s)), self._error_s)

    def error_s(self, elapsed_s: _Floats) -> _Floats:
        """True time elapsed since the first tick beyond what the counter says, where it says ``elapsed_s``.

        Raises
        ------
        ValueError
            If asked for more than one spacing outside the knots: nothing is known there.
        """
        elapsed_s = np.asarray(elapsed_s, np.float64)
        end_s = self._step_s * (len(self._error_s) - 1)
        if elapsed_s.size and (elapsed_s.min() < -self._step_s or elapsed_s.max() > end_s + self._step_s):
            raise ValueError(
                f"truth of clock {self.clock!r} covers 0 to {end_s:.6f} s of this capture, "
                f"asked for {elapsed_s.min():.6f} to {elapsed_s.max():.6f} s"
            )
        error: _Floats = self._spline(elapsed_s)
        return error

    def elapsed_at(self, true_s: _Floats) -> _Floats:
        """What the counter says has elapsed since the first tick, ``true_s`` seconds of true time after it."""
        true_s = np.asarray(true_s, np.float64)
        elapsed_s = true_s
        for _ in range(_INVERSION_STEPS):
            elapsed_s = true_s - self.error_s(elapsed_s)
        return elapsed_s

    def elapsed_of(self, moment: Moment) -> float:
        """Seconds on this clock from the capture's first tick to ``moment``.

        Raises
        ------
        ValueError
            If ``moment`` is another clock's.
        """
        if moment.clock != self.clock or moment.rate_hz != self.rate_hz:
            raise ValueError(f"a moment of clock {moment.clock!r} given to the truth of clock {self.clock!r}")
        return moment.seconds_since(Moment(self.clock, self.first_tick, 0.0, self.rate_hz))

    def true_time_of(self, moment: Moment) -> TrueTime:
        """True time at which this clock reads ``moment``."""
        elapsed_s = self.elapsed_of(moment)
        return TrueTime.at(
            self.start.whole_s, self.start.fraction_s + elapsed_s + float(self.error_s(np.array(elapsed_s)))
        )

    def reading_at(self, time: TrueTime) -> Moment:
        """What this clock reads at a true ``time``."""
        elapsed_s = float(self.elapsed_at(np.array(time.seconds_since(self.start))))
        return Moment(self.clock, self.first_tick, 0.0, self.rate_hz).shifted(elapsed_s)


def time_offset(receiver: Capture | ClockTruth, transmitter: Capture | ClockTruth, epoch: Moment) -> float:
    """True time offset s_n - s_m in seconds, at the true instant at which the receiver n reads ``epoch``.

    s is a clock's sample counter over its nominal rate. Both captures are of one round.

    Raises
    ------
    ValueError
        If ``epoch`` is not the receiver's, or either capture knows nothing of that instant.
    """
    n, m = _clock(receiver), _clock(transmitter)
    elapsed_n = n.elapsed_of(epoch)
    elapsed_m = float(_elapsed_of_other(n, m, np.array(elapsed_n)))
    whole = Fraction(n.first_tick) / n.rate_hz - Fraction(m.first_tick) / m.rate_hz
    return float(whole) + (elapsed_n - elapsed_m)


def carrier_offset(
    receiver: Capture | ClockTruth,
    transmitter: Capture | ClockTruth,
    carrier_hz: Fraction | float,
    intervals: Sequence[tuple[Moment, Moment]],
) -> float:
    """True carrier frequency offset in hertz: minus the carrier times the slope of s_n - s_m over ``intervals``.

    The slope is the least-squares one of the realised clocks over the frames used, ``intervals`` on the receiver's
    clock, with an intercept common to all. It is taken per second of the two clocks' mean, which makes it
    antisymmetric, as the definition fc·(delta_m - delta_n) is, and is what a two-way exchange measures: one half by
    each clock. True time, which the definition counts by, is known to neither: against it both differ by the clocks'
    mean error, 25 ppm of 120 kHz at the most.

    Raises
    ------
    ValueError
        If there is no interval of positive length, or a capture knows nothing of it.
    """
    n, m = _clock(receiver), _clock(transmitter)
    pieces = []
    for begin, end in intervals:
        first, last = n.elapsed_of(begin), n.elapsed_of(end)
        if last <= first:
            raise ValueError("an interval must end after it begins")
        cells = max(2, round((last - first) / _SLOPE_STEP_S))
        pieces.append(
            first + (last - first) * (np.arange(cells) + 0.5) / cells
        )  # centres: second order, ends not favoured
    if not pieces:
        raise ValueError("no interval to take the slope over")
    elapsed_n = np.concatenate(pieces)
    elapsed_m = _elapsed_of_other(n, m, elapsed_n)
    difference = elapsed_n - elapsed_m
    common = 0.5 * (elapsed_n + elapsed_m)
    centred = common - common.mean()
    slope = np.dot(centred, difference - difference.mean()) / np.dot(centred, centred)
    return -float(carrier_hz) * float(slope)


def _clock(source: Capture | ClockTruth) -> ClockTruth:
    return source if isinstance(source, ClockTruth) else ClockTruth(source)


def _elapsed_of_other(n: ClockTruth, m: ClockTruth, elapsed_n: _Floats) -> _Floats:
    """What m's counter says has elapsed when n's says ``elapsed_n``, each since its own first tick."""
    true_s: _Floats = n.start.seconds_since(m.start) + elapsed_n + n.error_s(elapsed_n)
    return m.elapsed_at(true_s)
