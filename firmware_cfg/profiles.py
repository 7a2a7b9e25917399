"""Profiles: what a device is set to for a purpose, typed, as TOML files in this package, one a device and purpose."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from firmware_cfg.clock_chain import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from firmware_cfg.errors import FirmwareError
from firmware_cfg.filters import FilterSpecification

__all__ = ["DEVICES", "PlutoProfile", "Profile", "UsrpProfile", "load_profile", "profile_names", "read_profile"]

DEVICES = ("pluto", "b2x0", "x3x0", "n3xx")
"""Kinds of device that have profiles, as their folders are called."""

_HIGHEST_RATE_OF_TWO_HZ = 30.72e6
_MASTER_CLOCKS_HZ: dict[str, tuple[float, ...]] = {
    "x3x0": (200e6, 184.32e6),
    "n3xx": (122.88e6, 125e6, 153.6e6, 200e6, 245.76e6, 250e6),
}
_B2X0_CLOCK_HZ = (5e6, 61.44e6)

Hertz = Annotated[float, Meta(gt=0)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a profile: unknown keys are errors."""


class PlutoProfile(_Table, frozen=True, kw_only=True, tag_field="device", tag="pluto"):
    """An ADALM-Pluto."""

    purpose: str
    """A sentence."""
    sample_rate_hz: Hertz
    bandwidth_hz: Hertz
    """Of the analog filters, both sides of the carrier together."""
    channels: Literal[1, 2] = 1
    """Two need board revision C or D and the mode 2r2t."""
    gain_mode: Literal["manual", "slow_attack", "fast_attack", "hybrid"] = "manual"
    receive_gain_db: Annotated[int, Meta(ge=-3, le=76)] = 40
    """Only where the gain is manual."""
    transmit_attenuation_db: Annotated[float, Meta(ge=0, le=89.75)] = 20.0
    """Below full power, in steps of a quarter decibel."""
    tracking: bool = False
    """The chip's own chase of DC offset and quadrature error, which disturbs coherent work."""
    clock: Literal["internal", "external"] = "internal"
    """"external": 40 MHz at the U.FL connector of revisions C and D."""
    tdd: bool = False
    """Start of reception and transmission on a common edge by the TDD engine, firmware 0.39 or later."""
    kernel_buffers: Annotated[int, Meta(ge=1, le=64)] = 1
    """One for snapshots, 16 or more to stream."""
    firmware: Annotated[str, Meta(pattern=r"^\d+\.\d+$")] = "0.31"
    """Oldest that has what the profile needs."""
    filter: FilterSpecification | None = None
    """FIR filter; absent: the one that the driver chooses."""


class UsrpProfile(_Table, frozen=True, kw_only=True):
    """A USRP: nothing is stored on it, the driver sets all of this when a run begins."""

    purpose: str
    """A sentence."""
    sample_rate_hz: Hertz
    bandwidth_hz: Hertz
    master_clock_hz: Hertz
    channels: Literal[1, 2, 4] = 1
    clock_source: Literal["internal", "external", "gpsdo"] = "internal"
    time_source: Literal["internal", "external", "gpsdo", "none"] = "internal"
    receive_gain_db: Annotated[float, Meta(ge=0, le=76)] = 30.0
    transmit_gain_db: Annotated[float, Meta(ge=0, le=89.75)] = 30.0


class B2x0Profile(UsrpProfile, frozen=True, kw_only=True, tag_field="device", tag="b2x0"):
    """A B200, B210 or B20xmini."""


class X3x0Profile(UsrpProfile, frozen=True, kw_only=True, tag_field="device", tag="x3x0"):
    """An X300 or X310."""


class N3xxProfile(UsrpProfile, frozen=True, kw_only=True, tag_field="device", tag="n3xx"):
    """An N300, N310, N320 or N321."""


Profile = PlutoProfile | B2x0Profile | X3x0Profile | N3xxProfile


def profile_names(device: str) -> list[str]:
    """Names of the profiles that ship for ``device``.

    Raises
    ------
    FirmwareError
        If there is no such kind of device.
    """
    _check_device(device)
    folder = files("firmware_cfg") / "profiles" / device
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load_profile(device: str, name: str) -> Profile:
    """Profile ``name`` of ``device``: one that ships, or a file where ``name`` ends in .toml.

    Raises
    ------
    FirmwareError
        If there is none, it is not valid, or it is another device's.
    """
    _check_device(device)
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FirmwareError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    else:
        known = profile_names(device)
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise FirmwareError(f"PROFILE is {name!r}, which {device} has not: {hint} (a file must end in .toml)")
        text = (files("firmware_cfg") / "profiles" / device / f"{name}.toml").read_text(encoding="utf-8")
    profile = read_profile(text, source=name)
    own = type(profile).__struct_config__.tag
    if own != device:
        raise FirmwareError(f"{name}: device is {own!r}, but DEVICE is a {device}: use one of its own profiles")
    return profile


def read_profile(text: str, *, source: str) -> Profile:
    """Profile in a text; ``source`` is what its errors name.

    Raises
    ------
    FirmwareError
        If it is not valid.
    """
    try:
        profile: Profile = msgspec.convert(tomllib.loads(text), Profile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FirmwareError(f"{source}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    wrong = _pluto_complaint(profile) if isinstance(profile, PlutoProfile) else _usrp_complaint(profile)
    if wrong is not None:
        raise FirmwareError(f"{source}: {wrong}")
    return profile


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise FirmwareError(f"DEVICE is {device!r}, of which nothing is known: there are {', '.join(DEVICES)}")


def _pluto_complaint(profile: PlutoProfile) -> str | None:
    highest = HIGHEST_RATE_HZ if profile.channels == 1 else _HIGHEST_RATE_OF_TWO_HZ
    lowest = LOWEST_RATE_HZ / (profile.filter.factor if profile.filter is not None else 4)
    if not lowest <= profile.sample_rate_hz <= highest:
        return (
            f"sample_rate_hz is {profile.sample_rate_hz:.0f}, but {profile.channels} channel"
            f"{'s' if profile.channels > 1 else ''} run at {lowest:.0f} to {highest:.0f} Hz"
        )
    if not 200e3 <= profile.bandwidth_hz <= 56e6:
        return f"bandwidth_hz is {profile.bandwidth_hz:.0f}, but the analog filters cover 200 kHz to 56 MHz"
    if profile.transmit_attenuation_db % 0.25:
        return f"transmit_attenuation_db is {profile.transmit_attenuation_db:g}, but its steps are 0.25 dB"
    if profile.tdd and tuple(int(x) for x in profile.firmware.split(".")) < (0, 39):
        return f'firmware is "{profile.firmware}", but the TDD engine came with 0.39: use firmware = "0.39"'
    return None


def _usrp_complaint(profile: UsrpProfile) -> str | None:
    device = str(type(profile).__struct_config__.tag)
    known = _MASTER_CLOCKS_HZ.get(device)
    master = profile.master_clock_hz
    if known is not None and master not in known:
        return f"master_clock_hz is {master:.0f}, but it has {', '.join(f'{x:.0f}' for x in known)}"
    highest = _B2X0_CLOCK_HZ[1] if profile.channels == 1 else _HIGHEST_RATE_OF_TWO_HZ
    if known is None and not _B2X0_CLOCK_HZ[0] <= master <= highest:
        return (
            f"master_clock_hz is {master:.0f}, but with {profile.channels} channels it runs at "
            f"{_B2X0_CLOCK_HZ[0]:.0f} to {highest:.0f} Hz"
        )
    if master % profile.sample_rate_hz:
        return (
            f"sample_rate_hz is {profile.sample_rate_hz:.0f}, but must be the master clock's {master:.0f} Hz over a "
            f"whole number: use {master / max(1, round(master / profile.sample_rate_hz)):.0f}"
        )
    return None
