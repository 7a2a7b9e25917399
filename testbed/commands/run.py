"""`isac run`: an experiment from its file to its folder."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from testbed.errors import RunError, UserError

if TYPE_CHECKING:
    from testbed.coordinator import RunOutcome
    from testbed.pipeline import Pipeline
    from testbed.scenario import Scenario

__all__ = ["command"]

_SPARE_BYTES = 50_000_000
"""For results, pictures and the report, beside the recordings."""


@click.command("run")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; runs/NAME-TIME if not given.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the printed figures here too.")
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
    "--wait",
    "arrival_s",
    type=click.FloatRange(min=0, min_open=True),
    default=7.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an agent to say that it is there.",
)
def command(
    scenario: Path, out: Path | None, json_file: Path | None, listen: str, keys: Path | None, arrival_s: float
) -> None:
    """Run the experiment in the file SCENARIO and write a folder with recordings, results and report."""
    import msgspec

    from testbed.coordinator import FinishedRound, acquire
    from testbed.formats.sigmf_writer import RecordingWriter
    from testbed.pipeline import Pipeline
    from testbed.processing import write_products, write_scenario
    from testbed.progress import progress_bar
    from testbed.report.printing import print_figures
    from testbed.scenario import load

    experiment = load(scenario)
    folder = out if out is not None else Path("runs") / f"{experiment.experiment.name}-{time.strftime('%Y%m%dT%H%M%S')}"
    check_room(folder, experiment)
    folder.mkdir(parents=True)
    write_scenario(folder, experiment)
    writer = RecordingWriter(folder / "recordings", experiment.experiment.name)
    pipeline = Pipeline(experiment)
    told = 0

    def keep(finished: FinishedRound) -> None:
        nonlocal told
        writer.write_round(finished.captures, events=[msgspec.to_builtins(event) for event in finished.events])
        told += len(finished.events)

    def process(finished: FinishedRound) -> None:
        pipeline.process(finished.index, finished.captures)

    try:
        with progress_bar(experiment.experiment.rounds) as progress:
            outcome = acquire(
                experiment, keep, process, progress=progress, listen=listen, keys=keys, arrival_s=arrival_s
            )
        writer.note(*(msgspec.to_builtins(event) for event in outcome.events[told:]))
    finally:
        writer.close()
        if not any(writer.folder.glob("*.sigmf-data")):
            shutil.rmtree(folder)  # nothing was recorded: leave nothing behind
    if outcome.interrupted:
        leave(folder, experiment, pipeline, outcome)
    if outcome.rounds:
        write_products(folder, experiment, pipeline, outcome.events)
        print_figures([folder], json_file)
    if outcome.failure:
        raise RunError(outcome.failure)
    click.echo(f"report: {folder / 'report.html'}")


def leave(folder: Path, scenario: Scenario, pipeline: Pipeline, outcome: RunOutcome) -> NoReturn:
    """End after an interrupt, at once: what was found is written, the report can be made later."""
    from testbed.environment import environment
    from testbed.results import save_results
    from testbed.run_folder import PRODUCTS_NAME

    if outcome.rounds and outcome.at_rest:
        save_results(pipeline.finish(environment(scenario), outcome.events), folder)
        pipeline.products.save(folder / PRODUCTS_NAME)
    kept = f"{len(outcome.rounds)} finished rounds are kept: `isac replay {folder}` processes them"
    click.echo(f"isac: interrupted; {kept if outcome.rounds else 'nothing was recorded'}", err=True)
    if not outcome.at_rest:
        # The round being processed would hold up the end of the interpreter for as long as it takes.
        os._exit(130)
    raise click.exceptions.Exit(130)


def check_room(folder: Path, scenario: Scenario) -> None:
    """Raise `UserError` if ``folder`` exists already, or its disk is too small for the run."""
    from testbed.schedule import recording_bytes

    if folder.exists() or folder.is_symlink():
        raise UserError(f"--out is {folder}, which exists already: choose another folder, or remove it")
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir():
        raise UserError(f"--out is {folder}, but {parent} is no folder: choose another")
    needed = recording_bytes(scenario) + _SPARE_BYTES
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise UserError(
            f"--out is {folder}, where {free / 1e6:.0f} MB are free, but the run takes {needed / 1e6:.0f} MB: "
            "make room, or record fewer rounds"
        )
