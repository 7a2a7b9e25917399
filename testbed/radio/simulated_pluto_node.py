"""A simulated Pluto: the driver of real ones, over unchanged pyadi-iio, in the ether that all simulated radios share.

The Pluto's server runs beside the driver, on a port of this machine. Its time stands still until a buffer is asked for;
that buffer is then recorded in the ether's next batch, together with what all others send and record.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np

from dsp.synchronization.chain_response import ChainResponse
from sim_backend.pluto.chain import clock_chain
from sim_backend.pluto.medium import Medium
from sim_backend.synthesizer import applied_carrier_hz
from testbed.calibration_records import CHAIN_SHAPE_KEY, ChainShape
from testbed.errors import UserError
from testbed.radio.base import Applied, RadioError, Reception, Settings
from testbed.radio.pluto import PlutoRadio
from testbed.radio.simulated_pluto import EtherMedium, PlutoServer, serve_in_ether
from testbed.scenario import Node, Pluto, Scenario
from testbed.schedule import dsp_waveform

__all__ = ["SimulatedPluto", "applied"]

_FILTER_FACTORS = ((20_000_000, 4), (61_440_000, 2))
"""Decimation of the FIR filter that the library loads, up to each rate."""


def applied(carrier_hz: Fraction, rate_hz: Fraction) -> tuple[Fraction, Fraction]:
    """Carrier and rate that a Pluto makes of those asked for, exact.

    Raises
    ------
    ValueError
        If it can do neither.
    """
    factor = next((factor for highest, factor in _FILTER_FACTORS if rate_hz <= highest), 2)
    chain = clock_chain(round(rate_hz), receive_fir=factor, transmit_fir=factor)
    return applied_carrier_hz(round(carrier_hz) & ~1), chain.rate_hz


class SimulatedPluto(PlutoRadio):
    """The Pluto driver over a simulated one; adds to each reception the truth, which no device tells."""

    def __init__(self, scenario: Scenario, node: Node, ether: str) -> None:
        self._scenario, self._node, self._ether = scenario, node, ether
        self._server: PlutoServer | None = None
        super().__init__(node.name, node.pluto or Pluto(), wait=self._hold_back, patient=True)

    @property
    def _medium(self) -> Medium | None:
        return None if self._server is None else self._server.pluto.engine.medium

    def _hold_back(self, seconds: float) -> None:
        if isinstance(self._medium, EtherMedium):
            self._medium.lead_s = seconds

    def configure(self, settings: Settings) -> Applied:
        """See `Radio.configure`: the Pluto is switched on with it."""
        self._let_go()  # the client before its server, which it would miss
        self._leave()
        model = "1r1t" if settings.antennas == 1 else "2r2t"
        try:
            self._server = serve_in_ether(self._scenario, self._node.name, address=self._ether, model=model)
        except UserError as error:
            raise RadioError(str(error)) from None
        self._options = msgspec.structs.replace(self._options, uri=f"ip:127.0.0.1:{self._server.port}")
        answer = super().configure(settings)
        return replace(answer, details=answer.details | {CHAIN_SHAPE_KEY: msgspec.to_builtins(self._shape())})

    def _shape(self) -> ChainShape:
        """Receive over transmit filters as they are set, over the experiment's band: a delay is left to the chain's."""
        assert self._server is not None
        settings = self._server.pluto.engine.settings
        edge_hz = float(np.max(np.abs(dsp_waveform(self._scenario).subcarrier_hz)))
        frequency_hz, rate_hz = np.linspace(-edge_hz, edge_hz, 513), float(settings.rate_hz)
        received, sent = (
            np.ones(len(frequency_hz), np.complex128) if path is None else path.response(frequency_hz, rate_hz)
            for path in (settings.receive_path, settings.transmit_path)
        )
        return ChainShape.of(ChainResponse.of(frequency_hz, received / sent))

    def receive(self, samples: int) -> Reception:
        """See `Radio.receive`."""
        reception = super().receive(samples)
        truth = None if self._medium is None else self._medium.truth()
        return reception if truth is None else replace(reception, truth=truth)

    def close(self) -> None:
        """See `Radio.close`."""
        self._closed = True
        if isinstance(self._medium, EtherMedium):
            self._medium.hang_up()  # whoever waits for the ether in another thread wakes up
        super().close()
        self._leave()

    def _leave(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            if isinstance(server.pluto.engine.medium, EtherMedium):
                server.pluto.engine.medium.hang_up()
            server.close()
