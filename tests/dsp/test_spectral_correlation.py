"""Deviations that the spectral correlations state, anywhere in a cell and where acquisition has brought them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsp.synchronization.registry import METHODS
from testbed.bench import reference_ra

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
