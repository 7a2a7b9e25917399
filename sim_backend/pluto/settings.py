"""What a Pluto's hardware is set to during a stretch of samples."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sim_backend.pluto.filters import PathFilter
from sim_backend.randomness import generator

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Hashable, so that what depends on it can be kept."""

    rate_hz: Fraction
    """At the converters' interface, exact at the nominal reference."""
    receive_hz: Fraction
    """Local oscillators, exact."""
    transmit_hz: Fraction
    receive_gain_db: tuple[float, ...]
    transmit_gain_db: tuple[float, ...]
    """At most 0, at the attenuator's steps."""
    agc: tuple[str, ...]
    """Mode of each receiver's gain control."""
    loopback: int = 0
    """1: what is sent is received, bit for bit; 2: what is received is sent."""
    listening: bool = True
    radiating: bool = True
    receive_tune: int = 0
    """How often the synthesizer was tuned: it locks at a new phase each time."""
    transmit_tune: int = 0
    stale_factor: float = 1.0
    """How much larger imbalance and offset are than after calibration."""
    receive_path: PathFilter | None = None
    """Filters between antenna and buffer; None passes everything alike."""
    transmit_path: PathFilter | None = None
    name: str = "pluto"

    def phase_turns(self, seed: int) -> float:
        """Transmit less receive synthesizer's phase, turns, in [-1, 1)."""
        sent = generator(seed, self.name, "transmit", "lo phase", self.transmit_tune).uniform()
        return float(sent - generator(seed, self.name, "receive", "lo phase", self.receive_tune).uniform())
