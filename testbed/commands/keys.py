"""`isac keys`: keys by which coordinator and nodes know each other."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("keys")
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("keys"),
    show_default=True,
    help="Folder to write into.",
)
def command(names: tuple[str, ...], out: Path) -> None:
    """Make a pair of CURVE keys for the coordinator and for each NODE.

    Copy each node's folder to its machine, by a way you trust; the coordinator's stays here.
    """
    from testbed.keys import write_keys

    for folder in write_keys(out, list(names)):
        click.echo(folder)
