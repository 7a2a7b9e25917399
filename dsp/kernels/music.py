"""MUSIC of many covariances: signal subspaces by orthogonal iteration, null spectra over a raster."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def _orthonormal(vectors: NDArray[np.complex128]) -> None:
    """Columns made orthonormal, by Gram and Schmidt twice over."""
    antennas, sources = vectors.shape
    for s in range(sources):
        for _ in range(2):
            for earlier in range(s):
                inner = 0j
                for a in range(antennas):
                    inner += np.conj(vectors[a, earlier]) * vectors[a, s]
                for a in range(antennas):
                    vectors[a, s] -= inner * vectors[a, earlier]
        norm = 0.0
        for a in range(antennas):
            norm += vectors[a, s].real ** 2 + vectors[a, s].imag ** 2
        norm = 1.0 / np.sqrt(max(norm, 1e-300))
        for a in range(antennas):
            vectors[a, s] *= norm


@njit(cache=True)
def _signal_subspaces(
    covariances: NDArray[np.complex128],
    most: int,
    tolerance: float,
    vectors: NDArray[np.complex128],
    settled: NDArray[np.bool_],
) -> None:
    """Dominant invariant subspaces, shape (covariance, antenna, source), and whether each is one to ``tolerance``.

    Half the mean of the eigenvalues that the subspace leaves is taken off before each step: less of the noise competes
    with the sources, and as no eigenvalue is negative, none of it becomes larger in magnitude than a source's.
    """
    count, antennas, _ = covariances.shape
    sources = vectors.shape[2]
    image = np.empty((antennas, sources), np.complex128)
    for c in range(count):
        spatial, basis = covariances[c], vectors[c]
        trace = 0.0
        for a in range(antennas):
            trace += spatial[a, a].real
        for s in range(sources):
            for a in range(antennas):
                # Columns of the covariance hold all sources; different ones, so as not to begin alike.
                basis[a, s] = spatial[a, s * (antennas - 1) // max(sources - 1, 1)]
            basis[s, s] += 0.1 * trace
        _orthonormal(basis)
        settled[c] = False
        for _ in range(most):
            held = 0.0
            for a in range(antennas):
                for s in range(sources):
                    total = 0j
                    for b in range(antennas):
                        total += spatial[a, b] * basis[b, s]
                    image[a, s] = total
                    held += np.conj(basis[a, s]).real * total.real - np.conj(basis[a, s]).imag * total.imag
            left = 0.0
            for s in range(sources):
                for a in range(antennas):
                    rest = image[a, s]
                    for other in range(sources):
                        inner = 0j
                        for b in range(antennas):
                            inner += np.conj(basis[b, other]) * image[b, s]
                        rest -= inner * basis[a, other]
                    left += rest.real**2 + rest.imag**2
            if np.sqrt(left) <= tolerance * trace:
                settled[c] = True
                break
            shift = 0.5 * (trace - held) / (antennas - sources)
            for a in range(antennas):
                for s in range(sources):
                    basis[a, s] = image[a, s] - shift * basis[a, s]
            _orthonormal(basis)


@njit(cache=True)
def _null_spectra(
    vectors: NDArray[np.complex128],
    steering_re: NDArray[np.float64],
    steering_im: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """|a|² less what the subspace takes of it, at every column of the steering matrix (antenna, angle)."""
    count, antennas, sources = vectors.shape
    angles = out.shape[1]
    whole = np.zeros(angles)
    for a in range(antennas):
        xr, xi = steering_re[a], steering_im[a]
        for i in range(angles):
            whole[i] += xr[i] * xr[i] + xi[i] * xi[i]
    real, imag = np.empty(angles), np.empty(angles)
    for c in range(count):
        row = out[c]
        for i in range(angles):
            row[i] = whole[i]
        for s in range(sources):
            real[:] = 0.0
            imag[:] = 0.0
            for a in range(antennas):
                vr, vi = vectors[c, a, s].real, vectors[c, a, s].imag
                xr, xi = steering_re[a], steering_im[a]
                for i in range(angles):
                    real[i] += vr * xr[i] + vi * xi[i]
                    imag[i] += vr * xi[i] - vi * xr[i]
            for i in range(angles):
                row[i] -= real[i] * real[i] + imag[i] * imag[i]
