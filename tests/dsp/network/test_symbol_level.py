"""Symbol-level precoding against cvxpy's statement of the same problem, and against what it must keep."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.network.symbol_level import constructive_vectors, sectors_kept


def _scene(seed: int, users: int = 3, antennas: int = 4, symbols: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    channels = (rng.standard_normal((users, antennas)) + 1j * rng.standard_normal((users, antennas))) * 1e-4
    sent = np.exp(1j * np.pi / 2 * rng.integers(4, size=(symbols, users)))
    wanted = (rng.standard_normal((symbols, antennas)) + 1j * rng.standard_normal((symbols, antennas))) * 0.1
    return channels, sent, wanted


@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize("referred", [False, True])
def test_vectors_are_those_of_the_quadratic_programme(order: int, referred: bool) -> None:
    cp = pytest.importorskip("cvxpy")
    channels, sent, wanted = _scene(order + 10 * referred)
    sinr, noise = np.array([4.0, 10.0, 20.0]), 1e-11
    found = constructive_vectors(channels, sent, sinr, noise, order=order, wanted=wanted if referred else None)
    assert np.all(sectors_kept(channels, found, sent, noise, order=order) >= sinr * (1 - 1e-7))
    for index in range(2):
        x = cp.Variable(4, complex=True)
        y = cp.multiply(channels.conj() / np.sqrt(noise) @ x, sent[index].conj())
        margin = (cp.real(y) - np.sqrt(sinr)) * np.tan(np.pi / order)
        start = wanted[index] if referred else np.zeros(4)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(x - start)), [cp.abs(cp.imag(y)) <= margin])
        problem.solve(solver=cp.CLARABEL)
        assert np.linalg.norm(found[index] - start) ** 2 == pytest.approx(problem.value, rel=1e-5)
        assert np.abs(found[index] - x.value).max() < 1e-4 * np.abs(x.value).max()


def test_interference_is_never_paid_for_by_more_than_zero_forcing() -> None:
    channels, sent, _ = _scene(7, users=4, symbols=64)
    sinr, noise = np.full(4, 10.0), 1e-11
    found = constructive_vectors(channels, sent, sinr, noise)
    # Zero forcing puts every symbol on its region's corner: one vector among those allowed.
    forced = np.linalg.pinv(channels.conj()) @ (np.sqrt(noise * sinr)[:, None] * sent.T)
    powers, bounds = (np.abs(found) ** 2).sum(axis=1), (np.abs(forced) ** 2).sum(axis=0)
    assert np.all(powers <= bounds * (1 + 1e-9))
    assert powers.mean() < 0.8 * bounds.mean()


def test_a_vector_that_keeps_its_sectors_is_left_alone() -> None:
    channels, sent, _ = _scene(3)
    wanted = constructive_vectors(channels, sent, np.full(3, 100.0), 1e-11)
    again = constructive_vectors(channels, sent, np.full(3, 1.0), 1e-11, wanted=wanted)
    np.testing.assert_allclose(again, wanted, rtol=1e-9)


def test_users_that_cannot_be_told_apart_are_refused() -> None:
    channels = np.ones((2, 3), complex)
    with pytest.raises(ValueError, match="their channels are alike"):
        constructive_vectors(channels, np.array([[1.0, -1.0]]), np.ones(2), 1.0)
