"""A run held against its plan: each figure beside what was predicted, and which differ beyond the trials' chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, sqrt

from scipy.special import chdtr

from testbed.planning.plan import Plan, target_error_m
from testbed.report.run_data import RunData
from testbed.report.summary import RunSummary, Spread
from testbed.schedule import run_s

__all__ = ["PlanFigure", "against_plan"]

_CHANCE = 0.01
"""Of a run's figure lying outside its band although the plan is right."""
_LEVEL_DB = 1.0
"""What an error vector may differ from the planned SNR: fading by reflectors' random phases is not in the plan."""


@dataclass(frozen=True)
class PlanFigure:
    """One figure, planned and run."""

    name: str
    method: str
    unit: str
    planned: float
    run: float
    trials: int
    verdict: str
    """"as planned", "better than planned" or "worse than planned"."""

    @property
    def ratio(self) -> float:
        """Run over planned."""
        return self.run / self.planned


def against_plan(plan: Plan, run: RunData, summary: RunSummary) -> list[PlanFigure]:
    """Every figure of the run that the plan predicts.

    Root mean square errors are judged by the chi-square of their trials: outside the middle 99 % they differ.
    """
    return [*_offsets(plan, summary), *_targets(plan, run, summary), *_levels(plan, summary)]


def _judged(
    name: str, method: str, unit: str, planned: float | None, value: float | None, trials: int
) -> PlanFigure | None:
    if not planned or value is None or not isfinite(planned) or trials < 1:
        return None
    chance = chdtr(trials, trials * (value / planned) ** 2)
    verdict = "as planned"
    if chance > 1 - _CHANCE / 2:
        verdict = "worse than planned"
    elif chance < _CHANCE / 2:
        verdict = "better than planned"
    return PlanFigure(name, method, unit, planned, value, trials, verdict)


def _offsets(plan: Plan, summary: RunSummary) -> Iterator[PlanFigure]:
    for figures in summary.methods:
        mine = [one for one in plan.offsets if one.method == figures.method]
        parts: list[tuple[str, str, list[float | None], Spread | None]] = [
            ("TO RMSE", "s", [one.to_std_s for one in mine], figures.to),
            ("CFO RMSE", "Hz", [one.cfo_std_hz for one in mine], figures.cfo),
        ]
        for name, unit, deviations, spread in parts:
            known = [value for value in deviations if value is not None]
            if spread is not None and spread.against_truth and known:
                planned = sqrt(sum(value**2 for value in known) / len(known))
                judged = _judged(name, figures.method, unit, planned, spread.rmse, spread.trials)
                if judged is not None:
                    yield judged


def _targets(plan: Plan, run: RunData, summary: RunSummary) -> Iterator[PlanFigure]:
    method = summary.sensing_method
    for seen in summary.targets:
        planned = next((one for one in plan.targets if one.name == seen.name), None)
        if planned is None or method is None:
            continue
        found = [row for row in run.rows("detections") if row.get("target") == seen.name and row["method"] == method]
        placed = [row for row in run.rows("positions") if row.get("target") == seen.name and row["method"] == method]
        deviations = {
            (one.receiver, one.transmitter): one.to_std_s
            for one in plan.offsets
            if one.method == method and one.to_std_s is not None
        }
        # Offsets of both directions of a pair are one error: what they add to a range counts there too.
        offset_m = 299_792_458.0 * sqrt(sum(x**2 for x in deviations.values()) / max(len(deviations), 1))
        range_m = sqrt(sum(x**2 for x in planned.range_std_m.values()) / len(planned.range_std_m) + offset_m**2)
        velocity = sqrt(sum(x**2 for x in planned.velocity_std_mps.values()) / len(planned.velocity_std_mps))
        reflector = next(one for one in plan.scenario.scene.reflector if one.name == seen.name)
        position = target_error_m(plan.scenario, plan.budgets, deviations, reflector, at_s=0.5 * run_s(plan.scenario))
        for name, unit, expected, value, trials in (
            ("range RMSE", "m", range_m, seen.range_rmse_m, len(found)),
            ("velocity RMSE", "m/s", velocity, seen.velocity_rmse_mps, len(found)),
            # two coordinates, of which the worse decides
            ("position RMSE", "m", position, seen.position_rmse_m, len(placed)),
        ):
            judged = _judged(f"{seen.name}: {name}", method, unit, expected, value, trials)
            if judged is not None:
                yield judged


def _levels(plan: Plan, summary: RunSummary) -> Iterator[PlanFigure]:
    for one in summary.payload:
        receiver, _, transmitter = one.link.partition(" ← ")
        budget = plan.budgets.get((receiver, transmitter))
        if budget is None or one.evm_db is None:
            continue
        difference = -one.evm_db - budget.snr_db
        verdict = "as planned"
        if abs(difference) > _LEVEL_DB:
            verdict = "better than planned" if difference > 0 else "worse than planned"
        yield PlanFigure(f"{one.link}: SNR by error vector", "", "dB", budget.snr_db, -one.evm_db, 1, verdict)
