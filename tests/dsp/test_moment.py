"""Moments keep their picoseconds whatever the counters say."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsp.moment import Moment

RATE = Fraction(20_000_000)
ticks = st.integers(min_value=-(2**62), max_value=2**62)
fractions = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(tick=ticks, fraction=fractions, picoseconds=st.integers(min_value=-(10**10), max_value=10**10))
def test_a_shift_is_undone_by_the_difference(tick, fraction, picoseconds):
    start = Moment("a", tick, fraction, RATE)
    end = start.shifted(picoseconds * 1e-12)
    assert 0 <= end.fraction < 1
    assert end.seconds_since(start) == pytest.approx(picoseconds * 1e-12, abs=2e-17)


@given(tick=ticks, fraction=fractions, seconds=st.floats(min_value=-1e-1, max_value=1e-1))
def test_midway_lies_as_far_from_both(tick, fraction, seconds):
    start = Moment("a", tick, fraction, RATE)
    end = start.shifted(seconds)
    middle = start.midway(end)
    assert middle.seconds_since(start) == pytest.approx(end.seconds_since(middle), abs=1e-16)


def test_clocks_of_unlike_rates_are_compared_exactly():
    # 1000 s counted at 20 MS/s against the same counted at 61.44 MS/s, 0.25 samples later.
    slow = Moment("a", 20_000_000 * 1000, 0.0, RATE)
    fast = Moment("b", 61_440_000 * 1000, 0.25, Fraction(61_440_000))
    assert fast.seconds_since(slow) == pytest.approx(0.25 / 61.44e6, rel=1e-12)


def test_a_hair_below_a_tick_stays_a_valid_moment():
    moment = Moment.at("a", -1e-20, RATE)
    assert (moment.tick, moment.fraction) == (0, 0.0)
