"""`isac run`: an experiment from its file to its folder."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from testbed.commands.options import (
    fingerprint_option,
    json_option,
    methods_file_option,
    refuse_folder,
    with_fingerprint,
)
from testbed.errors import RunError, UserError

if TYPE_CHECKING:
    from testbed.coordinator import RunOutcome
    from testbed.pipeline import Pipeline
    from testbed.results import EventRow
    from testbed.scenario import Scenario

__all__ = ["command"]

_SPARE_BYTES = 50_000_000
"""For results, pictures and the report, beside the recordings."""


@click.command("run")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; runs/NAME-TIME if not given.")
@methods_file_option
@fingerprint_option
@json_option()
@click.option(
    "--listen",
    default="tcp://127.0.0.1:*",
    show_default=True,
    metavar="URI",
    help="Where agents on other machines find this run: tcp://HOST:PORT.",
)
@click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    help="The coordinator's folder of keys, as `isac keys` makes it; needed beyond this machine.",
)
@click.option(
    "--calibration",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of calibrations, as `isac calibrate` writes them.",
)
@click.option(
    "--wait",
    "arrival_s",
    type=click.FloatRange(min=0, min_open=True),
    default=7.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an agent to say that it is there.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Follow the rounds as they come, and drop those there is no time for; `isac replay` gives the exact results.",
)
@click.option("--yes", is_flag=True, help="Do not ask before real radios transmit.")
def command(
    scenario: Path,
    out: Path | None,
    fingerprint_file: Path | None,
    json_file: Path | None,
    listen: str,
    keys: Path | None,
    calibration: Path | None,
    arrival_s: float,
    live: bool,
    yes: bool,
) -> None:
    """Run the experiment in the file SCENARIO and write a folder with recordings, results and report."""
    import msgspec

    from testbed.calibration import Calibration
    from testbed.coordinator import FinishedRound, acquire
    from testbed.formats.sigmf_writer import RecordingWriter
    from testbed.live_run import LiveRun
    from testbed.methods import clashes
    from testbed.permission import ask_to_transmit
    from testbed.pipeline import Pipeline
    from testbed.processing import write_scenario
    from testbed.progress import progress_bar
    from testbed.scenario import load

    experiment = with_fingerprint(load(scenario), fingerprint_file)
    known = Calibration.simulated(experiment) if calibration is None else Calibration.on_file(calibration)
    if live and compensating(experiment):
        raise UserError(f"{scenario}: signalling.compensate is true, which takes each round whole: leave --live out")
    following = LiveRun(experiment, known) if live else None
    pipeline = Pipeline(experiment, calibration=known) if following is None else following.chain
    for line in clashes():
        click.echo(f"isac: {line}", err=True)
    ask_to_transmit(experiment, yes=yes)
    folder = out if out is not None else Path("runs") / f"{experiment.experiment.name}-{time.strftime('%Y%m%dT%H%M%S')}"
    check_room(folder, experiment)
    folder.mkdir(parents=True)
    write_scenario(folder, experiment)
    known.save(folder)
    writer = RecordingWriter(folder / "recordings", experiment.experiment.name, nodes=node_facts(experiment))
    told = processed = 0

    def keep(finished: FinishedRound) -> None:
        nonlocal told
        writer.write_round(finished.captures, events=[msgspec.to_builtins(event) for event in finished.events])
        told += len(finished.events)

    def process(finished: FinishedRound) -> None:
        nonlocal processed
        if following is not None:
            following.take(finished)
            return
        pipeline.process(finished.index, finished.captures)
        processed += 1

    try:
        with progress_bar(experiment.experiment.rounds) as progress:
            outcome = acquire(
                experiment,
                keep,
                process,
                progress=progress,
                listen=listen,
                keys=keys,
                arrival_s=arrival_s,
                admit=known.refuse_strangers,
                feedback=pipeline.corrections if compensating(experiment) else None,
            )
        if following is not None:
            processed = following.end(outcome)
        writer.note(*(msgspec.to_builtins(event) for event in outcome.events[told:]))
    finally:
        with full_disk_reported(folder):
            writer.close()
        if not any(writer.folder.glob("*.sigmf-data")):
            shutil.rmtree(folder)  # nothing was recorded: leave nothing behind
    conclude(folder, experiment, pipeline, outcome, processed=processed, json_file=json_file)


def conclude(
    folder: Path,
    scenario: Scenario,
    pipeline: Pipeline,
    outcome: RunOutcome,
    *,
    processed: int,
    json_file: Path | None,
) -> None:
    """Write what was found into ``folder`` and print it; raise what the run's exit code asks for."""
    from testbed.processing import write_products
    from testbed.report.printing import print_figures

    if outcome.refused:
        raise UserError(outcome.failure)
    if outcome.rounds and outcome.at_rest:
        with full_disk_reported(folder):
            if outcome.interrupted:
                write_results(folder, scenario, pipeline, outcome.events)
            else:
                write_products(folder, scenario, pipeline, outcome.events)
                print_figures([folder], json_file)
    if outcome.exit_code:
        leave(folder, outcome, processed)
    click.echo(f"report: {folder / 'report.html'}")


def compensating(scenario: Scenario) -> bool:
    """Whether what one round shows is taken off what is sent in the next."""
    return scenario.signalling is not None and scenario.signalling.compensate


def write_results(folder: Path, scenario: Scenario, pipeline: Pipeline, events: list[EventRow]) -> None:
    """What was found, without the report: whoever presses Ctrl-C wants the prompt back."""
    from testbed.environment import environment
    from testbed.results import save_results
    from testbed.run_folder import PRODUCTS_NAME

    save_results(pipeline.finish(environment(scenario), events), folder)
    pipeline.products.save(folder / PRODUCTS_NAME)
    pipeline.fingerprints.save(folder)


def leave(folder: Path, outcome: RunOutcome, processed: int) -> NoReturn:
    """End a run that did not end well, at once, with one line that says what is kept."""
    kept = len(outcome.rounds)
    text = "interrupted" if outcome.interrupted else outcome.failure
    text += f": {kept} finished round{'s are' if kept != 1 else ' is'} kept" if kept else ": no round was finished"
    if processed < kept:
        text += f", {processed} processed: `isac replay {folder}` processes them all"
    elif kept and outcome.interrupted:
        text += f": `isac report {folder}` makes their report"
    if outcome.at_rest:
        if outcome.interrupted:
            click.echo(f"isac: {text}", err=True)
            raise click.exceptions.Exit(outcome.exit_code)
        raise RunError(text)
    click.echo(f"isac: {text}", err=True)
    # The round being processed would hold up the end of the interpreter for as long as it takes.
    os._exit(outcome.exit_code)


@contextmanager
def full_disk_reported(folder: Path) -> Iterator[None]:
    """Turn the operating system's complaint of a full disk into a failed run."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(f"{folder}: the disk is full: finished rounds are kept") from error


def node_facts(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """What every recording of a node states beside its samples."""
    return {
        node.name: {
            "radio": node.radio,
            "clock_source": "internal",
            "geometry": {
                "position_m": list(node.position_m),
                "heading_deg": node.heading_deg,
                "antenna_spacing_m": node.antenna_spacing_m,
                "port": node.port,
                "tx_offset_m": list(node.tx_offset_m),
                "rx_offset_m": list(node.rx_offset_m),
            },
        }
        for node in scenario.node
    }


def check_room(folder: Path, scenario: Scenario) -> None:
    """Raise `UserError` if ``folder`` exists already, or its disk is too small for the run."""
    from testbed.schedule import recording_bytes

    parent = refuse_folder("--out", folder)
    needed = recording_bytes(scenario) + _SPARE_BYTES
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise UserError(
            f"--out is {folder}, where {free / 1e6:.0f} MB are free, but the run takes {needed / 1e6:.0f} MB: "
            "make room, or record fewer rounds"
        )
