"""`isac report`: the page of a run, made anew from what the run kept."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option

__all__ = ["command"]


@click.command(name="report")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option()
def command(folder: Path, json_file: Path | None) -> None:
    """Write report.html and figures/ of the run in FOLDER anew, and print the verdict."""
    from rich.console import Console

    from testbed.report.comparison import bench_rows, write_figures
    from testbed.report.page import write_report
    from testbed.report.run_data import read_run
    from testbed.report.summary import summarize
    from testbed.report.verdict import judge

    path = write_report(folder)
    run = read_run(folder)
    summary = summarize(run)
    verdict = judge(summary)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{verdict.word}. {verdict.sentence}")
    for card in verdict.cards:
        console.print(f"  {card.title:<18} {card.value:<16} {card.note}")
    console.print(f"Report: {path}")
    if json_file is not None:
        document = {
            "run": str(folder),
            "state": verdict.state.value,
            "verdict": verdict.sentence,
            "environment": run.results.get("environment"),
            "rows": bench_rows(run, summary),
        }
        write_figures(json_file, document)
