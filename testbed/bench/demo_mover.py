"""The demo's mover, found round by round in worlds that differ in noise, phases and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from testbed.scenario import Scenario, load

__all__ = ["MoverTrial", "run_trial"]

_SCENARIO = Path(__file__).parents[2] / "scenarios" / "two-nodes.toml"


@dataclass(frozen=True)
class MoverTrial:
    """One round of the demo."""

    found: bool
    """On every link."""
    range_cells: tuple[float, ...]
    """Error of each link's detection, in resolution cells."""
    doppler_cells: tuple[float, ...]
    ghosts: float
    """Detections a map that are no target's."""


def run_trial(seed: int) -> MoverTrial:
    """One round of the demo with the mover moved along its way and everything random drawn anew."""
    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline

    scenario = _scenario(seed)
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    results = pipeline.finish({})
    method = scenario.experiment.methods[0]
    truths = {(row.receiver, row.transmitter): row for row in (results.truth.targets if results.truth else [])}
    mine = [row for row in results.detections if row.method == method]
    named = {(row.receiver, row.transmitter): row for row in mine if row.target is not None}
    bandwidth_hz = scenario.waveform.active_subcarriers * scenario.waveform.sample_rate_hz / scenario.waveform.fft_size
    interval_s = scenario.round.frames_per_slot * scenario.round.frame_period_s
    pairs = [(named[link], truths[link]) for link in named]
    return MoverTrial(
        found=bool(truths) and set(named) == set(truths),
        range_cells=tuple(((row.delay_s or 0.0) - true.delay_s) * bandwidth_hz for row, true in pairs),
        doppler_cells=tuple((row.doppler_hz - true.doppler_hz) * interval_s for row, true in pairs),
        ghosts=sum(row.target is None for row in mine) / max(len(truths), 1),
    )


def _scenario(seed: int) -> Scenario:
    scenario = load(_SCENARIO)
    rng = np.random.default_rng([seed, 0xD])
    replace = msgspec.structs.replace
    # Where the mover is in the demo's rounds: up to a second along its way.
    ahead_s = float(rng.uniform(0.0, 0.8))
    reflectors = tuple(
        replace(one, position_m=tuple(x + v * ahead_s for x, v in zip(one.position_m, one.velocity_mps, strict=True)))
        for one in scenario.scene.reflector
    )
    nodes = tuple(
        replace(node, clock=replace(node.clock, offset_ppm=float(rng.uniform(-10, 10)))) for node in scenario.node
    )
    experiment = replace(scenario.experiment, seed=seed, rounds=1, methods=("reciprocity-mle",))
    return replace(scenario, experiment=experiment, node=nodes, scene=replace(scenario.scene, reflector=reflectors))
