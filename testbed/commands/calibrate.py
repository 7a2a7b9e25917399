"""`isac calibrate`: constants of radios, kept as dated files; and the gains at which everything fits the converters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.commands.options import json_option, refuse_file, refuse_place

if TYPE_CHECKING:
    from testbed.bench.rows import BenchRow
    from testbed.calibrating.measure import Session
    from testbed.calibration_records import Record
    from testbed.scenario import Node, Scenario

__all__ = ["command"]


class _WithDefault(click.Group):
    """A group whose first command is meant where none is named."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if arguments and arguments[0] not in self.commands and arguments[0] not in ("-h", "--help"):
            arguments = ["measure", *arguments]
        return super().parse_args(context, arguments)


@click.group("calibrate", cls=_WithDefault)
def command() -> None:
    """Measure the constants of radios. `isac calibrate SCENARIO` is short for `isac calibrate measure SCENARIO`."""


@command.command("measure", short_help="Measure every radio's constants, against itself and the others.")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("calibrations"), show_default=True,
    help="Folder of calibrations to add to.",
)  # fmt: skip
@click.option("--starts", type=click.IntRange(1, 100), default=4, show_default=True, help="Stream starts to measure.")
@click.option("--rounds", type=click.IntRange(2, 1000), default=8, show_default=True, help="Rounds to measure.")
@click.option("--common-clock", is_flag=True, help="The devices share a clock, and counters that stamp times agree.")
@click.option("--cable", is_flag=True, help="All antennas of a node are fed alike, by a splitter.")
@click.option("--path-ns", type=float, help="Delay of the cable between the nodes; the line of sight's if not given.")
@click.option("--yes", is_flag=True, help="Do not ask before real radios transmit.")
@click.option("--linearity/--no-linearity", default=True, show_default=True, help="Measure level over level too.")
@json_option()
def measure(
    scenario: Path,
    out: Path,
    starts: int,
    rounds: int,
    common_clock: bool,
    cable: bool,
    path_ns: float | None,
    linearity: bool,
    yes: bool,
    json_file: Path | None,
) -> None:
    """Measure every radio of SCENARIO against itself and the others, and write a dated file for each."""
    from testbed.bench.rows import write_rows
    from testbed.calibrating.measure import STEPS_DB, Wishes
    from testbed.calibrating.measure import measure as measured
    from testbed.calibration_records import save_record
    from testbed.environment import environment
    from testbed.permission import ask_to_transmit
    from testbed.progress import progress_bar
    from testbed.scenario import load

    experiment = load(scenario)
    refuse_place("--out", out)
    ask_to_transmit(experiment, yes=yes)
    wishes = Wishes(
        starts=starts, rounds=rounds, common_clock=common_clock, cable=cable,
        path_s=None if path_ns is None else 1e-9 * path_ns, steps=linearity,
    )  # fmt: skip
    with progress_bar(starts + rounds + (len(STEPS_DB) if linearity else 0)) as progress:
        session = measured(experiment, wishes, progress)
    rows = _figures(experiment, session)
    _print(rows)
    for note in session.notes:
        click.echo(f"note: {note}")
    for record in session.records:
        click.echo(f"{save_record(record, out)}: written")
    if json_file is not None:
        write_rows(json_file, rows, environment(experiment))


@command.command("levels", short_help="Find gains at which everything fits each node's converter.")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the spectra into this PNG.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the experiment with the gains found to this file.")
@click.option("--yes", is_flag=True, help="Do not ask before real radios transmit.")
@json_option()
def levels(scenario: Path, figure: Path | None, out: Path | None, yes: bool, json_file: Path | None) -> None:
    """Find gains at which each node's leakage and the others fit its converter; say which attenuator is missing.

    Exit codes: 0 everything fits; 1 something does not, and no gain mends it; 2 the input was wrong.
    """
    from testbed.bench.rows import write_rows
    from testbed.calibrating.levels import search
    from testbed.environment import environment
    from testbed.errors import UserError
    from testbed.permission import ask_to_transmit
    from testbed.progress import progress_bar
    from testbed.scenario import dumps, load

    if out is not None and out.exists():
        raise UserError(f"--out is {out}, which exists already: choose another name")
    experiment = load(scenario)
    for option, path in (("--out", out), ("--figure", figure)):
        if path is not None:
            refuse_file(option, path)
    ask_to_transmit(experiment, yes=yes)
    with progress_bar(5) as progress:
        found = search(experiment, progress)
    rows = []
    for one in found.nodes:
        click.echo(f"{one.node}: noise {one.floor_dbfs:.1f} dBFS, converter's steps {one.steps_dbfs:.1f} dBFS")
        rows.append(_row(experiment, one.node, "noise_floor", "dBFS", one.floor_dbfs, None, 1, None))
        for heard in one.heard:
            label = "itself" if heard.transmitter == one.node else heard.transmitter
            click.echo(
                f"  {label:10} {heard.level.dbfs:6.1f} dBFS, peaks {heard.level.peak_dbfs:5.1f}, "
                f"clipped {100 * heard.level.clipped:.2g} %, SNR {heard.snr_db:.1f} dB of {heard.best_snr_db:.1f} that "
                "the converter leaves"
            )
            pair = f"{one.node}<-{heard.transmitter}"
            rows += [
                _row(experiment, pair, "level", "dBFS", heard.level.dbfs, None, 1, None),
                _row(experiment, pair, "clipped", "1", heard.level.clipped, None, 1, None),
                _row(experiment, pair, "snr", "dB", heard.snr_db, None, 1, None),
            ]
    for line in found.changes:
        click.echo(f"set {line}")
    for line in found.advice:
        click.echo(f"missing: {line}")
    if not found.changes and found.settled:
        click.echo("the gains stand where they should")
    if figure is not None:
        from testbed.report.levels_figure import write_levels_figure

        write_levels_figure(found.nodes, figure)
        click.echo(f"{figure}: written")
    if out is not None:
        out.write_text(dumps(found.scenario), encoding="utf-8")
        click.echo(f"{out}: written")
    if json_file is not None:
        write_rows(json_file, rows, environment(experiment))
    if found.advice or not found.settled:
        raise click.exceptions.Exit(1)


def _figures(scenario: Scenario, session: Session) -> list[BenchRow]:
    """Figures of a session as rows; among the parameters, what the simulation knows of each, where it does."""
    truths = _Truths(scenario, session.records)
    rows: list[BenchRow] = []
    for node, record in zip(scenario.node, session.records, strict=True):
        rows += _node_figures(scenario, node, record, truths)
    for pair in session.exchanges:
        label = f"{pair.first}-{pair.second}"
        if pair.asymmetry_s is not None:
            truth = truths.constant_s(pair.first, pair.second)
            rows.append(
                _row(scenario, label, "chain_constant", "s", pair.asymmetry_s, pair.asymmetry_std_s, pair.rounds, truth)
            )
        truth = truths.common_s(pair.first, pair.second)
        rows.append(_row(scenario, label, "common_delay", "s", pair.common_s, pair.common_std_s, pair.rounds, truth))
    return rows


def _node_figures(scenario: Scenario, node: Node, record: Record, truths: _Truths) -> list[BenchRow]:
    rows = []
    front = node.front_end if node.radio == "simulated" else None

    def add(
        label: str, metric: str, unit: str, value: float, truth: float | None = None, deviation: float | None = None,
        trials: int = 1,
    ) -> None:  # fmt: skip
        rows.append(_row(scenario, label, metric, unit, value, deviation, trials, truth))

    chain, rate_hz = record.chain, record.rate_hz
    if chain is not None and chain.fraction is not None:
        deviation = None if chain.fraction_std is None else chain.fraction_std / rate_hz
        # A fraction just below a whole sample is a little less than none; the truth is taken from the same turn.
        value_s = _nearest(chain.fraction / rate_hz, 0.0, rate_hz)
        truth = truths.fraction_s(node.name)
        truth = None if truth is None else _nearest(truth, value_s, rate_hz)
        add(node.name, "leakage_fraction", "s", value_s, truth, deviation, chain.starts)
    if record.shape is not None and any(record.shape.gain_db):
        shape = record.shape
        for metric, unit, series, deviation in (
            ("chain_gain", "dB", shape.gain_db, shape.std_db), ("chain_phase", "deg", shape.phase_deg, shape.std_deg)
        ):  # fmt: skip
            add(node.name, metric, unit, _over_band(series), deviation=deviation, trials=chain.starts if chain else 1)
    if record.leakage_dbfs is not None:
        add(node.name, "leakage_level", "dBFS", record.leakage_dbfs)
    if record.linearity is not None:
        add(node.name, "level_slope", "dB/dB", record.linearity.slope, trials=len(record.linearity.step_db))
        add(node.name, "compression", "dB", record.linearity.compression_db)
    for index, antenna in enumerate(record.antenna):
        label = f"{node.name}.{index}"
        add(label, "dc_in_phase", "1", antenna.dc[0], None if front is None else front.dc_offset[0])
        add(label, "dc_quadrature", "1", antenna.dc[1], None if front is None else front.dc_offset[1])
        if antenna.image_db is not None:
            truth = None if front is None else front.gain_imbalance_db
            add(label, "gain_imbalance", "dB", antenna.gain_imbalance_db, truth)
            truth = None if front is None else front.phase_imbalance_deg
            add(label, "phase_imbalance", "deg", antenna.phase_imbalance_deg, truth)
        if index:
            truth = None if front is None else 0.0  # simulated antennas are alike
            add(label, "antenna_gain", "dB", antenna.gain_db, truth, antenna.gain_std_db)
            add(label, "antenna_phase", "deg", antenna.phase_deg, truth, antenna.phase_std_deg)
    return rows


def _nearest(value_s: float, to_s: float, rate_hz: float) -> float:
    """The value that is whole samples away from ``value_s`` and nearest to ``to_s``."""
    return value_s - round((value_s - to_s) * rate_hz) / rate_hz


def _over_band(series: Sequence[float]) -> float:
    """Root mean square over the band of a Legendre series from order one."""
    return math.sqrt(sum(value**2 / (2 * order + 1) for order, value in enumerate(series, start=1)))


def _row(
    scenario: Scenario,
    label: str,
    metric: str,
    unit: str,
    value: float,
    deviation: float | None,
    trials: int,
    truth: float | None,
) -> BenchRow:
    from testbed.bench.rows import BenchRow

    return BenchRow(
        scenario=scenario.experiment.name,
        method="calibrate",
        parameters={"of": label} | ({} if truth is None else {"truth": truth, "error": float(value - truth)}),
        metric=metric,
        unit=unit,
        value=float(value),
        standard_error=None if deviation is None else float(deviation),
        trials=trials,
    )


def _print(rows: list[BenchRow]) -> None:
    """Table of the figures, with errors where the truth is known."""
    from rich.console import Console
    from rich.table import Table

    from testbed.report.style import quantity

    known = any("truth" in row.parameters for row in rows)
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in ("of", "figure"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "± s.e.", *(("truth", "error") if known else ())):
        table.add_column(name, justify="right", no_wrap=True)

    def shown(value: float | None, unit: str) -> str:
        if value is None or unit == "s":
            return quantity(value, "s", digits=4)
        return f"{value:.4g} {unit}" if unit != "1" else f"{value:.4g}"

    for row in rows:
        cells = [row.value, row.standard_error]
        cells += [row.parameters.get("truth"), row.parameters.get("error")] if known else []
        table.add_row(str(row.parameters["of"]), row.metric, *(shown(cell, row.unit) for cell in cells))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)


class _Truths:
    """What the experiment's file says of its simulated radios' chains."""

    def __init__(self, scenario: Scenario, records: Sequence[Record]) -> None:
        self._nodes = {node.name: node.front_end for node in scenario.node if node.in_ether}
        self._stamped = {
            node.name
            for node, record in zip(scenario.node, records, strict=True)
            if record.chain is not None and record.chain.departure == "time-stamp"
        }

    def fraction_s(self, node: str) -> float | None:
        """Loop through a node's leakage, modulo a sample; None for a real radio."""
        front = self._nodes.get(node)
        if front is None:
            return None
        return front.transmit_delay_s + front.receive_delay_s + front.leakage_delay_s

    def constant_s(self, first: str, second: str) -> float | None:
        """What the chains add to a link's time offset; None where a radio is real."""
        one, other = self._nodes.get(first), self._nodes.get(second)
        if one is None or other is None:
            return None
        halves = [
            0.5 * (front.receive_delay_s - front.transmit_delay_s)
            if name in self._stamped
            else front.receive_delay_s + 0.5 * front.leakage_delay_s
            for name, front in ((first, one), (second, other))
        ]
        return halves[0] - halves[1]

    def common_s(self, first: str, second: str) -> float | None:
        """What the chains add to a link's baseline as a delay, both ways together; None where a radio is real."""
        one, other = self._nodes.get(first), self._nodes.get(second)
        if one is None or other is None:
            return None
        return sum(
            front.receive_delay_s + front.transmit_delay_s if name in self._stamped else -front.leakage_delay_s
            for name, front in ((first, one), (second, other))
        )
