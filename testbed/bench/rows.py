"""Rows that a bench writes: what was measured, beside its bound, with its trials and standard error."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

__all__ = ["BenchRow", "bias_row", "print_rows", "read_rows", "rmse_row", "share_row", "time_row", "write_rows"]


_FILES_ONLY = ("_bias", "_normalised_error_squared", "time_per_estimate")
_PIPED_WIDTH = 140
"""Characters of a line where no terminal says how many it shows."""


class BenchRow(msgspec.Struct, kw_only=True):
    """One figure."""

    scenario: str
    method: str | None = None
    parameters: dict[str, Any] = {}
    metric: str
    unit: str
    value: float | None
    bound: float | None = None
    """Bound, or goal where no bound exists."""
    ratio: float | None = None
    trials: int | None = None
    standard_error: float | None = None


def rmse_row(
    scenario: str, method: str | None, metric: str, unit: str, errors: Sequence[float], bound: float
) -> BenchRow:
    """Root mean square of ``errors`` beside ``bound``; standard error from the errors' own fourth moment."""
    squares = np.square(np.asarray(errors, dtype=float))
    if squares.size == 0:
        return BenchRow(scenario=scenario, method=method, metric=metric, unit=unit, value=None, bound=bound, trials=0)
    value = sqrt(float(squares.mean()))
    deviation = (
        float(squares.std(ddof=1)) / (2 * value * sqrt(squares.size)) if squares.size > 1 and value > 0 else None
    )
    return BenchRow(
        scenario=scenario, method=method, metric=metric, unit=unit, value=value, bound=bound, ratio=value / bound,
        trials=squares.size, standard_error=deviation,
    )  # fmt: skip


def bias_row(scenario: str, method: str | None, metric: str, unit: str, errors: Sequence[float]) -> BenchRow:
    """Mean of ``errors``."""
    array = np.asarray(errors, dtype=float)
    return BenchRow(
        scenario=scenario, method=method, metric=metric, unit=unit, value=float(array.mean()) if array.size else None,
        trials=array.size, standard_error=float(array.std(ddof=1)) / sqrt(array.size) if array.size > 1 else None,
    )  # fmt: skip


def time_row(scenario: str, method: str | None, seconds: Sequence[float]) -> BenchRow:
    """Median time of an estimate, on the machine and under the load of the moment."""
    array = np.asarray(seconds, dtype=float)
    return BenchRow(
        scenario=scenario, method=method, metric="time_per_estimate", unit="s", value=float(np.median(array)),
        # a median's standard error is √(π/2) that of a mean
        trials=array.size, standard_error=sqrt(0.5 * pi / array.size) * float(array.std()),
    )  # fmt: skip


def share_row(scenario: str, method: str | None, metric: str, good: int, trials: int, goal: float) -> BenchRow:
    """Share of trials that were good, beside the goal."""
    share = good / trials if trials else None
    return BenchRow(
        scenario=scenario, method=method, metric=metric, unit="1", value=share, bound=goal,
        ratio=None if share is None else share / goal, trials=trials,
        standard_error=None if share is None else sqrt(share * (1 - share) / trials),
    )  # fmt: skip


def print_rows(rows: Sequence[BenchRow]) -> None:
    """Table of ``rows`` in the terminal; biases, honesty of deviations and times are left to the files."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in ("scenario", "method", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "± s.e.", "bound", "ratio", "trials"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.metric.endswith(_FILES_ONLY):
            continue
        table.add_row(
            " ".join([row.scenario, *(f"{key}={value}" for key, value in row.parameters.items())]),
            row.method or "",
            f"{row.metric} [{row.unit}]",
            *("–" if x is None else f"{x:.4g}" for x in (row.value, row.standard_error, row.bound, row.ratio)),
            "–" if row.trials is None else str(row.trials),
        )
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(table)


def write_rows(path: Path, rows: Sequence[BenchRow], environment: dict[str, Any]) -> None:
    """JSON of ``rows``, with the environment once."""
    document = msgspec.json.encode({"environment": environment, "rows": rows}, enc_hook=_plain)
    path.write_bytes(msgspec.json.format(document, indent=1))


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's: an hour's bench must not fall at its last line."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a row holds a {type(value).__name__}")


def read_rows(path: Path) -> list[BenchRow]:
    """Rows of a file that `write_rows` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=_File).rows


class _File(msgspec.Struct):
    rows: list[BenchRow]
