"""The converters' cores in the FPGA: ``cf-ad9361-lpc`` receives, ``cf-ad9361-dds-core-lpc`` sends."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sim_backend.pluto.attributes import Attribute, Channel, Device, RefusedError, number
from sim_backend.pluto.emissions import tone_table
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.phy import Transceiver

__all__ = ["receiver_device", "transmitter_device"]

_CORE = 0x8000_0000
"""Marks a register of the core, rather than of the transceiver."""
_STATUS = 0x88
_VERSION = 0x00
_CORE_BYTES = 0x10000
_FACTORS = (1, 8)


class _Core:
    """Registers and rate of one core."""

    def __init__(self, engine: Engine, transceiver: Transceiver, *, transmit: bool, version: int) -> None:
        self._engine, self._transceiver, self._transmit = engine, transceiver, transmit
        self._selected = 0
        self._values = {_VERSION: version}

    def access(self, text: str) -> None:
        """Select a register, or write it."""
        try:
            values = [int(word, 0) for word in text.split()]
        except ValueError:
            raise RefusedError(errno.EINVAL) from None
        if len(values) not in (1, 2) or not all(0 <= value < 2**32 for value in values):
            raise RefusedError(errno.EINVAL)
        place = values[0] & 0x7FFF_FFFF
        if values[0] & _CORE and (place >= _CORE_BYTES or place % 4):
            raise RefusedError(errno.EINVAL)
        self._selected = values[0]
        if len(values) == 2 and values[0] & _CORE:
            if place == _STATUS:
                self._engine.clear(values[1], transmit=self._transmit)
            elif place != _VERSION:
                self._values[place] = values[1]

    def value(self) -> str:
        """The register selected last."""
        place = self._selected & 0x7FFF_FFFF
        if not self._selected & _CORE:
            return "0x0"
        if place == _STATUS:
            return f"0x{self._engine.status(transmit=self._transmit):X}"
        return f"0x{self._values.get(place, 0):X}"

    def debug(self) -> list[Attribute]:
        """The debug attributes."""
        return [Attribute("direct_reg_access", "direct_reg_access", self.value, self.access)]

    def rate(self, stem: str) -> list[Attribute]:
        """Sampling frequency behind the FPGA's filter by eight, and which there are."""

        def chip_hz() -> int:
            return int(self._transceiver.rate_text)

        def read() -> str:
            return str(chip_hz() // self._engine.factor(transmit=self._transmit))

        def write(text: str) -> None:
            wanted = number(text)
            factor = round(chip_hz() / wanted) if wanted > 0 else 0
            if factor not in _FACTORS:
                raise RefusedError(errno.EINVAL)
            self._engine.set_factor(factor, transmit=self._transmit)

        def available() -> str:
            return "".join(f"{chip_hz() // factor} " for factor in _FACTORS)

        return [
            Attribute("sampling_frequency", f"{stem}_sampling_frequency", read, write),
            Attribute("sampling_frequency_available", f"{stem}_sampling_frequency_available", available),
        ]


def _calibration(stem: str, names: tuple[tuple[str, str], ...]) -> list[Attribute]:
    """Corrections that are kept and read back; the cores of the Pluto are built without them."""
    kept = dict(names)

    def store(name: str) -> Callable[[str], None]:
        def write(text: str) -> None:
            value = number(text)
            if not -2 < value < 2:
                raise RefusedError(errno.EINVAL)
            kept[name] = f"{value:.6f}"

        return write

    return [Attribute(name, f"{stem}_{name}", partial(kept.__getitem__, name), store(name)) for name, _ in names]


def _buffer_attributes(device_blocks: Callable[[], int]) -> list[Attribute]:
    return [
        Attribute("data_available", "data_available", lambda: "0"),
        Attribute("length_align_bytes", "length_align_bytes", lambda: "8"),
        Attribute("watermark", "watermark", lambda: str(device_blocks())),
    ]


def receiver_device(identity: str, engine: Engine, transceiver: Transceiver, channels: int) -> Device:
    """The device ``cf-ad9361-lpc``."""
    core = _Core(engine, transceiver, transmit=False, version=0x000A0300)
    listed = []
    for index in range(2 * channels):
        stem = f"in_voltage{index}"
        names = (("calibbias", "0"), ("calibphase", "0.000000"), ("calibscale", "1.000000"))
        attributes = [*_calibration(stem, names), *core.rate("in_voltage")]
        listed.append(Channel(f"voltage{index}", False, attributes, scan_index=index, scan_format="le:S12/16>>0"))
    return Device(
        identity, "cf-ad9361-lpc", listed, [], core.debug(), _buffer_attributes(lambda: engine.block_samples)
    )  # fmt: skip


@dataclass
class _Tone:
    """One of the DDS's tones."""

    increment: int = 1
    phase: int = 0
    scale: float = 0.0


class _Dds:
    """Four tones for each channel pair, of 16-bit phase and increment; one switch for all."""

    def __init__(self, engine: Engine, transceiver: Transceiver, channels: int) -> None:
        self._engine, self._transceiver = engine, transceiver
        self.tones = [_Tone() for _ in range(4 * channels)]
        self.on = True

    def clock_hz(self) -> int:
        """The DAC's sample rate as the driver knows it."""
        return int(self._transceiver.rate_text)

    def play(self) -> None:
        """Send the tones as they are set."""
        if not self.on or not any(tone.scale for tone in self.tones):
            self._engine.play_tones(None)
            return
        pairs = [self.tones[first : first + 4] for first in range(0, len(self.tones), 4)]
        tables = [
            tone_table([t.increment for t in pair], [t.phase for t in pair], [t.scale for t in pair]) for pair in pairs
        ]
        self._engine.play_tones(np.ascontiguousarray(np.concatenate(tables, axis=1)))

    def channel(self, index: int) -> Channel:
        """The tone as a channel."""
        tone = self.tones[index]
        name = f"TX{index // 4 + 1}_{'IQ'[index // 2 % 2]}_F{index % 2 + 1}"
        stem = f"out_altvoltage{index}_{name}_"

        def set_frequency(text: str) -> None:
            wanted = int(number(text))
            if not 0 <= wanted <= self.clock_hz() // 2:
                raise RefusedError(errno.EINVAL)
            # The core wants an odd increment, and the driver divides by 65535: a tone is off by up to two steps.
            tone.increment = (wanted * 0xFFFF // self.clock_hz()) | 1
            self.play()

        def set_phase(text: str) -> None:
            wanted = int(number(text))
            if not 0 <= wanted <= 360_000:
                raise RefusedError(errno.EINVAL)
            tone.phase = (wanted % 360_000 * 0x10000 + 180_000) // 360_000 & 0xFFFF
            self.play()

        def set_scale(text: str) -> None:
            wanted = number(text)
            if not -2 < wanted < 2:
                raise RefusedError(errno.EINVAL)
            tone.scale = round(wanted * 0x4000) / 0x4000
            self.play()

        def enable(text: str) -> None:
            self.on = number(text) != 0
            self._engine.take_tones()
            self.play()

        return Channel(
            f"altvoltage{index}",
            True,
            [
                Attribute(
                    "frequency", f"{stem}frequency", lambda: str(tone.increment * self.clock_hz() // 0xFFFF),
                    set_frequency,
                ),
                Attribute("phase", f"{stem}phase", lambda: str((tone.phase * 360_000 + 0x8000) // 0x10000), set_phase),
                Attribute("raw", f"{stem}raw", lambda: str(int(self.on)), enable),
                Attribute("sampling_frequency", "out_altvoltage_sampling_frequency", lambda: str(self.clock_hz())),
                Attribute("scale", f"{stem}scale", lambda: f"{tone.scale:.6f}", set_scale),
            ],
            name,
        )  # fmt: skip


def transmitter_device(identity: str, engine: Engine, transceiver: Transceiver, channels: int) -> Device:
    """The device ``cf-ad9361-dds-core-lpc``."""
    core = _Core(engine, transceiver, transmit=True, version=0x00090162)
    dds = _Dds(engine, transceiver, channels)
    listed = []
    for index in range(2 * channels):
        stem = f"out_voltage{index}"
        attributes = [
            *_calibration(stem, (("calibphase", "0.000000"), ("calibscale", "1.000000"))), *core.rate("out_voltage"),
        ]  # fmt: skip
        listed.append(Channel(f"voltage{index}", True, attributes, scan_index=index, scan_format="le:S16/16>>0"))
    listed += [dds.channel(index) for index in range(4 * channels)]

    def start(text: str) -> None:
        if text.strip() not in ("arm", "disarm", "trigger_manual"):
            raise RefusedError(errno.EINVAL)

    attributes = [
        Attribute("sync_start_enable", "sync_start_enable", lambda: "disarm", start),
        Attribute("sync_start_enable_available", "sync_start_enable_available", lambda: "arm"),
    ]
    return Device(identity, "cf-ad9361-dds-core-lpc", listed, attributes, core.debug(), _buffer_attributes(lambda: 0))
