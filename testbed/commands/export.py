"""`isac export`: a run's results, CSI and IQ as named arrays."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(name="export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="FILE.npz for numpy or FILE.mat for MATLAB."
)
@click.option("--round", "rounds", type=int, multiple=True, help="CSI and IQ of this round only; may be repeated.")
@click.option("--csi/--no-csi", default=True, show_default=True, help="Recompute and include the CSI.")
@click.option("--iq/--no-iq", default=True, show_default=True, help="Include the recorded samples.")
def command(folder: Path, out: Path, rounds: tuple[int, ...], csi: bool, iq: bool) -> None:
    """Write the run in FOLDER as arrays: offsets, detections, positions, CSI and IQ."""
    from rich.console import Console
    from rich.progress import Progress

    from testbed.errors import UserError
    from testbed.formats.export import check_output, csi_arrays, iq_arrays, result_arrays, save_arrays
    from testbed.run_folder import open_run

    check_output(out)
    run = open_run(folder)
    arrays = result_arrays(run.results)
    if csi or iq:
        unknown = sorted(set(rounds) - set(run.recordings.rounds))
        if unknown:
            raise UserError(f"--round {unknown[0]}: {folder} has rounds {', '.join(map(str, run.recordings.rounds))}")
    wanted = set(rounds or (run.recordings.rounds if csi or iq else ()))
    with Progress(
        console=Console(stderr=True), disable=not Console(stderr=True).is_terminal, transient=True
    ) as progress:
        for source, chosen in ((csi_arrays, csi), (iq_arrays, iq)):
            if chosen:
                for name, array in progress.track(source(run, wanted), description=source.__name__):
                    arrays[name] = array
    save_arrays(arrays, out)
    click.echo(f"{out}: {len(arrays)} arrays, {sum(array.nbytes for array in arrays.values()) / 1e6:.1f} MB")
