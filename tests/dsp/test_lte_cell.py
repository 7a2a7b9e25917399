"""An LTE downlink made here at 1.92 MS/s, with offsets; the cell search must find what was put in."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.standards.lte import find_cell, primary, secondary

TONES = np.r_[-36:0, 1:37]


def downlink(rng: np.random.Generator, identity: int, frames: int) -> np.ndarray:
    """Frames with synchronization signals and random QPSK on all other elements of six resource blocks."""
    parts = []
    for subframe in range(10 * frames):
        for slot in range(2):
            for symbol in range(7):
                values = (rng.choice([-1, 1], 72) + 1j * rng.choice([-1, 1], 72)) / np.sqrt(2)
                if subframe % 5 == 0 and slot == 0 and symbol == 6:
                    values[:] = 0
                    values[5:67] = primary(identity % 3)
                if subframe % 5 == 0 and slot == 0 and symbol == 5:
                    values[:] = 0
                    values[5:67] = secondary(identity)[(subframe % 10) // 5]
                grid = np.zeros(128, dtype=complex)
                grid[TONES % 128] = values
                time = np.fft.ifft(grid) * 128 / np.sqrt(72)
                parts += [time[-(10 if symbol == 0 else 9) :], time]
    return np.concatenate(parts)


def received(
    rng: np.random.Generator, wave: np.ndarray, *, lead: float, cfo_hz: float, sfo: float, snr_db: float
) -> np.ndarray:
    """The stream ``lead`` samples into a frame, resampled by a Kaiser-windowed sinc, with an echo and noise."""
    position = lead + np.arange(int((len(wave) - lead - 64) / (1 + abs(sfo)))) / (1 + sfo)
    whole = np.floor(position).astype(int)
    fraction = position - whole
    taps = np.arange(-15, 17)
    kernel = np.sinc(taps - fraction[:, None]) * np.kaiser(34, 8.0)[1:-1]
    padded = np.r_[np.zeros(32), wave + 0.4j * np.roll(wave, 2), np.zeros(64)]
    out = np.einsum("nt,nt->n", kernel, padded[whole[:, None] + taps + 32])
    out = out * np.exp(2j * np.pi * cfo_hz / 1.92e6 * np.arange(len(out)))
    sigma = 10 ** (-snr_db / 20) / np.sqrt(2)
    return out + sigma * (rng.normal(size=len(out)) + 1j * rng.normal(size=len(out)))


def test_secondary_sequences_are_distinct_over_all_cells() -> None:
    rows = np.array([np.concatenate(secondary(identity)) for identity in range(504)])
    likeness = rows @ rows.T / 124
    assert np.allclose(np.diag(likeness), 1)
    assert np.abs(likeness - np.eye(504)).max() < 0.6
    # Sequence of subframe 5 is that of subframe 0 with the two halves exchanged before scrambling: never the same.
    assert all(not np.array_equal(*secondary(identity)) for identity in range(504))


def test_primary_sequences_are_those_of_the_standard() -> None:
    n = np.arange(63)
    for index, root in enumerate((25, 29, 34)):
        full = np.exp(-1j * np.pi * root * n * (n + 1) / 63)
        assert np.allclose(primary(index), np.delete(full, 31))


@pytest.mark.parametrize(
    ("identity", "cfo_hz", "carrier_hz", "snr_db"),
    [(360, -49_112.0, 796e6, 8.0), (300, 6_289.0, 796e6, 0.0), (1, 22_480.0, 1.8e9, 3.0), (503, -7_490.0, 2.6e9, 10.0)],
)
def test_identity_offsets_and_frame_start(identity: int, cfo_hz: float, carrier_hz: float, snr_db: float) -> None:
    rng = np.random.default_rng(identity)
    sfo = -cfo_hz / carrier_hz
    lead = float(rng.uniform(0, 19_200))
    stream = received(rng, downlink(rng, identity, 9), lead=lead, cfo_hz=cfo_hz, sfo=sfo, snr_db=snr_db)
    cell = find_cell(stream)
    assert cell is not None
    assert cell.identity == identity
    assert abs(cell.cfo_hz - cfo_hz) < max(5 * cell.cfo_std_hz, 20.0)
    # The prefixes' likeness: a product of two noisy copies over about 6 samples of 7 symbols of each slot.
    noise = 10 ** (-snr_db / 10)
    bound = 15e3 / (2 * np.pi) * np.sqrt((noise + noise**2 / 2) / (len(stream) / 960 * 7 * 6))
    assert cell.cfo_std_hz < 1.5 * bound
    assert abs(cell.sfo_ppm - 1e6 * sfo) < max(5 * cell.sfo_std_ppm, 0.2)
    assert cell.sfo_std_ppm < 0.5
    truth = (19_200 - lead) * (1 + sfo)
    assert abs(cell.frame_start - truth) < 2.0


def test_a_longer_stream_sharpens_the_sampling_offset() -> None:
    rng = np.random.default_rng(9)
    stream = received(rng, downlink(rng, 77, 30), lead=5000.0, cfo_hz=-49_000.0, sfo=61.5e-6, snr_db=5.0)
    cell = find_cell(stream)
    assert cell is not None
    assert cell.identity == 77
    assert cell.half_frames >= 57
    assert abs(cell.sfo_ppm - 61.5) < 0.05


def test_noise_and_short_streams_hold_no_cell() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        assert find_cell(rng.normal(size=100_000) + 1j * rng.normal(size=100_000)) is None
    assert find_cell(np.ones(5000, dtype=complex)) is None
