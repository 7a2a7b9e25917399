"""The experiment file: typed, validated, units in the names.

Every key is a field below with the same name; its type states the domain, its sentence the unit and what a special
value means. `load` reads a file, `loads` a text; whatever is wrong raises `UserError` with one line that names the
key, what it got and what it wants: `testbed.scenario_words` has the words for a single key, `testbed.scenario_checks`
the rules that join several.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from testbed.errors import UserError

__all__ = [
    "METHODS",
    "OSCILLATORS",
    "Clock",
    "Experiment",
    "Fingerprint",
    "FrontEnd",
    "Node",
    "Pluto",
    "PowerLaw",
    "Reflector",
    "Round",
    "Scenario",
    "Scene",
    "Sensing",
    "Signalling",
    "Transmission",
    "Usrp",
    "Waveform",
    "dumps",
    "load",
    "loads",
]

METHODS = (
    "reciprocity-mle",
    "reciprocity-mp",
    "reciprocity-structured",
    "spectral-cc",
    "spectral-cc-interpolated",
    "auto",
    "cacc",
    "csi-ratio",
    "csi-ratio-first-order",
    "path-resolved",
    "path-resolved-angle",
    "path-resolved-dictionary",
    "fingerprint",
    "cooperation",
    "cooperation-correlation",
)
"""Methods that an experiment may name."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
WholePositive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(gt=0, lt=1)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Delay = Annotated[float, Meta(ge=0, le=1e-3)]
Vector = Annotated[tuple[float, ...], Meta(min_length=2, max_length=3)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the experiment file: unknown keys are errors."""


class Experiment(_Table, frozen=True, kw_only=True):
    """What is run, how often, and what is made of it."""

    name: Name
    """Letters, digits, - and _: names the run's folder."""
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Seeds payloads and everything simulated: same seed, same bits."""
    rounds: WholePositive = 1
    """Rounds to record."""
    methods: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "reciprocity-mle",
        "reciprocity-mp",
        "spectral-cc-interpolated",
        "cacc",
    )
    """Synchronization methods to run side by side on the same frames."""


class Waveform(_Table, frozen=True, kw_only=True):
    """OFDM numerology, the same for every node."""

    carrier_hz: Annotated[float, Meta(ge=1e6, le=1e11)]
    """Carrier in hertz; the radio applies the nearest it can and says which."""
    sample_rate_hz: Annotated[float, Meta(ge=1e4, le=1e9)]
    """Complex samples per second; the radio applies the nearest it can and says which."""
    fft_size: Annotated[int, Meta(ge=64, le=8192)] = 1024
    """Transform length in samples, a power of two."""
    cp_samples: WholePositive = 128
    """Cyclic prefix in samples; must exceed the scene's largest delay plus the timing uncertainty."""
    active_subcarriers: Annotated[int, Meta(ge=16)] = 800
    """Occupied subcarriers, even, without the one at the carrier."""
    symbols: WholePositive = 64
    """OFDM symbols of a frame, preamble not counted."""
    modulation: Literal["qpsk", "16qam", "64qam"] = "qpsk"
    """Constellation of the payload."""
    pilot_spacing: Annotated[int, Meta(ge=2)] = 8
    """Every so many subcarriers one carries a pilot."""


class Round(_Table, frozen=True, kw_only=True):
    """Who transmits when, while all record."""

    duplex: Literal["half", "full"] = "half"
    """"half": the nodes' slots follow one another; "full": all transmit at once."""
    frames_per_slot: WholePositive = 1
    """Frames that a node sends in its slot."""
    frame_period_s: Annotated[float, Meta(gt=0, le=10)] = 5e-3
    """From one frame's first sample to the next one's, in seconds, a whole number of samples. Frames per slot times
    this is the coherent interval, its inverse the Doppler resolution."""
    guard_s: Annotated[float, Meta(gt=0, le=60)] = 12e-3
    """Silence before, between and after the slots, in seconds; must exceed the uncertainty of the starts."""
    start_spread_s: Seconds = 5e-3
    """The nodes' recordings begin within ± this of each other's schedule, in seconds."""
    start_lead_s: Annotated[float, Meta(ge=0, le=10)] | None = None
    """From the order to record to the first sample, on every node, in seconds; too short, and a USRP says that orders
    come late. Absent: 0.05 where a node is a USRP, else 0."""
    closing: Literal["mesh", "star"] = "mesh"
    """"mesh": clocks are closed over all pairs that hear each other; "star": over those with the first node alone."""
    period_s: Seconds = 0.0
    """From one round's begin to the next one's, in seconds; 0: as soon as the recording allows."""


class Transmission(_Table, frozen=True, kw_only=True):
    """Where it is permitted to transmit."""

    bands_hz: tuple[Annotated[tuple[float, ...], Meta(min_length=2, max_length=2)], ...] = ()
    """Bands, each with its lowest and highest frequency in hertz; what occupies more is refused. Real radios transmit
    only where some are given."""


class Sensing(_Table, frozen=True, kw_only=True):
    """Detection of echoes."""

    false_alarm_rate: Probability = 1e-6
    """Probability of a false alarm in one resolution cell of a delay-Doppler map."""
    remove_clutter: bool = True
    """Subtract what does not move before detecting."""


class Fingerprint(_Table, frozen=True, kw_only=True):
    """What the method `fingerprint` compares with."""

    file: str = ""
    """Fingerprints of an earlier run, the ``fingerprint.npz`` in its folder; relative to the experiment file. Empty:
    each link's own are taken from one of this run's rounds."""
    round: Count | None = None
    """Round to take them from; absent: the first that yields one, each link by itself."""


class PowerLaw(_Table, frozen=True, kw_only=True):
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


class Clock(_Table, frozen=True, kw_only=True):
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


class FrontEnd(_Table, frozen=True, kw_only=True):
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


class Pluto(_Table, frozen=True, kw_only=True):
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


class Usrp(_Table, frozen=True, kw_only=True):
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


class Node(_Table, frozen=True, kw_only=True):
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


class Reflector(_Table, frozen=True, kw_only=True):
    """A thing that reflects, standing or moving."""

    position_m: Vector
    """Where it is when the run begins, in metres."""
    velocity_mps: Vector = (0.0, 0.0)
    """Metres per second along each axis."""
    rcs_m2: Positive = 1.0
    """Radar cross-section in square metres."""
    name: str = ""
    """What the report calls it; empty: reflector-1 and so on."""


class Signalling(_Table, frozen=True, kw_only=True):
    """What stations send together, after the slots of each round, by precoders that `isac signalling` designed."""

    precoders: str
    """File that `isac signalling --out` wrote, relative to the experiment file; or its text."""
    stations: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Nodes that send, in the design's order."""
    users: tuple[str, ...] = ()
    """Nodes that are served, in the design's order."""
    target: str = ""
    """Reflector whose position the stations look for; empty: none."""


class Scene(_Table, frozen=True, kw_only=True):
    """The simulated surroundings."""

    line_of_sight: bool = True
    """Whether the nodes see each other directly."""
    snr_db: Annotated[float, Meta(ge=-30, le=100)] | None = None
    """Signal to noise per resource element and direction, total over the paths; absent: from the link budget."""
    leakage_db: Annotated[float, Meta(ge=-100, le=100)] | Literal["off"] = 40.0
    """Own leakage at a node's receiver above the distant node's signal, in decibels; "off": none, nor own echoes."""
    reflector: tuple[Reflector, ...] = ()
    """Things that reflect."""


class Scenario(_Table, frozen=True, kw_only=True):
    """An experiment, complete."""

    experiment: Experiment
    waveform: Waveform
    round: Round = Round()
    transmission: Transmission = Transmission()
    sensing: Sensing = Sensing()
    fingerprint: Fingerprint = Fingerprint()
    signalling: Signalling | None = None
    node: Annotated[tuple[Node, ...], Meta(min_length=2)]
    scene: Scene = Scene()

    def index(self, name: str) -> int:
        """Place of the node called ``name`` in the file: the identity that its preamble carries.

        Raises
        ------
        UserError
            If there is no such node.
        """
        for index, node in enumerate(self.node):
            if node.name == name:
                return index
        raise UserError(f"no node is called {name!r}: there are {', '.join(node.name for node in self.node)}")


def load(path: Path | str, *, methods_here: bool = True) -> Scenario:
    """Scenario in the file ``path``, checked, with every default filled in.

    Without ``methods_here`` it may name methods that cannot be had here, as a finished run may whose user's method
    is not installed.

    Raises
    ------
    UserError
        One line: the file, the key, what it got, what it wants.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    scenario = loads(text, source=str(path), folder=path.absolute().parent, methods_here=methods_here)
    given = scenario.fingerprint
    if given.file:
        given = msgspec.structs.replace(given, file=str(path.absolute().parent / given.file))
    return msgspec.structs.replace(scenario, fingerprint=given)


def loads(text: str, *, source: str, folder: Path | None = None, methods_here: bool = True) -> Scenario:
    """Scenario in a text; ``source`` is what its errors name, ``folder`` what a file of precoders is relative to,
    ``methods_here`` as in `load`."""
    from testbed.precoders import embedded
    from testbed.scenario_checks import complaint, resolved
    from testbed.scenario_words import wrong_value

    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not TOML: {error}") from None
    wrong = wrong_value(raw)
    if wrong is not None:
        raise UserError(f"{source}: {wrong}")
    scenario = resolved(msgspec.convert(raw, Scenario))
    if scenario.signalling is not None:
        try:
            precoders = embedded(scenario.signalling.precoders, folder or Path())
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        given = msgspec.structs.replace(scenario.signalling, precoders=precoders)
        scenario = msgspec.structs.replace(scenario, signalling=given)
    wrong = complaint(scenario, methods_here=methods_here)
    if wrong is not None:
        raise UserError(f"{source}: {wrong}")
    return scenario


def dumps(scenario: Scenario) -> str:
    """Text of the experiment file that `loads` turns into ``scenario`` again, every key spelled out."""
    import tomli_w

    return tomli_w.dumps(_without_none(msgspec.to_builtins(scenario)))


def _without_none(value: Any) -> Any:
    # TOML has no null: an absent key says the same.
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
