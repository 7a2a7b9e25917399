"""A run whose rounds are worked on as they come: `isac run --live`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.live import DEPTH, LiveRounds
from testbed.live_chain import LiveChain
from testbed.results import EventRow

if TYPE_CHECKING:
    from testbed.calibration import Calibration
    from testbed.coordinator import FinishedRound, RunOutcome
    from testbed.scenario import Scenario

__all__ = ["LiveRun"]

_PATIENCE_S = 4.0
"""How long an interrupted run waits for the round that is being worked on."""


class LiveRun:
    """Ring and chain behind a run: what the coordinator hands on is followed, or dropped where there is no time.

    Parameters
    ----------
    scenario : Scenario
    calibration : Calibration
    depth : int
        Rounds held at most.
    """

    def __init__(self, scenario: Scenario, calibration: Calibration, *, depth: int = DEPTH) -> None:
        self.chain = LiveChain(scenario, calibration=calibration)
        self._ring = LiveRounds(self.chain, depth=depth)

    def take(self, finished: FinishedRound) -> None:
        """Offer a round to the ring; returns at once."""
        self._ring.offer(finished.index, finished.captures)

    def end(self, outcome: RunOutcome) -> int:
        """Rounds worked on, once those that the ring holds are done; what became of all is added to the run's events.

        Raises
        ------
        Exception
            What the chain raised.
        """
        outcome.at_rest = self._ring.finish(_PATIENCE_S if outcome.interrupted else None) and outcome.at_rest
        tally, counts = self._ring.tally, self.chain.counts
        latency = "" if tally.latency_median_s is None else f"; results {tally.latency_median_s:.2g} s after a round"
        text = (
            f"live: {counts.followed} rounds followed, {counts.acquired} acquired, {tally.dropped} dropped{latency}; "
            f"left to `isac replay`: {self.chain.left_out}"
        )
        outcome.events.append(EventRow(code="live", text=text))
        return tally.processed
