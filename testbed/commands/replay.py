"""`isac replay`: recordings, ours or anyone's, through the same pipeline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.commands.options import fingerprint_option, methods_file_option, with_fingerprint
from testbed.errors import RunError, UserError

if TYPE_CHECKING:
    from testbed.scenario import Scenario

__all__ = ["command"]


@click.command("replay")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--scenario", "scenario_file", type=click.Path(path_type=Path), help="What was transmitted.")
@click.option("--methods", help="Methods to use instead of the scenario's, separated by commas.")
@methods_file_option
@fingerprint_option
@click.option(
    "--calibration",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of calibrations instead of the run's own.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; runs/NAME-replay-TIME if not given.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the recordings' hashes first.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the printed figures here too.")
def command(
    recording: Path,
    scenario_file: Path | None,
    methods: str | None,
    fingerprint_file: Path | None,
    calibration: Path | None,
    out: Path | None,
    verify: bool,
    json_file: Path | None,
) -> None:
    """Process RECORDING again: a run's folder, or a SigMF collection with the scenario that made it."""
    import msgspec

    from testbed.calibration import Calibration
    from testbed.formats.sigmf_reader import read_recordings
    from testbed.methods import clashes
    from testbed.pipeline import Pipeline
    from testbed.processing import write_products, write_scenario
    from testbed.progress import progress_bar
    from testbed.report.printing import print_figures
    from testbed.results import EventRow

    recordings = read_recordings(recording, verify=verify)
    experiment = with_fingerprint(_scenario(recording, scenario_file, methods), fingerprint_file)
    for line in clashes():
        click.echo(f"isac: {line}", err=True)
    recordings.check_against(
        rate_hz=experiment.waveform.sample_rate_hz,
        carrier_hz=experiment.waveform.carrier_hz,
        antennas={node.name: node.antennas for node in experiment.node},
    )
    if not recordings.rounds:
        raise UserError(f"{recording}: holds no whole round")
    name = f"{experiment.experiment.name}-replay-{time.strftime('%Y%m%dT%H%M%S')}"
    folder = out if out is not None else Path("runs") / name
    if folder.exists():
        raise UserError(f"--out is {folder}, which exists already: choose another folder, or remove it")
    beside = recording if recording.is_dir() else recording.parent
    known = Calibration.of_run(beside, experiment) if calibration is None else Calibration.on_file(calibration)
    pipeline = Pipeline(experiment, calibration=known)
    with progress_bar(len(recordings.rounds)) as progress:
        for done, index in enumerate(recordings.rounds):
            progress(done, f"round {index}")
            pipeline.process(index, recordings.captures(index))
        progress(len(recordings.rounds), "report")
    folder.mkdir(parents=True)
    write_scenario(folder, experiment)
    known.save(folder)
    events = [msgspec.convert(event, EventRow) for event in recordings.events]
    results = write_products(folder, experiment, pipeline, events)
    print_figures([folder], json_file)
    if not any(row.valid for row in results.links):
        raise RunError(f"{folder}: no link was synchronized by any method; the report says why")


def _scenario(recording: Path, given: Path | None, methods: str | None) -> Scenario:
    """Scenario named, or the one beside the recording, with the methods asked for."""
    import msgspec

    from testbed.methods import available, complaint
    from testbed.run_folder import SCENARIO_NAME
    from testbed.scenario import load

    folder = recording if recording.is_dir() else recording.parent
    beside = [path for path in (folder / SCENARIO_NAME, folder.parent / SCENARIO_NAME) if path.is_file()]
    if given is None and not beside:
        raise UserError(f"{recording}: there is no {SCENARIO_NAME} beside it: name the experiment with --scenario FILE")
    scenario = load(beside[0] if given is None else given, methods_here=methods is None)
    if methods is None:
        return scenario
    wanted = tuple(name.strip() for name in methods.split(",") if name.strip())
    wrong = [f"{name!r}, {text}" for name in wanted if (text := complaint(name)) is not None]
    if wrong:
        raise UserError(f"--methods names {wrong[0]}")
    if not wanted:
        raise UserError(f"--methods is {methods!r}: choose among {', '.join(available())}")
    return msgspec.structs.replace(scenario, experiment=msgspec.structs.replace(scenario.experiment, methods=wanted))
