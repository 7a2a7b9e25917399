"""A folder of a bench's results: rows, table and figure for each scenario, and the goals beside what was reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from testbed.bench.pages import Page, Verdict, judged
from testbed.bench.rows import BenchRow, read_rows, write_rows

__all__ = ["print_verdicts", "table", "write_goals", "write_page"]

_RMSE = "_rmse"
_COLUMNS = (
    ("outlier rate", ("outlier_rate",)),
    ("valid", ("valid_share", "valid")),
    ("time per estimate", ("time_per_estimate",)),
)
"""Columns after the errors', and the metrics that fill them."""


def write_page(
    folder: Path, name: str, page: Page, rows: Sequence[BenchRow], environment: dict[str, Any], *, seed: int = 1
) -> None:
    """Write NAME.json, NAME.md and NAME.png into ``folder``; ``seed`` is of a page that has a picture of its own."""
    from testbed.bench.figure import draw

    write_rows(folder / f"{name}.json", rows, environment)
    text = f"# {page.title}\n\n{page.caption}\n\n![{page.title}]({name}.png)\n\n{table(rows)}\n"
    verdicts = judged(page.goals, rows)
    if verdicts:
        text += f"\n{_goal_table(verdicts)}\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    if page.picture is None:
        draw(page, rows, folder / f"{name}.png")
    else:
        module, function = page.picture
        getattr(import_module(f"testbed.bench.{module}"), function)(folder / f"{name}.png", seed)


def write_goals(folder: Path, pages: Mapping[str, Page]) -> None:
    """Write goals.md: every figure asked beside the figure reached, of the pages whose rows are in ``folder``."""
    parts = ["# Figures asked and reached"]
    for name, page in pages.items():
        if page.goals and (folder / f"{name}.json").is_file():
            parts.append(f"## {name}\n\n{_goal_table(judged(page.goals, read_rows(folder / f'{name}.json')))}")
    (folder / "goals.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def print_verdicts(verdicts: Mapping[str, Sequence[Verdict]]) -> None:
    """Figures asked beside those reached, in the terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for name, listed in verdicts.items():
        for one in listed:
            console.print(f"{name}: {one.goal.what}: asked {one.goal.asked}, reached {one.reached}: {one.met}")


def table(rows: Sequence[BenchRow]) -> str:
    """Markdown table: one line for each method, point and quantity, bias, outliers, validity and time beside it."""
    from testbed.report.style import quantity

    lines = [
        "| method | point | quantity | RMSE or value ± s.e. | bias | bound | ratio | outliers | valid | time | trials |"
    ]
    lines.append("|" + "---|" * 11)
    groups: dict[tuple[str, str], list[BenchRow]] = {}
    for row in rows:
        point = ", ".join(f"{key} {_plain(value)}" for key, value in row.parameters.items())
        groups.setdefault((row.method or "", point), []).append(row)
    for (method, point), group in groups.items():
        by_metric = {row.metric: row for row in group}
        side = [next((by_metric[name] for name in names if name in by_metric), None) for _, names in _COLUMNS]
        used = {row.metric for row in side if row is not None}
        mains = [row for row in group if row.metric not in used and not row.metric.endswith("_bias")]
        for number, row in enumerate(mains or [one for one in side if one is not None][:1]):
            unit = "" if row.unit == "1" else row.unit
            bias = by_metric.get(row.metric.replace(_RMSE, "_bias")) if row.metric.endswith(_RMSE) else None
            error = "" if row.standard_error is None else f" ± {_value(row.standard_error, unit, quantity)}"
            beside = ["" if one is None or number else _value(one.value, one.unit, quantity) for one in side]
            cells = [
                method, point, row.metric,
                _value(row.value, unit, quantity) + error,
                "" if bias is None else _value(bias.value, unit, quantity),
                "" if row.bound is None else _value(row.bound, unit, quantity),
                "" if row.ratio is None else f"{row.ratio:.3f}",
                *beside,
                "" if row.trials is None else str(row.trials),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _goal_table(verdicts: Sequence[Verdict]) -> str:
    lines = ["| what | asked | reached | trials | met |", "|---|---|---|---|---|"]
    for one in verdicts:
        trials = "" if one.trials is None else str(one.trials)
        lines.append(f"| {one.goal.what} | {one.goal.asked} | {one.reached} | {trials} | {one.met} |")
    return "\n".join(lines)


def _value(value: float | None, unit: str, quantity: Callable[..., str]) -> str:
    if value is None:
        return "–"
    return quantity(value, unit) if unit not in ("", "1") else f"{value:.4g}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
