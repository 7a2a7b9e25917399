"""A paper's figure as data: curves to draw, and the paper's numbers beside ours with what had to be chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.bench.rows import BenchRow
from testbed.report.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, figure_style, new_figure, save

__all__ = ["Compared", "Curve", "Panel", "PaperFigure", "draw", "figure_rows", "page_text", "print_compared"]

_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, BLACK)
_MARKERS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True)
class Curve:
    """One line or row of points."""

    label: str
    """The same label in two curves gives both one colour: a closed form and its simulation."""
    x: Any
    y: Any
    simulated: bool = False
    """Drawn as points, with ``error`` as bars."""
    error: Any = None
    points: bool = False
    """Drawn as points though it is not simulated: a line would hide the one that it meets."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    title: str = ""
    x_log: bool = False
    y_log: bool = True


@dataclass(frozen=True)
class Compared:
    """A number that the paper states, and ours."""

    what: str
    paper: str
    ours: float
    unit: str = ""
    remark: str = ""
    goal: float | None = None
    """The paper's number where it is one."""
    trials: int | None = None
    standard_error: float | None = None


@dataclass(frozen=True)
class PaperFigure:
    """Everything that one figure of a paper becomes."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    compared: tuple[Compared, ...]
    chosen: dict[str, str] = field(default_factory=dict)
    """Parameters that the paper leaves open, and the choice with its reason."""


def draw(figure: PaperFigure, path: Path) -> None:
    """Write the figure as PNG: closed forms as lines, simulations as points of the same colour."""
    with figure_style():
        canvas = new_figure(5.6 * len(figure.panels) + 0.6, 4.6)
        for axes, panel in zip(canvas.subplots(1, len(figure.panels), squeeze=False)[0], figure.panels, strict=True):
            labels = list(dict.fromkeys(curve.label for curve in panel.curves))
            for curve in panel.curves:
                index = labels.index(curve.label)
                lone = not any(other.label == curve.label and other.simulated for other in panel.curves)
                if curve.simulated or curve.points:
                    axes.errorbar(
                        curve.x, curve.y, yerr=curve.error, color=_COLOURS[index % 6], marker=_MARKERS[index % 6],
                        markersize=5, linestyle="none", capsize=2.5, markeredgecolor="white", label=curve.label,
                    )  # fmt: skip
                else:
                    name = curve.label if lone else None
                    axes.plot(curve.x, curve.y, color=_COLOURS[index % 6], label=name)
            axes.set_xscale("log" if panel.x_log else "linear")
            axes.set_yscale("log" if panel.y_log else "linear")
            axes.set_xlabel(panel.x_label)
            axes.set_ylabel(panel.y_label)
            axes.set_title(panel.title or figure.title)
            both = any(curve.simulated for curve in panel.curves) and not all(curve.simulated for curve in panel.curves)
            axes.legend(title="lines: closed form; marks: simulation" if both else None)
            if panel.x_log:
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
        save(canvas, path)


def figure_rows(figure: PaperFigure) -> Iterator[BenchRow]:
    """Rows as benches write them: every point of every curve, then the numbers compared."""
    for panel in figure.panels:
        for curve in panel.curves:
            kind = "simulation" if curve.simulated else "closed form"
            errors = [None] * len(curve.x) if curve.error is None else [float(e) for e in curve.error]
            for x, y, error in zip(curve.x, curve.y, errors, strict=True):
                yield BenchRow(
                    scenario=figure.name, method=curve.label, parameters={panel.x_label: float(x), "by": kind},
                    metric=panel.y_label, unit="", value=float(y), standard_error=error,
                )  # fmt: skip
    for one in figure.compared:
        yield BenchRow(
            scenario=figure.name, metric=one.what, unit=one.unit, value=float(one.ours), bound=one.goal,
            ratio=None if not one.goal else float(one.ours / one.goal),
            trials=one.trials, standard_error=one.standard_error,
            parameters={"paper": one.paper, "remark": one.remark},
        )  # fmt: skip


def print_compared(figures: Sequence[PaperFigure]) -> None:
    """Table in the terminal of every number compared."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in ("figure", "what", "paper"):
        table.add_column(name)
    for name in ("here", "± s.e.", "trials"):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in figures:
        for one in figure.compared:
            table.add_row(
                figure.name, one.what, one.paper, f"{one.ours:.4g} {one.unit}".strip(),
                "–" if one.standard_error is None else f"{one.standard_error:.2g}",
                "–" if one.trials is None else str(one.trials),
            )  # fmt: skip
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 140
    console.print(table)


def page_text(figure: PaperFigure) -> str:
    """Markdown page: the picture, the paper's numbers beside ours, what was chosen."""
    lines = [f"# {figure.title}", "", f"![{figure.title}]({figure.name}.png)", ""]
    if figure.compared:
        lines += ["| what | paper | here | trials | remark |", "|---|---|---|---|---|"]
        for one in figure.compared:
            error = "" if one.standard_error is None else f" ± {one.standard_error:.2g}"
            trials = "" if one.trials is None else f"{one.trials}"
            lines.append(f"| {one.what} | {one.paper} | {one.ours:.4g}{error} {one.unit} | {trials} | {one.remark} |")
        lines.append("")
    if figure.chosen:
        lines += ["Chosen here, because the paper leaves it open:", ""]
        lines += [f"- {name}: {choice}" for name, choice in figure.chosen.items()]
    return "\n".join(lines) + "\n"
