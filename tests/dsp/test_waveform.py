"""The frame: its layout, its preamble, its transform."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.waveform import Modulation, Waveform, frame, long_body, pilot_values, preamble, short_part

SETTING = Waveform(1024, 128, 800, 12, Modulation.QAM16, 8, Fraction(20_000_000), Fraction(2_400_000_000))
NUMEROLOGIES = [
    SETTING,
    Waveform(64, 16, 52, 40, Modulation.QPSK, 4, Fraction(1_000_000), Fraction(915_000_000)),
    Waveform(64, 16, 52, 40, Modulation.QPSK, 7, Fraction(20_000_000), Fraction(5_800_000_000)),
    Waveform(2048, 144, 1200, 8, Modulation.QAM64, 6, Fraction(30_720_000), Fraction(2_400_000_000)),
    Waveform(8192, 1024, 6400, 2, Modulation.QPSK, 16, Fraction(61_440_000), Fraction(2_400_000_000)),
]


@pytest.mark.parametrize("waveform", NUMEROLOGIES, ids=lambda w: f"{w.fft_size}@{float(w.rate_hz):.0f}")
def test_samples_are_the_grid_transformed_after_the_preamble(waveform):
    sent = frame(waveform, identity=3, round_index=7, seed=11)
    assert sent.samples.dtype == np.complex64
    assert sent.samples.size == waveform.frame_samples
    assert np.abs(sent.samples).max() <= 1.0
    assert np.mean(np.abs(sent.grid) ** 2) == pytest.approx(1.0, abs=0.05)
    symbol = waveform.symbols // 2
    at = waveform.preamble_samples + symbol * waveform.symbol_samples
    time = np.random.default_rng(0).integers(-waveform.cp_samples, waveform.fft_size, 100)
    dense = np.exp(2j * np.pi * np.outer(time, waveform.bins) / waveform.fft_size) @ sent.grid[symbol]
    expected = sent.scale * dense / np.sqrt(waveform.active_subcarriers)
    np.testing.assert_allclose(sent.samples[at + waveform.cp_samples + time], expected, atol=1e-6)


@pytest.mark.parametrize("waveform", NUMEROLOGIES, ids=lambda w: f"{w.fft_size}@{float(w.rate_hz):.0f}")
def test_the_preamble_keeps_what_acquisition_relies_on(waveform):
    head = preamble(waveform, 5)
    period, short, body = waveform.short_period, waveform.short_samples, waveform.long_samples
    np.testing.assert_allclose(head[period:short], head[: short - period], atol=1e-12)
    np.testing.assert_allclose(head[-body:], head[-2 * body : -body], atol=1e-12)
    cyclic = head[short : short + waveform.cp_samples]
    np.testing.assert_allclose(cyclic, head[-waveform.cp_samples :], atol=1e-12)
    if waveform.rate_hz >= 10_000_000:
        assert float(waveform.rate_hz) / (2 * period) >= waveform.capture_range_hz
    assert waveform.capture_range_hz == pytest.approx(max(60e-6 * float(waveform.carrier_hz), 150e3))
    power = np.abs(head) ** 2
    assert power.max() / power.mean() < 10**0.5
    outside = np.abs(np.fft.fft(long_body(waveform, 5)))
    outside[waveform.long_bins % body] = 0
    assert outside.max() < 1e-9 * body


def test_nodes_have_distinct_preambles_and_a_common_short_part():
    bodies = np.array([np.fft.fft(long_body(SETTING, identity)) for identity in range(6)])
    for first in range(6):
        for second in range(first):
            correlation = np.fft.ifft(bodies[first] * bodies[second].conj())
            assert np.abs(correlation).max() / SETTING.long_samples < 5 / np.sqrt(SETTING.active_subcarriers)
    assert np.mean(np.abs(short_part(SETTING)) ** 2) == pytest.approx(1.0)


def test_pilots_are_a_regular_comb_that_sounds_every_subcarrier():
    for spacing in (2, 3, 4, 8, 12, 16):
        waveform = replace(SETTING, pilot_spacing=spacing, symbols=40)
        for comb in waveform.pilots:
            assert np.all(np.diff(np.flatnonzero(comb)) == spacing)
        for first in range(40 - spacing):
            assert np.all(waveform.pilots[first : first + spacing].sum(axis=0) == 1)
    values = pilot_values(SETTING, 2)
    np.testing.assert_allclose(np.abs(values[SETTING.pilots]), 1, atol=1e-6)
    assert not values[~SETTING.pilots].any()


def test_frames_are_reproducible_and_rounds_differ_in_payload_alone():
    first = frame(SETTING, identity=1, round_index=0, seed=4)
    again = frame(SETTING, identity=1, round_index=0, seed=4)
    later = frame(SETTING, identity=1, round_index=1, seed=4)
    assert np.array_equal(first.samples, again.samples)
    assert np.array_equal(first.grid[SETTING.pilots], later.grid[SETTING.pilots])
    head = SETTING.preamble_samples
    assert np.array_equal(first.samples[:head], later.samples[:head])
    assert 0.4 < np.mean(first.payload != later.payload) < 0.6
    assert first.scale == later.scale == SETTING.scale


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fft_size": 1000}, "fft_size"),
        ({"cp_samples": 1024}, "cp_samples"),
        ({"cp_samples": 0}, "cp_samples"),
        ({"active_subcarriers": 801}, "active_subcarriers"),
        ({"active_subcarriers": 1024}, "active_subcarriers"),
        ({"symbols": 0}, "symbols"),
        ({"pilot_spacing": 1}, "pilot_spacing"),
        ({"rate_hz": Fraction(0)}, "rate_hz"),
    ],
)
def test_wrong_numerology_is_named(change, word):
    with pytest.raises(ValueError, match=word):
        replace(SETTING, **change)


def test_a_frame_too_small_for_a_codeword_is_refused():
    tiny = Waveform(64, 16, 52, 2, Modulation.QPSK, 4, Fraction(1_000_000), Fraction(915_000_000))
    with pytest.raises(ValueError, match="one codeword needs 648"):
        frame(tiny, identity=0, round_index=0, seed=0)
    with pytest.raises(ValueError, match="out of range"):
        frame(SETTING, identity=70_000, round_index=0, seed=0)
