"""Carrier phase of every link over the rounds: half turns counted where clock and frequency say how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot, pi
from typing import TYPE_CHECKING

import numpy as np

from dsp.clock_tracker import ClockMeasurement, ClockTracker
from dsp.moment import Moment
from dsp.synchronization.base import Offset
from testbed.clock_tracks import LONGEST_S, SHORTEST_S, aging_std, measurement
from testbed.pairs import Heard, difference
from testbed.results import EventRow, LinkRow

if TYPE_CHECKING:
    from testbed.capture import Capture

__all__ = ["PhaseTracks"]

_LARGEST_STD_RAD = 0.25
"""A method that knows the phase no better (spectral correlations) has none to track."""
_SURE = 4.0
"""Deviations within half of the ambiguity of π: a half turn is miscounted once in 16,000."""


@dataclass
class _Track:
    tracker: ClockTracker
    origin: Moment
    """On the receiver's clock."""
    streams: tuple[int, int]
    """Of receiver and transmitter: a synthesizer locks at another phase with each."""
    carriers: tuple[object, object]
    tie: int
    """Round since which half turns are counted."""
    phase_rad: float
    """At the last epoch, half turns counted since the tie."""
    phase_std_rad: float


class PhaseTracks:
    """Phases of two-way links, told on over the rounds.

    A two-way exchange knows the carrier's phase offset modulo π. From one epoch to the next it turns by
    -2π·carrier·(growth of the time offset), which a filter of the pair's clocks knows from the offsets and
    frequencies measured at both and the oscillators' noise between them. Where its deviation, with those of both
    phases, is a fourth of π/2 or less, the half turns are counted; where not, or where a stream began anew and with it
    the synthesizers, the tie is lost and counting begins again. Source: docs/methods/clocks.md eq. 7.
    """

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str, str], _Track] = {}

    def take(
        self, heard: Heard, offset: Offset, rows: tuple[LinkRow, LinkRow], captures: Mapping[str, Capture]
    ) -> list[EventRow]:
        """Write the phase told on into both directions' ``rows`` of one method; what happened to the tie."""
        row = rows[0]
        if not _usable(offset):
            return []
        key = row.receiver, row.transmitter, row.method
        both = captures[row.receiver], captures[row.transmitter]
        streams = both[0].stream, both[1].stream
        carriers = both[0].carrier_hz, both[1].carrier_hz
        track = self._tracks.get(key)
        lost = ""
        if track is not None and (track.streams, track.carriers) != (streams, carriers):
            which = [
                capture.node for capture, known in zip(both, track.streams, strict=True) if capture.stream != known
            ]
            lost = f"the stream of {', '.join(which)} began anew" if which else "a carrier was set anew"
            track = None
        if track is not None and offset.epoch.seconds_since(track.origin) <= track.tracker.time_s:
            lost, track = f"the sample counter of {row.receiver} began anew", None
        if track is None:
            track = self._begin(key, heard, offset, row.round, streams, carriers)
        else:
            lost = self._follow(track, heard, offset, row.round)
        for one, sign in zip(rows, (1.0, -1.0), strict=True):
            one.phase_tracked_rad, one.phase_tracked_std_rad = sign * track.phase_rad, track.phase_std_rad
            one.phase_tie_round = track.tie
        if not lost:
            return []
        text = f"{row.receiver}-{row.transmitter}, {row.method}: half turns of the phase are counted anew: {lost}"
        return [EventRow(round=row.round, node=row.receiver, code="phase-tie-lost", text=text)]

    def _begin(
        self,
        key: tuple[str, str, str],
        heard: Heard,
        offset: Offset,
        index: int,
        streams: tuple[int, int],
        carriers: tuple[object, object],
    ) -> _Track:
        nodes = heard.receiver, heard.transmitter
        tracker = ClockTracker(
            difference(nodes), shortest_s=SHORTEST_S, longest_s=LONGEST_S, aging_std=aging_std(nodes)
        )
        tracker.take(_measured(0.0, heard, offset))
        assert offset.phase_rad is not None
        assert offset.phase_std_rad is not None
        track = _Track(tracker, offset.epoch, streams, carriers, index, offset.phase_rad, offset.phase_std_rad)
        self._tracks[key] = track
        return track

    def _follow(self, track: _Track, heard: Heard, offset: Offset, index: int) -> str:
        """Tell the phase on to the offset's epoch; why it cannot be, or nothing."""
        assert offset.phase_rad is not None
        assert offset.phase_std_rad is not None
        mark = track.tracker.mark(track.tracker.time_s)
        track.tracker.take(_measured(offset.epoch.seconds_since(track.origin), heard, offset))
        growth_s, growth_std_s = track.tracker.growth(mark)
        track.tracker.forget()
        turn = -2.0 * pi * float(heard.csi.carrier_hz)
        deviation = hypot(turn * growth_std_s, offset.phase_std_rad, track.phase_std_rad)
        expected = track.phase_rad + turn * growth_s
        halves = round((expected - offset.phase_rad) / pi)
        track.phase_std_rad = offset.phase_std_rad
        if _SURE * deviation <= 0.5 * pi:
            track.phase_rad = offset.phase_rad + halves * pi
            return ""
        track.tie, track.phase_rad = index, offset.phase_rad
        return f"its prediction deviates by {deviation:.2f} rad, of which half of π allows {0.5 * pi / _SURE:.2f}"


def _usable(offset: Offset) -> bool:
    known = (offset.to_s, offset.to_std_s, offset.cfo_hz, offset.cfo_std_hz, offset.phase_rad, offset.phase_std_rad)
    return offset.valid and None not in known and (offset.phase_std_rad or 0.0) <= _LARGEST_STD_RAD


def _measured(time_s: float, heard: Heard, offset: Offset) -> ClockMeasurement:
    """The pair's offset and its growth per second of the receiver's clock."""
    assert offset.to_s is not None
    assert offset.cfo_hz is not None
    carrier_hz = float(heard.csi.carrier_hz)
    drift = -offset.cfo_hz / carrier_hz
    drift *= 1.0 - 0.5 * drift  # from the mean clock's seconds to the receiver's
    covariance = np.diag([(offset.to_std_s or 0.0) ** 2, ((offset.cfo_std_hz or 0.0) / carrier_hz) ** 2])
    averaging_s = max(2.0 * float(np.ptp(heard.csi.symbol_s)), 1e-6)
    law = difference((heard.receiver, heard.transmitter))
    return measurement(time_s, offset.to_s, drift, covariance, law, averaging_s)
