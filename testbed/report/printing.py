"""The figures of runs in the terminal, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.report.comparison import bench_rows, lines, write_figures
from testbed.report.run_data import read_run
from testbed.report.summary import summarize

__all__ = ["print_figures"]


def print_figures(folders: Sequence[Path], json_path: Path | None) -> None:
    """Print the figures of the runs in ``folders`` side by side, and write them to ``json_path`` if that is given.

    RMSE is given with its standard error and, in brackets, as a multiple of what the bound predicts.
    """
    from rich.console import Console
    from rich.table import Table

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
    if json_path is None:
        return
    rows = [
        {"run": str(folder), **row}
        for folder, run, summary in zip(folders, runs, summaries, strict=True)
        for row in bench_rows(run, summary)
    ]
    environments = {str(f): run.results.get("environment") for f, run in zip(folders, runs, strict=True)}
    write_figures(json_path, {"environments": environments, "rows": rows})
