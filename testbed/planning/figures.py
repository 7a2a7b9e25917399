"""The plan as rows of the shape that benches write, and as tables in the terminal."""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np

from dsp.channel import FloatArray
from testbed.planning.plan import Plan
from testbed.report.style import quantity

__all__ = ["plan_rows", "print_plan"]


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """Every figure of the plan: {scenario, method, parameters, metric, unit, value, bound, …}."""
    rows: list[dict[str, Any]] = []

    def add(metric: str, unit: str, value: float | None, method: str | None = None, **parameters: Any) -> None:
        known = None if value is None or not isfinite(value) else float(value)
        rows.append(
            {"scenario": plan.scenario.experiment.name, "method": method, "parameters": parameters, "metric": metric,
             "unit": unit, "value": known, "bound": None, "ratio": None, "trials": None, "standard_error": None}
        )  # fmt: skip

    for (receiver, transmitter), budget in plan.budgets.items():
        link = {"receiver": receiver, "transmitter": transmitter}
        add("baseline", "m", budget.baseline_m, **link)
        add("snr", "dB", budget.snr_db, **link)
        add("thermal_snr", "dB", budget.thermal_snr_db, **link)
        add("quantisation_snr", "dB", budget.quantisation_snr_db, **link)
        add("level", "dBFS", budget.level_dbfs, **link)
        add("leakage_level", "dBFS", budget.leakage_dbfs, **link)
        add("attenuation_needed", "dB", budget.needed_attenuation_db, **link)
    for one in plan.offsets:
        parameters = {"receiver": one.receiver, "transmitter": one.transmitter, "reason": one.reason}
        add("to_std", "s", one.to_std_s, one.method, **parameters)
        add("cfo_std", "Hz", one.cfo_std_hz, one.method, **parameters)
    for target in plan.targets:
        for (receiver, transmitter), value in target.range_std_m.items():
            link = {"target": target.name, "receiver": receiver, "transmitter": transmitter}
            add("echo_snr", "dB", target.snr_db[receiver, transmitter], **link)
            add("range_std", "m", value, **link)
            add("velocity_std", "m/s", target.velocity_std_mps[receiver, transmitter], **link)
        for method, error in target.position_std_m.items():
            add("position_std", "m", error, method, target=target.name)
    for fusion, maps in (("centralised", plan.map.centralised_m), ("decentralised", plan.map.decentralised_m)):
        for by, values in maps.items():
            add("position_std_median", "m", _median(plan, values), fusion=fusion, by=by)
    add("gdop_median", "1", float(np.median(plan.map.gdop)), by="delay")
    for lever in plan.levers:
        add("to_std_worst_pair", "s", lever.to_std_s, change=lever.change)
        add("position_std_after", "m", lever.position_std_m, change=lever.change)
    return rows


def print_plan(plan: Plan) -> None:
    """Tables of links, methods, targets, positions and levers in the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 140

    def table(*heads: str) -> Table:
        made = Table(show_edge=False, pad_edge=False, header_style="bold")
        for number, head in enumerate(heads):
            made.add_column(head, justify="left" if number == 0 or head == "" else "right")
        return made

    links = table("link", "baseline", "SNR", "thermal", "rounding", "synthesizers", "level", "leakage", "attenuate by")
    for (receiver, transmitter), b in plan.budgets.items():
        links.add_row(
            f"{receiver} ← {transmitter}", quantity(b.baseline_m, "m"),
            *(_db(x) for x in (b.snr_db, b.thermal_snr_db, b.quantisation_snr_db, b.phase_snr_db)),
            f"{b.level_dbfs:.1f} dBFS", "–" if b.leakage_dbfs is None else f"{b.leakage_dbfs:.1f} dBFS",
            _db(b.needed_attenuation_db) if b.needed_attenuation_db else "–",
        )  # fmt: skip
    console.print(links)
    methods = table("pair", "method", "TO", "of it noise", "clocks", "CFO", "")
    for one in plan.offsets:
        methods.add_row(
            f"{one.receiver} – {one.transmitter}", one.method, quantity(one.to_std_s, "s"),
            quantity(one.noise_s, "s"), quantity(one.clock_s, "s"), quantity(one.cfo_std_hz, "Hz"), one.reason,
        )  # fmt: skip
    console.print(methods)
    if plan.targets:
        targets = table("target", "echo SNR", "range", "velocity", "position", "")
        for target in plan.targets:
            error = min(target.position_std_m.values(), default=None)
            targets.add_row(
                target.name, " / ".join(_db(x) for x in target.snr_db.values()),
                quantity(_rms(target.range_std_m.values()), "m"),
                quantity(_rms(target.velocity_std_mps.values()), "m/s"),
                quantity(error, "m"), "; ".join(target.remarks),
            )  # fmt: skip
        console.print(targets)
    where = table("1 m² target, median of the map", "delays", "angles", "both")
    for fusion, maps in (
        ("all links at once", plan.map.centralised_m),
        ("each node alone, averaged", plan.map.decentralised_m),
    ):
        errors = [_median(plan, maps[by]) for by in ("delay", "angle", "hybrid")]
        where.add_row(fusion, *("open" if error is None else quantity(error, "m") for error in errors))
    console.print(where)
    hidden, beyond = float(plan.map.hidden.mean()), float(plan.map.beyond.mean())
    console.print(
        f"{100 * hidden:.0f} % of the map is hidden by a direct path in range, "
        f"{100 * beyond:.0f} % lies beyond the cyclic prefix; median dilution of precision by delays "
        f"{float(np.median(plan.map.gdop)):.2g}"
    )
    levers = table("what would change", "TO of the worst pair", "position")
    for lever in plan.levers:
        levers.add_row(lever.change, quantity(lever.to_std_s, "s"), quantity(lever.position_std_m, "m"))
    console.print(levers)


def _median(plan: Plan, values: FloatArray) -> float | None:
    """Median of a map; None where it is wider than the map, which is to say open."""
    left, right, _, _ = plan.extent_m()
    middle = float(np.median(values))
    return middle if middle < right - left else None


def _rms(values: Any) -> float:
    squares = [value**2 for value in values]
    return sqrt(sum(squares) / len(squares))


def _db(value: float) -> str:
    return "∞" if not isfinite(value) else f"{value:.1f} dB".replace("-", "−")
