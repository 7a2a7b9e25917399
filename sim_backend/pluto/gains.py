"""Gains of the AD936x: tables by frequency, steps, and how the automatic control follows the level."""

from __future__ import annotations

import numpy as np

__all__ = ["AGC_MODES", "attenuation_db", "automatic_gain_db", "receive_range_db"]

AGC_MODES = ("manual", "fast_attack", "slow_attack", "hybrid")
_TABLES = ((1.3e9, (-1, 73)), (4.0e9, (-3, 71)), (float("inf"), (-10, 62)))
"""Upper carrier of each full gain table, with its lowest and highest gain in decibels."""
_LOW_DBFS, _HIGH_DBFS = -12.0, -10.0
"""Inner thresholds that the driver sets; the fast loop locks at the upper one."""


def receive_range_db(carrier_hz: float) -> tuple[int, int]:
    """Lowest and highest receive gain at a carrier, decibels."""
    return next(span for limit, span in _TABLES if carrier_hz <= limit)


def attenuation_db(gain_db: float) -> float:
    """Transmit gain that the attenuator's steps of a quarter decibel make of ``gain_db`` ≤ 0."""
    return -int(round(-gain_db * 1000) // 250) * 0.25


def automatic_gain_db(mode: str, current_db: int, power_dbm: float, carrier_hz: float) -> int:
    """Gain that the automatic control settles at for an input power.

    Full scale is minus the gain in dBm, as everywhere in the simulator. The slow and the hybrid loop leave a level
    between the inner thresholds alone and step one beyond them just inside; the fast one locks below the upper.
    """
    low, high = receive_range_db(carrier_hz)
    level = power_dbm + current_db
    if mode == "manual" or not np.isfinite(power_dbm):
        return min(max(current_db, low), high) if mode == "manual" else high
    if mode != "fast_attack" and _LOW_DBFS <= level <= _HIGH_DBFS:
        return min(max(current_db, low), high)
    if mode != "fast_attack" and level < _LOW_DBFS:
        return min(max(int(np.ceil(_LOW_DBFS - power_dbm)), low), high)
    return min(max(int(np.floor(_HIGH_DBFS - power_dbm)), low), high)
