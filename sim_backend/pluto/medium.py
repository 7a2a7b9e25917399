"""What lies between transmitters and a Pluto's receiver, as its engine sees it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from sim_backend.pluto.emissions import Counts, Emission
from sim_backend.pluto.settings import Settings

if TYPE_CHECKING:
    from sim_backend.pluto.engine import Engine

__all__ = ["FULL_SCALE_DBM", "Medium"]

FULL_SCALE_DBM = 7.0
"""Power of a carrier of full scale without attenuation, at the antenna connector (AD9363 data sheet, 2.4 GHz)."""


class Medium:
    """What lies between transmitters and a Pluto's receiver.

    By itself a Pluto has its time to itself: the methods that tell time say so.
    """

    channels: int
    alone = True
    """Nobody else's doing matters to what this device receives."""

    def attach(self, engine: Engine) -> None:
        """Know the device whose medium this is."""

    def warm(self, settings: Settings) -> None:
        """Have everything compiled: a client gives up after five seconds."""
        tone = np.full((256, 2 * self.channels), 4096, dtype=np.int16)
        self.receive(0, 256, settings, [Emission(0, tone, False, 0), Emission(128, tone, True, 0)])
        self.receive(1 << 20, 256, replace(settings, transmit_hz=settings.receive_hz), [Emission(0, tone, True, 0)])

    def truth(self) -> dict[str, Any] | None:
        """What the device's clock really did during the last reception, where others want to know."""
        return None

    def receive(self, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> Counts:
        """Counts on ``samples`` ticks from ``first`` on, shape (samples, 2·channels)."""
        raise NotImplementedError

    def power_dbm(self, channel: int, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> float:
        """Mean power at a receiver's port during those ticks, thermal noise included."""
        raise NotImplementedError

    def tick_after(self, elapsed_s: float, rate_hz: Fraction) -> int:
        """What the counter reads so many seconds of true time after the device was switched on."""
        return int(elapsed_s * float(rate_hz))

    def present(self, rate_hz: Fraction) -> int:
        """Tick before which, in virtual time, nothing can be changed any more, since others have recorded it."""
        return 0

    def advance(self, tick: int, rate_hz: Fraction) -> None:
        """Say that everything before ``tick`` has been recorded."""

    def meet(self, samples: int, rate_hz: Fraction) -> int:
        """Wait, in virtual time, until the others want to receive too; the tick from which this one may."""
        return self.present(rate_hz)

    def settle(self) -> None:
        """Say, after a meeting, that what this device sends is known, and wait until everybody's is."""

    def wire(self) -> None:
        """Send the TDD engine's output pulse to the other devices' inputs."""

    def join(self, *, leave: bool = False) -> None:
        """A client of this device has come, or has left; raises `ConnectionError` if it cannot be served."""

    def tuned(self, settings: Settings) -> None:
        """Say that a synthesizer was tuned or the rate was changed."""

    def lost(self, block: int) -> int:
        """Samples that are lost before a block, because the host was too slow for them."""
        return 0
