"""Figures of signalling: gains that are known, and the dual's fixed point against a semidefinite programme."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.bench.paper.signalling import least_power_of_blocks, symbol_gain


def test_least_power_is_that_of_a_semidefinite_programme() -> None:
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(2)
    channels = (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))) * 1e-3
    asked, noise = np.array([2.0, 5.0, 10.0]), 1e-7
    scaled = channels / np.sqrt(noise)
    covariances = [cp.Variable((4, 4), hermitian=True) for _ in range(3)]
    heard = [[cp.real(h.conj() @ w @ h) for w in covariances] for h in scaled]
    constraints = [w >> 0 for w in covariances]
    constraints += [row[u] >= asked[u] * (sum(row) - row[u] + 1) for u, row in enumerate(heard)]
    problem = cp.Problem(cp.Minimize(sum(cp.real(cp.trace(w)) for w in covariances)), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert least_power_of_blocks(channels, asked, noise) == pytest.approx(problem.value, rel=1e-5)


def test_symbols_gain_where_users_are_as_many_as_antennas_and_ask_for_much() -> None:
    found = {one.what: one for one in symbol_gain(3, 1).compared}
    assert found["gain at 20 dB, 12 users"].ours > 2.0
    assert found["gain at 0 dB, 12 users"].ours < 0.0
    assert found["gain at 20 dB, 8 users"].ours < found["gain at 20 dB, 12 users"].ours
