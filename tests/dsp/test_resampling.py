"""Interpolation against sums of exponentials evaluated at the exact positions."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.resampling import interpolate, margin_samples


def exponentials(rng, occupancy, count=50):
    frequencies = rng.uniform(-occupancy / 2, occupancy / 2, count)
    amplitudes = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    return lambda time: np.exp(2j * np.pi * np.outer(time, frequencies)) @ amplitudes


@pytest.mark.parametrize("occupancy", [0.4, 0.6, 0.79, 0.9, 0.97])
@pytest.mark.parametrize("ppm", [0.0, 50.0, -119.0])
def test_error_vector_stays_below_80_db_at_any_fraction_and_step(occupancy, ppm):
    rng = np.random.default_rng(int(1000 * occupancy + ppm + 200))
    signal, rotation, step = exponentials(rng, occupancy), 0.0071, 1 + ppm * 1e-6
    time = np.arange(3000)
    recording = (signal(time) * np.exp(2j * np.pi * rotation * time)).astype(np.complex64)
    starts = rng.uniform(margin_samples(occupancy), 400, 3)
    found = interpolate(recording[None], starts, 2300, step=step, rotation=rotation, occupancy=occupancy)
    for row, start in zip(found[0], starts, strict=True):
        exact = signal(start + np.arange(2300) * step)
        error = np.sum(np.abs(row - exact) ** 2) / np.sum(np.abs(exact) ** 2)
        assert 10 * np.log10(error) < -80


def test_positions_do_not_drift_over_millions_of_samples():
    frequency, step, start, rotation = 0.2345, 1 + 47.3e-6, 1234.567, -0.0031
    time = np.arange(3_000_000)
    recording = np.exp(2j * np.pi * ((frequency + rotation) * time % 1.0)).astype(np.complex64)
    late = 2_990_000
    whole = interpolate(recording[None], np.array([start]), late, step=step, rotation=rotation, occupancy=0.8)[
        0, 0, -1000:
    ]
    position = start + np.arange(late - 1000, late) * step
    phase = np.angle(np.mean(whole * np.exp(-2j * np.pi * (frequency * position % 1.0))))
    # A tenth of a picosecond at 20 MS/s is 2e-6 of a sample.
    assert abs(phase / (2 * np.pi * frequency)) < 2e-6


def test_delay_is_unbiased_at_every_fraction():
    rng = np.random.default_rng(8)
    signal = exponentials(rng, 0.78, 200)
    recording = signal(np.arange(1500)).astype(np.complex64)
    for fraction in np.linspace(0, 1, 9):
        start = 100 + fraction
        found = interpolate(recording[None], np.array([start]), 1200, step=1.0, rotation=0.0, occupancy=0.79)[0, 0]
        time = start + np.arange(1200)
        exact, nudge = signal(time), 1e-4
        slope = (signal(time + nudge) - signal(time - nudge)) / (2 * nudge)
        shift = np.sum(((found - exact) * slope.conj()).real) / np.sum(np.abs(slope) ** 2)
        assert abs(shift) < 2e-6


def test_antennas_are_independent_and_lengths_need_not_fill_blocks():
    rng = np.random.default_rng(9)
    recording = (rng.standard_normal((3, 600)) + 1j * rng.standard_normal((3, 600))).astype(np.complex64)
    options = {"step": 1.00003, "rotation": 0.01, "occupancy": 0.8}
    starts = np.array([100.3, 250.9])
    together = interpolate(recording, starts, 131, **options)
    for antenna in range(3):
        alone = interpolate(recording[antenna : antenna + 1], starts, 131, **options)
        np.testing.assert_array_equal(together[antenna], alone[0])


def test_what_cannot_be_interpolated_is_refused():
    recording = np.zeros((1, 500), np.complex64)
    options = {"step": 1.0, "rotation": 0.0, "occupancy": 0.8}
    with pytest.raises(ValueError, match="inside the recording"):
        interpolate(recording, np.array([3.0]), 100, **options)
    with pytest.raises(ValueError, match="inside the recording"):
        interpolate(recording, np.array([100.0]), 395, **options)
    with pytest.raises(ValueError, match="step"):
        interpolate(recording, np.array([100.0]), 10, **{**options, "step": 1.01})
    with pytest.raises(ValueError, match="occupancy"):
        interpolate(recording, np.array([100.0]), 10, **{**options, "occupancy": 0.99})
