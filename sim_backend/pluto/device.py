"""A simulated Pluto: its devices, its buffers, and the context that clients see."""

from __future__ import annotations

import threading
from hashlib import blake2b

from sim_backend.pluto.attributes import Device
from sim_backend.pluto.buffers import Receiver, Transmitter
from sim_backend.pluto.context import context_xml
from sim_backend.pluto.converters import receiver_device, transmitter_device
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.housekeeping import pins_device, xadc_device
from sim_backend.pluto.medium import Medium
from sim_backend.pluto.part import Part, initial_settings
from sim_backend.pluto.phy import Transceiver
from sim_backend.pluto.tdd import tdd_device
from sim_backend.randomness import generator

__all__ = ["MODELS", "Pluto"]

MODELS = {"1r1t": 1, "2r2t": 2}
"""Channels of each model."""
_FIRMWARE = "v0.39"
_KERNEL = "6.1.0-isac-simulated"


class Pluto:
    """A Pluto of ``model``, whose antennas lead to ``medium``.

    Parameters
    ----------
    model : str
        One of `MODELS`: the stock one, or the one that was told to be an AD9361 with two channels.
    medium : Medium
        With as many channels.
    clock : str
        ``virtual`` or ``wall``.
    name : str
        Names what is random about it, and its serial number.
    seed : int
    latency_s : float
        Bound of the unknown latency from a push to the antenna.
    corner_spread : float
        Standard deviation of the analog filters' corners, as a share of what is asked for.
    """

    def __init__(
        self, model: str, medium: Medium, *, clock: str = "virtual", name: str = "pluto", seed: int = 0,
        latency_s: float = 1e-3, corner_spread: float = 0.0,
    ) -> None:  # fmt: skip
        if model not in MODELS:
            raise ValueError(f"a model is one of {', '.join(MODELS)}, got {model!r}")
        channels = MODELS[model]
        if medium.channels != channels:
            raise ValueError(f"a {model} has {channels} channels, its medium {medium.channels}")
        corners = 1.0 + corner_spread * generator(seed, "corners", name).standard_normal(2)
        part = Part(channels, (float(corners[0]), float(corners[1])))
        self.name = name
        self.lock = threading.RLock()
        """Held while an attribute is read or written."""
        self.engine = Engine(medium, initial_settings(part, name), clock=clock, seed=seed, latency_s=latency_s)
        medium.attach(self.engine)
        # DDR at the CMOS interface: two clock cycles for each sample of each channel.
        self.engine.gate.cycles = 2 * channels
        transceiver = Transceiver(part, self.engine)
        self.receiver = Receiver(self.engine, 2 * channels)
        self.transmitter = Transmitter(self.engine, 2 * channels)
        self.receiver_device = receiver_device("iio:device4", self.engine, transceiver, channels)
        self.transmitter_device = transmitter_device("iio:device3", self.engine, transceiver, channels)
        self.devices: list[Device] = [
            transceiver.device("iio:device0"),
            xadc_device("iio:device1"),
            pins_device("iio:device2", self.engine),
            self.transmitter_device,
            self.receiver_device,
            tdd_device("iio:device5", self.engine),
        ]
        self._by_name = {key: device for device in self.devices for key in (device.id, device.name)}
        serial = "1044730a" + blake2b(f"{seed}/{name}".encode(), digest_size=13).hexdigest()
        chip = "AD9363A" if channels == 1 else "AD9361"
        self.attributes = {
            "hw_model": f"Analog Devices PlutoSDR Rev.C (Z7010-{chip})",
            "hw_model_variant": "1",
            "hw_serial": serial,
            "fw_version": _FIRMWARE,
            "ad9361-phy,xo_correction": "40000000",
            "ad9361-phy,model": part.name,
            "local,kernel": _KERNEL,
        }
        description = f"Linux pluto {_KERNEL} #1 SMP PREEMPT armv7l simulated {name}"
        self.xml = context_xml(self.devices, self.attributes, description).encode()

    def warm(self) -> None:
        """Be ready to answer in time; before that, the first samples may take as long as compilation does."""
        self.engine.medium.warm(self.engine.settings)

    def device(self, name: str) -> Device | None:
        """Device by its identity or its name."""
        return self._by_name.get(name)
