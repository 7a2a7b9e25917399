"""Noise of oscillators and synthesizers against closed forms and drawn trajectories."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from dsp.oscillator import (
    PowerLaw,
    line_wander,
    midpoint_wander_s,
    phase_power,
    synthesizer_disturbance,
    synthesizer_frequency_deviation_hz,
    synthesizer_phase_deviation_rad,
)


@pytest.mark.parametrize("separation_s", [7.5e-3, 20e-3, 0.1])
def test_white_frequency_noise_wanders_as_a_random_walk_does(separation_s):
    # x is a random walk of variance h0·t/2, so e = half the difference of two independent steps over h.
    wander = midpoint_wander_s(PowerLaw(white_fm=1e-20), separation_s=separation_s, averaging_s=1e-7)
    assert wander == pytest.approx(np.sqrt(1e-20 * separation_s / 8), rel=2e-3)


def test_wander_of_both_ways_at_once_is_that_of_the_mean():
    # Mean of a random walk over T against its value at the middle: variance h0/2 · T/12.
    wander = midpoint_wander_s(PowerLaw(white_fm=1e-20), separation_s=0.0, averaging_s=8e-3)
    assert wander == pytest.approx(np.sqrt(1e-20 / 2 * 8e-3 / 12), rel=1e-2)


def test_synthesizer_noise_tilts_a_fitted_phase():
    # Ornstein-Uhlenbeck phase has exactly the Lorentzian spectrum: draw it, fit it.
    rng = np.random.default_rng(1)
    rms_rad, corner_hz, length_s, samples = np.deg2rad(1.0), 8e3, 7.4e-3, 2048
    step_s = length_s / samples
    decay = np.exp(-2 * np.pi * corner_hz * step_s)
    phase = np.empty((3000, samples))
    phase[:, 0] = rng.normal(size=3000)
    kicks = rng.normal(size=(3000, samples)) * np.sqrt(1 - decay**2)
    for i in range(1, samples):
        phase[:, i] = decay * phase[:, i - 1] + kicks[:, i]
    time = (np.arange(samples) - (samples - 1) / 2) * step_s
    slopes_hz = rms_rad * phase @ time / (time @ time) / (2 * np.pi)
    expected = synthesizer_frequency_deviation_hz(rms_rad, corner_hz=corner_hz, length_s=length_s)
    assert np.std(slopes_hz) == pytest.approx(expected, rel=4 / np.sqrt(2 * 3000))


def test_mean_of_synthesizer_noise_over_a_slot():
    # Variance of the mean of an Ornstein-Uhlenbeck process by its covariance, summed.
    rms_rad, corner_hz, length_s, samples = np.deg2rad(1.0), 5e3, 1.3e-3, 4000
    step_s = length_s / samples
    decay = np.exp(-2 * np.pi * corner_hz * step_s)
    lags = np.arange(1, samples)
    variance = rms_rad**2 * (samples + 2 * np.sum((samples - lags) * decay**lags)) / samples**2
    expected = synthesizer_phase_deviation_rad(rms_rad, corner_hz=corner_hz, length_s=length_s)
    assert expected == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert synthesizer_phase_deviation_rad(rms_rad, corner_hz=1e3, length_s=1e-12) == pytest.approx(rms_rad)


@pytest.mark.parametrize("separation_s", [0.0, 30e-3])
def test_phase_power_of_random_walks(separation_s):
    # White frequency noise: x is a random walk of covariance h0/2·min(t, t'), the two slots' alike or independent.
    carrier_hz, law = 2.4e9, PowerLaw(white_fm=1e-22)
    time = np.sort(np.random.default_rng(3).uniform(0.0, 10e-3, 120))
    cycles = 2 * np.pi * np.outer(time / 10e-3, [1.0, 2.0, 3.0])
    basis = np.linalg.qr(np.column_stack([np.ones_like(time), time, np.cos(cycles), np.sin(cycles)]))[0][:, 2:]
    covariance = 0.5 * law.white_fm * np.minimum.outer(time, time)
    once = (2 * np.pi * carrier_hz) ** 2 * np.trace(basis.T @ covariance @ basis)
    expected = 4 * once if separation_s == 0.0 else 2 * once
    found = phase_power(law, basis, time, carrier_hz=carrier_hz, separation_s=separation_s)
    assert found == pytest.approx(expected, rel=0.05)
    assert phase_power(PowerLaw(), basis, time, carrier_hz=carrier_hz, separation_s=separation_s) == 0.0


def test_scattered_phase_noise_counts_twice_in_a_delay():
    """Against OFDM symbols turned sample by sample: power beside the signal, and errors of a delay read off it."""
    rng = np.random.default_rng(5)
    rate_hz, size, corner_hz, rms_rad, symbols = 20e6, 1024, 50e3, 0.02, 300
    turns = np.exp(-2 * np.pi * corner_hz / rate_hz)  # phase flat up to the corner: a first-order recursion
    drive = rms_rad * np.sqrt(1 - turns**2) * rng.standard_normal((symbols, size + 4000))
    phase = lfilter([1.0], [1.0, -turns], drive, axis=1)[:, -size:]
    f = np.arange(-400, 401)
    sent = np.exp(0.5j * np.pi * rng.integers(0, 4, (symbols, f.size)))
    spectrum = np.zeros((symbols, size), complex)
    spectrum[:, f] = sent
    heard = np.fft.fft(np.fft.ifft(spectrum, axis=1) * np.exp(1j * phase), axis=1)[:, f] / sent
    heard *= np.exp(-1j * np.angle(heard.sum(axis=1, keepdims=True)))
    scattered = synthesizer_disturbance(rms_rad, corner_hz=corner_hz, length_s=size / rate_hz)
    assert np.mean(np.abs(heard - 1) ** 2) == pytest.approx(scattered, rel=0.05)
    slope = heard.imag @ f / np.sum(f**2)
    as_white = 0.5 * scattered / np.sum(f**2)
    assert np.mean(slope**2) / as_white == pytest.approx(2.0, abs=4 * 2.0 * np.sqrt(2 / symbols))


def test_what_a_line_leaves_of_oscillators_is_that_of_their_realisations():
    rng = np.random.default_rng(8)
    spacing_s, averaging_s, count = 0.05, 5e-3, 12
    time_s = spacing_s * np.arange(count)
    # White frequency noise: a slot's slope has the variance 6/5·h0/(2T), and one tells nothing of the next.
    _, drift = line_wander(PowerLaw(white_fm=3e-20), time_s, separation_s=0.0, averaging_s=averaging_s)
    assert drift == pytest.approx(np.sqrt(1.2 * 3e-20 / 2 / averaging_s), rel=0.03)
    # Random walk of the frequency: increments of variance 2π²·h·dt.
    step_s, trials, walk = 5e-3, 4000, 4e-20
    steps = round(spacing_s / step_s) * (count - 1) + 1
    frequency = np.cumsum(np.sqrt(2 * np.pi**2 * walk * step_s) * rng.normal(size=(trials, steps)), axis=1)
    phase = np.cumsum(frequency, axis=1) * step_s
    every = slice(None, None, round(spacing_s / step_s))
    found = line_wander(PowerLaw(random_walk_fm=walk), time_s, separation_s=0.0, averaging_s=1e-4)
    for values, predicted in zip((phase[:, every], frequency[:, every]), found, strict=True):
        fits = np.polynomial.polynomial.polyfit(time_s, values.T, 1)
        left = values - np.polynomial.polynomial.polyval(time_s, fits)
        assert predicted == pytest.approx(np.sqrt(np.sum(left**2) / trials / (count - 2)), rel=0.05)
    with pytest.raises(ValueError, match="three exchanges"):
        line_wander(PowerLaw(), time_s[:2], separation_s=0.0, averaging_s=1e-3)
