"""The nodes of the experiment file: where each stands, its clock, and the radio that it has."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from testbed.scenario_domains import Delay, Name, NonNegative, Table, Vector

__all__ = ["OSCILLATORS", "Clock", "FrontEnd", "Node", "Pluto", "PowerLaw", "Usrp"]


class PowerLaw(Table, frozen=True, kw_only=True):
    """Power-law spectrum of an oscillator's fractional frequency, S_y(f) = sum of h_a·f^a, one-sided, per hertz."""

    random_walk_fm: NonNegative = 0.0
    """h of f^-2, in hertz."""
    flicker_fm: NonNegative = 0.0
    """h of f^-1, without unit."""
    white_fm: NonNegative = 0.0
    """h of f^0, in 1/Hz."""
    flicker_pm: NonNegative = 0.0
    """h of f^1, in 1/Hz²."""
    white_pm: NonNegative = 0.0
    """h of f^2, in 1/Hz³."""


OSCILLATORS = {
    "ideal": PowerLaw(),
    # Least squares in decibels, within 0.6 dB, through the phase noise at 40 MHz of docs/methods/oscillators.md
    # (typical crystals).
    "tcxo": PowerLaw(random_walk_fm=5.22e-23, flicker_fm=3.34e-22, white_fm=7.62e-24, white_pm=7.06e-31),
    "cheap-tcxo": PowerLaw(random_walk_fm=4.43e-21, flicker_fm=7.89e-21, white_fm=3.16e-23, white_pm=1.65e-30),
    "ocxo": PowerLaw(
        random_walk_fm=8.86e-25, flicker_fm=2.99e-24, white_fm=7.91e-26, flicker_pm=8.59e-28, white_pm=3.09e-31
    ),
    # Likewise through the vendor's rows for a B2x0's oscillator at 10 MHz; disciplined, it does not walk.
    "gpsdo": PowerLaw(flicker_fm=1.27e-21, flicker_pm=1.81e-26, white_pm=1.10e-29),
}
"""Spectra behind the names that `Clock.profile` takes."""


class Clock(Table, frozen=True, kw_only=True):
    """A simulated node's oscillator; it drives local oscillator and converters alike."""

    offset_ppm: Annotated[float, Meta(ge=-200, le=200)] = 0.0
    """Frequency offset in parts per million; positive: the clock runs fast."""
    offset_s: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.0
    """What the clock reads beyond true time at the run's begin, in seconds."""
    drift_ppm_per_s: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    """Linear frequency drift in parts per million per second."""
    profile: Literal["ideal", "tcxo", "cheap-tcxo", "ocxo", "gpsdo"] | PowerLaw = "tcxo"
    """Noise: a named oscillator, or a table of power-law coefficients."""

    @property
    def power_law(self) -> PowerLaw:
        """Coefficients of the profile."""
        return OSCILLATORS[self.profile] if isinstance(self.profile, str) else self.profile


class FrontEnd(Table, frozen=True, kw_only=True):
    """A simulated node's radio between antenna and numbers; the defaults are a cheap one's."""

    time_stamps: bool = False
    """The device stamps receptions and departures with its sample counter."""
    start_latency_s: Annotated[float, Meta(ge=0, le=1e-3)] = 1e-3
    """Without time stamps a transmission begins late by an unknown whole number of samples up to this, in seconds,
    constant within a stream."""
    noise_figure_db: Annotated[float, Meta(ge=0, le=60)] | Literal["off"] = 5.0
    """Receiver's noise over 290 K in decibels; "off": no thermal noise at all."""
    bits: Annotated[int, Meta(ge=4, le=16)] = 12
    """Bits of the converters."""
    level_dbfs: Annotated[float, Meta(ge=-80, le=20)] = -12.0
    """Root mean square of the strongest expected signal below full scale in decibels; sets the receive gain."""
    gain_db: Annotated[float, Meta(ge=-100, le=200)] | None = None
    """Receive gain in decibels: full scale is -gain_db dBm; absent: chosen once by level_dbfs."""
    phase_noise_deg: Annotated[float, Meta(ge=0, le=20)] = 0.5
    """Root mean square of each synthesizer's own phase noise in degrees, transmit and receive independent."""
    phase_noise_bandwidth_hz: Annotated[float, Meta(ge=1e3, le=1e6)] = 50e3
    """Loop bandwidth of the synthesizers in hertz."""
    common_phase: bool = False
    """The synthesizers lock to one phase on every node and at every start, as a common local oscillator makes them."""
    gain_imbalance_db: Annotated[float, Meta(ge=-6, le=6)] = 0.03
    """Gain of the in-phase over the quadrature branch in decibels."""
    phase_imbalance_deg: Annotated[float, Meta(ge=-30, le=30)] = 0.2
    """Departure of the branches from a right angle, in degrees."""
    dc_offset: Annotated[tuple[float, ...], Meta(min_length=2, max_length=2)] = (0.002, 0.001)
    """Offset of the in-phase and the quadrature branch as shares of full scale."""
    lost_buffer_probability: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Chance that a buffer of received samples is lost."""
    buffer_samples: Annotated[int, Meta(ge=1024)] = 65536
    """Samples in a buffer."""
    transmit_delay_s: Delay = 0.0
    """Delay of the transmit chain, T, in seconds."""
    receive_delay_s: Delay = 0.0
    """Delay of the receive chain, R, in seconds."""
    leakage_delay_s: Delay = 1e-10
    """Delay of the leakage from the node's own transmitter to its own receiver, l, in seconds."""


class Pluto(Table, frozen=True, kw_only=True):
    """An ADALM-Pluto; what it cannot do is refused by its driver."""

    uri: str = "ip:192.168.2.1"
    """Address as libiio takes it; empty: found on USB by its serial number. "simulated" for one in the simulated
    surroundings."""
    serial: str = ""
    """Serial number that it must have; needed where the address is empty."""
    rx_gain_db: Annotated[float, Meta(ge=-10, le=77)] = 40.0
    """Receive gain in decibels, fixed."""
    tx_attenuation_db: Annotated[float, Meta(ge=0, le=89.75)] = 20.0
    """Transmit attenuation in decibels, in steps of 0.25."""
    bandwidth_hz: Annotated[float, Meta(ge=200e3, le=56e6)] | None = None
    """Analogue filters; absent: 0.9 of the sample rate."""
    fir: str = ""
    """File of FIR filters (.ftr), on the machine of its agent; empty: the library's for the rate."""
    tracking: bool = False
    """Whether quadrature and DC offset tracking go on during the run; they follow the signal that is to be measured."""
    kernel_buffers: Annotated[int, Meta(ge=1, le=64)] = 2
    """Buffers of a round's length that the device sets aside; with one alone, lost samples are not noticed."""
    receive_lag_s: Annotated[float, Meta(ge=0, le=1)] = 1e-3
    """About how much later than its transmitter its receiver starts, in seconds: transmissions are held back by so
    much. They begin up to twice as much late; not if simulated, nor with the TDD engine."""
    alignment: Literal["preamble", "common-clock", "tdd"] = "preamble"
    """What it shares with others: nothing; a 40 MHz clock; or, through the TDD engine, the edge that starts it."""
    edge: Literal["soft", "external"] = "soft"
    """The TDD engine's edge: its own host's command, or that on pin L12N."""
    common_clock: bool = False
    """Whether it has an external 40 MHz beside the edge, for the record."""

    @property
    def simulated(self) -> bool:
        """Whether it stands in the simulated surroundings."""
        return self.uri == "simulated"

    def bandwidth_at(self, rate_hz: float) -> int:
        """RF bandwidth that the device is given at a sample rate."""
        return round(self.bandwidth_hz or min(max(0.9 * rate_hz, 200e3), 56e6))


class Usrp(Table, frozen=True, kw_only=True):
    """A USRP; what its model cannot do is refused by its driver."""

    args: str = ""
    """Device arguments as UHD takes them: serial=… or addr=…, master_clock_rate=…. "type=simulated" for one in the
    simulated surroundings."""
    clock_source: Literal["internal", "external", "gpsdo", "mimo"] = "internal"
    """Where its oscillator's 10 MHz comes from."""
    time_source: Literal["none", "internal", "external", "gpsdo", "mimo", "sfp0"] = "none"
    """Where its pulses per second come from; "none" starts its counter at zero."""
    require_lock: bool = True
    """Refuse to run unless clock and time sources lock; false: run on its own clock and say so in every round."""
    rx_gain_db: Annotated[float, Meta(ge=0, le=120)] = 30.0
    """Receive gain of every channel in decibels."""
    tx_gain_db: Annotated[float, Meta(ge=0, le=120)] = 0.0
    """Transmit gain in decibels; the default is the least the device can do."""
    rx_antenna: str = ""
    """Antenna port to receive on, as the device names it ("RX2", "TX/RX"); empty: the device's own choice."""
    tx_antenna: str = ""
    """Antenna port to transmit on; empty: the device's own choice."""
    rx_subdev: str = ""
    """Which front ends are the receive channels, as UHD takes it ("A:A A:B"); empty: the device's own choice."""
    tx_subdev: str = ""
    """Which front ends are the transmit channels; empty: the device's own choice."""
    transmit_channel: Annotated[int, Meta(ge=0, le=3)] = 0
    """Channel that transmits."""
    bandwidth_hz: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    """Analogue filters; absent: the device's own choice."""
    lo_offset_hz: Annotated[float, Meta(ge=-1e8, le=1e8)] = 0.0
    """Local oscillator beside the carrier, which keeps its leakage out of the band; 0: the device's own choice."""
    python: str = ""
    """Interpreter of its agent, with uhd and numpy 1.26; empty: that of `isac run`."""

    @property
    def simulated(self) -> bool:
        """Whether it stands in the simulated surroundings."""
        return "type=simulated" in self.args.replace(" ", "").split(",")


class Node(Table, frozen=True, kw_only=True):
    """A radio with its antennas, and where it stands."""

    name: Name
    """Letters, digits, - and _: names the node everywhere."""
    position_m: Vector
    """Where its first antenna is if the port is shared, else the offsets' origin; in metres: x, y and, if wanted, z."""
    heading_deg: Annotated[float, Meta(ge=-360, le=360)] = 0.0
    """Direction of the array's broadside in degrees, counter-clockwise from the x axis."""
    antennas: Annotated[int, Meta(ge=1, le=4)] = 1
    """Receiving antennas, a uniform line from the first one towards the heading's left."""
    transmit_antennas: Annotated[int, Meta(ge=1, le=4)] = 1
    """Transmitting antennas, if simulated: a uniform line like the receiving ones'. Its slot leaves by the first one,
    what `[signalling]` has it send by all."""
    antenna_spacing_m: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Distance between neighbouring antennas in metres; 0: half the carrier's wavelength."""
    port: Literal["shared", "separate"] = "shared"
    """"shared": transmits through the first receiving antenna; "separate": the two offsets say where each is."""
    tx_offset_m: Vector = (0.0, 0.0)
    """Transmit antenna from the position, in metres: along the heading, to its left and, if wanted, up."""
    rx_offset_m: Vector = (0.0, 0.0)
    """First receiving antenna from the position, likewise."""
    tx_power_dbm: Annotated[float, Meta(ge=-100, le=50)] = 0.0
    """Transmit power at full scale in dBm."""
    radio: Literal["simulated", "pluto", "usrp", "recorded"] = "simulated"
    """What stands there."""
    agent: Literal["local", "remote"] = "local"
    """"local": `isac run` starts its agent; "remote": one started with `isac node` is awaited."""
    clock: Clock = Clock()
    """Oscillator, if simulated."""
    front_end: FrontEnd = FrontEnd()
    """Radio's imperfections, if simulated."""
    pluto: Pluto | None = None
    """Which Pluto, if it is one."""
    usrp: Usrp | None = None
    """Which USRP, if it is one."""

    @property
    def in_ether(self) -> bool:
        """Whether its radio meets others in the simulated surroundings."""
        table = {"usrp": self.usrp, "pluto": self.pluto}.get(self.radio)
        return self.radio == "simulated" or (table is not None and table.simulated)
