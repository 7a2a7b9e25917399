"""The bound of cross-antenna products against a dense Fisher matrix of all their parameters."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.bounds.cacc import cross_term_snr
from dsp.bounds.link import delay_std_s, doppler_std_hz


@pytest.mark.parametrize("antennas", [2, 4])
def test_effective_snr_is_that_of_the_dense_fisher_matrix(antennas: int) -> None:
    generator = np.random.default_rng(antennas)
    k, length, spacing_hz, symbol_s, noise = 33, 24, 480e3, 0.25e-3, 0.2
    f = (np.arange(k) - (k - 1) / 2) * spacing_hz
    t = (np.arange(length) - (length - 1) / 2) * symbol_s
    sight, moving = (
        size * (generator.normal(size=antennas) + 1j * generator.normal(size=antennas)) for size in (1.0, 0.3)
    )
    # on the grid, where direct term, mirrored term and their slopes are orthogonal: the bound of resolved paths
    delay_s, doppler_hz = 9 / (k * spacing_hz), 6 / (length * symbol_s)
    term = np.outer(np.exp(2j * np.pi * t * doppler_hz), np.exp(-2j * np.pi * f * delay_s)).ravel()
    by_delay = (-2j * np.pi * np.tile(f, length)) * term
    by_doppler = (2j * np.pi * np.repeat(t, k)) * term
    direct, mirrored = moving[1:] * np.conj(sight[0]), sight[1:] * np.conj(moving[0])
    columns = [np.outer(direct, slope) + np.outer(mirrored, slope.conj()) for slope in (by_delay, by_doppler)]
    for antenna in range(antennas - 1):
        for one in (term, term.conj()):
            for unit in (1.0, 1j):
                column = np.zeros((antennas - 1, term.size), complex)
                column[antenna] = unit * one
                columns.append(column)
    covariance = noise * (np.eye(antennas - 1) * (abs(sight[0]) ** 2 + noise) + np.outer(sight[1:], sight[1:].conj()))
    white = np.linalg.inv(np.linalg.cholesky(covariance))
    matrix = np.stack([(white @ column).ravel() for column in columns], axis=1)
    information = 2.0 * (matrix.conj().T @ matrix).real
    deviation = np.sqrt(np.diag(np.linalg.inv(information)))[:2]
    snr = cross_term_snr(sight, moving, noise)
    assert delay_std_s(k, spacing_hz, length, snr) == pytest.approx(deviation[0], rel=2e-3)
    assert doppler_std_hz(k, length, symbol_s, snr) == pytest.approx(deviation[1], rel=2e-3)


def test_two_equal_antennas_are_twice_one_cross_term() -> None:
    noise, level = 0.1, 0.01
    snr = cross_term_snr(np.ones(2, complex), np.sqrt(level) * np.array([1.0, 1j]), noise)
    assert snr == pytest.approx(2.0 * (level / noise) / (2.0 + noise))


def test_one_antenna_is_refused() -> None:
    with pytest.raises(ValueError, match="two antennas"):
        cross_term_snr(np.ones(1, complex), np.ones(1, complex), 0.1)
