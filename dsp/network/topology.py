"""Antennas to stations: few large arrays or many small ones, for locating targets and for rate.

A region has so many antennas per unit of area; with M at each, stations are as dense as antennas over M. Lengths are in
the unit of the densities.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from dsp.channel import FloatArray
from dsp.network.localization import angle_gain, delay_gain
from dsp.network.poisson import Localization, angle_crlb, delay_crlb, hybrid_crlb, localization_draws
from dsp.network.rate import ergodic_rate

__all__ = [
    "AntennaBudget",
    "DensityDraws",
    "PowerRule",
    "RatePositionRegion",
    "best_density",
    "density_draws",
    "position_bounds",
    "rate_position_region",
]


class PowerRule(StrEnum):
    """Transmit power of a station with M antennas."""

    STATION = "P"
    """The same whatever its antennas."""
    ANTENNA = "M·P"
    """In proportion to its antennas: all stations of a region together send the same."""


@dataclass(frozen=True)
class AntennaBudget:
    """What is shared out, and how a target is seen."""

    antennas: float
    """Per unit of area."""
    area: float
    """About a target, whose stations locate it together: N = density·area of them, one at least."""
    snr: float
    """Of a target's echo at unit distances with one antenna and power P, a power ratio."""
    bandwidth_hz: float
    length_unit_m: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("antennas", "area", "snr", "bandwidth_hz", "length_unit_m"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of an antenna budget is {getattr(self, name)}: it must be positive")

    def gains(self, density: FloatArray | float, rule: PowerRule) -> tuple[FloatArray, FloatArray]:
        """|ζ_a|² and |ζ_r|² of stations at that density; transmit gain M. Source: docs/methods/network.md eq. 28."""
        count = self.antennas / np.asarray(density, dtype=float)
        if np.any(~(count >= 1 - 1e-12)):
            raise ValueError(f"a density above {self.antennas} leaves stations without an antenna")
        snr = self.snr * count * (count if rule is PowerRule.ANTENNA else 1.0)
        # One antenna has no angle; rounding must not give it a negative one.
        return angle_gain(np.maximum(count, 1.0), snr), delay_gain(
            count, self.bandwidth_hz, snr
        ) * self.length_unit_m**2


@dataclass(frozen=True)
class DensityDraws:
    """Bounds of drawn networks by station density, shape (density,) each."""

    density: FloatArray
    median: FloatArray
    """Of the squared position error bound; inf where there is none."""
    best: float
    """Density with the least median."""


@dataclass(frozen=True)
class RatePositionRegion:
    """Rate and position bound for each number of antennas per station, shape (antennas,)."""

    antennas: FloatArray
    rate: FloatArray
    crlb: FloatArray
    efficient: NDArray[np.bool_]
    """Where no other number is as good in both and better in one: the region's boundary."""


def position_bounds(budget: AntennaBudget, density: FloatArray | float, rule: PowerRule) -> Localization:
    """Closed forms of the squared position error by angles, delays and both, over station densities.

    Parameters
    ----------
    density : float array > 0, at most the antennas'
        Stations per unit of area.

    Raises
    ------
    ValueError
        If a density leaves less than one antenna at a station.

    Source: docs/methods/network.md eqs 9 to 11 with the gains of eq. 28.
    """
    density = np.asarray(density, dtype=float)
    angle, delay = budget.gains(density, rule)
    stations = np.maximum(density * budget.area, 1.0)
    # Distances in units of the mean spacing: gains scale with their own powers of the density.
    angle, delay = angle * density**3, delay * density**2
    with np.errstate(divide="ignore"):
        return Localization(
            angle=np.where(angle > 0, angle_crlb(stations, gain=angle), np.inf),
            delay=delay_crlb(stations, gain=delay),
            hybrid=hybrid_crlb(stations, angle=angle, delay=delay),
        )


def best_density(budget: AntennaBudget, rule: PowerRule, way: str) -> float:
    """Station density with the least closed-form bound, from one station per area to one antenna per station.

    ``way`` is "angle", "delay" or "hybrid". The least of a fine grid is refined between its neighbours, which holds for
    several minima too.
    """
    grid = np.geomspace(1 / budget.area, budget.antennas, 400)
    grid[-1] = budget.antennas
    values = _way(position_bounds(budget, grid, rule), way)
    at = int(np.argmin(values))
    low, high = grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)]
    found = optimize.minimize_scalar(
        lambda d: float(_way(position_bounds(budget, d, rule), way)),
        bounds=(low, high), method="bounded", options={"xatol": 1e-9 * high},
    )  # fmt: skip
    return float(found.x) if found.fun < values[at] else float(grid[at])


def density_draws(
    rng: np.random.Generator, draws: int, budget: AntennaBudget, density: FloatArray, rule: PowerRule, way: str
) -> DensityDraws:
    """Medians of random networks' bounds at each density, and the best: what `best_density` says, without closed forms.

    N = density·area is rounded to whole stations. The median, because the mean diverges for few stations.
    """
    density = np.asarray(density, dtype=float)
    medians = []
    for one in density:
        angle, delay = (float(gain) for gain in budget.gains(one, rule))
        stations = max(round(one * budget.area), 1)
        drawn = localization_draws(rng, draws, stations, density=one, angle=angle, delay=delay)
        medians.append(float(np.median(_way(drawn, way))))
    median = np.array(medians)
    return DensityDraws(density, median, float(density[np.argmin(median)]))


def rate_position_region(
    budget: AntennaBudget, rule: PowerRule, way: str, *, exponent: float, radius: float
) -> RatePositionRegion:
    """Rate and position bound as the antennas are spread, over every whole number M of antennas per station.

    M runs from two, which is the least that has diversity, to all antennas of the radius within which stations serve.
    As long as rate and bound have one optimum each, the boundary lies between the two: beyond, both get worse.

    Raises
    ------
    ValueError
        If the radius holds less than two antennas, or the exponent lets interference grow without bound.

    Source: docs/methods/network.md eqs 13 to 15 and 9 to 11.
    """
    most = int(budget.antennas * pi * radius**2)
    if most < 2:
        raise ValueError(f"a radius of {radius} holds {most} antennas: it must hold two at least")
    count = np.arange(2, most + 1)
    rate = np.array([ergodic_rate(budget.antennas / m, exponent, float(m - 1), radius) for m in count])
    bound = _way(position_bounds(budget, budget.antennas / count, rule), way)
    as_good = (rate[:, None] >= rate) & (bound[:, None] <= bound)
    better = (rate[:, None] > rate) | (bound[:, None] < bound)
    return RatePositionRegion(count.astype(float), rate, bound, ~np.any(as_good & better, axis=0))


def _way(bounds: Localization, way: str) -> FloatArray:
    if way not in ("angle", "delay", "hybrid"):
        raise ValueError(f"{way!r} is no way to locate: angle, delay or hybrid")
    return np.asarray(getattr(bounds, way))
