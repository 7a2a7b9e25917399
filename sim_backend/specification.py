"""What a simulated world consists of. Names carry their units; defaults describe a cheap radio."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from sim_backend.clocks import PowerLaw, preset

__all__ = ["ClockSpec", "FrontEndSpec", "NodeSpec", "ReflectorSpec", "SceneSpec", "WorldSpec"]


@dataclass(frozen=True)
class ClockSpec:
    """The one oscillator of a node, which drives its LO and converters alike."""

    offset_ppm: float = 0.0
    """Fractional frequency error at the start of the world."""
    offset_s: float = 0.0
    """What the clock reads at the start of the world."""
    drift_ppm_per_s: float = 0.0
    profile: str | PowerLaw | None = "tcxo"
    """Name of `sim_backend.clocks.PRESETS`, a spectrum, or None for an oscillator without noise."""

    def noise(self) -> PowerLaw | None:
        """Spectrum of the oscillator's noise."""
        return preset(self.profile) if isinstance(self.profile, str) else self.profile


@dataclass(frozen=True)
class FrontEndSpec:
    """Everything between antenna and numbers; every impairment can be switched off by its neutral value."""

    noise_figure_db: float | None = 5.0
    """Over 290 K; None receives without any noise."""
    level_dbfs: float = -12.0
    """Root mean square of the strongest expected signal below full scale; sets the gain unless ``gain_db`` does."""
    gain_db: float | None = None
    """Receive gain: full scale is -gain_db dBm. None chooses it once, by ``level_dbfs``."""
    bits: int | None = 12
    """Converter's resolution; None gives 16 bits at a full scale of 2^15 as the nearest to no converter."""
    phase_noise_deg: float = 0.5
    """Root mean square of each synthesizer's own phase noise; transmit and receive are independent."""
    phase_noise_bandwidth_hz: float = 50e3
    """Loop bandwidth: the noise is flat below and falls by 20 dB a decade above."""
    common_phase: bool = False
    """Whether the synthesizers lock to a phase that is the same on every node and at every start."""
    gain_imbalance_db: float = 0.03
    """Gain of the in-phase against the quadrature branch."""
    phase_imbalance_deg: float = 0.2
    """Departure of the branches from a right angle. With the default gain imbalance the image is at -52 dB."""
    dc_offset: complex = 0.002 + 0.001j
    """Share of full scale."""
    lost_buffer_probability: float = 0.0
    """Chance that a buffer of received samples is lost."""
    buffer_samples: int = 65536
    transmit_delay_s: float = 0.0
    """T, from the converter's clock edge to the antenna."""
    receive_delay_s: float = 0.0
    """R, from the antenna to the converter's clock edge."""
    leakage_delay_s: float = 1e-10
    """l, from the transmit to the receive antenna's port inside the node."""
    time_stamps: bool = False
    """Whether the device knows on its counter when it received and transmitted."""
    start_latency_samples: int = 20_000
    """Without time stamps transmissions start late by an unknown whole number of samples up to this, constant
    within a stream."""


@dataclass(frozen=True)
class NodeSpec:
    """A radio at a place.

    ``heading_deg`` is the direction of the array's broadside, counter-clockwise from the x axis. Vectors in the
    node's frame are (forward along the heading, to its left[, up]) in metres.
    """

    name: str
    position_m: tuple[float, ...] = (0.0, 0.0)
    """Of the first receive antenna where the port is shared; of the frame's origin where it is separate."""
    heading_deg: float = 0.0
    antennas: int = 1
    """Receive antennas, a uniform line from the first towards the heading's left."""
    antenna_spacing_m: float = 0.0625
    transmit_antennas: int = 1
    """Transmit antennas, a uniform line of the same spacing and direction from where the port says."""
    port: str = "shared"
    """"shared": transmits from the first receive antenna; "separate": from ``tx_offset_m``."""
    tx_offset_m: tuple[float, ...] = (0.0, 0.0)
    """Transmit antenna in the node's frame; only with separate ports."""
    rx_offset_m: tuple[float, ...] = (0.0, 0.0)
    """First receive antenna in the node's frame; only with separate ports."""
    tx_power_dbm: float = 0.0
    """Power of a carrier of full scale."""
    carrier_hz: Fraction = Fraction(2_400_000_000)
    """Applied, exact: see `sim_backend.synthesizer`."""
    rate_hz: Fraction = Fraction(20_000_000)
    """Applied, exact."""
    clock: ClockSpec = field(default_factory=ClockSpec)
    front_end: FrontEndSpec = field(default_factory=FrontEndSpec)


@dataclass(frozen=True)
class ReflectorSpec:
    """A point that scatters isotropically."""

    position_m: tuple[float, ...]
    """At the start of the world."""
    velocity_mps: tuple[float, ...] = (0.0, 0.0)
    rcs_m2: float = 1.0
    name: str = ""
    """Named by its place in the list if empty."""


@dataclass(frozen=True)
class SceneSpec:
    """What lies between the nodes."""

    line_of_sight: bool = True
    reflectors: tuple[ReflectorSpec, ...] = ()
    snr_db: float | None = None
    """Signal over thermal noise per resource element and direction, total over the paths at the world's start.
    Scales each link as a whole, so that its paths keep their relative levels; None uses the link budget."""
    leakage_db: float | None = None
    """A node's own signal at its own receiver above the strongest distant node's total; None for a radio that does
    not hear itself."""
    own_echoes: bool = True
    """Whether a node that hears its leakage also hears its own echoes from the reflectors."""


@dataclass(frozen=True)
class WorldSpec:
    """Nodes, scene, and the seed of everything random."""

    nodes: tuple[NodeSpec, ...]
    scene: SceneSpec = field(default_factory=SceneSpec)
    seed: int = 0
    reference_bandwidth_hz: float | None = None
    """Occupied bandwidth in which ``snr_db`` is meant: subcarriers times spacing. None takes the rate."""
    reference_power: float | None = None
    """Mean power of transmitted samples (full scale is 1) for which ``snr_db`` and levels are meant. None takes it
    from the first transmissions rendered."""
