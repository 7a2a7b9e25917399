"""What filters do to all paths of a channel alike: a gain even in frequency, and an odd phase.

A radio's low passes and decimation filters are real and act on both branches alike, so that what they add to a channel
is conjugate symmetric about the carrier. Paths have phases of their own, and what one too close to be told apart leaves
is in the symmetric part and in the other alike. The symmetric part is therefore allowed to be a filter's; the other
keeps telling how much is left of paths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.path_sum import PathFit, PathSum

__all__ = ["Dispersion", "explained", "mean_response"]

_HIGHEST_DEGREE = 8
_SUBCARRIERS_PER_DEGREE = 8
_ROUNDS = 3
_TURNS = 3


@dataclass(frozen=True)
class Dispersion:
    """Response of a chain's filters without their delay: 1 + Σ c_k P_k(f), Legendre polynomials of degree two and above
    over the band, coefficients real for even degrees and imaginary for odd ones. A linear phase is no part of it."""

    coefficients: FloatArray
    edge_hz: float
    """Frequency from the carrier at which the polynomials' argument is one."""

    def at(self, frequency_hz: FloatArray) -> ComplexArray:
        """Response at frequencies from the carrier, no further than the edge."""
        return np.asarray(1.0 + _terms(frequency_hz / self.edge_hz, self.coefficients.size) @ self.coefficients)


def explained(fit: PathSum, grow: Callable[[PathSum], PathFit]) -> tuple[PathFit, Dispersion | None]:
    """Paths that explain a channel, and the dispersion common to them; None where paths alone say it shorter.

    Dispersion and paths are fitted in turn by least squares, first around one path. The number of its terms, and
    whether there are any, is that of minimum description length.

    Parameters
    ----------
    grow : callable
        Paths of a channel, found one by one.
    """
    plain = grow(fit)
    alone = fit.refined(np.array([fit.strongest_delay()]))
    edge_hz = float(np.max(np.abs(fit.subcarrier_hz)))
    highest = min(_HIGHEST_DEGREE, fit.subcarrier_hz.size // _SUBCARRIERS_PER_DEGREE)
    terms = _terms(fit.subcarrier_hz / edge_hz, max(highest - 1, 0))
    if not _paying(fit, alone, terms):
        return plain, None
    best, shape = plain, None
    # All terms at first: echoes that are still to be found hide that one more would pay, and a path next to the first
    # would stand in for it.
    paths = alone
    for _ in range(_ROUNDS):
        paths = grow(fit.without(1.0 + terms @ fit.common(paths, terms)[0], terms))
        terms = terms[:, : _paying(fit, paths, terms)]
        for _ in range(_TURNS):
            coefficients = fit.common(paths, terms)[0]
            paths = fit.without(1.0 + terms @ coefficients, terms).refined(paths.delays_s)
        if paths.length >= best.length or not coefficients.size:
            break
        best, shape = paths, Dispersion(coefficients, edge_hz)
        if len(paths.delays_s) == 1:
            break
    return best, shape


def mean_response(first: Dispersion | None, second: Dispersion | None, frequency_hz: FloatArray) -> ComplexArray | None:
    """Geometric mean of two nodes' responses, each of transmitter and receiver in a row; None if neither has any.

    It is what a link between them has in both directions, as far as both have the same.
    """
    known = [one.at(frequency_hz) for one in (first, second) if one is not None]
    return np.asarray(np.prod([np.sqrt(one) for one in known], axis=0)) if known else None


def _terms(place: FloatArray, count: int) -> ComplexArray:
    """Polynomials of degree two and up, shape (place, count)."""
    degrees = np.arange(2, count + 2)
    return np.asarray(np.polynomial.legendre.legvander(place, count + 1)[:, 2:] * np.where(degrees % 2, 1j, 1.0))


def _paying(fit: PathSum, paths: PathFit, terms: ComplexArray) -> int:
    """How many of ``terms`` pay beside ``paths``."""
    samples = 2 * len(terms)
    lengths = []
    for count in range(terms.shape[1] + 1):
        remainder = fit.common(paths, terms[:, :count])[1]
        energy = max(float(np.sum(np.abs(remainder) ** 2)), 1e-300)
        lengths.append(0.5 * samples * log(energy) + 0.5 * count * log(samples))
    return int(np.argmin(lengths))
