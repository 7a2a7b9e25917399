"""A small experiment to vary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

EXPERIMENT = """
[experiment]
name = "pair"
seed = 40
methods = ["reciprocity-mle", "spectral-cc-interpolated"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 5e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 16
[round]
frame_period_s = 2e-3
guard_s = 4e-3
start_spread_s = 1e-3
[[node]]
name = "west"
position_m = [0.0, 0.0]
clock = { offset_ppm = 3.0, offset_s = 2.0 }
[[node]]
name = "east"
position_m = [30.0, 0.0]
clock = { offset_ppm = -5.0, offset_s = 7.5 }
[scene]
leakage_db = 20.0
[[scene.reflector]]
position_m = [10.0, 35.0]
rcs_m2 = 40.0
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[[str], Path]:
    """Path of a sweep file with the text given, beside the experiment pair.toml."""

    def write(text: str) -> Path:
        (tmp_path / "pair.toml").write_text(EXPERIMENT)
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return path

    return write
