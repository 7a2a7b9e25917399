"""One node's clock against another's at any moment of a finished run, from all its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dsp.clock_tracker import ClockMeasurement, ClockPrediction, smoothed
from dsp.moment import Moment
from dsp.oscillator import PowerLaw
from testbed.clock_tracks import LONGEST_S, SHORTEST_S, aging_std, measurement
from testbed.errors import UserError
from testbed.pairs import difference
from testbed.results import Results
from testbed.scenario import Scenario

__all__ = ["NodeClock", "node_clock"]


@dataclass(frozen=True)
class NodeClock:
    """Offset and drift of ``node`` against ``reference`` at any moment, by all rounds that measured them.

    Between rounds their smoother, before the first and after the last their prediction, each with the covariance that
    the two oscillators' noise makes of it. Rounds before a counter began anew are left out: the last track counts.
    """

    node: str
    reference: str
    origin: Moment
    """On the reference's clock: the first round's epoch, from which seconds count."""
    measurements: tuple[ClockMeasurement, ...]
    power_law: PowerLaw
    aging_std: float

    def at(self, when: Moment | float) -> ClockPrediction:
        """Offset, drift and their covariance at a reading of the reference's clock, or seconds after `origin`.

        Raises
        ------
        ValueError
            If the moment is another clock's.
        """
        if isinstance(when, Moment):
            if when.clock != self.reference:
                raise ValueError(f"a moment of clock {when.clock!r}, but {self.node!r} is told by {self.reference!r}'s")
            when = when.seconds_since(self.origin)
        return self.over([when])[0]

    def over(self, seconds: ArrayLike) -> list[ClockPrediction]:
        """The same at many moments, in seconds after `origin`."""
        return smoothed(
            self.measurements,
            [float(one) for one in np.atleast_1d(np.asarray(seconds, dtype=float))],
            self.power_law,
            shortest_s=SHORTEST_S,
            longest_s=LONGEST_S,
            aging_std=self.aging_std,
        )


def node_clock(results: Results, scenario: Scenario, node: str) -> NodeClock:
    """Clock of ``node`` against that of the scenario's first node.

    Raises
    ------
    UserError
        If there is no such node, it is the first one, or no round measured it.
    """
    there, here = scenario.node[0], scenario.node[scenario.index(node)]
    if here == there:
        raise UserError(f"{node!r} is the reference: name another node")
    lost = [
        event.round
        for event in results.events
        if event.round is not None and event.code == "clock-track-lost" and event.node in (node, there.name)
    ]
    rows = [
        row
        for row in results.nodes
        if row.node == node and row.reference == there.name and row.tracked_offset_s is not None
        if row.round >= max(lost, default=row.round)
    ]
    if not rows or rows[0].epoch is None:
        raise UserError(f"no round measured the clock of {node!r} against that of {there.name!r}")
    law = difference((there, here))
    origin = rows[0].epoch.moment()
    round_ = scenario.round
    averaging_s = 2.0 * round_.frames_per_slot * round_.frame_period_s
    taken: Sequence[ClockMeasurement] = [
        measurement(
            row.epoch.moment().seconds_since(origin),
            row.offset_s,
            row.drift,
            np.array(row.covariance),
            law,
            averaging_s,
        )
        for row in rows
        if row.epoch is not None and row.offset_s is not None and row.drift is not None
    ]
    return NodeClock(node, there.name, origin, tuple(taken), law, aging_std((there, here)))
