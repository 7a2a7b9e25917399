"""Shapes of chains from exchanges, in files, and applied."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.synchronization.chain_response import ChainResponse, evened
from testbed.bench.contract_links import GRID, two_way
from testbed.calibrating.chain_shapes import chain_shapes
from testbed.calibration_records import ChainShape, Record, load_records, save_record

EDGE_HZ = float(np.max(GRID.subcarrier_hz))
CHAINS = {
    "a": ChainResponse(EDGE_HZ, (0.01, 0.03), (0.0, 0.0, 0.02)),
    "b": ChainResponse(EDGE_HZ, (0.0, -0.02), (0.0, 0.01, 0.0)),
    "c": ChainResponse(EDGE_HZ, (-0.02, 0.05), (0.0, 0.0, -0.03)),
}


def exchange(rng: np.random.Generator, one: str, other: str) -> dict[tuple[str, str], ChannelState]:
    """CSI of both directions through the nodes' chains: what `evened` takes off, put on."""
    seen = two_way(rng, 30.0).observation
    assert seen.reverse is not None
    # `evened` with the roles exchanged multiplies by what it divides by otherwise.
    return {
        (one, other): evened(seen.forward, CHAINS[other], CHAINS[one]),
        (other, one): evened(seen.reverse, CHAINS[one], CHAINS[other]),
    }


def test_every_nodes_shape_is_told_against_the_first_ones() -> None:
    rng = np.random.default_rng(4)
    rounds = []
    for _ in range(4):
        states: dict[tuple[str, str], ChannelState] = {}
        for one, other in combinations("abc", 2):
            states |= exchange(rng, one, other)
        rounds.append(states)
    shapes = chain_shapes(["a", "b", "c", "unheard"], rounds)
    assert set(shapes) == {"a", "b", "c"}
    assert not any(shapes["a"].gain_db)
    assert shapes["a"].std_db == 0.0
    for name in "bc":
        found, true = shapes[name].response(), CHAINS[name]
        for got, own, reference in (
            (found.gain, true.gain, CHAINS["a"].gain),
            (found.phase_rad, true.phase_rad, CHAINS["a"].phase_rad),
        ):
            wanted = np.zeros(len(got))
            wanted[: len(own)] += own
            wanted[: len(reference)] -= reference
            # Orders weigh by 1/(2n + 1) in the mean square over the band.
            apart = np.sqrt(np.sum((np.array(got) - wanted) ** 2 / (2 * np.arange(1, len(got) + 1) + 1)))
            assert apart < 3.0 * np.radians(shapes[name].std_deg)
            assert apart < 0.1 * np.linalg.norm(wanted)


def test_nothing_exchanged_both_ways_tells_nothing() -> None:
    states = exchange(np.random.default_rng(5), "a", "b")
    del states["b", "a"]
    assert chain_shapes(["a", "b"], [states]) == {}


def test_a_direction_without_signal_tells_nothing() -> None:
    states = exchange(np.random.default_rng(6), "a", "b")
    silent = states["b", "a"]
    states["b", "a"] = replace(silent, values=np.zeros_like(silent.values))
    assert chain_shapes(["a", "b"], [states]) == {}


def test_a_shape_in_a_file_is_the_shape(tmp_path: Path) -> None:
    shape = ChainShape.of(CHAINS["a"], std=0.001)
    record = Record(
        serial="x", radio="pluto", measured="2026-11-25T00:00:00Z", session="s", reference="none",
        carrier_hz=2.4e9, rate_hz=20e6, shape=shape,
    )  # fmt: skip
    save_record(record, tmp_path)
    (read,) = load_records(tmp_path)
    assert read.shape is not None
    assert read.shape.response().root(np.array([2e6])) == pytest.approx(CHAINS["a"].root(np.array([2e6])), rel=1e-12)
