"""Stages of sensing beside the frame's own: CFAR on its map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.sensing.angle import null_spectra, steering
from dsp.sensing.cfar import Training, training_means
from dsp.synchronization.fingerprint import correlated_rows
from testbed.bench.speed import Goal, Stage

__all__ = ["stages", "summed_area_means"]

_DOPPLERS, _DELAYS = 256, 1024


def summed_area_means(power: NDArray[np.float64], training: Training) -> NDArray[np.float64]:
    """Training means of every cell by numpy: a summed-area table, and boxes cut at the edges by index."""
    rows, columns = power.shape
    table = np.zeros((rows + 1, columns + 1))
    np.cumsum(np.cumsum(power, axis=0), axis=1, out=table[1:, 1:])

    def box(half: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        i, j = np.arange(rows), np.arange(columns)
        top, bottom = np.maximum(i - half[0], 0), np.minimum(i + half[0] + 1, rows)
        left, right = np.maximum(j - half[1], 0), np.minimum(j + half[1] + 1, columns)
        total = table[bottom][:, right] - table[top][:, right] - table[bottom][:, left] + table[top][:, left]
        return total, np.outer(bottom - top, right - left)

    outer, many = box(training.reach)
    inner, few = box(training.guard)
    return (outer - inner) / (many - few)


def music_stage() -> Stage:
    """256 covariances of eight antennas, one source each, over 361 angles."""
    rng = np.random.default_rng(2)
    positions = 0.0625 * np.arange(8)
    response = steering(np.sin(np.deg2rad(np.linspace(-90, 90, 361))), positions, 2.4e9)
    source = steering(rng.uniform(-0.9, 0.9, 256), positions, 2.4e9).T
    shape = (256, 16, 8)
    gains = rng.standard_normal((256, 16, 1)) + 1j * rng.standard_normal((256, 16, 1))
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    snapshots = np.sqrt(10.0) * gains * source[:, None, :] + noise
    covariances = np.einsum("cna,cnb->cab", snapshots, snapshots.conj())

    def plain() -> NDArray[np.float64]:
        vectors = np.linalg.eigh(covariances)[1][:, :, :-1]
        return np.asarray(np.sum(np.abs(vectors.conj().transpose(0, 2, 1) @ response) ** 2, axis=1))

    def batched() -> NDArray[np.float64]:
        vectors = np.linalg.eigh(covariances)[1][:, :, -1:]
        taken = np.abs(vectors.conj().transpose(0, 2, 1) @ response) ** 2
        return np.asarray(8.0 - taken.sum(axis=1))

    return Stage(
        "MUSIC",
        lambda: null_spectra(covariances, response, sources=1),
        {"batched eigh": batched, "numpy": plain},
        {"batched eigh": Goal(2, at_least=True)},
    )


def fingerprint_stage() -> Stage:
    """256 Doppler rows of 800 subcarriers against a fingerprint, over 1024 delays."""
    rng = np.random.default_rng(3)
    shape = (256, 800)
    rows = np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), np.complex64)
    factor = np.asarray(rng.standard_normal(800) + 1j * rng.standard_normal(800), np.complex64)
    steps = np.arange(800)

    def scipy() -> NDArray[np.floating]:
        padded = np.zeros((256, 1024), np.complex64)
        padded[:, :800] = rows * factor
        return np.asarray(np.abs(fft.ifft(padded, axis=1, norm="forward", overwrite_x=True, workers=1)))

    def plain() -> NDArray[np.floating]:
        padded = np.zeros((256, 1024), complex)
        padded[:, :800] = rows.astype(complex) * factor
        return np.asarray(np.abs(np.fft.ifft(padded, axis=1, norm="forward")))

    return Stage(
        "fingerprint",
        lambda: correlated_rows(rows, factor, steps, 1024),
        {"scipy, complex64": scipy, "numpy": plain},
    )


def stages() -> list[Stage]:
    """CFAR on a map of the reference frame's size, MUSIC and the fingerprint's correlation."""
    rng = np.random.default_rng(1)
    power = rng.exponential(size=(_DOPPLERS, _DELAYS))
    usable = np.ones(power.shape, bool)
    region = Training()
    factor = 12.0

    def ours() -> NDArray[np.bool_]:
        mean, _ = training_means(power, usable, (1, 1), region)
        return power > factor * mean

    def plain() -> NDArray[np.bool_]:
        return power > factor * summed_area_means(power, region)

    return [
        music_stage(),
        fingerprint_stage(),
        Stage("CFAR", ours, {"numpy": plain}, {"numpy": Goal(6, at_least=True)}),
    ]
