"""Who transmits when: the coordinator starts the agents, runs the rounds, collects, watches, and survives.

One thread speaks with the agents, watches the processes, and has each finished round kept at once; another works on the
rounds kept, so that the next one is recorded meanwhile. The run continues while two nodes answer.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testbed.background import Background
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.interrupts import interrupts
from testbed.radio import check_driver
from testbed.results import EventRow
from testbed.roster import EndedError, InterruptedRunError, Roster
from testbed.scenario import Scenario
from testbed.switchboard import Switchboard
from testbed.transmit_correction import Correction

__all__ = ["FinishedRound", "Progress", "RunOutcome", "Sink", "acquire"]

_PATIENCE_S = 4.0
"""How long a run that ends before its time waits for the round that is being processed."""


@dataclass(frozen=True)
class FinishedRound:
    """What the nodes recorded in one round."""

    index: int
    captures: dict[str, Capture]
    """By node, in the order of the experiment file; a lost node is missing."""
    events: tuple[EventRow, ...]
    """What happened since the last finished round."""


@dataclass
class RunOutcome:
    """How a run ended."""

    rounds: list[int] = field(default_factory=list)
    """Rounds kept."""
    at_rest: bool = True
    """Whether processing has ended; a run that ends before its time does not wait for it long."""
    events: list[EventRow] = field(default_factory=list)
    failure: str = ""
    """One line where the run failed, or lost a node for good."""
    refused: bool = False
    """Nothing was transmitted: a device cannot do what the experiment asks, or is another than it means."""
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 2 refused, 130 interrupted."""
        return 130 if self.interrupted else 2 if self.refused else int(bool(self.failure))


Sink = Callable[[FinishedRound], None]
"""Takes one finished round."""
Admission = Callable[[dict[str, str]], None]
"""Called with the serial number of each node's radio, empty where it has none; raises `UserError` to refuse them."""
Feedback = Callable[[int], Mapping[str, Correction]]
"""Called with a round's number once those before it are processed: what nodes take off what they send together."""
Progress = Callable[[int, str], None]
"""Called with the number of finished rounds and what is going on."""


def acquire(
    scenario: Scenario,
    keep: Sink,
    process: Sink,
    *,
    progress: Progress,
    listen: str = "tcp://127.0.0.1:*",
    keys: Path | None = None,
    arrival_s: float = 7.0,
    admit: Admission | None = None,
    feedback: Feedback | None = None,
) -> RunOutcome:
    """Outcome of a run: each finished round has been kept, and then processed, one at a time, in order.

    Starts the ether and the local agents, waits for all, runs the rounds, and leaves no process behind. Interrupts
    (SIGINT, SIGTERM) end it early with what is finished kept.

    Parameters
    ----------
    scenario : Scenario
    keep : callable
        Writes each `FinishedRound`, in the caller's thread, as soon as it is there. A full disk ends the run as
        failed; other errors are raised.
    process : callable
        Works on each round kept, in another thread; given up where the run ends before its time.
    progress : callable
    listen : str
        Where agents find the coordinator, tcp://HOST:PORT; ``*`` takes any free port.
    keys : path, optional
        Folder of the coordinator's keys; needed beyond loopback.
    arrival_s : float > 0
        How long to wait for an agent to say that it is there.
    admit : callable, optional
        Looks at the radios once all are configured, before anything transmits.
    feedback : callable, optional
        Corrections for the next round; each round then waits for the one before to be processed.

    Raises
    ------
    UserError
        If a radio has no driver, ``listen`` cannot be used, or keys are missing; nothing has been started then.
    """
    for node in scenario.node:
        check_driver(node)
    switchboard = Switchboard([node.name for node in scenario.node], listen, keys)
    with interrupts() as interrupted:
        roster = Roster(scenario, switchboard, interrupted)
        run = _Run(scenario, roster, keep, process, progress, feedback)
        try:
            run.gather(keys, arrival_s)
            if admit is not None:
                admit(roster.serials)
            run.rounds()
        except EndedError as ended:
            run.outcome.failure = str(ended)
        except UserError as refusal:
            run.outcome.failure, run.outcome.refused = str(refusal), not run.outcome.rounds
        except InterruptedRunError:
            run.outcome.interrupted = True
        finally:
            run.end()
    return run.outcome


class _Run:
    """Course of a run; `acquire` is its face."""

    def __init__(
        self,
        scenario: Scenario,
        roster: Roster,
        keep: Sink,
        process: Sink,
        progress: Progress,
        feedback: Feedback | None,
    ) -> None:
        self.outcome = RunOutcome(events=roster.events)
        self._count = scenario.experiment.rounds
        self._roster = roster
        self._keep = keep
        self._processing = Background(process)
        self._progress = progress
        self._feedback = feedback
        self._processed = False
        """Every round that was to be recorded has been processed."""
        self._told = 0
        """Events that finished rounds have told of."""

    def gather(self, keys: Path | None, arrival_s: float) -> None:
        """Start everything, and return when every node's radio is configured."""
        self._progress(0, "starting")
        roster = self._roster
        roster.start(keys)
        deadline = time.monotonic() + arrival_s
        while not all(peer.ready for peer in roster.peers.values()):
            absent = [peer.name for peer in roster.peers.values() if peer.heard is None]
            self._progress(0, f"waiting for {', '.join(absent)}" if absent else "configuring radios")
            roster.configure_new()
            if absent and time.monotonic() > deadline:
                raise EndedError(f"node {' and '.join(absent)} never came: waited {arrival_s:g} s for its agent")
            roster.attend()
            if roster.lost:
                raise EndedError(roster.events[-1].text)

    def rounds(self) -> None:
        """Run all rounds, and see them processed."""
        for index in range(self._count):
            self._progress(index, f"round {index + 1} of {self._count}")
            corrections = {} if self._feedback is None else self._feedback(index)
            self._hand_over(index, self._roster.record(index, corrections))
            self._await_processing(1 if self._feedback is None else 0)
        self._progress(self._count, "processing")
        self._await_processing(0)
        self._processed = True
        if self._roster.lost:
            raise EndedError(f"lost for good: {', '.join(self._roster.lost)}; the other nodes finished the run")

    def end(self) -> None:
        """Let agents and ether end, processing as well, and free everything."""
        self._progress(len(self.outcome.rounds), "ending")
        self._roster.end()
        self.outcome.at_rest = self._processing.finish(None if self._processed else _PATIENCE_S)

    def _hand_over(self, index: int, captures: dict[str, Capture]) -> None:
        """Have the round kept at once, then processed."""
        if not captures:
            return
        finished = FinishedRound(index, captures, tuple(self.outcome.events[self._told :]))
        try:
            self._keep(finished)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise EndedError("the disk is full") from error
        self._told = len(self.outcome.events)
        self.outcome.rounds.append(index)
        self._roster.kept = True
        self._processing.put(finished)

    def _await_processing(self, left: int) -> None:
        """Watch until no more than ``left`` rounds are still to be processed, so that memory stays bounded."""
        self._processing.check()
        while self._processing.left > left:
            self._roster.attend()
            self._processing.check()
