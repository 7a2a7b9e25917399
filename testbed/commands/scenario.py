"""`isac scenario`: check, show, explain or begin an experiment file."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import methods_file_option

__all__ = ["command"]


@click.group("scenario")
def command() -> None:
    """Check, show, explain or begin an experiment file."""


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
            if scenario.fingerprint.file:
                from testbed.family_inputs import fingerprints_of

                fingerprints_of(scenario)
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


@command.command("keys", short_help="Say what every key means, wants, and is by default.")
@click.argument("names", nargs=-1, metavar="[TABLE | TABLE.KEY]...")
def keys(names: tuple[str, ...]) -> None:
    """Say what every key of the experiment file means, what it wants, and what it is where it is left out; of the
    tables or keys named, such as round or node.pluto.uri.
    """
    from textwrap import wrap

    from testbed.scenario_keys import chosen

    for table in chosen(names):
        click.echo(f"{table.head}  {table.sentence}")
        for key in table.keys:
            click.echo(f"  {key.name}: {key.wants}; {f'default {key.default}' if key.default else 'required'}")
            for line in wrap(key.sentence, 100):
                click.echo(f"      {line}")


@command.command("new", short_help="Write an experiment to begin with into FILE.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["simulated", "plutos-cable", "plutos-air", "usrps-pps", "plugged-in"]),
    default="simulated",
    show_default=True,
    help="What stands there; plugged-in: two USRPs or two Plutos, whichever this machine has.",
)
@click.option(
    "--unit", "units", multiple=True, metavar="SERIAL", help="One device, by serial number or address; give two."
)
@click.option("--carrier-hz", type=float, default=2.45e9, show_default=True, help="Carrier of real radios.")
@click.option("--length-m", type=click.FloatRange(min=0.01), help="Between the nodes, or of the cable, electrically.")
def new(file: Path, kind: str, units: tuple[str, ...], carrier_hz: float, length_m: float | None) -> None:
    """Write an experiment to begin with into FILE: two nodes, simulated or real ones that are plugged in or named."""
    from testbed.beginnings import beginning
    from testbed.errors import UserError
    from testbed.scenario import loads

    if file.exists():
        raise UserError(f"{file}: exists already: choose another name")
    text = beginning(kind, _name(file), units=units, carrier_hz=carrier_hz, length_m=length_m)
    loads(text, source=str(file))
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UserError(f"{file}: exists already: choose another name") from None
    click.echo(f"{file}: written; try `isac {'run' if kind == 'simulated' else 'doctor'} {file}`")


def _name(file: Path) -> str:
    """The file's name as far as an experiment's may be like it."""
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in file.stem).strip("-")[:40] or "new"
