"""Precoding of every symbol by itself: what other users' symbols bring may help, if it pushes the right way.

For phase-shift keying interference is constructive where it moves a received symbol deeper into its sector. Each
symbol's transmit vector is then the nearest to a wanted one, or the weakest, that puts every user's symbol a stated
distance beyond its decision thresholds: a least-distance problem under linear inequalities, solved exactly by
non-negative least squares.
"""

from __future__ import annotations

from math import pi, tan

import numpy as np
from scipy.optimize import nnls

from dsp.channel import ComplexArray, FloatArray

__all__ = ["constructive_vectors", "sectors_kept"]

_SINGULAR = 1e-10
"""Residual of the non-negative problem below which the inequalities contradict each other."""


def constructive_vectors(
    channels: ComplexArray,
    symbols: ComplexArray,
    sinr: FloatArray,
    noise: float,
    *,
    order: int = 4,
    wanted: ComplexArray | None = None,
) -> ComplexArray:
    """Transmit vectors of least power, or nearest to wanted ones, with every user inside its constructive region.

    With y the received symbol turned by the phase of the one that is meant, |Im y| ≤ (Re y − σ√Γ)·tan(π/order).

    Parameters
    ----------
    channels : complex array, shape (user, antenna)
        What a user receives is Σ conj(channel)·x, the convention of `dsp.network.cooperation`.
    symbols : complex array, shape (symbol, user)
        Of phase-shift keying, unit magnitude.
    sinr : float array, shape (user,)
        Γ, a power ratio: noise alone is left beside the margin.
    noise : float > 0
        Power at a user, σ².
    order : int ≥ 2
        Of the keying.
    wanted : complex array, shape (symbol, antenna), optional
        Vectors to stay nearest to, such as those of a sensing waveform; zero if not given.

    Returns
    -------
    complex array, shape (symbol, antenna)

    Raises
    ------
    ValueError
        If no vector meets the inequalities: more users than antennas bear, or channels alike.

    Source: Masouros and Zheng, "Exploiting known interference as green signal power for downlink beamforming
    optimization", IEEE Trans. Signal Process. 63(14), 2015; least-distance programming, Lawson and Hanson, chapter 23.
    docs/methods/signalling.md eq. 9.
    """
    users, antennas = channels.shape
    slope = tan(pi / order) if order > 2 else 1e6
    found = np.zeros((len(symbols), antennas), dtype=complex)
    level = np.sqrt(noise * np.asarray(sinr, dtype=float))
    for index, row in enumerate(symbols):
        turned = channels.conj() * row.conj()[:, None]
        # Re y = [Re t, −Im t]·x and Im y = [Im t, Re t]·x for stacked real and imaginary parts.
        along = np.concatenate([turned.real, -turned.imag], axis=1)
        across = np.concatenate([turned.imag, turned.real], axis=1)
        sides = np.concatenate([along * slope - across, along * slope + across])
        least = np.concatenate([level, level]) * slope
        start = np.zeros(2 * antennas)
        if wanted is not None:
            start = np.concatenate([wanted[index].real, wanted[index].imag])
            least = least - sides @ start
        moved = start + _least_distance(sides, least, users)
        found[index] = moved[:antennas] + 1j * moved[antennas:]
    return found


def _least_distance(sides: FloatArray, least: FloatArray, users: int) -> FloatArray:
    """Shortest z with sides·z ≥ least, by the non-negative least squares of its dual."""
    # Columns of one size, so that the residual's threshold has a meaning.
    size = np.linalg.norm(sides, axis=1)
    reach = max(float(np.abs(least / size).max()), 1e-300)
    matrix = np.vstack([(sides / size[:, None]).T, (least / size / reach)[None]])
    aim = np.zeros(len(matrix))
    aim[-1] = 1.0
    weights, left = nnls(matrix, aim)
    rest = matrix @ weights - aim
    if left < _SINGULAR:
        raise ValueError(f"no transmit vector puts all {users} users inside their sectors: their channels are alike")
    return np.asarray(-rest[:-1] / rest[-1] * reach)


def sectors_kept(
    channels: ComplexArray, vectors: ComplexArray, symbols: ComplexArray, noise: float, *, order: int = 4
) -> FloatArray:
    """Γ that every user has in every symbol, (symbol, user): the largest for which it is inside its region; zero where
    its symbol is wrong."""
    received = np.einsum("ua,sa->su", channels.conj(), vectors) * symbols.conj()
    depth = received.real - np.abs(received.imag) / (tan(pi / order) if order > 2 else 1e6)
    return np.asarray(np.maximum(depth, 0.0) ** 2 / noise)
