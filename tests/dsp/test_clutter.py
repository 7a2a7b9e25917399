"""Clutter removal: static paths leave nothing, movers what the formula says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.sensing.clutter import remove_static, retained_share


def slot(values: np.ndarray, weights: np.ndarray) -> ChannelState:
    symbols, subcarriers = weights.shape
    return ChannelState(
        values=values,
        weights=weights,
        subcarrier_hz=(np.arange(subcarriers) - subcarriers / 2) * 20e3,
        symbol_s=(np.arange(4)[:, None] * 5e-3 + np.arange(symbols // 4) * 0.4e-3).ravel(),
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.ones(values.shape[0]),
        frame_of_symbol=np.repeat(np.arange(4), symbols // 4),
    )


def test_static_paths_leave_nothing_whatever_their_delays_and_the_weights():
    rng = np.random.default_rng(1)
    static = rng.standard_normal((2, 1, 50)) + 1j * rng.standard_normal((2, 1, 50))
    weights = rng.uniform(0.0, 2.0, (32, 50)) * (rng.random((32, 50)) > 0.3)
    cleaned, clutter = remove_static(slot(np.broadcast_to(static, (2, 32, 50)).copy(), weights))
    assert np.max(np.abs(cleaned.values * (weights > 0))) < 1e-13
    np.testing.assert_allclose(clutter.static, static[:, 0], rtol=1e-12)


def test_a_mover_keeps_the_stated_share():
    rng = np.random.default_rng(2)
    csi = slot(np.zeros((1, 32, 50), complex), np.ones((32, 50)))
    for doppler in rng.uniform(-200, 200, 12):
        mover = np.exp(2j * np.pi * doppler * csi.symbol_s)[:, None] * np.ones(50)
        cleaned, _ = remove_static(replace(csi, values=mover[None]))
        share = np.mean(np.abs(cleaned.values) ** 2)
        assert retained_share(csi, np.array([doppler]))[0] == pytest.approx(share, abs=1e-12)


def test_blanked_doppler_is_where_half_is_lost():
    csi = slot(np.zeros((1, 32, 50), complex), np.ones((32, 50)))
    _, clutter = remove_static(csi)
    assert retained_share(csi, np.array([clutter.blanked_hz]))[0] == pytest.approx(0.5, abs=0.02)
    assert 0.3 / np.ptp(csi.symbol_s) < clutter.blanked_hz < 0.6 / np.ptp(csi.symbol_s)


def test_unknown_subcarriers_stay_zero_and_two_symbols_are_refused():
    weights = np.ones((32, 50))
    weights[:, 7] = 0.0
    cleaned, clutter = remove_static(slot(np.ones((1, 32, 50), complex), weights))
    assert clutter.static[0, 7] == 0.0
    assert np.isfinite(cleaned.values).all()
    short = slot(np.ones((1, 32, 50), complex), np.ones((32, 50)))
    with pytest.raises(ValueError, match="three symbols"):
        remove_static(
            replace(short, values=short.values[:, :2], weights=short.weights[:2], symbol_s=short.symbol_s[:2])
        )
