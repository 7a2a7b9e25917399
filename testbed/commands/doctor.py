"""`isac doctor`: what is installed, found and wrong here, each with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option

__all__ = ["command"]

_SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@click.command("doctor")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--uri", "uris", multiple=True, metavar="URI", help="Ask the Pluto at this address too; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs go.")
@click.option("--keys", type=click.Path(path_type=Path), help="The coordinator's folder of keys, to look at.")
@json_option("Write the findings here too.")
def command(scenario: Path | None, uris: tuple[str, ...], out: Path, keys: Path | None, json_file: Path | None) -> None:
    """Look at this machine, and at the radios of SCENARIO if that is given; say what is wrong and what mends it.

    Exit codes: 0 nothing is wrong; 1 something is, for what SCENARIO needs; 2 SCENARIO is not valid. What is missing
    and not needed is a note.
    """
    import msgspec

    from testbed.doctor.finding import Machine, Wants
    from testbed.doctor.machine import machine
    from testbed.doctor.radios import radios
    from testbed.doctor.software import software
    from testbed.environment import versions
    from testbed.progress import progress_bar
    from testbed.scenario import load

    wants = Wants(load(scenario) if scenario is not None else None)
    with progress_bar(3) as progress:
        progress(0, "software")
        found = list(software(wants, keys))
        progress(1, "machine")
        found += machine(Machine(), wants, out)
        progress(2, "radios")
        found += radios(wants, uris)
    area = ""
    for one in found:
        if one.area != area:
            area = one.area
            click.echo(f"{area}")
        click.echo(f"  {_SIGNS[one.status]} {one.name}: {one.found}")
        if one.mend:
            click.echo(f"        {one.mend}")
    wrong = sum(one.status == "wrong" for one in found)
    notes = sum(one.status == "note" for one in found)
    click.echo(f"{wrong} wrong, {notes} to note, {len(found) - wrong - notes} in order")
    if json_file is not None:
        rows = {"environment": versions(), "findings": found}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))
    if wrong:
        raise click.exceptions.Exit(1)
