"""Figures of `isac bench speed`: times saved by stage, and how times grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator

from testbed.bench.rows import BenchRow
from testbed.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, figure_style, new_figure, save

__all__ = ["draw_growth", "draw_speed"]

_MARKERS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"), (SKY, "P"))


def draw_speed(medians: Sequence[BenchRow], path: Path) -> None:
    """Bars of the other way's time over ours, on a logarithmic axis, with the goals as ticks across them."""
    with figure_style():
        figure = new_figure(7.2, 0.9 + 0.26 * len(medians))
        axes = figure.add_subplot()
        places = np.arange(len(medians))[::-1]
        faster = [_faster(row, row.value) for row in medians]
        colours = [GREY if row.bound is None else BLUE if value >= _faster(row, row.bound) else VERMILLION
                   for row, value in zip(medians, faster, strict=True)]  # fmt: skip
        axes.barh(places, np.asarray(faster) - 1.0, left=1.0, color=colours, height=0.62)
        for place, row in zip(places, medians, strict=True):
            if row.bound is not None:
                goal = _faster(row, row.bound)
                axes.plot([goal, goal], [place - 0.42, place + 0.42], color="black", linewidth=2.0)
        axes.set_xscale("log")
        axes.set_yticks(places, [f"{row.method}, against {row.parameters['against']}" for row in medians])
        axes.set_ylim(-0.7, len(medians) - 0.3)
        axes.axvline(1.0, color="black", linewidth=0.8)
        axes.set_xlabel("Time of the other way over ours (median of paired rounds; black tick: goal)")
        save(figure, path)


def _faster(row: BenchRow, value: float | None) -> float:
    value = value or 1.0
    return value if row.metric == "times_faster" else 1.0 / value


def draw_growth(rows: Sequence[BenchRow], path: Path) -> None:
    """Times over what grows, with the fitted power laws."""
    fits = [row for row in rows if row.metric == "exponent"]
    names = list(dict.fromkeys(str(row.parameters["over"]) for row in fits))
    with figure_style():
        figure = new_figure(7.2, 2.5 * ((len(names) + 2) // 3))
        panels = np.atleast_1d(figure.subplots((len(names) + 2) // 3, 3, squeeze=False)).ravel()
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes, name in zip(panels, names, strict=False):
            for (colour, marker), fit in zip(_MARKERS, [row for row in fits if row.parameters["over"] == name],
                                             strict=False):  # fmt: skip
                points = [row for row in rows if row.scenario == "growth" and row.method == fit.method
                          and row.metric == "time" and row.parameters.get("over") == name]  # fmt: skip
                size = np.array([row.parameters["size"] for row in points], float)
                taken = 1e3 * np.array([row.value for row in points], float)
                exponent = fit.value or 0.0
                line = np.exp(np.mean(np.log(taken)) + exponent * (np.log(size) - np.mean(np.log(size))))
                axes.plot(size, taken, marker, color=colour, markersize=4)
                axes.plot(size, line, color=colour, linewidth=1.0, label=f"{fit.method}: {exponent:.2f}")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            shown = sorted({row.parameters["size"] for row in rows if row.metric == "time"
                            and row.parameters.get("over") == name})  # fmt: skip
            axes.set_xticks(shown, [str(size) for size in shown])
            axes.minorticks_off()
            low, high = axes.get_ylim()
            # An empty third above the points, for the legend.
            axes.set_ylim(low, high * (high / low) ** 0.5)
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlabel(name.capitalize())
            axes.set_ylabel("Time (ms)")
            axes.legend(fontsize=7, loc="upper left")
        save(figure, path)
