"""Designs over the band: information against a numerical Fisher matrix, optimum against a search over powers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from dsp.network.cooperation import Cooperation
from dsp.network.design import Demand, target_vectors
from dsp.network.sensing_information import Geometry, position_crlb
from dsp.network.spectral_design import Spectrum, design_over_band, spectral_terms

C_MPS = 299_792_458.0
BLOCKS = 4
BLOCK_HZ = 20e6 * ((np.arange(BLOCKS) + 0.5) / BLOCKS - 0.5)


def _geometry(seed: int, antennas: int = 2) -> Geometry:
    rng = np.random.default_rng(seed)
    turn = 2 * np.pi * (np.arange(3) + rng.uniform(0.2, 0.8, 3)) / 3
    places = 100 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return Geometry(places, turn + np.pi, antennas, rng.uniform(-30, 30, 2), 3.5e9, 20e6)


@pytest.mark.parametrize("seed", [0, 1])
def test_information_is_that_of_a_numerical_fisher_matrix(seed: int) -> None:
    geometry, rng = _geometry(seed, antennas=4), np.random.default_rng([seed, 5])
    echo_snr, lit = rng.uniform(0.5, 2.0, (3, 3)) * 30, rng.uniform(0.1, 1.0, (BLOCKS, 3))
    terms = spectral_terms(geometry, echo_snr, BLOCK_HZ)
    # Lines of each block such that their spread is a flat block's; antennas about their middle.
    inner = 20e6 / BLOCKS * (np.arange(16) - 7.5) / 16
    inner *= np.sqrt((20e6 / BLOCKS) ** 2 / 12 / np.mean(inner**2))
    frequency = BLOCK_HZ[:, None] + inner
    information, antenna = np.zeros((2, 2)), np.arange(4) - 1.5
    for m in range(3):
        for n in range(3):

            def echo(place: np.ndarray, m: int = m, n: int = n) -> np.ndarray:
                away = place - geometry.stations_m
                distance = np.linalg.norm(away, axis=1)
                bearing = np.arctan2(away[m, 1], away[m, 0]) - geometry.headings_rad[m]
                level = np.sqrt(echo_snr[m, n] * lit[:, n] / (BLOCKS * 16))
                delay = (distance[m] + distance[n]) / C_MPS
                wave = np.exp(-2j * np.pi * frequency * delay)[..., None]
                return (level[:, None, None] * wave * np.exp(1j * np.pi * antenna * np.sin(bearing))).ravel()

            h = 1e-4
            slopes = np.stack([
                (8 * echo(geometry.target_m + h * d) - 8 * echo(geometry.target_m - h * d)
                 - echo(geometry.target_m + 2 * h * d) + echo(geometry.target_m - 2 * h * d)) / (12 * h)
                for d in np.eye(2)
            ])  # fmt: skip
            # The amplitude is free: what lies along the echo itself tells nothing.
            base = echo(geometry.target_m)
            slopes -= np.outer(slopes @ base.conj(), base) / np.vdot(base, base)
            information += 2 * (slopes.conj() @ slopes.T).real
    bound = position_crlb(np.einsum("kn,nkij->ij", lit, terms))
    assert bound == pytest.approx(float(np.trace(np.linalg.inv(information))), rel=1e-6)


def _demand(geometry: Geometry, mode: Cooperation, users: int) -> tuple[np.ndarray, Demand]:
    rng = np.random.default_rng(9)
    shape = (users, 3, geometry.antennas)
    flat = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * 1e-3
    delay = rng.uniform(0, 2e-7, (users, 3, 1))
    channels = flat * np.exp(2j * np.pi * BLOCK_HZ[:, None, None, None] * delay)
    return channels, Demand(flat, 1e-7, np.full(users, 10.0), 0.25, mode)


def test_without_users_power_goes_where_a_search_over_powers_puts_it() -> None:
    pytest.importorskip("cvxpy")
    geometry = _geometry(3)
    terms = spectral_terms(geometry, np.full((3, 3), 1e3), BLOCK_HZ)
    channels, demand = _demand(geometry, Cooperation.NON_COHERENT, 0)
    design = design_over_band(geometry, terms, channels, demand, Spectrum.OPTIMAL)
    full = 0.25 * geometry.antennas**2 * BLOCKS

    def bound(shares: np.ndarray) -> float:
        lit = np.abs(shares.reshape(BLOCKS, 3))
        return 1e4 * position_crlb(np.einsum("kn,nkij->ij", full * lit / lit.sum(axis=0), terms))

    start = np.random.default_rng(1).uniform(0.5, 1.0, BLOCKS * 3)
    searched = minimize(bound, start, method="L-BFGS-B", bounds=[(1e-9, 1.0)] * start.size).fun / 1e4
    assert design.crlb_m2 == pytest.approx(searched, rel=2e-3)
    # All of it at the band's ends would tell delays best, and does: the middle blocks are dark.
    power = (np.abs(design.precoders) ** 2).sum(axis=(1, 2, 3))
    assert power[1:3].sum() < 0.02 * power.sum()


@pytest.mark.parametrize("mode", [Cooperation.COHERENT, Cooperation.NON_COHERENT])
def test_designs_keep_demands_on_every_block_and_rank_as_they_must(mode: Cooperation) -> None:
    pytest.importorskip("cvxpy")
    geometry = _geometry(4)
    terms = spectral_terms(geometry, np.full((3, 3), 1e3), BLOCK_HZ)
    channels, demand = _demand(geometry, mode, 1)
    reached = {}
    for spectrum in Spectrum:
        design = design_over_band(geometry, terms, channels, demand, spectrum)
        assert np.all(design.sinr >= 10.0 * (1 - 1e-4))
        assert np.all(design.antenna_power <= 0.25 * (1 + 1e-4))
        assert -1e-4 < design.gap < 0.01
        reached[spectrum] = design.crlb_m2
        if spectrum is Spectrum.ORTHOGONAL:
            lit = (np.abs(np.einsum("na,ksna->ksn", target_vectors(geometry).conj(), design.precoders)) ** 2).sum(
                axis=1
            )
            assert np.all(lit[np.arange(BLOCKS)[:, None] % 3 != np.arange(3)] < 1e-4 * lit.max())
    # Each station has but one or two blocks to tell delays by, where all the others may have both of the band's ends.
    assert 1.05 * reached[Spectrum.OPTIMAL] < reached[Spectrum.ORTHOGONAL]
    assert reached[Spectrum.OPTIMAL] < 0.8 * reached[Spectrum.BEAMFORMING]
