"""Clocks of the nodes over the rounds against what their tracks predicted, and how well the pairs close."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from testbed.report.figures import Drawing, LeftOut
from testbed.report.run_data import Row, RunData
from testbed.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    label_above,
    new_figure,
    round_ticks,
    unit_for,
)

__all__ = ["draw"]

_BANDS = ((2.0, "#E3EAF2"), (1.0, "#C3D3E4"))
_PAIRS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"), (ORANGE, "^"), (PURPLE, "P"), (SKY, "v"), (BLACK, "h"))
_MOST_NODES = 7
_TITLE = "Clocks against their prediction"


def _std(covariance: list[list[float]] | None) -> float:
    return math.sqrt(max(covariance[0][0], 0.0)) if covariance else math.nan


def _node_rows(run: RunData) -> dict[str, list[Row]]:
    """Rows that a track predicted, by node, against the node that is the reference most of the time."""
    rows = [row for row in run.rows("nodes") if row.get("source") in ("closed", "predicted")]
    if not rows:
        return {}
    references = [row["reference"] for row in rows]
    reference = max(dict.fromkeys(references), key=references.count)
    found: dict[str, list[Row]] = {}
    for row in rows:
        told = row["source"] == "predicted" or row.get("predicted_offset_s") is not None
        if row["reference"] == reference and told:
            found.setdefault(str(row["node"]), []).append(row)
    return found


def _innovation(row: Row) -> tuple[float, float, float]:
    """Closed less predicted, its own deviation and that of the prediction; NaN where the round did not measure it."""
    if row["source"] == "predicted":
        return math.nan, math.nan, _std(row["covariance"])
    off = row["offset_s"] - row["predicted_offset_s"]
    return off, _std(row["covariance"]), _std(row["predicted_covariance"])


def _node_panel(axes: Axes, node: str, rows: list[Row]) -> bool:
    """Draw one node; whether a round was bridged."""
    rounds = np.array([int(row["round"]) for row in rows])
    off, own, band = np.array([_innovation(row) for row in rows]).T
    unit = unit_for([*off[np.isfinite(off)], *band[np.isfinite(band)]], "s")
    for sigmas, colour in _BANDS:
        for at, width in zip(rounds, band * sigmas * unit.scale, strict=True):
            axes.fill_between([at - 0.5, at + 0.5], -width, width, color=colour, linewidth=0, zorder=0)
    axes.axhline(0.0, color=BLACK, linewidth=1.0, zorder=1)
    measured = np.isfinite(off)
    axes.errorbar(
        rounds[measured],
        off[measured] * unit.scale,
        yerr=own[measured] * unit.scale,
        fmt="o",
        color=BLUE,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1.0,
        zorder=3,
    )
    bridged = ~measured
    axes.plot(
        rounds[bridged], np.zeros(bridged.sum()), "o", color=BLUE, markerfacecolor="white", markersize=6, zorder=3
    )
    errors = np.array([math.nan if row.get("offset_error_s") is None else row["offset_error_s"] for row in rows])
    truth = np.where(measured, off, 0.0) - errors
    if np.isfinite(truth).any():
        axes.plot(rounds, truth * unit.scale, "_", color=VERMILLION, markersize=12, markeredgewidth=1.8, zorder=2)
    label_above(axes, f"{node}: offset, measured less predicted, in {unit.name}")
    return bool(bridged.any())


def _closure_panel(axes: Axes, rows: list[Row]) -> list[Line2D]:
    checked = [row for row in rows if row.get("residual_std_s") is not None]
    pairs = list(dict.fromkeys((row["receiver"], row["transmitter"]) for row in checked))
    unit = unit_for([row["residual_s"] for row in checked], "s")
    handles = []
    for number, pair in enumerate(pairs):
        colour, marker = _PAIRS[number % len(_PAIRS)]
        shift = 0.5 * (number / max(len(pairs) - 1, 1) - 0.5)
        for out in (False, True):
            mine = [row for row in checked if (row["receiver"], row["transmitter"]) == pair and row["left_out"] is out]
            axes.errorbar(
                [int(row["round"]) + shift for row in mine],
                [row["residual_s"] * unit.scale for row in mine],
                yerr=[row["residual_std_s"] * unit.scale for row in mine],
                fmt=marker,
                color=colour,
                markerfacecolor="white" if out else colour,
                markersize=7 if out else 5,
                elinewidth=1.0,
                zorder=3,
            )
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=" – ".join(pair)))
    axes.axhline(0.0, color=BLACK, linewidth=1.0, zorder=1)
    label_above(axes, f"Pairs: offset, measured less closed, in {unit.name}")
    return handles


def draw(run: RunData) -> Drawing | LeftOut:
    """Innovations of every node's track over the rounds, and the closure residuals of the pairs below."""
    nodes = _node_rows(run)
    closures = run.rows("closures")
    checked = any(row.get("residual_std_s") is not None for row in closures)
    if not nodes and not checked:
        return LeftOut(_TITLE, "Clocks are predicted from the second round on, and pairs checked from three nodes on.")
    shown = list(nodes)[:_MOST_NODES]
    panels = len(shown) + checked
    figure = new_figure(10.0, 0.9 + 1.9 * panels)
    grid = figure.subplots(panels, 1, squeeze=False, sharex=True)[:, 0]
    bridged = [_node_panel(axes, node, nodes[node]) for axes, node in zip(grid, shown, strict=False)]
    handles: list[Line2D | Patch] = []
    if shown:
        handles.append(Line2D([], [], color=BLUE, marker="o", linestyle="none", label="measured, ±1σ"))
        handles += [Patch(color=colour, label=f"±{sigmas:.0f}σ of the prediction") for sigmas, colour in _BANDS[::-1]]
    if any(bridged):
        handles.append(
            Line2D(
                [], [], color=BLUE, marker="o", markerfacecolor="white", linestyle="none", label="bridged: not measured"
            )
        )
    if run.has_truth and shown:
        handles.append(Line2D([], [], color=VERMILLION, marker="_", markersize=12, linestyle="none", label="truth"))
    if checked:
        handles += _closure_panel(grid[-1], closures)
        if any(row["left_out"] for row in closures):
            handles.append(
                Line2D(
                    [], [], color=GREY, marker="o", markerfacecolor="white", linestyle="none", label="hollow: left out"
                )
            )
    rounds = [int(row["round"]) for rows in nodes.values() for row in rows] + [int(row["round"]) for row in closures]
    round_ticks(grid[-1], rounds)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), labelcolor=INK)
    return Drawing("clocks", _TITLE, figure, _caption(shown, len(nodes), checked, any(bridged)), _alt(shown))


def _caption(shown: list[str], tracked: int, checked: bool, bridged: bool) -> str:
    parts = []
    if shown:
        parts.append(
            "Each node's closed offset less what its track, the oscillators' noise model over the rounds before, "
            "predicted; measurement and prediction together should make it reach zero within their deviations."
        )
    if bridged:
        parts.append("Rounds that did not measure a node carry the prediction, whose band grows until it is heard.")
    if tracked > len(shown):
        parts.append(f"The first {len(shown)} of {tracked} nodes are shown.")
    if checked:
        parts.append("Below: what closing all clocks over the pairs leaves of each pair's own offset.")
    return " ".join(parts)


def _alt(shown: list[str]) -> str:
    return f"Clock offsets of {', '.join(shown)} over the rounds against their predictions, and closure residuals."
