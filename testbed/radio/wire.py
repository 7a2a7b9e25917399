"""What a simulated radio and its ether say to each other over a local TCP connection.

Every message is two lengths, a msgpack header that is strictly decoded, and raw samples beside it. The radio asks,
the ether answers each question once; whoever closes the connection is gone for the other at once.
"""

from __future__ import annotations

import socket
import struct
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from testbed.protocol import DepartureRow, Rational, StretchRow

__all__ = [
    "Answer",
    "Attach",
    "Attached",
    "Done",
    "Look",
    "Question",
    "Receive",
    "Received",
    "Refused",
    "Seen",
    "Transmit",
    "WireError",
    "receive_answer",
    "receive_question",
    "send",
]

_LENGTHS = struct.Struct("<IQ")
_HEADER_BYTES = 1 << 26
_SAMPLE_BYTES = 1 << 33
"""Beyond these a peer is not one of ours."""

Count = Annotated[int, Meta(ge=0)]


class WireError(Exception):
    """The connection is broken, or the peer speaks another protocol."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Attach(_Message, frozen=True, tag="attach"):
    """Become the radio of this node, on a new stream."""

    node: str


class Look(_Message, frozen=True, tag="look"):
    """What does the device's counter read?"""


class Transmit(_Message, frozen=True, tag="transmit"):
    """Queue the complex64 samples beside this from ``offset`` after the next reception's first sample.

    They are so many ``antennas`` after one another, of equal length.
    With a ``tick`` they leave at that tick of the device's counter instead.
    """

    offset: int
    tick: int | None = None
    carrier_hz: Rational | None = None
    """Where a device that is tuned by itself has its synthesizer."""
    level_db: Annotated[float, Meta(ge=-200, le=200)] = 0.0
    """Above the node's stated power."""
    antennas: Annotated[int, Meta(ge=1, le=4)] = 1


class Receive(_Message, frozen=True, tag="receive"):
    """Record so many samples on every antenna, from ``tick`` of the device's counter or from its present."""

    samples: Annotated[int, Meta(ge=1)]
    tick: int | None = None
    carrier_hz: Rational | None = None
    gains_db: Annotated[tuple[Annotated[float, Meta(ge=-200, le=300)], ...], Meta(max_length=4)] | None = None
    """Of each antenna, of a device that is set by itself."""


class Attached(_Message, frozen=True, tag="attached"):
    """What the radio applies, and whether it has time stamps."""

    carrier_hz: Rational
    rate_hz: Rational
    antennas: int
    time_stamps: bool
    details: dict[str, Any]


class Seen(_Message, frozen=True, tag="seen"):
    """The counter at the device's present, and at the last whole second of true time."""

    tick: int
    second_tick: int


class Done(_Message, frozen=True, tag="done"):
    """It is queued."""


class Received(_Message, frozen=True, tag="received"):
    """The recording; its int16 samples, shape (antenna, sample, 2), are beside this."""

    antennas: Count
    samples: Count
    full_scale: int
    stretches: tuple[StretchRow, ...]
    stream: Count
    departures: tuple[DepartureRow, ...]
    truth: dict[str, Any]
    events: tuple[dict[str, str], ...]


class Refused(_Message, frozen=True, tag="refused"):
    """It cannot be done."""

    text: str


Question = Attach | Look | Transmit | Receive
Answer = Attached | Seen | Done | Received | Refused

_ENCODER = msgspec.msgpack.Encoder()
_QUESTION = msgspec.msgpack.Decoder(Question)
_ANSWER = msgspec.msgpack.Decoder(Answer)
_NOTHING = np.zeros(0, np.uint8)


def send(connection: socket.socket, message: Question | Answer, samples: NDArray[Any] = _NOTHING) -> None:
    """Send ``message``, and the bytes of ``samples`` beside it.

    Raises
    ------
    WireError
        If the peer is gone.
    """
    header = _ENCODER.encode(message)
    data = np.ascontiguousarray(samples).data.cast("B") if samples.size else b""
    try:
        connection.sendall(_LENGTHS.pack(len(header), len(data)) + header)
        connection.sendall(data)
    except OSError as error:
        raise WireError(f"the connection broke: {error.strerror or error}") from None


def receive_question(connection: socket.socket) -> tuple[Question, bytearray]:
    """What a radio asks, and the bytes beside it; raises `WireError` when it is gone or not a radio."""
    message, data = _received(connection, _QUESTION)
    return message, data


def receive_answer(connection: socket.socket) -> tuple[Answer, bytearray]:
    """What the ether answers, and the bytes beside it; raises `WireError` when it is gone or not an ether."""
    message, data = _received(connection, _ANSWER)
    return message, data


def _received(connection: socket.socket, decoder: msgspec.msgpack.Decoder[Any]) -> tuple[Any, bytearray]:
    header_bytes, sample_bytes = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    if header_bytes > _HEADER_BYTES or sample_bytes > _SAMPLE_BYTES:
        raise WireError("the peer speaks another protocol")
    try:
        message = decoder.decode(_exactly(connection, header_bytes))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"the peer speaks another protocol: {error}") from None
    return message, _exactly(connection, sample_bytes)


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    try:
        while view:
            got = connection.recv_into(view)
            if not got:
                raise WireError("the connection was closed")
            view = view[got:]
    except OSError as error:
        raise WireError(f"the connection broke: {error.strerror or error}") from None
    return data
