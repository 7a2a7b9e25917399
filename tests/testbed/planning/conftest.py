"""Experiments to plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tomli_w

from testbed.scenario import Scenario, loads


@pytest.fixture
def layout() -> Callable[..., Scenario]:
    """Scenario of ``nodes`` at random places of a circle of 40 m with a wall and a mover."""

    def make(seed: int, nodes: int = 3, **changes: dict[str, Any]) -> Scenario:
        rng = np.random.default_rng(seed)
        turn = 2 * np.pi * (np.arange(nodes) + rng.uniform(0.2, 0.8, nodes)) / nodes
        raw: dict[str, Any] = {
            "experiment": {"name": "layout", "seed": seed, "methods": ["reciprocity-mle", "cacc"]},
            "waveform": {
                "carrier_hz": 2.4e9, "sample_rate_hz": 10e6, "fft_size": 512, "cp_samples": 64,
                "active_subcarriers": 400, "symbols": 24,
            },
            "round": {"frames_per_slot": 4, "frame_period_s": 2.5e-3},
            "node": [
                {
                    "name": f"n{index}",
                    "position_m": [40 * np.cos(angle), 40 * np.sin(angle)],
                    "heading_deg": float(np.degrees(angle)) % 360 - 180,
                    "antennas": 2,
                    "clock": {"offset_ppm": float(rng.uniform(-10, 10))},
                }
                for index, angle in enumerate(turn)
            ],
            "scene": {
                "reflector": [
                    {"name": "wall", "position_m": [-30.0, 45.0], "rcs_m2": 10.0},
                    {"name": "car", "position_m": rng.uniform(-12, 12, 2).tolist(), "velocity_mps": [6.0, -5.0],
                     "rcs_m2": 5.0},
                ]
            },
        }  # fmt: skip
        for table, keys in changes.items():
            raw[table] |= keys
        return loads(tomli_w.dumps(raw), source="layout")

    return make
