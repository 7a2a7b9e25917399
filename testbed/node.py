"""The agent beside a radio: it transmits its slot, records the round, hands the recording on, and nothing else.

Two threads: the main one speaks with the coordinator and never waits for the radio; the other works the radio, which
may take as long as it likes. An agent waits for its coordinator, serves one run, and ends.
"""

from __future__ import annotations

import os
import queue
import time
from pathlib import Path

import zmq

from testbed import protocol
from testbed.errors import RunError, UserError
from testbed.protocol import Beat, Captured, Chunk, Configure, Failed, Hello, ProtocolError, Ready, Start, Stop
from testbed.radio.base import Applied
from testbed.radio_worker import RadioWorker, Recorded

__all__ = ["Agent"]

_POLL_MS = 200
_COORDINATOR_SILENCE_S = 8.0
"""Longer than the coordinator's own patience, so that it is the one to say who is lost."""


class Agent:
    """One node's end of the protocol.

    ``parent`` is a file descriptor that reaches its end when whoever started the agent is gone; the agent then ends
    as well, so that no run leaves processes behind.

    Raises
    ------
    UserError
        If the coordinator's address is none, or lies beyond this machine and there are no keys.
    """

    def __init__(self, name: str, coordinator: str, *, keys: Path | None, parent: int | None = None) -> None:
        if not protocol.is_loopback(coordinator) and keys is None:
            raise UserError(
                f"--coordinator is {coordinator}, beyond this machine, and there are no --keys: "
                "make them with `isac keys`"
            )
        own = None
        if keys is not None:
            from testbed.keys import node_keys

            own = node_keys(keys, name)
        self._name = name
        self._parent = parent
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = protocol.prepared(self._context.socket(zmq.DEALER))
        self._socket.setsockopt(zmq.IDENTITY, name.encode())
        self._socket.setsockopt(zmq.SNDTIMEO, round(1e3 * _COORDINATOR_SILENCE_S))
        if own is not None:
            self._socket.curve_publickey = own.public
            self._socket.curve_secretkey = own.secret
            self._socket.curve_serverkey = own.server
        self._socket.connect(coordinator)
        # The radio's thread leaves its answers in a queue and rings a bell that the main thread can poll.
        self._answers: queue.SimpleQueue[tuple[int, Applied | Failed | Recorded]] = queue.SimpleQueue()
        self._bell, self._ringer = os.pipe()
        self._configuration: Configure | None = None
        self._worker: RadioWorker | None = None
        self._ready: Ready | None = None

    def serve(self) -> None:
        """Serve one run, then let go of the radio.

        Raises
        ------
        RunError
            If the radio or the coordinator is gone, or the coordinator refuses this agent.
        UserError
            If the radio cannot do what the experiment asks, or is another than it names.
        """
        try:
            self._serve()
        except zmq.Again:
            raise RunError("the coordinator takes no more data") from None
        finally:
            if self._worker is not None:
                self._worker.close()
            self._socket.close()
            self._context.term()

    def _serve(self) -> None:
        poller = zmq.Poller()
        for source in (self._socket, self._bell, self._parent):
            if source is not None:
                poller.register(source, zmq.POLLIN)
        heard = beaten = float("-inf")
        while True:
            ready = dict(poller.poll(_POLL_MS))
            if self._parent is not None and self._parent in ready and not os.read(self._parent, 1024):
                raise RunError("whoever started this agent is gone")
            while (message := self._received()) is not None:
                heard = time.monotonic()
                if isinstance(message, Stop):
                    if message.text:
                        raise RunError(message.text)
                    return
                self._obey(message)
            if self._bell in ready:
                os.read(self._bell, 1024)
                while not self._answers.empty():
                    self._report(*self._answers.get())
            now = time.monotonic()
            if self._configuration is not None and now - heard > _COORDINATOR_SILENCE_S:
                raise RunError(f"the coordinator has been silent for {_COORDINATOR_SILENCE_S:g} s")
            if now - beaten >= protocol.BEAT_S:
                beaten = now
                self._send(Hello(self._name) if self._configuration is None else Beat())

    def _obey(self, message: protocol.FromCoordinator) -> None:
        if isinstance(message, Configure):
            # Every Hello is answered, and several may have been on their way.
            if self._configuration is None or message.number != self._configuration.number:
                self._configure(message)
            elif self._ready is not None:
                self._send(self._ready)
        elif isinstance(message, Start):
            if self._worker is None:
                raise RunError("the coordinator started a round before it configured this agent")
            self._worker.record(message.round, message.correction)

    def _configure(self, message: Configure) -> None:
        if self._worker is not None:
            self._worker.close()
        self._configuration, self._ready = message, None
        number = message.number

        def answer(said: Applied | Failed | Recorded) -> None:
            self._answers.put((number, said))
            os.write(self._ringer, b".")

        self._worker = RadioWorker(message.scenario, self._name, ether=message.ether, answer=answer)

    def _report(self, number: int, answer: Applied | Failed | Recorded) -> None:
        if self._configuration is None or number != self._configuration.number:
            return  # last words of a radio that was let go
        if isinstance(answer, Applied):
            serial = str(answer.details.get("serial", ""))
            device = f"{answer.details.get('radio', '')} {serial}" if serial else ""
            self._ready = Ready(number, str(answer.carrier_hz), str(answer.rate_hz), device, serial)
            self._send(self._ready)
        elif isinstance(answer, Failed):
            self._send(answer)
            raise UserError(answer.text) if answer.refused else RunError(answer.text)
        else:
            self._send_capture(answer)

    def _send_capture(self, recorded: Recorded) -> None:
        reception, applied = recorded.reception, recorded.applied
        antennas, samples, _ = reception.samples.shape
        self._send(
            Captured(
                round=recorded.round,
                antennas=antennas,
                samples=samples,
                full_scale=reception.full_scale,
                carrier_hz=str(applied.carrier_hz),
                rate_hz=str(applied.rate_hz),
                stretches=tuple(protocol.StretchRow(s.start, s.samples, s.first_tick) for s in reception.stretches),
                stream=reception.stream,
                departures=tuple(protocol.DepartureRow(d.frame, d.tick, d.fraction) for d in recorded.departures),
                settings=applied.details | reception.conditions,
                truth=reception.truth,
                events=reception.events,
            )
        )
        data = reception.samples.data.cast("B") if samples else memoryview(b"")
        for offset in range(0, len(data), protocol.CHUNK_BYTES):
            part = data[offset : offset + protocol.CHUNK_BYTES]
            self._socket.send_multipart([protocol.encode(Chunk(recorded.round, offset)), part], copy=False)

    def _send(self, message: protocol.FromAgent) -> None:
        self._socket.send(protocol.encode(message))

    def _received(self) -> protocol.FromCoordinator | None:
        try:
            parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        try:
            return protocol.decode_from_coordinator(parts)
        except ProtocolError as error:
            raise RunError(f"the coordinator speaks another protocol: {error}") from None
