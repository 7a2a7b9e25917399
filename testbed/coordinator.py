"""Who transmits when: the coordinator starts the agents, runs the rounds, collects, watches, and survives.

One thread speaks with the agents, watches the processes, and has each finished round kept at once; another works on the
rounds kept, so that the next one is recorded meanwhile. The run continues while two nodes answer.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from testbed import processes, protocol
from testbed.assembly import Assembly
from testbed.background import Background
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.interrupts import interrupts
from testbed.processes import Child, EtherChild
from testbed.protocol import (
    Beat,
    Captured,
    Chunk,
    Configure,
    Failed,
    FromAgent,
    Hello,
    ProtocolError,
    Ready,
    Start,
    Stop,
)
from testbed.radio import check_driver
from testbed.results import EventRow
from testbed.scenario import Scenario, dumps
from testbed.switchboard import Switchboard

__all__ = ["FinishedRound", "Progress", "RunOutcome", "Sink", "acquire"]

_POLL_MS = 100
_GRACE_S = 1.5
"""How long a run in which fewer than two nodes answer waits for one to come back."""
_START_SILENCE_S = 7.0
_READMIT_S = (3.0, 24.0)
"""How long the others wait for the radio of one that has come back: at first, and at most, after it was too late."""
_ETHER_SILENCE_S = 6.0
_PATIENCE_S = 4.0
"""How long a run that ends before its time waits for the round that is being processed."""
_END_S = 1.5
"""How long processes may take to end by themselves."""


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

    Raises
    ------
    UserError
        If a radio has no driver, ``listen`` cannot be used, or keys are missing; nothing has been started then.
    """
    for node in scenario.node:
        check_driver(node)
    switchboard = Switchboard([node.name for node in scenario.node], listen, keys)
    with interrupts() as interrupted:
        run = _Run(scenario, switchboard, keep, process, progress, interrupted)
        try:
            run.gather(keys, arrival_s)
            if admit is not None:
                admit(run.serials)
            run.rounds()
        except _EndedError as ended:
            run.outcome.failure = str(ended)
        except UserError as refusal:
            run.outcome.failure, run.outcome.refused = str(refusal), not run.outcome.rounds
        except _InterruptedError:
            run.outcome.interrupted = True
        finally:
            run.end()
    return run.outcome


class _EndedError(Exception):
    """The run cannot go on; one line says why."""


class _InterruptedError(Exception):
    """Someone wants the run to end."""


@dataclass
class _Peer:
    """A node's agent as the coordinator sees it."""

    name: str
    index: int
    remote: bool
    child: Child | None = None
    """Its process, while it is one of ours that runs."""
    heard: float | None = None
    number: int = 0
    """Of the configuration it was asked for last."""
    configured: bool = False
    """It was asked, and is to answer."""
    ready: bool = False
    """Its radio is configured."""
    lost: bool = False
    device: str = ""
    """Kind and serial number of its radio."""
    serial: str = ""
    wanted: bool = False
    """It is to deliver the present round."""
    assembly: Assembly | None = None
    capture: Capture | None = None

    @property
    def answers(self) -> bool:
        return self.ready and not self.lost

    @property
    def returning(self) -> bool:
        """It has come back, and its radio is being configured."""
        alive = self.heard is not None and time.monotonic() - self.heard < protocol.SILENCE_S
        return alive and self.lost and self.configured and not self.ready

    def vanish(self) -> None:
        """Its process is gone: whoever speaks next is another."""
        self.heard = None
        self.configured = self.ready = False


class _Run:
    """State of a run; `acquire` is its face."""

    def __init__(
        self,
        scenario: Scenario,
        switchboard: Switchboard,
        keep: Sink,
        process: Sink,
        progress: Progress,
        interrupted: threading.Event,
    ) -> None:
        self.outcome = RunOutcome()
        self._scenario = scenario
        self._text = dumps(scenario)
        self._switchboard = switchboard
        self._keep = keep
        self._processing = Background(process)
        self._progress = progress
        self._interrupted = interrupted
        self._poller = zmq.Poller()
        self._poller.register(switchboard.socket, zmq.POLLIN)
        self._peers = {
            node.name: _Peer(node.name, index, node.agent == "remote") for index, node in enumerate(scenario.node)
        }
        self._ether: EtherChild | None = None
        self._round: int | None = None
        self._admitting = True
        self._readmit_s = _READMIT_S[0]
        self._processed = False
        """Every round that was to be recorded has been processed."""
        self._told = 0
        self._few_since: float | None = None

    # The course of a run ------------------------------------------------------------------------------------------

    def gather(self, keys: Path | None, arrival_s: float) -> None:
        """Start everything, and return when every node's radio is configured."""
        self._progress(0, "starting")
        if any(node.in_ether for node in self._scenario.node):
            self._ether = EtherChild(self._scenario)
            self._poller.register(self._ether.fileno(), zmq.POLLIN)
        for peer in self._peers.values():
            if not peer.remote:
                own = None if keys is None else keys.parent / peer.name
                peer.child = self._agent(peer, own)
        deadline = time.monotonic() + arrival_s
        while not all(peer.ready for peer in self._peers.values()):
            absent = [peer.name for peer in self._peers.values() if peer.heard is None]
            self._progress(0, f"waiting for {', '.join(absent)}" if absent else "configuring radios")
            self._configure_new()
            if absent and time.monotonic() > deadline:
                raise _EndedError(f"node {' and '.join(absent)} never came: waited {arrival_s:g} s for its agent")
            self._attend()
            for peer in self._peers.values():
                if peer.lost:
                    raise _EndedError(self.outcome.events[-1].text)

    @property
    def serials(self) -> dict[str, str]:
        """Serial number of each node's radio."""
        return {peer.name: peer.serial for peer in self._peers.values()}

    def _agent(self, peer: _Peer, keys: Path | None) -> Child:
        usrp = self._scenario.node[peer.index].usrp
        python = "" if usrp is None else usrp.python
        try:
            return processes.start_agent(peer.name, self._switchboard.address, keys, interpreter=python)
        except OSError as error:
            raise _EndedError(f'node.usrp.python of {peer.name!r} is "{python}": {error.strerror}') from None

    def rounds(self) -> None:
        """Run all rounds, and see them processed."""
        count = self._scenario.experiment.rounds
        for index in range(count):
            self._progress(index, f"round {index + 1} of {count}")
            self._record(index)
            self._hand_over(index)
            self._await_processing(1)
        self._progress(count, "processing")
        self._await_processing(0)
        self._processed = True
        lost = [peer.name for peer in self._peers.values() if peer.lost]
        if lost:
            raise _EndedError(f"lost for good: {', '.join(lost)}; the other nodes finished the run")

    def end(self) -> None:
        """Let agents and ether end, processing as well, and free everything."""
        self._progress(len(self.outcome.rounds), "ending")
        for name in self._peers:
            self._switchboard.send(name, Stop())
        deadline = time.monotonic() + _END_S
        children = [peer.child for peer in self._peers.values() if peer.child is not None]
        answering = [peer.child for peer in self._peers.values() if peer.child is not None and not peer.lost]
        while any(not child.exited for child in answering) and time.monotonic() < deadline:
            time.sleep(0.02)
        processes.end([*children, *([self._ether] if self._ether is not None else [])], grace_s=0.3)
        self._switchboard.close()
        self.outcome.at_rest = self._processing.finish(None if self._processed else _PATIENCE_S)

    def _record(self, index: int) -> None:
        self._round = index
        self._readmit()
        while sum(peer.answers for peer in self._peers.values()) < 2:
            self._attend()  # which ends the run if nobody comes back
            self._readmit()
        for peer in self._peers.values():
            peer.assembly = peer.capture = None
            peer.wanted = peer.answers
            if peer.wanted:
                self._switchboard.send(peer.name, Start(index))
        while any(peer.wanted and peer.capture is None for peer in self._peers.values()):
            self._attend()
        self._round = None

    def _configure_new(self) -> None:
        """Configure the agents that have come, or come back, once the ether is there."""
        if self._ether is None or self._ether.address:
            for peer in self._peers.values():
                if peer.heard is not None and not peer.configured:
                    peer.configured = True
                    peer.number += 1
                    self._configure(peer)

    def _configure(self, peer: _Peer) -> None:
        address = self._ether.address if self._ether is not None else ""
        self._switchboard.send(peer.name, Configure(peer.number, self._text, address))

    def _readmit(self) -> None:
        """Between rounds, when nobody waits for anybody in the ether, let those in who have come back."""
        self._configure_new()
        deadline = time.monotonic() + self._readmit_s
        self._admitting = True
        while any(peer.returning for peer in self._peers.values()) and time.monotonic() < deadline:
            self._attend()
        self._admitting = False

    def _hand_over(self, index: int) -> None:
        """Have the round kept at once, then processed."""
        captures = {peer.name: peer.capture for peer in self._peers.values() if peer.capture is not None}
        if not captures:
            return
        finished = FinishedRound(index, captures, tuple(self.outcome.events[self._told :]))
        try:
            self._keep(finished)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _EndedError("the disk is full") from error
        self._told = len(self.outcome.events)
        self.outcome.rounds.append(index)
        self._processing.put(finished)

    def _await_processing(self, left: int) -> None:
        """Watch until no more than ``left`` rounds are still to be processed, so that memory stays bounded."""
        self._processing.check()
        while self._processing.left > left:
            self._attend()
            self._processing.check()

    @property
    def _gathering(self) -> bool:
        """Nothing has been transmitted yet."""
        return self._round is None and not self.outcome.rounds

    # Watching -----------------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Listen for a moment, and see who is still there."""
        ready = dict(self._poller.poll(_POLL_MS))
        if self._interrupted.is_set():
            raise _InterruptedError
        if self._ether is not None and self._ether.fileno() in ready:
            self._ether.listen()
        self._listen()
        self._switchboard.beat()
        self._watch()

    def _listen(self) -> None:
        for name, message, samples in self._switchboard.messages():
            self._heed(self._peers[name], message, samples)

    def _heed(self, peer: _Peer, message: FromAgent | ProtocolError, samples: memoryview | None) -> None:
        peer.heard = time.monotonic()
        try:
            match message:
                case ProtocolError():
                    raise message
                case Hello() if peer.configured and not peer.ready and not peer.lost:
                    self._configure(peer)  # it asked before it was answered
                case Hello():
                    if peer.ready:
                        self._lose(peer, "its agent began anew")
                    peer.configured = peer.ready = False
                case Ready() if message.number == peer.number and self._admitting:
                    self._refuse_twins(peer, message.device)
                    peer.serial = message.serial
                    peer.ready = True
                    self._found(peer)
                case Ready():
                    # Too late: nobody shall wait for a radio that was not told to record. It is configured anew, from
                    # the beginning, for which it then needs as long as it did.
                    self._readmit_s = min(2 * self._readmit_s, _READMIT_S[1])
                    peer.configured = False
                    self._drop(peer)
                case Captured() if message.round == self._round and peer.wanted:
                    peer.assembly = Assembly(message, self._scenario, peer.index)
                    self._complete(peer)
                case Chunk() if message.round == self._round and peer.assembly is not None and samples is not None:
                    peer.assembly.take(message, samples)
                    self._complete(peer)
                case Failed() if message.refused and self._gathering:
                    raise UserError(f"node {peer.name}: {message.text}")
                case Failed():
                    self._lose(peer, message.text)
                    peer.vanish()
                case Beat() if peer.lost and peer.ready:
                    # Its radio is out of step with the others': it is back when it is configured anew.
                    peer.configured = peer.ready = False
                case _:
                    pass  # of a round that went on without it
        except ProtocolError as error:
            self._switchboard.send(peer.name, Stop(f"not of this protocol: {error}"))
            self._lose(peer, f"sent what is not of this protocol: {error}")

    def _refuse_twins(self, peer: _Peer, device: str) -> None:
        peer.device = device
        for other in self._peers.values():
            if device and other is not peer and other.ready and other.device == device:
                raise UserError(
                    f"nodes {other.name} and {peer.name} are one device, {device}: give each its own, by serial number"
                )

    def _complete(self, peer: _Peer) -> None:
        if peer.assembly is None or not peer.assembly.complete:
            return
        capture, peer.assembly = peer.assembly.capture(), None
        if capture.stretches:
            peer.capture = capture
            return
        # Nothing that could be used: the round goes on without it, and says why.
        peer.wanted = False
        for event in capture.events:
            self._note(event["code"], event["text"], peer.name)

    def _watch(self) -> None:
        now = time.monotonic()
        self._watch_ether(now)
        for peer in self._peers.values():
            if peer.child is not None and peer.child.exited:
                self._listen()  # what it said before it ended
                words = peer.child.last_words()
                processes.end([peer.child], grace_s=0)
                peer.child = None
                self._lose(peer, words)
                peer.vanish()
            elif peer.heard is not None and not peer.lost:
                # One that starts loads what it needs, which on a busy machine keeps it from speaking.
                patience = protocol.SILENCE_S if peer.ready else _START_SILENCE_S
                if now - peer.heard > patience:
                    self._lose(peer, f"silent for {patience:g} s")
        self._watch_number(now)

    def _watch_ether(self, now: float) -> None:
        if self._ether is None:
            return
        if self._ether.exited:
            why = self._ether.last_words()
        elif self._ether.address and now - self._ether.heard > _ETHER_SILENCE_S:
            why = f"silent for {_ETHER_SILENCE_S:g} s"
        else:
            return
        self._note("ether-lost", f"the simulated ether is gone: {why}")
        raise _EndedError(f"the simulated ether is gone: {why}")

    def _watch_number(self, now: float) -> None:
        """End a run in which fewer than two nodes answer and none can, or does, come back."""
        if self._gathering:
            return
        answering = [peer.name for peer in self._peers.values() if peer.answers]
        if len(answering) > 1:
            self._few_since = None
            return
        self._few_since = self._few_since or now
        hope = [peer for peer in self._peers.values() if peer.answers or peer.remote or peer.child is not None]
        if len(hope) < 2 or now - self._few_since > _GRACE_S:
            lost = [event for event in self.outcome.events if event.code == "node-lost"]
            raise _EndedError(f"fewer than two nodes answer: {'; '.join(event.text for event in lost)}")

    def _lose(self, peer: _Peer, why: str) -> None:
        if peer.lost:
            return
        peer.lost, peer.wanted = True, False
        self._note("node-lost", f"node {peer.name} was lost: {why}", peer.name)
        self._drop(peer)

    def _drop(self, peer: _Peer) -> None:
        if self._ether is not None and self._scenario.node[peer.index].in_ether:
            self._ether.drop(peer.name)

    def _found(self, peer: _Peer) -> None:
        if peer.lost:
            peer.lost = False
            self._note("node-recovered", f"node {peer.name} is back", peer.name)

    def _note(self, code: str, text: str, node: str | None = None) -> None:
        self.outcome.events.append(EventRow(round=self._round, node=node, code=code, text=text))
