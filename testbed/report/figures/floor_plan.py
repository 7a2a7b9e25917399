"""Floor plan: nodes and where they face, reflectors, the true tracks, and the estimated positions with ellipses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from testbed.report.figures import Drawing, LeftOut
from testbed.report.run_data import Row, RunData
from testbed.report.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION, label_above, new_figure
from testbed.report.summary import ELLIPSE_95, true_positions

__all__ = ["confidence_ellipse", "draw"]

FloatArray = NDArray[np.float64]

_HALO = [withStroke(linewidth=2.4, foreground="white")]
_FUSIONS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"), (PURPLE, "^"))


def confidence_ellipse(covariance_m2: FloatArray) -> tuple[float, float, float]:
    """Full width, full height (m) and angle (degrees, anticlockwise from x) of the 95 % ellipse in the plane."""
    values, vectors = np.linalg.eigh(np.asarray(covariance_m2, dtype=np.float64)[:2, :2])
    size = 2 * math.sqrt(ELLIPSE_95) * np.sqrt(np.maximum(values, 0.0))
    return float(size[1]), float(size[0]), math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))


def _plane(position: Any) -> FloatArray:
    return np.asarray(position, dtype=np.float64)[:2]


def _tracks(run: RunData) -> dict[str, FloatArray]:
    """True positions over the rounds of each target that moves, shape (round, 2)."""
    standing = {name for name, velocity, _ in _reflectors(run) if not np.any(velocity)}
    names = dict.fromkeys(str(row["name"]) for row in run.true_targets)
    tracks = {name: true_positions(run, name) for name in names if name not in standing}
    return {name: np.array(list(track.values())) for name, track in tracks.items() if track}


def _reflectors(run: RunData) -> list[tuple[str, FloatArray, FloatArray]]:
    """Name, velocity and first position of the scenario's reflectors."""
    return [
        (
            str(row.get("name") or f"reflector-{index}"),
            _plane(row.get("velocity_mps", (0.0, 0.0))),
            _plane(row["position_m"]),
        )
        for index, row in enumerate(run.scenario.get("scene", {}).get("reflector") or [], start=1)
    ]


def _groups(run: RunData, method: str | None) -> dict[str, list[Row]]:
    """Positions estimated with the offsets of ``method``, by fusion; of all methods where it has none."""
    known = [row for row in run.rows("positions") if row.get("position_m") is not None]
    chosen = [row for row in known if row["method"] == method] or known
    groups: dict[str, list[Row]] = {}
    for row in chosen:
        groups.setdefault(f"{row['fusion']}, {row['method']}", []).append(row)
    return groups


def _draw_nodes(axes: Axes, nodes: list[Row], span: float) -> None:
    for node in nodes:
        x, y = _plane(node["position_m"])
        angle = math.radians(float(node.get("heading_deg") or 0.0))
        axes.annotate(
            "",
            (x + 0.075 * span * math.cos(angle), y + 0.075 * span * math.sin(angle)),
            (x, y),
            arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0},
            zorder=5,
        )
        axes.plot(x, y, "^", color=INK, markersize=10, markeredgecolor="white", zorder=6)
        axes.annotate(
            str(node["name"]),
            (x, y),
            # behind the node, where its arrow is not; names are wider than high
            xytext=(-24 * math.cos(angle), -15 * math.sin(angle)),
            textcoords="offset points",
            ha="center",
            va="center",
            fontweight="bold",
            path_effects=_HALO,
            zorder=7,
        )


def _draw_reflectors(axes: Axes, standing: list[tuple[str, FloatArray, FloatArray]]) -> None:
    for name, _, place in standing:
        axes.plot(*place, "s", color=GREY, markersize=8, markeredgecolor="white", zorder=3)
        axes.annotate(
            name,
            (float(place[0]), float(place[1])),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=8,
            color="#5A6472",
            path_effects=_HALO,
        )


def _draw_tracks(axes: Axes, tracks: dict[str, FloatArray], *, zoomed: bool) -> None:
    for name, track in tracks.items():
        axes.plot(track[:, 0], track[:, 1], color=ORANGE, linewidth=2.0, zorder=4, solid_capstyle="round")
        axes.plot(track[:, 0], track[:, 1], "+", color=ORANGE, markersize=9, markeredgewidth=1.8, zorder=4)
        if len(track) > 1:
            tip, tail = track[-1], track[0]
            if np.hypot(*(tip - tail)) > 0:
                ahead = tip + 0.02 * (tip - tail)
                axes.annotate("", ahead, tip, arrowprops={"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.6})
        if not zoomed:
            axes.annotate(
                name,
                track[np.argmax(track[:, 0])],
                xytext=(20, 0),
                textcoords="offset points",
                va="center",
                color="#8A5F00",
                fontweight="bold",
                path_effects=_HALO,
                zorder=7,
            )


def _draw_ellipse(axes: Axes, centre: FloatArray, covariance_m2: FloatArray, colour: str, *, sure: bool) -> None:
    width, height, angle = confidence_ellipse(covariance_m2)
    for face, edge, alpha in ((colour if sure else "none", "none", 0.10), ("none", colour, 0.9)):
        patch = Ellipse(
            (float(centre[0]), float(centre[1])),
            width,
            height,
            angle=angle,
            facecolor=face,
            edgecolor=edge,
            alpha=alpha,
            linewidth=1.0,
            linestyle="-" if sure else (0, (3, 2)),
            zorder=5,
        )
        axes.add_patch(patch)


def _draw_estimates(axes: Axes, groups: dict[str, list[Row]]) -> list[Line2D]:
    """Positions with their ellipses: filled, or hollow and dashed where the run says itself that it is unsure."""
    handles = []
    for index, (label, rows) in enumerate(groups.items()):
        colour, marker = _FUSIONS[index % len(_FUSIONS)]
        for row in rows:
            centre, sure = _plane(row["position_m"]), not row.get("reason")
            if row.get("covariance_m2") is not None:
                _draw_ellipse(axes, centre, np.asarray(row["covariance_m2"], dtype=np.float64), colour, sure=sure)
            axes.plot(
                *centre,
                marker,
                color=colour,
                markersize=5.5,
                markerfacecolor=colour if sure else "white",
                markeredgecolor="white" if sure else colour,
                markeredgewidth=0.7 if sure else 1.2,
                zorder=6,
            )
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=f"estimated, {label}"))
    reasons = dict.fromkeys(str(row["reason"]) for rows in groups.values() for row in rows if row.get("reason"))
    if reasons:
        label = f"hollow: {'; '.join(reasons)}"
        handles.append(
            Line2D(
                [], [], color=INK, marker="o", markerfacecolor="white", markersize=5.5, linestyle="none", label=label
            )
        )
    return handles


def _box(points: list[FloatArray], margin: float) -> tuple[float, float, float]:
    """Centre and half side of the square that holds ``points`` with a relative margin."""
    stacked = np.array(points)
    low, high = stacked.min(axis=0), stacked.max(axis=0)
    half = 0.5 * float(max(high - low)) * (1 + margin)
    centre = 0.5 * (low + high)
    return float(centre[0]), float(centre[1]), max(half, 1e-3)


def _zoom(groups: dict[str, list[Row]], tracks: dict[str, FloatArray]) -> tuple[float, float, float]:
    """Square around the estimates; a stray one, more than five median distances off, does not widen it."""
    points = [point for track in tracks.values() for point in track]
    estimates = np.array([_plane(row["position_m"]) for rows in groups.values() for row in rows])
    away = np.hypot(*(estimates - np.median(estimates, axis=0)).T)
    points += list(estimates[away <= 5 * max(float(np.median(away)), 1e-6)])
    x, y, half = _box(points, 0.35)
    widths = [
        max(confidence_ellipse(np.asarray(row["covariance_m2"]))[:2])
        for rows in groups.values()
        for row in rows
        if row.get("covariance_m2") is not None
    ]
    return x, y, max(half, 0.9 * float(np.median(widths)) if widths else 0.0)


def _finish(axes: Axes, x: float, y: float, half: float) -> None:
    axes.set_xlim(x - half, x + half)
    axes.set_ylim(y - half, y + half)
    axes.set_aspect("equal")
    axes.set_xlabel("x, m")


def _legend(groups: list[Line2D], *, reflectors: bool, tracks: bool) -> list[Line2D]:
    handles = [Line2D([], [], color=INK, marker="^", linestyle="none", markersize=8, label="node, arrow: heading")]
    if reflectors:
        handles.append(Line2D([], [], color=GREY, marker="s", linestyle="none", label="static reflector"))
    if tracks:
        handles.append(Line2D([], [], color=ORANGE, marker="+", markersize=9, linewidth=2.0, label="true track"))
    return handles + groups


def draw(run: RunData, method: str | None) -> Drawing | LeftOut:
    """The whole scene, and beside it the positions by ``method`` at a scale at which their ellipses show."""
    title = "Floor plan"
    nodes = [node for node in run.scenario.get("node", []) if node.get("position_m")]
    if not nodes:
        return LeftOut(title, "No floor plan is shown because the scenario gives no node positions.")
    standing = [reflector for reflector in _reflectors(run) if not np.any(reflector[1])]
    tracks, groups = _tracks(run), _groups(run, method)
    figure = new_figure(10.0, 6.0 if groups else 6.6)
    panels = figure.subplots(1, 2 if groups else 1, squeeze=False)[0]
    everything = [_plane(node["position_m"]) for node in nodes] + [place for _, _, place in standing]
    everything += [point for track in tracks.values() for point in track]
    x, y, half = _box(everything, 0.3)
    half = max(half, 2.0)
    whole = panels[0]
    _draw_reflectors(whole, standing)
    _draw_tracks(whole, tracks, zoomed=False)
    handles = _draw_estimates(whole, groups)
    _draw_nodes(whole, nodes, 2 * half)
    _finish(whole, x, y, half)
    label_above(whole, "y, m    the whole scene")
    if groups:
        detail = panels[1]
        zoom = _zoom(groups, tracks)
        _draw_tracks(detail, tracks, zoomed=True)
        _draw_estimates(detail, groups)
        _finish(detail, *zoom)
        label_above(detail, "y, m    the box, enlarged")
        corner = (zoom[0] - zoom[2], zoom[1] - zoom[2])
        whole.add_patch(
            Rectangle(corner, 2 * zoom[2], 2 * zoom[2], fill=False, edgecolor=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        )
    figure.legend(
        handles=_legend(handles, reflectors=bool(standing), tracks=bool(tracks)), loc="outside lower center", ncols=4
    )
    return Drawing("floor-plan", title, figure, _caption(groups, bool(tracks)), _alt(nodes))


def _caption(groups: dict[str, list[Row]], tracks: bool) -> str:
    text = "Nodes, seen from above, with an arrow along each array's broadside. "
    if not groups:
        return text + "No position could be estimated in this run."
    misses = [float(row["error_m"]) for rows in groups.values() for row in rows if row.get("error_m") is not None]
    text += "Each estimated position stands in the ellipse that should hold the true one in 95 rounds of 100"
    text += "; estimates should march along the true track. " if tracks else ". "
    if misses:
        text += f"The median distance from the truth is {float(np.median(misses)):.2f} m."
    return text.strip()


def _alt(nodes: list[Row]) -> str:
    return f"Plan of the scene with {len(nodes)} nodes, reflectors, true tracks and estimated positions."
