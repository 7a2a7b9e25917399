"""Closed-form bounds of a link against Fisher matrices made by numerical differentiation of the signal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dsp.bounds.link import (
    angle_std_rad,
    delay_std_s,
    doppler_std_hz,
    grid_std,
    product_factor,
    two_way_bound,
    two_way_cfo_std_hz,
    two_way_to_std_s,
)

SPACING_HZ = 120e3
SYMBOL_S = 9e-6


def deviations(
    signal: Callable[[np.ndarray], np.ndarray], at: np.ndarray, steps: np.ndarray, noise: float
) -> np.ndarray:
    """Cramér-Rao deviations of all parameters, circular noise of the given variance per element."""
    slopes = np.stack(
        [(signal(at + step) - signal(at - step)).ravel() / (2 * np.max(np.abs(step))) for step in np.diag(steps)]
    )
    fisher = 2.0 / noise * np.real(slopes.conj() @ slopes.T)
    scale = np.sqrt(np.diag(fisher))
    return np.sqrt(np.diag(np.linalg.inv(fisher / np.outer(scale, scale)))) / scale


def test_delay_and_doppler_of_one_path() -> None:
    k = (np.arange(48) - 5.0) * SPACING_HZ
    t = (np.arange(20) + 3.0) * SYMBOL_S

    def signal(p: np.ndarray) -> np.ndarray:
        return (p[0] + 1j * p[1]) * np.exp(2j * np.pi * (t[:, None] * p[3] - k * p[2]))

    found = deviations(signal, np.array([0.6, 0.8, 2e-7, 900.0]), np.array([1e-4, 1e-4, 1e-11, 0.1]), 1 / 7.0)
    assert delay_std_s(48, SPACING_HZ, 20, 7.0) == pytest.approx(found[2], rel=1e-5)
    assert doppler_std_hz(48, 20, SYMBOL_S, 7.0) == pytest.approx(found[3], rel=1e-5)


def two_way_deviations(f: np.ndarray, t: np.ndarray, snr: float, carrier_hz: float) -> np.ndarray:
    """Channel of unit modulus unknown in every element, phase unknown: 2KL + 3 parameters."""
    generator = np.random.default_rng(1)
    channel = np.exp(2j * np.pi * generator.uniform(size=(len(t), len(f))))
    count = channel.size

    def signal(p: np.ndarray) -> np.ndarray:
        h = (p[3 : 3 + count] + 1j * p[3 + count :]).reshape(channel.shape)
        turn = np.exp(1j * p[2] - 2j * np.pi * f * p[0] + 2j * np.pi * t[:, None] * p[1] * (1 + f / carrier_hz))
        return np.stack([h * turn, h / turn])

    at = np.concatenate([[3e-8, 200.0, 0.3], channel.real.ravel(), channel.imag.ravel()])
    steps = np.concatenate([[1e-11, 0.05, 1e-4], np.full(2 * count, 1e-4)])
    return deviations(signal, at, steps, 1 / snr)


def test_two_way_closed_form_on_a_full_grid() -> None:
    f = (np.arange(14) - 6.5) * SPACING_HZ
    t = np.arange(6) * SYMBOL_S
    found = two_way_deviations(f, t - t.mean(), 5.0, np.inf)
    assert two_way_to_std_s(14, SPACING_HZ, 6, 5.0) == pytest.approx(found[0], rel=1e-4)
    assert two_way_cfo_std_hz(14, 6, SYMBOL_S, 5.0) == pytest.approx(found[1], rel=1e-4)
    general = two_way_bound(f, t, 5.0)
    assert general.to_std_s == pytest.approx(found[0], rel=1e-4)
    assert general.cfo_std_hz == pytest.approx(found[1], rel=1e-4)


def test_two_way_general_form_with_gaps_and_coupling() -> None:
    f = np.concatenate([np.arange(-7, 0), np.arange(1, 8), [11.0]]) * SPACING_HZ
    t = np.array([0.0, 1.0, 2.0, 9.0, 10.3]) * SYMBOL_S
    carrier_hz = 40e6  # low, so that the coupling shows
    found = two_way_deviations(f, t - t.mean(), 3.0, carrier_hz)
    general = two_way_bound(f, t, 3.0, carrier_hz=carrier_hz)
    assert general.to_std_s == pytest.approx(found[0], rel=1e-4)
    assert general.cfo_std_hz == pytest.approx(found[1], rel=1e-4)


def test_reference_figures() -> None:
    """Setting C and reference R-A as methods section 3.6 and the issue print them."""
    k = np.concatenate([np.arange(-400, 0), np.arange(1, 401)])
    setting = two_way_bound(k * 20e6 / 1024, np.arange(128) * 1152 / 20e6, 100.0, product=True)
    assert setting.to_std_s == pytest.approx(5.5e-12, abs=0.05e-12)
    assert setting.cfo_std_hz == pytest.approx(11.7e-3, abs=0.05e-3)
    table = {-10.0: (221e-12, 542e-12), 0.0: (70.8e-12, 86.8e-12), 20.0: (7.02e-12, 7.04e-12)}
    for level_db, (plain, product) in table.items():
        snr = 10 ** (level_db / 10)
        bound = two_way_to_std_s(256, 120e3, 64, snr)
        assert bound == pytest.approx(plain, rel=0.005)
        assert bound * product_factor(snr) == pytest.approx(product, rel=0.005)


def test_grid_and_angle() -> None:
    generator = np.random.default_rng(3)
    values = generator.uniform(0.0, 70.0, 200_000)
    assert np.std(values - 0.7 * np.rint(values / 0.7)) == pytest.approx(grid_std(0.7), rel=0.01)
    assert np.rad2deg(angle_std_rad(1000.0, 0.0)) == pytest.approx(0.577, abs=0.001)

    def signal(p: np.ndarray) -> np.ndarray:
        return (p[0] + 1j * p[1]) * np.exp(1j * np.pi * np.array([-0.5, 0.5]) * np.sin(p[2]))

    found = deviations(signal, np.array([0.6, 0.8, 0.5]), np.full(3, 1e-5), 1 / 100.0)
    assert angle_std_rad(100.0, 0.5) == pytest.approx(found[2], rel=1e-5)


@pytest.mark.parametrize(("snr", "count"), [(0.0, 8), (-1.0, 8), (1.0, 1)])
def test_what_has_no_bound_is_refused(snr: float, count: int) -> None:
    with pytest.raises(ValueError, match="positive SNR"):
        two_way_bound(np.arange(count) * 1e3, np.arange(4) * 1e-3, snr)
