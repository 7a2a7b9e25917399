"""What the oscillators themselves leave of a straight line through a link's offsets, where nobody knows the truth."""

from __future__ import annotations

import numpy as np

from dsp.oscillator import line_wander
from testbed.pairs import difference
from testbed.report.run_data import Row, RunData, rising_seconds
from testbed.schedule import dsp_waveform, period_samples, round_samples, slot_offset_samples

__all__ = ["wander"]


def wander(run: RunData, rows: list[Row]) -> tuple[float, float]:
    """Deviations about a line, of time in seconds and of frequency in hertz; none where the experiment is not there.

    Rounds whose counters start anew are taken to follow each other at once: what is left out wanders the more.
    """
    used = [row for row in rows if row["valid"]]
    scenario = run.experiment
    names = [] if scenario is None else [node.name for node in scenario.node]
    if scenario is None or len(used) < 3 or not {used[0]["receiver"], used[0]["transmitter"]} <= set(names):
        return 0.0, 0.0
    here, there = (names.index(used[0][key]) for key in ("receiver", "transmitter"))
    rate_hz = scenario.waveform.sample_rate_hz
    seconds = rising_seconds(used)
    if seconds is None:
        seconds = np.array([row["round"] for row in used]) * round_samples(scenario) / rate_hz
    frames = (scenario.round.frames_per_slot - 1) * period_samples(scenario) + dsp_waveform(scenario).frame_samples
    time_s, drift = line_wander(
        difference([scenario.node[here], scenario.node[there]]),
        seconds,
        separation_s=abs(slot_offset_samples(scenario, here) - slot_offset_samples(scenario, there)) / rate_hz,
        averaging_s=frames / rate_hz,
    )
    return time_s, drift * scenario.waveform.carrier_hz
