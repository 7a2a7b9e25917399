"""Matrix pencil of one uniform series, without its Hankel matrix and without all of its singular vectors.

The signal's few right singular vectors are found by subspace iteration. A Hankel matrix times a vector is a stretch of
a convolution, two transforms of the series' length, so that nothing of the matrix's size is ever formed.
"""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.channel import ComplexArray, FloatArray

__all__ = ["dominant_vectors", "pencil_delays"]

_SPARE = 8
"""Vectors iterated beyond those asked for: the others converge the faster."""
_MOST_ROUNDS = 60
_SETTLED = 1e-8
"""Squared share of the vectors that a round may still move out of their subspace; the next would move far less."""


def pencil_delays(values: ComplexArray, *, paths: int, spacing_hz: float, pencil: int | None = None) -> FloatArray:
    """Delays of the paths in one channel response, ascending, seconds, 0 … 1/spacing.

    The signal's right singular vectors of the Hankel matrix are shift-invariant: the eigenvalues of the shift are the
    paths' poles exp(-j2π·spacing·delay).

    Parameters
    ----------
    values : complex array, shape (subcarrier,)
        Uniformly spaced, ascending frequency.
    paths : int ≥ 1
    spacing_hz : float > 0
    pencil : int, paths < pencil < subcarriers - paths, optional
        Columns of the Hankel matrix; half the subcarriers if not given.

    Raises
    ------
    ValueError
        If there are too few subcarriers for the paths, or the pencil is out of range.

    Source: Hua and Sarkar 1990 (pencil); Halko, Martinsson and Tropp 2011, algorithm 4.4 (subspace iteration).
    """
    samples = np.asarray(values, np.complex128)
    columns = samples.size // 2 if pencil is None else pencil
    if paths < 1 or not paths < columns < samples.size - paths + 1:
        raise ValueError(f"{paths} paths of {samples.size} subcarriers with a pencil of {columns}: too few subcarriers")
    vectors = dominant_vectors(samples, columns, count=paths)
    # Conjugates of right singular vectors go with the poles as the series does.
    ahead, behind = vectors[:-1].conj(), vectors[1:].conj()
    shift = np.linalg.solve(ahead.conj().T @ ahead, ahead.conj().T @ behind)
    poles = np.linalg.eigvals(shift)
    return np.asarray(np.sort(np.mod(-np.angle(poles) / (2 * pi), 1.0)) / spacing_hz)


def dominant_vectors(
    samples: NDArray[np.complex128], columns: int, *, count: int, settled: float = _SETTLED
) -> NDArray[np.complex128]:
    """Right singular vectors of a series' Hankel matrix, strongest first, shape (columns, count).

    Iterated from the periodogram's strongest lines until a round moves no more than the square root of ``settled`` of
    them out of their subspace (1e-4), or sixty rounds:
    two or three rounds for a channel above its noise, more where a path asked for is not.
    """
    size = samples.size
    rows = size - columns + 1
    width = min(count + _SPARE, columns, rows)
    spectrum = fft.fft(samples)
    # The strongest lines of the periodogram span the paths nearly: their conjugates begin.
    lines = np.argsort(-np.abs(spectrum), kind="stable")[:width]
    block = np.exp(-2j * pi / size * (np.multiply.outer(lines, np.arange(columns)) % size))
    held = np.zeros((columns, count), np.complex128)
    for _ in range(_MOST_ROUNDS):
        basis = np.linalg.qr(_times(spectrum, block, rows).T)[0]
        # The transpose's product conjugates go around the matrix's: Hᴴ·y = conj(Hᵀ·conj(y)).
        image = _times(spectrum, basis.T.conj(), columns).conj().T
        energies, mixing = np.linalg.eigh(image.conj().T @ image)
        order = np.argsort(-energies)[:width]
        image = image @ mixing[:, order]
        vectors = image[:, :count] / np.sqrt(np.maximum(energies[order[:count]], 1e-300))
        moved = count - float(np.sum(np.abs(held.conj().T @ vectors) ** 2))
        held = vectors
        if moved < settled * count:
            break
        block = (image / np.sqrt(np.maximum(energies[order], 1e-300))).T
    return np.asarray(held)


def _times(spectrum: NDArray[np.complex128], vectors: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """Hankel matrix of ``count`` rows times each row of ``vectors``: what of a circular convolution does not wrap."""
    size, length = spectrum.size, vectors.shape[1]
    reversed_rows = fft.fft(vectors[:, ::-1], n=size, axis=1)
    whole = fft.ifft(reversed_rows * spectrum, axis=1, overwrite_x=True)
    return np.asarray(whole[:, length - 1 : length - 1 + count])
