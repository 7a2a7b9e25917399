"""The coordinator's end of the line: one socket for all agents, and who may speak on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import zmq

from testbed import protocol
from testbed.errors import UserError
from testbed.protocol import Beat, FromAgent, FromCoordinator, Hello, ProtocolError, Stop

__all__ = ["Switchboard"]


class Switchboard:
    """Messages from and to the agents of the nodes ``names``, by name.

    Raises
    ------
    UserError
        If ``listen`` is no address, cannot be bound, or lies beyond this machine without keys; if keys are missing.
    """

    def __init__(self, names: list[str], listen: str, keys: Path | None) -> None:
        if not protocol.is_loopback(listen) and keys is None:
            raise UserError(
                f"--listen is {listen}, beyond this machine, and there are no --keys: make them with `isac keys`"
            )
        self._names = set(names)
        self._owners: dict[str, str] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = protocol.prepared(self._context.socket(zmq.ROUTER))
        # An agent that comes back takes its old place.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._authenticator = None
        self._beaten = 0.0
        try:
            if keys is not None:
                from testbed.keys import authenticated, coordinator_keys

                own = coordinator_keys(keys)
                unknown = sorted(self._names - set(own.nodes.values()))
                if unknown:
                    raise UserError(f"{keys}: no key of {', '.join(unknown)}: make it with `isac keys`")
                self._owners = own.nodes
                self._authenticator = authenticated(self._context, self._socket, own)
            self._socket.bind(listen)
        except zmq.ZMQError as error:
            self.close()
            raise UserError(f"--listen is {listen}, which cannot be used: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where agents find it."""

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """To poll."""
        return self._socket

    def messages(self) -> Iterator[tuple[str, FromAgent | ProtocolError, memoryview | None]]:
        """What has arrived: the node, its message, and the samples beside it.

        Speakers that are no node of this run are sent away. A node's message that is none comes as the error.
        """
        while True:
            try:
                identity, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            name = identity.bytes.decode("utf-8", "replace")
            refusal = self._refusal(name, parts)
            if refusal:
                self._socket.send_multipart([identity.bytes, protocol.encode(Stop(refusal))])
                continue
            try:
                message, samples = protocol.decode_from_agent(parts)
            except ProtocolError as error:
                yield name, error, None
                continue
            if isinstance(message, Hello) and (message.node != name or message.version != protocol.VERSION):
                self.send(name, Stop(f"{name!r} speaks version {message.version}, this is {protocol.VERSION}: update"))
                continue
            yield name, message, samples

    def send(self, name: str, message: FromCoordinator) -> None:
        """Send to an agent; lost if there is none, as its silence will tell."""
        self._socket.send_multipart([name.encode(), protocol.encode(message)])

    def beat(self) -> None:
        """Let every agent know that the coordinator is there, once a second."""
        now = time.monotonic()
        if now - self._beaten >= protocol.BEAT_S:
            self._beaten = now
            for name in self._names:
                self.send(name, Beat())

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

    def _refusal(self, name: str, parts: list[zmq.Frame]) -> str:
        if name not in self._names:
            return f"{name[:40]!r} is no node of this run: there are {', '.join(sorted(self._names))}"
        if self._owners is not None and (not parts or self._owners.get(str(parts[0].get("User-Id"))) != name):
            return f"these are not the keys of {name!r}"
        return ""
