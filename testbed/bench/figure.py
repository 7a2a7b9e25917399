"""The figure of a bench: a metric over a parameter, with standard errors and bounds, one colour and marker a method."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from testbed.bench.pages import Page, Panel
from testbed.bench.rows import BenchRow
from testbed.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    figure_style,
    label_above,
    method_style,
    new_figure,
    save,
    unit_for,
)

__all__ = ["draw", "draw_panel"]

_NAMES = {
    "snr_db": "SNR of one resource element (dB)",
    "cell_snr_db": "SNR of the mover's cell (dB)",
    "subcarriers": "Subcarriers",
    "offset_ps": "Deviation of every node's clock (ps)",
    "sinr_db": "SINR of the target (dB)",
    "nodes": "Nodes",
    "rounds_ahead": "Rounds after the last one heard",
}
_METRICS = {
    "to_rmse": "Time offset, RMSE",
    "cfo_rmse": "CFO, RMSE",
    "delay_rmse": "Delay, RMSE",
    "delay_median": "Delay, median error",
    "range_rmse": "Path length, RMSE",
    "doppler_rmse": "Doppler, RMSE",
    "angle_rmse": "Bearing, RMSE",
    "position_rmse": "Position, RMSE",
    "range_rmse_all": "Path length, RMSE of all",
    "share_of_synchronous_performance": "Share of synchronous performance",
    "outlier_rate": "Outliers",
}
_CYCLE = (
    (BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"), (ORANGE, "^"), (PURPLE, "p"), (BLACK, "h"), (SKY, "X"), (GREY, "v"),
)  # fmt: skip
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_PER_ROW = 2
_MOST_TICKS = 8
_MOST_INSIDE = 5
"""Entries of a legend that fit inside the axes."""
_WIDTH_IN, _HEIGHT_IN = 4.6, 3.5


def draw(page: Page, rows: Sequence[BenchRow], path: Path) -> None:
    """Write the figure of ``rows`` as PNG; one panel of the first root mean square error if the page names none."""
    panels = page.panels or _usual(rows)
    with figure_style():
        columns = min(len(panels), _PER_ROW)
        lines = ceil(len(panels) / columns)
        figure = new_figure(_WIDTH_IN * columns, _HEIGHT_IN * lines + 0.5)
        for number, panel in enumerate(panels, start=1):
            draw_panel(figure.add_subplot(lines, columns, number), panel, rows)
        figure.suptitle(page.title, fontsize=10.5, fontweight="bold", x=0.01, ha="left")
        save(figure, path)


def draw_panel(axes: Axes, panel: Panel, rows: Sequence[BenchRow]) -> None:
    """One panel: a line for each method and value of what else varies, its bound dotted in the same colour."""
    shown = [row for row in rows if _shown(panel, row)]
    if panel.axis == "method":
        _draw_methods(axes, panel, shown)
        return
    varying = _varying(panel, shown)
    lines: dict[tuple[str, tuple[Any, ...]], list[BenchRow]] = {}
    for row in shown:
        others = tuple(row.parameters.get(name) for name in varying)
        lines.setdefault((row.method or row.scenario, others), []).append(row)
    values = [abs(row.value or 0.0) for row in shown]
    values += [row.bound for row in shown if row.bound and row.bound < 1e30 and not panel.ratio]
    base = shown[0].unit if shown else "1"
    scale, unit = (1.0, "") if panel.ratio or base == "1" else unit_for(values, base)
    # of all panels, so that a method has one colour in all of them
    methods = list(dict.fromkeys(row.method or row.scenario for row in rows))
    kinds = list(dict.fromkeys(others for _, others in lines))
    bounds: set[tuple[float, ...]] = set()
    for (method, others), line in lines.items():
        colour, marker = _style(method, methods)
        kind = kinds.index(others) % len(_DASHES)
        face = colour if kind == 0 else "white"
        line.sort(key=lambda row: float(row.parameters[panel.axis]))
        x = [float(row.parameters[panel.axis]) for row in line]
        y = [(float((row.ratio if panel.ratio else row.value) or 0.0)) * scale for row in line]
        spread = [_spread(row, ratio=panel.ratio) * scale for row in line]
        axes.errorbar(
            x, y, yerr=spread, color=colour, marker=marker, markerfacecolor=face, linestyle=_DASHES[kind],
            markersize=4.5, capsize=2.5, label=_label(method, varying, others),
        )  # fmt: skip
        limits = tuple(round(row.bound * scale, 9) for row in line if row.bound)
        if not panel.ratio and len(limits) == len(x) and limits not in bounds:
            first = "bound" if not bounds else "_"
            bounds.add(limits)
            axes.plot(x, limits, color=colour, linestyle=(0, (1, 1)), linewidth=1.1, alpha=0.9, label=first, zorder=1)
    _finish(axes, panel, unit, sorted({float(row.parameters[panel.axis]) for row in shown}))


def _draw_methods(axes: Axes, panel: Panel, rows: Sequence[BenchRow]) -> None:
    """Values at a single point, one method beside the other, each with its bound as a line."""
    methods = [row.method or row.scenario for row in rows]
    scale, unit = (
        unit_for([row.value or 0.0 for row in rows], rows[0].unit) if rows and rows[0].unit != "1" else (1, "")
    )
    for number, row in enumerate(rows):
        colour, marker = _style(methods[number], methods)
        value, spread = (row.value or 0.0) * scale, (row.standard_error or 0.0) * scale
        axes.errorbar([number], [value], yerr=[spread], color=colour, marker=marker, capsize=3.0)
        if row.bound is not None:
            label = "bound" if number == 0 else "_"
            at = [number - 0.25, number + 0.25]
            axes.plot(at, [row.bound * scale] * 2, color=colour, linestyle=(0, (1, 1)), label=label)
    crowded = len(methods) > _MOST_INSIDE
    axes.set_xticks(range(len(rows)), methods, rotation=60 if crowded else 0, ha="right" if crowded else "center")
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(bottom=0.0)
    name = _METRICS.get(panel.metric, panel.metric.replace("_", " "))
    text = f"{name} ({unit})" if unit else name
    label_above(axes, f"{panel.title}: {text}" if panel.title else text)
    if any(row.bound is not None for row in rows):
        axes.legend(loc="best", fontsize=7.5)


def _finish(axes: Axes, panel: Panel, unit: str, points: Sequence[float]) -> None:
    if panel.ratio:
        axes.axhline(1.0, color=GREY, linewidth=1.0, zorder=1)
        if panel.limit is not None:
            name = f"goal {panel.limit:g}"
            axes.axhline(panel.limit, color=GREY, linestyle=(0, (4, 2)), linewidth=1.0, zorder=1, label=name)
    elif panel.metric.startswith(("share", "valid", "outlier")):
        axes.set_ylim(bottom=0.0)
    else:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 50 * low:  # less than two decades: minor ticks carry the numbers
            axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
            axes.yaxis.set_minor_formatter("{x:g}")
        else:
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
    name = _METRICS.get(panel.metric, panel.metric.replace("_", " "))
    text = f"{name} over its bound" if panel.ratio else f"{name} ({unit})" if unit else name
    label_above(axes, f"{panel.title}: {text}" if panel.title else text)
    axes.set_xlabel(_NAMES.get(panel.axis, panel.axis.replace("_", " ")))
    if panel.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if len(points) <= _MOST_TICKS:
        axes.set_xticks(points)
    entries = len(axes.get_legend_handles_labels()[1])
    if entries > _MOST_INSIDE:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7.5, handlelength=3.2)
    elif entries:
        axes.legend(loc="best", fontsize=7.5, handlelength=3.2)


def _shown(panel: Panel, row: BenchRow) -> bool:
    if row.metric != panel.metric or (panel.axis != "method" and panel.axis not in row.parameters):
        return False
    if row.value is None or (panel.ratio and row.ratio is None) or (panel.methods and row.method not in panel.methods):
        return False
    return all(row.parameters.get(name) == value for name, value in panel.where.items())


def _varying(panel: Panel, rows: Sequence[BenchRow]) -> list[str]:
    """Parameters beside the axis that take more than one value and are no number that goes with the axis."""
    names = dict.fromkeys(name for row in rows for name in row.parameters if name != panel.axis)
    found = []
    for name in names:
        values = {str(row.parameters.get(name)) for row in rows}
        counts = {str(row.parameters[panel.axis]) for row in rows}
        if 1 < len(values) <= 4 and not (name == "outliers" or len(values) == len(counts) > 3):
            found.append(name)
    return found


def _style(method: str, methods: Sequence[str]) -> tuple[str, str]:
    """The method's colour and marker in the report; another where one before it in the figure has the colour."""
    taken: dict[str, tuple[str, str]] = {}
    for name in methods:
        colour, marker = method_style(name)
        used = {other for other, _ in taken.values()}
        if colour in used or (colour, marker) == (GREY, "o"):
            colour, marker = next((one for one in _CYCLE if one[0] not in used), (colour, marker))
        taken[name] = (colour, marker)
    return taken[method]


def _spread(row: BenchRow, *, ratio: bool) -> float:
    error = row.standard_error or 0.0
    return error * (row.ratio or 0.0) / row.value if ratio and row.value else error


def _usual(rows: Sequence[BenchRow]) -> tuple[Panel, ...]:
    """Panels of a page that names none: every root mean square error over the first number that varies."""
    for row in rows:
        for name, value in row.parameters.items():
            different = {str(other.parameters.get(name)) for other in rows}
            if isinstance(value, int | float) and not isinstance(value, bool) and len(different) > 1:
                metrics = dict.fromkeys(one.metric for one in rows if one.metric.endswith("_rmse"))
                return tuple(Panel(metric, name) for metric in list(metrics)[:4])
    metrics = dict.fromkeys(row.metric for row in rows if row.metric.endswith("_rmse")) or {rows[0].metric: None}
    return tuple(Panel(metric, "method") for metric in list(metrics)[:4])


def _label(method: str, varying: Sequence[str], others: Sequence[Any]) -> str:
    words = [_said(name, value) for name, value in zip(varying, others, strict=True)]
    return ", ".join([method, *words])


def _said(name: str, value: Any) -> str:
    """A parameter and its value in words."""
    if isinstance(value, bool):
        return ("" if value else "no ") + name.replace("_", " ")
    if name.endswith("_db"):
        return f"{name[:-3].replace('_', ' ')} {_word(value)} dB"
    return f"{name.replace('_', ' ')} {_word(value)}"


def _word(value: Any) -> str:
    return (f"{value:g}" if isinstance(value, float) else str(value)).replace("-", "−")
