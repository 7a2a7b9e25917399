"""Radio time of one Pluto: its sample counter, what it is set to and sends when, and what it has recorded.

Two clocks. Virtual time stands still until samples are asked for: receptions follow each other without a gap, as fast
as they can be made, and the same commands give the same bits. On the wall clock samples come and go whether anybody
asks or not: finished blocks wait in the kernel's queue, and what finds no free block is lost.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from sim_backend.pluto.attributes import RefusedError
from sim_backend.pluto.emissions import Counts, Emission, window
from sim_backend.pluto.fpga_filters import LEAD, decimated
from sim_backend.pluto.gains import automatic_gain_db
from sim_backend.pluto.medium import Medium
from sim_backend.pluto.sender import WAIT_S, Sender
from sim_backend.pluto.settings import Settings

__all__ = ["Engine"]

_AGC_SAMPLES = 16_384
"""Stretch whose power an automatic gain is chosen by."""
_HISTORY = 64
_MOST_AHEAD = 1 << 20


class Engine(Sender):
    """Time of a Pluto, its settings, and what it records; `Sender` has what it sends.

    All methods may be called by any thread.
    """

    def __init__(self, medium: Medium, settings: Settings, **how: Any) -> None:
        super().__init__(medium, settings, **how)
        self.overflow = False
        self._queue: deque[tuple[int, Counts | None]] = deque()
        """Blocks that are being filled: first tick, and the samples if they had to be rendered already."""
        self._held = False
        """Whether the reader has a block that will be queued again."""
        self._decimation = 1
        self._blocks = 0
        self._ahead: tuple[tuple[object, ...], Counts] | None = None
        """A stretch that was rendered before it was asked for, and its circumstances."""
        self._number = 0
        """Blocks that were handed out in virtual time."""
        self._filled = 0
        """Tick up to which blocks are queued."""
        self._unarmed = 0
        """Blocks that wait for the TDD engine's trigger to be queued."""
        self._edge: int | None = None
        """First edge after the trigger that they waited for."""

    # -- time and settings ------------------------------------------------------------------------------------

    def change_settings(self, **values: object) -> None:
        """Set the hardware anew, from now on."""
        with self.change:
            old = self.settings
            new = replace(old, **values)  # type: ignore[arg-type]
            if new == old:
                return
            now = self.now()
            if new.rate_hz != old.rate_hz:
                self._change_rate(now, new)
            else:
                self._timeline.append((now, new))
            if len(self._timeline) > _HISTORY:
                self._freeze(now)
                del self._timeline[:-1]
            tunes = (old.rate_hz, old.receive_tune, old.transmit_tune)
            if (new.rate_hz, new.receive_tune, new.transmit_tune) != tunes:
                self.medium.tuned(new)
            self.change.notify_all()

    def _change_rate(self, now: int, new: Settings) -> None:
        """Finished blocks keep what they hold; the counter, what is sent and what is being filled start anew."""
        self._freeze(now)
        ratio = new.rate_hz / self.settings.rate_hz
        tick = ceil(now * ratio)
        kept = []
        for emission in self._emissions:
            if emission.stop is not None and emission.stop <= now:
                continue
            if emission.cyclic or emission.start >= now:
                kept.append(replace(emission, start=tick + max(ceil((emission.start - now) * ratio), 0)))
            else:
                kept.append(replace(emission, start=tick, samples=emission.samples[now - emission.start :]))
        self._emissions = kept
        if self._sending is not None:
            self._sending = tick + sum(len(emission.samples) for emission in kept if not emission.cyclic)
        finished = [entry for entry in self._queue if entry[1] is not None]
        unfinished = len(self._queue) - len(finished)
        self._queue = deque((tick - self._block, samples) for _, samples in finished)
        self._queue.extend((tick + index * self._block, None) for index in range(unfinished))
        self._filled = tick + unfinished * self._block
        self._tick = tick
        self._timeline = [(tick, new)]

    def _freeze(self, now: int) -> None:
        """Render the blocks that are finished by now with what they were recorded with."""
        self._queue = deque(
            (first, self._render(first, self._block) if samples is None and first + self._block <= now else samples)
            for first, samples in self._queue
        )

    # -- receiving --------------------------------------------------------------------------------------------

    def open_receiver(self, samples: int, blocks: int) -> None:
        """Begin to fill ``blocks`` blocks of ``samples`` samples."""
        with self.change:
            start = self.now()
            self._decimation = self._factors[False]
            self._block, self._blocks, self._held = samples * self._decimation, blocks, False
            self._tick = max(self._tick, start)
            self._queue.clear()
            self._unarmed, self._edge = 0, None
            if self.gate.waits("receive"):
                self._unarmed = blocks
            else:
                self._fill(start, blocks)
            self.change.notify_all()

    def close_receiver(self) -> None:
        """Stop filling blocks; whoever waits for one is told EBADF."""
        with self.change:
            self._note_overflow()
            self._block = self._unarmed = 0
            self._ahead = None
            self._queue.clear()
            self.change.notify_all()

    def refill(self) -> Counts:
        """Next block, shape (samples, 2·channels).

        Raises
        ------
        RefusedError
            EBADF if the receiver is not, or no longer, open; ETIMEDOUT if the block does not come in time.
        """
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        with self.change:
            self._await_trigger(deadline)
            if not self._block:
                raise RefusedError(errno.EBADF)
            if self.wall:
                return self._next_block(deadline)
        return self._next_stretch()

    def _next_block(self, deadline: float | None) -> Counts:
        """On the wall clock: the oldest block, when it is full; the reader's last one is queued again."""
        if self._held:
            self._note_overflow()
            start = self._armed(max(self._filled, self.now()), "receive")
            self._queue.append((start, None))
            self._filled = start + self._block
        size = self._block
        while self._block == size and self._queue:
            first, samples = self._queue[0]
            missing = first + size - self.now()
            if samples is not None or missing <= 0:
                self._forget()
                self._queue.popleft()
                self._held = True
                return self._render(first, size) if samples is None else samples
            left = missing / float(self.settings.rate_hz)
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    self._held = False
                    raise RefusedError(errno.ETIMEDOUT)
            self.change.wait(min(left + 1e-4, WAIT_S))
        raise RefusedError(errno.EBADF)

    def _await_trigger(self, deadline: float | None) -> None:
        """Wait for the trigger that the receiver's DMA waits for."""
        while self._unarmed:
            if not self._block:
                raise RefusedError(errno.EBADF)
            if deadline is not None and time.monotonic() >= deadline:
                raise RefusedError(errno.ETIMEDOUT)
            self.change.wait(WAIT_S)

    def _next_stretch(self) -> Counts:
        """In virtual time: what follows the last stretch, or the TDD engine's next edge.

        Without the lock while the others are waited for: this device's own transmitter must go on meanwhile.
        """
        moment = self.medium.meet(self._block, self.rate_hz)
        try:
            with self.change:
                size = self._block
                start = self._begin(moment)
        finally:
            self.medium.settle()
        with self.change:
            if not size or self._block != size:
                raise RefusedError(errno.EBADF)
            self._follow_level(start)
            key, counts = self._ahead or (None, None)
            self._ahead = None
            if counts is None or key != self._circumstances(start):
                counts = self._render(start, size)
            self._filled = self._tick = start + size
            self.medium.advance(self._tick, self.rate_hz)
            self._note_underflow()
            self._forget()
            return counts

    def prepare(self) -> None:
        """Render the next stretch while the client is busy with the last one, in case nothing is changed meanwhile."""
        with self.lock:
            if self.wall or not self.medium.alone or not 0 < self._block <= _MOST_AHEAD or self._unsent:
                return
            if self._blocks == 1 or self.gate.enable:
                return
            self._ahead = self._circumstances(self._filled), self._render(self._filled, self._block)

    def _circumstances(self, start: int) -> tuple[object, ...]:
        """All that a stretch depends on; emissions are compared by identity."""
        return (start, self._block, self._decimation, self._timeline[-1], *self._emissions)

    def _begin(self, moment: int) -> int:
        """First tick of the next stretch; what was pushed since the last one is sent from there on.

        A single kernel buffer is filled from when it is asked for: what happened meanwhile is lost.
        """
        earliest = max(self._filled, moment if self._blocks == 1 or not self._held else 0)
        earliest += self.medium.lost(self._number)
        self._number += 1
        # A DMA that had been armed before the trigger came starts at the first edge, however late it is asked.
        start = self._armed(earliest, "receive") if self._edge is None else self._edge
        self._edge = None
        if start > self._filled and self._held:
            self.overflow = True
        self._held = True
        unsent, self._unsent = self._unsent, []
        for samples, cyclic in unsent:
            self._send(start, samples, cyclic)
        return start

    def _note_overflow(self) -> None:
        """Samples were lost if the last queued block is full and none is free."""
        if self.wall and self._block and not self._unarmed and self.now() > self._filled:
            self.overflow = True

    def _render(self, first: int, samples: int) -> Counts:
        """Counts of a stretch, behind the FPGA's filter."""
        if self.wall:
            self._follow_level(first)
        if self._decimation == 1:
            return self._counts(first, samples)
        return decimated(self._counts(first - LEAD, samples + LEAD))

    def _counts(self, first: int, samples: int) -> Counts:
        """Counts of a stretch at the transceiver's interface, each part with what was set then."""
        cuts = [first, *(tick for tick, _ in self._timeline if first < tick < first + samples), first + samples]
        parts = []
        for begin, end in pairwise(cuts):
            settings = next((s for tick, s in reversed(self._timeline) if tick <= begin), self._timeline[0][1])
            parts.append(self._part(begin, end - begin, settings))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, first: int, samples: int, settings: Settings) -> Counts:
        if settings.loopback == 1:
            return window(self._emissions, first, samples, 2 * self.medium.channels) >> 4
        return self.medium.receive(first, samples, settings, self._heard(settings))

    def _heard(self, settings: Settings) -> list[Emission]:
        return [] if settings.loopback == 2 else self._emissions

    def _follow_level(self, first: int) -> None:
        """Let the automatic gain controls settle on what arrives from ``first`` on."""
        settings = self.settings
        if all(mode == "manual" for mode in settings.agc) or not settings.listening:
            return
        gains = []
        for channel, (mode, gain) in enumerate(zip(settings.agc, settings.receive_gain_db, strict=True)):
            if mode != "manual":
                power = self.power_dbm(channel, first)
                gain = automatic_gain_db(mode, int(gain), power, float(settings.receive_hz))
            gains.append(float(gain))
        if tuple(gains) != settings.receive_gain_db:
            tick = max(first, self._timeline[-1][0])
            self._timeline.append((tick, replace(settings, receive_gain_db=tuple(gains))))

    def settle(self) -> None:
        """Let the automatic gain controls settle on what arrives now."""
        with self.lock:
            self._follow_level(self.now())

    def power_dbm(self, channel: int, first: int | None = None) -> float:
        """Power at a receiver's port, from ``first`` or from now on."""
        with self.lock:
            tick = self.now() if first is None else first
            settings = self.settings
            return self.medium.power_dbm(channel, tick, _AGC_SAMPLES, settings, self._heard(settings))

    # -- the rest ---------------------------------------------------------------------------------------------

    def pulse(self) -> None:
        """A synchronization pulse arrives: the TDD engine starts, and the DMAs that wait for it, at its first edge."""
        with self.change:
            tick = self.now() if self.wall else max(self._tick, self.medium.present(self.rate_hz))
            self.gate.pulse(tick)
            if self._unarmed and not self.gate.waits("receive"):
                blocks, self._unarmed = self._unarmed, 0
                self._edge = self._armed(tick, "receive")
                self._fill(tick, blocks)
            if self._waiting is not None and not self.gate.waits("transmit"):
                self._emissions.append(replace(self._waiting, start=self._armed(tick, "transmit")))
                self._waiting = None
            self.change.notify_all()

    def _oldest(self) -> int:
        return min([self.now(), *(first for first, _ in self._queue)])

    def _fill(self, tick: int, blocks: int) -> None:
        """Queue ``blocks`` blocks from ``tick`` on."""
        self._filled = tick
        for _ in range(blocks if self.wall else 0):
            start = self._armed(self._filled, "receive")
            self._queue.append((start, None))
            self._filled = start + self._block

    def status(self, *, transmit: bool) -> int:
        """Status register of a converter core: bit 2 overflow, or bit 0 underflow."""
        with self.lock:
            if transmit:
                self._note_underflow()
                return int(self.underflow)
            self._note_overflow()
            return int(self.overflow) << 2

    def clear(self, value: int, *, transmit: bool) -> None:
        """Clear the flags whose bits are one."""
        with self.lock:
            if transmit and value & 1:
                self.underflow = False
            if not transmit and value & 4:
                self.overflow = False

    def factor(self, *, transmit: bool) -> int:
        """Decimation or interpolation in the FPGA."""
        return self._factors[transmit]

    def set_factor(self, factor: int, *, transmit: bool) -> None:
        """Choose it; it holds from the next buffer on."""
        with self.lock:
            self._factors[transmit] = factor

    @property
    def block_samples(self) -> int:
        """Samples of the receive buffer's blocks; 0 while it is closed."""
        return self._block // self._decimation

    def abandon(self) -> None:
        """Let nobody wait any longer: the device goes away."""
        with self.change:
            self.close_receiver()
            self._gone = True
            self.change.notify_all()
