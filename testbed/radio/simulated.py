"""Simulated radios: the driver, and the server that lets the radios of several processes meet in one ether.

Run as a module it is the ether's process: it reads the experiment from its standard input, writes the port that it
listens on, then a line each second as a sign of life, and ends when its standard input does. A line that it reads
names a node that nobody hears any more, and for which the ether shall not wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sim_backend.clocks import PowerLaw
from sim_backend.ether import BEGIN_S, Ether, EtherError
from sim_backend.ether import Reception as EtherReception
from sim_backend.synthesizer import RATE_RANGE_HZ, applied_carrier_hz, applied_rate_hz
from sim_backend.world import (
    Burst,
    ClockSpec,
    FrontEndSpec,
    NodeSpec,
    ReflectorSpec,
    Request,
    SceneSpec,
    World,
    WorldSpec,
)
from testbed import schedule
from testbed.capture import Departure, Stretch
from testbed.protocol import DepartureRow, StretchRow
from testbed.radio import wire
from testbed.radio.base import Applied, Capabilities, RadioError, Reception, Settings
from testbed.radio.ether_client import EtherConnection
from testbed.radio.wire import Attach, Attached, Done, Look, Receive, Received, Refused, Seen, Transmit, WireError
from testbed.scenario import Node, Reflector, Scenario, loads

__all__ = ["EtherServer", "SimulatedRadio", "world_specification"]

_NOTHING = np.zeros(0, np.int16)
_STALL_S = 60.0
"""Radios that hang are dropped by the coordinator; the ether itself is patient, so that load changes no result."""


# The driver -------------------------------------------------------------------------------------------------------


class SimulatedRadio:
    """Radio of the node ``name`` in the ether at ``address`` (HOST:PORT); keeps `testbed.radio.base.Radio`.

    Raises
    ------
    RadioError
        If nothing answers there.
    """

    def __init__(self, name: str, address: str) -> None:
        self._name = name
        self._ether = EtherConnection(address)
        self._attached: Attached | None = None
        self._lead = 0
        """Samples from the order to receive to the first one."""

    @property
    def capabilities(self) -> Capabilities:
        """As the AD936x's, with time stamps where the front end has them."""
        stamps = self._attached is not None and self._attached.time_stamps
        return Capabilities(
            time_stamps=stamps, timed_transmit=stamps, full_duplex=True, channels=4, rates_hz=RATE_RANGE_HZ
        )

    def configure(self, settings: Settings) -> Applied:
        """See `Radio.configure`: the stream is started anew."""
        answer, _ = self._ether.ask(Attach(self._name))
        if not isinstance(answer, Attached):
            raise RadioError(f"the ether answers an attachment with {type(answer).__name__}")
        if answer.antennas != settings.antennas:
            raise RadioError(
                f"{self._name} has {answer.antennas} antennas in the ether, {settings.antennas} are wanted"
            )
        self._attached = answer
        self._lead = round(settings.start_lead_s * Fraction(answer.rate_hz))
        return Applied(Fraction(answer.carrier_hz), Fraction(answer.rate_hz), answer.details)

    def transmit(self, samples: NDArray[np.complex64], *, offset_samples: int) -> None:
        """See `Radio.transmit`."""
        antennas = len(samples) if samples.ndim == 2 else 1
        answer, _ = self._ether.ask(Transmit(offset_samples, antennas=antennas), np.asarray(samples, np.complex64))
        if not isinstance(answer, Done):
            raise RadioError(f"the ether answers a transmission with {type(answer).__name__}")

    def receive(self, samples: int) -> Reception:
        """See `Radio.receive`; returns when every attached radio has asked."""
        tick = None
        if self._lead:
            present, _ = self._ether.ask(Look())
            if not isinstance(present, Seen):
                raise RadioError(f"the ether answers a look with {type(present).__name__}")
            tick = present.tick + self._lead
        answer, data = self._ether.ask(Receive(samples, tick))
        if not isinstance(answer, Received) or len(data) != 4 * answer.antennas * answer.samples:
            raise RadioError(f"the ether answers a reception with {type(answer).__name__}")
        return Reception(
            samples=np.frombuffer(data, np.int16).reshape(answer.antennas, answer.samples, 2),
            full_scale=answer.full_scale,
            stretches=tuple(Stretch(row.start, row.samples, row.first_tick) for row in answer.stretches),
            stream=answer.stream,
            departures=tuple(Departure(row.frame, row.tick, row.fraction) for row in answer.departures),
            truth=answer.truth,
            events=answer.events,
        )

    def close(self) -> None:
        """See `Radio.close`."""
        self._ether.close()


# The ether's specification ----------------------------------------------------------------------------------------


def world_specification(scenario: Scenario, *, names: Collection[str] | None = None) -> WorldSpec:
    """World in which the simulated nodes of ``scenario`` stand, or those of ``names``.

    Raises
    ------
    ValueError
        If carrier or rate are outside what the simulated device can do.
    """
    waveform, scene = scenario.waveform, scenario.scene
    numerology = schedule.dsp_waveform(scenario)
    return WorldSpec(
        nodes=tuple(
            _node_specification(scenario, node)
            for node in scenario.node
            if (node.in_ether if names is None else node.name in names)
        ),
        scene=SceneSpec(
            line_of_sight=scene.line_of_sight,
            reflectors=tuple(
                ReflectorSpec(_before_begin(reflector), reflector.velocity_mps, reflector.rcs_m2, reflector.name)
                for reflector in scene.reflector
            ),
            snr_db=scene.snr_db,
            leakage_db=None if isinstance(scene.leakage_db, str) else scene.leakage_db,
            own_echoes=not isinstance(scene.leakage_db, str),
        ),
        seed=scenario.experiment.seed,
        reference_bandwidth_hz=waveform.active_subcarriers * numerology.spacing_hz,
        reference_power=numerology.scale**2,
    )


def _before_begin(reflector: Reflector) -> tuple[float, ...]:
    """Where a reflector is when the ether's time is zero, so that it is in its place when the run begins."""
    velocity = (*reflector.velocity_mps, 0.0)[: len(reflector.position_m)]
    return tuple(x - v * float(BEGIN_S) for x, v in zip(reflector.position_m, velocity, strict=True))


def _node_specification(scenario: Scenario, node: Node) -> NodeSpec:
    front, clock = node.front_end, node.clock
    law = clock.power_law
    carrier_hz, rate_hz = _applied(scenario, node)
    return NodeSpec(
        name=node.name,
        position_m=node.position_m,
        heading_deg=node.heading_deg,
        antennas=node.antennas,
        antenna_spacing_m=node.antenna_spacing_m,
        transmit_antennas=node.transmit_antennas,
        port=node.port,
        tx_offset_m=node.tx_offset_m,
        rx_offset_m=node.rx_offset_m,
        tx_power_dbm=node.tx_power_dbm,
        carrier_hz=carrier_hz,
        rate_hz=rate_hz,
        clock=ClockSpec(
            offset_ppm=clock.offset_ppm,
            offset_s=clock.offset_s,
            drift_ppm_per_s=clock.drift_ppm_per_s,
            profile=PowerLaw(law.random_walk_fm, law.flicker_fm, law.white_fm, law.flicker_pm, law.white_pm)
            if any(msgspec.structs.astuple(law))
            else None,
        ),
        front_end=FrontEndSpec(
            noise_figure_db=None if isinstance(front.noise_figure_db, str) else front.noise_figure_db,
            level_dbfs=front.level_dbfs - _headroom_db(scenario),
            gain_db=front.gain_db,
            # A simulated Pluto's own filters come before its converter, and want more bits than that leaves.
            bits=None if node.radio == "pluto" else front.bits,
            phase_noise_deg=front.phase_noise_deg,
            phase_noise_bandwidth_hz=front.phase_noise_bandwidth_hz,
            common_phase=front.common_phase,
            gain_imbalance_db=front.gain_imbalance_db,
            phase_imbalance_deg=front.phase_imbalance_deg,
            dc_offset=complex(*front.dc_offset),
            # A Pluto loses whole blocks, between which its client cannot tell how long it was.
            lost_buffer_probability=0.0 if node.radio == "pluto" else front.lost_buffer_probability,
            buffer_samples=front.buffer_samples,
            transmit_delay_s=front.transmit_delay_s,
            receive_delay_s=front.receive_delay_s,
            leakage_delay_s=front.leakage_delay_s,
            time_stamps=front.time_stamps or node.radio == "usrp",
            start_latency_samples=int(front.start_latency_s * scenario.waveform.sample_rate_hz),
        ),
    )


def _headroom_db(scenario: Scenario) -> float:
    """How far the joint slot may come in above the strongest slot: every station's antennas in phase."""
    said = scenario.signalling
    if said is None:
        return 0.0
    from testbed.precoders import numbers

    power = (np.abs(numbers(said.precoders)) ** 2).sum(axis=1).mean(axis=0)
    together = float((np.sqrt(power).sum(axis=1) ** 2).sum())
    slot = 1e-3 * 10 ** (max(node.tx_power_dbm for node in scenario.node) / 10)
    slot *= schedule.dsp_waveform(scenario).scale ** 2
    return max(10 * float(np.log10(together / slot)), 0.0)


def _applied(scenario: Scenario, node: Node) -> tuple[Fraction, Fraction]:
    """Carrier and rate that the node's device makes of what is asked, exact."""
    carrier_hz, rate_hz = schedule.nominal_carrier_hz(scenario), schedule.nominal_rate_hz(scenario)
    if node.radio == "usrp":
        from testbed.radio.simulated_usrp import applied

        return applied(node, carrier_hz, rate_hz)
    if node.radio == "pluto":
        from testbed.radio import simulated_pluto_node

        return simulated_pluto_node.applied(carrier_hz, rate_hz)
    return applied_carrier_hz(carrier_hz), applied_rate_hz(rate_hz)


# The server -------------------------------------------------------------------------------------------------------


class EtherServer:
    """Ether of ``scenario``, open to other processes of this machine: one thread for each radio."""

    def __init__(self, scenario: Scenario) -> None:
        specification = world_specification(scenario)
        _compile(specification)
        self._ether = Ether(
            specification,
            start_spread_s=scenario.round.start_spread_s,
            round_period_s=schedule.round_period_s(scenario),
            stall_timeout_s=_STALL_S,
        )
        self._lock = threading.Lock()
        self._owners: dict[str, socket.socket] = {}
        """Connection that each node belongs to."""
        self._dropped: set[str] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="ether", daemon=True)
        self._thread.start()

    def drop(self, node: str) -> None:
        """Stop waiting for ``node``, which is answered no more until it attaches anew."""
        with self._lock:
            self._dropped.add(node)
            self._ether.detach(node)

    def close(self) -> None:
        """Take no more radios; those attached lose the ether when the process ends."""
        with contextlib.suppress(OSError):  # wakes the accepting thread on Linux, unsupported elsewhere
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Answer one radio until it is gone."""
        node = ""
        with connection:
            try:
                while True:
                    question, data = wire.receive_question(connection)
                    try:
                        if isinstance(question, Attach):
                            node = question.node
                            self._attach(node, connection)
                        answer, samples = self._answer(node, connection, question, data)
                    except (EtherError, ValueError) as error:
                        answer, samples = Refused(str(error)), _NOTHING
                    if node in self._dropped:
                        continue  # it has been frozen, and would be out of step: whoever dropped it will tell it
                    wire.send(connection, answer, samples)
            except WireError:
                pass  # the radio is gone, which is how every conversation ends
            finally:
                with self._lock:
                    if self._owners.get(node) is connection:
                        del self._owners[node]
                        self._ether.detach(node)

    def _attach(self, node: str, connection: socket.socket) -> None:
        """Give ``node`` to this connection, on a new stream; one that had it before, and may be dead, loses it."""
        with self._lock:
            self._ether.detach(node)
            self._ether.attach(node)
            self._dropped.discard(node)
            self._owners[node] = connection

    def _answer(
        self, node: str, connection: socket.socket, question: wire.Question, data: bytearray
    ) -> tuple[wire.Answer, NDArray[np.int16]]:
        if isinstance(question, Attach):
            own = self._ether.world.nodes[node]
            return Attached(
                carrier_hz=str(own.carrier_hz),
                rate_hz=str(own.rate_hz),
                antennas=own.antennas,
                time_stamps=own.front_end.time_stamps,
                details={"radio": "simulated", "tx_power_dbm": own.tx_power_dbm, "bits": own.front_end.bits or 16},
            ), _NOTHING
        if self._owners.get(node) is not connection:
            raise EtherError(f"{node!r} belongs to another connection" if node else "attach first")
        if isinstance(question, Look):
            present = self._ether.present(node)
            return Seen(present.tick, present.second_tick), _NOTHING
        if isinstance(question, Transmit):
            samples = np.frombuffer(data, np.complex64)
            if samples.size % question.antennas:
                raise ValueError(f"{samples.size} samples are not as many for each of {question.antennas} antennas")
            if question.antennas > 1:
                samples = samples.reshape(question.antennas, -1)
            self._ether.transmit(
                node, samples, offset_samples=question.offset, tick=question.tick,
                carrier_hz=_exact(question.carrier_hz), level_db=question.level_db,
            )  # fmt: skip
            return Done(), _NOTHING
        received = self._ether.receive(
            node, question.samples, tick=question.tick, carrier_hz=_exact(question.carrier_hz),
            gains_db=question.gains_db,
        )  # fmt: skip
        return _received(received), received.rendered.samples


def _exact(rational: str | None) -> Fraction | None:
    return None if rational is None else Fraction(rational)


def _since_begin(reception: EtherReception) -> dict[str, Any]:
    """Truth of the node's clock, by time since the run began and from the counter's first tick."""
    truth = reception.rendered.truth
    return truth | {"start_s": truth["start_s"] - int(BEGIN_S), "first_tick": reception.first_tick}


def _received(reception: EtherReception) -> Received:
    """A reception as it travels: gaps become the edges of stretches, and an event says what was lost."""
    samples = reception.rendered.samples
    antennas, count, _ = samples.shape
    rows = []
    start, tick = 0, reception.first_tick
    lost = 0
    for index, missing in [*reception.rendered.gaps, (count, 0)]:
        if index > start:
            rows.append(StretchRow(start, index - start, tick))
        tick += index - start + missing
        start = index
        lost += missing
    text = f"{lost} samples lost in {len(reception.rendered.gaps)} places"
    return Received(
        antennas=antennas,
        samples=count,
        full_scale=reception.rendered.full_scale,
        stretches=tuple(rows),
        stream=reception.stream,
        departures=tuple(DepartureRow(0, tick, fraction) for tick, fraction in reception.departures),
        truth=_since_begin(reception),
        events=({"code": "samples-lost", "text": text},) if lost else (),
    )


def _compile(specification: WorldSpec) -> None:
    """Render an instant of such a world and throw it away, so that nothing is compiled once radios wait for samples.

    Their drivers' patience ends before a machine that has no compiled kernels yet is done with the first rendering.
    """
    world = World(specification)
    first = {name: world.tick_at(name, BEGIN_S) for name in world.nodes}
    burst = np.ones(64, np.complex64)
    world.render(
        {name: [Burst(tick, 0.0, burst)] for name, tick in first.items()},
        {name: Request(tick, 256, 0) for name, tick in first.items()},
    )


def _lines(descriptor: int) -> Iterator[str]:
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        rest = b""
        while data := stream.read(4096):
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)


def main() -> None:
    """Process of the ether; see the module's text."""
    size = struct.unpack("<I", _exactly(4))[0]
    server = EtherServer(loads(_exactly(size).decode(), source="the run's scenario", methods_here=False))
    print(server.port, flush=True)
    gone = threading.Event()

    def obey() -> None:
        for line in _lines(sys.stdin.fileno()):
            # In a thread of its own: the ether is busy while it renders.
            threading.Thread(target=server.drop, args=(line,), daemon=True).start()
        gone.set()

    threading.Thread(target=obey, daemon=True).start()
    while not gone.wait(1.0):
        print(f"{time.monotonic():.0f}", flush=True)
    server.close()
    sys.stdout.flush()
    os._exit(0)  # radios may still wait in their threads: nobody is left to answer


def _exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = os.read(sys.stdin.fileno(), count - len(data))
        if not part:
            raise SystemExit("the experiment did not arrive")
        data += part
    return data


if __name__ == "__main__":
    main()
