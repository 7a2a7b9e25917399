"""A breathing chest made from geometry, seen through two antennas with no common phase."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.sensing.periodic_motion import band_ratio, periodic_motion

TONES_HZ = np.arange(-28, 29, 2) * 312_500.0


def breathing(
    rng: np.random.Generator, rate_per_min: float, time_s: np.ndarray, snr_db: float, depth_m: float = 5e-3
) -> np.ndarray:
    """CSI of two antennas, shape (1, 2, packet, subcarrier): a static path and a chest that swings by ``depth_m``."""
    excursion = 0.5 * (1 - np.cos(2 * np.pi * rate_per_min / 60 * time_s))
    length = 6.0 + 2 * depth_m * excursion**2
    frequency = 5.32e9 + TONES_HZ
    values = []
    for gain in (0.25, -0.1 + 0.2j):
        static = (1 + 0.3j * rng.normal()) * np.exp(-2j * np.pi * TONES_HZ * 10e-9)
        values.append(static + gain * np.exp(-2j * np.pi * np.outer(length, frequency) / 299_792_458.0))
    csi = np.array(values)[None] * np.exp(1j * rng.uniform(-np.pi, np.pi, (1, 1, len(time_s), 1)))
    sigma = 10 ** (-snr_db / 20) / np.sqrt(2)
    return csi + sigma * (rng.normal(size=csi.shape) + 1j * rng.normal(size=csi.shape))


@pytest.mark.parametrize("rate", [9.3, 14.1, 27.7])
@pytest.mark.parametrize("packets_hz", [12.0, 300.0])
def test_rate_and_maxima_are_found_on_uneven_times(rate: float, packets_hz: float) -> None:
    rng = np.random.default_rng(int(10 * rate))
    time = np.sort(rng.uniform(0, 22.0, int(22 * packets_hz)))
    time -= time[0]
    values = breathing(rng, rate, time, 20.0)
    found = periodic_motion(band_ratio(values[:, 1], values[:, 0], groups=6), time)
    assert found.reason == ""
    assert found.rate_per_min == pytest.approx(rate, abs=0.3)
    # Chest furthest out at odd half periods; the sign of the component is free, the sharper side is called up.
    period = 60 / rate
    phase = np.angle(np.exp(2j * np.pi * np.array(found.maxima_s) / period))
    spread = np.abs(np.angle(np.exp(1j * (phase - np.angle(np.exp(1j * phase).mean())))))
    assert spread.max() < 0.6
    assert abs(len(found.maxima_s) - 22 / period) <= 1.0


def test_noise_has_no_period() -> None:
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        time = np.arange(0, 20, 0.05)
        ratios = 1 + 0.1 * (rng.normal(size=(12, time.size)) + 1j * rng.normal(size=(12, time.size)))
        motion = periodic_motion(ratios, time)
        found += motion.rate_per_min is not None
        assert motion.reason or motion.rate_per_min
    assert found == 0


def test_a_short_record_and_a_sparse_one_are_refused_with_the_reason() -> None:
    rng = np.random.default_rng(1)
    short = periodic_motion(np.ones((4, 200)) + 0.1j * rng.normal(size=(4, 200)), np.linspace(0, 2, 200))
    assert short.rate_per_min is None
    assert "shorter than" in short.reason
    sparse = periodic_motion(np.ones((4, 30)) + 0.1j * rng.normal(size=(4, 30)), np.linspace(0, 60, 30))
    assert sparse.rate_per_min is None
    assert "too far apart" in sparse.reason


def test_band_ratio_has_no_poles_and_marks_silence() -> None:
    below = np.ones((1, 5, 12), dtype=complex)
    below[0, 1, 3] = 0
    below[0, 2] = 0
    ratio = band_ratio(2j * below, below, groups=4)
    assert ratio.shape == (4, 5)
    assert np.isnan(ratio[:, 2]).all()
    assert np.allclose(ratio[:, [0, 1, 3, 4]], 2j)
