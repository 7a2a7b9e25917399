"""Calibrations as files: one device, one setting, one day each, in a folder that runs and replays look into.

A file states what it holds for: serial number, carrier, rate, gains, temperature. `matching` finds the newest that
holds for a capture, or says in one line why none does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from math import degrees, log, radians
from pathlib import Path
from typing import Any

import msgspec

from dsp.synchronization.chain_response import ChainResponse
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.formats.atomic import plain_number, write_atomically

__all__ = [
    "CHAIN_SHAPE_KEY",
    "AntennaResponse",
    "ChainConstants",
    "ChainShape",
    "Gains",
    "Linearity",
    "Record",
    "file_name",
    "gains_of",
    "load_records",
    "matching",
    "save_record",
    "serial_of",
    "serial_of_node",
    "stated_shape",
    "stranger",
    "temperature_of",
]

VERSION = 1
CHAIN_SHAPE_KEY = "chain_shape"
"""Of a capture's settings."""
_CARRIER_TOLERANCE = 1e-6
_RATE_TOLERANCE = 1e-6
_GAIN_TOLERANCE_DB = 0.5
_TEMPERATURE_TOLERANCE_C = 15.0
_GAIN_KEYS = ("rx_gain_db", "tx_gain_db", "tx_attenuation_db", "tx_power_dbm")
_DB_OF_NEPER = 20.0 / log(10.0)
_TEMPERATURE_KEYS = ("temperature_c",)


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a calibration's file: unknown keys are errors."""


class ChainConstants(_Table, frozen=True, kw_only=True):
    """Delays between a device's sample counter and its antenna, as far as exchanges over the air need them."""

    departure: str
    """"leakage" or "time-stamp": how the departure is known, on which the constants depend."""
    fraction: float | None = None
    """Part of a sample by which the leakage arrives after a whole number of samples, 0 to 1; by leakage only."""
    fraction_std: float | None = None
    starts: int = 0
    """Stream starts that the fraction was measured over."""
    latency_samples: tuple[int, ...] = ()
    """Whole samples of each start: they are the device's whim, and measured anew in every run."""
    asymmetry_s: float | None = None
    """R + l/2 by leakage, (R - T)/2 by time stamp, against the session's first device: differences of two devices of
    one session are their chain constant (docs/methods/reciprocity.md)."""
    asymmetry_std_s: float | None = None
    common_s: float | None = None
    """What the device adds to twice the half-sum of both directions: -l by leakage, R + T by time stamp."""
    common_std_s: float | None = None


class ChainShape(_Table, frozen=True, kw_only=True):
    """Receive chain over transmit chain, as Legendre series of frequency over the band, from order 1.

    Against the session's first device, as the asymmetry is; a phase's order 1 is a delay, and zero here.
    """

    edge_hz: float
    """From the carrier to where the series' argument is one."""
    gain_db: tuple[float, ...]
    phase_deg: tuple[float, ...]
    std_db: float = 0.0
    """Root mean square deviation of the gain over the band."""
    std_deg: float = 0.0

    @classmethod
    def of(cls, response: ChainResponse, *, std: float = 0.0) -> ChainShape:
        """Table of a response, whose deviation over the band is ``std`` nepers and as many radians."""
        gain_db = tuple(_DB_OF_NEPER * value for value in response.gain)
        phase_deg = tuple(degrees(value) for value in response.phase_rad)
        return cls(
            edge_hz=response.edge_hz,
            gain_db=gain_db,
            phase_deg=phase_deg,
            std_db=_DB_OF_NEPER * std,
            std_deg=degrees(std),
        )

    def response(self) -> ChainResponse:
        """What is to be divided out."""
        gain = tuple(value / _DB_OF_NEPER for value in self.gain_db)
        return ChainResponse(self.edge_hz, gain, tuple(radians(value) for value in self.phase_deg))


class AntennaResponse(_Table, frozen=True, kw_only=True):
    """One receiving antenna with its chain."""

    gain_db: float = 0.0
    """Against the first antenna."""
    phase_deg: float = 0.0
    """Against the first antenna, beyond what geometry explains."""
    gain_std_db: float | None = None
    phase_std_deg: float | None = None
    dc: tuple[float, float] = (0.0, 0.0)
    """Offset of in-phase and quadrature branch as shares of full scale."""
    gain_imbalance_db: float = 0.0
    """Gain of the in-phase over the quadrature branch."""
    phase_imbalance_deg: float = 0.0
    """Departure of the branches from a right angle."""
    image_db: float | None = None
    """Image of a tone below the tone, which the two imbalances make."""


class Linearity(_Table, frozen=True, kw_only=True):
    """Received level over transmitted level, by the device's own leakage."""

    step_db: tuple[float, ...]
    """Transmitted, against the most."""
    level_dbfs: tuple[float, ...]
    """Received, root mean square."""
    slope: float
    """Decibels per decibel over the lower half of the steps."""
    compression_db: float
    """How far the highest level stays behind the straight line."""


class Gains(_Table, frozen=True, kw_only=True):
    """Settings that the constants depend on; absent where the device does not tell."""

    rx_gain_db: float | None = None
    tx_gain_db: float | None = None
    tx_attenuation_db: float | None = None
    tx_power_dbm: float | None = None


class Record(_Table, frozen=True, kw_only=True):
    """One calibration of one device."""

    version: int = VERSION
    serial: str
    radio: str
    measured: str
    """Date and time, UTC, ISO 8601."""
    session: str
    """Devices calibrated together share it; chain constants of different sessions have no common reference."""
    reference: str
    """What the clocks were compared by: "simulated truth", "common clock", or "none"."""
    carrier_hz: float
    rate_hz: float
    gains: Gains = Gains()
    temperature_c: float | None = None
    firmware: str = ""
    chain: ChainConstants | None = None
    shape: ChainShape | None = None
    """Absent where the session saw the device in one direction only."""
    antenna: tuple[AntennaResponse, ...] = ()
    leakage_dbfs: float | None = None
    linearity: Linearity | None = None


def serial_of(capture: Capture) -> str:
    """What tells the capture's device from all others: its serial number, or the node's name if it has none."""
    settings = capture.settings or {}
    return str(settings.get("serial") or serial_of_node(capture.node))


def serial_of_node(name: str) -> str:
    """What stands for the serial number of a node's radio that has none."""
    return f"node-{name}"


def stranger(records: Sequence[Record], serial: str) -> str:
    """That none of ``records`` is of the device with this serial number, in words."""
    others = ", ".join(sorted({record.serial for record in records})) or "none"
    return f"no calibration of {serial}: there are calibrations of {others}; measure it with `isac calibrate`"


def gains_of(settings: dict[str, Any]) -> Gains:
    """Gains that a device states among its settings."""
    found = {}
    for key in _GAIN_KEYS:
        value = settings.get(key)
        # A device may state one for each channel; they are set alike.
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, (int, float)):
            found[key] = float(value)
    return Gains(**found)


def temperature_of(settings: dict[str, Any]) -> float | None:
    """Temperature that a device states among its settings."""
    found = next((settings[key] for key in _TEMPERATURE_KEYS if isinstance(settings.get(key), (int, float))), None)
    return None if found is None else float(found)


def stated_shape(capture: Capture) -> ChainShape | None:
    """Shape of its chains that a simulated device states among its settings, as no real one can."""
    stated = (capture.settings or {}).get(CHAIN_SHAPE_KEY)
    return None if stated is None else msgspec.convert(stated, ChainShape)


def file_name(record: Record) -> str:
    """Name of the record's file."""
    safe = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in record.serial)
    return f"{safe}-{record.measured.replace(':', '').replace('-', '')}.toml"


def save_record(record: Record, folder: Path) -> Path:
    """Path of the file written into ``folder``, whole or not at all."""
    import tomli_w

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(record)
    write_atomically(path, tomli_w.dumps(_without_none(msgspec.to_builtins(record, enc_hook=plain_number))).encode())
    return path


def load_records(folder: Path) -> list[Record]:
    """Records in ``folder``, newest first.

    Raises
    ------
    UserError
        If there is no such folder, or a file in it is no calibration.
    """
    if not folder.is_dir():
        raise UserError(f"--calibration is {folder}, which is no folder: measure one with `isac calibrate`")
    return sorted(map(_load, folder.glob("*.toml")), key=lambda record: record.measured, reverse=True)


def matching(records: Sequence[Record], capture: Capture) -> Record | str:
    """Newest of ``records``, newest first, that holds for the capture's device and settings; or why none does."""
    serial = serial_of(capture)
    own = [record for record in records if record.serial == serial]
    if not own:
        return stranger(records, serial)
    wrong = [(record, _mismatch(record, capture)) for record in own]
    fitting = next((record for record, text in wrong if not text), None)
    if fitting is not None:
        return fitting
    record, text = wrong[0]
    return f"calibration of {serial} of {record.measured} {text}: it is not used; measure again with `isac calibrate`"


def _mismatch(record: Record, capture: Capture) -> str:
    """What of the record's setting is not the capture's, in words; empty if all is."""
    settings = capture.settings or {}
    if record.chain is not None and (record.chain.departure == "time-stamp") != bool(capture.departures):
        return f"is for departures by {record.chain.departure}, which are not this run's"
    carrier, rate = float(capture.carrier_hz), float(capture.rate_hz)
    if abs(record.carrier_hz - carrier) > _CARRIER_TOLERANCE * carrier:
        return f"is for a carrier of {record.carrier_hz:.0f} Hz, not {carrier:.0f} Hz"
    if abs(record.rate_hz - rate) > _RATE_TOLERANCE * rate:
        return f"is for {record.rate_hz:.0f} samples a second, not {rate:.0f}"
    now = gains_of(settings)
    for key in _GAIN_KEYS:
        then, there = getattr(record.gains, key), getattr(now, key)
        if then is not None and there is not None and abs(then - there) > _GAIN_TOLERANCE_DB:
            return f"is for {key} = {then:g}, not {there:g}"
    celsius = temperature_of(settings)
    if record.temperature_c is not None and celsius is not None:
        apart = abs(record.temperature_c - celsius)
        if apart > _TEMPERATURE_TOLERANCE_C:
            return f"is for {record.temperature_c:.0f} °C, {apart:.0f} °C away"
    return ""


def _load(path: Path) -> Record:
    try:
        record = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Record)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UserError(f"{path}: not a calibration: {error}") from None
    if record.version != VERSION:
        raise UserError(f"{path}: version is {record.version}, but this release reads {VERSION}")
    return record


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, (list, tuple)) else value
