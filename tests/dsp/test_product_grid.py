"""The matched product's maximum: cell against a finely padded grid, sums against the product itself, wrong cells."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.synchronization.product_grid import greatest_cell
from dsp.synchronization.reciprocity import _Expansion, greatest_likelihood
from testbed.bench.speed_offsets import Reciprocal


@pytest.mark.parametrize("subcarriers", [100, 4200])
def test_cell_is_that_of_a_grid_padded_by_sixteen(subcarriers):
    """With a kernel for the size and without; the peak anywhere between the points."""
    rng = np.random.default_rng(subcarriers)
    symbols = 24
    steps, symbol_steps = np.arange(subcarriers), np.arange(symbols)
    for _ in range(10):
        row, column = rng.uniform(-0.5, 0.5, 2)
        line = np.exp(2j * np.pi * (row * symbol_steps[:, None] - column * steps))
        noise = rng.standard_normal(line.shape) + 1j * rng.standard_normal(line.shape)
        (found_row, found_column), cell = greatest_cell([line + 0.3 * noise], [symbol_steps], steps)
        assert cell == (0.25 / symbols, 0.25 / subcarriers)
        # Eighths of a resolution cell are looked at: half of one is left, and what noise moves the peak by.
        assert abs((found_row - row + 0.5) % 1 - 0.5) < 0.1 / symbols
        assert abs((found_column - column + 0.5) % 1 - 0.5) < 0.1 / subcarriers


def test_of_equal_peaks_the_nearest_is_meant():
    """Every fourth subcarrier known: four peaks alike, a quarter turn apart."""
    steps, symbol_steps = np.arange(0, 200, 4), np.arange(32)
    line = np.exp(2j * np.pi * (0.2 * symbol_steps[:, None] - 0.07 * steps))
    padded = np.zeros((32, 200), complex)
    padded[:, steps] = line
    (row, column), _ = greatest_cell([padded], [symbol_steps], np.arange(200))
    assert row == pytest.approx(0.2, abs=4e-3)
    assert column == pytest.approx(0.07, abs=1e-3)


@pytest.mark.parametrize("cfo_hz", [0.0, 3e3, 1e5, 2e6])
def test_sums_near_an_offset_are_those_of_the_product_turned_there(cfo_hz):
    """Series of no term, of some, of many, and the product itself, in double precision throughout."""
    link, _, _ = Reciprocal(subcarriers=256, symbols=64).link()
    product, f, t = link.product, link.subcarrier_hz, link.symbol_s
    near = _Expansion(product, link, 2e-8, cfo_hz, orders=3)
    for to_s in (2e-8, 2.04e-8):
        turn = 4 * np.pi * (to_s * f - cfo_hz * np.outer(t, 1 + f / link.carrier_hz))
        truth = (product * np.exp(1j * turn)) @ f[:, None] ** np.arange(3)
        found = near.at(to_s, cfo_hz)
        assert np.all(np.linalg.norm(found - truth, axis=0) < 1e-8 * np.linalg.norm(truth, axis=0))


def test_no_trial_ends_in_a_wrong_cell():
    """A seeded slice of the 1250 trials of docs/reference/speed.md, at 0 and 30 dB."""
    for snr_db in (0.0, 30.0):
        for seed in range(25):
            link, to_s, cfo_hz = Reciprocal(subcarriers=256, symbols=64, snr_db=snr_db, seed=seed).link()
            found_s, found_hz = greatest_likelihood(link.product, link)
            assert abs(found_s - to_s) < 0.25 / (2 * 256 * 120e3)
            assert abs(found_hz - cfo_hz) < 0.25 / (2 * 64 * 8.92e-6)
