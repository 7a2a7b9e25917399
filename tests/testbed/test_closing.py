"""Rows of the nodes' clocks: which offsets they come from, and what they say where there is none."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from types import SimpleNamespace

import pytest

from dsp.moment import Moment
from dsp.synchronization.base import Offset
from testbed.closing import node_rows

CARRIER = Fraction(2_400_000_000)
TRUE_S = {"a": 0.0, "b": 3e-6, "c": -1e-6}
METHODS = ("cacc", "reciprocity-mle", "reciprocity-mp")


def scenario(names=("a", "b", "c")):
    return SimpleNamespace(
        node=[SimpleNamespace(name=name) for name in names], experiment=SimpleNamespace(methods=METHODS)
    )


def heard(names=("a", "b", "c")):
    link = SimpleNamespace(heard=SimpleNamespace(csi=SimpleNamespace(carrier_hz=CARRIER)))
    return dict.fromkeys(permutations(names, 2), link)


def offset(receiver, transmitter, *, error_s=0.0, valid=True):
    return Offset(
        to_s=TRUE_S[receiver] - TRUE_S[transmitter] + error_s,
        cfo_hz=0.0,
        epoch=Moment.at(receiver, 1e6 + TRUE_S[receiver] * 20e6, Fraction(20_000_000)),
        to_std_s=5e-12,
        cfo_std_hz=0.01,
        valid=valid,
    )


def offsets(**changes):
    return {
        (*link, name): offset(*link, **changes.get(name.replace("-", "_"), {}))
        for link in permutations(TRUE_S, 2)
        for name in METHODS
    }


def test_first_valid_two_way_method_closes_the_clocks():
    said = offsets(cacc={"error_s": 1e-3}, reciprocity_mp={"error_s": 1e-9})
    rows = node_rows(4, scenario(), heard(), said)
    assert [row.node for row in rows] == ["a", "b", "c"]
    assert all(row.reference == "a" and row.round == 4 and row.epoch.clock == "a" for row in rows)
    assert [row.offset_s for row in rows] == pytest.approx(list(TRUE_S.values()), abs=1e-15)
    assert rows[1].covariance[0][0] == pytest.approx(2 * 5e-12**2 / 3, rel=1e-6)
    for link in permutations("ab", 2):
        said[*link, "reciprocity-mle"] = offset(*link, valid=False)
        said[*link, "reciprocity-mp"] = offset(*link)
    assert node_rows(4, scenario(), heard(), said)[1].offset_s == pytest.approx(TRUE_S["b"], abs=1e-15)


def test_a_node_without_a_valid_pair_says_so():
    said = {key: value for key, value in offsets().items() if "c" not in key[:2]}
    rows = node_rows(0, scenario(), heard(), said)
    assert rows[2].offset_s is None
    assert "no valid two-way offset" in rows[2].reason
    assert rows[1].offset_s == pytest.approx(TRUE_S["b"], abs=1e-15)
    none = node_rows(0, scenario(), heard(), {})
    assert all(row.offset_s is None and row.epoch is None and "no valid two-way" in row.reason for row in none)
    assert node_rows(0, scenario(), {}, {}) == []


def test_a_contradiction_is_in_the_reason():
    said = offsets()
    for link, sign in ((("b", "c"), 1.0), (("c", "b"), -1.0)):
        said[*link, "reciprocity-mle"] = offset(*link, error_s=sign * 1e-9)
    rows = node_rows(0, scenario(), heard(), said)
    assert all("do not close" in row.reason for row in rows)
