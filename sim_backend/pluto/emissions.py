"""What a Pluto's transmitter sends, on its own sample counter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Emission", "tone_table", "window"]

Counts = NDArray[np.int16]

TONE_PERIOD = 65536
"""Every tone of the DDS, whose increments have 16 bits, repeats after so many samples."""


@dataclass(frozen=True, eq=False)
class Emission:
    """Samples that the DAC plays from a tick on."""

    start: int
    samples: Counts
    """Shape (sample, 2·channels), in-phase and quadrature, as they were pushed."""
    cyclic: bool
    stream: int
    """How often the transmit buffer had been opened before."""
    end: int | None = None
    """Tick at which it was stopped, if it was."""

    @property
    def stop(self) -> int | None:
        """Tick after its last sample; None while it goes on."""
        if self.cyclic:
            return self.end
        whole = self.start + len(self.samples)
        return whole if self.end is None else min(whole, self.end)

    @cached_property
    def power(self) -> NDArray[np.float64]:
        """Mean power of each channel relative to full scale, shape (channel,)."""
        kept = (self.samples >> 4).astype(np.float32) / 2048.0
        return np.asarray(np.mean(kept[:, 0::2] ** 2 + kept[:, 1::2] ** 2, axis=0, dtype=np.float64))

    def hits(self, first: int, last: int) -> bool:
        """Whether any of it falls on the ticks from ``first`` up to ``last``, the latter left out."""
        return self.start < last and (self.stop is None or self.stop > first)

    def covers(self, first: int, last: int) -> bool:
        """Whether it goes on all through those ticks."""
        return self.start <= first and (self.stop is None or self.stop >= last)


def window(emissions: list[Emission], first: int, samples: int, width: int) -> Counts:
    """What the DAC plays on ``samples`` ticks from ``first``, shape (samples, width); zeros where nothing is sent."""
    played = np.zeros((samples, width), dtype=np.int16)
    for emission in emissions:
        if not emission.hits(first, first + samples):
            continue
        begin = max(emission.start, first)
        end = first + samples if emission.stop is None else min(emission.stop, first + samples)
        period = len(emission.samples)
        while begin < end:
            place = (begin - emission.start) % period
            run = min(end - begin, period - place)
            played[begin - first : begin - first + run] = emission.samples[place : place + run]
            begin += run
    return played


def tone_table(increments: list[int], phases: list[int], scales: list[float]) -> Counts:
    """One period of a channel pair from four tones: in-phase 1 and 2, quadrature 1 and 2; shape (sample, 2).

    Each tone is scale times the sine of a 16-bit phase; the two of a branch add up and saturate.
    """
    place = np.arange(TONE_PERIOD, dtype=np.int64)
    branches = []
    for pair in (slice(0, 2), slice(2, 4)):
        total = np.zeros(TONE_PERIOD)
        for increment, phase, scale in zip(increments[pair], phases[pair], scales[pair], strict=True):
            if scale:
                total += scale * np.sin(2 * np.pi * ((place * increment + phase) & 0xFFFF) / 65536)
        branches.append(np.clip(np.round(total * 32767), -32768, 32767).astype(np.int16))
    return np.stack(branches, axis=1)
