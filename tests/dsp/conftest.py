"""What a receiver records of a transmitter, evaluated exactly: truth that no code under test made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import finufft
import numpy as np
import pytest

PADDING = 4096


def render(
    samples: np.ndarray,
    *,
    count: int,
    start: float,
    speed: float,
    turn: float,
    paths: Sequence[tuple[float, complex]] = ((0.0, 1.0),),
) -> np.ndarray:
    """Band-limited signal through ``samples``, read at the receiver's instants 0 … count-1.

    The transmitter's sample i stands at ``start + i/speed``; the carrier turns by ``turn`` cycles per receiver's
    sample, counted from ``start``; each path delays the envelope by so many of the receiver's samples. The signal is
    the trigonometric polynomial through the zero-padded samples, evaluated by a non-uniform transform to 1e-12.
    """
    padded = np.concatenate([samples, np.zeros(PADDING)]).astype(complex)
    spectrum = np.fft.fftshift(np.fft.fft(padded)) / padded.size
    instants = np.arange(count)
    received = np.zeros(count, complex)
    for delay, amplitude in paths:
        position = (instants - start - delay) * speed
        heard = (position > -PADDING / 2) & (position < padded.size - PADDING / 2)
        angle = np.mod(2 * np.pi * position[heard] / padded.size + np.pi, 2 * np.pi) - np.pi
        received[heard] += amplitude * finufft.nufft1d2(angle, spectrum, eps=1e-12, isign=1, nthreads=1)
    return received * np.exp(2j * np.pi * turn * (instants - start))


@pytest.fixture(scope="session")
def rendered() -> Callable[..., np.ndarray]:
    return render


@pytest.fixture(scope="session")
def white_noise() -> Callable[..., np.ndarray]:
    def draw(rng: np.random.Generator, shape: tuple[int, ...], variance: float) -> np.ndarray:
        return np.sqrt(variance / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))

    return draw
