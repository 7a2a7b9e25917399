"""Experiments to begin with, for devices that are plugged in or named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path

from testbed.errors import UserError

__all__ = ["KINDS", "Units", "beginning", "plugged_in"]

KINDS = ("simulated", "plutos-cable", "plutos-air", "usrps-pps", "plugged-in")
_FOLDER = Path(__file__).parent / "commands" / "beginnings"
_BAND_HZ = (2400e6, 2483.5e6)
_HALF_WIDTH_HZ = 8e6
_MASTER_CLOCK_HZ = {"b200": "40e6", "x300": "200e6"}


@dataclass(frozen=True)
class Units:
    """Devices by their serial numbers, or as their libraries address them."""

    plutos: tuple[str, ...] = ()
    usrps: tuple[str, ...] = ()
    """Device arguments."""


def plugged_in() -> Units:
    """Plutos on USB, and USRPs that uhd finds."""
    from testbed.doctor.finding import Machine, Wants
    from testbed.doctor.machine import pluto_serials
    from testbed.doctor.software import find_usrps

    return Units(tuple(pluto_serials(Machine())), tuple(find_usrps(Wants())))


def beginning(
    kind: str, name: str, *, units: Sequence[str] = (), carrier_hz: float = 2.45e9, length_m: float | None = None
) -> str:
    """Text of an experiment's file.

    Parameters
    ----------
    kind : str
        One of `KINDS`; "plugged-in" is whichever fits what is.
    name : str
        Of the experiment.
    units : sequence of str
        Two devices: a Pluto's serial number or address, a USRP's serial number or arguments. Without them those that
        are plugged in.
    length_m : float, optional
        Between the nodes.

    Raises
    ------
    UserError
        If there are not two devices of the kind.
    """
    if kind == "simulated":
        if units:
            raise UserError(f"--unit is {units[0]!r}, but simulated nodes are no devices: choose another --kind")
        return _text(kind).replace("NAME", name)
    if kind == "plugged-in":
        there = plugged_in()
        kind = "usrps-pps" if len(there.usrps) >= 2 else "plutos-air"
        if len(there.usrps) < 2 and len(there.plutos) < 2:
            raise UserError(
                f"--kind plugged-in takes two Plutos or two USRPs, but {len(there.plutos)} and {len(there.usrps)} "
                "are there: plug them in, name them with --unit, or take --kind simulated (see isac doctor)"
            )
        units = units or (there.usrps if kind == "usrps-pps" else there.plutos)[:2]
    if not units:
        there = plugged_in()
        units = (there.usrps if kind == "usrps-pps" else there.plutos)[:2]
    what = "USRPs" if kind == "usrps-pps" else "Plutos"
    if len(units) != 2:
        raise UserError(f"--kind {kind} takes two {what}, but there are {len(units)}: name two by --unit SERIAL")
    if units[0] == units[1]:
        raise UserError(f"--unit is {units[0]!r} twice: give each node its own device")
    as_key = _usrp if kind == "usrps-pps" else _pluto
    length = length_m if length_m is not None else 3.0 if kind == "plutos-cable" else 10.0
    text = _text(kind)
    for key, value in (
        ("NAME", name),
        ("CARRIER", _number(carrier_hz)),
        ("BAND", _band(carrier_hz)),
        ("LENGTH", f"{length:.10g}" if length != floor(length) else f"{length:.1f}"),
        ("WEST", as_key(units[0])),
        ("EAST", as_key(units[1])),
    ):
        text = text.replace(key, value)
    return text


def _text(kind: str) -> str:
    return (_FOLDER / f"{kind}.toml").read_text(encoding="utf-8")


def _pluto(unit: str) -> str:
    if ":" in unit:
        return f'uri = "{unit}"'
    return f'uri = "", serial = "{unit}"'


def _usrp(unit: str) -> str:
    arguments = unit if "=" in unit else f"serial={unit}"
    if "master_clock_rate" not in arguments:
        kind = next((rate for key, rate in _MASTER_CLOCK_HZ.items() if f"type={key}" in arguments), None)
        arguments += f",master_clock_rate={kind}" if kind else ""
    return arguments


def _number(value: float) -> str:
    return f"{value / 1e9:.10g}e9"


def _band(carrier_hz: float) -> str:
    """The band that is free in most countries where the carrier lies in it; else none, for the user to fill in."""
    low, high = _BAND_HZ
    inside = low + _HALF_WIDTH_HZ <= carrier_hz <= high - _HALF_WIDTH_HZ
    return f"[{low / 1e6:.10g}e6, {high / 1e6:.10g}e6]" if inside else ""
