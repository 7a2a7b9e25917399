"""The page of a verification, with its figures in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator

from testbed.environment import versions
from testbed.formats.atomic import write_atomically
from testbed.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    figure_style,
    new_figure,
    quantity,
    save,
)
from testbed.verify.checks import StabilityCurve
from testbed.verify.verdict import Figure, Verdict

__all__ = ["PAGE_NAME", "shown", "write_page"]

PAGE_NAME = "verify.html"
_COLOURS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"), (ORANGE, "^"), (PURPLE, "P"), (GREY, "v"))


def shown(value: float | None, unit: str) -> str:
    """A figure as people read it."""
    if value is None:
        return "–"
    return f"{value:.3g}" if unit == "1" else quantity(value, unit, digits=4)


def write_page(
    folder: Path, title: str, method: str, verdicts: Sequence[Verdict], curves: Sequence[StabilityCurve]
) -> Path:
    """Path of the page written into ``folder``, with the figures beside it and in it."""
    pictures = []
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    if curves:
        path = figures / "verify-time-deviation.png"
        _draw_stability(curves, path)
        pictures.append(
            _embedded(
                path,
                "Time deviation over averaging time. Markers: measured; lines: what the bounds and the oscillators "
                "predict; dotted: the most that so short a series may show. Markers below their dotted line pass.",
                "Time deviation over averaging time for each pair",
            )
        )
    ratios = [(verdict.test, one) for verdict in verdicts for one in verdict.figures if one.limit is not None]
    if ratios:
        path = figures / "verify-margins.png"
        _draw_margins(ratios, path)
        pictures.append(
            _embedded(
                path,
                "How much of what is allowed each figure uses. Left of the line passes.",
                "Share of the allowed departure that each figure uses",
            )
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    states = [verdict.status for verdict in verdicts]
    text = environment.get_template("verify.html.j2").render(
        title=title,
        method=method,
        counts=", ".join(f"{states.count(one)} {one}" for one in ("passed", "failed", "not tested")),
        verdicts=[
            {"test": one.test, "status": one.status, "text": one.text, "rows": [_row(row) for row in one.figures]}
            for one in verdicts
        ],
        pictures=pictures,
        version=versions()["versions"]["isac-testbed"],
    )
    page = folder / PAGE_NAME
    write_atomically(page, text.encode("utf-8"))
    return page


def share_used(one: Figure) -> float:
    """Part of what is allowed that a figure uses: departures where it is about a value, else the value itself."""
    assert one.limit is not None
    about = one.expected if one.unit in ("m",) or one.name.endswith("_step") else 0.0
    return abs(one.value - (about or 0.0)) / one.limit if one.limit else float("inf")


def _row(one: Figure) -> list[str]:
    cells = [shown(value, one.unit) for value in (one.value, one.standard_error, one.expected, one.limit)]
    return [one.of, one.name, *cells, "–" if one.count is None else str(one.count)]


def _embedded(path: Path, caption: str, alt: str) -> dict[str, str]:
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"source": f"data:image/png;base64,{encoded}", "caption": caption, "alt": alt}


def _draw_stability(curves: Sequence[StabilityCurve], path: Path) -> None:
    with figure_style():
        figure = new_figure(7.2, 4.4)
        axes = figure.subplots()
        for curve, (colour, marker) in zip(curves, _COLOURS * len(curves), strict=False):
            axes.loglog(curve.averaging_s, 1e12 * curve.measured_s, marker, color=colour, label=f"{curve.of}, measured")
            axes.loglog(curve.averaging_s, 1e12 * curve.predicted_s, "-", color=colour, label=f"{curve.of}, predicted")
            axes.loglog(curve.averaging_s, 1e12 * curve.limit_s, ":", color=colour)
        times = sorted({float(f"{time:.2g}") for curve in curves for time in curve.averaging_s})
        axes.set_xticks(times, [f"{time:g}" for time in times])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("Averaging time [s]")
        axes.set_ylabel("Time deviation [ps]")
        axes.set_title("Time deviation")
        axes.legend(loc="best")
    save(figure, path)


def _draw_margins(ratios: Sequence[tuple[str, Figure]], path: Path) -> None:
    with figure_style():
        figure = new_figure(7.2, 0.9 + 0.26 * len(ratios))
        axes = figure.subplots()
        used = np.array([share_used(one) for _, one in ratios])
        places = np.arange(len(ratios))[::-1]
        axes.barh(places, np.minimum(used, 3.0), color=[VERMILLION if one > 1 else BLUE for one in used], height=0.6)
        axes.axvline(1.0, color="black", linewidth=1.2)
        axes.set_yticks(places, [f"{one.of}  {one.name}" for _, one in ratios])
        axes.set_xlim(0, max(1.25, min(3.0, float(used.max()) * 1.05)))
        axes.set_xlabel("Share of what is allowed")
        axes.set_title("Margins")
        axes.grid(visible=False, axis="y")
    save(figure, path)
