"""Symbols heard at a known place, and SINR from known symbols, against what was put in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.front import Tuning
from dsp.joint_reception import known_symbols_sinr, symbols_at
from dsp.waveform import Modulation, Waveform, symbol_samples

RATE, CARRIER = Fraction(20_000_000), Fraction(3_500_000_000)
WAVEFORM = Waveform(256, 64, 200, 12, Modulation.QPSK, 8, RATE, CARRIER)


def _qpsk(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.exp(1j * (np.pi / 4 + np.pi / 2 * rng.integers(4, size=shape)))


def test_symbols_are_those_sent_through_delay_and_frequency_offset() -> None:
    rng = np.random.default_rng(1)
    grid = _qpsk(rng, 12, 200)
    samples = symbol_samples(WAVEFORM, grid).ravel()
    cfo_hz, delay, start = 4321.0, 3.3, 700.0
    # Exact evaluation: each symbol's own tones at the receiver's instants, whose clock is slower by the same share.
    speed = 1 + cfo_hz / float(CARRIER)
    instant = (np.arange(6000) - start) * speed - delay
    symbol = np.clip(np.floor(instant / 320).astype(int), 0, 11)
    tones = np.exp(2j * np.pi * np.outer(instant - 320 * symbol - 64, WAVEFORM.bins) / 256)
    heard = (tones * grid[symbol]).sum(axis=1) / np.sqrt(200)
    heard[(instant < 0) | (instant >= samples.size)] = 0
    heard = heard * np.exp(2j * np.pi * cfo_hz * (np.arange(6000) - start) / float(RATE))
    found = symbols_at(
        heard[None].astype(np.complex64), WAVEFORM, start=start, cfo_hz=cfo_hz, symbols=12,
        tuning=Tuning(RATE, CARRIER),
    )[0]  # fmt: skip
    ratio = found / grid * np.exp(2j * np.pi * WAVEFORM.bins * delay / 256)
    # Between symbols the wave steps, and no interpolator of a band follows; windows end eight samples before.
    assert np.abs(ratio / ratio.mean() - 1).std() < 5e-3
    assert abs(ratio.mean()) == pytest.approx(1.0, abs=1e-3)


def test_symbols_beyond_the_recording_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves the 1000 samples"):
        symbols_at(np.zeros((1, 1000), np.complex64), WAVEFORM, start=10.0, cfo_hz=0.0, symbols=12,
                   tuning=Tuning(RATE, CARRIER))  # fmt: skip


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("sinr_db", [-5.0, 20.0])
def test_sinr_is_unbiased_and_its_error_honest(streams: int, sinr_db: float) -> None:
    rng, symbols, subcarriers, trials = np.random.default_rng([streams, int(sinr_db + 50)]), 16, 120, 60
    truth = 10 ** (sinr_db / 10)
    found = []
    for _ in range(trials):
        wanted = _qpsk(rng, streams, symbols, subcarriers)
        gains = rng.standard_normal((streams, subcarriers)) + 1j * rng.standard_normal((streams, subcarriers))
        gains /= np.sqrt(np.mean(np.abs(gains) ** 2) * streams)
        other = np.sqrt(0.6 / truth) * _qpsk(rng, symbols, subcarriers)
        noise = rng.standard_normal((2, symbols, subcarriers)) * np.sqrt(0.2 / truth)
        received = np.einsum("pk,plk->lk", gains, wanted) + other + noise[0] + 1j * noise[1]
        drift = np.exp(2j * np.pi * (0.004 * np.arange(symbols) + rng.uniform()))
        found.append(known_symbols_sinr(received * drift[:, None], wanted))
    value = np.array([one.value for one in found])
    stated = np.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert value.mean() == pytest.approx(truth, abs=3.5 * value.std() / np.sqrt(trials) + 2e-3 * truth)
    # Gains that fade differ between the groups too, so that a little more is stated than the noise alone makes.
    assert 0.75 < stated / value.std() < 6.0


def test_too_few_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="3 streams cannot be told from what disturbs them by 3 symbols"):
        known_symbols_sinr(np.ones((3, 40), complex), np.ones((3, 3, 40), complex))
