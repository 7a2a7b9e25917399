"""The kernel that holds channels to a gate of delays, against dense least squares and its plain form."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.equalization import _ITERATIONS, _TOLERANCE, _gate, smooth
from dsp.waveform import Waveform


def error_db(found: np.ndarray, truth: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(found - truth) / np.linalg.norm(truth)))


@pytest.fixture(scope="module")
def waveform():
    return Waveform(
        carrier_hz=Fraction(2_400_000_000),
        rate_hz=Fraction(20_000_000),
        fft_size=256,
        cp_samples=32,
        active_subcarriers=200,
        symbols=8,
        modulation="qpsk",
        pilot_spacing=4,
    )


def conjugate_gradients(values, weights, damping, response):
    """The same iteration, dense and in double precision."""
    found = np.empty(values.shape, complex)
    for row, (value, weight, damp) in enumerate(zip(values, weights, damping, strict=True)):
        left = response.conj().T @ (weight * value)
        taps, way, power = np.zeros_like(left), left.copy(), np.vdot(left, left).real
        enough = _TOLERANCE * power
        for _ in range(_ITERATIONS):
            if power <= enough:
                break
            image = response.conj().T @ (weight * (response @ way)) + damp * way
            step = power / np.vdot(way, image).real
            taps, left = taps + step * way, left - step * image
            fresh = np.vdot(left, left).real
            way, power = left + fresh / power * way, fresh
        found[row] = response @ taps
    return found


@pytest.mark.parametrize("known", [1.0, 0.5])
def test_smooth_solves_the_regularised_least_squares(waveform, known):
    """Dense normal equations in double precision; rows converge each for itself, to the -100 dB asked for or as far
    as 24 steps take double precision, which needs more where half the elements are unknown."""
    rng = np.random.default_rng(3)
    gate = _gate(waveform)
    delays = np.where(gate > waveform.fft_size // 2, gate - waveform.fft_size, gate)
    response = np.exp(-2j * np.pi * np.outer(waveform.bins, delays) / waveform.fft_size)
    rows = 4
    truth = (rng.standard_normal((rows, delays.size)) + 1j * rng.standard_normal((rows, delays.size))) @ response.T
    noise = rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape)
    values = (truth + 0.1 * noise).astype(np.complex64)
    weights = (rng.uniform(size=truth.shape) < known).astype(np.float32)
    damping = np.array([0.5, 1.0, 2.0, 4.0], np.float32)
    found = smooth(values, weights, waveform, damping)
    plain = conjugate_gradients(values, weights, damping, response)
    for row in range(rows):
        normal = response.conj().T @ (weights[row][:, None] * response) + damping[row] * np.eye(delays.size)
        solved = response @ np.linalg.solve(normal, response.conj().T @ (weights[row] * values[row]))
        reached, plainly = error_db(found[row], solved), error_db(plain[row], solved)
        assert reached < (-85 if known == 1.0 else -25)
        assert reached < max(plainly + 0.5, -85)
