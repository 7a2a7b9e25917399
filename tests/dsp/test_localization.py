"""Positions against a dense search of the likelihood, chi-square of the errors, ambiguity and association."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.localization import (
    angle_bound_two_antennas,
    delay_gradient,
    position_bound,
    position_information,
    sine_gradient,
)
from dsp.localization import LinkMeasurement, Station, associate, locate

DELAY_STD, SINE_STD = 1e-9, 0.02
PAIR = {
    "a": Station("a", np.array([0.0, 0.0]), np.deg2rad(30)),
    "b": Station("b", np.array([40.0, 0.0]), np.deg2rad(140)),
}
SQUARE = {
    **PAIR,
    "c": Station("c", np.array([40.0, 40.0]), np.deg2rad(-130)),
    "d": Station("d", np.array([0.0, 40.0]), np.deg2rad(-45)),
}


def measure(rng, place, receiver, transmitter, stations, *, angle=True, delay_std=DELAY_STD, sine_std=SINE_STD):
    """One link's figures: delay of the whole path; sine of the angle from broadside, positive to heading's left."""
    at, source = stations[receiver].position_m, stations[transmitter].position_m
    delay = (np.linalg.norm(place - at) + np.linalg.norm(place - source)) / SPEED_OF_LIGHT_MPS
    flat = (place - at)[:2]
    turned = np.arctan2(flat[1], flat[0]) - stations[receiver].heading_rad
    sine = np.sin(turned) * np.linalg.norm(flat) / np.linalg.norm(place - at)
    return LinkMeasurement(
        receiver,
        transmitter,
        delay + delay_std * rng.standard_normal(),
        delay_std,
        (float(sine + sine_std * rng.standard_normal()),) if angle else (),
        sine_std,
    )


def both(rng, place, stations=PAIR, **kwargs):
    return [measure(rng, place, "a", "b", stations, **kwargs), measure(rng, place, "b", "a", stations, **kwargs)]


def test_errors_of_two_links_follow_their_covariance():
    rng = np.random.default_rng(1)
    scores, errors = [], []
    for _ in range(250):
        place = np.array([rng.uniform(5, 35), rng.uniform(6, 40)])
        found = locate(both(rng, place), PAIR)
        error = found.position_m - place
        scores.append(error @ np.linalg.solve(found.covariance_m2, error))
        errors.append(error / np.sqrt(np.diag(found.covariance_m2)))
        assert found.degrees == 2
    low, high = stats.chi2.ppf([0.001, 0.999], 2 * len(scores)) / len(scores)
    assert low < np.mean(scores) < high
    assert np.all(np.abs(np.mean(errors, axis=0)) < 4 / np.sqrt(len(scores)))


def test_minimum_is_the_one_a_dense_search_finds():
    rng = np.random.default_rng(2)
    x, y = np.meshgrid(np.arange(-60, 100, 0.25), np.arange(-60, 60, 0.25), indexing="ij")
    for _ in range(12):
        place = np.array([rng.uniform(-20, 60), rng.uniform(-30, 40)])
        measured = both(rng, place)
        cost = np.zeros_like(x)
        for one in measured:
            at, source = PAIR[one.receiver].position_m, PAIR[one.transmitter].position_m
            near = np.hypot(x - at[0], y - at[1])
            path = (near + np.hypot(x - source[0], y - source[1])) / SPEED_OF_LIGHT_MPS
            sine = np.sin(np.arctan2(y - at[1], x - at[0]) - PAIR[one.receiver].heading_rad)
            cost += ((one.delay_s - path) / one.delay_std_s) ** 2 + ((one.sines[0] - sine) / one.sine_std) ** 2
        best = np.unravel_index(np.argmin(cost), cost.shape)
        found = locate(measured, PAIR)
        assert found.chi2 <= cost[best] + 1e-6
        candidates = [found.position_m, *found.alternatives_m]
        grid = np.array([x[best], y[best]])
        assert min(np.linalg.norm(grid - place) for place in candidates) < 0.6


def test_a_lone_array_keeps_its_mirror_and_a_second_link_removes_it():
    rng = np.random.default_rng(3)
    place = np.array([15.0, 25.0])
    alone = locate([measure(rng, place, "a", "b", PAIR)], PAIR)
    assert alone.ambiguous
    assert min(np.linalg.norm(other - place) for other in (alone.position_m, *alone.alternatives_m)) < 3.0
    assert not locate(both(rng, place), PAIR).ambiguous


def test_arrays_along_the_baseline_stay_ambiguous():
    """Both arrays lie on the line between the nodes: the whole geometry is its own mirror image."""
    rng = np.random.default_rng(4)
    lying = {
        "a": Station("a", np.array([0.0, 0.0]), np.deg2rad(90)),
        "b": Station("b", np.array([40.0, 0.0]), np.deg2rad(90)),
    }
    found = locate(both(rng, np.array([15.0, 25.0]), lying), lying)
    assert found.ambiguous
    assert found.alternatives_m[0][1] == pytest.approx(-found.position_m[1], abs=1e-3)


def test_ellipses_alone_locate_with_three_pairs():
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(40):
        place = np.array([rng.uniform(5, 35), rng.uniform(5, 35)])
        links = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("c", "d"), ("b", "d")]
        found = locate([measure(rng, place, *link, SQUARE, angle=False) for link in links], SQUARE)
        assert not found.ambiguous
        error = found.position_m - place
        scores.append(error @ np.linalg.solve(found.covariance_m2, error))
    low, high = stats.chi2.ppf([0.001, 0.999], 2 * len(scores)) / len(scores)
    assert low < np.mean(scores) < high


def test_three_dimensions_where_heights_differ():
    rng = np.random.default_rng(6)
    heights = {"a": 2.0, "b": 9.0, "c": 3.0, "d": 14.0}
    raised = {
        name: replace(station, position_m=np.append(station.position_m, heights[name]))
        for name, station in SQUARE.items()
    }
    scores = []
    for _ in range(15):
        place = np.array([rng.uniform(5, 35), rng.uniform(5, 35), rng.uniform(20, 30)])
        links = [("a", "b"), ("c", "a"), ("b", "c"), ("d", "a"), ("c", "d"), ("d", "b")]
        found = locate([measure(rng, place, *link, raised, delay_std=0.2e-9) for link in links], raised)
        every = [found.position_m, *found.alternatives_m]
        error = min((point - place for point in every), key=np.linalg.norm)
        scores.append(error @ np.linalg.solve(found.covariance_m2, error))
    assert np.mean(scores) < stats.chi2.ppf(0.999, 3 * len(scores)) / len(scores)


def test_targets_of_several_links_are_told_apart():
    rng = np.random.default_rng(7)
    right = 0
    for _ in range(15):
        places = [np.array([8.0, 22.0]), np.array([27.0, 14.0]), np.array([20.0, 36.0])]
        measured, owner = [], []
        for receiver, transmitter in (("a", "b"), ("b", "a"), ("c", "a"), ("a", "c")):
            for index in rng.permutation(3):
                measured.append(measure(rng, places[index], receiver, transmitter, SQUARE, sine_std=0.01))
                owner.append(int(index))
        found = associate(measured, SQUARE)
        groups = {tuple(sorted({owner[member] for member in target.members})) for target in found[:3]}
        right += groups == {(0,), (1,), (2,)} and all(len(target.members) == 4 for target in found[:3])
    assert right >= 14


def test_doppler_keeps_unlike_targets_of_one_pair_apart():
    rng = np.random.default_rng(8)
    first = both(rng, np.array([15.0, 25.0]))
    moving = [
        replace(first[0], doppler_hz=80.0, doppler_std_hz=0.5, carrier_hz=2.4e9),
        replace(first[1], doppler_hz=-60.0, doppler_std_hz=0.5, carrier_hz=2.4e9),
    ]
    assert all(len(target.members) == 1 for target in associate(moving, PAIR))
    same = [replace(one, doppler_hz=80.0, doppler_std_hz=0.5, carrier_hz=2.4e9) for one in first]
    (target,) = associate(same, PAIR)
    assert target.members == (0, 1) or target.members == (1, 0)


def test_too_little_or_wrong_input():
    rng = np.random.default_rng(9)
    place = np.array([15.0, 25.0])
    bare = measure(rng, place, "a", "b", PAIR, angle=False)
    assert locate([bare], PAIR) is None
    with pytest.raises(ValueError, match="'z'"):
        locate([replace(bare, receiver="z"), bare], PAIR)
    with pytest.raises(ValueError, match="deviation"):
        locate([replace(bare, delay_std_s=0.0), bare], PAIR)
    assert associate([], PAIR) == []


def test_gradients_by_differences_and_bounds():
    rng = np.random.default_rng(10)
    for dimension in (2, 3):
        place, receiver, transmitter = rng.uniform(-20, 20, (3, dimension))
        axis = rng.standard_normal(dimension)
        axis /= np.linalg.norm(axis)

        def delay(point, receiver=receiver, transmitter=transmitter):
            return (np.linalg.norm(point - receiver) + np.linalg.norm(point - transmitter)) / SPEED_OF_LIGHT_MPS

        def sine(point, receiver=receiver, axis=axis):
            return axis @ (point - receiver) / np.linalg.norm(point - receiver)

        step = 1e-5 * np.eye(dimension)
        for function, gradient in (
            (delay, delay_gradient(place, transmitter, receiver)),
            (sine, sine_gradient(place, receiver, axis)),
        ):
            expected = [(function(place + one) - function(place - one)) / 2e-5 for one in step]
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-8 * np.max(np.abs(expected)))
    information = position_information(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.1, 0.2]))
    assert position_bound(information) == pytest.approx(np.sqrt(0.02))
    assert position_bound(np.diag([1.0, 0.0])) == np.inf
    assert np.rad2deg(angle_bound_two_antennas(1e3, 0.0)) == pytest.approx(0.58, abs=0.01)
