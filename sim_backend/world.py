"""The simulated world: what every node's converter delivers when given samples are transmitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_backend import front_end
from sim_backend.clocks import Clock
from sim_backend.propagation import BLOCK, REACH, Source, propagate
from sim_backend.randomness import generator
from sim_backend.scene import Path, Scene
from sim_backend.specification import (
    ClockSpec,
    FrontEndSpec,
    NodeSpec,
    ReflectorSpec,
    SceneSpec,
    WorldSpec,
)

__all__ = [
    "Burst",
    "Chain",
    "ClockSpec",
    "FrontEndSpec",
    "NodeSpec",
    "ReflectorSpec",
    "Rendered",
    "Request",
    "SceneSpec",
    "World",
    "WorldSpec",
]

FloatArray = NDArray[np.float64]

_TRUTH_SPACING_S = 1e-4
_UNKNOWN_POWER = 0.1


@dataclass(frozen=True)
class Burst:
    """Samples that a node's converter sends, from a moment on the node's own clock."""

    start_tick: int
    start_fraction: float
    samples: NDArray[np.complex64]
    """Shape (sample,); a magnitude of one is full scale, sent at the node's ``tx_power_dbm``."""
    stream: int = 0
    """The transmit LO's phase is random for each stream."""
    carrier_hz: Fraction | None = None
    """Where the transmit synthesizer is tuned, if not to the node's carrier."""
    level_db: float = 0.0
    """Above the node's ``tx_power_dbm``."""
    antenna: int = 0
    """Transmit antenna that sends them."""


@dataclass(frozen=True)
class Request:
    """A stretch that a node records, on its own clock."""

    first_tick: int
    samples: int
    round: int
    """Names the stretch for everything random in it."""
    stream: int = 0
    """The receive LO's phase is random for each stream."""
    carrier_hz: Fraction | None = None
    """Where the receive synthesizer is tuned, if not to the node's carrier."""
    gains_db: tuple[float, ...] | None = None
    """Receive gain of each antenna, if not the front end's: full scale is minus this in dBm."""


@dataclass(frozen=True)
class Rendered:
    """What the converter delivered."""

    samples: NDArray[np.int16]
    """Shape (antenna, sample, 2); the samples of a lost buffer are missing."""
    full_scale: int
    gaps: list[tuple[int, int]]
    """(index of the first sample after the loss, samples lost)."""
    truth: dict[str, Any]
    """True time at tick ``first_tick + i·spacing_samples``, lost samples counted, is ``start_s`` +
    ``start_fraction_s`` + i·spacing_samples/rate + ``elapsed_error_s[i]``; a cubic spline between."""


@dataclass(frozen=True)
class Chain:
    """Constant delays inside a node, seconds."""

    transmit_s: float
    receive_s: float
    leakage_s: float


@dataclass
class _Stretch:
    """A stretch being rendered: true times of its block edges."""

    node: NodeSpec
    request: Request
    anchor: Fraction
    elapsed: FloatArray
    """True time after the anchor at each block edge."""
    reading: FloatArray
    """Clock's advance over its noiseless value at the anchor, at each block edge."""
    first_reading: float
    carrier_hz: Fraction
    """Where the receiver is tuned."""
    times: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.times = float(self.anchor) + self.elapsed


@dataclass(frozen=True)
class _Heard:
    """A burst as one receiver's stretch meets it."""

    node: NodeSpec
    """Transmitter."""
    clock: Clock
    source: Source
    origin: float
    """Place in the burst at the stretch's anchor."""
    turns: float
    """Carrier phase at the anchor."""
    constant_s: float
    """Delay of the two chains."""
    carrier_hz: float
    level: float
    """Factor on the field beyond the node's stated power."""
    rough: FloatArray
    """Place in the burst at each block edge, without delay."""


class World:
    """Nodes with their clocks in one scene.

    Rendering is a pure function of the specification and of what is asked: the same seed gives the same bits
    whatever the number of processes and whatever was rendered before. (One exception, stated: with
    ``reference_power`` None, levels are set by the first transmissions rendered.)
    """

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        self.nodes = {node.name: node for node in spec.nodes}
        self.scene = Scene(spec.nodes, spec.scene, spec.seed)
        self.clocks = {
            node.name: Clock(
                offset_ppm=node.clock.offset_ppm,
                offset_s=node.clock.offset_s,
                drift_ppm_per_s=node.clock.drift_ppm_per_s,
                noise=node.clock.noise(),
                seed=spec.seed,
                name=node.name,
            )
            for node in spec.nodes
        }
        self._reference_power: float | None = spec.reference_power
        if spec.scene.leakage_db is not None and len(spec.nodes) < 2:
            raise ValueError("leakage is stated above a distant node's signal, and there is no second node")

    # -- times ------------------------------------------------------------------------------------------------

    def tick_at(self, node: str, time: Fraction) -> int:
        """First tick of a node's counter at or after a true time."""
        reading = self.clocks[node].reading(time) * self.nodes[node].rate_hz
        return -floor(-reading)

    def time_at(self, node: str, tick: int) -> Fraction:
        """True time of a tick of a node's counter."""
        return self.clocks[node].time_at(Fraction(tick) / self.nodes[node].rate_hz)

    # -- levels -----------------------------------------------------------------------------------------------

    def chain(self, node: str) -> Chain:
        """Constant delays of a node's transmit and receive chains and of its leakage."""
        front = self.nodes[node].front_end
        return Chain(front.transmit_delay_s, front.receive_delay_s, front.leakage_delay_s)

    @property
    def reference_power(self) -> float:
        """Mean power of transmitted samples for which levels are meant."""
        return _UNKNOWN_POWER if self._reference_power is None else self._reference_power

    def _transmit_watts(self, node: str) -> float:
        return float(1e-3 * 10 ** (self.nodes[node].tx_power_dbm / 10))

    def link_scale(self, receiver: str, transmitter: str) -> float:
        """Factor on the field of a link's paths that makes its stated SNR; one with a link budget."""
        snr_db = self.spec.scene.snr_db
        if snr_db is None:
            return 1.0
        node = self.nodes[receiver]
        bandwidth = self.spec.reference_bandwidth_hz or float(node.rate_hz)
        wanted = 10 ** (snr_db / 10) * front_end.thermal_power(node.front_end, bandwidth)
        power = self.scene.power(receiver, transmitter) * self._transmit_watts(transmitter) * self.reference_power
        if power == 0.0:
            raise ValueError(f"'{receiver}' hears '{transmitter}' over no path: no line of sight and no reflector")
        return float(np.sqrt(wanted / power))

    def received_watts(self, receiver: str, transmitter: str) -> float:
        """Mean power of a distant node at a receiver's first antenna, total over the paths at the world's start."""
        gain = self.scene.power(receiver, transmitter)
        if gain == 0.0:
            return 0.0
        scale = self.link_scale(receiver, transmitter) ** 2
        return gain * scale * self._transmit_watts(transmitter) * self.reference_power

    def _strongest(self, node: str) -> tuple[str | None, float]:
        """Distant node heard loudest, and its power."""
        others = [(name, self.received_watts(node, name)) for name in self.nodes if name != node]
        return max(others, key=lambda pair: pair[1]) if others else (None, 0.0)

    def noise_watts(self, node: str) -> float:
        """Thermal noise over the whole rate, referred to the antenna."""
        spec = self.nodes[node]
        if spec.front_end.noise_figure_db is None:
            return 0.0
        return front_end.thermal_power(spec.front_end, float(spec.rate_hz))

    def gain_db(self, node: str) -> float:
        """Receive gain: full scale is minus this in dBm."""
        front = self.nodes[node].front_end
        if front.gain_db is not None:
            return front.gain_db
        _, power = self._strongest(node)
        if self.spec.scene.leakage_db is not None:
            power *= 10 ** (max(self.spec.scene.leakage_db, 0.0) / 10)
        power += self.noise_watts(node)
        return float(front.level_dbfs - 10 * np.log10(power / 1e-3)) if power > 0 else 0.0

    def _links(
        self, receiver: str, transmitter: str, antenna: int, transmit_antenna: int = 0
    ) -> list[tuple[Path, float]]:
        """Paths between two antennas with the factor on each one's field, square-root watts."""
        watts = self._transmit_watts(transmitter)
        if receiver != transmitter:
            scale = self.link_scale(receiver, transmitter) * np.sqrt(watts)
            return [(path, float(scale)) for path in self.scene.paths(receiver, transmitter, antenna, transmit_antenna)]
        leakage_db = self.spec.scene.leakage_db
        if leakage_db is None:
            return []
        distant, power = self._strongest(receiver)
        level = np.sqrt(10 ** (leakage_db / 10) * power / self.reference_power)
        delay_s = self.nodes[receiver].front_end.leakage_delay_s
        leakage = self.scene.own_leakage(receiver, antenna, delay_s, transmit_antenna)
        links = [(leakage, float(level))]
        if self.spec.scene.own_echoes and distant is not None:
            scale = self.link_scale(receiver, distant) * np.sqrt(watts)
            echoes = self.scene.paths(receiver, receiver, antenna, transmit_antenna)
            links += [(path, float(scale)) for path in echoes]
        return links

    # -- rendering --------------------------------------------------------------------------------------------

    def render(
        self, transmissions: Mapping[str, Sequence[Burst]], stretches: Mapping[str, Request]
    ) -> dict[str, Rendered]:
        """What each node of ``stretches`` records while all nodes of ``transmissions`` send.

        Raises
        ------
        ValueError
            For a node that is not there, an empty stretch, a burst whose start is not a tick and a fraction, or a
            stretch before the world's beginning.
        """
        for name in {*transmissions, *stretches} - set(self.nodes):
            raise ValueError(f"there is no node '{name}': {', '.join(self.nodes)}")
        for name, bursts in transmissions.items():
            for burst in bursts:
                if not 0 <= burst.antenna < (count := self.nodes[name].transmit_antennas):
                    raise ValueError(f"'{name}' has {count} transmit antennas, and none of number {burst.antenna}")
        self._note_power(transmissions)
        sources = {name: [self._source(name, burst) for burst in bursts] for name, bursts in transmissions.items()}
        return {name: self._receive(name, request, sources) for name, request in stretches.items()}

    def _note_power(self, transmissions: Mapping[str, Sequence[Burst]]) -> None:
        """Take the reference power from the first transmissions, if none was stated."""
        if self._reference_power is None:
            energy, count = 0.0, 0
            for burst in (burst for bursts in transmissions.values() for burst in bursts):
                power = np.abs(burst.samples.astype(np.complex128)) ** 2
                energy += float(power.sum())
                count += int(np.count_nonzero(power))
            if count:
                self._reference_power = energy / count

    def _source(self, name: str, burst: Burst) -> tuple[Burst, Source]:
        if not 0.0 <= burst.start_fraction < 1.0:
            raise ValueError(f"a burst starts at a tick and a fraction in [0, 1), got {burst.start_fraction}")
        node = self.nodes[name]
        angle = None
        if node.front_end.phase_noise_deg:
            angle = front_end.phase_noise(
                node.front_end, float(node.rate_hz), burst.samples.size, self.spec.seed, name, "transmit",
                burst.start_tick,
            )  # fmt: skip
        return burst, Source.of(burst.samples, angle)

    def _stretch(self, name: str, request: Request) -> _Stretch:
        if request.samples < 1:
            raise ValueError(f"'{name}' asks for {request.samples} samples")
        node, clock = self.nodes[name], self.clocks[name]
        start = self.time_at(name, request.first_tick)
        anchor = Fraction(floor(start * 2**30), 2**30)
        first = float(Fraction(request.first_tick) / node.rate_hz - anchor - clock.error_at(anchor))
        edges = -(-request.samples // BLOCK) + 1
        reading = first + np.arange(edges, dtype=np.float64) * (BLOCK / float(node.rate_hz))
        carrier = node.carrier_hz if request.carrier_hz is None else request.carrier_hz
        return _Stretch(node, request, anchor, clock.elapsed_at(anchor, reading), reading, first, carrier)

    def _receive(self, name: str, request: Request, sources: Mapping[str, list[tuple[Burst, Source]]]) -> Rendered:
        stretch = self._stretch(name, request)
        front, rate = stretch.node.front_end, float(stretch.node.rate_hz)
        label = (name, "receive", request.stream, request.round)
        whole = (stretch.elapsed.size - 1) * BLOCK
        angle = front_end.phase_noise(front, rate, whole, self.spec.seed, *label)
        kept, gaps = front_end.losses(front, request.samples, self.spec.seed, *label)
        gains_db = request.gains_db or (self.gain_db(name),) * stretch.node.antennas
        antennas = []
        heard = {
            (transmitter, sending): [
                self._hear(stretch, transmitter, burst, source)
                for burst, source in bursts
                if burst.antenna == sending and self._in_band(stretch, transmitter, burst)
            ]
            for transmitter, bursts in sources.items()
            for sending in range(self.nodes[transmitter].transmit_antennas)
        }
        # One field for all antennas in turn: fresh memory costs more than what is written into it.
        field = np.empty((2, whole), dtype=np.float32)
        for antenna in range(stretch.node.antennas):
            field.fill(0.0)
            for (transmitter, sending), bursts in heard.items():
                links = self._links(name, transmitter, antenna, sending) if bursts else []
                for burst in bursts if links else []:
                    self._add(stretch, burst, links, *field)
            counts = front_end.digitise(
                front, *field, noise_power=self.noise_watts(name),
                scale=float(np.sqrt(1e3 * 10 ** (gains_db[antenna] / 10))), angle=angle,
                seed=self.spec.seed, labels=(*label, antenna),
            )[: request.samples]  # fmt: skip
            antennas.append(counts if kept is None else counts[kept])
        return Rendered(
            np.stack(antennas),
            front_end.full_scale(front),
            [(gap.start, gap.samples) for gap in gaps],
            self._truth(stretch),
        )

    def _in_band(self, stretch: _Stretch, transmitter: str, burst: Burst) -> bool:
        """Whether a burst's band reaches into the receiver's, whose analog filter keeps out what does not."""
        node = self.nodes[transmitter]
        carrier = node.carrier_hz if burst.carrier_hz is None else burst.carrier_hz
        return abs(carrier - stretch.carrier_hz) < (node.rate_hz + stretch.node.rate_hz) / 2

    def _hear(self, stretch: _Stretch, transmitter: str, burst: Burst, source: Source) -> _Heard:
        """A burst on a receiver's time base, before any path."""
        node, other = stretch.node, self.nodes[transmitter]
        clock, own_clock, anchor = self.clocks[transmitter], self.clocks[stretch.node.name], stretch.anchor
        error = clock.error_at(anchor)
        origin = float((anchor + error) * other.rate_hz - burst.start_tick) - burst.start_fraction
        carrier = other.carrier_hz if burst.carrier_hz is None else burst.carrier_hz
        turns = carrier * (anchor + error) - stretch.carrier_hz * (anchor + own_clock.error_at(anchor))
        start = float(turns - floor(turns)) + self.lo_phase(transmitter, "transmit", burst.stream)
        start -= self.lo_phase(node.name, "receive", stretch.request.stream)
        # Without the clock's noise and any delay: good enough to find the blocks that hear a run.
        growth = clock.growth(anchor, stretch.elapsed[:1]) + float(clock.rate_error) * (
            stretch.elapsed - stretch.elapsed[0]
        )
        rough = origin + float(other.rate_hz) * (stretch.elapsed + growth)
        constant = other.front_end.transmit_delay_s + node.front_end.receive_delay_s
        level = float(10 ** (burst.level_db / 20))
        return _Heard(other, clock, source, origin, start, constant, float(carrier), level, rough)

    def _add(
        self,
        stretch: _Stretch,
        burst: _Heard,
        links: Sequence[tuple[Path, float]],
        real: NDArray[np.float32],
        imaginary: NDArray[np.float32],
    ) -> None:
        """Add the paths of one burst: carrier fc_m·s_m(t - tau) against fc_n·s_n(t), envelope at s_m(t - tau)."""
        rate, carrier = float(burst.node.rate_hz), burst.carrier_hz
        own_carrier, receive_delay = float(stretch.carrier_hz), stretch.node.front_end.receive_delay_s
        ends = np.array([path.delay_s(stretch.times[[0, -1]]) for path, _ in links])
        reach = rate * (ends + burst.constant_s)
        for run in burst.source.active:
            low = int(np.searchsorted(burst.rough, run[0] - 2 * (REACH + BLOCK) + reach.min()))
            high = int(np.searchsorted(burst.rough, run[1] + 2 * (REACH + BLOCK) + reach.max())) + 1
            edges = slice(max(low - 2, 0), min(high + 2, burst.rough.size))
            elapsed = stretch.elapsed[edges]
            if elapsed.size < 2:
                continue
            times = stretch.times[edges] - receive_delay
            delays = np.array([path.delay_s(times) for path, _ in links])
            emitted = elapsed - (burst.constant_s + delays)
            emitted += burst.clock.growth(stretch.anchor, emitted)
            cycles = burst.turns + carrier * emitted - own_carrier * stretch.reading[edges]
            middle = float(times[times.size // 2])
            block = slice(edges.start * BLOCK, (edges.stop - 1) * BLOCK)
            propagate(
                burst.source, run, burst.origin + rate * emitted, cycles,
                [level * burst.level * path.amplitude(middle) for path, level in links], real[block], imaginary[block],
            )  # fmt: skip

    # -- truth ------------------------------------------------------------------------------------------------

    def lo_phase(self, node: str, direction: str, stream: int) -> float:
        """Phase at which a synthesizer happened to lock when a stream started, turns; zero if it is common to all."""
        if self.nodes[node].front_end.common_phase:
            return 0.0
        return float(generator(self.spec.seed, node, direction, "lo phase", stream).uniform())

    def _truth(self, stretch: _Stretch) -> dict[str, Any]:
        node, clock = stretch.node, self.clocks[stretch.node.name]
        spacing = max(int(_TRUTH_SPACING_S * float(node.rate_hz)), 1)
        nominal = np.arange(-(-stretch.request.samples // spacing) + 1, dtype=np.float64) * (
            spacing / float(node.rate_hz)
        )
        elapsed = clock.elapsed_at(stretch.anchor, stretch.first_reading + nominal)
        start = stretch.anchor + Fraction(float(elapsed[0]))
        # Differences first: the elapsed error is small and keeps all its digits.
        growth = clock.growth(stretch.anchor, elapsed)
        return {
            "start_s": floor(start),
            "start_fraction_s": float(start - floor(start)),
            "spacing_samples": spacing,
            "elapsed_error_s": (growth[0] - growth).tolist(),
            "lo_phase_turns": {
                "transmit": self.lo_phase(node.name, "transmit", stretch.request.stream),
                "receive": self.lo_phase(node.name, "receive", stretch.request.stream),
            },
        }

    def scene_truth(self, time_s: float) -> list[dict[str, Any]]:
        """Every path of every ordered link and antenna at a true time.

        Delays are antenna to antenna, without the chains; the Doppler is positive when the path shortens; the
        power is relative to the link's total at that antenna.
        """
        rows = []
        step = 1e-3
        for receiver, node in self.nodes.items():
            for transmitter, other in self.nodes.items():
                for antenna in range(node.antennas):
                    links = self._links(receiver, transmitter, antenna)
                    amplitudes = [level * path.amplitude(time_s) for path, level in links]
                    total = sum(abs(value) ** 2 for value in amplitudes)
                    for (path, _), value in zip(links, amplitudes, strict=True):
                        before, here, after = path.delay_s(np.array([time_s - step, time_s, time_s + step]))
                        rows.append(
                            {
                                "receiver": receiver,
                                "transmitter": transmitter,
                                "antenna": antenna,
                                "name": path.name,
                                "delay_s": float(here),
                                "doppler_hz": float(-float(other.carrier_hz) * (after - before) / (2 * step)),
                                "relative_db": float(10 * np.log10(abs(value) ** 2 / total)),
                                "phase_rad": float(np.angle(value)),
                                "moving": path.moving,
                            }
                        )
        return rows
