"""Deviations of fitted paths against a dense Fisher matrix of all that is unknown."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.sensing.path_model import PathModel

CARRIER = 2.4e9
SPACING = 312.5e3
SYMBOLS, SUBCARRIERS, ANTENNAS = 14, 12, 2
RATE_STD = 50.0


def state(values: np.ndarray, time: np.ndarray, frequency: np.ndarray, noise: np.ndarray) -> ChannelState:
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=frequency,
        symbol_s=time,
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=noise,
        frame_of_symbol=np.zeros(time.size, dtype=np.int64),
    )


def path(parameters, time, frequency):
    delay, doppler, rate = parameters
    cycles = doppler * time + 0.5 * rate * time**2
    return np.exp(-2j * np.pi * frequency * (delay - cycles[:, None] / CARRIER) + 2j * np.pi * cycles[:, None])


def dense_covariance(static, amplitude, parameters, time, frequency, noise):
    """Of (delay, Doppler, rate, amplitudes' parts): static channel and every symbol's common phase unknown."""
    scale = np.array([1e-10, 0.1, 1.0])
    columns = []
    for index in range(3):
        step = np.zeros(3)
        step[index] = scale[index]
        change = path(parameters + step, time, frequency) - path(parameters - step, time, frequency)
        columns.append(0.5 * amplitude[:, None, None] * change)
    for antenna in range(ANTENNAS):
        one = np.zeros((ANTENNAS, 1, 1), complex)
        one[antenna] = 1.0
        columns += [one * path(parameters, time, frequency), 1j * one * path(parameters, time, frequency)]
    for antenna in range(ANTENNAS):
        for subcarrier in range(SUBCARRIERS):
            still = np.zeros((ANTENNAS, SYMBOLS, SUBCARRIERS), complex)
            still[antenna, :, subcarrier] = 1.0
            columns += [still, 1j * still]
    for symbol in range(1, SYMBOLS):
        turned = np.zeros((ANTENNAS, SYMBOLS, SUBCARRIERS), complex)
        turned[:, symbol] = 1j * static
        columns.append(turned)
    whitened = np.array([(column / np.sqrt(noise)[:, None, None]).ravel() for column in columns])
    fisher = 2.0 * np.real(whitened.conj() @ whitened.T)
    fisher[2, 2] += (scale[2] / RATE_STD) ** 2
    unit = np.r_[scale, np.ones(2 * ANTENNAS)]
    return np.linalg.inv(fisher)[: unit.size, : unit.size] * np.outer(unit, unit)


@pytest.mark.parametrize("apart_s", [0.0, 40e-9, 600e-9])
def test_amplitudes_and_parameters_deviate_as_the_dense_fisher_matrix_says(apart_s):
    """Beside the static path in delay, where the common phase takes most of the path, and far from it."""
    rng = np.random.default_rng(5)
    time = (np.arange(SYMBOLS) - 0.5 * (SYMBOLS - 1)) * 2e-3
    frequency = SPACING * (np.arange(SUBCARRIERS) - SUBCARRIERS // 2)
    noise = np.array([1e-6, 2e-6])
    static = np.exp(2j * np.pi * rng.random(ANTENNAS))[:, None] * np.exp(-2j * np.pi * frequency * 30e-9)
    amplitude = 0.003 * np.exp(2j * np.pi * rng.random(ANTENNAS))
    parameters = np.array([30e-9 + apart_s, 71.0, 0.0])
    moving = amplitude[:, None, None] * path(parameters, time, frequency)
    moving = moving - moving.mean(axis=1, keepdims=True)
    model = PathModel(state(moving, time, frequency, noise), static=static, referenced=True, rate_std_hz_per_s=RATE_STD)
    found = model.fit(parameters[None])
    expected = dense_covariance(static, amplitude, parameters, time, frequency, noise)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance[0])), np.sqrt(np.diag(expected)[:3]), rtol=2e-3)
    got = found.amplitude_covariance[0].reshape(2 * ANTENNAS, 2 * ANTENNAS)
    np.testing.assert_allclose(got, expected[3:, 3:], atol=2e-3 * np.max(np.abs(expected[3:, 3:])))
