"""Plans: what a device differs in from a profile, what is done about it, and how it is undone.

A Pluto keeps two kinds of settings. The U-Boot environment lasts, and counts from the next boot; the attributes of its
transceiver last until power is removed. A plan holds one step for each setting that differs. Applying it writes the
steps in order and reads each back; applied again it has nothing left to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from firmware_cfg import ftr
from firmware_cfg.attributes import Address, Attributes
from firmware_cfg.boards import Identity, known_board
from firmware_cfg.clock_chain import LOWEST_RATE_HZ
from firmware_cfg.errors import FirmwareError
from firmware_cfg.filters import design_pair
from firmware_cfg.profiles import PlutoProfile
from firmware_cfg.secure_shell import SecureShell

__all__ = [
    "Step",
    "apply_attributes",
    "apply_environment",
    "attribute_steps",
    "check",
    "environment_steps",
    "too_fast_for_two",
    "waits_for_boot",
    "wanted_attributes",
]

_STOCK_MOST_OF_TWO_HZ = 30.72e6
_STEADY_RATE_HZ = "3000000"
"""Runs with any filter and with none: stands between two rates that need different filters."""
_TWO_CHANNELS = {"attr_name": "compatible", "attr_val": "ad9361", "compatible": "ad9361", "mode": "2r2t"}
_WIDE = {"attr_name": "compatible", "attr_val": "ad9364", "compatible": "ad9364"}
_NARROW_HZ = 20e6
"""Widest analog filter of the chip as it is sold; told to be an AD9364 it covers 56 MHz."""
_EXTERNAL_CLOCK = {
    "refclk_source": "external",
    "ad936x_ext_refclk_override": "<40000000>",
    "ad936x_skip_ext_refclk": "1",
}

_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?:\s*(?:dB|Hz))?")
_RATE_STEP_HZ = 2.0

_FILTER = Address("filter_fir_config")
_FILTER_ON = Address("voltage_filter_fir_en", "out")
_RATE = Address("sampling_frequency", "voltage0")


@dataclass(frozen=True)
class Step:
    """One setting that differs."""

    kind: Literal["environment", "attribute"]
    name: str
    before: str | None
    """None: not set."""
    after: str | None
    command: str
    undo: str
    lasts: str
    address: Address | None = None
    value: str = ""
    """What is written, where ``after`` only describes it."""

    def text(self) -> str:
        """A line for the person at the bench."""
        before, after = ("not set" if value is None else value for value in (self.before, self.after))
        return f"{self.name}: {before} -> {after}"


def check(identity: Identity, profile: PlutoProfile) -> str:
    """Name of the board, which can be brought to ``profile``.

    Raises
    ------
    FirmwareError
        If the board or its firmware is unknown, or cannot do what the profile wants.
    """
    board = known_board(identity)
    wanted = tuple(int(x) for x in profile.firmware.split("."))
    if identity.version < wanted:
        raise FirmwareError(
            f"the firmware is {identity.firmware}, but the profile needs {profile.firmware} or later: update it first"
        )
    if profile.channels > board.channels:
        raise FirmwareError(f"the profile wants two channels, but the device is an {board.name}, which has one")
    if profile.clock == "external" and not board.external_clock:
        raise FirmwareError(f"the profile wants an external clock, but the device is an {board.name}, which takes none")
    return board.name


def environment_steps(profile: PlutoProfile, now: Mapping[str, str]) -> list[Step]:
    """Variables of the U-Boot environment to change, where ``now`` is what they are."""
    wanted: dict[str, str | None] = {}
    if profile.channels == 2:
        wanted |= _TWO_CHANNELS
    else:
        if profile.sample_rate_hz > _STOCK_MOST_OF_TWO_HZ and now.get("mode", "1r1t") != "1r1t":
            wanted["mode"] = "1r1t"
        if profile.bandwidth_hz > _NARROW_HZ and now.get("compatible") not in ("ad9361", "ad9364"):
            wanted |= _WIDE
    if profile.clock == "external":
        wanted |= _EXTERNAL_CLOCK
    elif now.get("refclk_source", "internal") != "internal":
        wanted |= {"refclk_source": "internal"} | {name: None for name in _EXTERNAL_CLOCK if name != "refclk_source"}
    return [
        Step(
            kind="environment",
            name=name,
            before=now.get(name),
            after=value,
            command=SecureShell.command(name, value),
            undo=SecureShell.command(name, now.get(name)),
            lasts="for good, from the next boot",
        )
        for name, value in wanted.items()
        if now.get(name) != value
    ]


def attribute_steps(profile: PlutoProfile, device: Attributes) -> list[Step]:
    """Attributes of the transceiver to change, in the order in which they must be written.

    A bandwidth that the chip takes only after its next boot is left out.
    """
    wanted = wanted_attributes(profile, device.channels)
    if waits_for_boot(profile, device):
        wanted = [(address, value) for address, value in wanted if address.name != "rf_bandwidth"]
    return [*_rate_steps(profile, device), *_differing(device, wanted)]


def waits_for_boot(profile: PlutoProfile, device: Attributes) -> bool:
    """Whether the profile's bandwidth is more than the chip, as it runs now, has."""
    return profile.bandwidth_hz > _NARROW_HZ and device.narrow


def too_fast_for_two(profile: PlutoProfile, device: Attributes) -> bool:
    """Whether the profile's rate is more than the device, as it runs now with two channels, has."""
    return profile.sample_rate_hz > _STOCK_MOST_OF_TWO_HZ and device.channels == 2


def apply_environment(shell: SecureShell, steps: Iterable[Step]) -> None:
    """Write the variables and read them back.

    Raises
    ------
    FirmwareError
        If the device refuses, or reads back something else.
    """
    changes = {step.name: step.after for step in steps if step.kind == "environment"}
    if not changes:
        return
    found = shell.write(changes)
    for name, value in changes.items():
        if found.get(name) != value:
            raise FirmwareError(
                f"{shell.target}: {name} reads back as {found.get(name)!r} after {value!r} was written: it is not set"
            )


def apply_attributes(device: Attributes, steps: Iterable[Step]) -> None:
    """Write the attributes in order, and read each back when all are written.

    Raises
    ------
    FirmwareError
        If the device refuses, or reads back something else.
    """
    written = [step for step in steps if step.address is not None]
    for step in written:
        assert step.address is not None
        device.write(step.address, step.value)
    last = {step.address: step for step in written if step.address is not None}
    for address, step in last.items():
        found = device.read(address)
        if step.after is not None and not _same(found, step.after):
            raise FirmwareError(f"{device.uri}: {address} reads back as {found!r} after {step.after!r} was written")


def _rate_steps(profile: PlutoProfile, device: Attributes) -> list[Step]:
    """Sample rate and FIR filter, which the driver lets change only in a certain order."""
    rate = f"{profile.sample_rate_hz:.0f}"
    if profile.filter is None:
        if profile.sample_rate_hz < LOWEST_RATE_HZ:
            raise FirmwareError(
                f"sample_rate_hz is {rate}, below the {LOWEST_RATE_HZ:.0f} Hz of a device without a FIR filter: "
                "give the profile a [filter]"
            )
        return _differing(device, [(_FILTER_ON, "0"), (_RATE, rate)])
    pair = design_pair(profile.filter, profile.sample_rate_hz)
    wrong = pair.complaint()
    if wrong is not None:
        raise FirmwareError(f"filter.{wrong}")
    text = ftr.dumps(pair)
    shape = ftr.loads(text, source="the profile's filter").shape
    # Coefficients cannot be read back: a filter of the same shape may be another one, so it is always written.
    loaded = _step(device, _FILTER, shape, value=text)
    rest = _differing(device, [(_RATE, rate)])
    if not rest and _same(device.read(_FILTER), shape) and device.read(_FILTER_ON) == "1":
        return [_step(device, _FILTER_ON, "0"), loaded, _step(device, _FILTER_ON, "1", before="0")]
    return [
        _step(device, _RATE, _STEADY_RATE_HZ),
        _step(device, _FILTER_ON, "0"),
        loaded,
        _step(device, _FILTER_ON, "1", before="0"),
        _step(device, _RATE, rate, before=_STEADY_RATE_HZ),
    ]


def wanted_attributes(profile: PlutoProfile, channels: int) -> list[tuple[Address, str]]:
    """Values that the profile gives to bandwidths, gains and tracking of a device that shows so many receivers."""
    bandwidth, tracked = f"{profile.bandwidth_hz:.0f}", "1" if profile.tracking else "0"
    settings = [(Address("rf_bandwidth", "voltage0", output), bandwidth) for output in (False, True)]
    for channel in [f"voltage{number}" for number in range(channels)]:
        settings.append((Address("gain_control_mode", channel), profile.gain_mode))
        if profile.gain_mode == "manual":
            settings.append((Address("hardwaregain", channel), str(profile.receive_gain_db)))
        settings.append((Address("hardwaregain", channel, True), f"{-profile.transmit_attenuation_db:g}"))
    names = ("quadrature_tracking_en", "rf_dc_offset_tracking_en", "bb_dc_offset_tracking_en")
    return settings + [(Address(name, "voltage0"), tracked) for name in names]


def _differing(device: Attributes, wanted: Iterable[tuple[Address, str]]) -> list[Step]:
    return [_step(device, address, value) for address, value in wanted if not _same(device.read(address), value)]


def _step(device: Attributes, address: Address, after: str, *, value: str = "", before: str | None = None) -> Step:
    """Step from what the device is at, or from what the steps before make of it."""
    before = device.read(address) if before is None else before
    shown = '"$(cat FILE.ftr)"' if value else after
    undo = address.command(device.uri, before.split()[0] if before else '""')
    if value:
        undo = "the former filter cannot be read: load its .ftr, or power the device off and on in place of all this"
    return Step(
        kind="attribute",
        name=str(address),
        before=before,
        after=after,
        command=address.command(device.uri, shown),
        undo=undo,
        lasts="until power is removed",
        address=address,
        value=value or after,
    )


def _same(found: str, wanted: str) -> bool:
    """Whether what the device reads is what was wanted; rates and widths may be off by what its dividers cannot do."""
    one, other = _NUMBER.fullmatch(found.strip()), _NUMBER.fullmatch(wanted.strip())
    if one is None or other is None:
        return found.strip() == wanted.strip()
    return abs(float(one[1]) - float(other[1])) <= (_RATE_STEP_HZ if float(other[1]) > 1e5 else 1e-9)
