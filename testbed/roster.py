"""Which nodes answer: the agents and the ether as the coordinator sees them, heard, watched, lost and let in again."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq

from testbed import processes, protocol
from testbed.assembly import Assembly
from testbed.capture import Capture
from testbed.errors import UserError
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
from testbed.results import EventRow
from testbed.scenario import Scenario, dumps
from testbed.switchboard import Switchboard
from testbed.transmit_correction import Correction

__all__ = ["EndedError", "InterruptedRunError", "Peer", "Roster"]

_POLL_MS = 100
_GRACE_S = 1.5
"""How long a run in which fewer than two nodes answer waits for one to come back."""
_START_SILENCE_S = 7.0
_READMIT_S = (3.0, 24.0)
"""How long the others wait for the radio of one that has come back: at first, and at most, after it was too late."""
_ETHER_SILENCE_S = 6.0
_END_S = 1.5
"""How long processes may take to end by themselves."""


class EndedError(Exception):
    """The run cannot go on; one line says why."""


class InterruptedRunError(Exception):
    """Someone wants the run to end."""


@dataclass
class Peer:
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
        """Its radio is configured, and it was not lost since."""
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


class Roster:
    """Agents and ether of one run.

    Parameters
    ----------
    scenario : Scenario
    switchboard : Switchboard
        Where the agents are heard; closed by `end`.
    interrupted : threading.Event
        Set where someone wants the run to end.
    """

    def __init__(self, scenario: Scenario, switchboard: Switchboard, interrupted: threading.Event) -> None:
        self.peers = {
            node.name: Peer(node.name, index, node.agent == "remote") for index, node in enumerate(scenario.node)
        }
        """By node, in the order of the experiment file."""
        self.events: list[EventRow] = []
        """What happened, from the run's begin."""
        self.kept = False
        """Some round has been kept."""
        self._scenario = scenario
        self._text = dumps(scenario)
        self._switchboard = switchboard
        self._interrupted = interrupted
        self._poller = zmq.Poller()
        self._poller.register(switchboard.socket, zmq.POLLIN)
        self._ether: EtherChild | None = None
        self._round: int | None = None
        self._admitting = True
        self._readmit_s = _READMIT_S[0]
        self._few_since: float | None = None

    @property
    def serials(self) -> dict[str, str]:
        """Serial number of each node's radio, by node."""
        return {peer.name: peer.serial for peer in self.peers.values()}

    @property
    def lost(self) -> list[str]:
        """Names of the nodes that were lost and have not come back."""
        return [peer.name for peer in self.peers.values() if peer.lost]

    @property
    def _gathering(self) -> bool:
        """Nothing has been transmitted yet."""
        return self._round is None and not self.kept

    # Begin, rounds and end ----------------------------------------------------------------------------------------

    def start(self, keys: Path | None) -> None:
        """Start the ether and the local agents, with the nodes' keys beside the coordinator's folder ``keys``.

        Raises
        ------
        EndedError
            If an agent's interpreter cannot be started.
        """
        if any(node.in_ether for node in self._scenario.node):
            self._ether = EtherChild(self._scenario)
            self._poller.register(self._ether.fileno(), zmq.POLLIN)
        for peer in self.peers.values():
            if not peer.remote:
                own = None if keys is None else keys.parent / peer.name
                peer.child = self._agent(peer, own)

    def _agent(self, peer: Peer, keys: Path | None) -> Child:
        usrp = self._scenario.node[peer.index].usrp
        python = "" if usrp is None else usrp.python
        try:
            return processes.start_agent(peer.name, self._switchboard.address, keys, interpreter=python)
        except OSError as error:
            raise EndedError(f'node.usrp.python of {peer.name!r} is "{python}": {error.strerror}') from None

    def configure_new(self) -> None:
        """Configure the agents that have come, or come back, once the ether is there."""
        if self._ether is None or self._ether.address:
            for peer in self.peers.values():
                if peer.heard is not None and not peer.configured:
                    peer.configured = True
                    peer.number += 1
                    self._configure(peer)

    def _configure(self, peer: Peer) -> None:
        address = self._ether.address if self._ether is not None else ""
        self._switchboard.send(peer.name, Configure(peer.number, self._text, address))

    def record(self, index: int, corrections: Mapping[str, Correction]) -> dict[str, Capture]:
        """What each node that answers recorded of round ``index``, once all have delivered or were lost; by node.

        ``corrections`` are what nodes take off what they send together.

        Raises
        ------
        EndedError
            If fewer than two nodes answer.
        InterruptedRunError
        UserError
            If a device refuses before anything was transmitted.
        """
        self._round = index
        self._readmit()
        while sum(peer.answers for peer in self.peers.values()) < 2:
            self.attend()  # which ends the run if nobody comes back
            self._readmit()
        for peer in self.peers.values():
            peer.assembly = peer.capture = None
            peer.wanted = peer.answers
            if peer.wanted:
                self._switchboard.send(peer.name, Start(index, corrections.get(peer.name)))
        while any(peer.wanted and peer.capture is None for peer in self.peers.values()):
            self.attend()
        self._round = None
        return {peer.name: peer.capture for peer in self.peers.values() if peer.capture is not None}

    def _readmit(self) -> None:
        """Between rounds, when nobody waits for anybody in the ether, let those in who have come back."""
        self.configure_new()
        deadline = time.monotonic() + self._readmit_s
        self._admitting = True
        while any(peer.returning for peer in self.peers.values()) and time.monotonic() < deadline:
            self.attend()
        self._admitting = False

    def end(self) -> None:
        """Let agents and ether end by themselves, then see that none is left."""
        for name in self.peers:
            self._switchboard.send(name, Stop())
        deadline = time.monotonic() + _END_S
        children = [peer.child for peer in self.peers.values() if peer.child is not None]
        answering = [peer.child for peer in self.peers.values() if peer.child is not None and not peer.lost]
        while any(not child.exited for child in answering) and time.monotonic() < deadline:
            time.sleep(0.02)
        processes.end([*children, *([self._ether] if self._ether is not None else [])], grace_s=0.3)
        self._switchboard.close()

    # Watching -----------------------------------------------------------------------------------------------------

    def attend(self) -> None:
        """Listen for a moment, and see who is still there.

        Raises
        ------
        EndedError
            If the ether is gone, or fewer than two nodes answer and none comes back.
        InterruptedRunError
        UserError
            If a device refuses before anything was transmitted, or two nodes are one device.
        """
        ready = dict(self._poller.poll(_POLL_MS))
        if self._interrupted.is_set():
            raise InterruptedRunError
        if self._ether is not None and self._ether.fileno() in ready:
            self._ether.listen()
        self._listen()
        self._switchboard.beat()
        self._watch()

    def _listen(self) -> None:
        for name, message, samples in self._switchboard.messages():
            self._heed(self.peers[name], message, samples)

    def _heed(self, peer: Peer, message: FromAgent | ProtocolError, samples: memoryview | None) -> None:
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

    def _refuse_twins(self, peer: Peer, device: str) -> None:
        peer.device = device
        for other in self.peers.values():
            if device and other is not peer and other.ready and other.device == device:
                raise UserError(
                    f"nodes {other.name} and {peer.name} are one device, {device}: give each its own, by serial number"
                )

    def _complete(self, peer: Peer) -> None:
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
        for peer in self.peers.values():
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
        raise EndedError(f"the simulated ether is gone: {why}")

    def _watch_number(self, now: float) -> None:
        """End a run in which fewer than two nodes answer and none can, or does, come back."""
        if self._gathering:
            return
        answering = [peer.name for peer in self.peers.values() if peer.answers]
        if len(answering) > 1:
            self._few_since = None
            return
        self._few_since = self._few_since or now
        hope = [peer for peer in self.peers.values() if peer.answers or peer.remote or peer.child is not None]
        if len(hope) < 2 or now - self._few_since > _GRACE_S:
            lost = [event for event in self.events if event.code == "node-lost"]
            raise EndedError(f"fewer than two nodes answer: {'; '.join(event.text for event in lost)}")

    def _lose(self, peer: Peer, why: str) -> None:
        if peer.lost:
            return
        peer.lost, peer.wanted = True, False
        what = "did not get ready" if self._gathering else "was lost"
        self._note("node-lost", f"node {peer.name} {what}: {why}", peer.name)
        self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        if self._ether is not None and self._scenario.node[peer.index].in_ether:
            self._ether.drop(peer.name)

    def _found(self, peer: Peer) -> None:
        if peer.lost:
            peer.lost = False
            self._note("node-recovered", f"node {peer.name} is back", peer.name)

    def _note(self, code: str, text: str, node: str | None = None) -> None:
        self.events.append(EventRow(round=self._round, node=node, code=code, text=text))
