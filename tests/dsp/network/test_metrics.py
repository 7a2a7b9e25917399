"""Metrics of random networks against closed forms, and the integrals of interference nulling against draws."""

from __future__ import annotations

from itertools import product
from math import atan, pi, sqrt

import numpy as np
import pytest
from scipy import integrate, stats

from dsp.network import metrics
from dsp.network.nulling import (
    Load,
    allocations,
    best_allocation,
    communication_rate,
    echo_ratio,
    sensing_rate,
    sensing_stations,
    spectral_efficiencies,
)
from dsp.network.poisson import nearest_stations


def _areas(rng: np.random.Generator, draws: int, stations: int) -> np.ndarray:
    """Areas πλd² up to stations of a plane, from uniform places in a disc: by no steps of the code."""
    reach = sqrt(stations)
    count = rng.poisson(stations, draws)
    areas = np.full((draws, int(count.max())), np.inf)
    for row, n in zip(areas, count, strict=True):
        x, y = rng.uniform(-reach, reach, (2, 4 * n + 40))
        inside = (x * x + y * y)[x * x + y * y < reach * reach][:n]
        row[: inside.size] = np.sort(inside)
    return areas


def _within(one: metrics.Mean, expected: float, deviations: float = 4.0) -> bool:
    return abs(one.value - expected) < deviations * one.standard_error


@pytest.mark.parametrize("threshold", [0.2, 1.0, 5.0])
def test_coverage_is_that_of_andrews(threshold: float) -> None:
    closed = 1 / (1 + sqrt(threshold) * (pi / 2 - atan(1 / sqrt(threshold))))
    assert metrics.coverage_probability(threshold, 4.0) == pytest.approx(closed, rel=1e-12)
    # Fading is exponential, so that coverage on given places is a product: no gamma draws, no code of the project.
    area = _areas(np.random.default_rng(7), 4000, 200)
    for cluster in (1, 3):
        interferers = area[:, cluster:]
        given = np.prod(1 / (1 + threshold * (area[:, :1] / interferers) ** 2), axis=1)
        expected = metrics.coverage_probability(threshold, 4.0, cluster=cluster)
        assert _within(metrics.mean_of(given), expected)


def test_drawn_places_have_the_coverage_and_rates_of_the_integrals() -> None:
    load, antennas = Load(2, 2, 1, 3), 8
    drawn = metrics.place_draws(np.random.default_rng(1), 8000, load, antennas, exponent=4.0, echo=0.01, density=3.0)
    rate = metrics.ergodic_rate_of(drawn.user_sir)
    assert _within(rate, communication_rate(load, antennas, 4.0))
    # The integral scatters interferers anywhere about the watching station, which is a few percent of the rate.
    seen = metrics.ergodic_rate_of(drawn.target_sir)
    assert seen.value == pytest.approx(sensing_rate(load, antennas, 4.0, echo_ratio(0.01, 3.0, 4.0)), rel=0.08)
    one, other = metrics.coverage(drawn.user_sir, 2.0), metrics.coverage(drawn.target_sir, 0.5)
    both = metrics.isac_coverage(drawn, 2.0, 0.5)
    assert max(0.0, one.value + other.value - 1) <= both.value <= min(one.value, other.value)
    assert metrics.isac_coverage(drawn, 2.0, 0.0).value == one.value
    assert metrics.localization_coverage(drawn, 2.0, np.inf).value == one.value
    located = metrics.localization_coverage(drawn, 0.0, 0.1)
    assert located.value == pytest.approx(np.mean(np.sqrt(drawn.crlb) <= 0.1))
    assert 0.05 < located.value < 0.95
    mixed = metrics.isac_rate(drawn, 0.25)
    assert mixed.value == pytest.approx(0.25 * rate.value + 0.75 * seen.value)
    assert metrics.area_spectral_efficiency(rate, 2, density=3.0).value == pytest.approx(6 * rate.value)
    potential = metrics.potential_spectral_efficiency(one, 2.0, users=2, density=3.0)
    # Markov: what one fixed rate carries lies below the ergodic one.
    assert potential.value == pytest.approx(6 * np.log2(3.0) * one.value)
    assert potential.value < 6 * rate.value


def test_draws_repeat_and_do_not_depend_on_a_scale() -> None:
    load = Load(1, 1, 1, 1)
    near, far = (
        metrics.place_draws(np.random.default_rng(3), 500, load, 2, exponent=3.5, echo=echo, density=density)
        for density, echo in ((1.0, 0.5), (100.0, 0.5 * 100.0 ** (-3.5 / 2)))
    )
    np.testing.assert_allclose(near.user_sir, far.user_sir, rtol=1e-9)
    np.testing.assert_allclose(near.target_sir, far.target_sir, rtol=1e-9)


@pytest.mark.parametrize(("least", "radius", "density"), [(1, 0.4, 1.0), (3, 0.9, 1.3), (5, 0.3, 20.0)])
def test_localizability_is_a_poisson_tail(least: int, radius: float, density: float) -> None:
    tail = stats.poisson(density * pi * radius**2).sf(least - 1)
    assert metrics.localizability_probability(least, radius, density) == pytest.approx(tail, rel=1e-12)
    _, distance = nearest_stations(np.random.default_rng(least), 20_000, least + 1, density)
    assert _within(metrics.localizability(distance, least, radius), tail)


def test_energy_efficiency_is_bits_over_joules() -> None:
    # 20 MHz · 3 bit/s/Hz/km² over 2 stations per km² of 10/0.25 + 8·0.5 + 6 = 50 W.
    found = metrics.energy_efficiency(
        3.0, bandwidth_hz=20e6, density=2.0, antennas=8, transmit_w=10.0, amplifier=0.25, chain_w=0.5, station_w=6.0
    )
    assert found == pytest.approx(600e3)


@pytest.mark.parametrize(
    ("load", "exponent"), [(Load(1, 1, 1, 1), 4.0), (Load(2, 3, 1, 2), 3.0), (Load(3, 2, 2, 4), 4.0)]
)
def test_rates_by_integral_are_those_of_drawn_fading(load: Load, exponent: float) -> None:
    rng = np.random.default_rng(load.spent())
    antennas, echo, draws = 12, 0.05, 5000
    area = _areas(rng, draws, 150)
    power = rng.gamma(load.users + load.targets, size=area.shape) * area ** (-exponent / 2)
    beyond = (load.users + load.targets) * 150 ** (1 - exponent / 2) / (exponent / 2 - 1)
    own = rng.gamma(12 - load.spent() + 1, size=draws) * area[:, 0] ** (-exponent / 2)
    rate = metrics.mean_of(np.log2(1 + own / (power[:, load.user_cluster :].sum(1) + beyond)))
    assert _within(rate, communication_rate(load, antennas, exponent))
    gain = rng.gamma(12 - load.users * (load.user_cluster - 1) - load.targets * (load.sensing_cluster - 1), size=draws)
    returned = echo * gain * rng.exponential(size=draws) ** -exponent
    rate = metrics.mean_of(np.log2(1 + returned / (power[:, load.sensing_cluster - 1 :].sum(1) + beyond)))
    assert _within(rate, sensing_rate(load, antennas, exponent, echo))


def test_rate_of_one_antenna_by_an_integral_over_coverage() -> None:
    # E log₂(1 + S/I) = ∫ P(S/I > 2^r − 1) dr. Interferers send two streams, and for α = 4 ∫₁^∞ [1 − (1 + z/t²)^−2]
    # dt is elementary.
    def survivor(rate: float) -> float:
        z = 2.0**rate - 1
        return 1 / (1 + 1.5 * sqrt(z) * atan(sqrt(z)) + z / (2 * (1 + z)))

    expected, _ = integrate.quad(survivor, 0, 60, limit=200)
    assert communication_rate(Load(1, 1, 1, 1), 1, 4.0) == pytest.approx(expected, rel=1e-8)


def test_many_streams_have_rates() -> None:
    for load in (Load(16, 1, 16, 1), Load(8, 1, 8, 2), Load(1, 1, 15, 2)):
        assert 0 < communication_rate(load, 16, 4.0) < 5
        assert 0 < sensing_rate(load, 16, 4.0, 0.01) < 5


def test_best_allocation_is_the_best_of_all_there_are() -> None:
    antennas, clusters = 4, range(1, 5)
    loads = allocations(antennas)
    every = [one for one in product(clusters, repeat=4) if one[0] * one[1] + one[2] * (one[3] - 1) <= antennas]
    assert {(one.users, one.user_cluster, one.targets, one.sensing_cluster) for one in loads} == set(every)
    assert len(loads) == len(every)
    found = spectral_efficiencies(loads, antennas, 4.0, 0.01, density=2.0)
    for weight in (0.0, 0.4, 1.0):
        best = loads[best_allocation(found, weight)]
        values = [
            weight * 2 * k * communication_rate(Load(k, c, j, q), antennas, 4.0)
            + (1 - weight) * 2 * j * sensing_rate(Load(k, c, j, q), antennas, 4.0, 0.01)
            for k, c, j, q in every
        ]
        assert best == Load(*every[int(np.argmax(values))])
    # Watching one target, stations had better spare each other's receivers; serving users, nobody.
    few = allocations(antennas, targets=1)
    found = spectral_efficiencies(few, antennas, 4.0, 0.01)
    assert few[best_allocation(found, 0.0)].sensing_cluster > 1
    assert few[best_allocation(found, 1.0)].user_cluster == 1


def test_sensing_stations_fill_the_backhaul() -> None:
    rates = np.array([0.0, 0.3, 0.7, 1.0, 1.1])
    np.testing.assert_array_equal(sensing_stations(rates, 0.1, 1.0), [10, 7, 3, 0, np.nan])
    rng = np.random.default_rng(2)
    rates, each = rng.uniform(0, 4, 200), 0.137
    for rate, count in zip(rates, sensing_stations(rates, each, 4.0), strict=True):
        assert count == sum(rate + each * n <= 4.0 for n in range(1, 40))


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="takes 9 degrees of freedom, but a station has 8 antennas"):
        communication_rate(Load(3, 3, 1, 1), 8, 4.0)
    with pytest.raises(ValueError, match="above two"):
        sensing_rate(Load(1, 1, 1, 1), 8, 2.0, 0.1)
    with pytest.raises(ValueError, match="need more"):
        metrics.place_draws(
            np.random.default_rng(1), 9, Load(1, 1, 1, 1), 8, exponent=4.0, echo=0.1, cooperating=9, stations=8
        )
    with pytest.raises(ValueError, match="two at least"):
        metrics.coverage(np.array([1.0]), 0.5)
