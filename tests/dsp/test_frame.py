"""The fast path from counts to channel and map: against numpy, and its named error against an exact signal."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.frame import FrameReader, drift_error_db

SIZE, PREFIX, SYMBOLS = 128, 16, 40
BINS = np.concatenate([np.arange(-50, 0), np.arange(1, 51)])


def error_db(found: np.ndarray, truth: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(found - truth) / np.linalg.norm(truth)))


@pytest.fixture
def elements():
    rng = np.random.default_rng(1)
    return np.exp(0.5j * np.pi * rng.integers(0, 4, (SYMBOLS, BINS.size)))


@pytest.fixture
def reader(elements):
    return FrameReader(SIZE, SIZE + PREFIX, (1 / elements).astype(np.complex64), BINS)


def plain_channel(counts, elements, start, cfo, clocks):
    samples = counts[..., 0] + 1j * counts[..., 1]
    samples = samples * np.exp(-2j * np.pi * cfo * np.arange(samples.shape[1]))
    places = start + (SIZE + PREFIX) / (1 + clocks) * np.arange(SYMBOLS)
    starts = np.rint(places).astype(int)
    windows = np.stack([samples[:, s : s + SIZE] for s in starts], axis=1)
    late = np.exp(2j * np.pi * np.outer((places - starts) / SIZE, BINS))
    return np.fft.fft(windows)[..., BINS % SIZE] * late / elements


@pytest.mark.parametrize("antennas", [1, 3])
def test_channel_and_map_agree_with_double_precision(reader, elements, antennas):
    """Over more than a sample of drift, so that windows jump."""
    rng = np.random.default_rng(antennas)
    counts = rng.integers(-2048, 2048, (antennas, SYMBOLS * (SIZE + PREFIX) + 20, 2), dtype=np.int16)
    start, cfo, clocks = 9.4, 2.3e-3, 3e-4
    truth = plain_channel(counts, elements, start, cfo, clocks)
    found = reader.channel(counts, start=start, cfo_cycles=cfo, clock_difference=clocks)
    assert error_db(found, truth) < -120

    window = np.hanning(SYMBOLS)
    padded = np.zeros((antennas, SYMBOLS, SIZE), complex)
    padded[..., BINS % SIZE] = truth * window[:, None]
    profile = np.fft.ifft(padded, norm="forward")
    power = np.sum(np.abs(np.fft.fftshift(np.fft.fft(profile, 64, axis=1), axes=1)) ** 2, axis=0)
    arguments = {"start": start, "cfo_cycles": cfo, "clock_difference": clocks, "window": window}
    assert error_db(reader.power_map(counts, **arguments), power) < -120
    assert error_db(reader.power_map(counts, delays=32, **arguments), power[:, :32]) < -120


@pytest.mark.parametrize("clocks", [2e-5, 1e-4])
def test_error_of_the_drift_within_a_symbol_is_as_stated(reader, elements, clocks):
    """Symbols evaluated from their Fourier series at the receiver's instants: no interpolation anywhere."""
    length = SYMBOLS * (SIZE + PREFIX) + 20
    start = 10.25
    # Place on the transmitter's clock, counted from the first window's start.
    place = (np.arange(length) - start) * (1 + clocks)
    symbol = np.clip(np.floor((place + PREFIX) / (SIZE + PREFIX)).astype(int), 0, SYMBOLS - 1)
    within = place - symbol * (SIZE + PREFIX)
    signal = np.einsum("ik,ik->i", np.exp(2j * np.pi * np.outer(within, BINS) / SIZE), elements[symbol])
    counts = np.round(signal * 600)
    pairs = np.stack([counts.real, counts.imag], axis=-1).astype(np.int16)[None]
    found = reader.channel(pairs, start=start, cfo_cycles=0.0, clock_difference=clocks) / (600 * SIZE)
    # A stretch about the window's middle is a delay as well: half a symbol's drift, known and common to all symbols.
    middle = np.exp(2j * np.pi * BINS * clocks * (SIZE - 1) / 2 / SIZE)
    assert abs(error_db(found / middle, np.ones_like(found)) - drift_error_db(clocks, 101)) < 1.0


def test_bad_arguments_are_named(reader, elements):
    counts = np.zeros((1, 1000, 2), np.int16)
    with pytest.raises(ValueError, match="leaves the 1000 samples"):
        reader.channel(counts, start=0.0, cfo_cycles=0.0)
    with pytest.raises(ValueError, match="must be int16"):
        reader.channel(counts.astype(float), start=0.0, cfo_cycles=0.0)
    with pytest.raises(ValueError, match="fft_size is 100"):
        FrameReader(100, 116, (1 / elements).astype(np.complex64), BINS)
    with pytest.raises(ValueError, match="multiple of 8"):
        reader.power_map(counts, start=0.0, cfo_cycles=0.0, delays=20)
