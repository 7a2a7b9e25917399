"""Streamers of the fake `uhd`: samples read and sent, with the metadata and the faults of the real ones."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_backend.fake_uhd.device import Device
from sim_backend.fake_uhd.types import (
    RXMetadata,
    RXMetadataErrorCode,
    StreamArgs,
    StreamCMD,
    StreamMode,
    TXAsyncMetadata,
    TXMetadata,
    TXMetadataEventCode,
)

__all__ = ["RXStreamer", "TXStreamer"]

_COMPONENTS = {"fc32": np.complex64, "sc16": np.int32}
_PACKET = 2000


def _rows(array: NDArray[Any], args: StreamArgs) -> NDArray[Any]:
    """Caller's array as (channel, sample), checked as far as the real library would crash."""
    if array.dtype != _COMPONENTS[args.cpu_format]:
        raise TypeError(f"samples of format {args.cpu_format} in an array of {array.dtype}")
    if not array.flags.c_contiguous:
        raise TypeError("the real library would fill a copy of an array that is not contiguous")
    rows = array.reshape(1, -1) if array.ndim == 1 else array
    if rows.shape[0] != len(args.channels):
        raise RuntimeError(
            f"RuntimeError: Number of RX channels does not match the dimensions of the data array: {rows.shape[0]}"
        )
    return rows


class RXStreamer:
    """Receiving stream of one or more channels."""

    def __init__(self, device: Device, args: StreamArgs) -> None:
        self._device, self._args = device, args
        self._late = False
        self._start: int | None = None
        """Tick of the air's counter from which it streams; None while it does not."""
        self._parts: deque[tuple[NDArray[np.int16], int] | str] = deque()
        """Received and not yet read: samples with their tick, or a loss."""
        self._read_ahead = False

    def get_num_channels(self) -> int:
        """Channels of the stream."""
        return len(self._args.channels)

    def get_max_num_samps(self) -> int:
        """Samples of one packet."""
        return _PACKET

    def issue_stream_cmd(self, command: StreamCMD) -> None:
        """Begin to stream, at a time or at once, or stop."""
        if command.stream_mode is StreamMode.stop_cont:
            self._start = None
            self._parts.clear()
            return
        if command.stream_now:
            if len(self._args.channels) > 1:
                raise RuntimeError(
                    "RuntimeError: Invalid recv stream command - stream now on multiple channels in a single streamer "
                    "will fail to time align."
                )
            start = self._device.air.present()[0]
        else:
            start = self._device.air_tick(command.time_spec)
        self._late = self._device.fails("late") or start < self._device.air.present()[0]
        self._start, self._read_ahead = start, False
        self._device.streams += 1

    def recv(self, np_array: NDArray[Any], metadata: RXMetadata, timeout: float = 0.1) -> int:
        """Samples read into ``np_array``, one packet at most; ``metadata`` tells when they came, or what went wrong."""
        rows = _rows(np_array, self._args)
        code = RXMetadataErrorCode
        if self._start is None:
            metadata._write(code.timeout, None)
            return 0
        if self._late:
            metadata._write(code.late, None)
            self._start, self._late = None, False
            return 0
        if not self._read_ahead:
            until = (self._start - self._device.air.present()[0]) / float(self._device.air.rate_hz)
            if until > timeout:
                metadata._write(code.timeout, None)
                return 0
            self._record(rows.shape[1])
        if not self._parts:
            metadata._write(code.timeout, None)
            return 0
        part = self._parts.popleft()
        if isinstance(part, str):
            metadata._write(code.overflow, None, out_of_sequence=part == "drop")
            return 0
        samples, tick = part
        count = int(min(samples.shape[1], rows.shape[1]))
        rows[:, :count] = np.ascontiguousarray(samples[:, :count]).view(np.int32)[..., 0]
        if count < samples.shape[1]:
            self._parts.appendleft((samples[:, count:], tick + count))
        metadata._write(code.none, self._device.time(tick + self._device.ahead))
        return count

    def _record(self, samples: int) -> None:
        """Have the air deliver the whole of what is asked for, once all that is to be sent has been handed over."""
        assert self._start is not None
        with self._device.lock:
            self._device.lock.wait_for(lambda: not self._device.open_bursts)
        taken = self._device.air.receive(samples, self._start)
        self._read_ahead = True
        counts = taken.samples[self._args.channels] * np.int16(32768 // taken.full_scale)
        expected = self._start
        loss = self._device.arguments.get("loss", "overflow")
        for index, count, tick in taken.runs:
            if tick > expected:
                self._parts.append(loss)
            self._parts.append((counts[:, index : index + count], tick))
            expected = tick + count
        if expected < self._start + samples:
            self._parts.append(loss)


class TXStreamer:
    """Sending stream of one channel."""

    def __init__(self, device: Device, args: StreamArgs) -> None:
        self._device, self._args = device, args
        self._burst: list[NDArray[np.complex64]] = []
        self._tick: int | None = None
        self._words: deque[TXMetadataEventCode] = deque()

    def get_num_channels(self) -> int:
        """Channels of the stream."""
        return len(self._args.channels)

    def get_max_num_samps(self) -> int:
        """Samples of one packet."""
        return _PACKET

    def send(self, np_array: NDArray[Any], metadata: TXMetadata, timeout: float = 0.1) -> int:
        """Samples taken of a burst, which leaves when its end is told."""
        rows = _rows(np_array, self._args)
        if metadata.start_of_burst:
            self._burst = []
            self._tick = self._device.air_tick(metadata.time_spec) if metadata.has_time_spec else None
            with self._device.lock:
                self._device.open_bursts += 1
        self._burst.append(rows[0].copy())
        if metadata.end_of_burst:
            try:
                self._finish()
            finally:
                with self._device.lock:
                    self._device.open_bursts -= 1
                    self._device.lock.notify_all()
        return int(rows.shape[1])

    def _finish(self) -> None:
        samples = np.concatenate(self._burst)
        now = self._device.air.present()[0]
        tick = now if self._tick is None else self._tick
        if tick < now or self._device.fails("late_tx"):
            self._words.append(TXMetadataEventCode.time_error)
            return
        if self._device.fails("underflow"):
            # The rest leaves late, once the host has caught up.
            middle = samples.size // 2
            samples = np.concatenate([samples[:middle], np.zeros(_PACKET, np.complex64), samples[middle:]])
            self._words.append(TXMetadataEventCode.underflow)
        self._device.air.transmit(np.clip(samples.real, -1, 1) + 1j * np.clip(samples.imag, -1, 1), tick)
        self._words.append(TXMetadataEventCode.burst_ack)

    def recv_async_msg(self, async_metadata: TXAsyncMetadata, timeout: float = 0.1) -> bool:
        """Whether there was news of a burst: acknowledged, late, or run dry."""
        if not self._words:
            return False
        async_metadata._write(self._words.popleft(), 0)
        return True
