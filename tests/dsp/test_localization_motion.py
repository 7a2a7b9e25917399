"""Targets seen at different times: position and velocity jointly, clock offsets that cancel between two directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.localization import delay_curvature, delay_gradient
from dsp.localization import LinkMeasurement, Station, associate, averaged, locate
from dsp.target_model import TargetModel

CARRIER_HZ = 2.4e9
DELAY_STD, SINE_STD, DOPPLER_STD, OFFSET_STD = 40e-12, 0.003, 0.05, 4e-12
STATIONS = {
    "a": Station("a", np.array([0.0, 0.0]), np.deg2rad(40), transmit_m=np.array([0.03, -0.02])),
    "b": Station("b", np.array([30.0, 4.0]), np.deg2rad(140), transmit_m=np.array([30.0, 4.06])),
    "c": Station("c", np.array([12.0, 45.0]), np.deg2rad(-80)),
}


def delay_at(place, receiver, transmitter):
    legs = np.linalg.norm(place - STATIONS[receiver].position_m), np.linalg.norm(place - STATIONS[transmitter].source_m)
    return sum(legs) / SPEED_OF_LIGHT_MPS


def seen(rng, place, velocity, receiver, transmitter, time_s, *, offset_s=0.0, **changes):
    """One link's figures; the Doppler by a difference of the delay, not by its gradient."""
    there = place + velocity * time_s
    step_s = 1e-3
    closing = delay_at(there - velocity * step_s, receiver, transmitter) - delay_at(
        there + velocity * step_s, receiver, transmitter
    )
    way = there - STATIONS[receiver].position_m
    turned = np.arctan2(way[1], way[0]) - STATIONS[receiver].heading_rad
    measured = LinkMeasurement(
        receiver,
        transmitter,
        delay_at(there, receiver, transmitter) + offset_s + DELAY_STD * rng.standard_normal(),
        DELAY_STD,
        (float(np.sin(turned) + SINE_STD * rng.standard_normal()),),
        SINE_STD,
        doppler_hz=float(CARRIER_HZ * closing / (2 * step_s) + DOPPLER_STD * rng.standard_normal()),
        doppler_std_hz=DOPPLER_STD,
        carrier_hz=CARRIER_HZ,
        time_s=time_s,
        offset_std_s=OFFSET_STD,
    )
    return replace(measured, **changes)


def draw(rng):
    return np.array([rng.uniform(0, 30), rng.uniform(9, 32)]), rng.uniform(-8, 8, 2)


def pair_of(rng, place, velocity, first, second, middle_s=0.0):
    offset_s = OFFSET_STD * rng.standard_normal()
    return [
        seen(rng, place, velocity, first, second, middle_s - 0.026, offset_s=offset_s),
        seen(rng, place, velocity, second, first, middle_s + 0.026, offset_s=-offset_s),
    ]


def score(error, covariance):
    return float(error @ np.linalg.solve(covariance, error))


def test_one_pair_heard_one_after_the_other():
    rng = np.random.default_rng(1)
    scores, errors, squares, degrees = [], [], [], []
    for _ in range(120):
        place, velocity = draw(rng)
        (found,) = associate(pair_of(rng, place, velocity, "a", "b"), STATIONS)
        assert len(found.members) == 2
        if found.ambiguous:
            continue
        scores.append(score(found.position_m - place, found.covariance_m2))
        errors.append(np.linalg.norm(found.position_m - place))
        squares.append(found.chi2)
        degrees.append(found.degrees)
    assert len(scores) >= 114
    low, high = stats.chi2.ppf([0.001, 0.999], 2 * len(scores)) / len(scores)
    assert low < np.mean(scores) < high
    assert np.median(errors) < 0.08
    # the targets are slower than the prior allows for, which keeps chi-square below its degrees
    assert 0.5 * np.mean(degrees) < np.mean(squares) < 1.2 * np.mean(degrees)


def test_three_nodes_tell_the_velocity_too():
    rng = np.random.default_rng(2)
    places, velocities = [], []
    for _ in range(60):
        place, velocity = draw(rng)
        links = [
            measured
            for middle_s, (first, second) in zip((-0.1, 0.0, 0.1), (("a", "b"), ("b", "c"), ("c", "a")), strict=True)
            for measured in pair_of(rng, place, velocity, first, second, middle_s)
        ]
        found = associate(links, STATIONS)[0]
        assert len(found.members) == 6
        places.append(score(found.position_m - place, found.covariance_m2))
        velocities.append(score(found.velocity_mps - velocity, found.velocity_covariance))
        assert np.linalg.norm(found.velocity_mps - velocity) < 0.1
    low, high = stats.chi2.ppf([0.001, 0.999], 2 * 60) / 60
    assert low < np.mean(places) < high
    assert low < np.mean(velocities) < high


def test_two_movers_of_a_pair_are_told_apart_across_the_slots():
    rng = np.random.default_rng(3)
    for _ in range(10):
        one, other = (np.array([9.0, 20.0]), np.array([3.0, -7.0])), (np.array([21.0, 18.0]), np.array([-4.0, 6.0]))
        links = [link for target in (one, other) for link in pair_of(rng, *target, "a", "b")]
        found = associate([links[index] for index in (0, 3, 2, 1)], STATIONS)
        assert sorted(tuple(sorted(target.members)) for target in found) == [(0, 3), (1, 2)]


def test_an_offset_cancels_between_two_directions():
    rng = np.random.default_rng(4)
    place = np.array([12.0, 20.0])
    free = [replace(one, offset_std_s=1e-7) for one in pair_of(rng, place, np.zeros(2), "a", "b")]
    before = locate(free, STATIONS)
    after = locate(
        [replace(free[0], delay_s=free[0].delay_s + 1e-9), replace(free[1], delay_s=free[1].delay_s - 1e-9)], STATIONS
    )
    np.testing.assert_allclose(after.position_m, before.position_m, atol=1e-3)
    alone = locate([free[0]], STATIONS)
    assert np.trace(alone.covariance_m2) > 100 * np.trace(before.covariance_m2)


def test_still_targets_keep_the_bound_of_a_position_alone():
    """All at one instant and without Dopplers the velocity is free and says nothing."""
    rng = np.random.default_rng(5)
    links = [
        seen(rng, np.array([12.0, 20.0]), np.zeros(2), *link, 0.0, doppler_hz=None, offset_std_s=0.0)
        for link in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    found = locate(links, STATIONS)
    assert found.degrees == 4
    np.testing.assert_allclose(found.velocity_mps, 0.0, atol=1e-9)
    np.testing.assert_allclose(found.velocity_covariance, 900.0 * np.eye(2), rtol=1e-9)


def test_slopes_of_the_residuals_by_differences():
    rng = np.random.default_rng(6)
    place, velocity = draw(rng)
    links = [*pair_of(rng, place, velocity, "a", "b"), seen(rng, place, velocity, "c", "a", 0.08, sines=())]
    model = TargetModel(links, STATIONS)
    state = np.concatenate([place + 0.3, velocity - 0.5])
    values, slopes = model.residuals(state)
    assert values.shape == (11,)
    for column, step in enumerate(np.eye(4) * 1e-5):
        difference = (model.residuals(state - step)[0] - model.residuals(state + step)[0]) / 2e-5
        np.testing.assert_allclose(slopes[:, column], difference, rtol=1e-5, atol=1e-4)
    for dimension in (2, 3):
        point, receiver, transmitter = rng.uniform(-20, 20, (3, dimension))
        steps = np.eye(dimension) * 1e-5
        ahead, behind = (delay_gradient(point + sign * steps, transmitter, receiver) for sign in (1, -1))
        expected = (ahead - behind) / 2e-5
        curvature = delay_curvature(point, transmitter, receiver)
        np.testing.assert_allclose(curvature, expected, atol=1e-6 * np.max(np.abs(curvature)))


def test_average_of_nodes_alone_and_wrong_input():
    rng = np.random.default_rng(7)
    place, velocity = draw(rng)
    found = [locate([link], STATIONS) for link in pair_of(rng, place, velocity, "a", "b")]
    mean, covariance = averaged(found)
    np.testing.assert_allclose(mean, 0.5 * (found[0].position_m + found[1].position_m))
    np.testing.assert_allclose(covariance, 0.25 * (found[0].covariance_m2 + found[1].covariance_m2))
    with pytest.raises(ValueError, match="no position"):
        averaged([])
    (link, _) = pair_of(rng, place, velocity, "a", "b")
    with pytest.raises(ValueError, match="carrier"):
        locate([replace(link, carrier_hz=0.0)], STATIONS)
    with pytest.raises(ValueError, match="deviation"):
        locate([replace(link, doppler_std_hz=0.0)], STATIONS)
