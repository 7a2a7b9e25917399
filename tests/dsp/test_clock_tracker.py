"""Prediction against the Gaussian-process predictor of the same spectrum, and innovations against chi-square."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from dsp.clock_tracker import ClockMeasurement, ClockTracker, smoothed
from dsp.oscillator import PowerLaw

TCXO = PowerLaw(random_walk_fm=5.22e-23, flicker_fm=3.34e-22, white_fm=7.62e-24)
OCXO = PowerLaw(random_walk_fm=8.86e-25, flicker_fm=2.99e-24, white_fm=7.91e-26)
SPACING_S, ROUNDS, LOST = 1.0, 45, 5
BLUNT = 1e-8
"""Deviation of a drift measurement that says next to nothing beside the offsets."""


def structure(law, lags, low_hz=1e-4, high_hz=60.0):
    """Mean square growth of the time error over each lag, by integration of the spectrum: 2·∫ S_x (1 - cos)."""
    frequency = np.concatenate([np.geomspace(low_hz, 2e-3, 4000)[:-1], np.arange(2e-3, high_hz, 5e-4)])
    spectrum = law.time_error(frequency)
    return np.array([np.trapezoid(2 * spectrum * (1 - np.cos(2 * np.pi * frequency * lag)), frequency) for lag in lags])


def covariance(law, times):
    """Of x(t) - x(0) between all pairs of ``times``."""
    growth = structure(law, np.arange(len(times)) * SPACING_S)
    index = np.round(np.asarray(times) / SPACING_S).astype(int)
    return 0.5 * (growth[index][:, None] + growth[index][None, :] - growth[np.abs(index[:, None] - index[None, :])])


def kriging_weights(known, times, target, noise_std):
    """Best linear unbiased predictor with unknown offset and frequency: weights on the measurements."""
    trend = np.stack([np.ones(len(known)), times[known] / times[-1]], axis=1)
    return lambda cov: np.linalg.solve(
        np.block([
            [(cov[np.ix_(known, known)] + noise_std**2 * np.eye(len(known))) / noise_std**2, trend],
            [trend.T, np.zeros((2, 2))],
        ]),
        np.concatenate([cov[known, target] / noise_std**2, [1.0, times[target] / times[-1]]]),
    )[: len(known)]  # fmt: skip


@pytest.mark.parametrize(("law", "noise_std"), [(TCXO, 5e-12), (OCXO, 2e-12)])
def test_prediction_through_lost_rounds_and_innovations(law, noise_std):
    rng = np.random.default_rng(11)
    times = SPACING_S * np.arange(ROUNDS + LOST + 1)
    cov = covariance(law, times)
    root = np.linalg.cholesky(cov[1:, 1:] + 1e-12 * np.trace(cov) / len(cov) * np.eye(len(cov) - 1))
    known = np.arange(ROUNDS)
    targets = np.arange(ROUNDS, ROUNDS + LOST + 1)
    weights = [kriging_weights(known, times, target, noise_std)(cov) for target in targets]
    filtered, ideal, nis, scores = [], [], [], []
    for _ in range(120):
        wander = np.concatenate([[0.0], root @ rng.standard_normal(len(root))])
        truth = wander + rng.uniform(-1e-3, 1e-3) + rng.uniform(-2e-5, 2e-5) * times
        measured = truth + noise_std * rng.standard_normal(len(times))
        slope = float(np.polyfit(times[:2], truth[:2], 1)[0])
        tracker = ClockTracker(law, shortest_s=0.3, longest_s=100.0)
        for index in known:
            drift = slope + BLUNT * rng.standard_normal()
            said = tracker.update(times[index], measured[index], noise_std, drift=drift, drift_std=BLUNT)
            if index >= 3:
                nis.append(said.nis)
        for target, weight in zip(targets, weights, strict=True):
            predicted = tracker.predict(times[target])
            filtered.append(predicted.offset_s - truth[target])
            scores.append(filtered[-1] / predicted.offset_std_s)
            ideal.append(weight @ measured[known] - truth[target])
    ratio = np.sqrt(np.mean(np.square(filtered)) / np.mean(np.square(ideal)))
    assert ratio <= 1.2
    low, high = stats.chi2.ppf([0.001, 0.999], 2 * len(nis)) / len(nis)
    assert low < np.mean(nis) < high
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=0.35)


def test_smoother_is_the_best_linear_estimate_between_and_before_measurements():
    rng = np.random.default_rng(12)
    noise_std = 5e-12
    times = SPACING_S * np.arange(31)
    cov = covariance(TCXO, times)
    root = np.linalg.cholesky(cov[1:, 1:] + 1e-12 * np.trace(cov) / len(cov) * np.eye(len(cov) - 1))
    targets = np.array([0, 1, 14, 15, 16, 17, 18])
    known = np.setdiff1d(np.arange(len(times)), targets)
    weights = [kriging_weights(known, times, target, noise_std)(cov) for target in targets]
    ours, ideal, scores = [], [], []
    for _ in range(40):
        wander = np.concatenate([[0.0], root @ rng.standard_normal(len(root))])
        truth = wander + rng.uniform(-1e-3, 1e-3) + rng.uniform(-2e-5, 2e-5) * times
        measured = truth + noise_std * rng.standard_normal(len(times))
        slope = float(np.polyfit(times[:2], truth[:2], 1)[0])
        taken = [
            ClockMeasurement(t, x, slope + BLUNT * rng.standard_normal(), np.diag([noise_std**2, BLUNT**2]))
            for t, x in zip(times[known], measured[known], strict=True)
        ]
        said = smoothed(taken, times[targets], TCXO, shortest_s=0.3, longest_s=100.0)
        for one, target, weight in zip(said, targets, weights, strict=True):
            ours.append(one.offset_s - truth[target])
            scores.append(ours[-1] / one.offset_std_s)
            ideal.append(weight @ measured[known] - truth[target])
    assert np.sqrt(np.mean(np.square(ours)) / np.mean(np.square(ideal))) < 1.03
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=0.35)
    with pytest.raises(ValueError, match="nothing was measured"):
        smoothed([], [0.0], TCXO, shortest_s=0.3, longest_s=100.0)


def test_errors_of_offset_and_drift_may_go_together():
    """An offset carried on by its own drift, with the correlation that gives it, says what it said at its own time."""
    plain, carried = (ClockTracker(PowerLaw(), shortest_s=0.3, longest_s=100.0) for _ in range(2))
    later_s = 0.4
    plain.update(0.0, 1e-6, 3e-12, drift=2e-6, drift_std=1e-11)
    cross = later_s * 1e-11**2
    offset_std_s = np.hypot(3e-12, later_s * 1e-11)
    carried.update(
        later_s, 1e-6 + later_s * 2e-6, offset_std_s, drift=2e-6, drift_std=1e-11,
        correlation=cross / (offset_std_s * 1e-11),
    )  # fmt: skip
    assert astuple(carried.predict(3.0))[:4] == pytest.approx(astuple(plain.predict(3.0))[:4], rel=1e-9)
    for tracker, time_s in ((plain, 3.0), (carried, 3.0)):
        tracker.update(time_s, 7e-6, offset_std_s, drift=2e-6, drift_std=1e-11, correlation=0.5)
    assert astuple(carried.predict(4.0))[:4] == pytest.approx(astuple(plain.predict(4.0))[:4], rel=1e-6)


def test_growth_since_a_mark():
    """Without oscillator noise the growth is the drift's, and known better than either offset."""
    tracker = ClockTracker(PowerLaw(), shortest_s=0.3, longest_s=100.0)
    tracker.update(0.0, 0.0, 5e-12, drift=1e-6, drift_std=1e-13)
    mark = tracker.mark(0.0)
    tracker.update(2.0, 2e-6, 5e-12, drift=1e-6, drift_std=1e-13)
    growth_s, std_s = tracker.growth(mark)
    assert growth_s == pytest.approx(2e-6, rel=1e-9)
    # two drift measurements of 1e-13 over 2 s, and the difference of two offsets of 5 ps
    weight = 1 / (2 * 1e-13 / np.sqrt(2)) ** 2 + 1 / (2 * 5e-12**2)
    assert std_s == pytest.approx(weight**-0.5, rel=1e-6)
    tracker.forget()
    with pytest.raises(IndexError):
        tracker.growth(mark)


def test_one_step_over_a_gap_equals_many():
    """What the model says of a long step is what it says of the short ones that make it up."""
    coarse, fine = (ClockTracker(TCXO, shortest_s=0.1, longest_s=100.0, aging_std=1e-9) for _ in range(2))
    for tracker in (coarse, fine):
        tracker.update(0.0, 1e-3, 3e-12, drift=1e-6, drift_std=1e-11)
    for index in range(1, 41):
        fine._mean, fine._covariance = fine._propagated(0.25 * index)
        fine._time_s = 0.25 * index
    assert astuple(fine.predict(10.0))[:4] == pytest.approx(astuple(coarse.predict(10.0))[:4], rel=1e-9)


@pytest.mark.parametrize("only", ["white_fm", "random_walk_fm", "flicker_fm"])
def test_uncertainty_grows_as_the_spectrum_says(only):
    """Deviation of x(t+2T) - 2x(t+T) + x(t) against the integral over the spectrum, each noise alone."""
    law = PowerLaw(**{only: 1e-22})
    frequency = np.geomspace(1e-5, 1e4, 2_000_000)
    for step in (0.5, 2.0, 10.0):
        response = (2 * np.sin(np.pi * frequency * step)) ** 4
        expected = np.trapezoid(law.time_error(frequency) * response, frequency)
        tracker = ClockTracker(law, shortest_s=0.05, longest_s=1000.0)
        moves, noises = zip(*(_transition_of(tracker, step) for _ in range(2)), strict=True)
        size = len(tracker._mean)
        start = np.zeros((size, size))
        start[3:, 3:] = tracker._variance * np.eye(size - 3)
        first = np.eye(size)
        pick = np.eye(size)[0]
        # second difference as a linear map of the state before and the noise of both steps
        through = pick @ moves[1] - 2 * pick
        gain = through @ moves[0] + pick @ first
        variance = gain @ start @ gain + through @ noises[0] @ through + pick @ noises[1] @ pick
        assert variance == pytest.approx(expected, rel=0.03)


def _transition_of(tracker, step):
    from dsp.clock_tracker import _transition

    return _transition(tracker._law, tracker._constants_s, tracker._variance, step)


def test_wrong_input():
    with pytest.raises(ValueError, match="empty"):
        ClockTracker(TCXO, shortest_s=1.0, longest_s=1.0)
    with pytest.raises(ValueError, match="negative"):
        ClockTracker(TCXO, shortest_s=1.0, longest_s=10.0, aging_std=-1.0)
    tracker = ClockTracker(TCXO, shortest_s=1.0, longest_s=10.0)
    with pytest.raises(ValueError, match="nothing was measured"):
        tracker.predict(1.0)
    with pytest.raises(ValueError, match="deviation"):
        tracker.update(0.0, 0.0, 0.0, drift=0.0, drift_std=1.0)
    tracker.update(1.0, 0.0, 1e-12, drift=0.0, drift_std=1e-9)
    with pytest.raises(ValueError, match="backwards"):
        tracker.predict(0.5)
