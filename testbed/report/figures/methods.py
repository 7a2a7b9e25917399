"""All methods side by side: RMSE of time and frequency offset beside the deviation each one's bound predicts."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.report.figures import Drawing, LeftOut
from testbed.report.style import INK, method_style, new_figure, quantity
from testbed.report.summary import RunSummary, Spread

__all__ = ["draw"]


def _ticks(decades: float) -> tuple[float, ...]:
    """Labelled multiples in each decade: as many as stay apart where the errors span ``decades``."""
    if decades > 1.2:
        return (1.0,)
    return (1.0, 2.0, 5.0) if decades < 0.8 else (1.0, 3.0)


def _panel(axes: Axes, rows: list[tuple[str, Spread]], *, base: str, title: str) -> None:
    sizes = [s.rmse for _, s in rows] + [s.predicted for _, s in rows if s.predicted]
    low, high = min(sizes), max(sizes)
    span = max(math.log10(high / low), 0.5)
    axes.set_xscale("log")
    axes.set_xlim(low / 10 ** (0.12 * span + 0.1), high * 10 ** (0.55 * span + 0.1))
    for y, (method, spread) in enumerate(rows):
        style = method_style(method)
        axes.axhline(y, color="#EEF0F4", linewidth=5, zorder=0)
        if spread.predicted:
            axes.plot([spread.predicted] * 2, [y - 0.33, y + 0.33], color=INK, linewidth=2.2, zorder=2)
            axes.plot([spread.predicted, spread.rmse], [y, y], color=style.colour, linewidth=2.2, alpha=0.5, zorder=1)
        axes.errorbar(
            spread.rmse,
            y,
            xerr=min(spread.standard_error, 0.9 * spread.rmse),
            fmt=style.marker,
            color=style.colour,
            markersize=8,
            markeredgecolor="white",
            markeredgewidth=0.8,
            elinewidth=1.3,
            capsize=2.5,
            zorder=3,
        )
        text = quantity(spread.rmse, base)
        if spread.ratio is not None:
            text += f"  ({spread.ratio:.2f}×)"
        axes.annotate(
            text,
            (max(spread.rmse + spread.standard_error, spread.predicted or 0.0), y),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(rows)), [method for method, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=_ticks(span), numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: quantity(x, base, digits=1)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_title(title)
    axes.set_xlabel("RMSE (logarithmic)")


def draw(summary: RunSummary) -> Drawing | LeftOut:
    """Dot plot of every method's RMSE over all links and rounds, valid estimates only."""
    title = "Methods against their bounds"
    time = [(m.method, m.to) for m in summary.methods if m.to is not None and m.to.rmse > 0 and not m.to.restarts]
    frequency = [(m.method, m.cfo) for m in summary.methods if m.cfo is not None and m.cfo.rmse > 0]
    panels = [p for p in ((time, "s", "Time offset"), (frequency, "Hz", "Carrier frequency offset")) if p[0]]
    if not panels:
        return LeftOut(title, "No method gave enough valid clock offsets to compare.")
    figure = new_figure(10.0, 1.35 + 0.36 * max(len(rows) for rows, _, _ in panels))
    for axes, (rows, base, name) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, rows, base=base, title=name)
    figure.legend(
        handles=[
            Line2D([], [], color=INK, marker="o", linestyle="none", label="RMSE ± its standard error"),
            Line2D(
                [],
                [],
                color=INK,
                marker="|",
                markersize=11,
                markeredgewidth=2.2,
                linestyle="none",
                label="deviation that the bound predicts",
            ),
        ],
        loc="outside lower center",
        ncols=2,
    )
    what = (
        "against the true clocks"
        if summary.has_truth
        else "about a straight line over the rounds (the true offsets are not known)"
    )
    return Drawing(
        "methods",
        title,
        figure,
        f"Root-mean-square error {what} of each method over all links and valid estimates (marker), beside the "
        "standard deviation that its bound predicts (black line). A method that does what theory allows has its marker "
        "on its line; the factor in brackets is the ratio of the two. Further left is better.",
        "Dot plot of RMSE per method, with the predicted deviation as a line.",
    )
