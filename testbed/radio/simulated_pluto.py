"""Simulated Plutos on the network: what the command line asks for, made of the simulator's parts.

One of the few modules that know the simulator. A Pluto that it starts is reached like a real one, by its address: no
driver imports this.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_backend.pluto.air import Air
from sim_backend.pluto.cable import Cable
from sim_backend.pluto.device import MODELS, Pluto
from sim_backend.pluto.emissions import Emission, window
from sim_backend.pluto.filters import reach
from sim_backend.pluto.medium import FULL_SCALE_DBM, Medium, converted, sent_signal
from sim_backend.pluto.server import PlutoServer, SocketStream
from sim_backend.pluto.session import Session, converse
from sim_backend.pluto.settings import Settings
from sim_backend.randomness import generator
from sim_backend.specification import FrontEndSpec, NodeSpec
from testbed.errors import UserError
from testbed.radio.base import RadioError
from testbed.radio.ether_client import EtherConnection
from testbed.radio.simulated import world_specification
from testbed.radio.wire import Attach, Attached, Done, Look, Receive, Received, Seen, Transmit
from testbed.scenario import Scenario

__all__ = ["Interlocutor", "Looped", "PlutoServer", "serve_in_ether", "serve_looped", "serve_scene"]

IDEAL = FrontEndSpec(
    noise_figure_db=None, phase_noise_deg=0.0, gain_imbalance_db=0.0, phase_imbalance_deg=0.0, dc_offset=0j
)
"""A front end whose only imperfections are its converters' bits."""
CORNER_SPREAD = 0.01
"""Of a Pluto's analog filters after it tuned them; the part's data sheet states none."""
_LEVEL_SAMPLES = 16_384


@dataclass(frozen=True)
class Looped:
    """A Pluto by itself, its transmitter wired to its receiver."""

    model: str = "1r1t"
    clock: str = "virtual"
    attenuation_db: float = 30.0
    ideal: bool = False
    """No noise, no phase noise, no imbalance, no offset: the converters' bits only."""
    seed: int = 0


def serve_looped(what: Looped, *, host: str = "127.0.0.1", port: int = 0) -> PlutoServer:
    """Server of a Pluto by itself, running.

    Raises
    ------
    UserError
        If the port cannot be had.
    """
    front = IDEAL if what.ideal else FrontEndSpec()
    cable = Cable(MODELS[what.model], front, attenuation_db=what.attenuation_db, seed=what.seed)
    spread = 0.0 if what.ideal else CORNER_SPREAD
    pluto = Pluto(what.model, cable, clock=what.clock, seed=what.seed, corner_spread=spread)
    return _listening(pluto, host, port)


def serve_scene(
    scenario: Scenario,
    ports: Sequence[tuple[str, int]],
    *,
    model: str,
    clock: str,
    host: str = "127.0.0.1",
    wait_s: float = 0.25,
) -> list[PlutoServer]:
    """Servers of Plutos at nodes of a scenario, (name, port) each, which hear each other; running.

    Raises
    ------
    UserError
        If there is no such node, it has another number of antennas than the model, or a port cannot be had.
    """
    for name, _ in ports:
        _checked(scenario, name, model)
    air = Air(
        world_specification(scenario, names=_present(scenario, [name for name, _ in ports])),
        wait_s=wait_s,
        start_spread_s=scenario.round.start_spread_s,
    )
    servers: list[PlutoServer] = []
    try:
        for name, port in ports:
            node = scenario.node[scenario.index(name)]
            pluto = Pluto(
                model, air.antenna(name), clock=clock, name=name, seed=scenario.experiment.seed,
                latency_s=node.front_end.start_latency_s, corner_spread=CORNER_SPREAD,
            )  # fmt: skip
            servers.append(_listening(pluto, host, port))
    except UserError:
        for server in servers:
            server.close()
        raise
    return servers


def serve_in_ether(
    scenario: Scenario, name: str, *, address: str, model: str, host: str = "127.0.0.1", port: int = 0
) -> PlutoServer:
    """Server of a Pluto at a node of a scenario, in the ether that another process serves; running.

    Raises
    ------
    UserError
        Likewise.
    """
    _checked(scenario, name, model)
    (node,) = world_specification(scenario, names=[name]).nodes
    medium = EtherMedium(node, address, scenario)
    # The ether itself starts transmissions late by a latency that is unknown to the node.
    pluto = Pluto(model, medium, name=name, seed=scenario.experiment.seed, latency_s=0.0, corner_spread=CORNER_SPREAD)
    return _listening(pluto, host, port)


class Interlocutor:
    """A looped-back Pluto to talk to without any network."""

    def __init__(self, model: str = "1r1t") -> None:
        self._pluto = Pluto(model, Cable(MODELS[model], FrontEndSpec()))

    def answer(self, said: bytes) -> bytes:
        """What it answers to a client that says ``said`` and is gone then."""
        return converse(self._pluto, said)

    def serve(self, connection: socket.socket, tell: Callable[[bytes], None]) -> None:
        """Answer the client at ``connection`` until it leaves; ``tell`` is given each answer, and may send another.

        Raises
        ------
        OSError
            If the client is gone.
        """
        Session(self._pluto, _Told(connection, tell)).serve()


class _Told(SocketStream):
    """A connection whose answers somebody else sends."""

    def __init__(self, connection: socket.socket, tell: Callable[[bytes], None]) -> None:
        super().__init__(connection)
        self._tell = tell

    def send(self, *parts: bytes | memoryview) -> None:
        """See `sim_backend.pluto.session.Stream`."""
        self._tell(b"".join(parts))


def _checked(scenario: Scenario, name: str, model: str) -> None:
    antennas = scenario.node[scenario.index(name)].antennas
    if antennas != MODELS[model]:
        fitting = next((other for other, channels in MODELS.items() if channels == antennas), "none")
        raise UserError(f"node {name!r} has {antennas} antennas, a {model} Pluto {MODELS[model]}: --model {fitting}")


def _present(scenario: Scenario, names: list[str]) -> list[str]:
    """Nodes of the scene: a lone Pluto has to have somebody above whom its leakage can be stated."""
    return names if len(names) > 1 else [node.name for node in scenario.node]


def _listening(pluto: Pluto, host: str, port: int) -> PlutoServer:
    pluto.warm()
    try:
        return PlutoServer(pluto, host=host, port=port)
    except OSError as error:
        raise UserError(f"--port {port} at {host} cannot be had: {error.strerror or error}: choose another") from None


class EtherMedium(Medium):
    """The ether at ``address`` as the medium of one Pluto: each block is a reception of its own there.

    It belongs to the ether while it has a client: the ether's other radios wait for it as long.
    """

    alone = False

    def __init__(self, node: NodeSpec, address: str, scenario: Scenario) -> None:
        self.channels = node.antennas
        self._node, self._address = node, address
        self._seed = scenario.experiment.seed
        front = scenario.node[scenario.index(node.name)].front_end
        self._lost_share, self._buffer = front.lost_buffer_probability, front.buffer_samples
        self._lock = threading.Lock()
        self._clients = 0
        self._ether: EtherConnection | None = None
        self._truth: dict[str, Any] | None = None
        self._power_dbm = [-60.0] * self.channels
        self.lead_s = 0.0
        """From the order to record to the first sample, as all radios of a run agree on it."""

    def warm(self, settings: Settings) -> None:
        """See `Medium.warm`: all samples are made in the ether's process."""

    def join(self, *, leave: bool = False) -> None:
        """See `Medium.join`."""
        with self._lock:
            self._clients += -1 if leave else 1
            if self._clients == 0 and self._ether is not None:
                self._ether.close()
                self._ether = None
            if self._clients > 0 and self._ether is None:
                try:
                    self._attach()
                except RadioError as error:
                    self._clients -= 1
                    raise ConnectionAbortedError(str(error)) from None

    def tuned(self, settings: Settings) -> None:
        """See `Medium.tuned`: a synthesizer that is tuned anew locks at another phase, as a new stream's does.

        At once, and not before the next reception: others might be waiting for that one already.
        """
        with self._lock:
            if self._ether is not None:
                try:
                    self._attach()
                except RadioError as error:
                    raise ConnectionAbortedError(str(error)) from None

    def _attach(self) -> None:
        if self._ether is None:
            self._ether = EtherConnection(self._address)
        answer, _ = self._ether.ask(Attach(self._node.name))
        if not isinstance(answer, Attached):
            raise RadioError(f"the ether answers an attachment with {type(answer).__name__}")

    def hang_up(self) -> None:
        """Leave the ether at once, though a client may wait for it."""
        ether = self._ether
        if ether is not None:
            ether.close()

    def truth(self) -> dict[str, Any] | None:
        """See `Medium.truth`."""
        return self._truth

    def lost(self, block: int) -> int:
        """See `Medium.lost`."""
        if not self._lost_share:
            return 0
        return self._buffer * int(generator(self._seed, self._node.name, "lost", block).uniform() < self._lost_share)

    def power_dbm(self, channel: int, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> float:
        """See `Medium.power_dbm`: that of the last reception, for time in the ether passes by receptions."""
        return self._power_dbm[channel]

    def receive(self, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> NDArray[np.int16]:
        """See `Medium.receive`; raises `ConnectionError` if the ether is gone or refuses, which ends the client's."""
        try:
            return self._received(first, samples, settings, emissions)
        except RadioError as error:
            raise ConnectionAbortedError(str(error)) from None

    def _received(self, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> NDArray[np.int16]:
        ether = self._ether
        if ether is None:
            raise RadioError("nobody is there to receive")
        if settings.rate_hz != self._node.rate_hz:
            own, other = float(settings.rate_hz), float(self._node.rate_hz)
            raise RadioError(f"{self._node.name} runs at {own:.0f} Hz, the ether at {other:.0f} Hz")
        path, rate_hz = settings.receive_path, float(settings.rate_hz)
        # The ether records what the filters look at before and after, too, with more bits than the converter has.
        sending = 0 if settings.transmit_path is None else reach(settings.transmit_path, rate_hz)
        hearing = 0 if path is None else reach(path, rate_hz)
        early = sending + hearing
        for emission in emissions if settings.radiating else ():
            start = max(emission.start, first)
            stop = first + samples if emission.stop is None else min(emission.stop, first + samples)
            if start >= stop:
                continue
            played = window([emission], start, stop - start, emission.samples.shape[1])[:, :2] >> 4
            values, before = sent_signal(played, settings)
            scale = max(float(np.max(np.abs(values))), 1.0)  # both branches at full scale are 3 dB beyond a carrier's
            level_db = FULL_SCALE_DBM + settings.transmit_gain_db[0] - self._node.tx_power_dbm + 20 * np.log10(scale)
            question = Transmit(start - first + early - before, None, str(settings.transmit_hz), float(level_db))
            answer, _ = ether.ask(question, np.asarray(values / np.float32(scale), np.complex64))
            if not isinstance(answer, Done):
                raise RadioError(f"the ether answers a transmission with {type(answer).__name__}")
        tick = None
        if self.lead_s:
            seen, _ = ether.ask(Look())
            if not isinstance(seen, Seen):
                raise RadioError(f"the ether answers a look with {type(seen).__name__}")
            tick = seen.tick + round(self.lead_s * self._node.rate_hz) - early
        length = early + samples + hearing
        answer, data = ether.ask(Receive(length, tick, str(settings.receive_hz), settings.receive_gain_db))
        if not isinstance(answer, Received) or len(data) != 4 * self.channels * length:
            raise RadioError(f"the ether answers a reception with {type(answer).__name__}")
        counts = np.frombuffer(data, np.int16).reshape(self.channels, length, 2)
        for channel, gain in enumerate(settings.receive_gain_db):
            level = np.mean(np.sum(counts[channel, -_LEVEL_SAMPLES:].astype(float) ** 2, axis=1)) / answer.full_scale**2
            self._power_dbm[channel] = float(10 * np.log10(max(level, 1e-12))) - gain
        self._truth = answer.truth | {"first_tick": -early}
        if not settings.listening:
            return np.zeros((samples, 2 * self.channels), np.int16)
        return converted(counts[:, sending:], answer.full_scale, path, rate_hz)
