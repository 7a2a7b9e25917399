"""The part of UHD's Python library that a driver needs, over simulated surroundings instead of a USRP.

`Library` stands where the module ``uhd`` would: it has ``find``, ``types`` and ``usrp`` with the names and signatures
of UHD 4.3. Samples come from an `Air`; time stamps, pulses per second and errors are the fake's own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from sim_backend.fake_uhd import types as _types
from sim_backend.fake_uhd.device import DEFAULT_PRODUCT, DEFAULT_SERIAL, PRODUCTS, Air, Device
from sim_backend.fake_uhd.streams import RXStreamer, TXStreamer
from sim_backend.fake_uhd.usrp import MultiUSRP

__all__ = ["Air", "DeviceAddr", "Library"]


class DeviceAddr:
    """Arguments that name a device."""

    def __init__(self, arguments: dict[str, str]) -> None:
        self._arguments = arguments

    def to_dict(self) -> dict[str, str]:
        """Keys and values."""
        return dict(self._arguments)


class Library:
    """The fake library with its one device, which is ``type=simulated``.

    Parameters
    ----------
    arguments : str
        Device arguments that the experiment gives; see `Device` for those that name faults.
    open_air : callable
        Makes the surroundings when the device is opened.
    serial : str
        Serial number, unless the arguments give one.
    """

    def __init__(self, arguments: str, open_air: Callable[[], Air], *, serial: str = DEFAULT_SERIAL) -> None:
        self._built_in = {"serial": serial} | _parsed(arguments)
        self._open_air = open_air
        self.device: Device | None = None
        self.types = SimpleNamespace(**{name: getattr(_types, name) for name in _types.__all__})
        self.usrp = SimpleNamespace(
            MultiUSRP=self._open,
            StreamArgs=_types.StreamArgs,
            SubdevSpec=_types.SubdevSpec,
            RXStreamer=RXStreamer,
            TXStreamer=TXStreamer,
        )

    def find(self, arguments: str) -> list[DeviceAddr]:
        """The device, if the arguments fit it."""
        product = PRODUCTS.get(self._built_in.get("product", DEFAULT_PRODUCT))
        if product is None:
            return []
        facts = {
            "type": product.kind,
            "product": product.name,
            "serial": self._built_in["serial"],
            "name": self._built_in.get("name", ""),
        }
        wanted = _parsed(arguments)
        fits = all(facts[key] == wanted[key] for key in ("product", "serial", "name") if key in wanted)
        return [DeviceAddr(facts)] if wanted.get("type") == "simulated" and fits else []

    def sleep(self, seconds: float) -> None:
        """Let time pass for the device, in place of `time.sleep`."""
        if self.device is not None:
            self.device.wait(seconds)

    def _open(self, args: str = "") -> MultiUSRP:
        if not self.find(args):
            raise RuntimeError(f"LookupError: KeyError: No devices found for ----->\n{args}")
        self.device = Device(self._built_in | _parsed(args), self._open_air())
        return MultiUSRP(self.device)


def _parsed(arguments: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in arguments.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs}
