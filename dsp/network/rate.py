"""Downlink rate of a user that all stations within a radius serve jointly, without phase between them.

Stations are a Poisson process; each of M antennas nulls nothing and gives its user a diversity of κ = M − 1; those
beyond the radius interfere. Noise is neglected, as dense networks may.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
from scipy import integrate, special

from dsp.channel import FloatArray

__all__ = ["ergodic_rate", "rate_draws"]

_NODES = 64
_DECADES = 18.0
"""How far below the radius, in natural logarithms, stations are integrated: nearer ones hold 1e-16 of the area."""
_FAR = 20.0
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
    """Rates of random networks, bit/s/Hz, shape (draw,): the simulation beside `ergodic_rate`."""
    _check(density, exponent, diversity, radius)
    far = _FAR * radius
    beyond = 2 * pi * density * far ** (2 - exponent) / (exponent - 2)
    rates = np.empty(draws)
    for index in range(draws):
        distance = far * np.sqrt(rng.random(rng.poisson(density * pi * far**2)))
        near = distance < radius
        wanted = (rng.gamma(diversity, size=near.sum()) * distance[near] ** -exponent).sum()
        interference = (rng.standard_exponential((~near).sum()) * distance[~near] ** -exponent).sum()
        rates[index] = np.log2(1 + wanted / (interference + beyond))
    return rates


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
