"""`isac replay`: recordings, ours or anyone's, through the same pipeline."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
    from testbed.scenario import Scenario

__all__ = ["command"]


@click.command("replay")
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
@click.option("--scenario", "scenario_file", type=click.Path(path_type=Path), help="What was transmitted.")
@click.option("--methods", help="Methods to use instead of the scenario's, separated by commas.")
@methods_file_option
@fingerprint_option
@click.option(
    "--calibration",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of calibrations instead of the run's own.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to write, runs/NAME-replay-TIME if not given; of several recordings, the folder for theirs.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Of several recordings, how many at once; one a core if not given."
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the recordings' hashes first.")
@click.option(
    "--report/--no-report", default=True, show_default=True, help="Draw the report; `isac report` does it later too."
)
@json_option()
def command(
    recordings: tuple[Path, ...],
    scenario_file: Path | None,
    methods: str | None,
    fingerprint_file: Path | None,
    calibration: Path | None,
    out: Path | None,
    workers: int | None,
    verify: bool,
    report: bool,
    json_file: Path | None,
) -> None:
    """Process RECORDING again: a run's folder, or a SigMF collection with the scenario that made it.

    Several recordings are replayed at once, each into a folder of its name under --out, and the table sets them side
    by side; one that fails does not stop the others.
    """
    if len(recordings) > 1:
        options = {"--scenario": scenario_file, "--methods": methods, "--fingerprint": fingerprint_file}
        options |= {"--calibration": calibration}
        flags = ["--verify" if verify else "--no-verify", "--report" if report else "--no-report"]
        said = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        _several(recordings, out, [*said, *flags], workers, json_file)
    else:
        _one(recordings[0], scenario_file, methods, fingerprint_file, calibration, out, verify, report, json_file)


def _several(
    recordings: tuple[Path, ...], out: Path | None, options: list[str], workers: int | None, json_file: Path | None
) -> None:
    """Replay every recording by a command of its own."""
    from testbed.progress import progress_bar
    from testbed.replaying import replay_all
    from testbed.report.printing import print_figures

    if out is None:
        raise UserError(f"--out is missing: name the folder that takes the replays of {len(recordings)} recordings")
    with progress_bar(len(recordings)) as progress:
        done = replay_all(recordings, out, options=options, workers=workers or os.cpu_count() or 1, progress=progress)
    whole = [one.folder for one in done if (one.folder / "results.json").exists()]
    if whole:
        print_figures(whole, json_file)
    failed = [one for one in done if one.exit_code]
    for one in failed:
        click.echo(f"isac: {one.recording}: {one.complaint or f'ended with exit code {one.exit_code}'}", err=True)
    if failed:
        raise RunError(f"{len(failed)} of {len(done)} recordings failed; the others are in {out}")


def _one(
    recording: Path,
    scenario_file: Path | None,
    methods: str | None,
    fingerprint_file: Path | None,
    calibration: Path | None,
    out: Path | None,
    verify: bool,
    report: bool,
    json_file: Path | None,
) -> None:
    """Replay one recording in this process."""
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
    refuse_folder("--out", folder)
    beside = recording if recording.is_dir() else recording.parent
    known = Calibration.of_run(beside, experiment) if calibration is None else Calibration.on_file(calibration)
    pipeline = Pipeline(experiment, calibration=known)
    with progress_bar(len(recordings.rounds)) as progress:
        for done, index in enumerate(recordings.rounds):
            progress(done, f"round {index}")
            pipeline.process(index, recordings.captures(index))
        progress(len(recordings.rounds), "report" if report else "results")
    folder.mkdir(parents=True)
    write_scenario(folder, experiment)
    known.save(folder)
    events = [msgspec.convert(event, EventRow) for event in recordings.events]
    results = write_products(folder, experiment, pipeline, events, report=report)
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
