"""Frequency of phases on symbols with pauses, against the frequency that made them."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.synchronization.symbol_grid import phase_frequency


def phases(rng: np.random.Generator, *, symbols: int, deviation_rad: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Eight frames 2.5 ms apart, off the grid of any search."""
    time = (2.5e-3 * np.arange(8)[:, None] + 37.5e-6 * np.arange(symbols)).ravel()
    time -= time.mean()
    frequency = float(rng.uniform(-3000.0, 3000.0))
    noisy = 2.0 * np.pi * frequency * time + deviation_rad * rng.normal(size=time.size) + rng.uniform(-3.0, 3.0)
    return np.angle(np.exp(1j * noisy)), time, frequency


def test_short_frames_do_not_shift_the_frequency_by_a_frame_rate() -> None:
    """The next lobe is 400 Hz away and 2.4 % lower: less than a search on a grid loses between its points."""
    rng = np.random.default_rng(3)
    bound_hz = 0.012 / (2.0 * np.pi * np.sqrt(64) * np.std(phases(rng, symbols=8, deviation_rad=0.0)[1]))
    errors = []
    for _ in range(400):
        phase, time, frequency = phases(rng, symbols=8, deviation_rad=0.012)
        found, sure = phase_frequency(phase, time, 37.5e-6)
        assert sure
        errors.append(found - frequency)
    assert np.max(np.abs(errors)) < 5.0 * bound_hz
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(bound_hz, rel=0.12)


def test_frames_of_two_symbols_say_that_they_cannot_tell() -> None:
    rng = np.random.default_rng(4)
    sure = [phase_frequency(*phases(rng, symbols=2, deviation_rad=0.3)[:2], 37.5e-6)[1] for _ in range(50)]
    assert not any(sure)
