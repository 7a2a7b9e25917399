"""`isac compare`: several runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(name="compare")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR DIR...")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the printed figures there, too.")
def command(folders: tuple[Path, ...], json_path: Path | None) -> None:
    """Print the figures of the runs in the folders side by side.

    RMSE is given with its standard error and, in brackets, as a multiple of what the bound predicts.
    """
    from rich.console import Console
    from rich.table import Table

    from testbed.errors import UserError
    from testbed.report.comparison import bench_rows, lines, write_figures
    from testbed.report.run_data import read_run
    from testbed.report.summary import summarize

    if len(folders) < 2:
        raise UserError("compare: got one folder; name two or more")
    runs = [read_run(folder) for folder in folders]
    summaries = [summarize(run) for run in runs]
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for folder, summary in zip(folders, summaries, strict=True):
        # the folder tells apart two runs of one experiment
        label = summary.name if folder.name in {"", summary.name} else f"{summary.name}\n{folder.name}"
        table.add_column(label, justify="right")
    group = ""
    for line in lines(summaries):
        if group and line.group != group:
            table.add_section()
        table.add_row("" if line.group == group else line.group, line.name, *line.cells)
        group = line.group
    Console(highlight=False, markup=False).print(table)
    if json_path is not None:
        rows = [
            {"run": str(folder), **row}
            for folder, run, summary in zip(folders, runs, summaries, strict=True)
            for row in bench_rows(run, summary)
        ]
        environments = {str(f): run.results.get("environment") for f, run in zip(folders, runs, strict=True)}
        document = {"environments": environments, "rows": rows}
        write_figures(json_path, document)
