"""`isac scenario`: check, show or begin an experiment file."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import methods_file_option

__all__ = ["command"]


@click.group("scenario")
def command() -> None:
    """Check, show or begin an experiment file."""


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@methods_file_option
def check(files: tuple[Path, ...]) -> None:
    """Say whether each FILE is a valid experiment."""
    from testbed.errors import UserError
    from testbed.scenario import load

    wrong = 0
    for file in files:
        try:
            scenario = load(file)
        except UserError as error:
            wrong += 1
            click.echo(str(error), err=True)
        else:
            click.echo(f"{file}: valid: {', '.join(node.name for node in scenario.node)}")
    if wrong:
        raise click.exceptions.Exit(2)


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """Print FILE as resolved, every default spelled out."""
    from testbed.scenario import dumps, load

    click.echo(dumps(load(file)), nl=False)


@command.command("new")
@click.argument("file", type=click.Path(path_type=Path))
def new(file: Path) -> None:
    """Write an experiment of two simulated nodes into FILE, to begin with."""
    from testbed.errors import UserError

    text = (Path(__file__).parent / "new_scenario.toml").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text.replace("NAME", _name(file)))
    except FileExistsError:
        raise UserError(f"{file}: exists already: choose another name") from None
    click.echo(f"{file}: written; try `isac run {file}`")


def _name(file: Path) -> str:
    """The file's name as far as an experiment's may be like it."""
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in file.stem).strip("-")[:40] or "new"
