"""The plan's predictions against plain simulated runs: one round each, noise and starts drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tomli_w

from testbed.bench.rows import BenchRow, rmse_row
from testbed.scenario import Scenario, loads

__all__ = ["METHOD", "PlanTrial", "plan_scenario", "plan_trial", "rows"]

METHOD = "reciprocity-mle"
_NAME = "plan"


@dataclass(frozen=True)
class PlanTrial:
    """Errors of one round; None where nothing valid was found."""

    to_s: float | None
    cfo_hz: float | None
    position_m: float | None


def plan_scenario(seed: int) -> Scenario:
    """Three nodes about a car, two Doppler cells off on every link; a wall, crystals, departures by leakage."""
    places = ((0.0, 0.0, 50.0), (34.0, 2.0, 130.0), (15.0, 41.0, -80.0))
    nodes: list[dict[str, Any]] = [
        {
            "name": name,
            "position_m": [x, y],
            "heading_deg": heading,
            "antennas": 2,
            "tx_power_dbm": 0.0,
            "clock": {"offset_ppm": ppm, "offset_s": 1.7 * ppm, "profile": "tcxo"},
        }
        for name, (x, y, heading), ppm in zip("abc", places, (4.0, -7.5, 11.0), strict=True)
    ]
    return loads(
        tomli_w.dumps({
            "experiment": {"name": _NAME, "seed": seed, "rounds": 1, "methods": [METHOD]},
            "waveform": {"carrier_hz": 2.4e9, "sample_rate_hz": 10e6, "fft_size": 512, "cp_samples": 64,
                         "active_subcarriers": 400, "symbols": 24},
            "round": {"frames_per_slot": 8, "frame_period_s": 2.5e-3},
            "node": nodes,
            "scene": {"leakage_db": 20.0, "reflector": [
                {"name": "wall", "position_m": [-12.0, 30.0], "rcs_m2": 20.0},
                {"name": "car", "position_m": [19.0, 17.0], "velocity_mps": [-20.0, -9.0], "rcs_m2": 10.0},
            ]},
        }),
        source=_NAME,
    )  # fmt: skip


def plan_trial(seed: int) -> PlanTrial:
    """One round of the scenario through simulated radios and the pipeline."""
    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline

    scenario = plan_scenario(seed)
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    results = pipeline.finish({})
    row = next(link for link in results.links if (link.receiver, link.transmitter) == ("a", "b"))
    place = next((one for one in results.positions if one.target == "car"), None)
    return PlanTrial(
        row.to_error_s if row.valid else None,
        row.cfo_error_hz if row.valid else None,
        None if place is None else place.error_m,
    )


def rows(trials: list[PlanTrial]) -> list[BenchRow]:
    """Root mean square errors beside what the plan predicts of them."""
    from testbed.planning.plan import make_plan

    plan = make_plan(plan_scenario(0))
    offset = plan.offset(("a", "b"), METHOD)
    assert offset.to_std_s is not None
    assert offset.cfo_std_hz is not None
    position = plan.targets[0].position_std_m[METHOD]
    return [
        rmse_row(_NAME, METHOD, metric, unit, [x for x in errors if x is not None], bound)
        for metric, unit, errors, bound in (
            ("to_rmse", "s", [one.to_s for one in trials], offset.to_std_s),
            ("cfo_rmse", "Hz", [one.cfo_hz for one in trials], offset.cfo_std_hz),
            ("position_rmse", "m", [one.position_m for one in trials], position),
        )
    ]
