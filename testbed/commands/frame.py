"""`isac frame`: one frame that a node transmits, for signal generators and other people's simulators."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(name="frame")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--node", required=True, help="Node that transmits the frame.")
@click.option(
    "--round", "number", type=click.IntRange(min=0), default=0, show_default=True, help="Round it is sent in."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="SigMF recording to write: FILE.sigmf-data."
)
def command(scenario: Path, node: str, number: int, out: Path) -> None:
    """Write the frame that a node of SCENARIO transmits: cf32_le, peak at most 1, preamble first, no padding."""
    from dsp.waveform import frame
    from testbed.errors import UserError
    from testbed.formats.sigmf_writer import write_samples
    from testbed.scenario import load
    from testbed.schedule import dsp_waveform

    experiment = load(scenario)
    identity = experiment.index(node)
    if number >= experiment.experiment.rounds:
        raise UserError(f"--round {number}: {scenario} has rounds 0 to {experiment.experiment.rounds - 1}")
    waveform = dsp_waveform(experiment)
    sent = frame(waveform, identity=identity, round_index=number, seed=experiment.experiment.seed)
    meta = write_samples(
        out,
        sent.samples,
        rate_hz=waveform.rate_hz,
        carrier_hz=waveform.carrier_hz,
        description=f"Frame that node {node} transmits in round {number} of {experiment.experiment.name}",
        facts={"node": node, "antenna": 0},
        number=number,
    )
    click.echo(
        f"{meta.with_suffix('.sigmf-data')}: {len(sent.samples)} samples at {float(waveform.rate_hz):g} Hz, "
        f"of which the first {waveform.preamble_samples} are the preamble; peak {abs(sent.samples).max():.3f}"
    )
