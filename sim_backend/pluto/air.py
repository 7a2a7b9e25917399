"""Several Plutos in one scene: each hears the others, its own leakage and its echoes, as every simulated radio does.

On the wall clock each records what it is in time for. In virtual time a reception waits for the other Plutos that
have a client, so that what all of them send meanwhile is known before any of it is heard; one whose client does not
ask within a short while is not waited for until it asks again. What has been recorded by one is the past for all.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from sim_backend.pluto.emissions import Counts, Emission, window
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.filters import reach
from sim_backend.pluto.medium import FULL_SCALE_DBM, Medium, converted, sent_signal
from sim_backend.pluto.settings import Settings
from sim_backend.randomness import generator
from sim_backend.specification import NodeSpec, WorldSpec
from sim_backend.world import Burst, Rendered, Request, World

__all__ = ["Air", "Antenna"]

BEGIN_S = Fraction(1)
"""True time at which every Pluto was switched on."""
_REACH_S = 3e-4
"""Longest delay that is looked for what was sent, beyond what two clocks are apart."""
_RATE_TOLERANCE = 0.009
_WORLDS = 8
_SLOWEST = Fraction(1, 4000)
"""No clock is slower than by this much."""
_FINE_BITS = None
"""Sixteen: of a meter, and of what goes through the receiver's filters before the converter's twelve are left."""


_Sent = tuple[list[Emission], list[tuple[int, Settings]]]
"""What a Pluto sends, and what is set from which tick on."""


@dataclass
class _Meeting:
    """Plutos that begin to record together in virtual time."""

    number: int = 0
    concluded: bool = False
    time: Fraction = BEGIN_S
    unsettled: int = 0
    """Those who have yet to say what they send."""
    sent: dict[str, _Sent] = field(default_factory=dict)


class Air:
    """Scene of ``spec``, in which Plutos stand at its nodes.

    Parameters
    ----------
    spec : WorldSpec
        Carrier, rate and receive gain of a node are its Pluto's own business; its stated power is what the levels of
        a scene with a stated SNR are meant for.
    wait_s : float
        Wall time for which a reception in virtual time waits for the others.
    start_spread_s : float
        In virtual time receptions begin up to twice this after they are asked for, each by its own.
    """

    def __init__(self, spec: WorldSpec, *, wait_s: float = 0.25, start_spread_s: float = 0.0) -> None:
        self.spec = spec
        self._wait_s = wait_s
        self._spread = Fraction(start_spread_s)
        self._clocks = World(spec).clocks
        self._worlds: dict[tuple[NodeSpec, ...], World] = {}
        self._antennas: dict[str, Antenna] = {}
        self.lock = threading.Condition(threading.RLock())
        self.time = BEGIN_S
        """Virtual time: what is before has been recorded by somebody."""
        self._meeting = _Meeting()

    def antenna(self, node: str) -> Antenna:
        """Medium of the Pluto at a node; one for each.

        Raises
        ------
        ValueError
            If there is no such node, or it has its Pluto already.
        """
        nodes = {spec.name: spec for spec in self.spec.nodes}
        if node not in nodes:
            raise ValueError(f"there is no node '{node}': {', '.join(nodes)}")
        if node in self._antennas:
            raise ValueError(f"'{node}' has its Pluto already")
        self._antennas[node] = Antenna(self, nodes[node])
        return self._antennas[node]

    @property
    def antennas(self) -> dict[str, Antenna]:
        """Those that were given away, by node."""
        return self._antennas

    def world(self, changed: dict[str, NodeSpec]) -> World:
        """World in which some nodes are other than specified; the clocks are the same in all."""
        nodes = tuple(changed.get(node.name, node) for node in self.spec.nodes)
        if nodes not in self._worlds:
            while len(self._worlds) >= _WORLDS:
                del self._worlds[next(iter(self._worlds))]
            made = World(replace(self.spec, nodes=nodes))
            made.clocks = self._clocks
            self._worlds[nodes] = made
        return self._worlds[nodes]

    def meet(self, own: Antenna, duration_s: Fraction) -> Fraction:
        """Wait for the others that have a client; the true time at which this one may begin to record.

        What all record from this meeting on lies before the next: whoever comes first to send something after it
        finds the same time as who comes last.
        """
        with self.lock:
            meeting = own.meeting = self._meeting
            own.wanted, own.stalled = duration_s, False
            deadline = time.monotonic() + self._wait_s
            while not meeting.concluded:
                missing = [other for other in self._antennas.values() if other.awaited]
                left = deadline - time.monotonic()
                if not missing or left <= 0:
                    for other in missing:
                        other.stalled = True
                    self._conclude()
                    break
                self.lock.notify_all()
                self.lock.wait(left)
            share = generator(self.spec.seed, own.name, "start", meeting.number).uniform(0.0, 2.0)
            return meeting.time + self._spread * Fraction(share)

    def _conclude(self) -> None:
        meeting = self._meeting
        durations = [other.wanted for other in self._antennas.values() if other.wanted is not None]
        meeting.time, meeting.unsettled, meeting.concluded = self.time, len(durations), True
        if len(durations) > 1:
            self.time += 2 * self._spread + max(durations) * (1 + _SLOWEST)
        for other in self._antennas.values():
            other.wanted = None
        self._meeting = _Meeting(meeting.number + 1)
        self.lock.notify_all()

    def settle(self, own: Antenna) -> dict[str, _Sent]:
        """What each Pluto sends, once all who met have said what they send in what they record now.

        Copied before any of them can go on: what one does next is not to be heard in what another has yet to render.
        """
        with self.lock:
            meeting = own.meeting
            meeting.unsettled -= 1
            if meeting.unsettled == 0:
                meeting.sent = {
                    name: (other.engine.emissions, other.engine.timeline)
                    for name, other in self._antennas.items()
                    if other.engine is not None
                }
                self.lock.notify_all()
            while meeting.unsettled > 0:
                self.lock.wait()
            return meeting.sent


class Antenna(Medium):
    """What one node's Pluto hears and is heard by; made by `Air.antenna`."""

    alone = False

    def __init__(self, air: Air, node: NodeSpec) -> None:
        self.channels = node.antennas
        self.engine: Engine | None = None
        """Of the Pluto, once there is one."""
        self._truth: dict[str, Any] | None = None
        self.wanted: Fraction | None = None
        """Seconds that it asks to receive."""
        self.stalled = False
        """Did not ask in time for an earlier meeting."""
        self.name = node.name
        self.meeting = _Meeting()
        """The one that it was at last."""
        self._air = air
        self._node = node
        self._clients = 0
        self._lost = node.front_end.lost_buffer_probability
        self._sent: dict[str, _Sent] | None = None
        """What all sent at the last meeting; on the wall clock it is asked for when it is needed."""
        self._present: tuple[Fraction, Fraction, int] | None = None

    @property
    def awaited(self) -> bool:
        """Whether others wait for this one."""
        return self._clients > 0 and self.wanted is None and not self.stalled

    def attach(self, engine: Engine) -> None:
        """See `Medium.attach`."""
        self.engine = engine

    def truth(self) -> dict[str, Any] | None:
        """See `Medium.truth`."""
        return self._truth

    # -- time -------------------------------------------------------------------------------------------------

    def _tick_at(self, moment: Fraction, rate_hz: Fraction) -> int:
        """Tick at or after a true time, since the device was switched on."""
        clock = self._air.world({}).clocks[self._node.name]
        return -int((-(clock.reading(moment) - clock.reading(BEGIN_S)) * rate_hz).__floor__())

    def _base(self, world: World) -> int:
        """What the world calls the tick that this device calls zero."""
        return world.tick_at(self._node.name, BEGIN_S)

    def tick_after(self, elapsed_s: float, rate_hz: Fraction) -> int:
        """See `Medium.tick_after`."""
        with self._air.lock:
            return self._tick_at(BEGIN_S + Fraction(elapsed_s), rate_hz)

    def present(self, rate_hz: Fraction) -> int:
        """See `Medium.present`."""
        with self._air.lock:
            moment = self._air.time
            if self._present is None or self._present[:2] != (moment, rate_hz):
                self._present = moment, rate_hz, self._tick_at(moment, rate_hz)
            return self._present[2]

    def advance(self, tick: int, rate_hz: Fraction) -> None:
        """See `Medium.advance`."""
        with self._air.lock:
            world = self._tuned(rate_hz)
            self._air.time = max(self._air.time, world.time_at(self._node.name, self._base(world) + tick))

    def meet(self, samples: int, rate_hz: Fraction) -> int:
        """See `Medium.meet`."""
        return self._tick_at(self._air.meet(self, samples / rate_hz), rate_hz)

    def wire(self) -> None:
        """See `Medium.wire`: every Pluto of the scene whose engine takes external pulses is wired to it."""
        for other in list(self._air.antennas.values()):
            if other is not self and other.engine is not None and other.engine.gate.sync_external:
                other.engine.pulse()

    def settle(self) -> None:
        """See `Medium.settle`."""
        self._sent = self._air.settle(self)

    def join(self, *, leave: bool = False) -> None:
        """See `Medium.join`."""
        with self._air.lock:
            self._clients += -1 if leave else 1
            self.stalled = False
            self._air.lock.notify_all()

    def lost(self, block: int) -> int:
        """See `Medium.lost`."""
        if not self._lost:
            return 0
        draw = generator(self._air.spec.seed, self._node.name, "lost buffers", block).uniform()
        return self._node.front_end.buffer_samples if draw < self._lost else 0

    # -- samples ----------------------------------------------------------------------------------------------

    def receive(self, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> Counts:
        """See `Medium.receive`."""
        if not settings.listening:
            return np.zeros((samples, 2 * self.channels), dtype=np.int16)
        path, rate_hz = settings.receive_path, float(settings.rate_hz)
        early = 0 if path is None else reach(path, rate_hz)
        rendered = self._rendered(
            first - early, samples + 2 * early, settings, emissions, settings.receive_gain_db, _FINE_BITS
        )
        start_s = rendered.truth["start_s"] - int(BEGIN_S)
        self._truth = rendered.truth | {"start_s": start_s, "first_tick": first - early}
        return converted(rendered.samples, rendered.full_scale, path, rate_hz)

    def power_dbm(self, channel: int, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> float:
        """See `Medium.power_dbm`; measured, as by a meter of 16 bits whose full scale is 0 dBm."""
        rendered = self._rendered(first, samples, settings, emissions, (0.0,) * self.channels, _FINE_BITS)
        field = rendered.samples[channel].astype(np.float64) / rendered.full_scale
        return float(10 * np.log10(max(np.mean(np.sum(field**2, axis=1)), 1e-14)))

    def _tuned(self, rate_hz: Fraction, settings: Settings | None = None, bits: int | None = 12) -> World:
        """World in which every Pluto has its present rate, and this one its present imperfections."""
        changed = {
            name: replace(other._node, rate_hz=other.engine.rate_hz)
            for name, other in self._air.antennas.items()
            if other.engine is not None
        }
        front = self._node.front_end
        worse = settings.stale_factor if settings else 1.0
        changed[self._node.name] = replace(
            self._node,
            rate_hz=rate_hz,
            front_end=replace(
                front,
                bits=bits,
                gain_imbalance_db=worse * front.gain_imbalance_db,
                phase_imbalance_deg=worse * front.phase_imbalance_deg,
                dc_offset=worse * front.dc_offset,
                lost_buffer_probability=0.0,
            ),
        )
        return self._air.world(changed)

    def _rendered(
        self,
        first: int,
        samples: int,
        settings: Settings,
        emissions: list[Emission],
        gains_db: tuple[float, ...],
        bits: int | None,
    ) -> Rendered:
        name = self._node.name
        with self._air.lock:
            world = self._tuned(settings.rate_hz, settings, bits)
            base = self._base(world)
            begin = world.time_at(name, base + first)
            end = world.time_at(name, base + first + samples)
            bursts = {}
            for other_name, other in self._air.antennas.items():
                if other.engine is None:
                    continue
                sent = (self._sent or {}).get(other_name) or (other.engine.emissions, other.engine.timeline)
                if other is self:
                    sent = emissions, other.engine.timeline
                bursts[other_name] = other.bursts(world, begin, end, sent)
            request = Request(
                base + first, samples, first, settings.receive_tune, carrier_hz=settings.receive_hz, gains_db=gains_db
            )
            return world.render(bursts, {name: request})[name]

    def bursts(self, world: World, begin: Fraction, end: Fraction, everything: _Sent) -> list[Burst]:
        """What this Pluto sends that may be heard between two true times, each part with what was set then."""
        sent, timeline = everything
        rate = timeline[-1][1].rate_hz
        own = world.nodes[self._node.name].rate_hz
        if abs(own / rate - 1) > _RATE_TOLERANCE:
            return []
        base = self._base(world)
        reach = int(_REACH_S * float(rate))
        low = world.tick_at(self._node.name, begin) - base - reach
        high = world.tick_at(self._node.name, end) - base + reach
        edges = [low, *(tick for tick, _ in timeline if low < tick < high), high]
        made = []
        for first, last in pairwise(edges):
            settings = next((kept for tick, kept in reversed(timeline) if tick <= first), timeline[0][1])
            if not settings.radiating or settings.loopback == 2:
                continue
            for emission in sent:
                start = max(emission.start, first)
                stop = last if emission.stop is None else min(emission.stop, last)
                if start >= stop:
                    continue
                played = window([emission], start, stop - start, emission.samples.shape[1])[:, :2] >> 4
                samples, early = sent_signal(played, settings)
                made.append(
                    Burst(
                        base + start - early,
                        0.0,
                        samples,
                        settings.transmit_tune,
                        settings.transmit_hz,
                        FULL_SCALE_DBM + settings.transmit_gain_db[0] - self._node.tx_power_dbm,
                    )
                )
        return made
