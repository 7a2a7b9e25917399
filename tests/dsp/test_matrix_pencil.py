"""The pencil without a Hankel matrix, against all singular vectors of one."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.matrix_pencil import dominant_vectors, pencil_delays

SIZE = 384


def series(delays, gains, snr_db, rng):
    clean = np.exp(-2j * np.pi / SIZE * np.outer(np.arange(SIZE), delays)) @ np.asarray(gains)
    noise = rng.standard_normal(SIZE) + 1j * rng.standard_normal(SIZE)
    return clean + 10 ** (-snr_db / 20) / np.sqrt(2) * noise


def by_all_singular_vectors(values, paths):
    hankel = np.lib.stride_tricks.sliding_window_view(values, values.size // 2)
    vectors = np.linalg.svd(hankel, full_matrices=False)[2][:paths].T
    poles = np.linalg.eigvals(np.linalg.lstsq(vectors[:-1], vectors[1:], rcond=None)[0])
    return np.sort(np.mod(-np.angle(poles) / (2 * np.pi), 1.0)) * values.size


@pytest.mark.parametrize(
    ("delays", "gains", "snr_db"),
    [
        ([3.3, 10.1, 17.7, 40.2, 90.9], [1, 0.7, 0.5, 0.3, 0.2], 20.0),
        ([10.2, 10.9, 40.3], [1, 0.8, 0.3], 30.0),
        ([5.5, 20.3, 60.7], [1, 0.1, 0.003], 50.0),
        ([5.5, 20.3], [1, 0.03], 5.0),
    ],
    ids=["five", "close", "weak", "in noise"],
)
def test_delays_are_those_of_all_singular_vectors(delays, gains, snr_db):
    for seed in range(3):
        values = series(delays, gains, snr_db, np.random.default_rng(seed))
        found = pencil_delays(values, paths=len(delays), spacing_hz=1 / SIZE)
        assert np.abs(found - by_all_singular_vectors(values, len(delays))).max() < 1e-3


def test_without_noise_the_delays_are_exact():
    delays = [3.37, 11.2, 11.9, 77.7]
    values = series(delays, [1, 0.5j, 0.4, 0.01], 400.0, np.random.default_rng(0))
    found = pencil_delays(values, paths=4, spacing_hz=15e3) * SIZE * 15e3
    assert np.abs(found - delays).max() < 1e-6


def test_dominant_vectors_are_singular_vectors():
    rng = np.random.default_rng(4)
    values = series([4.4, 30.1], [1, 0.6], 15.0, rng)
    hankel = np.lib.stride_tricks.sliding_window_view(values, 129)
    truth = np.linalg.svd(hankel)[2][:2].conj()
    found = dominant_vectors(values, 129, count=2, settled=1e-16)
    assert np.abs(np.sum(truth.conj() * found.T, axis=1)) == pytest.approx(np.ones(2), abs=1e-10)


@pytest.mark.parametrize(("paths", "pencil"), [(0, None), (5, 5), (3, 382)])
def test_too_few_subcarriers_are_named(paths, pencil):
    with pytest.raises(ValueError, match="too few subcarriers"):
        pencil_delays(np.ones(SIZE, complex), paths=paths, spacing_hz=1.0, pencil=pencil)
