"""All figures of a sweep in one Parquet table: a row for each point, method and metric."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import UserError
from testbed.sweep.design import Point, Sweep
from testbed.sweep.point import Outcome

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_parquet", "sweep_table", "write_table"]

_FIGURES = ("value", "bound", "ratio", "standard_error")


def check_parquet() -> None:
    """Raise `UserError` if the library that writes Parquet is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError("isac sweep needs pyarrow: pip install 'isac-testbed[sweep]'") from None


def sweep_table(sweep: Sweep, outcomes: Iterable[Outcome]) -> pa.Table:
    """Table of everything done, in the order of the points.

    Columns: ``point``, ``seed``, one for each varied key (text where its values are neither numbers nor words),
    ``scenario_hash``, ``status``, ``reason``, ``seconds``; then, as a bench writes them, ``method``, ``target``,
    ``metric``, ``unit``, ``value``, ``bound``, ``ratio``, ``trials``, ``standard_error``. A point that failed has one
    row, without a metric.
    """
    import pyarrow as pa

    done = {outcome.index: outcome for outcome in outcomes}
    rows = [
        _row(point, done[point.index], figure)
        for point in sweep.points()
        if point.index in done
        for figure in done[point.index].rows or [{}]
    ]
    text, real = pa.string(), pa.float64()
    columns: dict[str, Any] = {"point": pa.int64(), "seed": pa.int64()}
    for key in sweep.axes:
        columns[key] = _kind([row[key] for row in rows])
        if columns[key] == text:
            for row in rows:
                row[key] = row[key] if isinstance(row[key], str) else json.dumps(row[key])
    columns |= {"scenario_hash": text, "status": text, "reason": text, "seconds": real}
    columns |= {"method": text, "target": text, "metric": text, "unit": text}
    columns |= dict.fromkeys(_FIGURES, real) | {"trials": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items())))


def write_table(path: Path, table: pa.Table) -> None:
    """Write ``table`` as Parquet; a crash leaves the old file or the new one."""
    import pyarrow.parquet as pq

    draft = path.with_name(path.name + ".part")
    pq.write_table(table, draft)
    draft.replace(path)


def _row(point: Point, outcome: Outcome, figure: dict[str, Any]) -> dict[str, Any]:
    row = {"point": point.index, "seed": point.seed, **point.parameters}
    row |= {"scenario_hash": outcome.scenario_hash or None, "status": outcome.status, "reason": outcome.reason}
    row |= {"seconds": outcome.seconds, "target": figure.get("parameters", {}).get("target")}
    row |= {name: figure.get(name) for name in ("method", "metric", "unit", "trials")}
    return row | {name: None if figure.get(name) is None else float(figure[name]) for name in _FIGURES}


def _kind(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    if values and all(isinstance(value, bool) for value in values):
        return pa.bool_()
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return pa.string()
    return pa.int64() if all(isinstance(value, int) for value in values) else pa.float64()
