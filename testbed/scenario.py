"""The experiment file: typed, validated, units in the names.

Every key is a field with the same name, of the tables here or, for `[[node]]`, in `testbed.scenario_nodes`; its type
states the domain, its sentence the unit and what a special value means. `load` reads a file, `loads` a text; whatever
is wrong raises `UserError` with one line that names the key, what it got and what it wants: `testbed.toml_words`
has the words for a single key, `testbed.scenario_checks` the rules that join several.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from testbed.errors import UserError
from testbed.scenario_domains import Count, Name, Positive, Probability, Seconds, Table, Vector, WholePositive
from testbed.scenario_nodes import OSCILLATORS, Clock, FrontEnd, Node, Pluto, PowerLaw, Usrp
from testbed.toml_file import convert, parse, read_text

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


class Experiment(Table, frozen=True, kw_only=True):
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


class Waveform(Table, frozen=True, kw_only=True):
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


class Round(Table, frozen=True, kw_only=True):
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


class Transmission(Table, frozen=True, kw_only=True):
    """Where it is permitted to transmit."""

    bands_hz: tuple[Annotated[tuple[float, ...], Meta(min_length=2, max_length=2)], ...] = ()
    """Bands, each with its lowest and highest frequency in hertz; what occupies more is refused. Real radios transmit
    only where some are given."""


class Sensing(Table, frozen=True, kw_only=True):
    """Detection of echoes."""

    false_alarm_rate: Probability = 1e-6
    """Probability of a false alarm in one resolution cell of a delay-Doppler map."""
    remove_clutter: bool = True
    """Subtract what does not move before detecting."""


class Fingerprint(Table, frozen=True, kw_only=True):
    """What the method `fingerprint` compares with."""

    file: str = ""
    """Fingerprints of an earlier run, the ``fingerprint.npz`` in its folder; relative to the experiment file. Empty:
    each link's own are taken from one of this run's rounds."""
    round: Count | None = None
    """Round to take them from; absent: the first that yields one, each link by itself."""


class Reflector(Table, frozen=True, kw_only=True):
    """A thing that reflects, standing or moving."""

    position_m: Vector
    """Where it is when the run begins, in metres."""
    velocity_mps: Vector = (0.0, 0.0)
    """Metres per second along each axis."""
    rcs_m2: Positive = 1.0
    """Radar cross-section in square metres."""
    name: str = ""
    """What the report calls it; empty: reflector-1 and so on."""


class Signalling(Table, frozen=True, kw_only=True):
    """What stations send together, after the slots of each round, by precoders that `isac signalling` designed."""

    precoders: str
    """File that `isac signalling --out` wrote, relative to the experiment file; or its text."""
    stations: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Nodes that send, in the design's order."""
    users: tuple[str, ...] = ()
    """Nodes that are served, in the design's order."""
    target: str = ""
    """Reflector whose position the stations look for; empty: none."""
    compensate: bool = False
    """Whether stations that cooperate coherently take the offsets that one round shows, of time, frequency and phase,
    off what they send together in the next: they then need no common clock."""


class Scene(Table, frozen=True, kw_only=True):
    """The simulated surroundings."""

    line_of_sight: bool = True
    """Whether the nodes see each other directly."""
    snr_db: Annotated[float, Meta(ge=-30, le=100)] | None = None
    """Signal to noise per resource element and direction, total over the paths; absent: from the link budget."""
    leakage_db: Annotated[float, Meta(ge=-100, le=100)] | Literal["off"] = 40.0
    """Own leakage at a node's receiver above the distant node's signal, in decibels; "off": none, nor own echoes."""
    reflector: tuple[Reflector, ...] = ()
    """Things that reflect."""


class Scenario(Table, frozen=True, kw_only=True):
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
    scenario = loads(read_text(path), source=str(path), folder=path.absolute().parent, methods_here=methods_here)
    given = scenario.fingerprint
    if given.file:
        given = msgspec.structs.replace(given, file=str(path.absolute().parent / given.file))
    return msgspec.structs.replace(scenario, fingerprint=given)


def loads(text: str, *, source: str, folder: Path | None = None, methods_here: bool = True) -> Scenario:
    """Scenario in a text; ``source`` is what its errors name, ``folder`` what a file of precoders is relative to,
    ``methods_here`` as in `load`."""
    from testbed.precoders import embedded
    from testbed.scenario_checks import complaint, resolved

    scenario = resolved(convert(parse(text, source=source), Scenario, source=source))
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
