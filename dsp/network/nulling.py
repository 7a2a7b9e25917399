"""Area spectral efficiency of stations that spare each other's users and receivers, and the best use of antennas.

Every station of a Poisson process serves K users and watches J targets, each by its own echo. Its M antennas null what
they would send to the users of the L nearest stations' clusters and to the receivers of the Q − 1 nearest other
stations; what antennas are left is diversity. Rayleigh fading, equal power for all K + J streams, no noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import log, pi

import numpy as np
from scipy import integrate, interpolate, special

from dsp.channel import FloatArray

__all__ = [
    "Load",
    "SpectralEfficiencies",
    "allocations",
    "best_allocation",
    "communication_rate",
    "echo_ratio",
    "sensing_rate",
    "sensing_stations",
    "spectral_efficiencies",
]

_STEP = 0.25
"""Of the integrals over ln z; a trapezoidal rule over the whole line converges faster than any power of it."""
_NODES = 192
_NEAR = 24.0
"""How far below one, in natural logarithms, areas are integrated."""


@dataclass(frozen=True)
class Load:
    """What every station takes on."""

    users: int
    """K, served at once."""
    user_cluster: int
    """L stations nearest to a user: one serves it, the others spare it."""
    targets: int
    """J, watched at once."""
    sensing_cluster: int
    """Q stations: one watches a target, its Q − 1 nearest spare its receiver."""

    def spent(self) -> int:
        """Degrees of freedom taken: K·L + J·(Q − 1), at most the antennas. Source: survey, problem P1 (22)."""
        return self.users * self.user_cluster + self.targets * (self.sensing_cluster - 1)

    def user_diversity(self, antennas: int) -> int:
        """Shape of the gamma-distributed gain of a user's stream: M − spent + 1, for its own direction is no null."""
        return antennas - self.spent() + 1

    def target_diversity(self, antennas: int) -> int:
        """Likewise of a target's: M − K·(L − 1) − J·(Q − 1), for a station's own users know its sensing waveforms."""
        return antennas - self.spent() + self.users


@dataclass(frozen=True)
class SpectralEfficiencies:
    """Of every load that the antennas allow, in one order, shape (load,); in bit/s/Hz per unit of area."""

    loads: tuple[Load, ...]
    communication: FloatArray
    sensing: FloatArray


def allocations(
    antennas: int,
    *,
    targets: int | None = None,
    user_clusters: int | None = None,
    sensing_clusters: int | None = None,
) -> list[Load]:
    """Every load with K·L + J·(Q − 1) ≤ M; K ≤ M, targets J and clusters L, Q up to the given numbers or M.

    A station that spares nobody's receiver (Q = 1) takes no degrees of freedom for its targets, so that without a
    limit on them it is best to watch as many as there may be.

    Source: survey, problem P1 (22); docs/methods/network.md eq. 25.
    """
    if antennas < 1:
        raise ValueError(f"{antennas} antennas: a station has one at least")
    limits = [antennas if limit is None else limit for limit in (targets, user_clusters, sensing_clusters)]
    if min(limits) < 1:
        raise ValueError(f"limits of targets and clusters are {limits}: each must be one at least")
    return list(_allocations(antennas, *limits))


def _allocations(antennas: int, most_targets: int, user_clusters: int, sensing_clusters: int) -> Iterator[Load]:
    for users in range(1, antennas + 1):
        for cluster in range(1, min(antennas // users, user_clusters) + 1):
            left = antennas - users * cluster
            for targets in range(1, most_targets + 1):
                for sensing in range(1, min(left // targets + 1, sensing_clusters) + 1):
                    yield Load(users, cluster, targets, sensing)


def communication_rate(load: Load, antennas: int, exponent: float) -> float:
    """Mean rate of a user in bit/s/Hz, by quadrature to 1e-8; the density of stations does not matter.

    With distances over that of the Lth station, interference has the transform (1 + Φ(z))^−L, and the wanted power is
    a gamma gain times u^(−α/2), u the share of the area that the nearest station encloses.

    Parameters
    ----------
    exponent : float > 2
        Of the path loss.

    Raises
    ------
    ValueError
        If the antennas cannot bear the load, or interference has no bound.

    Source: docs/methods/network.md eqs 20 to 22 (derived), model of the survey's section on interference nulling.
    """
    _check(load, antennas, exponent)
    z = _grid(-12 * exponent, 12 * exponent)
    wanted = _wanted_user(load.user_diversity(antennas), load.user_cluster, exponent)
    return _rate(wanted, (1 + _beyond(z, load.users + load.targets, exponent)) ** -load.user_cluster)


def sensing_rate(load: Load, antennas: int, exponent: float, echo: float) -> float:
    """Mean radar information rate of a target, log₂(1 + SIR), in bit/s/Hz, by quadrature to 1e-8.

    The station nearest to a target watches it; other stations are taken as Poisson about that station, whatever the
    target's distance. In the plane they keep away from it: draws (`dsp.network.metrics.place_draws`; α = 4, ε = 1) lie
    10 % above for Q = 1 and 3 % for Q = 4, and less for weaker echoes.

    Parameters
    ----------
    exponent : float > 2
        Of the path loss of a leg: an echo has two.
    echo : float > 0
        Received power of an echo at unit distance over that of a station at unit distance, times (π·density)^(α/2):
        that makes it free of units.

    Raises
    ------
    ValueError
        As `communication_rate`.

    Source: docs/methods/network.md eqs 23 and 24 (derived).
    """
    _check(load, antennas, exponent)
    if echo <= 0:
        raise ValueError(f"an echo of power {echo}: it must be positive")
    wanted = _wanted_target(load.target_diversity(antennas), exponent, echo)
    return _rate(wanted, _at_receivers(load.sensing_cluster, load.users + load.targets, exponent))


def spectral_efficiencies(
    loads: list[Load], antennas: int, exponent: float, echo: float, *, density: float = 1.0
) -> SpectralEfficiencies:
    """Area spectral efficiencies λ·K·R_c and λ·J·R_s of every load. Source: docs/methods/network.md eq. 26."""
    users = [density * one.users * communication_rate(one, antennas, exponent) for one in loads]
    targets = [density * one.targets * sensing_rate(one, antennas, exponent, echo) for one in loads]
    return SpectralEfficiencies(tuple(loads), np.array(users), np.array(targets))


def best_allocation(of: SpectralEfficiencies, weight: float) -> int:
    """Index of the load with the largest weight·T_c + (1 − weight)·T_s: exact, because all are looked at.

    Among equals the first. Source: survey, problem P1 (22).
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"a weight of {weight}: it must be from 0 (sensing alone) to 1 (communication alone)")
    return int(np.argmax(weight * of.communication + (1 - weight) * of.sensing))


def sensing_stations(rates: FloatArray, per_station: float, capacity: float) -> FloatArray:
    """Largest number N of sensing stations with R_c + e·N ≤ C for each communication rate, NaN where none fits.

    Parameters
    ----------
    rates : float array ≥ 0
        Backhaul that communication takes, as of clusters of 1, 2, … stations; in the unit of the others.
    per_station : float > 0
        What one station's measurements take, e.
    capacity : float > 0
        Of the backhaul, C.

    Source: survey eq. 23; docs/methods/network.md eq. 27.
    """
    if per_station <= 0 or capacity <= 0:
        raise ValueError(f"backhaul of {capacity}, {per_station} a station: both must be positive")
    rates = np.asarray(rates, dtype=float)
    count = np.floor((capacity - rates) / per_station)
    # Division rounds: the limit itself belongs to what fits.
    count += rates + per_station * (count + 1) <= capacity
    count -= rates + per_station * count > capacity
    return np.where(rates <= capacity, np.maximum(count, 0.0), np.nan)


def _check(load: Load, antennas: int, exponent: float) -> None:
    if exponent <= 2:
        raise ValueError(f"a path-loss exponent of {exponent} lets interference grow without bound: use one above two")
    if min(load.users, load.user_cluster, load.targets, load.sensing_cluster) < 1:
        raise ValueError(f"{load}: every number must be one at least")
    if load.spent() > antennas:
        raise ValueError(f"{load} takes {load.spent()} degrees of freedom, but a station has {antennas} antennas")


def _grid(low: float, high: float) -> FloatArray:
    return np.exp(_STEP * np.arange(np.floor(low / _STEP), np.ceil(high / _STEP) + 1))


def _rate(wanted: FloatArray, interference: FloatArray) -> float:
    return float(integrate.trapezoid(wanted * interference, dx=_STEP) / log(2))


def _areas(high: float) -> tuple[FloatArray, FloatArray]:
    """Gauss–Legendre nodes of an area and their weights, over its logarithm up to ``high``."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * (_NEAR + high)
    area = np.exp(half * (node + 1) - _NEAR)
    return area, half * weight * area


@lru_cache(maxsize=4096)
def _wanted_user(diversity: int, cluster: int, exponent: float) -> FloatArray:
    """1 − E(1 + z·u^(−α/2))^−κ over the grid of z."""
    z = _grid(-12 * exponent, 12 * exponent)
    if cluster == 1:
        return np.asarray(-np.expm1(-diversity * np.log1p(z)))
    area, weight = _areas(0.0)
    law = weight * (cluster - 1) * (1 - area) ** (cluster - 2)
    return np.asarray(-np.expm1(-diversity * np.log1p(z[:, None] * area ** (-exponent / 2))) @ law)


@lru_cache(maxsize=4096)
def _wanted_target(diversity: int, exponent: float, echo: float) -> FloatArray:
    """1 − E(1 + z·ε·t^−α)^−κ, t the exponential area up to the target."""
    z = _grid(-24 * exponent, 12 * exponent)
    area, weight = _areas(4.0)
    return np.asarray(-np.expm1(-diversity * np.log1p(z[:, None] * echo * area**-exponent)) @ (weight * np.exp(-area)))


def _beyond(z: FloatArray, streams: int, exponent: float) -> FloatArray:
    """Φ(z) = ∫₁^∞ [1 − (1 + z·t^(−α/2))^−s] dt: the hypergeometric function, as the incomplete beta function it is.

    The series of the hypergeometric function overflows for many streams.
    """
    few = 1e-6
    share = 2 / exponent
    beta = np.exp(special.betaln(1 - share, streams + share))
    large = np.maximum(z, few)
    moved = streams * large**share * beta * special.betainc(1 - share, streams + share, large / (1 + large))
    return np.asarray(
        np.where(z < few, streams * z * share / (1 - share), moved + np.expm1(-streams * np.log1p(large)))
    )


@lru_cache(maxsize=256)
def _log_beyond(streams: int, exponent: float) -> interpolate.CubicSpline:
    u = np.arange(-16.0, 80.0, 0.125)
    return interpolate.CubicSpline(u, np.log(_beyond(np.exp(u), streams, exponent)), bc_type="natural")


@lru_cache(maxsize=1024)
def _at_receivers(cluster: int, streams: int, exponent: float) -> FloatArray:
    """Laplace transform of interference at a station that its Q − 1 nearest others spare, over the grid of z."""
    z = _grid(-24 * exponent, 12 * exponent)
    share = 2 / exponent
    if cluster == 1:
        scale = special.gamma(1 - share) * np.exp(special.gammaln(streams + share) - special.gammaln(streams))
        return np.asarray(np.exp(-scale * z**share))
    area, weight = _areas(5.5)
    law = weight * np.exp((cluster - 2) * np.log(area) - area - special.gammaln(cluster - 1))
    spline = _log_beyond(streams, exponent)
    u = np.log(z)[:, None] - 0.5 * exponent * np.log(area)
    inside = np.clip(u, spline.x[0], spline.x[-1])
    # Beyond the table Φ is a power of z: 1 below, 2/α above.
    beyond = spline(inside) + np.where(u < inside, u - inside, share * (u - inside))
    return np.asarray(np.exp(-np.exp(np.log(area) + beyond)) @ law)


def echo_ratio(echo: float, density: float, exponent: float) -> float:
    """The dimensionless echo of `sensing_rate` from the received power of an echo at unit distances."""
    return float(echo * (pi * density) ** (exponent / 2))
