"""A path that turns against the others, by how much its pull on a carrier offset is in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.synchronization.slow_mover import delay_doubt_s, slow_mover_doubt_hz

F = np.concatenate([np.arange(-48, 0), np.arange(1, 49)]) * 480e3
T = (np.arange(32) - 15.5) * 0.25e-3
WEIGHTS = np.ones((T.size, F.size))
ECHO_CELLS = 5.0  # on the zeros of each other's responses, nearly: shares of power add up


def slot(generator: np.random.Generator, *, turn_hz: float, echo: float, noise: float) -> np.ndarray:
    """Line of sight that turns, echo at rest, the common slope p·turn taken off as an offset of the whole scene."""
    power = 1.0 / (1.0 + echo**2)
    line = np.exp(2j * np.pi * turn_hz * T)[:, None] * np.ones(F.size)
    scene = line + echo * np.exp(1j - 2j * np.pi * F * ECHO_CELLS / (97 * 480e3))
    scatter = generator.normal(size=(*scene.shape, 2)).view(complex)[..., 0] * np.sqrt(0.5 * noise)
    return (scene * np.exp(-2j * np.pi * power * turn_hz * T)[:, None] + scatter)[None]


@pytest.mark.parametrize("echo", [0.4, 0.7])
@pytest.mark.parametrize("turn_hz", [-6.0, 3.0])
def test_doubt_is_the_share_of_the_power_times_the_turn(echo: float, turn_hz: float) -> None:
    values = slot(np.random.default_rng(1), turn_hz=turn_hz, echo=echo, noise=1e-3)
    doubt_hz = slow_mover_doubt_hz(values, WEIGHTS, np.array([1e-3]), T, F)
    assert doubt_hz == pytest.approx(abs(turn_hz) / (1.0 + echo**2), rel=0.1)
    # a mover one and a half times as far in delay as in Doppler, in cells: 0.1 of amplitude, 30 Hz, 0.36 cells
    assert delay_doubt_s(3.0, F, T) == pytest.approx(0.1 * 1.5 * 30.0 * np.ptp(T) / np.ptp(F))


def test_noise_alone_leaves_little_doubt() -> None:
    """One reading exceeds √3 of its deviations in 8 % of links; the greatest about two paths in twice as many."""
    generator = np.random.default_rng(2)
    deviation_hz = np.sqrt(0.1 / (2.0 * F.size * np.sum(T**2))) / (2.0 * np.pi)  # of the offset, unit power
    doubts = [
        slow_mover_doubt_hz(slot(generator, turn_hz=0.0, echo=0.5, noise=0.1), WEIGHTS, np.array([0.1]), T, F)
        for _ in range(200)
    ]
    assert np.mean(np.array(doubts) > deviation_hz) < 0.3
    assert np.mean(np.square(doubts)) < (1.5 * deviation_hz) ** 2
