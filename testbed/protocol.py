"""The messages between coordinator and agents, and who may speak.

ZeroMQ ROUTER (coordinator) and DEALER (agents), msgpack, every message a typed struct that is strictly decoded:
unknown fields, wrong types and wrong sizes raise `ProtocolError` and touch nothing. Samples travel as a second part
beside a `Chunk`. Beyond loopback both ends prove who they are by CURVE keys (`testbed.keys`).

    agent        Hello ------> Ready ------> Captured, Chunk, Chunk, … ------> Captured, …
    coordinator        Configure      Start                           Start             … Stop

Both sides send `Beat` every `BEAT_S`; who is silent for `SILENCE_S` counts as lost until heard again.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import zmq
from msgspec import Meta

from testbed.errors import UserError
from testbed.transmit_correction import Correction

__all__ = [
    "BEAT_S",
    "CHUNK_BYTES",
    "MESSAGE_BYTES",
    "SILENCE_S",
    "VERSION",
    "Beat",
    "Captured",
    "Chunk",
    "Configure",
    "Failed",
    "FromAgent",
    "FromCoordinator",
    "Hello",
    "ProtocolError",
    "Ready",
    "Start",
    "Stop",
    "StretchRow",
    "decode_from_agent",
    "decode_from_coordinator",
    "encode",
    "is_loopback",
    "prepared",
]

VERSION = 2
BEAT_S = 1.0
SILENCE_S = 3.0
CHUNK_BYTES = 4_000_000
MESSAGE_BYTES = 8_000_000
"""Largest part that either side takes: anything beyond is not of ours."""

Rational = Annotated[str, Meta(pattern=r"^[0-9]{1,40}(/[1-9][0-9]{0,40})?$")]
NodeName = Annotated[str, Meta(min_length=1, max_length=40)]
Text = Annotated[str, Meta(max_length=2000)]
Index = Annotated[int, Meta(ge=0)]


class ProtocolError(Exception):
    """A message that is not of this protocol."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Hello(_Message, frozen=True, tag="hello"):
    """An agent is there, has come back, or has heard nothing and asks again."""

    node: NodeName
    version: int = VERSION


class Ready(_Message, frozen=True, tag="ready"):
    """The radio is configured; what it applied."""

    number: Index
    """Of the `Configure` that asked for it."""
    carrier_hz: Rational
    rate_hz: Rational
    device: Text = ""
    """Kind and serial number, where it has one: no two nodes may have the same."""
    serial: Text = ""
    """The number alone."""


class StretchRow(_Message, frozen=True):
    """A run of samples without loss; see `testbed.capture.Stretch`."""

    start: Index
    samples: Index
    first_tick: int


class DepartureRow(_Message, frozen=True):
    """A time-stamped departure; see `testbed.capture.Departure`."""

    frame: Index
    tick: int
    fraction: Annotated[float, Meta(ge=0, lt=1)]


class Captured(_Message, frozen=True, tag="captured"):
    """A round is recorded; its samples follow in chunks, ``antennas`` rows of ``samples`` int16 pairs."""

    round: Index
    antennas: Annotated[int, Meta(ge=1, le=16)]
    samples: Index
    full_scale: Annotated[int, Meta(ge=1, le=32768)]
    carrier_hz: Rational
    rate_hz: Rational
    stretches: tuple[StretchRow, ...]
    stream: Index
    departures: tuple[DepartureRow, ...]
    settings: dict[str, Any] | None
    truth: dict[str, Any] | None
    events: tuple[dict[str, str], ...]


class Chunk(_Message, frozen=True, tag="chunk"):
    """Bytes of a capture from ``offset``; they travel beside this message."""

    round: Index
    offset: Index


class Failed(_Message, frozen=True, tag="failed"):
    """The radio is gone or cannot do what it is asked; the agent ends."""

    text: Text
    refused: bool = False
    """The experiment asks for what cannot be, or the device is another: whoever wrote the one or plugged in the other
    has to mend it."""


class Beat(_Message, frozen=True, tag="beat"):
    """Still there."""


class Configure(_Message, frozen=True, tag="configure"):
    """The experiment, and where the ether is if the radio is simulated; whatever the radio did before is void."""

    number: Index
    """Tells a new request from one that is repeated."""
    scenario: str
    ether: Text


class Start(_Message, frozen=True, tag="start"):
    """Record round ``round``, transmitting in your slot."""

    round: Index
    correction: Correction | None = None
    """What to take off what is sent by precoders."""


class Stop(_Message, frozen=True, tag="stop"):
    """The run is over, or this agent may not speak; ``text`` says why if it is an error."""

    text: Text = ""


FromAgent = Hello | Ready | Captured | Chunk | Failed | Beat
FromCoordinator = Configure | Start | Stop | Beat

_ENCODER = msgspec.msgpack.Encoder()
_FROM_AGENT = msgspec.msgpack.Decoder(FromAgent)
_FROM_COORDINATOR = msgspec.msgpack.Decoder(FromCoordinator)


def encode(message: FromAgent | FromCoordinator) -> bytes:
    """Bytes of ``message``."""
    return _ENCODER.encode(message)


def decode_from_agent(parts: list[zmq.Frame]) -> tuple[FromAgent, memoryview | None]:
    """Message that an agent sent, and the samples beside it if it is a `Chunk`.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    if not 1 <= len(parts) <= 2:
        raise ProtocolError(f"{len(parts)} parts")
    message: FromAgent = _decoded(_FROM_AGENT, parts[0])
    if isinstance(message, Chunk) != (len(parts) == 2):
        raise ProtocolError(f"{type(message).__name__} in {len(parts)} parts")
    return message, parts[1].buffer if len(parts) == 2 else None


def decode_from_coordinator(parts: list[zmq.Frame]) -> FromCoordinator:
    """Message that the coordinator sent.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    if len(parts) != 1:
        raise ProtocolError(f"{len(parts)} parts")
    message: FromCoordinator = _decoded(_FROM_COORDINATOR, parts[0])
    return message


def is_loopback(uri: str) -> bool:
    """Whether ``uri`` stays on this machine.

    Raises
    ------
    UserError
        If it is not of the form tcp://HOST:PORT or ipc://PATH.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, uri.rpartition(":")[2]
    except ValueError:
        host, port = None, ""
    if uri.startswith("ipc://") and len(uri) > len("ipc://"):
        return True
    if not uri.startswith("tcp://") or not host or not (port == "*" or (port.isdigit() and int(port) < 65536)):
        raise UserError(f"{uri!r} is no address: give tcp://HOST:PORT, such as tcp://127.0.0.1:5555")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a name that may stand for any machine


def prepared(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """The same socket with the options that both sides share."""
    socket.setsockopt(zmq.LINGER, 500)
    socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES)
    socket.setsockopt(zmq.SNDHWM, 64)
    socket.setsockopt(zmq.RCVHWM, 64)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    return socket


def _decoded(decoder: msgspec.msgpack.Decoder[Any], part: zmq.Frame) -> Any:
    try:
        return decoder.decode(part.buffer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(str(error)) from None
