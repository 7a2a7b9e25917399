"""The attributes of an AD936x device, read and written through libiio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from firmware_cfg.boards import Identity
from firmware_cfg.errors import FirmwareError

__all__ = ["Address", "Attributes"]

_PHY = "ad9361-phy"
_TIMEOUT_MS = 5000


@dataclass(frozen=True)
class Address:
    """Where an attribute is: of a channel, or of the device itself where there is none."""

    name: str
    channel: str | None = None
    output: bool = False

    def __str__(self) -> str:
        if self.channel is None:
            return f"{_PHY} {self.name}"
        return f"{_PHY} {'output' if self.output else 'input'} {self.channel} {self.name}"

    def command(self, uri: str, value: str) -> str:
        """Command of libiio's own tool that writes it."""
        if self.channel is None:
            return f"iio_attr -u {uri} -d {_PHY} {self.name} {value}"
        return f"iio_attr -u {uri} -{'o' if self.output else 'i'} -c {_PHY} {self.channel} {self.name} {value}"


class Attributes:
    """Device at ``uri`` as libiio takes it, such as ip:192.168.2.1 or usb:1.4.5.

    Raises
    ------
    FirmwareError
        If libiio is missing, nothing answers, or what answers has no AD936x.
    """

    def __init__(self, uri: str) -> None:
        try:
            import iio
        except (ImportError, OSError) as error:
            raise FirmwareError(
                f"libiio cannot be loaded ({str(error).splitlines()[0]}): sudo apt-get install libiio0, and install "
                "isac-testbed with its extra [pluto]"
            ) from None
        self.uri = uri
        try:
            self._context: Any = iio.Context(uri)
            self._context.set_timeout(_TIMEOUT_MS)
        except (OSError, ValueError) as error:
            raise FirmwareError(f"{uri}: does not answer: {getattr(error, 'strerror', None) or error}") from None
        self._phy: Any = self._context.find_device(_PHY)
        if self._phy is None:
            names = ", ".join(str(device.name) for device in self._context.devices) or "nothing"
            raise FirmwareError(f"{uri}: answers, but is no Pluto: it has {names}, and no {_PHY}")
        known = self._context.attrs
        self.identity = Identity(
            str(known.get("hw_model", "nothing")),
            str(known.get("fw_version", "nothing")),
            str(known.get("hw_serial", "")),
        )

    @property
    def narrow(self) -> bool:
        """Whether the chip runs as an AD9363, whose analog filters end at 20 MHz."""
        return "ad9363" in str(self._context.attrs.get("ad9361-phy,model", "")).lower()

    @property
    def channels(self) -> int:
        """Receivers that the running firmware shows."""
        return 2 if self._phy.find_channel("voltage1", False) is not None else 1

    @property
    def has_tdd(self) -> bool:
        """Whether the running firmware has the TDD engine."""
        return self._context.find_device("iio-axi-tdd-0") is not None

    def read(self, address: Address) -> str:
        """Value of the attribute.

        Raises
        ------
        FirmwareError
            If the device has none, or refuses.
        """
        try:
            return str(self._of(address)[address.name].value).strip()
        except (OSError, KeyError) as error:
            raise FirmwareError(f"{self.uri}: {address} cannot be read: {_reason(error)}") from None

    def write(self, address: Address, value: str) -> None:
        """Set the attribute.

        Raises
        ------
        FirmwareError
            If the device has none, or refuses the value.
        """
        try:
            self._of(address)[address.name].value = value
        except (OSError, KeyError) as error:
            shown = value if len(value) < 40 else f"{len(value)} bytes"
            raise FirmwareError(f"{self.uri}: {address} refuses {shown}: {_reason(error)}") from None

    def _of(self, address: Address) -> Any:
        if address.channel is None:
            return self._phy.attrs
        channel = self._phy.find_channel(address.channel, address.output)
        if channel is None:
            raise FirmwareError(f"{self.uri}: has no {address}")
        return channel.attrs


def _reason(error: OSError | KeyError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "there is no such attribute"
