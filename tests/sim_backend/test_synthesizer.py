"""Applied carrier and rate: exact rationals of the reference."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_backend.synthesizer import applied_carrier_hz, applied_rate_hz


def test_carrier_steps_by_2_4_hz_at_2_4_ghz():
    assert applied_carrier_hz(2_400_000_000) == 2_400_000_000
    step = Fraction(80_000_000, 8_388_593 * 4)
    assert float(step) == pytest.approx(2.384, abs=1e-3)
    off = applied_carrier_hz(2_437_000_001)
    assert off / step == round(off / step)
    assert off != 2_437_000_001


def test_common_rates():
    assert applied_rate_hz(20_000_000) == 20_000_000
    odd = applied_rate_hz(30_720_000)
    assert odd != 30_720_000
    assert abs(float(odd - 30_720_000)) < 0.5


@settings(deadline=None)
@given(st.integers(70_000_100, 5_999_999_000))
def test_carrier_is_within_half_a_step(requested):
    applied = applied_carrier_hz(requested)
    assert abs(applied - requested) <= Fraction(80_000_000, 8_388_593) / 2
    assert applied_carrier_hz(applied) == applied


@settings(deadline=None)
@given(st.integers(520_900, 61_439_000))
def test_rate_is_within_half_a_step(requested):
    applied = applied_rate_hz(requested)
    assert abs(applied - requested) <= Fraction(40_000_000, 2_088_960 * 2) / 2
    assert applied_rate_hz(applied) == applied


def test_out_of_range_is_refused():
    with pytest.raises(ValueError, match="70 MHz to 6 GHz"):
        applied_carrier_hz(6.1e9)
    with pytest.raises(ValueError, match=r"520\.8 kS/s"):
        applied_rate_hz(100e6)
