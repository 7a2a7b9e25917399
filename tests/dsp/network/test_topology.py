"""Antennas shared out to stations: best densities by calculus and by draws, and the boundary of rate and position."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from dsp.network.topology import (
    AntennaBudget,
    PowerRule,
    best_density,
    density_draws,
    position_bounds,
    rate_position_region,
)

BUDGET = AntennaBudget(antennas=50.0, area=0.4, snr=1.0, bandwidth_hz=10e6)


@pytest.mark.parametrize("area", [0.2, 0.4, 1.0])
def test_best_density_by_angles_is_the_root_of_the_derivative(area: float) -> None:
    # 1/CRLB ~ (m³ − m)·m·d³·(ln(dA) + γ), m = 50/d, of power P; its logarithm's slope over ln d is nought at the best.
    def slope(d: float) -> float:
        m = 50 / d
        return -(4 * m**2 - 2) / (m**2 - 1) + 3 + 1 / (np.log(d * area) + np.euler_gamma)

    root = optimize.brentq(slope, 1 / area * 1.0001, 49.0)
    budget = AntennaBudget(antennas=50.0, area=area, snr=3.0, bandwidth_hz=1e6)
    assert best_density(budget, PowerRule.STATION, "angle") == pytest.approx(root, rel=1e-5)


def test_delays_want_all_antennas_apart_where_a_station_has_the_same_power() -> None:
    assert best_density(BUDGET, PowerRule.STATION, "delay") == 50.0
    assert best_density(BUDGET, PowerRule.ANTENNA, "delay") < 50.0


@pytest.mark.parametrize(("way", "rule"), [("angle", PowerRule.STATION), ("delay", PowerRule.STATION)])
def test_draws_have_their_best_where_the_closed_form_has(way: str, rule: PowerRule) -> None:
    budget = AntennaBudget(antennas=400.0, area=1.0, snr=1.0, bandwidth_hz=10e6)
    density = np.array([12.5, 25.0, 50.0, 100.0, 200.0, 400.0])
    drawn = density_draws(np.random.default_rng(1), 6000, budget, density, rule, way)
    closed = getattr(position_bounds(budget, density, rule), way)
    assert drawn.best == density[np.argmin(closed)]
    finite = np.isfinite(closed)
    assert np.array_equal(np.isfinite(drawn.median), finite)
    # Medians: angles match the form, delays lie below it (its mean does by 9 to 22 %).
    assert np.all(drawn.median[finite] / closed[finite] < 1.2)
    assert np.all(drawn.median[finite] / closed[finite] > 0.6)


def test_power_by_antennas_is_power_by_station_times_their_number() -> None:
    density = np.array([5.0, 12.5, 25.0])
    station, antenna = (position_bounds(BUDGET, density, rule) for rule in PowerRule)
    for way in ("angle", "delay", "hybrid"):
        np.testing.assert_allclose(getattr(station, way) / getattr(antenna, way), 50 / density)


def test_lengths_may_be_in_metres() -> None:
    # SNR at unit distances falls with the fourth power of a leg's two, twice.
    metres = AntennaBudget(50e-6, 0.4e6, 1.0 * 1000.0**4, 10e6, length_unit_m=1.0)
    one, other = (position_bounds(b, d, PowerRule.STATION) for b, d in ((BUDGET, 10.0), (metres, 10e-6)))
    assert other.delay == pytest.approx(one.delay * 1e6, rel=1e-9)
    assert other.hybrid == pytest.approx(one.hybrid * 1e6, rel=1e-9)


def test_boundary_is_what_nothing_else_beats_and_lies_between_the_optima() -> None:
    region = rate_position_region(BUDGET, PowerRule.ANTENNA, "hybrid", exponent=4.0, radius=0.3)
    assert region.antennas.tolist() == list(range(2, 15))
    for i in range(region.antennas.size):
        beaten = any(
            (region.rate[k] > region.rate[i] and region.crlb[k] <= region.crlb[i])
            or (region.rate[k] >= region.rate[i] and region.crlb[k] < region.crlb[i])
            for k in range(region.antennas.size)
        )
        assert region.efficient[i] == (not beaten)
    ends = sorted((int(np.argmax(region.rate)), int(np.argmin(region.crlb))))
    inside = np.flatnonzero(region.efficient)
    assert ends[0] <= inside.min() <= inside.max() <= ends[1]
    assert region.efficient[ends].all()


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="without an antenna"):
        position_bounds(BUDGET, 60.0, PowerRule.STATION)
    with pytest.raises(ValueError, match="holds 1 antennas"):
        rate_position_region(BUDGET, PowerRule.STATION, "delay", exponent=4.0, radius=0.1)
    with pytest.raises(ValueError, match="no way to locate"):
        best_density(BUDGET, PowerRule.STATION, "both")
