"""Delay-Doppler map of one link in metres and metres a second, with what was detected and what was there."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from testbed.report.figures import Drawing, LeftOut
from testbed.report.run_data import LinkProducts, Row, RunData, link_name
from testbed.report.style import BLACK, LIGHT_SPEED, ORANGE, label_above, method_style, new_figure

__all__ = ["draw"]

_NEEDED = ("map_db", "map_delay_s", "map_doppler_hz", "baseline_s")
_RELATIVE = {"line-of-sight": "the line of sight", "static-path": "a static path"}
"""References from which delays count that are no clock's, in words."""
_HALO = [withStroke(linewidth=2.6, foreground=BLACK)]


def _excess_m(row: Row, baseline_s: float) -> float:
    """Bistatic range beyond the baseline; detections referred to the line of sight are that already."""
    delay = float(row["delay_s"]) - (0.0 if row.get("reference") in _RELATIVE else baseline_s)
    return LIGHT_SPEED * delay


def _range_cell_m(run: RunData) -> float:
    """Resolution of the bistatic range; a hundred metres where the scenario does not say."""
    waveform = run.scenario.get("waveform", {})
    try:
        return float(LIGHT_SPEED * waveform["fft_size"] / (waveform["sample_rate_hz"] * waveform["active_subcarriers"]))
    except (KeyError, ZeroDivisionError):
        return 100.0


def _window(range_m: NDArray[np.floating], marked: list[float], cell_m: float) -> tuple[float, float]:
    """Stretch of ranges worth the paper: all that is marked and as much again, and never under eight cells."""
    far = max(2 * max(marked, default=0.0), 8 * cell_m)
    return max(float(range_m[0]), -1.5 * cell_m), min(float(range_m[-1]), far)


def _draw_map(axes: Axes, products: LinkProducts, carrier_hz: float, marked: list[float], cell_m: float) -> float:
    """The map above its own median, cut to the window of ranges; the farthest of them."""
    level = np.asarray(products.arrays["map_db"], dtype=np.float64)
    speed = LIGHT_SPEED / carrier_hz * products.arrays["map_doppler_hz"].astype(np.float64)
    excess = LIGHT_SPEED * (products.arrays["map_delay_s"].astype(np.float64) - products.scalar("baseline_s"))
    order = np.argsort(speed)
    near, far = _window(excess, marked, cell_m)
    inside = (excess >= near) & (excess <= far)
    level, speed, excess = level[order][:, inside], speed[order], excess[inside]
    level = level - float(np.median(level[np.isfinite(level)]))
    # From just under the median, which is the noise, to the strongest cell: what is dark is noise.
    top = float(np.clip(np.nanmax(level), 15.0, 60.0))
    mesh = axes.pcolormesh(excess, speed, level, cmap="cividis", vmin=0.0, vmax=top, shading="nearest", rasterized=True)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.015, aspect=28, extend="both")
    bar.set_label("Power above the map's median, dB")
    bar.outline.set_visible(False)
    axes.set_xlim(excess[0], excess[-1])
    axes.set_ylim(speed[0], speed[-1])
    return far


def _reach_marks(axes: Axes, marked_mps: list[float]) -> bool:
    """Whether velocities lie beyond the map; up to half as far again the axis is stretched until it shows them.

    The search ends at half the frames' rate, but the fit of a peak at its edge may go a cell beyond.
    """
    low, high = axes.get_ylim()
    beyond = [speed for speed in marked_mps if not low <= speed <= high]
    shown = [speed for speed in marked_mps if 1.5 * low <= speed <= 1.5 * high]
    if shown:
        room = 0.12 * (high - low)  # for a marker and the name above it
        axes.set_ylim(min(low, min(shown) - room), max(high, max(shown) + room))
    return bool(beyond)


def _draw_detections(axes: Axes, rows: list[Row], baseline_s: float, metres_a_second: float) -> list[Line2D]:
    handles: dict[str, Line2D] = {}
    for row in rows:
        if row.get("delay_s") is None or row.get("doppler_hz") is None:
            continue
        method = str(row["method"])
        line = _RELATIVE.get(str(row.get("reference")), "")
        marker = "s" if line else "o"
        size = 15 if line else 12
        label = f"detected, {method}" + (f" (referred to {line})" if line else "")
        colour = "white" if not line else method_style(method).colour
        axes.plot(
            _excess_m(row, baseline_s),
            metres_a_second * row["doppler_hz"],
            marker=marker,
            markersize=size,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.6,
            linestyle="none",
            path_effects=_HALO,
        )
        handles[label] = Line2D(
            [],
            [],
            marker=marker,
            markersize=9,
            linestyle="none",
            markerfacecolor="#44546E",
            markeredgecolor=colour,
            markeredgewidth=1.6,
            path_effects=_HALO,
            label=label,
        )
    return list(handles.values())


def _draw_truth(axes: Axes, rows: list[Row], baseline_s: float, metres_a_second: float) -> list[Line2D]:
    for row in rows:
        x, y = _excess_m(row, baseline_s), metres_a_second * row["doppler_hz"]
        axes.plot(x, y, "+", color=ORANGE, markersize=11, markeredgewidth=1.8, path_effects=_HALO, zorder=5)
        stands = abs(row["doppler_hz"]) < 1e-6  # those share the row of zero velocity: slanted names stay apart
        axes.annotate(
            str(row["name"]),
            (x, y),
            xytext=(4, 7) if stands else (11, 9),
            textcoords="offset points",
            rotation=40 if stands else 0,
            rotation_mode="anchor",
            color="white",
            fontsize=8 if stands else 9.5,
            fontweight="normal" if stands else "bold",
            path_effects=_HALO,
            zorder=6,
        )
    if not rows:
        return []
    return [
        Line2D(
            [],
            [],
            color=ORANGE,
            marker="+",
            markersize=10,
            markeredgewidth=1.8,
            linestyle="none",
            path_effects=_HALO,
            label="truth",
        )
    ]


def draw(run: RunData, link: str, method: str | None) -> Drawing | LeftOut:
    """The map that the run kept of ``link``, cut to the ranges where something is.

    Marked are the detections of ``method`` and of those methods that refer to the line of sight; the others find
    the same peaks and differ in their time offset alone.
    """
    title = f"Delay–Doppler map of {link}"
    products = run.products.get(link)
    if products is None or not products.has(*_NEEDED):
        why = run.products_note or "the run kept no map of this link, which happens when no round of it was valid"
        return LeftOut(title, f"No map is shown because {why}.")
    carrier = float(run.scenario.get("waveform", {}).get("carrier_hz") or math.nan)
    if not math.isfinite(carrier):
        return LeftOut(title, "No map is shown because the scenario names no carrier to turn Doppler into velocity.")
    if min(products.arrays["map_db"].shape) < 2:
        return LeftOut(title, "No map is shown because a single cell along an axis makes no map.")
    round_index = int(products.scalar("round")) if products.has("round") else None
    here = [
        row
        for row in run.rows("detections")
        if link_name(row) == link
        and row["round"] == round_index
        and (row["method"] == method or row["reference"] in _RELATIVE)
    ]
    true = [row for row in run.true_targets if link_name(row) == link and row["round"] == round_index]
    baseline = products.scalar("baseline_s")
    figure = new_figure(10.0, 4.6)
    axes = figure.subplots()
    axes.grid(visible=False)
    marked = [_excess_m(row, baseline) for row in (*here, *true) if row.get("delay_s") is not None]
    far = _draw_map(axes, products, carrier, marked, _range_cell_m(run))
    metres_a_second = LIGHT_SPEED / carrier
    speeds = [metres_a_second * row["doppler_hz"] for row in (*here, *true) if row.get("doppler_hz") is not None]
    fast = _reach_marks(axes, speeds)
    axes.axhline(0.0, color="white", linewidth=0.6, alpha=0.5, zorder=1.5)
    handles = _draw_detections(axes, here, baseline, metres_a_second)
    handles += _draw_truth(axes, true, baseline, metres_a_second)
    axes.set_xlabel("Bistatic range beyond the baseline, m")
    label_above(axes, "Bistatic velocity, m/s, positive when closing")
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    reach = LIGHT_SPEED * float(products.arrays["map_delay_s"].max()) - LIGHT_SPEED * baseline
    return Drawing(
        f"delay-doppler-{link.replace(' ← ', '-from-')}",
        title,
        figure,
        _caption(run, round_index, baseline if _is_absolute(products) else None, far, reach, bool(true))
        + (" What moves faster than the map reaches is faster than half the frame rate tells apart." if fast else ""),
        f"Power over bistatic range and velocity on {link}, with detections and true targets marked.",
    )


def _is_absolute(products: LinkProducts) -> bool:
    return not products.has("absolute") or bool(products.scalar("absolute"))


def _caption(
    run: RunData, round_index: int | None, baseline_s: float | None, far: float, reach: float, truth: bool
) -> str:
    clutter = run.scenario.get("sensing", {}).get("remove_clutter")
    text = f"{'Round ' + str(round_index) + ' with' if round_index is not None else 'With'} "
    if baseline_s is None:
        text += "the carrier offset removed. No method gave a clock offset here: ranges count from the earliest path. "
    else:
        text += (
            "the clock offsets removed. Delays are absolute; for display the direct path of "
            f"{LIGHT_SPEED * baseline_s:.2f} m between the nodes is subtracted, so that the line of sight stands at "
            "zero range and zero velocity. "
        )
    text += "Methods that make the same peaks absolute by another time offset are in the table, not in the map. "
    text += "A detection's circle should enclose the cross of its true target. " if truth else ""
    if clutter is not None:
        text += (
            "Static clutter was removed before the search, and the row of zero velocity, where only remainders of the "
            "movers are left, is not searched. "
            if clutter
            else "Static clutter was left in: the reflectors that do not move line up at zero velocity. "
        )
    if far < 0.95 * reach:
        text += f"The map reaches to {reach:.0f} m; its empty end is cut off here."
    return text.strip()
