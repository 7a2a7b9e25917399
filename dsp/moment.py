"""A moment on a node's clock: an integer sample tick, a fraction of a tick, and a rational rate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

__all__ = ["Moment"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Reading of one node's clock.

    A double of seconds since an epoch resolves 0.1 µs after a year and 0.1 ps only within the first
    quarter of an hour; a tick and a fraction resolve the same everywhere.
    """

    clock: str
    """Name of the node whose sample counter is read."""
    tick: int
    """Whole samples counted."""
    fraction: float
    """Part of a sample beyond the tick, 0 ≤ fraction < 1."""
    rate_hz: Fraction
    """Nominal rate of the counter, as the device applied it."""

    @classmethod
    def at(cls, clock: str, position: float, rate_hz: Fraction, *, tick: int = 0) -> Moment:
        """Moment ``position`` samples (any real number) after ``tick`` on ``clock``."""
        whole = floor(position)
        fraction = position - whole
        if fraction >= 1.0:  # a tiny negative position rounds up to a whole sample
            whole, fraction = whole + 1, 0.0
        return cls(clock, tick + whole, fraction, rate_hz)

    def shifted(self, seconds: float) -> Moment:
        """Moment ``seconds`` later on the same clock; exact to 1e-16 of the shift."""
        return Moment.at(self.clock, self.fraction + seconds * float(self.rate_hz), self.rate_hz, tick=self.tick)

    def seconds_since(self, other: Moment) -> float:
        """Reading minus ``other``'s reading in seconds, also between the clocks of two nodes.

        Whole ticks are subtracted as rationals, so that the difference of two large counters keeps its
        picoseconds.
        """
        whole = Fraction(self.tick) / self.rate_hz - Fraction(other.tick) / other.rate_hz
        return float(whole) + self.fraction / float(self.rate_hz) - other.fraction / float(other.rate_hz)

    def midway(self, other: Moment) -> Moment:
        """Moment half-way between this and ``other`` on the same clock."""
        return other.shifted(0.5 * self.seconds_since(other))
