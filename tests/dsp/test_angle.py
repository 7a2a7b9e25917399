"""Angle of arrival: sign, mirror and grating hypotheses, error against the bound."""

from __future__ import annotations

import numpy as np
import pytest

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.localization import angle_bound_two_antennas
from dsp.sensing.angle import bearing, covariance, music

CARRIER = 2.4e9
WAVELENGTH = SPEED_OF_LIGHT_MPS / CARRIER


def wave(theta, antennas, spacing):
    return np.exp(2j * np.pi / WAVELENGTH * spacing * np.arange(antennas) * np.sin(theta))


def complex_noise(rng, shape, variance):
    return np.sqrt(variance / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


@pytest.mark.parametrize("antennas", [2, 3, 4])
def test_a_wave_without_noise_comes_from_where_it_comes(antennas):
    rng = np.random.default_rng(antennas)
    for theta in rng.uniform(-1.4, 1.4, 20):
        found = bearing(
            wave(theta, antennas, 0.5 * WAVELENGTH) * np.exp(2j * np.pi * rng.random()),
            np.full(antennas, 1e-3),
            spacing_m=0.5 * WAVELENGTH,
            carrier_hz=CARRIER,
        )
        assert found.bearings_rad[0] == pytest.approx(theta, abs=1e-7)
        front, back = found.bearings_rad
        assert np.sin(front) == pytest.approx(np.sin(back), abs=1e-9)
        assert np.cos(front) == pytest.approx(-np.cos(back), abs=1e-9)


@pytest.mark.parametrize("snr_db", [10, 20, 30, 40])
def test_two_antennas_reach_the_bound(snr_db):
    rng = np.random.default_rng(snr_db)
    snr = 10 ** (snr_db / 10)
    scores, stated = [], []
    for _ in range(800):
        theta = rng.uniform(-np.pi / 4, np.pi / 4)
        amplitudes = wave(theta, 2, 0.5 * WAVELENGTH) + complex_noise(rng, 2, 1 / snr)
        found = bearing(amplitudes, np.full(2, np.sqrt(0.5 / snr)), spacing_m=0.5 * WAVELENGTH, carrier_hz=CARRIER)
        scores.append((found.bearings_rad[0] - theta) / angle_bound_two_antennas(snr, theta))
        stated.append((found.sine - np.sin(theta)) / found.sine_std)
    # standard error of the ratio over 800 trials: 0.025
    assert np.sqrt(np.mean(np.square(scores))) < 1.2
    assert np.sqrt(np.mean(np.square(stated))) == pytest.approx(1.0, abs=0.1)


def test_wide_spacing_keeps_every_grating_hypothesis():
    theta = 0.3
    found = bearing(wave(theta, 2, 1.3 * WAVELENGTH), np.full(2, 1e-3), spacing_m=1.3 * WAVELENGTH, carrier_hz=CARRIER)
    assert any(value == pytest.approx(np.sin(theta), abs=1e-9) for value in found.sines)
    assert len(found.sines) in (2, 3)
    np.testing.assert_allclose(np.remainder(np.diff(sorted(found.sines)), 1 / 1.3), 0.0, atol=1e-9)
    assert len(found.bearings_rad) == 2 * len(found.sines)


def test_calibration_takes_the_chains_out():
    chains = np.array([1.0, 1.3 * np.exp(0.7j)])
    found = bearing(
        wave(-0.4, 2, 0.5 * WAVELENGTH) * chains,
        np.full(2, 1e-3),
        spacing_m=0.5 * WAVELENGTH,
        carrier_hz=CARRIER,
        calibration=chains,
    )
    assert found.bearings_rad[0] == pytest.approx(-0.4, abs=1e-7)


def test_two_sources_of_one_cell_from_many_snapshots():
    rng = np.random.default_rng(5)
    positions = 0.5 * WAVELENGTH * np.arange(4)
    thetas = np.array([-0.35, 0.5])
    responses = np.array([wave(theta, 4, 0.5 * WAVELENGTH) for theta in thetas])
    snapshots = complex_noise(rng, (200, 2), 1.0) @ responses + complex_noise(rng, (200, 4), 1e-3)
    sines = music(covariance(snapshots), positions, CARRIER, sources=2)
    np.testing.assert_allclose(np.sort(sines), np.sin(thetas), atol=5e-3)


def test_input_is_checked():
    with pytest.raises(ValueError, match="two antennas"):
        bearing(np.ones(1), np.ones(1), spacing_m=0.06, carrier_hz=CARRIER)
    with pytest.raises(ValueError, match="more than"):
        music(np.eye(2, dtype=complex), np.array([0.0, 0.06]), CARRIER, sources=2)
    with pytest.raises(ValueError, match="one place"):
        music(np.eye(2, dtype=complex), np.zeros(2), CARRIER)
