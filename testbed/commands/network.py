"""`isac network`: what a random place in a network of stations gets, by every metric of the survey's Table II."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.commands.options import json_option

if TYPE_CHECKING:
    from testbed.planning.network import Metric

__all__ = ["command"]


@click.command("network")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--draws", type=click.IntRange(min=100), default=20_000, show_default=True, help="Random places drawn.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@json_option()
def command(file: Path, draws: int, seed: int, json_file: Path | None) -> None:
    """Give every metric of a random place in the network that FILE describes: coverage, rates, localization and
    efficiency, by draws and, where there is one, by closed form.
    """
    from rich.console import Console
    from rich.table import Table

    from testbed.bench.rows import BenchRow, write_rows
    from testbed.environment import versions
    from testbed.planning.network import load_network, network_metrics

    said = load_network(file)
    found = network_metrics(said, draws=draws, seed=seed)
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in ("", "by draws", "closed form", "unit"):
        table.add_column(head, justify="left" if head in ("", "unit") else "right", no_wrap=True)
    for metric in found:
        closed = "–" if metric.closed is None else f"{metric.closed:.4g}"
        table.add_row(metric.label, _drawn(metric), closed, "" if metric.unit == "1" else metric.unit)
    Console(highlight=False, markup=False).print(table)
    if json_file is not None:
        rows = [
            BenchRow(
                scenario=said.network.name, metric=metric.name, unit=metric.unit,
                value=None if metric.drawn is None else metric.drawn.value,
                bound=metric.closed,
                ratio=metric.drawn.value / metric.closed if metric.drawn is not None and metric.closed else None,
                trials=None if metric.drawn is None else metric.drawn.trials,
                standard_error=None if metric.drawn is None else metric.drawn.standard_error,
                parameters={"bound": "closed form"} if metric.closed is not None else {},
            )
            for metric in found
        ]  # fmt: skip
        write_rows(json_file, rows, versions())


def _drawn(metric: Metric) -> str:
    """Value and standard error to the error's second digit."""
    from math import floor, log10

    drawn = metric.drawn
    if drawn is None:
        return "–"
    if drawn.standard_error <= 0:
        return f"{drawn.value:.4g}"
    power = floor(log10(abs(drawn.value))) if abs(drawn.value) >= 1e5 else 0
    value, error = drawn.value / 10**power, drawn.standard_error / 10**power
    digits = max(1 - floor(log10(error)), 0)
    told = f"{value:.{digits}f} ± {error:.{digits}f}"
    return f"({told})e{power}" if power else told
