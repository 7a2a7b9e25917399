"""`isac compare`: several runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option

__all__ = ["command"]


@click.command(name="compare")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR DIR...")
@json_option()
def command(folders: tuple[Path, ...], json_file: Path | None) -> None:
    """Print the figures of the runs in the folders side by side.

    RMSE is given with its standard error and, in brackets, as a multiple of what the bound predicts.
    """
    from testbed.errors import UserError
    from testbed.report.printing import print_figures

    if len(folders) < 2:
        raise UserError("compare: got one folder; name two or more")
    print_figures(folders, json_file)
