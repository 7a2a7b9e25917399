"""Open buffers: who reads and writes which channels, and the blocks that they share."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_backend.pluto.attributes import RefusedError
from sim_backend.pluto.engine import Engine

__all__ = ["BlockReader", "BlockWriter", "Receiver", "Transmitter"]

_RETRIES = 500
_RETRY_S = 1e-4
"""A client closes one buffer and opens the next on different connections, which may overtake each other."""
DEFAULT_BLOCKS = 4
_MOST_SAMPLES = 1 << 26
_MOST_BLOCKS = 64


@dataclass(eq=False)
class BlockReader:
    """One client that receives."""

    columns: list[int]
    """Scan elements that it wants."""
    samples: int


@dataclass(eq=False)
class BlockWriter:
    """One client that sends."""

    columns: list[int]
    samples: int
    cyclic: bool


def _check(samples: int) -> None:
    if not 1 <= samples <= _MOST_SAMPLES:
        raise RefusedError(errno.EINVAL if samples < 1 else errno.ENOMEM)


class Receiver:
    """The receive buffer, which any number of clients read together: a block goes to all who wait for it."""

    def __init__(self, engine: Engine, width: int) -> None:
        self._engine = engine
        self.width = width
        self.blocks = DEFAULT_BLOCKS
        self._lock = threading.Condition()
        self._readers: list[BlockReader] = []
        self._filling = False
        self._number = 0
        self._latest: NDArray[np.int16] | RefusedError = RefusedError(errno.EBADF)

    def open(self, columns: list[int], samples: int, *, cyclic: bool) -> BlockReader:
        """Join the readers; the block has the size of the largest that any of them wants."""
        _check(samples)
        if cyclic:
            raise RefusedError(errno.EPERM)
        reader = BlockReader(columns, samples)
        with self._lock:
            self._readers.append(reader)
            self._reopen()
        return reader

    def close(self, reader: BlockReader) -> None:
        """Leave the readers."""
        with self._lock:
            if reader not in self._readers:
                return
            self._readers.remove(reader)
            self._reopen()
            self._lock.notify_all()

    def _reopen(self) -> None:
        """As the kernel does when readers come or go: a new buffer for those who are there."""
        self._engine.close_receiver()
        if self._readers:
            self._engine.open_receiver(max(reader.samples for reader in self._readers), self.blocks)

    def set_blocks(self, count: int) -> None:
        """Choose how many blocks the kernel keeps; EBUSY while the buffer is open."""
        if not 1 <= count <= _MOST_BLOCKS:
            raise RefusedError(errno.EINVAL)
        _retried(lambda: not self._readers)
        self.blocks = count

    def block(self, reader: BlockReader) -> NDArray[np.int16]:
        """Next block, all channels, shape (samples, width); shared with whoever waits at the same time."""
        with self._lock:
            if reader not in self._readers:
                raise RefusedError(errno.EBADF)
            if self._filling:
                number = self._number
                while self._filling and self._number == number:
                    self._lock.wait()
                if isinstance(self._latest, RefusedError):
                    raise RefusedError(self._latest.code)
                return self._latest
            self._filling = True
        result: NDArray[np.int16] | RefusedError
        try:
            result = self._engine.refill()
        except RefusedError as refusal:
            result = refusal
        except BaseException:
            result = RefusedError(errno.EIO)
            raise
        finally:
            with self._lock:
                self._filling = False
                self._number += 1
                self._latest = result
                self._lock.notify_all()
        if isinstance(result, RefusedError):
            raise result
        return result

    def selected(self, block: NDArray[np.int16], columns: list[int]) -> NDArray[np.int16]:
        """Channels of a block that a reader wants, interleaved."""
        if len(columns) == self.width:
            return block
        return np.ascontiguousarray(block[:, columns])


class Transmitter:
    """The transmit buffer, which belongs to one client at a time."""

    def __init__(self, engine: Engine, width: int) -> None:
        self._engine = engine
        self.width = width
        self.blocks = DEFAULT_BLOCKS
        self._lock = threading.Lock()
        self._writer: BlockWriter | None = None

    def open(self, columns: list[int], samples: int, *, cyclic: bool) -> BlockWriter:
        """Take the buffer; EBUSY if another client does not let go of it within 50 ms."""
        _check(samples)
        writer = BlockWriter(columns, samples, cyclic)

        def take() -> bool:
            with self._lock:
                if self._writer is not None:
                    return False
                self._writer = writer
                return True

        _retried(take)
        self._engine.open_transmitter()
        return writer

    def close(self, writer: BlockWriter) -> None:
        """Let go of the buffer."""
        with self._lock:
            if self._writer is not writer:
                return
            self._engine.close_transmitter()
            self._writer = None

    def set_blocks(self, count: int) -> None:
        """Choose how many blocks the kernel keeps; EBUSY while the buffer is open."""
        if not 1 <= count <= _MOST_BLOCKS:
            raise RefusedError(errno.EINVAL)
        _retried(lambda: self._writer is None)
        self.blocks = count

    def push(self, writer: BlockWriter, data: bytearray) -> None:
        """Send a block of the writer's channels; what it does not write is zero."""
        given = np.frombuffer(data, dtype="<i2")
        given = given[: given.size // len(writer.columns) * len(writer.columns)].reshape(-1, len(writer.columns))
        if not len(given):
            raise RefusedError(errno.EINVAL)
        if len(writer.columns) == self.width:
            samples = given
        else:
            samples = np.zeros((len(given), self.width), dtype=np.int16)
            samples[:, writer.columns] = given
        self._engine.push(samples, cyclic=writer.cyclic, blocks=self.blocks)


def _retried(done: object) -> None:
    assert callable(done)
    for _ in range(_RETRIES):
        if done():
            return
        time.sleep(_RETRY_S)
    raise RefusedError(errno.EBUSY)
