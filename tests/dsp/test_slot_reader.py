"""Reading a slot that is followed: against a signal written down in closed form, and its named error."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.front import Tuning
from dsp.slot_reader import SlotReader, drift_error_db, strongest_delay_s
from dsp.waveform import Modulation, Waveform

RATE, CARRIER = Fraction(10_000_000), Fraction(2_400_000_000)
FRAMES, PERIOD, PER_BLOCK = 2, 9000, 4
FULL_SCALE = 8192


@pytest.fixture(scope="module")
def waveform():
    return Waveform(256, 64, 200, 16, Modulation.QAM16, 8, RATE, CARRIER)


@pytest.fixture
def sent(waveform):
    rng = np.random.default_rng(4)
    levels = np.array([-3, -1, 1, 3]) / np.sqrt(10)
    shape = (waveform.symbols, waveform.active_subcarriers)
    return (rng.choice(levels, shape) + 1j * rng.choice(levels, shape)).astype(np.complex64)


def received(waveform, sent, start, cfo_hz, paths):
    """Samples of a slot over paths (delay in samples, gain by antenna), every one its own sum over the subcarriers."""
    step = 1 / (1 + cfo_hz / float(CARRIER))
    rotation = cfo_hz / float(RATE)
    length = round(start + FRAMES * PERIOD) + 200
    out = np.zeros((len(paths[0][1]), length), complex)
    i = np.arange(length)
    for delay, gains in paths:
        at = (i - start - delay) / step
        for frame in range(FRAMES):
            within = at - frame * PERIOD - waveform.preamble_samples
            number = np.floor(within / waveform.symbol_samples).astype(int)
            inside = (number >= 0) & (number < waveform.symbols)
            body = within[inside] - number[inside] * waveform.symbol_samples - waveform.cp_samples
            tones = np.exp(2j * np.pi * np.outer(body / waveform.fft_size, waveform.bins))
            samples = waveform.scale / np.sqrt(200) * np.sum(tones * sent[number[inside]], axis=1)
            out[:, inside] += np.outer(gains, samples)
    return out * np.exp(2j * np.pi * rotation * (i - start)), step


def counts_of(samples):
    scaled = np.round(samples * FULL_SCALE)
    return np.stack([scaled.real, scaled.imag], axis=-1).astype(np.int16)


def branches(antennas):
    made = np.zeros((antennas, 2, 3), np.float32)
    made[:, 0, 0] = made[:, 1, 1] = 1 / FULL_SCALE
    return made


def reader(waveform):
    return SlotReader(waveform, Tuning(RATE, CARRIER), per_block=PER_BLOCK, frames=FRAMES, period_samples=PERIOD)


def read(waveform, counts, sent, start, cfo_hz, branch=None):
    return reader(waveform).read(
        counts, clock="n", first_tick=70, start=start, cfo_hz=cfo_hz, sent=sent,
        branches=branches(len(counts)) if branch is None else branch,
    )  # fmt: skip


@pytest.mark.parametrize("ppm", [0.0, 12.0, -60.0])
def test_channel_is_that_of_the_paths(waveform, sent, ppm):
    """Two antennas, three paths between samples, whole and parts of a sample of drift over the slot."""
    start, cfo_hz = 41.37, ppm * 1e-6 * float(CARRIER)
    paths = [(0.0, [0.9, 0.5j]), (3.7, [0.3j, -0.2]), (11.2, [-0.1, 0.15])]
    samples, step = received(waveform, sent, start, cfo_hz, paths)
    found = read(waveform, counts_of(samples), sent, start, cfo_hz)
    truth = sum(
        np.outer(gains, np.exp(-2j * np.pi * waveform.bins * delay / step / waveform.fft_size))
        for delay, gains in paths
    )
    error = found.csi.values - truth[:, None, :]
    error_db = 10 * np.log10(np.sum(np.abs(error) ** 2) / (error.shape[1] * np.sum(np.abs(truth) ** 2)))
    # what 14 bits leave, averaged over a block, is -79 dB
    assert error_db < max(drift_error_db(ppm * 1e-6, 200, 256, PER_BLOCK) + 4, -74)
    assert found.csi.reference.tick == 70 + 41
    assert found.csi.symbol_s.shape == (FRAMES * waveform.symbols // PER_BLOCK,)
    first = waveform.preamble_samples + 64 - 8 + 1.5 * 320 + 127.5
    assert found.csi.symbol_s[0] == pytest.approx(first * step / float(RATE), rel=1e-12)
    assert np.all(found.unexplained < 1e-5)


def test_drift_that_is_left_in_a_symbol_would_show(waveform, sent):
    """The first order that the reader takes off is 35 dB above what it leaves: the test above can fail."""
    plain = 10 * np.log10((np.pi * 60e-6 * 200) ** 2 / 36 / PER_BLOCK)
    assert plain > drift_error_db(60e-6, 200, 256, PER_BLOCK) + 30


def test_noise_and_unexplained_power_are_those_put_in(waveform, sent):
    rng = np.random.default_rng(5)
    samples, _ = received(waveform, sent, 30.0, 2000.0, [(1.0, [1.0, 1.0])])
    level = waveform.scale * np.sqrt(0.5 * 0.04)
    noisy = samples + level * (rng.standard_normal(samples.shape) + 1j * rng.standard_normal(samples.shape))
    found = read(waveform, counts_of(noisy), sent, 30.0, 2000.0)
    # white noise over 256 bins, of which 200 carry the signal's unit power
    expected = 0.04 * 200 / 256
    mean = float(np.mean(np.abs(sent) ** 2)) * PER_BLOCK
    assert np.mean(found.csi.noise) * mean == pytest.approx(expected, rel=0.15)  # 5 % by its own deviation an antenna
    assert found.unexplained == pytest.approx([expected / np.mean(np.abs(sent) ** 2)] * 2, rel=0.05)
    wrong = read(waveform, counts_of(noisy), sent[::-1].copy(), 30.0, 2000.0)
    assert np.all(wrong.unexplained > 2.0)
    assert found.level == pytest.approx([np.mean(np.abs(sent) ** 2) + expected] * 2, rel=0.05)


def test_branches_are_straightened(waveform, sent):
    """Offset, gain and skew of the branches, and another gain on the second antenna."""
    samples, _ = received(waveform, sent, 30.0, -3000.0, [(0.5, [1.0, 0.4])])
    clean = read(waveform, counts_of(samples), sent, 30.0, -3000.0).csi.values
    bent = counts_of(samples).astype(float)
    bent[..., 1] = 1.05 * bent[..., 1] + 0.03 * bent[..., 0]
    bent += [37.0, -21.0]
    branch = branches(2)
    branch[:, 1, 0], branch[:, 1, 1] = -0.03 / 1.05 / FULL_SCALE, 1 / 1.05 / FULL_SCALE
    branch[:, 0, 2], branch[:, 1, 2] = 37.0, -21.0
    found = read(waveform, np.round(bent).astype(np.int16), sent, 30.0, -3000.0, branch).csi.values
    assert np.linalg.norm(found - clean) < 10 ** (-70 / 20) * np.linalg.norm(clean)


@pytest.mark.parametrize("delay", [-3.3, 0.0, 7.45])
def test_strongest_delay_is_found_between_samples(waveform, sent, delay):
    samples, _ = received(waveform, sent, 40.0, 0.0, [(delay, [1.0])])
    found = strongest_delay_s(read(waveform, counts_of(samples), sent, 40.0, 0.0).csi)
    assert found * float(RATE) == pytest.approx(delay, abs=0.05)


def test_a_slot_beyond_the_samples_is_refused(waveform, sent):
    with pytest.raises(ValueError, match="leaves the 9000 samples"):
        read(waveform, np.zeros((1, 9000, 2), np.int16), sent, 0.0, 0.0)
    with pytest.raises(ValueError, match="per_block is 5"):
        SlotReader(waveform, Tuning(RATE, CARRIER), per_block=5, frames=1, period_samples=PERIOD)
