"""The plan as a picture: where positions are good, by which measurements, and how levels fit the converters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from dsp.channel import FloatArray
from testbed.planning.plan import Plan
from testbed.report.style import BLUE, GREY, INK, ORANGE, VERMILLION, figure_style, new_figure, quantity, save

__all__ = ["draw_plan"]

_WORST_M = 30.0
"""Errors beyond this are of no use to anyone, and all shown alike."""


def draw_plan(plan: Plan, path: Path) -> None:
    """Write the plan's picture as PNG to ``path``."""
    with figure_style():
        figure = new_figure(11.0, 9.4)
        panels = figure.subplots(2, 2)
        maps = (
            (panels[0, 0], plan.map.centralised_m["hybrid"], "Delays and angles, all links at once"),
            (panels[0, 1], plan.map.centralised_m["delay"], "Delays alone, all links at once"),
            (panels[1, 0], plan.map.decentralised_m["hybrid"], "Delays and angles, each node alone, then averaged"),
        )
        best = maps[0][1][np.isfinite(maps[0][1])]
        low = float(np.quantile(best, 0.02)) if best.size else 0.1
        highest = min(max(_WORST_M, 10 * low), max(100 * low, float(np.quantile(best, 0.98)) if best.size else 1.0))
        norm = LogNorm(low, highest)
        for axes, values, title in maps:
            image = _map(axes, plan, values, norm)
            axes.set_title(title)
            if float(np.median(values)) > highest:
                axes.set_xlabel("x [m]; mostly open: these measurements leave a direction undetermined")
        bar = figure.colorbar(
            image, ax=list(panels.flat), shrink=0.6, aspect=45, extend="both", location="bottom", pad=0.02
        )
        bar.set_label(
            "RMS position error that the bound allows a target of 1 m²; hatched //: within the range resolution "
            "of a direct path; crossed: beyond the cyclic prefix"
        )
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: quantity(x, "m", digits=2)))
        _levels(panels[1, 1], plan)
        save(figure, path)


def _map(axes: Axes, plan: Plan, values: FloatArray, norm: LogNorm) -> AxesImage:
    left, right, bottom, top = plan.extent_m()
    image = axes.imshow(
        np.where(np.isfinite(values), values, 1e9),
        origin="lower", extent=(left, right, bottom, top), norm=norm, cmap="cividis_r", interpolation="nearest",
    )  # fmt: skip
    x, y = plan.map.place_m[..., 0], plan.map.place_m[..., 1]
    for mask, hatch in ((plan.map.hidden, "////"), (plan.map.beyond, "xxxx")):
        if mask.any():
            axes.contourf(x, y, mask.astype(float), levels=[0.5, 1.5], colors="none", hatches=[hatch])
    for node in plan.scenario.node:
        axes.plot(*node.position_m[:2], "^", color=VERMILLION, markersize=9, markeredgecolor="white")
        _name(axes, node.name, node.position_m)
    for one in plan.scenario.scene.reflector:
        moving = any(one.velocity_mps)
        axes.plot(*one.position_m[:2], "o" if moving else "s", color=BLUE if moving else "white",
                  markeredgecolor=INK, markersize=6)  # fmt: skip
        if moving:
            _name(axes, one.name, one.position_m)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel("x [m]")
    axes.set_ylabel("y [m]")
    axes.grid(visible=False)
    return image


def _name(axes: Axes, name: str, place_m: tuple[float, ...]) -> None:
    axes.annotate(
        name,
        (place_m[0], place_m[1]),
        xytext=(7, 5),
        textcoords="offset points",
        fontsize=8.5,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.0},
    )


def _levels(axes: Axes, plan: Plan) -> None:
    """Ladder of levels below full scale for each link."""
    links = list(plan.budgets.items())
    for y, (_, budget) in enumerate(links):
        rounding = budget.level_dbfs - budget.quantisation_snr_db
        thermal = budget.level_dbfs - budget.thermal_snr_db
        axes.plot([budget.level_dbfs - budget.snr_db, budget.level_dbfs], [y, y], color=BLUE, linewidth=5, alpha=0.35)
        axes.plot(budget.level_dbfs, y, "o", color=BLUE, label="distant node" if y == 0 else None)
        if budget.leakage_dbfs is not None:
            axes.plot(budget.leakage_dbfs, y, "D", color=VERMILLION, label="own leakage" if y == 0 else None)
        axes.plot(rounding, y, "|", color=ORANGE, markersize=13, markeredgewidth=2.5,
                  label="converter's rounding" if y == 0 else None)  # fmt: skip
        if np.isfinite(thermal):
            axes.plot(thermal, y, "|", color=GREY, markersize=13, markeredgewidth=2.5,
                      label="thermal noise" if y == 0 else None)  # fmt: skip
        axes.annotate(f"{budget.snr_db:.1f} dB", (budget.level_dbfs, y), xytext=(6, 6), textcoords="offset points",
                      fontsize=8.5)  # fmt: skip
    axes.axvline(0.0, color=INK, linewidth=1.5)
    axes.set_yticks(range(len(links)), [f"{receiver} ← {transmitter}" for receiver, transmitter in plan.budgets])
    axes.set_ylim(len(links) - 0.4, -0.6)
    axes.set_xlabel("Level below full scale [dBFS]; beside the point: SNR per element")
    axes.set_title("Levels at each receiver's converter")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
