"""What real radios will transmit, shown and asked for once before anything does."""

from __future__ import annotations

import sys

import click

from testbed import schedule
from testbed.errors import UserError
from testbed.radio_checks import band_hz, real_nodes
from testbed.scenario import Scenario

__all__ = ["ask_to_transmit", "duty_cycle", "transmissions"]


def duty_cycle(scenario: Scenario) -> float:
    """Share of the time in which one node transmits, at most: rounds follow each other without a pause."""
    frame = schedule.dsp_waveform(scenario).frame_samples / scenario.waveform.sample_rate_hz
    return scenario.round.frames_per_slot * frame / schedule.round_period_s(scenario)


def transmissions(scenario: Scenario) -> list[str]:
    """One line for each real radio: where, how strong and how much of the time it will transmit."""
    low, high = band_hz(scenario)
    share = 100 * duty_cycle(scenario)
    lines = []
    for node in real_nodes(scenario):
        setting = ""
        if node.pluto is not None and node.radio == "pluto":
            setting = f", attenuation {node.pluto.tx_attenuation_db:g} dB"
        if node.usrp is not None and node.radio == "usrp":
            setting = f", transmit gain {node.usrp.tx_gain_db:g} dB"
        lines.append(
            f"{node.name} ({node.radio}): {low / 1e6:.3f} to {high / 1e6:.3f} MHz, {node.tx_power_dbm:g} dBm at full "
            f"scale as the file says{setting}, {share:.2g} % of the time"
        )
    return lines


def ask_to_transmit(scenario: Scenario, *, yes: bool) -> None:
    """Show what real radios will transmit, and ask unless ``yes``; nothing where none is real.

    Raises
    ------
    UserError
        If the experiment does not say where it may transmit, or the answer is no, or nobody is there to answer.
    """
    real = real_nodes(scenario)
    if not real:
        return
    low, high = band_hz(scenario)
    if not scenario.transmission.bands_hz:
        raise UserError(
            f"transmission.bands_hz is missing, but {real[0].name!r} is a real radio that will transmit at "
            f"{low / 1e6:.3f} to {high / 1e6:.3f} MHz: give the bands in which you may, as in [[2400e6, 2483.5e6]]"
        )
    for line in transmissions(scenario):
        click.echo(line, err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("real radios transmit only when somebody agrees: add --yes")
    if not click.confirm("Transmit?", default=False, err=True):
        raise UserError("not agreed: nothing was transmitted")
