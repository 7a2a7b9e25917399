"""A seeded slice of the study of assumptions: `isac bench accuracy applicability` has all cases and 400 trials."""

from __future__ import annotations

import re

import numpy as np
import pytest

from testbed.bench.applicability import CASES, INTACT, Case, snr_db_of
from testbed.bench.contract import MEMBERS, estimated, study

TRIALS = 4
UNSEEN = ("mover beside the line of sight", "path-resolved")  # one direction cannot tell: docs/methods/applicability.md
SLICE = [
    (case, name)
    for number, case in enumerate(CASES)
    for name in case.methods[number % len(case.methods) :][:1]
    if case.assumption != UNSEEN[0] or not name.startswith(UNSEEN[1])
]


def label(pair: object) -> str:
    return pair.assumption if isinstance(pair, Case) else str(pair)


@pytest.mark.parametrize(("case", "name"), SLICE, ids=label)
def test_a_broken_assumption_gives_no_wrong_number_as_valid(case: Case, name: str) -> None:
    seen = study(MEMBERS[name], snr_db_of(name), TRIALS, 1, case.draw)
    assert seen.wrong == 0


@pytest.mark.parametrize(("case", "name"), [(case, case.methods[-1]) for case in INTACT], ids=label)
def test_nothing_is_refused_while_assumptions_hold(case: Case, name: str) -> None:
    seen = study(MEMBERS[name], snr_db_of(name), TRIALS, 1, case.draw)
    assert (seen.valid, seen.wrong) == (seen.trials, 0)


@pytest.mark.parametrize(
    ("assumption", "name", "words"),
    [
        ("no line of sight", "cacc", "line of sight"),
        ("no line of sight", "path-resolved", "line of sight"),
        ("no line of sight", "reciprocity-structured", "line of sight"),
        ("one antenna", "csi-ratio", "hears nothing"),
        ("one antenna", "cacc", "hears nothing"),
        ("no static path", "path-resolved", "still|weak"),
        ("blind ratio", "csi-ratio", "blind"),
        ("phases not reciprocal", "reciprocity-mle", "same channel"),
        ("separate ports, stated", "spectral-cc", "separate"),
        ("scene changed", "fingerprint", "changed"),
        ("scatterers moved 3 m", "cooperation", "scatterers|time offset"),
        ("CFO aliased", "reciprocity-mp", "CFO aliased"),
        ("CFO aliased", "reciprocity-structured", "CFO aliased"),
        ("CFO aliased", "fingerprint", "CFO aliased"),
        ("CFO aliased", "path-resolved", "CFO aliased"),
        ("mover unresolved", "csi-ratio", "less than one turn|no moving path|not one circle"),
    ],
)
def test_the_reason_is_in_words(assumption: str, name: str, words: str) -> None:
    (case,) = [one for one in CASES if one.assumption == assumption and name in one.methods]
    assert case.draw is not None
    offset = estimated(MEMBERS[name], case.draw(np.random.default_rng(2), snr_db_of(name)))
    assert not offset.valid
    assert re.search(words, offset.reason), offset.reason
