"""A simulated USRP: the driver of real ones, over the fake library, in the ether that all simulated radios share."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_backend.fake_uhd import Library
from sim_backend.fake_uhd.device import (
    DEFAULT_PRODUCT,
    PRODUCTS,
    Recorded,
    applied_frequency_hz,
    applied_master_clock_hz,
)
from testbed.radio.base import Applied, RadioError, Reception, Settings
from testbed.radio.ether_client import EtherConnection
from testbed.radio.usrp import UsrpRadio
from testbed.radio.usrp_clock import master_clock_hz
from testbed.radio.wire import Attach, Attached, Done, Look, Receive, Received, Seen, Transmit
from testbed.scenario import Node, Usrp

__all__ = ["EtherAir", "SimulatedUsrp", "applied"]


def applied(node: Node, carrier_hz: Fraction, rate_hz: Fraction) -> tuple[Fraction, Fraction]:
    """Carrier and rate that the simulated USRP of ``node`` makes of those asked for.

    Raises
    ------
    ValueError
        If it can do neither.
    """
    options = node.usrp or Usrp()
    arguments = _parsed(options.args)
    name = arguments.get("product", DEFAULT_PRODUCT)
    if name not in PRODUCTS:
        raise ValueError(f'node.usrp.args of {node.name!r} names the product "{name}": there are {", ".join(PRODUCTS)}')
    product = PRODUCTS[name]
    try:
        wanted = arguments.get("master_clock_rate")
        clock_hz = Fraction(wanted) if wanted else master_clock_hz(name, rate_hz, node.antennas)
    except RadioError as error:
        raise ValueError(str(error)) from None
    exact = applied_master_clock_hz(product, Fraction(float(clock_hz)))
    return applied_frequency_hz(product, carrier_hz, exact), exact / max(1, round(exact / rate_hz))


class EtherAir:
    """The fake device's surroundings: the node ``name`` in the ether at ``address``."""

    def __init__(self, name: str, address: str) -> None:
        self._ether = EtherConnection(address)
        answer, _ = self._ether.ask(Attach(name))
        if not isinstance(answer, Attached):
            raise RadioError(f"the ether answers an attachment with {type(answer).__name__}")
        self.rate_hz, self.carrier_hz = Fraction(answer.rate_hz), Fraction(answer.carrier_hz)
        self.antennas = answer.antennas
        self.truth: dict[str, Any] | None = None
        """Of the last reception."""

    def present(self) -> tuple[int, int]:
        """See `sim_backend.fake_uhd.Air.present`."""
        answer, _ = self._ether.ask(Look())
        if not isinstance(answer, Seen):
            raise RadioError(f"the ether answers a look with {type(answer).__name__}")
        return answer.tick, answer.second_tick

    def transmit(self, samples: NDArray[np.complex64], tick: int) -> None:
        """See `sim_backend.fake_uhd.Air.transmit`."""
        answer, _ = self._ether.ask(Transmit(0, tick), np.asarray(samples, np.complex64))
        if not isinstance(answer, Done):
            raise RadioError(f"the ether answers a transmission with {type(answer).__name__}")

    def receive(self, samples: int, tick: int) -> Recorded:
        """See `sim_backend.fake_uhd.Air.receive`."""
        answer, data = self._ether.ask(Receive(samples, tick))
        if not isinstance(answer, Received) or len(data) != 4 * answer.antennas * answer.samples:
            raise RadioError(f"the ether answers a reception with {type(answer).__name__}")
        self.truth = answer.truth
        return Recorded(
            np.frombuffer(data, np.int16).reshape(answer.antennas, answer.samples, 2),
            answer.full_scale,
            tuple((row.start, row.samples, row.first_tick) for row in answer.stretches),
        )

    def close(self) -> None:
        """Leave the ether."""
        self._ether.close()


class SimulatedUsrp(UsrpRadio):
    """The USRP driver over the fake library; adds to each reception the truth, which no device tells.

    Raises
    ------
    RadioError
        As `UsrpRadio`; and if no ether answers when it is configured.
    """

    def __init__(self, name: str, options: Usrp, ether: str) -> None:
        self._air: EtherAir | None = None

        def open_air() -> EtherAir:
            self._leave()
            self._air = EtherAir(name, ether)
            return self._air

        serial = blake2b(name.encode(), digest_size=4).hexdigest().upper()
        self._fake = Library(options.args, open_air, serial=serial)
        super().__init__(name, options, library=self._fake, wait=self._fake.sleep)

    def configure(self, settings: Settings) -> Applied:
        """See `Radio.configure`."""
        made = super().configure(settings)
        if self._air is not None and self._air.antennas != settings.antennas:
            raise RadioError(f"{self._air.antennas} antennas are in the ether, {settings.antennas} are wanted")
        return made

    def receive(self, samples: int) -> Reception:
        """See `Radio.receive`."""
        reception = super().receive(samples)
        air, device = self._air, self._fake.device
        if air is None or air.truth is None or device is None:
            return reception
        return replace(reception, truth=air.truth | {"first_tick": air.truth["first_tick"] + device.reads_ahead})

    def close(self) -> None:
        """See `Radio.close`."""
        super().close()
        self._leave()

    def _leave(self) -> None:
        if self._air is not None:
            self._air.close()
            self._air = None


def _parsed(arguments: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in arguments.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs}
