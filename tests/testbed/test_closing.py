"""Rows of the nodes' clocks: which offsets they come from, who is left out, and what is said where there is none."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from dsp.moment import Moment
from dsp.synchronization.base import Offset
from testbed.clock_tracks import ClockTracks
from testbed.scenario import loads

CARRIER = Fraction(2_400_000_000)
RATE = Fraction(20_000_000)
TRUE_S = {"a": 0.0, "b": 3e-6, "c": -1e-6, "d": 2e-6, "e": 5e-7}
METHODS = ("cacc", "reciprocity-mle", "reciprocity-mp")


def scenario(names="abc", closing="mesh"):
    nodes = "".join(f'[[node]]\nname = "{name}"\nposition_m = [{10 * i}, {i * i}]\n' for i, name in enumerate(names))
    return loads(
        f'[experiment]\nname = "x"\nmethods = {list(METHODS)}\n[round]\nclosing = "{closing}"\n'
        f"[waveform]\ncarrier_hz = 2.4e9\nsample_rate_hz = 20e6\n{nodes}",
        source="test",
    )


def heard(names="abc"):
    csi = {
        name: SimpleNamespace(
            carrier_hz=CARRIER, reference=Moment(name, 1_000_000, 0.0, RATE), symbol_s=np.linspace(-1e-3, 1e-3, 20)
        )
        for name in names
    }
    return {(n, m): SimpleNamespace(heard=SimpleNamespace(csi=csi[n])) for n, m in permutations(names, 2)}


def captures(names="abc", stream=0):
    one = SimpleNamespace(stream=stream, truth=None, rate_hz=RATE, settings=None)
    return {
        name: SimpleNamespace(
            **vars(one), node=name, stretches=(SimpleNamespace(first_tick=0, samples=2_000_000),)
        )
        for name in names
    }  # fmt: skip


def offset(receiver, transmitter, *, error_s=0.0, valid=True):
    return Offset(
        to_s=TRUE_S[receiver] - TRUE_S[transmitter] + error_s,
        cfo_hz=0.0,
        epoch=Moment.at(receiver, 1e6 + TRUE_S[receiver] * 20e6, RATE),
        to_std_s=5e-12,
        cfo_std_hz=0.01,
        valid=valid,
    )


def offsets(names="abc", **changes):
    return {
        (*link, name): offset(*link, **changes.get(name.replace("-", "_"), {}))
        for link in permutations(names, 2)
        for name in METHODS
    }


def closed(said, names="abc", closing="mesh", found=None):
    found = heard(names) if found is None else found
    return ClockTracks(scenario(names, closing)).take(4, found, said, captures(names))


def test_first_valid_two_way_method_closes_the_clocks():
    said = offsets(cacc={"error_s": 1e-3}, reciprocity_mp={"error_s": 1e-9})
    done = closed(said)
    assert [row.node for row in done.nodes] == ["a", "b", "c"]
    assert [row.source for row in done.nodes] == ["reference", "closed", "closed"]
    assert all(row.reference == "a" and row.round == 4 and row.epoch.clock == "a" for row in done.nodes)
    assert [row.offset_s for row in done.nodes] == pytest.approx([TRUE_S[n] for n in "abc"], abs=1e-15)
    assert done.nodes[1].covariance[0][0] == pytest.approx(2 * 5e-12**2 / 3, rel=1e-3)
    assert [(row.receiver, row.transmitter, row.method) for row in done.closures] == [
        ("a", "b", "reciprocity-mle"), ("a", "c", "reciprocity-mle"), ("b", "c", "reciprocity-mle")
    ]  # fmt: skip
    assert all(abs(row.residual_s) < 1e-14 and row.residual_std_s > 1e-12 for row in done.closures)
    assert done.events == []
    for link in permutations("ab", 2):
        said[*link, "reciprocity-mle"] = offset(*link, valid=False)
        said[*link, "reciprocity-mp"] = offset(*link)
    again = closed(said)
    assert again.nodes[1].offset_s == pytest.approx(TRUE_S["b"], abs=1e-15)
    assert again.closures[0].method == "reciprocity-mp"


def test_a_star_uses_the_hub_alone():
    done = closed(offsets("abcd"), "abcd", "star")
    assert [(row.receiver, row.transmitter) for row in done.closures] == [("a", "b"), ("a", "c"), ("a", "d")]
    assert all(row.residual_std_s is None and "no other link checks" in row.reason for row in done.closures)
    assert [row.covariance[0][0] for row in done.nodes[1:]] == pytest.approx([5e-12**2] * 3, rel=1e-3)


def test_a_lying_link_is_named_and_left_out():
    said = offsets("abcde")
    for link, sign in ((("b", "d"), 1.0), (("d", "b"), -1.0)):
        said[*link, "reciprocity-mle"] = offset(*link, error_s=sign * 200e-12)
    done = closed(said, "abcde")
    assert [row.left_out for row in done.closures] == [
        (row.receiver, row.transmitter) == ("b", "d") for row in done.closures
    ]
    liar = next(row for row in done.closures if row.left_out)
    assert liar.residual_s == pytest.approx(200e-12, rel=1e-3)
    assert "deviations from what the others say" in liar.reason
    assert [(event.code, event.round) for event in done.events] == [("link-left-out", 4)]
    assert "b-d left out" in done.events[0].text
    assert [row.offset_s for row in done.nodes] == pytest.approx([TRUE_S[n] for n in "abcde"], abs=1e-14)
    assert all("b-d" in row.reason for row in done.nodes)


def test_a_node_without_a_valid_pair_says_so():
    said = {key: value for key, value in offsets().items() if "c" not in key[:2]}
    rows = closed(said).nodes
    assert rows[2].offset_s is None
    assert "no valid two-way offset" in rows[2].reason
    assert rows[1].offset_s == pytest.approx(TRUE_S["b"], abs=1e-15)
    none = closed({}).nodes
    assert all("no valid two-way" in row.reason for row in none)
    assert [row.offset_s for row in none] == [None] * 3
    silent = closed({}, found={}).nodes
    assert all("no link was heard" in row.reason for row in silent)
    assert ClockTracks(scenario()).take(0, {}, {}, {}).nodes == []


def test_a_contradiction_is_in_the_reason():
    said = offsets()
    for link, sign in ((("b", "c"), 1.0), (("c", "b"), -1.0)):
        said[*link, "reciprocity-mle"] = offset(*link, error_s=sign * 1e-9)
    done = closed(said)
    assert all("do not close" in row.reason for row in done.nodes)
    assert not any(row.left_out for row in done.closures)
