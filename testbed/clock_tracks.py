"""Clocks of all nodes over the rounds of a run: closed, tracked by their oscillators' noise, predicted where lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING

import numpy as np

from dsp.channel import FloatArray
from dsp.clock_tracker import ClockMeasurement, ClockPrediction, ClockTracker
from dsp.moment import Moment
from dsp.oscillator import PowerLaw
from testbed.calibration_records import temperature_of
from testbed.closing import Closed, Found, Offsets, closed_round
from testbed.pairs import difference, power_law
from testbed.results import ClosureRow, Epoch, EventRow, NodeRow
from testbed.truth import ClockTruth, time_offset

if TYPE_CHECKING:
    from testbed.capture import Capture
    from testbed.scenario import Node, Scenario

__all__ = ["LONGEST_S", "SHORTEST_S", "ClockTracks", "TrackedRound", "aging_std", "measurement"]

SHORTEST_S, LONGEST_S = 3e-3, 1e4
"""Span of the flicker noise that a tracker models: from a slot to longer than a run."""
_JUMP = 27.6
"""NIS of two degrees that a right model exceeds once in a million: the measurement is not taken."""
_JUMPS = 2
"""So many in a row, and the track begins anew: it is the clock that jumped, not the measurement."""


_RESTART_S = 1e-3


@dataclass
class _Track:
    tracker: ClockTracker
    origin: Moment
    """On the reference's clock."""
    streams: tuple[int, int]
    """Of the reference and of the node: a counter begins anew with each."""
    refused: int = 0


@dataclass(frozen=True)
class TrackedRound:
    """What one round adds to the results."""

    nodes: list[NodeRow]
    closures: list[ClosureRow]
    events: list[EventRow]


def aging_std(nodes: tuple[Node, Node]) -> float:
    """Prior deviation of the frequency drift of two clocks' difference, 1/s: what their descriptions say of it."""
    return hypot(*(1e-6 * node.clock.drift_ppm_per_s for node in nodes))


def measurement(
    time_s: float, offset_s: float, drift: float, covariance: FloatArray, law: PowerLaw, averaging_s: float
) -> ClockMeasurement:
    """A closed clock as the tracker takes it: its drift's deviation with white frequency noise over the slots."""
    noise = np.array(covariance)
    noise[1, 1] += 1.2 * 0.5 * law.white_fm / averaging_s  # 6/5: the least-squares slope of a random walk
    return ClockMeasurement(time_s, offset_s, drift, noise)


class ClockTracks:
    """Rows of the nodes' clocks, round by round.

    A node's clock is tracked against that of the scenario's first node. A round that measured it closes it over the
    pairs; one that did not gives it the prediction, with the covariance that the oscillators' noise has made of it
    since. A measurement further off than a right model allows once in a million is not taken; two in a row begin the
    track anew, as a device's new stream does, whose counter begins anew. Source: docs/methods/clocks.md.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._laws = {node.name: power_law(node) for node in scenario.node}
        self._reference = scenario.node[0]
        self._tracks: dict[str, _Track] = {}

    def take(self, index: int, found: Found, offsets: Offsets, captures: Mapping[str, Capture]) -> TrackedRound:
        """Rows of round ``index``, in which ``captures`` were made."""
        done = TrackedRound([], [], [])
        if not captures:
            return done
        closed = closed_round(index, self._scenario, found, offsets, self._laws)
        if closed is not None:
            done.closures.extend(closed.rows)
            done.events.extend(
                EventRow(round=index, code="link-left-out", text=f"{row.receiver}-{row.transmitter} {row.reason}")
                for row in closed.rows
                if row.left_out
            )
        for name in list(self._tracks):
            self._check_streams(name, index, captures, done)
        rows = self._closed_rows(index, closed)
        if closed is not None and closed.clocks is not None and closed.heard[0] == self._reference.name:
            averaging_s = self._averaging_s(found)
            for row in rows:
                if row.source == "closed":
                    self._update(row, closed.clocks.epoch, captures, averaging_s, done)
        reference = rows[0].reference
        moments = {row.reference: row.epoch.moment() for row in rows if row.epoch is not None}
        epoch = moments.get(reference) or self._epoch(reference, captures)
        if epoch is not None:
            self._fill(rows, epoch)
        for row in rows:
            _judge(row, captures)
            if row.node in captures:
                row.temperature_c = temperature_of(captures[row.node].settings or {})
        done.nodes.extend(rows)
        return done

    def _closed_rows(self, index: int, closed: Closed | None) -> list[NodeRow]:
        """A row for each node, filled where the round measured it."""
        reference = self._reference.name if closed is None else closed.heard[0]
        rows = []
        for node in self._scenario.node:
            row = NodeRow(node=node.name, round=index, reference=reference)
            clocks = None if closed is None else closed.clocks
            if clocks is None:
                row.reason = f"no valid two-way offset of {reference}" if closed else "no link was heard"
            elif node.name not in clocks.nodes:
                row.reason = f"no valid two-way offset leads to {reference}"
            else:
                row.epoch = Epoch.of(clocks.epoch)
                row.source = "reference" if node.name == reference else "closed"
                row.offset_s, row.drift, covariance = clocks.of(node.name)
                row.covariance = _listed(covariance)
            if clocks is not None and clocks.reason:
                row.reason = "; ".join(filter(None, [row.reason, clocks.reason]))
            rows.append(row)
        return rows

    def _averaging_s(self, found: Found) -> float:
        """Time over which a drift was measured: two slots."""
        csi = next(iter(found.values())).heard.csi
        return max(2.0 * float(np.ptp(csi.symbol_s)), 1e-6)

    def _check_streams(self, name: str, index: int, captures: Mapping[str, Capture], done: TrackedRound) -> None:
        track = self._tracks[name]
        for node, known in zip((self._reference.name, name), track.streams, strict=True):
            if node in captures and captures[node].stream != known:
                text = f"track of {name} against {self._reference.name} ends: the stream of {node} began anew"
                done.events.append(EventRow(round=index, node=name, code="clock-track-lost", text=text))
                del self._tracks[name]
                return

    def _update(
        self, row: NodeRow, epoch: Moment, captures: Mapping[str, Capture], averaging_s: float, done: TrackedRound
    ) -> None:
        """Take the row's closed clock into its track, and say in the row how well it was predicted."""
        assert row.offset_s is not None
        assert row.drift is not None
        assert row.covariance is not None
        node = self._scenario.node[self._scenario.index(row.node)]
        law = difference((self._reference, node))
        track = self._tracks.get(row.node)
        time_s = 0.0 if track is None else epoch.seconds_since(track.origin)
        taken = measurement(time_s, row.offset_s, row.drift, np.array(row.covariance), law, averaging_s)
        if track is not None and _counter_began_anew(track.tracker, taken):
            text = f"track of {row.node} against {self._reference.name} ends: a sample counter began anew"
            done.events.append(EventRow(round=row.round, node=row.node, code="clock-track-lost", text=text))
            track = None
        if track is not None:
            predicted = track.tracker.predict(time_s)
            row.predicted_offset_s, row.predicted_drift = predicted.offset_s, predicted.drift
            row.predicted_covariance = _listed(predicted.covariance)
            row.nis = track.tracker.innovation(taken).nis
            track.refused = track.refused + 1 if row.nis > _JUMP else 0
            if track.refused:
                text = f"{row.node} is off its prediction beyond what its oscillator's noise allows (NIS {row.nis:.0f})"
                begun = "the track begins anew" if track.refused >= _JUMPS else "not taken into the track"
                done.events.append(EventRow(round=row.round, node=row.node, code="clock-jump", text=f"{text}: {begun}"))
                row.reason = "; ".join(filter(None, [row.reason, f"off its prediction: {begun}"]))
                if track.refused < _JUMPS:
                    return
                track = None
        if track is None:
            streams = captures[self._reference.name].stream, captures[row.node].stream
            taken = ClockMeasurement(0.0, taken.offset_s, taken.drift, taken.covariance)
            track = self._tracks[row.node] = _Track(self._tracker(node, law), epoch, streams)
            time_s = 0.0
        track.tracker.take(taken)
        row.tracked_offset_s, row.tracked_drift, row.tracked_covariance = _values(track.tracker.predict(time_s))

    def _tracker(self, node: Node, law: PowerLaw) -> ClockTracker:
        return ClockTracker(
            law, shortest_s=SHORTEST_S, longest_s=LONGEST_S, aging_std=aging_std((self._reference, node))
        )

    def _against_reference(self, name: str, epoch: Moment) -> ClockPrediction | None:
        """Prediction of a node's clock against the run's reference's, at a reading of the latter."""
        if name == self._reference.name:
            return ClockPrediction(0.0, 0.0, 0.0, 0.0, np.zeros((2, 2)))
        track = self._tracks.get(name)
        if track is None or epoch.seconds_since(track.origin) < track.tracker.time_s:
            return None
        return track.tracker.predict(epoch.seconds_since(track.origin))

    def _fill(self, rows: list[NodeRow], epoch: Moment) -> None:
        """Fill rows of nodes that the round did not measure by prediction."""
        for row in rows:
            if not row.source and row.node != row.reference:
                self._predict(row, epoch)
        for row in rows:
            if not row.source and row.node == row.reference and any(one.source for one in rows):
                row.epoch, row.source = Epoch.of(epoch), "reference"
                row.offset_s, row.drift, row.covariance = 0.0, 0.0, _listed(np.zeros((2, 2)))

    def _predict(self, row: NodeRow, epoch: Moment) -> None:
        """Fill the row of a node that the round did not measure from its track, if it has one."""
        at_run_s = epoch
        if epoch.clock != self._reference.name:  # read by another node: brought to the run's reference by its track
            reading = self._reading(epoch)
            if reading is None:
                return
            at_run_s = reading
        here, there = (self._against_reference(name, at_run_s) for name in (row.node, row.reference))
        if here is None or there is None:
            return
        row.epoch = Epoch.of(epoch)
        row.source = "predicted"
        # per second of the round's reference; its own track's noise is counted as if it were another's
        rate = 1.0 + there.drift
        row.offset_s, row.drift = here.offset_s - there.offset_s, (here.drift - there.drift) / rate
        row.covariance = _listed(here.covariance + there.covariance)
        row.reason = "; ".join(filter(None, [row.reason, "predicted from earlier rounds"]))

    def _reading(self, moment: Moment) -> Moment | None:
        """What the run's reference read when another node read ``moment``."""
        track = self._tracks.get(moment.clock)
        if track is None:
            return None
        begin = track.origin
        last_s = track.tracker.time_s
        time_s = last_s
        for _ in range(5):  # each gains the product of the clocks' rates, five digits
            offset_s = track.tracker.predict(max(time_s, last_s)).offset_s
            time_s = moment.seconds_since(begin) - offset_s
        return begin.shifted(time_s)

    def _epoch(self, reference: str, captures: Mapping[str, Capture]) -> Moment | None:
        """Middle of the reference's capture; where it made none, of another's, as the reference would have read it."""
        if reference in captures:
            return _middle(captures[reference])
        for name, capture in captures.items():
            reading = self._reading(_middle(capture)) if name != reference else None
            if reading is not None:
                return reading
        return None


def _counter_began_anew(tracker: ClockTracker, taken: ClockMeasurement) -> bool:
    """Whether no oscillator explains the measurement: time that runs backwards, or an offset milliseconds away."""
    if taken.time_s <= tracker.time_s:
        return True
    return abs(tracker.predict(taken.time_s).offset_s - taken.offset_s) > _RESTART_S


def _middle(capture: Capture) -> Moment:
    last = capture.stretches[-1]
    first = capture.stretches[0].first_tick
    return Moment(capture.node, (first + last.first_tick + last.samples) // 2, 0.0, capture.rate_hz)


def _listed(matrix: FloatArray) -> list[list[float]]:
    return [[float(x) for x in line] for line in matrix]


def _values(said: ClockPrediction) -> tuple[float, float, list[list[float]]]:
    return said.offset_s, said.drift, _listed(said.covariance)


def _judge(row: NodeRow, captures: Mapping[str, Capture]) -> None:
    """By how much the row's offsets err, where the truth is known."""
    both = captures.get(row.reference), captures.get(row.node)
    if row.epoch is None or row.offset_s is None or row.source == "reference":
        return
    if both[0] is None or both[1] is None or both[0].truth is None or both[1].truth is None:
        return
    true_s = -time_offset(ClockTruth(both[0]), ClockTruth(both[1]), row.epoch.moment())
    row.offset_error_s = row.offset_s - true_s
    if row.tracked_offset_s is not None:
        row.tracked_error_s = row.tracked_offset_s - true_s
