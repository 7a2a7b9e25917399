"""Equalised payload points of each link on the points that were sent."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from testbed.report.figures import Drawing, LeftOut
from testbed.report.run_data import RunData, link_name
from testbed.report.style import BLACK, BLUE, ORANGE, label_above, new_figure
from testbed.report.summary import mean_power_db

__all__ = ["draw"]

_LEVELS = {"qpsk": 2, "16qam": 4, "64qam": 8}
_MOST_LINKS = 12


def _ideal(modulation: str) -> NDArray[np.complex128]:
    """Points of square QAM at unit mean power; none for a modulation unknown here."""
    levels = _LEVELS.get(modulation)
    if levels is None:
        return np.empty(0, dtype=np.complex128)
    axis = np.arange(levels) * 2.0 - (levels - 1)
    points: NDArray[np.complex128] = (axis[:, None] + 1j * axis[None, :]).ravel()
    points /= np.sqrt(np.mean(np.abs(points) ** 2))
    return points


def _panel(axes: Axes, points: NDArray[np.complexfloating], ideal: NDArray[np.complex128], reach: float) -> None:
    alpha = float(np.clip(1000 / max(points.size, 1), 0.15, 0.7))
    axes.plot(points.real, points.imag, ".", color=BLUE, markersize=3.2, alpha=alpha, markeredgewidth=0, zorder=2)
    axes.plot(ideal.real, ideal.imag, "+", color=BLACK, markersize=7, markeredgewidth=2.4, zorder=3)
    axes.plot(ideal.real, ideal.imag, "+", color=ORANGE, markersize=6, markeredgewidth=1.2, zorder=4)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])


def draw(run: RunData) -> Drawing | LeftOut:
    """One panel a link, all to one scale."""
    title = "Constellations"
    kept = {link: p for link, p in run.products.items() if p.has("constellation")}
    if not kept:
        why = run.products_note or "no frame of any link was equalised"
        return LeftOut(title, f"No constellation is shown because {why}.")
    shown = dict(list(kept.items())[:_MOST_LINKS])
    ideal = _ideal(str(run.scenario.get("waveform", {}).get("modulation") or "").lower())
    points = {link: p.arrays["constellation"][np.isfinite(p.arrays["constellation"])] for link, p in shown.items()}
    spread = [float(np.quantile(np.maximum(np.abs(p.real), np.abs(p.imag)), 0.998)) for p in points.values() if p.size]
    reach = 1.08 * max([*spread, 1.2])
    columns = min(4, max(len(shown), 2))
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(10.0, 0.7 + rows * (2.62 if columns > 2 else 3.6))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel()[len(shown) :]:
        axes.set_axis_off()
    for axes, (link, values) in zip(grid.ravel(), points.items(), strict=False):
        _panel(axes, values, ideal, reach)
        evm = mean_power_db([row.get("evm_db") for row in run.rows("payload") if link_name(row) == link])
        label_above(axes, link if evm is None else f"{link}    EVM {evm:.1f} dB".replace("-", "−"))
        axes.set_xlabel("In-phase, unit mean power")
        axes.set_ylabel("Quadrature")
    handles = [
        Line2D([], [], color=BLUE, marker=".", linestyle="none", label="equalised payload symbols"),
        Line2D(
            [], [], color=ORANGE, marker="+", markersize=9, linestyle="none", markeredgewidth=1.6, label="sent points"
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    caption = (
        "Received payload symbols after equalisation, in units of the mean symbol amplitude. The clouds should be "
        "round, of one size, and centred on the sent points: a ring means residual frequency offset or phase noise, "
        "a slanted grid IQ imbalance, a cloud between the points interference or a lost frame."
    )
    if len(kept) > len(shown):
        caption += f" The first {len(shown)} of {len(kept)} links are shown."
    return Drawing(
        "constellations", title, figure, caption, "Scatter of equalised symbols per link on the sent points."
    )
