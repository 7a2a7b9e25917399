"""What one node recorded in one round: the unit that live radios, recordings and simulation all yield."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.moment import Moment

__all__ = ["Capture", "Departure", "Stretch"]


@dataclass(frozen=True)
class Stretch:
    """A run of samples without loss."""

    start: int
    """Index of its first sample in the capture's array."""
    samples: int
    first_tick: int
    """Device's sample counter at its first sample; counts from 0 where the device has no counter."""


@dataclass(frozen=True)
class Departure:
    """A transmission whose start the device time-stamped."""

    frame: int
    """Frame within the node's slot."""
    tick: int
    fraction: float


@dataclass(frozen=True)
class Capture:
    """One node's recording of one round, on the node's own clock."""

    node: str
    round: int
    samples: NDArray[np.int16] | NDArray[np.float32]
    """As the radio gave them, shape (antenna, sample, 2): in-phase and quadrature; float32 from others' recordings."""
    full_scale: int
    """Count that stands for full scale: 2^11 for the Pluto's 12 bits, 2^15 for USRP, 1 for float32."""
    rate_hz: Fraction
    """Applied sample rate, exact."""
    carrier_hz: Fraction
    """Applied local oscillator, exact."""
    stretches: tuple[Stretch, ...]
    """Runs without loss, in order; continuity of the counter is claimed only where first_tick says so."""
    stream: int
    """Grows by one whenever the device's stream was started anew: the transmit-receive latency holds within one."""
    departures: tuple[Departure, ...] = ()
    """Time-stamped departures; empty where the device cannot."""
    settings: dict[str, Any] | None = None
    """Device settings applied in this round: gains, bandwidth, serial number, clock source."""
    truth: dict[str, Any] | None = None
    """Simulation only: the clock's realisation at knots; see `testbed.truth`."""
    events: tuple[dict[str, str], ...] = ()
    """What went wrong in this round: {code, text}."""

    @property
    def begin(self) -> Moment:
        """Reading of the node's counter at the first sample."""
        return Moment(self.node, self.stretches[0].first_tick, 0.0, self.rate_hz)
