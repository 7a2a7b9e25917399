"""Stations scattered as a Poisson process: random networks, and what their localization bound is on the average."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import numpy as np

from dsp.channel import FloatArray
from dsp.network.localization import angle_information, crlb, delay_information

__all__ = [
    "Localization",
    "angle_crlb",
    "delay_crlb",
    "hybrid_crlb",
    "localization_draws",
    "nearest_stations",
    "single_station_crlb",
]

_CHUNK = 1 << 20
"""Stations drawn at a time: the memory that a run of any length takes."""


@dataclass(frozen=True)
class Localization:
    """Squared position error bounds of random networks, shape (draw,)."""

    angle: FloatArray
    delay: FloatArray
    hybrid: FloatArray


def nearest_stations(
    rng: np.random.Generator, draws: int, stations: int, density: float
) -> tuple[FloatArray, FloatArray]:
    """Bearings and distances of the ``stations`` nearest to a target, shape (draw, station) each.

    The area πλd² up to the nth nearest of a Poisson process grows by independent exponential steps.

    Parameters
    ----------
    density : float > 0
        Stations per unit of area; distances come in its unit of length.
    """
    if density <= 0 or stations < 1:
        raise ValueError(f"{stations} stations of density {density}: both must be positive")
    area = np.cumsum(rng.standard_exponential((draws, stations)), axis=1)
    return rng.uniform(0, 2 * pi, (draws, stations)), np.sqrt(area / (pi * density))


def localization_draws(
    rng: np.random.Generator,
    draws: int,
    stations: int,
    *,
    density: float = 1.0,
    angle: float = 1.0,
    delay: float = 1.0,
) -> Localization:
    """Bounds of ``draws`` random networks by angles, delays and both, with gains |ζ_a|² and |ζ_r|².

    Memory does not grow with the draws but for their results.
    """
    parts: list[tuple[FloatArray, ...]] = []
    for count in _chunks(draws, max(1, _CHUNK // stations)):
        bearing, distance = nearest_stations(rng, count, stations, density)
        angles = angle_information(bearing, distance, angle)
        delays = delay_information(bearing, distance, delay)
        parts.append((crlb(angles), crlb(delays), crlb(angles + delays)))
    return Localization(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def angle_crlb(stations: FloatArray | int, *, density: float = 1.0, gain: FloatArray | float = 1.0) -> FloatArray:
    """Bound by angles of the N nearest stations: 64/(|ζ_a|²·λ³·π⁵·(ln N + γ)).

    It matches the median of the draws; their mean is two to three times larger, drawn up by networks whose nearest
    station looks along its array. Path-loss exponent two. Source: docs/methods/network.md eq. 9.
    """
    return np.asarray(64 / (gain * density**3 * pi**5 * _harmonic(stations)))


def delay_crlb(stations: FloatArray | int, *, density: float = 1.0, gain: FloatArray | float = 1.0) -> FloatArray:
    """Bound by delays: 2/(|ζ_r|²·λ²·π²·((ln N + γ)² + π²/6)); 9 to 22 % above the mean. Source: eq. 10, likewise."""
    return np.asarray(2 / (gain * density**2 * pi**2 * (_harmonic(stations) ** 2 + pi**2 / 6)))


def hybrid_crlb(
    stations: FloatArray | int,
    *,
    density: float = 1.0,
    angle: FloatArray | float = 1.0,
    delay: FloatArray | float = 1.0,
) -> FloatArray:
    """Bound by both: 1/(X + Y) + 1/(X + 3Y), X of the delays, Y of the angles. Source: eq. 11, likewise."""
    second = pi * density * _harmonic(stations)
    fourth = (pi * density) ** 2 * pi**2 / 6
    x = delay * (second**2 + fourth)
    y = angle * second * fourth / 8
    return np.asarray(1 / (x + y) + 1 / (x + 3 * y))


def single_station_crlb(distance: FloatArray, bearing_rad: FloatArray, *, angle: float, delay: float) -> FloatArray:
    """Bound of one station alone, by its own echo: d⁶/(|ζ_a|²·cos²θ) + d⁴/(4|ζ_r|²). Source: eq. 12, likewise."""
    return np.asarray(distance**6.0 / (angle * np.cos(bearing_rad) ** 2) + distance**4.0 / (4 * delay))


def _harmonic(stations: FloatArray | int) -> FloatArray:
    """ln N + γ, the sum of 1/n for many stations."""
    n = np.asarray(stations, dtype=float)
    if np.any(n < 1):
        raise ValueError("a network has one station at least")
    return np.asarray(np.log(n) + np.euler_gamma)


def _chunks(total: int, size: int) -> Iterator[int]:
    yield from [size] * (total // size)
    if total % size:
        yield total % size
