"""`isac sweep`: one experiment at many points of its parameters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.commands.options import json_option

if TYPE_CHECKING:
    from testbed.sweep.design import Sweep

__all__ = ["command"]


@click.command("sweep")
@click.argument("file", metavar="SWEEP", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write or go on with; sweeps/NAME if not given.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes on this machine; one a core if not given.")
@click.option("--scheduler", metavar="ADDRESS", help="Compute on the Dask cluster whose scheduler is here instead.")
@json_option()
def command(file: Path, out: Path | None, workers: int | None, scheduler: str | None, json_file: Path | None) -> None:
    """Run the experiment at every point of the sweep in the file SWEEP; one Parquet table, a figure a metric.

    A sweep that was interrupted or killed goes on with the same command: what is done is not done again. Points that
    fail are in the table with their reason.
    """
    from testbed.progress import progress_bar
    from testbed.sweep.campaign import run_sweep
    from testbed.sweep.design import load_sweep
    from testbed.sweep.table import check_parquet

    check_parquet()
    sweep = load_sweep(file)
    folder = out if out is not None else Path("sweeps") / sweep.name
    try:
        with progress_bar(len(sweep)) as progress:
            tally = run_sweep(
                sweep, folder, workers=workers or os.cpu_count() or 1, scheduler=scheduler, progress=progress
            )
    finally:
        if (folder / "points.jsonl").exists():
            _conclude(sweep, folder, json_file)
    resumed = f", {tally.resumed} of them before" if tally.resumed else ""
    click.echo(f"{tally.points} points{resumed}; table: {folder / 'table.parquet'}, figures: {folder / 'figures'}")
    if tally.failed:
        click.echo(f"isac: {tally.failed} points failed, the first with: {tally.first_reason}", err=True)


def _conclude(sweep: Sweep, folder: Path, json_file: Path | None) -> None:
    """Table and figures of what is done, also where the rest is not."""
    from testbed.environment import versions
    from testbed.report.comparison import write_figures
    from testbed.sweep.campaign import TABLE_NAME
    from testbed.sweep.figures import draw_metrics
    from testbed.sweep.ledger import Ledger
    from testbed.sweep.summary import pooled, print_pooled
    from testbed.sweep.table import sweep_table, write_table

    with Ledger(folder, sweep.fingerprint()) as ledger:
        table = sweep_table(sweep, ledger.outcomes())
    write_table(folder / TABLE_NAME, table)
    draw_metrics(table, list(sweep.axes), folder / "figures")
    # draws differ in every key: only all of them together make a figure
    rows = pooled(sweep.name, table, [] if sweep.head.design == "random" else list(sweep.axes))
    print_pooled(rows)
    if json_file is not None:
        write_figures(json_file, {"environment": versions(), "rows": rows})
