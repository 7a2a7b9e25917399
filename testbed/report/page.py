"""The report of a run: one HTML file that opens anywhere, and the figures beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2

from testbed.errors import UserError
from testbed.report import tables
from testbed.report.figures import (
    Drawing,
    LeftOut,
    clocks,
    constellation,
    delay_doppler,
    floor_plan,
    methods,
    offsets,
    timing,
)
from testbed.report.plan_table import plan_table
from testbed.report.run_data import RunData, read_run
from testbed.report.style import figure_style, save
from testbed.report.summary import RunSummary, summarize
from testbed.report.verdict import judge

__all__ = ["REPORT_NAME", "write_report"]

REPORT_NAME = "report.html"
_PER_LINK = ("offsets-*.png", "delay-doppler-*.png")
_OPEN_LINKS = 6
"""Links whose pictures are shown unfolded; those of larger networks open on a click."""


@dataclass(frozen=True)
class _Picture:
    """A figure as the template places it."""

    title: str
    source: str
    """Data URI, empty where the figure was left out."""
    caption: str
    alt: str


def _drawn(draw: Callable[[], Drawing | LeftOut], folder: Path) -> _Picture:
    with figure_style():
        drawing = draw()
        if isinstance(drawing, LeftOut):
            return _Picture(drawing.title, "", drawing.reason, "")
        path = folder / f"{_file_name(drawing.name)}.png"
        save(drawing.figure, path)
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return _Picture(drawing.title, f"data:image/png;base64,{encoded}", drawing.caption, drawing.alt)


def _file_name(name: str) -> str:
    """``name`` with nothing in it that a file system could take for a path."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _pictures(run: RunData, summary: RunSummary) -> Iterator[tuple[str, Callable[[], Drawing | LeftOut]]]:
    """Section and drawing of every figure, in the order of the page."""
    preferred = summary.headline.method if summary.headline else None
    yield "offsets", lambda: methods.draw(summary)
    for link in run.links:
        yield "offsets", lambda link=link: offsets.draw(run, link, preferred)  # type: ignore[misc]
    yield "clocks", lambda: clocks.draw(run)
    yield "targets", lambda: floor_plan.draw(run, summary.sensing_method)
    for link in run.links:
        yield "targets", lambda link=link: delay_doppler.draw(run, link, summary.sensing_method)  # type: ignore[misc]
    yield "payload", lambda: constellation.draw(run)
    yield "time", lambda: timing.draw(run)


def _scenario_text(folder: Path) -> str:
    path = folder / "scenario.toml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def render(run: RunData, summary: RunSummary, figures: Path) -> str:
    """HTML of the report; writes the figures into the folder ``figures`` on the way."""
    sections: dict[str, list[_Picture]] = {}
    for section, draw in _pictures(run, summary):
        sections.setdefault(section, []).append(_drawn(draw, figures))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2").render(
        run=run,
        summary=summary,
        verdict=judge(summary),
        figures=sections,
        fold=len(run.links) > _OPEN_LINKS,
        tables={
            "methods": tables.methods(summary),
            "remarks": tables.remarks(summary),
            "clocks": tables.clocks(run),
            "targets": tables.targets(run, summary),
            "payload": tables.payload(summary),
            "promises": tables.promises(summary),
            "losses": tables.losses(run),
            "events": tables.events(run),
            "brief": tables.brief(run),
            "nodes": tables.nodes(run),
            "environment": tables.environment(run),
            "plan": plan_table(run, summary),
        },
        scenario_text=_scenario_text(run.folder),
    )


def write_report(folder: Path) -> Path:
    """Path of the report written into a run's folder, beside ``figures/*.png``.

    Reads ``results.json``, ``scenario.toml`` and ``products.npz``. A figure whose data are not there is left out
    with a sentence that says why. Pictures are embedded, so that the file opens offline and can be sent alone; the
    same run gives the same bytes. The page is replaced whole or not at all.

    Parameters
    ----------
    folder : path
        Folder of a run, as `isac run` makes it.

    Raises
    ------
    UserError
        If the folder is not that of a run, its results or scenario cannot be read, or it cannot be written to.
    """
    run = read_run(folder)
    figures = folder / "figures"
    path = folder / REPORT_NAME
    draft = folder / f"{REPORT_NAME}.part"
    try:
        figures.mkdir(exist_ok=True)
        for pattern in _PER_LINK:  # links that an earlier evaluation had may be gone
            for stale in figures.glob(pattern):
                stale.unlink()
        draft.write_text(render(run, summarize(run), figures), encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise UserError(f"{folder}: the report cannot be written: {(error.strerror or str(error)).lower()}") from error
    return path
