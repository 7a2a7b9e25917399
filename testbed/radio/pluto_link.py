"""What passes between a Pluto's driver and the process in which libiio works for it: messages, and samples beside them.

One question, one answer. Lengths first: of the message, which is msgpack, and of the bytes beside it.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import msgspec

from testbed.scenario import Pluto

__all__ = [
    "Answer",
    "Close",
    "Done",
    "Failed",
    "LinkError",
    "Open",
    "Opened",
    "Question",
    "Record",
    "Recorded",
    "SetUp",
    "Settle",
    "receive",
    "send",
]

_LENGTHS = struct.Struct("<IQ")


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Open(_Message, frozen=True, tag="open"):
    """Connect to a device; one that was open before is let go."""

    name: str
    options: Pluto
    channels: int
    patient: bool


class Settle(_Message, frozen=True, tag="settle"):
    """Set it up."""

    carrier_hz: str
    rate_hz: str
    antennas: int
    tx_power_dbm: float


class Record(_Message, frozen=True, tag="record"):
    """Record so many samples, sending the complex64 samples beside this, ``offset`` samples after silence."""

    samples: int
    offset: int
    rate_hz: str
    sends: bool


class Close(_Message, frozen=True, tag="close"):
    """Wake whatever waits, and let go of the device."""


class Opened(_Message, frozen=True, tag="opened"):
    """What it says of itself."""

    uri: str
    facts: dict[str, str]


class SetUp(_Message, frozen=True, tag="set-up"):
    """What was applied."""

    carrier_hz: str
    rate_hz: str
    details: dict[str, Any]


class Recorded(_Message, frozen=True, tag="recorded"):
    """The int16 samples beside this are of this shape; some may have been lost on the way."""

    shape: tuple[int, int, int]
    lost: bool
    conditions: dict[str, float]


class Done(_Message, frozen=True, tag="done"):
    """It is closed."""


class Failed(_Message, frozen=True, tag="failed"):
    """It went wrong: the device refused (``refusal``), cannot be used (``radio``), or its context died (``dead``)."""

    kind: str
    text: str
    number: int = 0
    """The operating system's, of a dead context."""


Question = Open | Settle | Record | Close
Answer = Opened | SetUp | Recorded | Done | Failed

_ENCODER = msgspec.msgpack.Encoder()


class LinkError(Exception):
    """Nobody is at the other end, or too late."""


def send(
    connection: socket.socket,
    message: Question | Answer,
    data: bytes | memoryview = b"",
    *,
    deadline: float | None = None,
) -> None:
    """Send ``message`` with ``data`` beside it; raises `LinkError`."""
    header = _ENCODER.encode(message)
    try:
        _limit(connection, deadline)
        connection.sendall(_LENGTHS.pack(len(header), len(data)) + header)
        if data:
            _limit(connection, deadline)
            connection.sendall(data)
    except OSError as error:
        raise LinkError(error.strerror or "took too long") from None


def receive(
    connection: socket.socket, decoder: msgspec.msgpack.Decoder[Any], *, deadline: float | None = None
) -> tuple[Any, bytearray]:
    """Next message, and the bytes beside it; raises `LinkError`, also where it does not come before ``deadline``."""
    lengths = _exactly(connection, _LENGTHS.size, deadline)
    header, beside = _LENGTHS.unpack(lengths)
    message = decoder.decode(_exactly(connection, header, deadline))
    return message, _exactly(connection, beside, deadline)


def _limit(connection: socket.socket, deadline: float | None) -> None:
    connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-3))


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    try:
        while view:
            _limit(connection, deadline)
            got = connection.recv_into(view)
            if not got:
                raise LinkError("gone")
            view = view[got:]
    except OSError as error:
        raise LinkError(error.strerror or "took too long") from None
    return data
