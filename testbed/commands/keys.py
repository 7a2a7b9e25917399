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
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="NODE=TARGET",
    help="Carry NODE's keys to TARGET: USER@HOST:FOLDER by ssh and scp, or a folder of this machine.",
)
@click.option("--dry-run", is_flag=True, help="Print what --to would do, and do not.")
def command(names: tuple[str, ...], out: Path, targets: tuple[str, ...], dry_run: bool) -> None:
    """Make a pair of CURVE keys for the coordinator and for each NODE that has none yet, and carry them.

    Each node's folder goes to its machine, by a way you trust; the coordinator's stays here. Keys that exist are
    kept where --to names their node, and an error otherwise.
    """
    from testbed.errors import UserError
    from testbed.key_copies import copied, planned
    from testbed.keys import write_keys

    copies = planned(out, targets)
    strangers = [copy.node for copy in copies if copy.node not in names]
    if strangers:
        raise UserError(f"--to names {strangers[0]!r}, which is not among the nodes: {', '.join(names)}")
    carried = {copy.node for copy in copies}
    new = [name for name in names if not (name in carried and (out / name).is_dir())]
    if dry_run:
        for copy in copies:
            click.echo(copy.text())
        return
    if new:
        for folder in write_keys(out, new):
            click.echo(folder)
    for copy in copies:
        copied(copy)
        place = f"{copy.folder.rstrip('/')}/{copy.node}"
        click.echo(f"{copy.node}: carried to {copy.host + ':' if copy.host else ''}{place}")
        click.echo(f"  there: isac node --name {copy.node} --coordinator tcp://HOST:PORT --keys {place}")
