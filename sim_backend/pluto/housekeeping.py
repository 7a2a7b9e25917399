"""The small devices of a Pluto: supply voltages, temperature, and the pins that the Phaser board uses."""

from __future__ import annotations

from sim_backend.pluto.attributes import Attribute, Channel, Device, fixed, switch
from sim_backend.pluto.engine import Engine

__all__ = ["pins_device", "xadc_device"]

_VOLTAGES = (("vccint", 1361), ("vccaux", 2450), ("vccbram", 1363), ("vccpint", 1359), ("vccpaux", 2447))
_MILLIVOLTS = "0.732421875"


def xadc_device(identity: str) -> Device:
    """The device ``xadc``."""
    channels = []
    for index, (name, raw) in enumerate(_VOLTAGES):
        stem = f"in_voltage{index}_{name}_"
        attributes = [fixed("raw", str(raw), f"{stem}raw"), fixed("scale", _MILLIVOLTS, f"{stem}scale")]
        channels.append(Channel(f"voltage{index}", False, attributes, name))
    temperature = [
        fixed("offset", "-2219", "in_temp0_offset"),
        fixed("raw", "2621", "in_temp0_raw"),
        fixed("scale", "123.040771484", "in_temp0_scale"),
    ]
    channels.append(Channel("temp0", False, temperature))
    return Device(identity, "xadc", channels, [fixed("sampling_frequency", "961538")])


def pins_device(identity: str, engine: Engine) -> Device:
    """The device ``one-bit-adc-dac``: whether the TDD engine reaches the DMAs, and whether its pin is an input."""
    pins = {"PHASER_ENABLE": False, "TDD_EXT_SYNC": False}

    def pin(index: int, label: str) -> Channel:
        stem = f"out_voltage{index}_"

        def write(text: str) -> None:
            pins[label] = switch(text)
            if label == "PHASER_ENABLE":
                engine.gate.connected = pins[label]

        return Channel(
            f"voltage{index}",
            True,
            [
                fixed("label", label, f"{stem}label"),
                Attribute("raw", f"{stem}raw", lambda: str(int(pins[label])), write),
            ],
        )

    return Device(identity, "one-bit-adc-dac", [pin(index, label) for index, label in enumerate(pins)])
