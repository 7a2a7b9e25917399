"""The rate's integral against drawn networks, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.network.rate import ergodic_rate, rate_draws


@pytest.mark.parametrize(("antennas", "exponent"), [(8, 3.0), (5, 4.0), (3, 6.0)])
def test_integral_comes_to_the_draws(antennas: int, exponent: float) -> None:
    # 50 antennas per km² in stations of so many, serving within 300 m.
    rates = rate_draws(np.random.default_rng(antennas), 3000, 50 / antennas, exponent, antennas - 1, 0.3)
    error = rates.std() / np.sqrt(rates.size)
    assert ergodic_rate(50 / antennas, exponent, antennas - 1, 0.3) == pytest.approx(rates.mean(), abs=4 * error)
    assert error < 0.02 * rates.mean()


def test_rate_depends_on_density_times_area_alone() -> None:
    assert ergodic_rate(5.0, 3.5, 4, 0.4) == pytest.approx(ergodic_rate(20.0, 3.5, 4, 0.2), rel=1e-6)


def test_an_exponent_of_two_has_no_rate() -> None:
    with pytest.raises(ValueError, match="above two"):
        ergodic_rate(5.0, 2.0, 4, 0.4)
