"""Groups of what `isac bench speed` measures, and how its figures are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from testbed.bench.rows import BenchRow, write_rows
from testbed.bench.speed import Stage, stage_rows

__all__ = ["GROUPS", "measured", "print_speed", "write_speed"]

Progress = Callable[[int, str], None]


def _staged(module: str) -> Callable[[int, Progress], list[BenchRow]]:
    """Rows of the stages that ``testbed.bench.MODULE.stages()`` makes."""

    def rows(rounds: int, progress: Progress) -> list[BenchRow]:
        stages: Sequence[Stage] = import_module(f"testbed.bench.{module}").stages()
        found = []
        for number, stage in enumerate(stages):
            progress(number, stage.name)
            found += stage_rows(stage, rounds)
        return found

    return rows


def _rows_of(module: str) -> Callable[[int, Progress], list[BenchRow]]:
    def rows(rounds: int, progress: Progress) -> list[BenchRow]:
        found: list[BenchRow] = import_module(f"testbed.bench.{module}").rows(rounds, progress)
        return found

    return rows


GROUPS: dict[str, Callable[[int, Progress], list[BenchRow]]] = {
    "frame": _staged("speed_frame"),
    "sensing": _staged("speed_sensing"),
    "offsets": _staged("speed_offsets"),
    "simulator": _staged("speed_simulator"),
    "start": _rows_of("speed_start"),
    "growth": _rows_of("speed_growth"),
}
"""By name: how many rounds, and whom to tell what is going on, to rows."""


def measured(name: str, rounds: int, progress: Progress) -> list[BenchRow]:
    """Rows of one group."""
    return GROUPS[name](rounds, progress)


def _comparisons(rows: Sequence[BenchRow]) -> list[tuple[BenchRow, BenchRow, float]]:
    """Median, best and our time of every stage against every other way."""
    ours = {row.method: row.value for row in rows if row.metric == "time" and row.parameters["way"] == "ours"}
    medians = [row for row in rows if row.parameters.get("of rounds") == "median"]
    best = {(row.method, row.parameters["against"]): row for row in rows if row.parameters.get("of rounds") == "best"}
    return [(row, best[row.method, row.parameters["against"]], ours[row.method] or 0.0) for row in medians]


def _met(row: BenchRow) -> str:
    if row.bound is None or row.value is None:
        return ""
    good = row.value >= row.bound if row.metric == "times_faster" else row.value <= row.bound
    return "yes" if good else "no"


def _cells(row: BenchRow, best: BenchRow, ours: float) -> list[str]:
    from testbed.report.style import quantity

    faster = row.metric == "times_faster"
    sign = "×" if faster else ""
    goal = "" if row.bound is None else f"{'≥' if faster else '≤'} {row.bound:g}{sign}"
    return [
        row.method or "", quantity(ours, "s"), str(row.parameters["against"]), f"{row.value:.3g}{sign}",
        f"{row.standard_error or 0.0:.1g}", f"{best.value:.3g}{sign}", goal, _met(row),
    ]  # fmt: skip


_HEADINGS = ("stage", "ours", "against", "median", "± s.e.", "best", "goal", "met")


def print_speed(rows: Sequence[BenchRow]) -> None:
    """Table in the terminal: ratios of ours over the others' time, or how many times faster (×)."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for number, name in enumerate(_HEADINGS):
        table.add_column(name, justify="left" if number in (0, 2) else "right", no_wrap=True)
    for line in _comparisons([row for row in rows if row.scenario == "speed"]):
        table.add_row(*_cells(*line))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 140
    console.print(table)
    for row in rows:
        if row.scenario != "speed" and row.metric in ("exponent", "wall_time", "processor_time"):
            over = row.parameters.get("over")
            what = f"grows with {over} to the power" if over else f"takes in {row.metric.replace('_', ' ')}"
            goal = "" if row.bound is None else f" (goal {row.bound:g})"
            spread = "" if row.standard_error is None else f" ± {row.standard_error:.2g}"
            console.print(f"{row.method}: {what} {row.value:.3g}{spread}{'' if over else ' s'}{goal}")


def write_speed(folder: Path, rows: Sequence[BenchRow], environment: dict[str, Any]) -> None:
    """Write speed.json, speed.md and the figures into ``folder``."""
    from testbed.bench.speed_figure import draw_growth, draw_speed

    write_rows(folder / "speed.json", rows, environment)
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
    compared = _comparisons([row for row in rows if row.scenario == "speed"])
    lines += ["| " + " | ".join(_cells(*line)) + " |" for line in compared]
    (folder / "speed.md").write_text("# Speed\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    if compared:
        draw_speed([line[0] for line in compared], folder / "speed.png")
    if any(row.metric == "exponent" for row in rows):
        draw_growth(rows, folder / "growth.png")
