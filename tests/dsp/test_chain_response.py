"""Chains that differ over frequency: their ratio read off two directions, and divided out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.base import Observation
from dsp.synchronization.chain_response import ChainResponse, evened, measured_ratio
from dsp.synchronization.matched_product import two_way_link
from dsp.synchronization.reciprocity import likelihood_residual
from dsp.synchronization.reciprocity_check import non_reciprocal
from testbed.bench.contract_links import GRID, two_way


def low_pass(frequency_hz: FloatArray, corner: float) -> ComplexArray:
    """Analog Butterworth low pass of third order, its corner over the band's edge."""
    edge = 2 * np.pi * float(np.max(frequency_hz))
    return np.asarray(signal.freqs(*signal.butter(3, corner * edge, analog=True), 2 * np.pi * frequency_hz)[1])


def without_slope(series: ComplexArray) -> ComplexArray:
    """Logarithm of a response on the grid, no constant and no delay in it, every subcarrier counting alike."""
    place = GRID.subcarrier_hz / np.max(GRID.subcarrier_hz)
    phase = np.unwrap(np.angle(series))
    gain = np.log(np.abs(series))
    return np.asarray(gain - gain.mean() + 1j * (phase - np.polyval(np.polyfit(place, phase, 1), place)))


def through_low_pass(rng: np.random.Generator, snr_db: float, corner: float) -> Observation:
    """Both directions of a link, the forward one through a receiver's low pass."""
    seen = two_way(rng, snr_db).observation
    return replace(
        seen, forward=replace(seen.forward, values=seen.forward.values * low_pass(GRID.subcarrier_hz, corner))
    )


def test_an_exchange_shows_the_chains_ratio() -> None:
    rng = np.random.default_rng(1)
    true = without_slope(low_pass(GRID.subcarrier_hz, 1.5))
    errors, stated = [], []
    for _ in range(6):
        found = measured_ratio(through_low_pass(rng, 30.0, 1.5))
        response = ChainResponse(found.edge_hz, tuple(found.series.real), tuple(found.series.imag))
        errors.append(without_slope(response.root(GRID.subcarrier_hz) ** 2) - true)
        stated.append(np.sqrt(np.sum(found.std**2 / (2 * np.arange(1, found.std.size + 1) + 1))))
    assert np.linalg.norm(np.mean(errors, axis=0)) < 0.1 * np.linalg.norm(true)
    # Real and imaginary part alike: squared errors over stated variances are one, to 1/sqrt(6 links x 15 terms).
    power = np.mean(np.abs(errors) ** 2) / (2 * np.mean(np.square(stated)))
    assert 0.5 < power < 1.6


def test_divided_out_it_is_gone() -> None:
    rng = np.random.default_rng(2)
    response = ChainResponse.of(GRID.subcarrier_hz, low_pass(GRID.subcarrier_hz, 1.5))
    for _ in range(4):
        seen = through_low_pass(rng, 30.0, 1.5)
        assert seen.reverse is not None
        crude, mended = (
            non_reciprocal(link, likelihood_residual(link))
            for link in (
                two_way_link(seen),
                two_way_link(
                    replace(
                        seen,
                        forward=evened(seen.forward, response, None),
                        reverse=evened(seen.reverse, None, response),
                    )
                ),
            )
        )
        assert crude.evidence > 0.0
        assert mended.chains is None
        assert not len(mended.paths.delays_s)


def test_a_node_that_nothing_is_known_of_changes_nothing() -> None:
    state = two_way(np.random.default_rng(3), 20.0).observation.forward
    assert evened(state, None, None) is state


def test_beyond_its_band_a_response_stays_what_it_is_at_the_edge() -> None:
    response = ChainResponse(1e6, (0.3,), (0.2,))
    assert response.root(np.array([3e6])) == pytest.approx(response.root(np.array([1e6])))
