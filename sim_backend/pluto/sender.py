"""What a Pluto sends, and the time that it does so in: the part of its engine that others hear."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from sim_backend.pluto.attributes import RefusedError
from sim_backend.pluto.emissions import Counts, Emission
from sim_backend.pluto.fpga_filters import interpolated
from sim_backend.pluto.medium import Medium
from sim_backend.pluto.settings import Settings
from sim_backend.pluto.tdd import Gate
from sim_backend.randomness import generator

__all__ = ["CLOCKS", "WAIT_S", "Sender"]

CLOCKS = ("virtual", "wall")
WAIT_S = 0.05
"""Longest sleep without looking whether the client is still there."""
_MOST_UNSENT = 1 << 27
_REACH = 1 << 16
"""Ticks for which what was sent is kept; longer than any cable's or filter's delay."""
_OTHERS_S = 2.0
"""Seconds for which it is kept where others may be behind."""


class Sender:
    """Counter, settings over time, and transmitter of a Pluto whose medium is ``medium``.

    Ticks count samples of the present rate since the device was switched on; after a change of rate they are
    converted.

    Parameters
    ----------
    clock : str
        One of `CLOCKS`.
    seed : int
    latency_s : float
        Bound of the latency from a push to the antenna.
    seconds : function
        Reads the clock on the wall.
    """

    def __init__(
        self,
        medium: Medium,
        settings: Settings,
        *,
        clock: str = "virtual",
        seed: int = 0,
        latency_s: float = 1e-3,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        if clock not in CLOCKS:
            raise ValueError(f"a clock is one of {', '.join(CLOCKS)}, got {clock!r}")
        self.lock = threading.RLock()
        self.change = threading.Condition(self.lock)
        self.medium = medium
        self.wall = clock == "wall"
        self.gate = Gate()
        self.underflow = False
        self.timeout_s: float | None = 1.0
        """After which a block that does not come is given up; None waits for ever."""
        self._seed = seed
        self._latency_s = latency_s
        self._seconds = seconds
        self._began = seconds()
        self._tick = 0
        """Virtual time: up to where this device has recorded."""
        self._timeline: list[tuple[int, Settings]] = [(0, settings)]
        self._block = 0
        """Ticks of a received block; 0 while nobody receives."""
        self._emissions: list[Emission] = []
        self._sending: int | None = None
        """Tick up to which pushed blocks reach; None while no plain transmit buffer is open or nothing was pushed."""
        self._stream = 0
        self._source = "dds"
        self._tones: Counts | None = None
        self._plays = False
        self._factors = {False: 1, True: 1}
        self._gone = False
        self._unsent: list[tuple[Counts, bool]] = []
        """In virtual time: what was pushed since the last reception, and whether it is to be repeated."""
        self._waiting: Emission | None = None
        """What is sent as soon as the TDD engine's trigger comes."""

    @property
    def emissions(self) -> list[Emission]:
        """What is being sent, and was lately; a list of its own, which any thread may ask for without the lock."""
        return list(self._emissions)

    @property
    def timeline(self) -> list[tuple[int, Settings]]:
        """(tick, settings from there on), likewise."""
        return list(self._timeline)

    @property
    def settings(self) -> Settings:
        """What the hardware is set to now."""
        return self._timeline[-1][1]

    def now(self) -> int:
        """Present tick."""
        if not self.wall:
            return self._tick if self._block else max(self._tick, self.medium.present(self.rate_hz))
        return self.medium.tick_after(self._seconds() - self._began, self.rate_hz)

    @property
    def rate_hz(self) -> Fraction:
        """Sample rate, exact at the nominal reference."""
        return self.settings.rate_hz

    def _armed(self, tick: int, purpose: str) -> int:
        """Tick at which a DMA that is ready at ``tick`` starts: then, or at the TDD engine's next edge."""
        return self.gate.next_edge(tick, purpose)

    def open_transmitter(self) -> None:
        """Take the DMA for the source of what is sent."""
        with self.change:
            self._stream += 1
            self._sending = None
            self._plays = False
            self._select("dma")

    def close_transmitter(self) -> None:
        """Stop what is being sent, and go back to the DDS."""
        with self.change:
            self._note_underflow()
            self._sending = None
            self._stop_all()
            self._select("dds")
            self.change.notify_all()

    def push(self, samples: Counts, *, cyclic: bool, blocks: int) -> None:
        """Send samples, shape (sample, 2·channels), after those pushed before, or round and round.

        Raises
        ------
        RefusedError
            EBUSY if a cyclic buffer plays already; ETIMEDOUT if no block becomes free in time.
        """
        with self.change:
            if self._plays:
                raise RefusedError(errno.EBUSY)
            if self._factors[True] != 1:
                samples = interpolated(samples, cyclic=cyclic)
            self._note_underflow()
            if not self.wall and self._block and not self.gate.waits("transmit"):
                # Time stands still until the next reception: it leaves after that one's begin.
                self._keep(samples, cyclic)
                return
            # Others may have recorded further than this device has: what it sends now they hear from then on.
            if self.wall and not cyclic:
                self._await_room(blocks)
            self._send(max(self._tick, self.now()), samples, cyclic)
            if self.wall:
                self._forget()
            elif not cyclic:
                self._let_play(blocks)

    def _keep(self, samples: Counts, cyclic: bool) -> None:
        if sum(len(kept) for kept, _ in self._unsent) > _MOST_UNSENT:
            raise RefusedError(errno.ETIMEDOUT)
        self._plays = cyclic
        self._unsent.append((samples, cyclic))

    def _send(self, present: int, samples: Counts, cyclic: bool) -> None:
        """Send from ``present`` on, after the latency or what was pushed before."""
        begin = present + self._latency() if self._sending is None else max(self._sending, present)
        if self._sending is None:
            begin = self._armed(begin, "transmit")
        emission = Emission(begin, samples, cyclic, self._stream)
        self._plays = cyclic
        if self.gate.waits("transmit"):
            self._waiting = emission
            return
        self._emissions.append(emission)
        if not cyclic:
            self._sending = begin + len(samples)

    def _await_room(self, blocks: int) -> None:
        """On the wall clock: wait until fewer than ``blocks`` blocks are still to be played."""
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        while True:
            if self._gone:
                raise RefusedError(errno.ENODEV)
            now = self.now()
            ends = [e.stop for e in self._emissions if not e.cyclic and e.stop is not None and e.stop > now]
            if len(ends) < blocks:
                return
            left = (ends[-blocks] - now) / float(self.settings.rate_hz)
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    raise RefusedError(errno.ETIMEDOUT)
            self.change.wait(min(left + 1e-4, WAIT_S))

    def _let_play(self, blocks: int) -> None:
        """In virtual time, while nobody receives: play until no more blocks are queued than the kernel has."""
        ends = [e.stop for e in self._emissions if not e.cyclic and e.stop is not None and e.stop > self._tick]
        if len(ends) > blocks:
            self._tick = ends[-blocks - 1]
            self._forget()

    def _latency(self) -> int:
        """Samples from a push to the antenna, unknown to the client, the same as long as the buffer is open."""
        most = int(self._latency_s * float(self.settings.rate_hz))
        if not most:
            return 0
        random = generator(self._seed, self.settings.name, "start latency", self._stream)
        return int(random.integers(most, endpoint=True))

    def _note_underflow(self) -> None:
        if self._sending is not None and self.now() > self._sending:
            self.underflow = True

    def play_tones(self, tones: Counts | None) -> None:
        """Play one period of the DDS's tones, or nothing, unless a buffer is open."""
        with self.change:
            self._tones = tones
            if self._source == "dds":
                self._stop_all()
                self._select("dds")

    def take_tones(self) -> None:
        """Take the DDS for the source of what is sent, even from a buffer that is open."""
        with self.change:
            self._source = "dds"

    def _select(self, source: str) -> None:
        if source == "dma":
            self._stop_all()
        self._source = source
        if source == "dds" and self._tones is not None:
            self._emissions.append(Emission(self.now(), self._tones, True, self._stream))

    def _stop_all(self) -> None:
        now = self.now()
        self._emissions = [
            emission if emission.stop is not None and emission.stop <= now else replace(emission, end=now)
            for emission in self._emissions
        ]
        self._plays = False
        self._waiting = None
        self._unsent.clear()
        self._forget()

    def _oldest(self) -> int:
        """First tick that may still have to be rendered for this device itself."""
        return self.now()

    def _forget(self) -> None:
        """Drop what was sent and set before anything that may still be rendered, by others too."""
        reach = _REACH if self.medium.alone else int(_OTHERS_S * float(self.rate_hz))
        oldest = self._oldest() - reach
        self._emissions = [e for e in self._emissions if e.stop is None or (e.stop > oldest and e.stop > e.start)]
        current = max((index for index, (tick, _) in enumerate(self._timeline) if tick <= oldest), default=0)
        del self._timeline[:current]
