"""Runs side by side: the figures of each, in rows of the shape that benches write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.report.run_data import RunData
from testbed.report.style import metres, quantity
from testbed.report.summary import RunSummary, Spread
from testbed.report.verdict import error_rate_text

__all__ = ["Line", "bench_rows", "lines", "write_figures"]


def write_figures(path: Path, document: dict[str, Any]) -> None:
    """Write ``document`` as JSON to ``path``.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    try:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from error


@dataclass(frozen=True)
class Line:
    """One figure over all runs."""

    group: str
    name: str
    cells: tuple[str, ...]


def _row(run: RunData, method: str | None, metric: str, unit: str, value: float | None, **rest: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "scenario": run.name,
        "method": method,
        "parameters": {},
        "metric": metric,
        "unit": unit,
        "value": value,
        "bound": None,
        "ratio": None,
        "trials": None,
        "standard_error": None,
    }
    return row | rest


def _spread_rows(run: RunData, method: str, name: str, unit: str, spread: Spread) -> list[dict[str, Any]]:
    parameters = {"against": "truth" if spread.against_truth else "fitted line"}
    rmse = _row(
        run,
        method,
        f"{name}_rmse",
        unit,
        spread.rmse,
        parameters=parameters,
        bound=spread.predicted,
        ratio=spread.ratio,
        trials=spread.trials,
        standard_error=spread.standard_error,
    )
    bias = _row(
        run,
        method,
        f"{name}_bias",
        unit,
        spread.bias,
        parameters=parameters,
        trials=spread.trials,
        standard_error=spread.rmse / spread.trials**0.5,
    )
    rows = [rmse] if spread.bias is None else [rmse, bias]
    if spread.normalized is not None:
        rows.append(
            _row(run, method, f"{name}_normalized_error", "1", spread.normalized, parameters=parameters, bound=1.0)
            | {"ratio": spread.normalized, "trials": spread.trials}
        )
    return rows


def bench_rows(run: RunData, summary: RunSummary) -> list[dict[str, Any]]:
    """Figures of ``run`` as rows {scenario, method, parameters, metric, unit, value, bound, ratio, trials, …}."""
    rows: list[dict[str, Any]] = []
    for method in summary.methods:
        rows.append(_row(run, method.method, "valid_share", "1", method.valid / method.rows, trials=method.rows))
        if method.to is not None and not method.to.restarts:
            rows += _spread_rows(run, method.method, "to", "s", method.to)
        if method.cfo is not None:
            rows += _spread_rows(run, method.method, "cfo", "Hz", method.cfo)
    for target in summary.all_targets:
        parameters = {"target": target.name}
        if target.rounds:
            share = target.found / target.rounds
            rows.append(
                _row(run, target.method, "found_share", "1", share, parameters=parameters, trials=target.rounds)
            )
        for metric, unit, value in (
            ("range_rmse", "m", target.range_rmse_m),
            ("velocity_rmse", "m/s", target.velocity_rmse_mps),
            ("position_rmse", "m", target.position_rmse_m),
        ):
            if value is not None:
                rows.append(_row(run, target.method, metric, unit, value, parameters=parameters))
    total = summary.payload_total
    if total is not None:
        rows.append(_row(run, None, "bit_error_rate", "1", total.error_rate, trials=total.bits))
        rows.append(_row(run, None, "evm", "dB", total.evm_db))
        rows.append(_row(run, None, "frames_lost", "1", float(total.frames_lost), trials=total.frames))
    for promise in summary.promises:
        rows.append(
            _row(
                run,
                None,
                "sinr" if promise.quantity == "sinr" else "position_rmse",
                "1" if promise.quantity == "sinr" else "m",
                promise.measured,
                parameters={"promise": promise.subject},
                bound=promise.promised if promise.bound is None else promise.bound,
                ratio=promise.ratio if promise.bound is None else promise.bound_ratio,
                trials=promise.trials,
                standard_error=promise.standard_error,
            )
        )
        if promise.expected is not None:
            subject = {"promise": promise.subject}
            rows.append(_row(run, None, "sinr_with_offsets_left", "1", promise.expected, parameters=subject))
    rows.append(_row(run, None, "rounds_complete", "1", float(summary.rounds_finished), trials=summary.rounds))
    rows.append(_row(run, None, "samples_lost", "1", float(summary.samples_lost)))
    rows.append(_row(run, None, "processing_time", "s", summary.seconds))
    return rows


def _spread_text(spread: Spread | None, base: str) -> str:
    if spread is None:
        return "–"
    if spread.restarts:
        return "counters start anew"
    ratio = "" if spread.ratio is None else f" ({spread.ratio:.2f}×)"
    return f"{quantity(spread.rmse, base)} ± {quantity(spread.standard_error, base, digits=2)}{ratio}"


def _per_run(summaries: list[RunSummary], make: Any) -> tuple[str, ...]:
    return tuple(str(make(summary)) for summary in summaries)


def _method_lines(summaries: list[RunSummary]) -> list[Line]:
    found: list[Line] = []
    true = any(spread.against_truth for s in summaries for m in s.methods for spread in (m.to, m.cfo) if spread)
    what = "RMSE" if true else "off a line"
    for name in dict.fromkeys(m.method for s in summaries for m in s.methods):
        ran = [next((m for m in s.methods if m.method == name), None) for s in summaries]
        found.append(Line(name, "valid", tuple("–" if m is None else f"{m.valid} of {m.rows}" for m in ran)))
        if any(m is not None and m.to is not None for m in ran):
            found.append(Line(name, f"TO {what}", tuple("–" if m is None else _spread_text(m.to, "s") for m in ran)))
        if any(m is not None and m.cfo is not None for m in ran):
            found.append(Line(name, f"CFO {what}", tuple("–" if m is None else _spread_text(m.cfo, "Hz") for m in ran)))
    return found


def _target_lines(summaries: list[RunSummary]) -> list[Line]:
    found: list[Line] = []
    # what stands is not sought where clutter is removed: only runs that found it can be compared
    for name in dict.fromkeys(t.name for s in summaries for t in s.targets if t.moving or t.found):
        seen = [next((t for t in s.targets if t.name == name), None) for s in summaries]
        of = tuple("–" if t is None else f"{t.found}" + (f" of {t.rounds}" if t.rounds else "") for t in seen)
        found.append(Line(name, "rounds found", of))
        found.append(Line(name, "range RMSE", tuple("–" if t is None else metres(t.range_rmse_m) for t in seen)))
        found.append(Line(name, "position RMSE", tuple("–" if t is None else metres(t.position_rmse_m) for t in seen)))
    return found


def _promise_lines(summaries: list[RunSummary]) -> list[Line]:
    found: list[Line] = []
    for name in dict.fromkeys(p.title for s in summaries for p in s.promises):
        told = [next((p for p in s.promises if p.title == name), None) for s in summaries]
        promised = tuple("–" if p is None else p.told(p.promised) for p in told)
        found.append(Line("signalling", f"{name}, promised", promised))
        if any(p is not None and p.bound is not None for p in told):
            bound = tuple("–" if p is None else p.told(p.bound) for p in told)
            found.append(Line("signalling", f"{name}, bound", bound))
        if any(p is not None and p.expected is not None for p in told):
            expected = tuple("–" if p is None else p.told(p.expected) for p in told)
            found.append(Line("signalling", f"{name}, with the offsets left", expected))
        measured = tuple("–" if p is None else p.measured_text for p in told)
        found.append(Line("signalling", f"{name}, measured", measured))
    return found


def lines(summaries: list[RunSummary]) -> list[Line]:
    """The figures of all runs, one line a figure; an en dash where a run has none."""
    totals = [s.payload_total for s in summaries]
    return [
        Line("run", "rounds complete", _per_run(summaries, lambda s: f"{s.rounds_finished} of {s.rounds}")),
        *_method_lines(summaries),
        *_target_lines(summaries),
        *_promise_lines(summaries),
        Line("payload", "bit error rate", tuple("–" if p is None else error_rate_text(p) for p in totals)),
        Line(
            "payload",
            "EVM",
            tuple("–" if p is None or p.evm_db is None else f"{p.evm_db:.1f} dB".replace("-", "−") for p in totals),
        ),
        Line("payload", "frames lost", tuple("–" if p is None else str(p.frames_lost) for p in totals)),
        Line("losses", "samples lost", _per_run(summaries, lambda s: s.samples_lost)),
        Line("losses", "events", _per_run(summaries, lambda s: s.events)),
        Line("time", "all stages", _per_run(summaries, lambda s: quantity(s.seconds, "s"))),
    ]
