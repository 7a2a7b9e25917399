"""A sweep's figures with the seeds of each combination pooled: what is printed, and written as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

from testbed.report.style import quantity

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["pooled", "print_pooled"]

_METRICS = (
    "to_rmse", "cfo_rmse", "valid_share", "range_rmse", "velocity_rmse", "position_rmse", "found_share",
    "bit_error_rate",
)  # fmt: skip
_PRINTED = ("to_rmse", "cfo_rmse", "valid_share", "position_rmse")
_MOST_LINES = 60
_PIPED_WIDTH = 160
"""Characters of a line where no terminal says how many it shows."""


def pooled(name: str, table: pa.Table, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as benches write them, one for each combination of ``keys``, method and metric of a sweep's ``table``.

    Root mean squares are pooled as such, weighted by their trials; shares and rates are averaged likewise.
    """
    groups: dict[tuple[str, str | None, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        if row["metric"] in _METRICS and row["value"] is not None:
            parameters = {key: row[key] for key in keys} | ({"target": row["target"]} if row["target"] else {})
            groups[json.dumps(parameters), row["method"], row["metric"], row["unit"]].append(row)
    return [
        _pool(name, json.loads(said), method, metric, unit, rows)
        for (said, method, metric, unit), rows in groups.items()
    ]


def _pool(
    name: str, parameters: dict[str, Any], method: str | None, metric: str, unit: str, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    weights = [row["trials"] or 1 for row in rows]
    trials = sum(weights)
    root = metric.endswith("_rmse")

    def mean(key: str) -> float | None:
        known = [(weight, row[key]) for weight, row in zip(weights, rows, strict=True) if row[key] is not None]
        total = sum(weight for weight, _ in known)
        if not total:
            return None
        average: float = sum(weight * (value**2 if root else value) for weight, value in known) / total
        return sqrt(average) if root else average

    value, bound = mean("value"), mean("bound")
    assert value is not None
    error = value / sqrt(2 * trials) if root else sqrt(max(value * (1 - value), 0.0) / trials)
    return {
        "scenario": name, "method": method, "parameters": parameters, "metric": metric, "unit": unit,
        "value": value, "bound": bound, "ratio": value / bound if bound else None, "trials": trials,
        "standard_error": error,
    }  # fmt: skip


def print_pooled(rows: Sequence[dict[str, Any]]) -> None:
    """Table in the terminal: a line for each combination and method, as many as a person reads."""
    from rich.console import Console
    from rich.table import Table

    lines: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row["method"] and row["metric"] in _PRINTED:
            said = "  ".join(f"{key} {_short(value)}" for key, value in row["parameters"].items() if key != "target")
            lines[said, row["method"]].setdefault(row["metric"], row)
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("combination")
    table.add_column("method", no_wrap=True)
    for head in ("TO RMSE", "CFO RMSE", "valid", "position RMSE"):
        table.add_column(head, justify="right", no_wrap=True)
    before = ""
    for (said, method), found in list(lines.items())[:_MOST_LINES]:
        table.add_row("" if said == before else said, method, *(_cell(found.get(metric)) for metric in _PRINTED))
        before = said
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(table)
    if len(lines) > _MOST_LINES:
        console.print(f"… and {len(lines) - _MOST_LINES} more in the table")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    if row["unit"] == "1":
        return f"{100 * row['value']:.1f} %"
    ratio = "" if row["ratio"] is None else f" ({row['ratio']:.2f}×)"
    return f"{quantity(row['value'], row['unit'])} ± {quantity(row['standard_error'], row['unit'], digits=2)}{ratio}"
