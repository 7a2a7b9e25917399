"""Closing over graphs against exact clocks and known variances; lies found or owned up to."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from dsp.clocks import NodeShare, PairOffset, close
from dsp.moment import Moment

RATE = Fraction(20_000_000)
STD_S, STD_DRIFT = 10e-12, 5e-12


class Clocks:
    """Linear clocks with offsets of seconds and rates of ±25 ppm, read exactly in rationals."""

    def __init__(self, rng, count):
        self.names = [f"n{index}" for index in range(count)]
        self.rate = {name: Fraction(float(rng.uniform(-25e-6, 25e-6))) for name in self.names}
        self.start = {name: Fraction(float(rng.uniform(-20, 20))) for name in self.names}

    def read(self, name, true_s):
        return self.start[name] + (1 + self.rate[name]) * Fraction(true_s)

    def moment(self, name, true_s):
        ticks = self.read(name, true_s) * RATE
        whole = ticks.numerator // ticks.denominator
        return Moment(name, whole, float(ticks - whole), RATE)

    def offset(self, receiver, transmitter, true_s):
        return self.read(receiver, true_s) - self.read(transmitter, true_s)

    def pair(self, rng, receiver, transmitter, true_s, *, noise=1.0):
        """Drift per second of the two clocks' mean, as a two-way exchange measures it."""
        difference = self.rate[receiver] - self.rate[transmitter]
        mean = 1 + (self.rate[receiver] + self.rate[transmitter]) / 2
        return PairOffset(
            receiver,
            transmitter,
            float(self.offset(receiver, transmitter, true_s)) + noise * STD_S * rng.standard_normal(),
            STD_S,
            float(difference / mean) + noise * STD_DRIFT * rng.standard_normal(),
            STD_DRIFT,
            self.moment(receiver, true_s),
        )

    def mesh(self, rng, *, noise=1.0, spread_s=0.1):
        return [
            self.pair(rng, *pair[:: rng.choice([1, -1])], 5 + rng.uniform(-spread_s, spread_s), noise=noise)
            for pair in combinations(self.names, 2)
        ]


def test_exact_pairs_close_exactly_whatever_their_epochs():
    """Second-order terms of 25 ppm clocks are tens of picoseconds here; what is left is a double's resolution."""
    rng = np.random.default_rng(1)
    for count in (2, 3, 5):
        clocks = Clocks(rng, count)
        epoch = clocks.moment("n0", 5.0)
        closed = close(clocks.mesh(rng, noise=0.0), epoch)
        assert closed.consistent
        assert closed.left_out == ()
        assert closed.reason == ""
        for name in clocks.names:
            offset_s, drift, _ = closed.of(name)
            assert offset_s == pytest.approx(float(clocks.offset(name, "n0", 5.0)), abs=2e-14)
            true_drift = float((clocks.rate[name] - clocks.rate["n0"]) / (1 + clocks.rate["n0"]))
            assert drift == pytest.approx(true_drift, abs=1e-15)
            later_s, _, _ = closed.of(name, time_s=float((1 + clocks.rate["n0"]) * 3))
            assert later_s == pytest.approx(float(clocks.offset(name, "n0", 8.0)), abs=5e-14)
        assert np.all(np.abs(closed.residuals_s) < 2e-14)


@pytest.mark.parametrize("count", [4, 6, 8])
def test_mesh_divides_the_variance_by_half_its_nodes(count):
    rng = np.random.default_rng(count)
    clocks = Clocks(rng, count)
    epoch = clocks.moment("n0", 5.0)
    errors, drifts = [], []
    for _ in range(220):
        closed = close(clocks.mesh(rng, spread_s=0.0), epoch)
        for first, second in combinations(clocks.names, 2):
            offset_s, drift, covariance = closed.between(first, second)
            errors.append(offset_s - float(clocks.offset(first, second, 5.0)))
            drifts.append(drift - float((clocks.rate[first] - clocks.rate[second]) / (1 + clocks.rate["n0"])))
            assert covariance[0, 0] == pytest.approx(2 * STD_S**2 / count, rel=1e-3)
    assert np.mean(np.square(errors)) == pytest.approx(2 * STD_S**2 / count, rel=0.1)
    assert np.mean(np.square(drifts)) == pytest.approx(2 * STD_DRIFT**2 / count, rel=0.1)


def test_star_has_the_pairs_variance_to_the_hub_and_twice_that_between_leaves():
    rng = np.random.default_rng(4)
    clocks = Clocks(rng, 4)
    star = [clocks.pair(rng, "n0", name, 5.0) for name in clocks.names[1:]]
    closed = close(star, clocks.moment("n0", 5.0))
    assert closed.between("n0", "n2")[2][0, 0] == pytest.approx(STD_S**2, rel=1e-6)
    assert closed.between("n1", "n2")[2][0, 0] == pytest.approx(2 * STD_S**2, rel=1e-6)
    assert closed.degrees == 0
    assert np.all(closed.residual_std_s == 0.0)
    # at another epoch what the drifts leave open is in the covariance
    assert closed.of("n1", time_s=10.0)[2][0, 0] == pytest.approx(STD_S**2 + 100 * STD_DRIFT**2, rel=1e-6)


def test_closure_residuals_have_the_deviation_stated():
    rng = np.random.default_rng(5)
    scores, squares = [], []
    for _ in range(150):
        clocks = Clocks(rng, 4)
        closed = close(clocks.mesh(rng), clocks.moment("n0", 5.0))
        squares.append(closed.chi2)
        if not closed.left_out:
            scores += list(closed.residuals_s / closed.residual_std_s)
        assert closed.degrees in (6, 4)
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=0.15)
    assert np.mean(squares) == pytest.approx(6.0, abs=0.9)


def test_a_link_that_lies_is_found_and_left_out():
    rng = np.random.default_rng(6)
    for trial in range(40):
        clocks = Clocks(rng, 4 + trial % 3)
        pairs = clocks.mesh(rng)
        liar = int(rng.integers(len(pairs)))
        pairs[liar] = replace(pairs[liar], to_s=pairs[liar].to_s + rng.choice([-1, 1]) * 15 * STD_S)
        closed = close(pairs, clocks.moment("n0", 5.0))
        assert closed.left_out == (liar,)
        assert closed.consistent
        assert "left out" in closed.reason
        assert abs(closed.residuals_s[liar]) > 9 * STD_S
        offset_s, _, covariance = closed.of("n1")
        assert abs(offset_s - float(clocks.offset("n1", "n0", 5.0))) < 5 * covariance[0, 0] ** 0.5


def test_honest_meshes_keep_all_links():
    rng = np.random.default_rng(7)
    rejected = 0
    for _ in range(300):
        clocks = Clocks(rng, 4)
        closed = close(clocks.mesh(rng), clocks.moment("n0", 5.0))
        rejected += bool(closed.left_out) or not closed.consistent
    assert rejected <= 3


def test_a_triangle_shows_a_lie_but_not_the_liar():
    rng = np.random.default_rng(8)
    clocks = Clocks(rng, 3)
    pairs = clocks.mesh(rng)
    pairs[1] = replace(pairs[1], to_s=pairs[1].to_s + 1e-9)
    closed = close(pairs, clocks.moment("n0", 5.0))
    assert closed.left_out == ()
    assert not closed.consistent
    assert "cannot be told" in closed.reason


def test_nodes_without_links_and_wrong_input():
    rng = np.random.default_rng(9)
    clocks = Clocks(rng, 4)
    closed = close([clocks.pair(rng, "n1", "n0", 5.0), clocks.pair(rng, "n2", "n3", 5.0)], clocks.moment("n0", 5.0))
    assert closed.nodes == ("n0", "n1")
    assert np.isnan(closed.residuals_s[1])
    with pytest.raises(ValueError, match="n3"):
        closed.of("n3")
    with pytest.raises(ValueError, match="deviation"):
        close([replace(clocks.pair(rng, "n1", "n0", 5.0), to_std_s=0.0)], clocks.moment("n0", 5.0))
    alone = close([], clocks.moment("n0", 5.0))
    assert alone.nodes == ("n0",)
    assert alone.of("n0")[0] == 0.0


def test_what_a_node_brings_into_all_its_pairs_is_not_averaged_away():
    """Mesh of four whose nodes' own errors, each another, are as large as the pairs'; closing sees them nowhere."""
    rng = np.random.default_rng(21)
    clocks = Clocks(rng, 4)
    parts = {"n0": 0.2, "n1": 0.7, "n2": 0.4, "n3": 0.1}
    own = {name: NodeShare(part * STD_S**2, part * STD_DRIFT**2) for name, part in parts.items()}
    nodes, pairs = [], []
    for _ in range(150):
        common = {name: np.sqrt(part) * rng.standard_normal(2) * (STD_S, STD_DRIFT) for name, part in parts.items()}
        measured = [
            replace(
                one,
                to_s=one.to_s + common[one.receiver][0] - common[one.transmitter][0],
                drift=one.drift + common[one.receiver][1] - common[one.transmitter][1],
                to_std_s=np.sqrt(1.0 + parts[one.receiver] + parts[one.transmitter]) * STD_S,
                drift_std=np.sqrt(1.0 + parts[one.receiver] + parts[one.transmitter]) * STD_DRIFT,
                receiver_share=own[one.receiver],
                transmitter_share=own[one.transmitter],
            )
            for one in clocks.mesh(rng, spread_s=1e-3)
        ]
        closed = close(measured, clocks.moment("n0", 5))
        offset, drift, covariance = closed.between("n1", "n3")
        # the moment at which the reference reads the epoch
        error = (
            offset - float(clocks.offset("n1", "n3", 5)),
            drift - float((clocks.rate["n1"] - clocks.rate["n3"]) / (1 + clocks.rate["n0"])),
        )
        nodes.append(np.square(error) / np.diag(covariance))
        pairs.append((closed.residuals_s / closed.residual_std_s)[0] ** 2)
    # 2σ²/4 of the pairs, and both nodes' own
    assert np.sqrt(covariance[0, 0]) == pytest.approx(np.sqrt(0.5 + parts["n1"] + parts["n3"]) * STD_S, rel=0.01)
    assert np.mean(nodes, axis=0) == pytest.approx([1.0, 1.0], abs=4 * np.sqrt(2 / len(nodes)))
    assert np.mean(pairs) == pytest.approx(1.0, abs=4 * np.sqrt(2 / len(pairs)))
