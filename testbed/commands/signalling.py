"""`isac signalling`: precoders that locate a target as well as users and power allow."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option, refuse_file

__all__ = ["command"]


@click.command("signalling")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File of precoders to write, for an experiment to use.")
@click.option("--picture", type=click.Path(path_type=Path), help="PNG to write; NAME-signalling.png if not given.")
@json_option()
def command(file: Path, out: Path | None, picture: Path | None, json_file: Path | None) -> None:
    """Design the precoders of the stations in FILE: the least position error of the target under every user's SINR and
    every antenna's power, certified by the relaxation's bound.
    """
    from math import log10

    import msgspec
    from rich.console import Console
    from rich.table import Table

    from testbed.bench.rows import BenchRow, write_rows
    from testbed.environment import versions
    from testbed.errors import UserError
    from testbed.formats.atomic import write_atomically
    from testbed.planning.signalling import load_signalling, precoder_file, solve
    from testbed.planning.signalling_picture import draw_signalling
    from testbed.report.style import quantity

    said = load_signalling(file)
    path = picture if picture is not None else Path(f"{said.design.name}-signalling.png")
    for option, file_to_write, suffix in (("--picture", path, ".png"), ("--out", out, ".json")):
        if file_to_write is not None:
            if file_to_write.suffix != suffix:
                raise UserError(f"{option} is {file_to_write}: give a name that ends in {suffix}")
            refuse_file(option, file_to_write)
    done = solve(said, source=str(file))
    design = done.design
    rows = [
        BenchRow(scenario=said.design.name, metric="position_rmse_bound", unit="m", value=design.crlb_m2**0.5,
                 bound=design.bound_m2**0.5, ratio=(design.crlb_m2 / design.bound_m2) ** 0.5,
                 parameters={"mode": said.design.mode, "sensing": said.design.sensing}),
        BenchRow(scenario=said.design.name, metric="position_rmse_bound_without_users", unit="m",
                 value=done.unconstrained_m2**0.5),
        *(
            BenchRow(scenario=said.design.name, metric="sinr", unit="dB", value=10 * log10(value),
                     bound=10 * log10(wanted), parameters={"user": number})
            for number, (value, wanted) in enumerate(zip(design.sinr, done.demand.sinr, strict=True), start=1)
        ),
        BenchRow(scenario=said.design.name, metric="antenna_power", unit="W", value=float(design.antenna_power.max()),
                 bound=done.demand.antenna_power),
        *(
            [] if done.symbols is None else
            [BenchRow(scenario=said.design.name, metric="position_rmse_bound_symbol_level", unit="m",
                      value=done.symbols.crlb_m2**0.5, bound=design.crlb_m2**0.5,
                      ratio=(done.symbols.crlb_m2 / design.crlb_m2) ** 0.5)]
        ),
        BenchRow(scenario=said.design.name, metric="processor_time", unit="s", value=design.seconds),
    ]  # fmt: skip
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in ("", "reached", "bound or demand"):
        table.add_column(head, justify="left" if not head else "right")
    table.add_row("position error", quantity(design.crlb_m2**0.5, "m"), quantity(design.bound_m2**0.5, "m"))
    table.add_row("above the bound by at most", f"{100 * max(design.gap, 0.0):.2g} %", "")
    alone = "all antennas at the target, no users" + ("" if done.spectral is None else ", flat over the band")
    table.add_row(alone, quantity(done.unconstrained_m2**0.5, "m"), "")
    for number, (value, wanted) in enumerate(zip(design.sinr, done.demand.sinr, strict=True), start=1):
        table.add_row(f"SINR of user {number}", f"{10 * log10(value):.2f} dB", f"{10 * log10(wanted):.2f} dB")
    table.add_row("strongest antenna", quantity(float(design.antenna_power.max()), "W"),
                  quantity(done.demand.antenna_power, "W"))  # fmt: skip
    streams = len(design.precoders) if done.spectral is None else done.spectral.precoders.shape[1]
    table.add_row("streams: users, sensing", f"{len(design.sinr)}, {streams - len(design.sinr)}", "")
    if said.design.symbol_level:
        told = "users alone take more power" if done.symbols is None else quantity(done.symbols.crlb_m2**0.5, "m")
        table.add_row("position error, symbol level", told, "")
    table.add_row("processor time", quantity(design.seconds, "s"), "")
    Console(highlight=False, markup=False).print(table)
    draw_signalling(done, path)
    if json_file is not None:
        write_rows(json_file, rows, versions())
    if out is not None:
        write_atomically(out, msgspec.json.encode(precoder_file(done)) + b"\n")
        click.echo(f"precoders: {out}")
    click.echo(f"picture: {path}")
