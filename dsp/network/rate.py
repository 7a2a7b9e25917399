"""Downlink rate of a user that all stations within a radius serve jointly, without phase between them.

Stations are a Poisson process; each of M antennas nulls nothing and gives its user a diversity of κ = M − 1; those
beyond the radius interfere. Noise is neglected, as dense networks may.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special, stats

from dsp.channel import FloatArray

__all__ = ["ergodic_rate", "rate_draws"]

_CHUNK = 1 << 20
"""Stations drawn at a time: the memory that a run of any length takes."""
_NODES = 64
_DECADES = 18.0
"""How far below the radius, in natural logarithms, stations are integrated: nearer ones hold 1e-16 of the area."""
_FAR = 8.0
"""Radius of the draws over the serving one; what is beyond counts by its mean."""


def ergodic_rate(density: float, exponent: float, diversity: float, radius: float, *, power: float = 1.0) -> float:
    """Mean rate in bit/s/Hz: (1/ln 2)·∫(1 − L_U(z))·L_I(z) dz/z, by quadrature over ln z to 1e-8.

    L_U and L_I are the Laplace transforms of what is wanted and of interference.

    Parameters
    ----------
    density : float > 0
        Stations per unit of area.
    exponent : float > 2
        Of the path loss.
    diversity : float > 0
        Shape κ of the gamma-distributed power from a serving station: antennas less one.
    radius : float > 0
        Within which stations serve, in the density's unit of length.
    power : float, optional
        Of a serving station over an interfering one's.

    Raises
    ------
    ValueError
        If the exponent is two or less: interference from an endless plane then has no bound.

    Source: docs/methods/network.md eqs 13 to 15.
    """
    _check(density, exponent, diversity, radius)
    u = np.linspace(-40.0, 60.0, 251) + exponent * log(radius)
    z = np.exp(u)
    wanted = np.exp(-2 * pi * density * _serving(z, exponent, diversity, radius, power))
    interference = np.exp(-2 * pi * density * _interfering(z, exponent, radius))
    return float(integrate.trapezoid((1 - wanted) * interference, u) / log(2))


def rate_draws(
    rng: np.random.Generator, draws: int, density: float, exponent: float, diversity: float, radius: float
) -> FloatArray:
    """Rates of random networks, bit/s/Hz, shape (draw,): the simulation beside `ergodic_rate`.

    How many stations serve is drawn by strata of equal probability, which takes most of the spread away where there are
    few: the mean's error is less than the deviation over √draws says, and that of means of several calls is what it is.
    Stations beyond eight radii interfere by their mean: at α = 2.5 their own spread is below 1.5 % of all interference,
    and moves the rate by less than 2·10⁻⁴.
    """
    _check(density, exponent, diversity, radius)
    far = _FAR * radius
    beyond = 2 * pi * density * far ** (2 - exponent) / (exponent - 2)
    strata = (rng.permutation(draws) + rng.random(draws)) / draws
    serving = stats.poisson.ppf(strata, density * pi * radius**2).astype(int)
    rates = np.empty(draws)
    size = max(1, int(_CHUNK / (density * pi * far**2 + 1)))
    for start in range(0, draws, size):
        near = serving[start : start + size]
        others = rng.poisson(density * pi * (far**2 - radius**2), near.size)
        wanted = rng.standard_gamma(diversity, near.sum()) * (radius * np.sqrt(rng.random(near.sum()))) ** -exponent
        apart = np.sqrt(radius**2 + (far**2 - radius**2) * rng.random(others.sum()))
        heard = rng.standard_exponential(apart.size) * apart**-exponent
        ratio = _sums(wanted, near) / (_sums(heard, others) + beyond)
        rates[start : start + size] = np.log2(1 + ratio)
    return rates


def _sums(values: FloatArray, counts: NDArray[np.integer]) -> FloatArray:
    """Sums of runs of so many values each."""
    runs = np.repeat(np.arange(counts.size), counts)
    return np.asarray(np.bincount(runs, weights=values, minlength=counts.size), dtype=float)


def _check(density: float, exponent: float, diversity: float, radius: float) -> None:
    if exponent <= 2:
        raise ValueError(f"a path-loss exponent of {exponent} lets interference grow without bound: use one above two")
    if min(density, diversity, radius) <= 0:
        raise ValueError("density, diversity and radius must be positive")


def _serving(z: FloatArray, exponent: float, diversity: float, radius: float, power: float) -> FloatArray:
    """∫₀^R [1 − (1 + z·p·r^−α)^−κ] r dr, Gauss–Legendre over ln r."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    r = radius * np.exp(0.5 * _DECADES * (node - 1))
    served = -np.expm1(-diversity * np.log1p(z[:, None] * power * r**-exponent)) * r * r
    return np.asarray(served @ (0.5 * _DECADES * weight))


def _interfering(z: FloatArray, exponent: float, radius: float) -> FloatArray:
    """∫_R^∞ [1 − 1/(1 + z·r^−α)] r dr, in closed form by a hypergeometric function."""
    x = z * radius**-exponent
    series = special.hyp2f1(1.0, 1 - 2 / exponent, 2 - 2 / exponent, -x)
    return np.asarray(radius**2 / (exponent - 2) * x * series)
