"""What a network of scattered stations gives a place in it: coverage, rates and efficiencies, drawn and in closed form.

One draw is one place with the stations about it. The nearest station serves a user at the place and watches a target
there by its own echo; noise is neglected, as dense networks may. The survey lists the metrics in its Table II.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, pi

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special

from dsp.channel import FloatArray
from dsp.network.localization import angle_information, crlb, delay_information
from dsp.network.nulling import Load
from dsp.network.poisson import nearest_stations

__all__ = [
    "Mean",
    "Places",
    "area_spectral_efficiency",
    "coverage",
    "coverage_probability",
    "energy_efficiency",
    "ergodic_rate_of",
    "isac_coverage",
    "isac_rate",
    "localizability",
    "localizability_probability",
    "localization_coverage",
    "mean_of",
    "place_draws",
    "potential_spectral_efficiency",
]

_CHUNK = 1 << 20
"""Stations drawn at a time: the memory that a run of any length takes."""


@dataclass(frozen=True)
class Mean:
    """Average over independent draws."""

    value: float
    standard_error: float
    trials: int


@dataclass(frozen=True)
class Places:
    """What random places get, shape (draw,) each."""

    user_sir: FloatArray
    """Signal over interference of a user there, a power ratio."""
    target_sir: FloatArray
    """Of a target's echo at the station that watches it."""
    crlb: FloatArray
    """Bound of the squared position error by angles and delays of the cooperating stations; inf where there is none."""


def place_draws(
    rng: np.random.Generator,
    draws: int,
    load: Load,
    antennas: int,
    *,
    exponent: float,
    echo: float,
    density: float = 1.0,
    cooperating: int = 3,
    angle: float = 1.0,
    delay: float = 1.0,
    stations: int = 128,
) -> Places:
    """Ratios and bounds at random places; memory does not grow with the draws but for their results.

    Other stations' distances from the one that watches the target are those of the drawn plane, not of a process that
    the target does not know of. Interference of stations beyond the drawn ones counts by its mean.

    Parameters
    ----------
    exponent : float > 2
        Of the path loss of a leg.
    echo : float > 0
        Received power of an echo at unit distance over that of a station there.
    cooperating : int, 1 ≤ cooperating ≤ stations
        Nearest stations whose links locate the target, with gains |ζ_a|² ``angle`` and |ζ_r|² ``delay``.
    stations : int > L, Q
        Drawn about each place.

    Raises
    ------
    ValueError
        If the antennas cannot bear the load, interference has no bound, or fewer stations are drawn than take part.

    Source: docs/methods/network.md eqs 20 and 23 (model).
    """
    if exponent <= 2:
        raise ValueError(f"a path-loss exponent of {exponent} lets interference grow without bound: use one above two")
    if load.spent() > antennas:
        raise ValueError(f"{load} takes {load.spent()} degrees of freedom, but a station has {antennas} antennas")
    if stations <= max(load.user_cluster, load.sensing_cluster, cooperating - 1) or cooperating < 1:
        raise ValueError(f"{stations} stations are drawn, but {load} and {cooperating} that locate need more")
    parts: list[tuple[FloatArray, ...]] = []
    streams = load.users + load.targets
    size = max(1, _CHUNK // stations)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        bearing, distance = nearest_stations(rng, count, stations, density)
        beyond = streams * 2 * pi * density * distance[:, -1] ** (2 - exponent) / (exponent - 2)
        power = rng.standard_gamma(streams, (count, stations)) * distance**-exponent
        wanted = rng.standard_gamma(load.user_diversity(antennas), count) * distance[:, 0] ** -exponent
        user = wanted / (power[:, load.user_cluster :].sum(1) + beyond)
        apart = np.hypot(
            distance[:, 1:] * np.cos(bearing[:, 1:]) - (distance[:, 0] * np.cos(bearing[:, 0]))[:, None],
            distance[:, 1:] * np.sin(bearing[:, 1:]) - (distance[:, 0] * np.sin(bearing[:, 0]))[:, None],
        )
        apart.sort(axis=1)
        heard = rng.standard_gamma(streams, (count, stations - 1)) * apart**-exponent
        returned = echo * rng.standard_gamma(load.target_diversity(antennas), count) * distance[:, 0] ** (-2 * exponent)
        target = returned / (heard[:, load.sensing_cluster - 1 :].sum(1) + beyond)
        near = np.s_[:, :cooperating]
        information = angle_information(bearing[near], distance[near], angle) + delay_information(
            bearing[near], distance[near], delay
        )
        parts.append((user, target, crlb(information)))
    return Places(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def mean_of(values: FloatArray | NDArray[np.bool_]) -> Mean:
    """Average, or share, with its standard error, of independent draws, shape (draw ≥ 2,)."""
    values = np.asarray(values, dtype=float)
    if values.size < 2:
        raise ValueError(f"{values.size} draws: a standard error needs two at least")
    return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)), values.size)


def coverage(ratio: FloatArray, threshold: float) -> Mean:
    """Share of places where one service reaches its threshold: SIR of a user, or of a target's echo."""
    return mean_of(ratio > threshold)


def isac_coverage(places: Places, user_threshold: float, target_threshold: float) -> Mean:
    """Share of places where both services reach their thresholds at once."""
    return mean_of((places.user_sir > user_threshold) & (places.target_sir > target_threshold))


def localization_coverage(places: Places, user_threshold: float, position_error: float) -> Mean:
    """Share of places where a user's SIR and the position bound √CRLB both suffice."""
    return mean_of((places.user_sir > user_threshold) & (places.crlb <= position_error**2))


def localizability(distance: FloatArray, least: int, radius: float) -> Mean:
    """Share of places that ``least`` stations hear, those within a radius.

    ``distance``, shape (draw, station ≥ least), ascending, as of `dsp.network.poisson.nearest_stations`.
    """
    if not 1 <= least <= distance.shape[1]:
        raise ValueError(f"{least} stations must hear a place, but {distance.shape[1]} were drawn")
    return mean_of(distance[:, least - 1] <= radius)


def ergodic_rate_of(ratio: FloatArray) -> Mean:
    """Mean of log₂(1 + SIR), bit/s/Hz; beside the integrals of `dsp.network.rate` and `dsp.network.nulling`."""
    return mean_of(np.log2(1 + ratio))


def potential_spectral_efficiency(covered: Mean, threshold: float, *, users: int = 1, density: float = 1.0) -> Mean:
    """λ·K·log₂(1 + T)·P(SIR > T): what one fixed rate carries per unit of area, where it is received at all."""
    scale = density * users * log2(1 + threshold)
    return Mean(scale * covered.value, scale * covered.standard_error, covered.trials)


def isac_rate(places: Places, weight: float = 0.5) -> Mean:
    """Ergodic rate of both services at a place: the mean of w·log₂(1 + SIR_c) + (1 − w)·log₂(1 + SIR_s)."""
    if not 0 <= weight <= 1:
        raise ValueError(f"a weight of {weight}: it must be from 0 (sensing alone) to 1 (communication alone)")
    return mean_of(weight * np.log2(1 + places.user_sir) + (1 - weight) * np.log2(1 + places.target_sir))


def area_spectral_efficiency(rate: Mean, served: int, *, density: float = 1.0) -> Mean:
    """λ·K·R, bit/s/Hz per unit of area, of K users or J targets at a mean rate.

    Source: docs/methods/network.md eq. 26.
    """
    scale = density * served
    return Mean(scale * rate.value, scale * rate.standard_error, rate.trials)


def energy_efficiency(
    area_efficiency: FloatArray | float,
    *,
    bandwidth_hz: float,
    density: float,
    antennas: int,
    transmit_w: float,
    amplifier: float,
    chain_w: float,
    station_w: float,
) -> FloatArray:
    """Bits per joule of an area: B·ASE/(λ·(P/η + M·P_chain + P_station)).

    Parameters
    ----------
    area_efficiency : float or array
        Area spectral efficiency per the density's unit of area.
    amplifier : float, 0 < amplifier ≤ 1
        Efficiency η of the power amplifiers.
    chain_w, station_w : float ≥ 0
        Of every antenna's chain, and of the rest of a station.

    Source: docs/methods/network.md eq. 19.
    """
    if not 0 < amplifier <= 1:
        raise ValueError(f"an amplifier efficiency of {amplifier}: it must be above 0 and 1 at most")
    power = transmit_w / amplifier + antennas * chain_w + station_w
    if power <= 0 or density <= 0:
        raise ValueError("a station's power and the density must be positive")
    return np.asarray(bandwidth_hz * np.asarray(area_efficiency, dtype=float) / (density * power))


def coverage_probability(threshold: float, exponent: float, *, cluster: int = 1) -> float:
    """P(SIR > T) of a user in Rayleigh fading, without diversity, interfering stations of one stream each.

    For one station and α = 4 it is 1/(1 + √T·arctan √T), whatever the density. Source: docs/methods/network.md eqs 16
    and 17; the case of one station, Andrews, Baccelli, Ganti 2011.
    """
    if exponent <= 2:
        raise ValueError(f"a path-loss exponent of {exponent} lets interference grow without bound: use one above two")
    if threshold < 0 or cluster < 1:
        raise ValueError(f"threshold {threshold} and cluster {cluster}: neither may lie below 0 and 1")
    share = 2 / exponent

    def apart(z: float) -> float:
        return float(special.hyp2f1(1.0, -share, 1 - share, -z) ** -cluster)

    if cluster == 1:
        return apart(threshold)
    # u is the share of the area of the cluster's farthest station that the nearest encloses, of law (L−1)(1−u)^(L−2).
    value, _ = integrate.quad(
        lambda u: (cluster - 1) * (1 - u) ** (cluster - 2) * apart(threshold * u ** (1 / share)), 0, 1
    )
    return float(value)


def localizability_probability(least: int, radius: float, density: float = 1.0) -> float:
    """P(N ≥ L) of a Poisson number of mean λπR²: that L stations stand within R.

    Source: docs/methods/network.md eq. 18.
    """
    if least < 1 or radius <= 0 or density <= 0:
        raise ValueError(f"{least} stations within {radius}, density {density}: all must be positive")
    return float(special.gammainc(least, density * pi * radius**2))
