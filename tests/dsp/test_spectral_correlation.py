"""Deviations that the spectral correlations state, anywhere in a cell and where acquisition has brought them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsp.synchronization.registry import METHODS
from testbed.bench import reference_ra
from testbed.bench.contract_links import two_way

METHOD_NAMES = ("spectral-cc", "spectral-cc-interpolated")


@pytest.mark.parametrize("near", [False, True], ids=["anywhere in a cell", "near its middle"])
def test_deviation_stated_is_honest(near):
    """Normalised errors squared of 40 draws of dense multipath; the chi-square of 40 has 0.46 and 1.84 at 99.9 %."""
    generator = np.random.default_rng(77)
    errors = {name: [] for name in METHOD_NAMES}
    stated = {name: [] for name in METHOD_NAMES}
    for _ in range(40):
        observation, to_s, cfo_hz = reference_ra.draw(generator, 10.0)
        if near:
            near_s, near_hz = 0.5e-9 * generator.normal(), 20.0 * generator.normal()
            f, t = observation.forward.subcarrier_hz, observation.forward.symbol_s
            turn = np.exp(2j * np.pi * ((near_hz - cfo_hz) * t[:, None] - (near_s - to_s) * f))
            there, back = observation.forward, observation.reverse
            observation = replace(
                observation,
                forward=replace(there, values=there.values * turn),
                reverse=replace(back, values=back.values * turn.conj()),
            )
            to_s, cfo_hz = near_s, near_hz
        for name in METHOD_NAMES:
            offset = METHODS[name].estimate(observation)
            errors[name].append(((offset.to_s - to_s) / offset.to_std_s, (offset.cfo_hz - cfo_hz) / offset.cfo_std_hz))
            stated[name].append(offset.to_std_s)
    for name in METHOD_NAMES:
        nees = np.mean(np.square(errors[name]), axis=0)
        assert np.all((nees > 0.46) & (nees < 1.84)), (name, nees)
    grid = 1.0 / (2 * reference_ra.SUBCARRIERS * reference_ra.SPACING_HZ)
    cell = np.sqrt(np.mean(np.square(stated["spectral-cc"]))) / grid
    if near:
        assert cell < 0.06
    else:
        assert cell == pytest.approx(1 / np.sqrt(12), rel=0.2)


def test_aligned_maps_leave_no_error_of_their_own() -> None:
    """Without noise, at CFOs that cost one direction the band's lower edge and the other its upper one."""
    generator = np.random.default_rng(5)
    for _ in range(6):
        link = two_way(generator, 90.0)
        offset = METHODS["spectral-cc-interpolated"].estimate(link.observation)
        assert abs(offset.to_s - link.offset_s(offset.epoch)) < 0.3e-12
        assert abs(offset.cfo_hz - link.cfo_hz) < 2e-3


def test_on_the_grid_a_lone_doppler_line_is_rounded_once() -> None:
    """Four static paths are one line over Doppler: errors uniform over a cell, none a whole cell."""
    generator = np.random.default_rng(6)
    errors = []
    for _ in range(60):
        link = two_way(generator, 20.0)
        errors.append(METHODS["spectral-cc"].estimate(link.observation).cfo_hz - link.cfo_hz)
    cell_hz = 0.5 / link.grid.length_s
    assert np.max(np.abs(errors)) < 0.55 * cell_hz
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(cell_hz / np.sqrt(12), rel=0.25)
