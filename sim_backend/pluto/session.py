"""A conversation with one client, over anything that gives and takes bytes."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Protocol

from sim_backend.pluto.attributes import Attribute, Channel, Device, RefusedError
from sim_backend.pluto.buffers import BlockReader, BlockWriter
from sim_backend.pluto.device import Pluto
from sim_backend.pluto.protocol import Command, MalformedError, parse

__all__ = ["Session", "Stream", "converse"]

_VERSION = "0.26.v0.26  "
"""Major, minor, and the git tag, which clients take as seven characters."""
_ATTRIBUTE_BYTES = 1 << 20
"""Longest value of an attribute; FIR filters have a few thousand."""
_BUFFER_BYTES = 1 << 30
_HELP = (
    "VERSION, PRINT, HELP, EXIT, TIMEOUT ms\n"
    "READ device [DEBUG|BUFFER] [attribute]; READ device INPUT|OUTPUT channel [attribute]\n"
    "WRITE as READ, then the number of bytes that follow\n"
    "OPEN device samples mask [CYCLIC], READBUF device bytes, WRITEBUF device bytes, CLOSE device\n"
    "SET device BUFFERS_COUNT count, GETTRIG device, SETTRIG device [trigger]\n"
)


class Stream(Protocol):
    """The client's end of the wire. Every method raises `ConnectionError` once the client is gone."""

    def line(self) -> bytes:
        """Next line without its end; raises `MalformedError` if it is too long for a command."""
        ...

    def exactly(self, count: int) -> bytearray:
        """So many bytes."""
        ...

    def send(self, *parts: bytes | memoryview) -> None:
        """Send them all."""
        ...


class Session:
    """Answers one client until it leaves."""

    def __init__(self, pluto: Pluto, stream: Stream) -> None:
        self._pluto, self._stream = pluto, stream
        self._readers: dict[str, BlockReader] = {}
        self._writers: dict[str, BlockWriter] = {}
        self._answers: dict[str, Callable[[Command], None]] = {
            "": lambda command: None,
            "HELP": lambda command: stream.send(_HELP.encode()),
            "VERSION": lambda command: stream.send(_VERSION[:12].encode() + b"\n"),
            "PRINT": self._print,
            "TIMEOUT": self._timeout,
            "OPEN": self._open,
            "CLOSE": self._close,
            "READ": self._read,
            "WRITE": self._write,
            "READBUF": self._read_buffer,
            "WRITEBUF": self._write_buffer,
            "SET": self._set_blocks,
            "GETTRIG": self._trigger,
            "SETTRIG": self._trigger,
        }

    def serve(self) -> None:
        """Answer until the client leaves or is gone; its buffers are closed then."""
        medium = self._pluto.engine.medium
        try:
            medium.join()
        except ConnectionError:
            return
        try:
            while True:
                try:
                    command = parse(self._stream.line())
                except MalformedError:
                    self._number(-errno.EINVAL)
                    continue
                if command.verb == "EXIT":
                    return
                try:
                    self._answers[command.verb](command)
                except RefusedError as refusal:
                    self._number(-refusal.code)
        except ConnectionError:
            return
        finally:
            for name in [*self._readers, *self._writers]:
                self._let_go(name)
            medium.join(leave=True)

    # -- answers ----------------------------------------------------------------------------------------------

    def _number(self, value: int) -> None:
        self._stream.send(b"%d\n" % value)

    def _print(self, command: Command) -> None:
        xml = self._pluto.xml
        self._stream.send(b"%d\n" % len(xml), xml, b"\n")

    def _timeout(self, command: Command) -> None:
        self._pluto.engine.timeout_s = command.count / 1e3 if command.count else None
        self._number(0)

    def _trigger(self, command: Command) -> None:
        self._device(command)
        raise RefusedError(errno.ENOENT)

    def _device(self, command: Command) -> Device:
        device = self._pluto.device(command.device)
        if device is None:
            raise RefusedError(errno.ENODEV)
        return device

    def _set_blocks(self, command: Command) -> None:
        device = self._device(command)
        if device is self._pluto.receiver_device:
            self._pluto.receiver.set_blocks(command.count)
        elif device is self._pluto.transmitter_device:
            self._pluto.transmitter.set_blocks(command.count)
        else:
            raise RefusedError(errno.ENOSYS)
        self._number(0)

    # -- attributes -------------------------------------------------------------------------------------------

    def _channel(self, command: Command) -> Channel:
        channel = self._device(command).channel(command.channel, output=command.kind == "output")
        if channel is None:
            raise RefusedError(errno.ENXIO)
        return channel

    def _attributes(self, command: Command) -> list[Attribute]:
        if command.kind in ("input", "output"):
            channel = self._channel(command)
            return [channel.attribute(command.attribute)] if command.attribute else channel.attributes
        device = self._device(command)
        if command.attribute:
            return [device.attribute(command.kind, command.attribute)]
        return device.of_kind(command.kind)

    def _read(self, command: Command) -> None:
        attributes = self._attributes(command)
        if command.attribute:
            value = self._value(attributes[0])
            self._stream.send(b"%d\n" % len(value), value, b"\n")
            return
        answer = bytearray()
        for attribute in attributes:
            try:
                value = self._value(attribute)
            except RefusedError as refusal:
                answer += struct.pack(">i", -refusal.code)
                continue
            answer += struct.pack(">i", len(value)) + value + bytes(-len(value) % 4)
        self._stream.send(b"%d\n" % len(answer), bytes(answer), b"\n")

    def _value(self, attribute: Attribute) -> bytes:
        with self._pluto.lock:
            return attribute.read().encode() + b"\0"

    def _write(self, command: Command) -> None:
        if command.count > _ATTRIBUTE_BYTES:
            self._number(-errno.ENOMEM)
            raise ConnectionAbortedError("what follows cannot be told from commands")
        # First what was sent, then what is wrong with it: the client has sent it already.
        data = self._stream.exactly(command.count)
        attributes = self._attributes(command)
        if command.attribute:
            self._store(attributes[0], bytes(data))
            self._number(command.count)
            return
        place = 0
        for attribute in attributes:
            if len(data) - place < 4:
                raise RefusedError(errno.EINVAL)
            (size,) = struct.unpack_from(">i", data, place)
            place += 4
            if size <= 0:
                continue
            if size > len(data) - place:
                raise RefusedError(errno.EINVAL)
            self._store(attribute, bytes(data[place : place + size]))
            place += size + -size % 4
        self._number(command.count)

    def _store(self, attribute: Attribute, data: bytes) -> None:
        try:
            text = data.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise RefusedError(errno.EINVAL) from None
        with self._pluto.lock:
            attribute.write(text)

    # -- buffers ----------------------------------------------------------------------------------------------

    def _open(self, command: Command) -> None:
        device = self._device(command)
        if device.id in self._readers or device.id in self._writers:
            raise RefusedError(errno.EBUSY)
        columns = _columns(device, command.mask)
        if device is self._pluto.receiver_device:
            self._readers[device.id] = self._pluto.receiver.open(columns, command.count, cyclic=command.cyclic)
        elif device is self._pluto.transmitter_device:
            self._writers[device.id] = self._pluto.transmitter.open(columns, command.count, cyclic=command.cyclic)
        else:
            raise RefusedError(errno.ENOENT)
        self._number(0)

    def _close(self, command: Command) -> None:
        device = self._device(command)
        if not self._let_go(device.id):
            raise RefusedError(errno.ENXIO)
        self._number(0)

    def _let_go(self, identity: str) -> bool:
        if reader := self._readers.pop(identity, None):
            self._pluto.receiver.close(reader)
        elif writer := self._writers.pop(identity, None):
            self._pluto.transmitter.close(writer)
        else:
            return False
        return True

    def _read_buffer(self, command: Command) -> None:
        device = self._device(command)
        reader = self._readers.get(device.id)
        if reader is None:
            raise RefusedError(errno.EBADF)
        size = 2 * len(reader.columns)
        left = command.count
        if left < size:
            self._number(0)
            return
        mask = b"%08x\n" % sum(1 << column for column in reader.columns)
        while left >= size:
            block = self._pluto.receiver.block(reader)
            data = self._pluto.receiver.selected(block, reader.columns).data.cast("B")[: left - left % size]
            self._stream.send(b"%d\n" % len(data) + mask, data)
            mask = b""
            left -= len(data)
        if left:
            self._number(0)
        self._pluto.engine.prepare()

    def _write_buffer(self, command: Command) -> None:
        device = self._device(command)
        writer = self._writers.get(device.id)
        if writer is None:
            raise RefusedError(errno.EBADF)
        size = 2 * len(writer.columns)
        if command.count < size:
            self._number(0)
            return
        if command.count > _BUFFER_BYTES:
            raise RefusedError(errno.ENOMEM)
        self._number(0)
        left = command.count
        refused: RefusedError | None = None
        while left >= size:
            data = self._stream.exactly(min(left, size * writer.samples))
            left -= len(data)
            try:
                if refused is None:
                    self._pluto.transmitter.push(writer, data)
            except RefusedError as refusal:
                refused = refusal
        self._stream.exactly(left)
        if refused is not None:
            raise refused
        self._number(command.count)


def _columns(device: Device, mask: str) -> list[int]:
    """Scan elements that a mask of eight digits for each 32 channels chooses."""
    words = -(-len(device.channels) // 32)
    if len(mask) != 8 * words:
        raise RefusedError(errno.EINVAL)
    try:
        bits = int(mask, 16)
    except ValueError:
        raise RefusedError(errno.EINVAL) from None
    columns = [
        channel.scan_index
        for place, channel in enumerate(device.channels)
        if bits >> place & 1 and channel.scan_index is not None
    ]
    if not columns:
        raise RefusedError(errno.EINVAL)
    return columns


class _Transcript:
    """A client that has said everything beforehand, and is gone after that."""

    def __init__(self, said: bytes) -> None:
        self._said = bytearray(said)
        self.heard = bytearray()

    def line(self) -> bytes:
        """Next line of what it said; see `Stream`."""
        end = self._said.find(b"\n")
        if end < 0:
            raise ConnectionResetError("the client is gone")
        line = bytes(self._said[:end])
        del self._said[: end + 1]
        return line

    def exactly(self, count: int) -> bytearray:
        """So many bytes of what it said; see `Stream`."""
        if count > len(self._said):
            raise ConnectionResetError("the client is gone")
        data = self._said[:count]
        del self._said[:count]
        return data

    def send(self, *parts: bytes | memoryview) -> None:
        """Keep what it hears; see `Stream`."""
        for part in parts:
            self.heard += part


def converse(pluto: Pluto, said: bytes) -> bytes:
    """What a Pluto answers to a client that says ``said`` and is gone then, without any network."""
    transcript = _Transcript(said)
    Session(pluto, transcript).serve()
    return bytes(transcript.heard)
