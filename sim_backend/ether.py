"""The ether: radios attach, transmit and receive in one virtual time that waits for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from threading import Condition
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from sim_backend.randomness import generator
from sim_backend.world import Burst, Rendered, Request, World, WorldSpec

__all__ = ["Ether", "EtherError", "Present", "Reception"]

BEGIN_S = Fraction(1)
"""True time of the first batch: late enough that no start and no delay reaches before the world's beginning."""


class EtherError(RuntimeError):
    """The radio is not, or no longer, attached; the text says which."""


@dataclass(frozen=True)
class Reception:
    """What a radio recorded in one batch."""

    rendered: Rendered
    first_tick: int
    """On the device's counter, which starts at zero with the stream unless the device has time stamps."""
    stream: int
    """How often this node's stream has been started before."""
    batch: int
    departures: list[tuple[int, float]]
    """(tick, fraction) on the device's counter of each burst transmitted; empty without time stamps."""


@dataclass(frozen=True)
class Present:
    """What time it is for a device between two batches, on its own counter."""

    tick: int
    """At which its next reception begins, unless it asks for a later one."""
    second_tick: int
    """First tick at or after the last whole second of true time: the pulse of a pulse-per-second input."""


@dataclass(frozen=True)
class _Queued:
    """Samples to leave so many samples after the next reception's first one, or at a tick of the device's counter."""

    samples: NDArray[np.complex64]
    offset: int
    tick: int | None
    carrier_hz: Fraction | None
    level_db: float
    antenna: int


@dataclass
class _Attached:
    """A radio in the ether."""

    stream: int
    latency: int
    """Samples by which transmissions start late, unknown to the node."""
    origin: int | None = None
    """Tick of the node's clock at which its counter started."""
    queue: list[_Queued] = field(default_factory=list)
    wanted: int | None = None
    """Samples asked for and not yet rendered."""
    wanted_tick: int | None = None
    """Tick of the device's counter from which they are asked for; None: from the present."""
    carrier_hz: Fraction | None = None
    gains_db: tuple[float, ...] | None = None
    result: Reception | Exception | None = None
    stalled: bool = False
    """Did not ask in time for an earlier batch: not waited for until it asks again."""


class Ether:
    """World in which radios of several threads meet, batch by batch.

    A batch is rendered when every attached radio has asked to receive; asking declares that all that it transmits
    meanwhile has been queued. A radio that does not ask within ``stall_timeout_s`` of wall time is left out.
    Batches follow each other every ``round_period_s`` of true time, or later if they last longer. Within a batch
    each node starts at a random true time, uniform within ``start_spread_s`` of the batch.
    """

    def __init__(
        self,
        spec: WorldSpec,
        *,
        start_spread_s: float = 5e-3,
        round_period_s: float = 0.5,
        stall_timeout_s: float = 3.0,
    ) -> None:
        if not 0.0 <= start_spread_s < 0.5:
            raise ValueError(f"start spread must be less than half a second, got {start_spread_s}")
        if round_period_s <= 0 or stall_timeout_s <= 0:
            raise ValueError("round period and stall timeout must be positive")
        self.world = World(spec)
        self._spread = Fraction(start_spread_s)
        self._period = Fraction(round_period_s)
        self._timeout = stall_timeout_s
        self._radios: dict[str, _Attached] = {}
        self._streams: dict[str, int] = {}
        self._batch = 0
        self._time = BEGIN_S
        self._waiting_since: float | None = None
        self._change = Condition()

    def attach(self, node: str) -> int:
        """Start a node's stream anew; returns the stream's number.

        Raises
        ------
        EtherError
            If there is no such node, or it is attached already.
        """
        with self._change:
            if node not in self.world.nodes:
                raise EtherError(f"there is no node '{node}': {', '.join(self.world.nodes)}")
            if node in self._radios:
                raise EtherError(f"'{node}' is attached already")
            stream = self._streams.get(node, 0)
            self._streams[node] = stream + 1
            front = self.world.nodes[node].front_end
            latency = 0
            if not front.time_stamps and front.start_latency_samples:
                random = generator(self.world.spec.seed, node, "start latency", stream)
                latency = int(random.integers(front.start_latency_samples, endpoint=True))
            self._radios[node] = _Attached(stream, latency)
            return stream

    def detach(self, node: str) -> None:
        """Take a node out; nobody waits for it any more. Detaching twice is harmless."""
        with self._change:
            self._radios.pop(node, None)
            if all(radio.wanted is None for radio in self._radios.values()):
                self._waiting_since = None
            self._change.notify_all()

    def present(self, node: str) -> Present:
        """What time it is for a node whose device has time stamps; it stands still until the next batch.

        Raises
        ------
        EtherError
            If the node is not attached.
        """
        with self._change:
            radio = self._radio(node)
            start = self._start(node)
            first = self.world.tick_at(node, start)
            origin = self._origin(node, radio, first)
            return Present(first - origin, self.world.tick_at(node, Fraction(floor(start))) - origin)

    def transmit(
        self,
        node: str,
        samples: NDArray[np.complex64],
        *,
        offset_samples: int = 0,
        tick: int | None = None,
        carrier_hz: Fraction | None = None,
        level_db: float = 0.0,
    ) -> None:
        """Queue samples to leave ``offset_samples`` after the first sample of the node's next reception.

        They are of shape (sample,), for the first transmit antenna, or (antenna, sample).
        With ``tick`` they leave at that tick of the device's counter instead, as timed transmission does. A device
        that is tuned and set by itself says where its synthesizer is and how far above the node's power it sends.

        Raises
        ------
        EtherError
            If the node is not attached.
        ValueError
            If the offset is negative, the samples exceed full scale, or the node has not so many antennas.
        """
        values = np.asarray(samples, dtype=np.complex64)
        if offset_samples < 0:
            raise ValueError(f"'{node}' wants to transmit {-offset_samples} samples before it starts to receive")
        if values.size and float(np.max(np.abs(values))) > 1.0 + 1e-6:
            raise ValueError(f"samples of '{node}' exceed full scale: peak {float(np.max(np.abs(values))):.3f}")
        with self._change:
            radio, has = self._radio(node), self.world.nodes[node].transmit_antennas
            streams = values if values.ndim == 2 else values[None]
            if len(streams) > has:
                raise ValueError(f"'{node}' has {has} transmit antennas, {len(streams)} streams given")
            radio.queue += [
                _Queued(stream, offset_samples, tick, carrier_hz, level_db, antenna)
                for antenna, stream in enumerate(streams)
            ]

    def receive(
        self,
        node: str,
        samples: int,
        *,
        tick: int | None = None,
        carrier_hz: Fraction | None = None,
        gains_db: tuple[float, ...] | None = None,
    ) -> Reception:
        """Next stretch of a node; blocks until its batch is rendered.

        It begins at ``tick`` of the device's counter, as timed reception does, or at the node's present. A device that
        is tuned and set by itself says where its synthesizer is and the gain of each antenna.

        Raises
        ------
        EtherError
            If the node is not attached, is detached meanwhile, or waits for another reception already.
        ValueError
            If no samples are asked for, or they lie in the past.
        """
        if samples < 1:
            raise ValueError(f"'{node}' asks for {samples} samples")
        with self._change:
            radio = self._radio(node)
            if radio.wanted is not None or radio.result is not None:
                raise EtherError(f"'{node}' waits for another reception already")
            if tick is not None and tick < (now := self.present(node).tick):
                raise ValueError(f"'{node}' wants to receive from tick {tick}, {now - tick} samples in the past")
            if gains_db is not None and len(gains_db) != self.world.nodes[node].antennas:
                raise ValueError(
                    f"'{node}' has {self.world.nodes[node].antennas} antennas, {len(gains_db)} gains given"
                )
            radio.wanted, radio.wanted_tick, radio.stalled = samples, tick, False
            radio.carrier_hz, radio.gains_db = carrier_hz, gains_db
            if self._waiting_since is None:
                self._waiting_since = monotonic()
            self._change.notify_all()
            while (result := self._turn(node, radio)) is None:
                waited = monotonic() - (self._waiting_since or monotonic())
                self._change.wait(max(self._timeout - waited, 0.0) + 1e-3)
        if isinstance(result, Exception):
            raise result
        return result

    # -- behind the lock --------------------------------------------------------------------------------------

    def _radio(self, node: str) -> _Attached:
        if node not in self._radios:
            raise EtherError(f"'{node}' is not attached")
        return self._radios[node]

    def _turn(self, node: str, radio: _Attached) -> Reception | Exception | None:
        """What a waiting radio is due, once there is something; renders the batch if it is time."""
        if self._radios.get(node) is not radio:
            raise EtherError(f"'{node}' was detached while it waited")
        if radio.result is None:
            self._render_if_due()
        result, radio.result = radio.result, None
        return result

    def _render_if_due(self) -> None:
        missing = [radio for radio in self._radios.values() if radio.wanted is None and not radio.stalled]
        overdue = self._waiting_since is not None and monotonic() - self._waiting_since >= self._timeout
        if missing and not overdue:
            return
        for radio in missing:
            radio.stalled = True
        self._render()
        self._waiting_since = None
        self._change.notify_all()

    def _render(self) -> None:
        """Render the batch for all who asked, and move on to the next."""
        asking = {name: radio for name, radio in self._radios.items() if radio.wanted is not None}
        requests: dict[str, Request] = {}
        bursts: dict[str, list[Burst]] = {}
        longest = Fraction(0)
        for name, radio in asking.items():
            first = earliest = self.world.tick_at(name, self._start(name))
            radio.origin = self._origin(name, radio, first)
            if radio.wanted_tick is not None:
                first = radio.wanted_tick + radio.origin
            count = radio.wanted or 0
            longest = max(longest, Fraction(first - earliest + count) / self.world.nodes[name].rate_hz)
            requests[name] = Request(first, count, self._batch, radio.stream, radio.carrier_hz, radio.gains_db)
            bursts[name] = [
                Burst(
                    first + queued.offset + radio.latency if queued.tick is None else queued.tick + radio.origin,
                    0.0,
                    queued.samples,
                    radio.stream,
                    queued.carrier_hz,
                    queued.level_db,
                    queued.antenna,
                )
                for queued in radio.queue
            ]
        try:
            rendered: dict[str, Rendered] = self.world.render(bursts, requests)
        except Exception as error:  # the batch is lost for all, and each is told why in its own thread
            for radio in asking.values():
                radio.result = error
        else:
            for name, radio in asking.items():
                radio.result = self._reception(name, radio, requests[name], bursts[name], rendered[name])
        for radio in asking.values():
            radio.wanted = radio.wanted_tick = None
            radio.queue.clear()
        self._time += max(self._period, Fraction(ceil((longest + 2 * self._spread) * 1000 + 1), 1000))
        self._batch += 1

    def _origin(self, node: str, radio: _Attached, first: int) -> int:
        """Tick of the node's clock at which its counter starts, if it records from tick ``first``."""
        if radio.origin is not None:
            return radio.origin
        # A device with time stamps counts from when it was switched on, at the world's beginning at the latest.
        stamps = self.world.nodes[node].front_end.time_stamps
        return min(0, self.world.tick_at(node, Fraction(0))) if stamps else first

    def _start(self, node: str) -> Fraction:
        """True time at which a node starts to record in this batch."""
        share = generator(self.world.spec.seed, node, "start", self._batch).uniform(-1.0, 1.0)
        return self._time + self._spread * Fraction(share)

    def _reception(
        self, name: str, radio: _Attached, request: Request, bursts: list[Burst], rendered: Rendered
    ) -> Reception:
        stamps = self.world.nodes[name].front_end.time_stamps
        origin = radio.origin or 0
        sent = [burst for burst in bursts if burst.antenna == 0] if stamps else []
        departures = [(burst.start_tick - origin, burst.start_fraction) for burst in sent]
        return Reception(rendered, request.first_tick - origin, radio.stream, self._batch, departures)
