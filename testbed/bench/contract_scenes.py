"""Links made from clocks and paths alone, one maker for each input that a synchronization method needs.

Nothing here comes from the code under test: what a receiver's clock and oscillator make of the transmitter's is
written out path by path (methods section 1), and truth is read off the clocks. Each maker takes what is to be broken,
so that the suite (`testbed.bench.contract`) and the study of assumptions (`testbed.bench.applicability`) share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import pi

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.synchronization.base import Observation

__all__ = ["ANTENNAS", "CARRIER_HZ", "RATE_HZ", "Clock", "Grid", "Link", "Path", "heard", "turned", "two_clocks"]

RATE_HZ = Fraction(61_440_000)
CARRIER_HZ = 5.8e9
ANTENNAS = 4
FORWARD_S, REVERSE_S = 0.02, 0.032
"""True times at which the two slots leave."""
_ACQUIRED_S, _ACQUIRED_HZ = 30e-9, 100.0
"""What the coarse stage leaves of the offsets, at most."""


@dataclass(frozen=True)
class Clock:
    """Reading theta + (1 + delta)·t at true time t."""

    name: str
    delta: float
    theta_s: float

    def reading_s(self, true_s: FloatArray | float) -> FloatArray | float:
        """What the clock reads at ``true_s``."""
        return self.theta_s + (1.0 + self.delta) * true_s


@dataclass(frozen=True)
class Path:
    """One path; delay at the middle of the forward slot, to the array's first antenna."""

    gain: complex
    delay_s: float
    doppler_hz: float = 0.0
    sine: float = 0.0
    """Of the bearing at a uniform array of half a wavelength."""


@dataclass(frozen=True)
class Grid:
    """Resource elements of one slot."""

    subcarriers: int = 96
    spacing_hz: float = 480e3
    symbols: int = 32
    symbol_s: float = 0.25e-3

    @property
    def subcarrier_hz(self) -> FloatArray:
        """Symmetric about an empty carrier."""
        half = np.arange(1, self.subcarriers // 2 + 1)
        return np.asarray(self.spacing_hz * np.concatenate([-half[::-1], half]))

    @property
    def band_hz(self) -> float:
        """Between the outermost subcarriers, and one more."""
        return (self.subcarriers + 1) * self.spacing_hz

    @property
    def length_s(self) -> float:
        """Of the slot."""
        return self.symbols * self.symbol_s

    @property
    def nominal_s(self) -> FloatArray:
        """Centres of the symbols after the slot's first sample, on the transmitter's clock."""
        return np.asarray((np.arange(self.symbols) + 0.6) * self.symbol_s)


@dataclass(frozen=True)
class Link:
    """What a method receives, and the truth about it."""

    observation: Observation
    receiver: Clock
    transmitter: Clock
    grid: Grid
    mover: Path | None = None
    """The moving path, against the line of sight: delay in excess of it at the middle of the slot."""
    bounds: dict[str, float] = field(default_factory=dict)
    """Of each quantity, by name, for the channel as drawn."""
    fraction: float = 0.0
    """Of a sample, by which the arrival misses the reference that the coarse stage left."""
    two_way: bool = False

    def offset_s(self, epoch: Moment) -> float:
        """s_n - s_m at the instant at which the epoch's clock reads it."""
        here, there = self.receiver, self.transmitter
        reading_s = (epoch.tick + epoch.fraction) / float(RATE_HZ)
        true_s = (reading_s - here.theta_s) / (1.0 + here.delta)
        return float(here.reading_s(true_s) - there.reading_s(true_s))

    @property
    def cfo_hz(self) -> float:
        """Per second of the receiver's clock; of the two clocks' mean where both directions are used."""
        n, m = self.receiver.delta, self.transmitter.delta
        return CARRIER_HZ * (m - n) / (1.0 + (0.5 * (m + n) if self.two_way else n))


def two_clocks(generator: np.random.Generator, ppm: float = 5.0) -> tuple[Clock, Clock]:
    """Receiver n's and transmitter m's clock."""
    n, m = (Clock(name, generator.uniform(-ppm, ppm) * 1e-6, generator.uniform(0.0, 0.01)) for name in "nm")
    return n, m


def turned(generator: np.random.Generator, level_db: float = 0.0) -> complex:
    """Amplitude of that level, at a random phase."""
    return complex(10.0 ** (level_db / 20.0) * np.exp(2j * pi * generator.uniform()))


def heard(
    generator: np.random.Generator,
    clocks: tuple[Clock, Clock],
    paths: Sequence[Path],
    *,
    grid: Grid,
    snr_db: float,
    departure_true_s: float = FORWARD_S,
    antennas: int = 1,
    restless: bool = False,
    cfo_missed_hz: float | None = None,
) -> tuple[ChannelState, Moment, ComplexArray]:
    """CSI, the departure, and the noise-free channel at n of m, evaluated path by path.

    ``restless`` gives every symbol a carrier phase of its own. A wave that crosses the array turns from antenna to
    antenna and reaches each at another time. ``cfo_missed_hz`` is what the coarse stage leaves of the CFO; a few hertz
    at random if not given. Noise is ``snr_db`` below the paths' total power on each antenna.
    """
    n, m = clocks
    departure_s = float(m.reading_s(departure_true_s))
    reference = Moment.at(
        n.name,
        (
            float(n.reading_s(departure_true_s))
            + min(path.delay_s for path in paths)
            + generator.uniform(-_ACQUIRED_S, _ACQUIRED_S)
        )
        * float(RATE_HZ),
        RATE_HZ,
    )
    missed_hz = generator.uniform(-_ACQUIRED_HZ, _ACQUIRED_HZ) if cfo_missed_hz is None else cfo_missed_hz
    cfo_reference_hz = CARRIER_HZ * (m.delta - n.delta) / (1.0 + n.delta) - missed_hz
    nominal_s, f = grid.nominal_s, grid.subcarrier_hz
    since_s = nominal_s / (1.0 + cfo_reference_hz / CARRIER_HZ)
    true_s = ((reference.tick + reference.fraction) / float(RATE_HZ) + since_s - n.theta_s) / (1.0 + n.delta)
    origin_s = FORWARD_S + 0.5 * grid.length_s
    values = np.zeros((antennas, len(nominal_s), len(f)), dtype=np.complex128)
    for path in paths:
        flight_s = path.delay_s - path.doppler_hz / CARRIER_HZ * (true_s - origin_s)
        advance_s = m.delta * (true_s - flight_s) - n.delta * true_s - flight_s  # s_m(t - tau) - s_n(t), less thetas
        turns = CARRIER_HZ * advance_s - cfo_reference_hz * since_s
        position_s = np.asarray(m.reading_s(true_s - flight_s)) - departure_s - nominal_s
        one = np.exp(2j * pi * (turns % 1.0))[:, None] * np.exp(2j * pi * np.outer(position_s, f))
        steps = path.sine * np.outer(np.arange(antennas), 1.0 + f / CARRIER_HZ)
        values += path.gain * np.exp(1j * pi * steps)[:, None, :] * one
    values *= np.exp(2j * pi * (generator.uniform(size=(grid.symbols, 1)) if restless else generator.uniform()))
    noise = sum(abs(path.gain) ** 2 for path in paths) * 10.0 ** (-snr_db / 10.0)
    scatter = generator.normal(scale=np.sqrt(0.5 * noise), size=(*values.shape, 2)).view(np.complex128)[..., 0]
    state = ChannelState(
        values=values + scatter,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=f,
        symbol_s=since_s,
        reference=reference,
        cfo_reference_hz=cfo_reference_hz,
        carrier_hz=Fraction(round(CARRIER_HZ)),
        noise=np.full(antennas, noise),
        frame_of_symbol=np.zeros(grid.symbols, dtype=np.intp),
    )
    return state, Moment.at(m.name, departure_s * float(RATE_HZ), RATE_HZ), values
