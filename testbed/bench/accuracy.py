"""`isac bench accuracy`: every figure that a claim rests on, measured against its bound."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from math import hypot
from multiprocessing import get_context
from typing import Any

import numpy as np

from dsp.bounds.link import product_factor, two_way_cfo_std_hz, two_way_to_std_s
from dsp.synchronization.base import Method, Need
from testbed.bench import (
    demo_mover,
    deviations,
    plan_against_run,
    reference_localization,
    setting_c,
    simulated_plutos,
)
from testbed.bench.rows import BenchRow, rmse_row, share_row
from testbed.methods import usable_with
from testbed.processes import ONE_THREAD
from testbed.results import LinkRow

__all__ = ["BENCHES", "run_bench"]

Progress = Callable[[int, str], None]
_METHODS = ("reciprocity-mle", "reciprocity-mp")
_PAIR_INPUTS = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})
"""What two nodes of one antenna each, that hear each other, can give a user's method."""
_VALID_GOAL = 0.95
_COVERED_GOAL = 0.9
"""Share of errors within two stated deviations that the goal asks for, where a mover is unresolved."""


def _users_methods(inputs: frozenset[Need]) -> dict[str, Method]:
    """Users' methods that can do with the ``inputs`` of a bench; a line on the standard error for each broken one."""
    usable, broken = usable_with(inputs)
    for line in broken:
        print(f"isac: {line}", file=sys.stderr)
    return usable


def _setting_c(name: str, trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    variant = setting_c.VARIANTS[name]
    methods = (*_METHODS, *_users_methods(_PAIR_INPUTS))
    work = partial(setting_c.run_trial, variant, methods=methods)
    done = _spread(work, range(seed, seed + trials), workers, progress, name)
    rows: list[BenchRow] = []
    for method in methods:
        links = [row for trial in done for row in trial.rows if row.method == method]
        rows += _link_rows(variant, method, links)
        if variant.name == "c-fraction" and method == _METHODS[0]:
            rows.append(_fraction_bias(done, method))
    return rows


def _deviations(trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    """Honesty of the stated deviations: ``trials`` rounds for each number of frames, ten to a world."""
    worlds = -(-trials // deviations.ROUNDS)
    made: list[BenchRow] = []
    for frames in deviations.FRAMES:
        work = partial(deviations.run_world, frames, min(trials, deviations.ROUNDS))
        done = _spread(work, range(seed, seed + worlds), workers, progress, f"deviations, {frames} frames")
        made += deviations.rows(frames, [row for world in done for row in world])
    return made


def _link_rows(variant: setting_c.Variant, method: str, links: Sequence[LinkRow]) -> list[BenchRow]:
    name = variant.name
    valid = [row for row in links if row.valid and row.to_error_s is not None and row.cfo_error_hz is not None]
    errors = [row.to_error_s or 0.0 for row in valid]
    snr = 10 ** (variant.snr_db / 10)
    factor = product_factor(snr)
    bound_s = two_way_to_std_s(800, variant.rate_hz / 1024, variant.symbols, snr) * factor
    bound_hz = two_way_cfo_std_hz(800, variant.symbols, 1152 / variant.rate_hz, snr) * factor
    if variant.noise and valid:
        # What quantisation leaves of the SNR, clocks and synthesizers are in the deviation that each row states.
        plain = [row for row in valid if not row.reason] or valid
        bound_s = float(np.sqrt(np.median([(row.to_std_s or 0.0) ** 2 for row in plain])))
        bound_hz = float(np.sqrt(np.median([(row.cfo_std_hz or 0.0) ** 2 for row in plain])))
    mean = BenchRow(
        scenario=name,
        method=method,
        metric="to_bias",
        unit="s",
        value=float(np.mean(errors)) if errors else None,
        trials=len(errors),
        standard_error=float(np.std(errors) / np.sqrt(len(errors))) if errors else None,
    )
    covered = sum(abs(row.to_error_s or 0.0) <= 2 * (row.to_std_s or 0.0) for row in valid)
    made = [
        rmse_row(name, method, "to_rmse", "s", errors, bound_s),
        rmse_row(name, method, "cfo_rmse", "Hz", [row.cfo_error_hz or 0.0 for row in valid], bound_hz),
        mean,
        share_row(name, method, "covered_by_two_deviations", covered, len(valid), _COVERED_GOAL),
        share_row(name, method, "valid_share", len(valid), len(links), _VALID_GOAL),
    ]
    for row in made:
        row.parameters = {"snr_db": variant.snr_db}
    return made


def _fraction_bias(done: Sequence[setting_c.Trial], method: str) -> BenchRow:
    """First harmonic of the error over the fraction of a sample, against the RMSE at 20 dB."""
    pairs = [
        (trial.fraction, row.to_error_s)
        for trial in done
        for row in trial.rows
        if row.method == method and row.valid and row.to_error_s is not None
    ]
    fractions, errors = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    turns = np.stack([np.cos(2 * np.pi * fractions), np.sin(2 * np.pi * fractions)], axis=1)
    harmonic = np.linalg.lstsq(turns, errors, rcond=None)[0]
    rmse_20_db = two_way_to_std_s(800, 20e6 / 1024, 128, 100.0)
    return BenchRow(
        scenario="c-fraction",
        method=method,
        parameters={"snr_db": 60},
        metric="to_bias_over_fraction",
        unit="s",
        value=hypot(*harmonic),
        bound=0.1 * rmse_20_db,
        ratio=hypot(*harmonic) / (0.1 * rmse_20_db),
        trials=len(pairs),
        standard_error=float(np.std(errors) * np.sqrt(2 / len(pairs))),
    )


def _reference(module: str, trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    """A family's reference scenario of docs/methods, on channel state alone."""
    rows: list[BenchRow] = import_module(f"testbed.bench.reference_{module}").rows(trials, seed)
    return rows


def _points(
    module: str, function: str, trials: int, seed: int, workers: int, progress: Progress, **settings: Any
) -> list[BenchRow]:
    """The same where the module splits its work by points, which the processes share."""
    work = getattr(import_module(f"testbed.bench.{module}"), function)(trials, seed, **settings)
    done = _spread(_call, work, workers, progress, module.removeprefix("reference_").replace("_", "-"), trials)
    return [row for rows in done for row in rows]


def _call(work: Callable[[], Any]) -> Any:
    return work()


def _demo_mover(trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    done = _spread(demo_mover.run_trial, range(seed, seed + trials), workers, progress, "demo-mover")
    found = [one for one in done if one.found]
    return [
        share_row("demo-mover", None, "found_share", len(found), len(done), _VALID_GOAL),
        rmse_row("demo-mover", None, "range_error_cells", "1", [e for one in found for e in one.range_cells], 0.1),
        rmse_row("demo-mover", None, "doppler_error_cells", "1", [e for one in found for e in one.doppler_cells], 0.1),
        BenchRow(
            scenario="demo-mover",
            metric="ghosts_per_map",
            unit="1",
            value=float(np.mean([one.ghosts for one in done])),
            trials=len(done),
        ),
    ]


def _localization_mover(trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    work = reference_localization.mover_trial
    done = _spread(work, range(seed, seed + trials), workers, progress, "localization-mover")
    return reference_localization.mover_rows(done)


def _pluto(trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    work = simulated_plutos.points(trials, seed)
    done = _spread(_call, work, workers, progress, "pluto", simulated_plutos.ROUNDS)
    return simulated_plutos.rows([row for rows in done for row in rows])


def _plan(trials: int, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    done = _spread(plan_against_run.plan_trial, range(seed, seed + trials), workers, progress, "plan")
    return plan_against_run.rows(done)


def _spread(
    work: Callable[[Any], Any], items: Sequence[Any], workers: int, progress: Progress, name: str, each: int = 1
) -> list[Any]:
    """Results of ``work`` for every item, on ``workers`` processes of one thread each; an item counts ``each``."""
    for variable, value in ONE_THREAD.items():
        os.environ.setdefault(variable, value)
    if workers == 1:
        return [_told(progress, number * each, name, work(item)) for number, item in enumerate(items, start=1)]
    done = []
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
        for result in pool.map(work, items, chunksize=1):
            done.append(result)
            progress(len(done) * each, name)
    return done


def _told(progress: Progress, done: int, name: str, result: Any) -> Any:
    progress(done, name)
    return result


_CHAIN_TRIALS = {"half-duplex-40mhz": 400}
_MLE_ONLY: dict[str, Any] = {
    "methods": ("reciprocity-mle",),
    "snr_db": (0.0, 10.0, 20.0, 30.0),
    "scenario": "r-a-cells",
}

BENCHES: dict[str, tuple[int, Callable[[int, int, int, Progress], list[BenchRow]]]] = {
    "r-a": (400, partial(_points, "reference_ra", "points")),
    "r-a-cells": (800, partial(_points, "reference_ra", "points", **_MLE_ONLY)),
    "structured": (400, partial(_points, "reference_structured", "points")),
    "separate-ports": (400, partial(_points, "reference_structured", "separate_points")),
    "wide-band": (400, partial(_points, "reference_structured", "wide_points")),
    "auto": (400, partial(_points, "reference_structured", "auto_points")),
    "cacc": (400, partial(_points, "reference_cacc", "points")),
    "csi-ratio": (400, partial(_points, "reference_csi_ratio", "points")),
    "path-resolved": (400, partial(_points, "reference_path_resolved", "points")),
    "fingerprint": (400, partial(_points, "reference_fingerprint", "points")),
    "cooperation": (400, partial(_points, "reference_cooperation", "points")),
    "aoa": (400, partial(_points, "reference_angle", "points")),
    "mesh": (400, partial(_points, "reference_clocks", "mesh_points")),
    "clock-prediction": (400, partial(_points, "reference_clocks", "prediction_points")),
    "localization": (400, partial(_reference, "localization")),
    "contract": (400, partial(_points, "contract", "points")),
    "applicability": (400, partial(_points, "applicability", "points")),
    "survey-5": (200, partial(_points, "survey_fingerprint", "points_5")),
    "survey-6": (400, partial(_points, "survey_fingerprint", "points_6")),
    "survey-7": (100, partial(_points, "survey_reciprocity", "points_7")),
    "survey-8": (400, partial(_points, "survey_localization", "points_8")),
    **{name: (_CHAIN_TRIALS.get(name, 300), partial(_setting_c, name)) for name in setting_c.VARIANTS},
    "localization-mover": (200, _localization_mover),
    "demo-mover": (100, _demo_mover),
    "deviations": (120, _deviations),
    "plan": (400, _plan),
    "pluto": (320, _pluto),
}
"""Trials by default, and the bench, by name."""


def run_bench(name: str, *, trials: int | None, seed: int, workers: int, progress: Progress) -> list[BenchRow]:
    """Rows of the bench called ``name``.

    Parameters
    ----------
    trials : int, optional
        Independent experiments; the bench's own number if not given.
    seed : int
        Of the first trial; the others follow.
    workers : int
        Processes.
    progress : callable
        Takes the number of trials done and what is measured.
    """
    usual, bench = BENCHES[name]
    return bench(usual if trials is None else trials, seed, workers, progress)
