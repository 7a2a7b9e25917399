"""The bench of stated deviations: what it makes of rows, and a slice of it from IQ."""

from __future__ import annotations

import pytest

from testbed.bench.deviations import METHODS, rows, run_world
from testbed.results import LinkRow


def link(error_s: float, *, valid: bool = True) -> LinkRow:
    return LinkRow(
        receiver="a", transmitter="b", round=0, method="reciprocity-mle", valid=valid,
        to_std_s=2e-12, to_error_s=error_s, cfo_std_hz=1.0, cfo_error_hz=0.5,
    )  # fmt: skip


def test_rows_are_means_of_normalised_squares() -> None:
    made = rows(1, [link(2e-12), link(-4e-12), link(1e-9, valid=False)])
    first = {row.metric: row for row in made if row.method == "reciprocity-mle"}
    assert first["to_nees"].value == pytest.approx((1 + 4) / 2)
    assert first["cfo_nees"].value == pytest.approx(0.25)
    assert first["to_nees"].trials == 2
    assert first["to_nees"].standard_error == pytest.approx(1.0)
    assert all(row.value is None for row in made if row.method != "reciprocity-mle")


def test_a_slice_from_iq_states_the_deviations_that_it_has() -> None:
    made = rows(10, run_world(10, 5, 11))
    assert {row.method for row in made} == set(METHODS)
    for row in made:
        assert row.trials == 5
        # five rounds: 0.03 to 4.42 is chi-square's 99.9 %; deviations five times too wide gave 0.01 to 0.04
        if row.method == "reciprocity-mle":
            assert 0.04 < row.value < 4.42
