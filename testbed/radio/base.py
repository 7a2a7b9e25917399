"""The contract that every radio keeps.

No code outside a driver asks what kind of radio it has: it asks for a capability. What a radio applied is what
counts, not what it was asked for; a driver that loses samples says where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture, Departure, Stretch
from testbed.errors import RunError, UserError

__all__ = ["Applied", "Capabilities", "Radio", "RadioError", "Reception", "RefusalError", "Settings", "command_error"]


@dataclass(frozen=True)
class Capabilities:
    """What a device can do."""

    time_stamps: bool
    """It counts samples across recordings, and stamps receptions and departures with the count."""
    timed_transmit: bool
    """It starts a transmission at the sample it is told."""
    full_duplex: bool
    """It receives while it transmits."""
    channels: int
    """Receive channels."""
    rates_hz: tuple[float, float]
    """Lowest and highest sample rate."""


@dataclass(frozen=True)
class Settings:
    """What a radio is asked for."""

    carrier_hz: Fraction
    rate_hz: Fraction
    antennas: int
    tx_power_dbm: float
    start_lead_s: float = 0.0
    """From the call of `Radio.receive` to its first sample, the same on every node so that they begin together."""


@dataclass(frozen=True)
class Applied:
    """What a radio did with it."""

    carrier_hz: Fraction
    """Local oscillator, exact."""
    rate_hz: Fraction
    """Sample rate, exact."""
    details: dict[str, Any] = field(default_factory=dict)
    """Gains, bandwidth, serial number, firmware, clock source: for the record."""


@dataclass(frozen=True)
class Reception:
    """One contiguous request's worth of samples, as far as they were not lost."""

    samples: NDArray[np.int16]
    """Shape (antenna, sample, 2): in-phase and quadrature; what was lost is not in it, and where nothing says what
    that is, all is left out."""
    full_scale: int
    """Count that stands for full scale."""
    stretches: tuple[Stretch, ...]
    """Runs without loss, in order."""
    stream: int
    """Grows by one whenever the device's stream was started anew."""
    departures: tuple[Departure, ...] = ()
    """Time-stamped departures, one for each transmission in this reception; empty where the device cannot."""
    truth: dict[str, Any] | None = None
    """Simulation only: the clock's realisation at knots."""
    events: tuple[dict[str, str], ...] = ()
    """What went wrong: {code, text}."""
    conditions: dict[str, float] = field(default_factory=dict)
    """What was measured of the device meanwhile, where it tells: ``temperature_c``; beside `Applied.details`."""

    def capture(
        self, node: str, index: int, applied: Applied, departures: tuple[Departure, ...], settings: dict[str, Any]
    ) -> Capture:
        """The reception as what ``node`` recorded in round ``index``, with the departures of its slot's frames."""
        return Capture(
            node=node,
            round=index,
            samples=self.samples,
            full_scale=self.full_scale,
            rate_hz=applied.rate_hz,
            carrier_hz=applied.carrier_hz,
            stretches=self.stretches,
            stream=self.stream,
            departures=departures,
            settings=settings,
            truth=self.truth,
            events=self.events,
        )


class Radio(Protocol):
    """A radio with its driver."""

    @property
    def capabilities(self) -> Capabilities:
        """What the device can do."""
        ...

    def configure(self, settings: Settings) -> Applied:
        """What was applied; whatever was queued or recorded before is void.

        Raises
        ------
        RefusalError
            If the device cannot do what it is asked, or is another than the experiment means.
        RadioError
            If it does not answer.
        """
        ...

    def transmit(self, samples: NDArray[np.complex64], *, offset_samples: int) -> None:
        """Queue ``samples`` (peak at most one) to leave ``offset_samples`` after the next reception's first sample.

        They are of shape (sample,), for the first antenna that transmits, or (antenna, sample) where the device has
        several. A device without timed transmission starts late by a latency that is constant within a stream.
        """
        ...

    def receive(self, samples: int) -> Reception:
        """Record ``samples`` samples on every antenna, transmitting meanwhile what is queued.

        Raises
        ------
        RadioError
            If the device is gone.
        """
        ...

    def close(self) -> None:
        """Let go of the device; never raises, may be called twice."""
        ...


class RadioError(Exception):
    """The device cannot do what it is asked, or is gone; the text says which, in one line."""


class RefusalError(RadioError):
    """The device answers, but cannot do what the experiment asks, or is not the one that it names: to try again is
    of no use before the experiment, or the device, is another."""


def command_error(error: RadioError) -> RunError | UserError:
    """What a command ends with: a refusal is the user's to mend, whatever else a run's failure."""
    return UserError(str(error)) if isinstance(error, RefusalError) else RunError(str(error))
