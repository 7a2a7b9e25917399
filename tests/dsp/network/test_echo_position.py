"""Position by echoes against a dense model of the same scene, made here, and its numerical Fisher information."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dsp.network.echo_position import Hearing, Illumination, locate_by_echoes, position_bound

C_MPS = 299_792_458.0
CARRIER_HZ = 3.5e9
SUBCARRIER_HZ = 0.5e6 * np.array([*range(-16, 0), *range(1, 17)])
STATIONS = np.array([[0.0, 0.0], [90.0, 5.0], [40.0, 80.0]])
HEADINGS = np.radians([40.0, 140.0, -90.0])
TARGET = np.array([47.3, 31.7])


def _arrays(antennas: int) -> np.ndarray:
    left = np.stack([-np.sin(HEADINGS), np.cos(HEADINGS)], axis=1)
    return STATIONS[:, None] + 0.5 * C_MPS / CARRIER_HZ * np.arange(antennas)[:, None] * left[:, None]


def _wave(path_m: np.ndarray, zero_s: float) -> np.ndarray:
    tau = path_m / C_MPS
    return np.exp(-2j * np.pi * (CARRIER_HZ * tau[..., None] + SUBCARRIER_HZ * (tau[..., None] + zero_s)))


def _echo(m: int, n: int, place: np.ndarray, sent: np.ndarray, places: np.ndarray, zero_s: np.ndarray) -> np.ndarray:
    out = np.linalg.norm(places[n] - place, axis=1)
    back = np.linalg.norm(places[m] - place, axis=1)
    waves = _wave(out[:, None] + back, zero_s[m, n])
    return np.einsum("abk,alk->blk", waves, sent[n])


def _world(seed: int) -> tuple[Illumination, list[Hearing], np.ndarray]:
    """Light, hearings with noise of unit variance, and the covariance that the Fisher information of echoes allows."""
    rng = np.random.default_rng(seed)
    places = _arrays(3)
    shape = (3, 3, 8, SUBCARRIER_HZ.size)
    sent = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    zero_s = rng.uniform(-2e-8, 2e-8, (3, 3))
    hearings, information = [], np.zeros((2, 2))
    for m in range(3):
        noise = rng.standard_normal((2, 3, *shape[2:])) / np.sqrt(2)
        received = noise[0] + 1j * noise[1]
        columns, slopes = [], []
        for n in range(3):
            level = 1.2 * np.exp(2j * np.pi * rng.uniform())
            received = received + level * _echo(m, n, TARGET, sent, places, zero_s)
            columns.append(_echo(m, n, TARGET, sent, places, zero_s).ravel())
            steps = [
                _echo(m, n, TARGET + h, sent, places, zero_s) - _echo(m, n, TARGET - h, sent, places, zero_s)
                for h in 1e-4 * np.eye(2)
            ]
            slopes.append(level * np.array([one.ravel() for one in steps]) / 2e-4)
            if n != m:
                apart = np.linalg.norm(places[n][:, None] - places[m], axis=-1)
                sight = np.einsum("abk,alk->blk", _wave(apart, zero_s[m, n]), sent[n])
                received = received + 30 * np.exp(2j * np.pi * rng.uniform()) * sight
                columns += [(sight * (np.arange(3) == b)[:, None, None]).ravel() for b in range(3)]
            else:
                # Each antenna leaks into each other over a way of its own, which nobody stated.
                for a, b in itertools.product(range(3), repeat=2):
                    delay_s = zero_s[m, m] + 1e-9 + rng.uniform(-4e-10, 4e-10)
                    own = sent[m, a] * np.exp(-2j * np.pi * SUBCARRIER_HZ * delay_s)
                    received[b] = received[b] + 20 * np.exp(2j * np.pi * rng.uniform()) * own
                    for column in (own, own * SUBCARRIER_HZ / 16e6):
                        columns.append((column * (np.arange(3) == b)[:, None, None]).ravel())
        nuisance, slope = np.array(columns).T, np.sum(slopes, axis=0).T
        left = slope - nuisance @ np.linalg.lstsq(nuisance, slope, rcond=None)[0]
        information += 2 * (left.conj().T @ left).real
        # The stations' slots told the zeros to some 50 ps; its own is known.
        told_s = zero_s[m] + 5e-11 * rng.standard_normal(3) * (np.arange(3) != m)
        hearings.append(Hearing(m, received, places[m], told_s, leakage_s=1e-9))
    return Illumination(sent, places, CARRIER_HZ, SUBCARRIER_HZ), hearings, np.linalg.inv(information)


def test_errors_are_those_of_the_fisher_information_and_as_stated() -> None:
    # Amplitudes, lines of sight 28 dB above the echoes and leakages are nuisance in the information too.
    squares, ratios = [], []
    for seed in range(7):
        light, hearings, covariance = _world(seed)
        found = locate_by_echoes(hearings, light, (STATIONS.min(axis=0), STATIONS.max(axis=0)))
        off = found.position_m - TARGET
        squares.append(off @ np.linalg.solve(covariance, off))
        assert np.trace(found.covariance_m2) == pytest.approx(np.trace(covariance), rel=0.35)
        assert found.gain > 30
        bound = position_bound(hearings, light, TARGET, np.full((3, 3), 1.2**2), np.ones(3))
        ratios.append(np.trace(bound) / np.trace(covariance))
    # Twice seven degrees of freedom: mean 14, deviation 5.3.
    assert 4 < sum(squares) < 32
    # The dense one knows the zeros and the scene's phases: 0.7 ± 0.4 % apart over 40 scenes, 2.4 % between scenes.
    assert np.mean(ratios) == pytest.approx(1.007, abs=0.02)


def test_an_empty_area_is_refused() -> None:
    light, hearings, _ = _world(0)
    with pytest.raises(ValueError, match="holds no place"):
        locate_by_echoes(hearings, light, (np.zeros(2), np.zeros(2)))
