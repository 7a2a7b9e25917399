"""Where a link's next slot will stand: its arrival and carrier offset, told on by the tracker of its two clocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np

from dsp.clock_tracker import ClockMeasurement, ClockTracker
from dsp.moment import Moment
from testbed.clock_tracks import LONGEST_S, SHORTEST_S, aging_std, measurement
from testbed.pairs import Heard, difference

__all__ = ["LinkTrack", "Place"]

_PEAK_STD = 0.05
"""Deviation of the strongest path's delay as read off a profile, in samples."""
_LARGEST_STD = 0.5
"""Samples of predicted deviation from which on the slot has to be acquired anew."""
_HOP = 1.5
"""Samples by which the strongest path may have moved: farther, it is another one."""


@dataclass(frozen=True)
class Place:
    """Where a slot is expected in its receiver's samples."""

    start: float
    """Sample of the capture at which the slot's first sample arrives with zero residual delay."""
    cfo_hz: float


class LinkTrack:
    """One direction of a link, from slot to slot.

    Apparent delay, which is path and clock offset together, and its slope, which is the carrier offset, follow the
    two oscillators' noise alone while the nodes stand still.

    Parameters
    ----------
    heard : Heard
        The slot that was acquired, with its departure.
    peak_s : float
        Residual delay of its strongest path; it is held there.
    cfo_hz : float
        Carrier offset found over the slot.

    Raises
    ------
    ValueError
        If the departure is unknown.
    """

    def __init__(self, heard: Heard, peak_s: float, cfo_hz: float) -> None:
        nodes = heard.receiver, heard.transmitter
        self._law = difference(nodes)
        self._tracker = ClockTracker(self._law, shortest_s=SHORTEST_S, longest_s=LONGEST_S, aging_std=aging_std(nodes))
        self._peak_s = peak_s
        self._carrier_hz = float(heard.csi.carrier_hz)
        self._middle_s = float(heard.csi.symbol_s.mean())
        self._origin = heard.csi.reference.shifted(self._middle_s)
        self._take(heard, peak_s, cfo_hz)

    def expected(self, departed: Moment, begin: Moment) -> Place | str:
        """Where the slot that left at ``departed`` stands in a capture from ``begin`` on; or why that is not known."""
        apparent_s, drift, deviation_s = 0.0, 0.0, 0.0
        ahead_s = begin.seconds_since(departed)
        after_s = begin.seconds_since(self._origin)
        at_s = self._tracker.time_s
        for _ in range(3):  # each gains the product of the clocks' rates, five digits
            if at_s < self._tracker.time_s:
                return "the sample counter began anew"
            predicted = self._tracker.predict(at_s)
            drift, deviation_s = predicted.drift, predicted.offset_std_s
            apparent_s = predicted.offset_s - drift * self._middle_s
            at_s = max(apparent_s - ahead_s + after_s + self._middle_s, 0.0)
        rate_hz = float(begin.rate_hz)
        if deviation_s * rate_hz > _LARGEST_STD:
            return f"its arrival is only known to {deviation_s * 1e9:.0f} ns"
        return Place((apparent_s - ahead_s) * rate_hz, -drift * self._carrier_hz)

    def follow(self, heard: Heard, peak_s: float, cfo_hz: float) -> str:
        """Take a slot that was read where it was expected; why it cannot be, or nothing."""
        if abs(peak_s - self._peak_s) * float(heard.csi.reference.rate_hz) > _HOP:
            return f"the strongest path went from {self._peak_s * 1e9:.0f} to {peak_s * 1e9:.0f} ns"
        self._take(heard, peak_s, cfo_hz)
        return ""

    def _take(self, heard: Heard, peak_s: float, cfo_hz: float) -> None:
        csi, departed = heard.csi, heard.departed
        if departed is None:
            raise ValueError("a link whose departure is unknown cannot be followed")
        slope = csi.cfo_reference_hz / self._carrier_hz
        apparent_s = csi.reference.seconds_since(departed.moment) - slope * self._middle_s + peak_s - self._peak_s
        time_s = csi.reference.shifted(self._middle_s).seconds_since(self._origin)
        span_s = max(float(np.ptp(csi.symbol_s)), 1e-6)
        offset_std_s = hypot(_PEAK_STD / float(csi.reference.rate_hz), departed.std_s)
        # a tenth of a cycle over the slot, whatever the noise: it is followed, not measured
        drift_std = 0.1 / span_s / self._carrier_hz
        covariance = np.diag([offset_std_s**2, drift_std**2])
        taken: ClockMeasurement = measurement(
            time_s, apparent_s, -cfo_hz / self._carrier_hz, covariance, self._law, span_s
        )
        self._tracker.take(taken)
