"""What lies between transmitters and a Pluto's receiver, as its engine sees it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim_backend.pluto.emissions import Counts, Emission
from sim_backend.pluto.filters import PathFilter, filtered, reach
from sim_backend.pluto.settings import Settings

if TYPE_CHECKING:
    from sim_backend.pluto.engine import Engine

__all__ = ["FULL_SCALE_DBM", "Medium", "converted", "sent_signal"]

FULL_SCALE_DBM = 7.0
"""Power of a carrier of full scale without attenuation, at the antenna connector (AD9363 data sheet, 2.4 GHz)."""
_CONVERTER = 2048
"""Count that stands for full scale: twelve bits."""


def sent_signal(played: Counts, settings: Settings) -> tuple[NDArray[np.complex64], int]:
    """What leaves the antenna where a transmitter's counts, shape (sample, 2), are played; full scale is one.

    Behind the filters, whose response begins so many samples before the first count as is returned beside it.
    """
    parts = np.ascontiguousarray(played.astype(np.float32) / np.float32(2048.0))
    values = parts.view(np.complex64)[:, 0]
    path, rate_hz = settings.transmit_path, float(settings.rate_hz)
    if path is None:
        return values, 0
    early = reach(path, rate_hz)
    return filtered(np.pad(values, 2 * early), path, rate_hz), early


def converted(fine: Counts, full_scale: int, path: PathFilter | None, rate_hz: float) -> Counts:
    """What the converter delivers, shape (sample, 2·channels), of finer counts, shape (channel, sample, 2).

    Behind the filters, by twice whose `reach` the result is shorter.
    """
    scale = np.float32(_CONVERTER / full_scale)
    values = np.ascontiguousarray(fine * scale, np.float32).view(np.complex64)[..., 0]
    if path is not None:
        values = filtered(values, path, rate_hz)
    parts = np.ascontiguousarray(values).view(np.float32).reshape(*values.shape, 2)
    counts = np.clip(np.round(parts), -_CONVERTER, _CONVERTER - 1).astype(np.int16)
    return np.ascontiguousarray(np.moveaxis(counts, 0, 1).reshape(values.shape[1], -1))


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
