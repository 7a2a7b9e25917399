"""Clocks of more than two nodes, and clocks over lost rounds (methods 3.6): closing and prediction at their bounds."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from itertools import combinations
from math import sqrt

import numpy as np

from dsp.channel import FloatArray
from dsp.clock_tracker import ClockTracker
from dsp.clocks import PairOffset, close
from dsp.moment import Moment
from dsp.oscillator import PowerLaw
from testbed.bench.rows import BenchRow, bias_row, rmse_row, share_row
from testbed.scenario import OSCILLATORS

__all__ = ["mesh_points", "prediction_points"]

NODES = (4, 6, 8)
PAIR_STD_S, PAIR_STD_DRIFT = 10e-12, 5e-12
_RATE_HZ = Fraction(20_000_000)

PROFILES = {"tcxo": 5e-12, "ocxo": 2e-12}
"""Deviation of a round's time offset, by the oscillators' preset."""
SPACING_S, ROUNDS, LOST = 1.0, 45, 5
_BLUNT = 1e-8
"""Deviation of the drift measured in each round, which then says next to nothing beside the offsets."""
_LOWEST_HZ, _HIGHEST_HZ = 1e-4, 60.0


def mesh_points(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """Every pair of N nodes measured once, and closed: a piece of work for each N."""
    return [partial(_mesh, trials, [seed, 0xE5, nodes], nodes) for nodes in NODES]


def prediction_points(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """The tracker through lost rounds beside the best linear predictor: a piece of work for each oscillator."""
    return [partial(_prediction, trials, [seed, 0xC1, number], name) for number, name in enumerate(PROFILES)]


def _mesh(trials: int, seed: list[int], nodes: int) -> list[BenchRow]:
    """Clocks of up to ±25 ppm and ±20 s, read in rationals: a double holds no picoseconds beside seconds."""
    generator = np.random.default_rng(seed)
    names = [f"n{number}" for number in range(nodes)]
    errors: list[float] = []
    left_out = 0
    for _ in range(trials):
        rates = {name: Fraction(float(generator.uniform(-25e-6, 25e-6))) for name in names}
        starts = {name: Fraction(float(generator.uniform(-20.0, 20.0))) for name in names}
        readings = {name: starts[name] + 5 * (1 + rates[name]) for name in names}
        pairs = []
        for first, second in combinations(names, 2):
            drift = float((rates[first] - rates[second]) / (1 + (rates[first] + rates[second]) / 2))
            pairs.append(
                PairOffset(
                    receiver=first,
                    transmitter=second,
                    to_s=float(readings[first] - readings[second]) + PAIR_STD_S * generator.standard_normal(),
                    to_std_s=PAIR_STD_S,
                    drift=drift + PAIR_STD_DRIFT * generator.standard_normal(),
                    drift_std=PAIR_STD_DRIFT,
                    epoch=_moment(first, readings[first]),
                )
            )
        closed = close(pairs, _moment(names[0], readings[names[0]]))
        left_out += bool(closed.left_out)
        errors += [
            closed.between(first, second)[0] - float(readings[first] - readings[second])
            for first, second in combinations(names, 2)
        ]
    variance = float(np.mean(np.square(errors)))
    bound = 2.0 * PAIR_STD_S**2 / nodes
    # pairs of one closing share its errors: only nodes - 1 of them are independent
    spread = variance * sqrt(2.0 / (trials * (nodes - 1)))
    made = [
        rmse_row("mesh", "closed", "to_rmse", "s", errors, sqrt(bound)),
        BenchRow(
            scenario="mesh", method="closed", metric="to_variance", unit="s²", value=variance, bound=bound,
            ratio=variance / bound, trials=trials, standard_error=spread,
        ),
        bias_row("mesh", "closed", "to_bias", "s", errors),
        share_row("mesh", "closed", "link_left_out", left_out, trials, 0.02),
    ]  # fmt: skip
    made[0].trials, made[0].standard_error = trials, spread / (2.0 * sqrt(variance))
    for row in made:
        row.parameters = {"nodes": nodes}
    return made


def _moment(name: str, reading: Fraction) -> Moment:
    ticks = reading * _RATE_HZ
    whole = ticks.numerator // ticks.denominator
    return Moment(name, whole, float(ticks - whole), _RATE_HZ)


def _prediction(trials: int, seed: list[int], name: str) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    preset, noise_std = OSCILLATORS[name], PROFILES[name]
    # of two such clocks' difference; white and flicker phase noise are the measurement's
    law = PowerLaw(2 * preset.random_walk_fm, 2 * preset.flicker_fm, 2 * preset.white_fm)
    times = SPACING_S * np.arange(ROUNDS + LOST + 1)
    covariance = _covariance(law, len(times))
    root = np.linalg.cholesky(covariance[1:, 1:] + 1e-12 * np.trace(covariance) / len(times) * np.eye(len(times) - 1))
    targets = range(ROUNDS, ROUNDS + LOST + 1)
    weights = {target: _best_weights(covariance, times, target, noise_std) for target in targets}
    filtered: dict[int, list[float]] = {target: [] for target in targets}
    ideal: dict[int, list[float]] = {target: [] for target in targets}
    scores: dict[int, list[float]] = {target: [] for target in targets}
    innovations: list[float] = []
    for _ in range(trials):
        wander = np.concatenate([[0.0], root @ generator.standard_normal(len(root))])
        truth = wander + generator.uniform(-1e-3, 1e-3) + generator.uniform(-2e-5, 2e-5) * times
        measured = truth + noise_std * generator.standard_normal(len(times))
        slope = float(np.polyfit(times[:2], truth[:2], 1)[0])
        tracker = ClockTracker(law, shortest_s=0.3, longest_s=100.0)
        for number in range(ROUNDS):
            drift = slope + _BLUNT * generator.standard_normal()
            said = tracker.update(times[number], measured[number], noise_std, drift=drift, drift_std=_BLUNT)
            if said is not None and number >= 3:  # offset and drift are known
                innovations.append(said.nis / said.degrees)
        for target in targets:
            predicted = tracker.predict(times[target])
            filtered[target].append(predicted.offset_s - truth[target])
            scores[target].append(filtered[target][-1] / predicted.offset_std_s)
            ideal[target].append(float(weights[target] @ measured[:ROUNDS]) - truth[target])
    made = []
    for target in targets:
        best_s = float(np.sqrt(np.mean(np.square(ideal[target]))))
        parameters = {"oscillator": name, "rounds_ahead": target - ROUNDS + 1}
        point = [
            rmse_row("clock-prediction", "tracker", "to_rmse", "s", filtered[target], best_s),
            rmse_row("clock-prediction", "gaussian process", "to_rmse", "s", ideal[target], best_s),
            bias_row("clock-prediction", "tracker", "to_bias", "s", filtered[target]),
            _mean_row("to_normalised_error_squared", np.square(scores[target])),
        ]
        for row in point:
            row.parameters = parameters
        made += point
    made.append(_mean_row("nis_per_degree", np.array(innovations)))
    made[-1].parameters = {"oscillator": name}
    return made


def _mean_row(metric: str, scores: FloatArray) -> BenchRow:
    value = float(scores.mean())
    return BenchRow(
        scenario="clock-prediction", method="tracker", metric=metric, unit="1", value=value, bound=1.0, ratio=value,
        trials=scores.size, standard_error=float(scores.std()) / sqrt(scores.size),
    )  # fmt: skip


def _covariance(law: PowerLaw, count: int) -> FloatArray:
    """Of x(t) - x(0) between all pairs of rounds, by integration of the spectrum."""
    frequency = np.concatenate([np.geomspace(_LOWEST_HZ, 2e-3, 4000)[:-1], np.arange(2e-3, _HIGHEST_HZ, 5e-4)])
    spectrum = law.time_error(frequency)
    growth = np.array(
        [
            np.trapezoid(2.0 * spectrum * (1.0 - np.cos(2.0 * np.pi * frequency * lag * SPACING_S)), frequency)
            for lag in range(count)
        ]
    )
    index = np.arange(count)
    return np.asarray(0.5 * (growth[:, None] + growth[None, :] - growth[np.abs(index[:, None] - index[None, :])]))


def _best_weights(covariance: FloatArray, times: FloatArray, target: int, noise_std: float) -> FloatArray:
    """Best linear unbiased predictor from the first rounds, offset and frequency unknown: weights on the rounds."""
    trend = np.stack([np.ones(ROUNDS), times[:ROUNDS] / times[-1]], axis=1)
    scale = noise_std**2
    system = np.block([
        [covariance[:ROUNDS, :ROUNDS] / scale + np.eye(ROUNDS), trend],
        [trend.T, np.zeros((2, 2))],
    ])  # fmt: skip
    right = np.concatenate([covariance[:ROUNDS, target] / scale, [1.0, times[target] / times[-1]]])
    return np.asarray(np.linalg.solve(system, right)[:ROUNDS])
