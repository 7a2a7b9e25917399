"""Whether the deviations that two-way methods state are those of their errors: from IQ, slots of one and many frames.

4 MS/s, 256 points, 200 subcarriers, 16 symbols a frame, 2.4 GHz, 25 dB, half-duplex, TCXO and 0.5° of synthesizer
noise; places, clocks and two reflectors random. Each world is a run of its own through simulated radios and the
pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import tomli_w

from testbed.bench.rows import BenchRow
from testbed.results import LinkRow
from testbed.scenario import Scenario, loads

__all__ = ["FRAMES", "METHODS", "ROUNDS", "rows", "run_world"]

FRAMES = (1, 10)
"""Frames per slot."""
METHODS = ("reciprocity-mle", "reciprocity-mp", "spectral-cc", "spectral-cc-interpolated")
ROUNDS = 10
"""Rounds of a world."""


def run_world(frames: int, rounds: int, seed: int) -> list[LinkRow]:
    """Rows of the links of one random run, of one direction: the other is its mirror."""
    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline

    scenario = _scenario(frames, rounds, seed)
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    return [row for row in pipeline.finish({}).links if row.receiver == "a"]


def rows(frames: int, links: Sequence[LinkRow]) -> list[BenchRow]:
    """Normalised errors squared by method: one on the average where deviations are honest."""
    made = []
    for method in METHODS:
        valid = [row for row in links if row.method == method and row.valid]
        for metric, error, deviation in (
            ("to_nees", "to_error_s", "to_std_s"),
            ("cfo_nees", "cfo_error_hz", "cfo_std_hz"),
        ):
            squares = [(getattr(row, error) / getattr(row, deviation)) ** 2 for row in valid]
            value = float(np.mean(squares)) if squares else None
            made.append(
                BenchRow(
                    scenario="deviations", method=method, parameters={"frames_per_slot": frames}, metric=metric,
                    unit="1", value=value, bound=1.0, ratio=value, trials=len(squares),
                    standard_error=sqrt(2.0 / len(squares)) if squares else None,
                )
            )  # fmt: skip
    return made


def _scenario(frames: int, rounds: int, seed: int) -> Scenario:
    rng = np.random.default_rng([seed, frames, 0xDE])
    distance_m, turn = rng.uniform(10.0, 40.0), rng.uniform(0.0, 2.0 * np.pi)
    places = ([0.0, 0.0], [float(distance_m * np.cos(turn)), float(distance_m * np.sin(turn))])
    return loads(
        tomli_w.dumps({
            "experiment": {"name": "deviations", "seed": seed, "rounds": rounds, "methods": list(METHODS)},
            "waveform": {
                "carrier_hz": 2.4e9, "sample_rate_hz": 4e6, "fft_size": 256, "cp_samples": 32,
                "active_subcarriers": 200, "symbols": 16,
            },
            "round": {"frames_per_slot": frames, "frame_period_s": 2e-3},
            "node": [
                {
                    "name": name,
                    "position_m": place,
                    "clock": {"offset_ppm": rng.uniform(-25, 25), "offset_s": rng.uniform(-20, 20), "profile": "tcxo"},
                    "front_end": {"time_stamps": True},
                }
                for name, place in zip("ab", places, strict=True)
            ],
            "scene": {
                "snr_db": 25.0,
                "reflector": [
                    {"position_m": rng.uniform(-60, 60, 2).tolist(), "rcs_m2": float(10 ** rng.uniform(0.5, 2.0))}
                    for _ in range(2)
                ],
            },
        }),
        source="deviations",
    )  # fmt: skip
