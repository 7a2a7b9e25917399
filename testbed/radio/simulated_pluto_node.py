"""A simulated Pluto: the driver of real ones, over unchanged pyadi-iio, in the ether that all simulated radios share.

The Pluto's server runs beside the driver, on a port of this machine. Its time stands still until a buffer is asked for;
that buffer is then recorded in the ether's next batch, together with what all others send and record.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from sim_backend.pluto.attributes import RefusedError
from sim_backend.pluto.cable import Medium
from sim_backend.pluto.chain import clock_chain
from sim_backend.pluto.device import Pluto as SimulatedDevice
from sim_backend.pluto.emissions import Counts, Emission, window
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.server import PlutoServer
from sim_backend.pluto.settings import Settings as Hardware
from sim_backend.synthesizer import applied_carrier_hz
from testbed.radio.base import Applied, RadioError, Reception, Settings
from testbed.radio.ether_client import EtherConnection
from testbed.radio.pluto import PlutoRadio
from testbed.radio.wire import Attach, Attached, Done, Look, Receive, Received, Seen, Transmit
from testbed.scenario import Node, Pluto

__all__ = ["EtherMedium", "SimulatedPluto", "applied"]

_MARGIN_S = 0.02
"""Beyond its own recording, so long others may still hear what it sends round and round."""
_REFERENCE_FACTOR = 4
"""Decimation of the library's FIR filter up to 20 MS/s; beyond, 2."""


def applied(carrier_hz: Fraction, rate_hz: Fraction) -> tuple[Fraction, Fraction]:
    """Carrier and rate that a Pluto makes of those asked for, exact.

    Raises
    ------
    ValueError
        If it can do neither.
    """
    factor = _REFERENCE_FACTOR if rate_hz <= 20_000_000 else 2
    chain = clock_chain(round(rate_hz), receive_fir=factor, transmit_fir=factor)
    return applied_carrier_hz(round(carrier_hz) & ~1), chain.rate_hz


class EtherMedium(Medium):
    """Antennas of the node ``name`` in the ether at ``address``."""

    def __init__(self, name: str, address: str, options: Pluto) -> None:
        self._ether = EtherConnection(address)
        self._attenuation_db = options.tx_attenuation_db
        answer, _ = self._ether.ask(Attach(name))
        if not isinstance(answer, Attached):
            raise RadioError(f"the ether answers an attachment with {type(answer).__name__}")
        self.carrier_hz, self.rate_hz = Fraction(answer.carrier_hz), Fraction(answer.rate_hz)
        self.channels = answer.antennas
        self.lead_s = 0.0
        """From the order to record to the first sample."""
        self.truth: dict[str, Any] | None = None
        """Of the last recording."""
        self.overflow: Engine | None = None
        """Whose overflow is flagged where the ether lost samples."""
        self.trouble = ""
        """Why the last recording failed."""

    def receive(self, first: int, samples: int, settings: Hardware, emissions: list[Emission]) -> Counts:
        """See `Medium.receive`: the ether's next batch, in which what is sent leaves as the Pluto's time says."""
        try:
            return self._receive(first, samples, settings, emissions)
        except RadioError as error:
            self.trouble = str(error)
            raise RefusedError(errno.EIO) from None

    def _receive(self, first: int, samples: int, settings: Hardware, emissions: list[Emission]) -> Counts:
        if (settings.rate_hz, settings.receive_hz) != (self.rate_hz, self.carrier_hz):
            raise RadioError(
                f"the ether was made for {float(self.carrier_hz):.3f} Hz at {float(self.rate_hz):.3f} S/s, but the "
                f"Pluto is set to {float(settings.receive_hz):.3f} Hz at {float(settings.rate_hz):.3f} S/s"
            )
        seen, _ = self._ether.ask(Look())
        if not isinstance(seen, Seen):
            raise RadioError(f"the ether answers a look with {type(seen).__name__}")
        tick = seen.tick + round(self.lead_s * self.rate_hz)
        # At the attenuation that the experiment states, its full scale has the power that the experiment states.
        level = 10 ** ((settings.transmit_gain_db[0] + self._attenuation_db) / 20)
        margin = round(_MARGIN_S * self.rate_hz)
        for emission in emissions if settings.radiating else ():
            begin, counts = _audible(emission, first, samples, margin)
            if counts is not None:
                # Of the sixteen bits the DAC has the upper twelve.
                shares = (counts >> 4).astype(np.float32) / np.float32(2048)
                sent = np.asarray(level * (shares[:, 0] + 1j * shares[:, 1]), np.complex64)
                said, _ = self._ether.ask(Transmit(0, tick + begin - first), sent)
                if not isinstance(said, Done):
                    raise RadioError(f"the ether answers a transmission with {type(said).__name__}")
        answer, data = self._ether.ask(Receive(samples, tick))
        if not isinstance(answer, Received) or len(data) != 4 * answer.antennas * answer.samples:
            raise RadioError(f"the ether answers a reception with {type(answer).__name__}")
        self.truth = answer.truth
        heard = np.frombuffer(data, np.int16).reshape(answer.antennas, answer.samples, 2)
        counts = np.zeros((samples, 2 * answer.antennas), np.int16)
        # As in the device: what was lost leaves no gap, only a flag.
        counts[: answer.samples] = heard.transpose(1, 0, 2).reshape(answer.samples, -1)
        if answer.samples < samples and self.overflow is not None:
            self.overflow.overflow = True
        return counts

    def power_dbm(self, channel: int, first: int, samples: int, settings: Hardware, emissions: list[Emission]) -> float:
        """See `Medium.power_dbm`; nobody listens to the ether between its batches."""
        return -90.0

    def close(self) -> None:
        """Leave the ether."""
        self._ether.close()


def _audible(emission: Emission, first: int, samples: int, margin: int) -> tuple[int, Counts | None]:
    """Tick at which an emission begins to matter to a recording, and its samples of the first channel."""
    if not emission.hits(first - margin, first + samples + margin):
        return 0, None
    begin = max(emission.start, first - margin)
    end = first + samples + margin if emission.stop is None else emission.stop
    played = window([emission], begin, end - begin, emission.samples.shape[1])[:, :2]
    return begin, played


class SimulatedPluto(PlutoRadio):
    """The Pluto driver over a simulated one; adds to each reception the truth, which no device tells."""

    def __init__(self, node: Node, ether: str, *, start_latency_s: float, seed: int) -> None:
        self._node, self._ether, self._latency_s, self._seed = node, ether, start_latency_s, seed
        self._medium: EtherMedium | None = None
        self._server: PlutoServer | None = None
        super().__init__(node.name, node.pluto or Pluto(), wait=self._lead, patient=True)

    def _lead(self, seconds: float) -> None:
        if self._medium is not None:
            self._medium.lead_s = seconds

    def configure(self, settings: Settings) -> Applied:
        """See `Radio.configure`: the server is started with it."""
        self._leave()
        self._medium = medium = EtherMedium(self._node.name, self._ether, self._options)
        if medium.channels != settings.antennas:
            raise RadioError(f"{medium.channels} antennas are in the ether, {settings.antennas} are wanted")
        model = "1r1t" if settings.antennas == 1 else "2r2t"
        device = SimulatedDevice(model, medium, name=self._node.name, seed=self._seed, latency_s=self._latency_s)
        self._server = PlutoServer(device)
        medium.overflow = device.engine
        self._options = msgspec.structs.replace(self._options, uri=f"ip:127.0.0.1:{self._server.port}")
        return super().configure(settings)

    def receive(self, samples: int) -> Reception:
        """See `Radio.receive`."""
        try:
            reception = super().receive(samples)
        except RadioError as error:
            why = "" if self._medium is None else self._medium.trouble
            raise RadioError(why or str(error)) from None
        medium = self._medium
        if medium is None or medium.truth is None:
            return reception
        return replace(reception, truth=medium.truth | {"first_tick": 0})

    def close(self) -> None:
        """See `Radio.close`."""
        self._closed = True
        if self._medium is not None:
            self._medium.close()  # whoever waits for the ether in another thread wakes up
        super().close()
        self._leave()

    def _leave(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        if self._medium is not None:
            self._medium.close()
            self._medium = None
