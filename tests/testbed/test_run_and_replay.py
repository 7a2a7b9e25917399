"""A whole run through agents and ether, its replay byte for byte, and rounds in which radios lose samples."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.bench.laboratory import captures
from testbed.cli import main
from testbed.pipeline import Pipeline
from testbed.results import load_results
from testbed.scenario import loads

SCENARIO = """
[experiment]
name = "small"
seed = 5
rounds = 2
methods = ["reciprocity-mle", "reciprocity-mp", "cacc"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 10e6
fft_size = 512
cp_samples = 64
active_subcarriers = 400
symbols = 24
[round]
frames_per_slot = 4
frame_period_s = 2.5e-3
[[node]]
name = "a"
position_m = [0.0, 0.0]
antennas = 2
clock = {{ offset_ppm = 3.1, offset_s = 4.0 }}
front_end = {{ {front} }}
[[node]]
name = "b"
position_m = [24.0, 5.0]
heading_deg = 180.0
antennas = 2
clock = {{ offset_ppm = -6.4, offset_s = -9.0 }}
front_end = {{ {front} }}
[scene]
snr_db = 20.0
[[scene.reflector]]
position_m = [9.0, 18.0]
rcs_m2 = 20.0
"""
CHAINS = "transmit_delay_s = 31e-9, receive_delay_s = 17.3e-9"


def without_the_machine(folder: Path) -> list[bytes]:
    lines = (folder / "results.json").read_bytes().splitlines()
    return [line for line in lines if not line.startswith((b'"environment"', b'"timing"'))]


def test_a_replay_gives_the_same_bytes(tmp_path, without_report):
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO.format(front=CHAINS))
    assert main(["run", str(scenario), "--out", str(tmp_path / "run")]) == 0
    assert main(["replay", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    assert without_the_machine(tmp_path / "run") == without_the_machine(tmp_path / "again")
    results = load_results(tmp_path / "run")
    offsets = [row for row in results.links if row.method == "reciprocity-mle"]
    assert len(offsets) == 4
    for row in offsets:
        assert row.valid
        assert abs(row.to_error_s) < 4.5 * row.to_std_s
        assert row.to_std_s < 40e-12
        assert row.baseline_m == pytest.approx((24.0**2 + 5.0**2) ** 0.5, abs=0.1)


def test_several_recordings_at_once_give_what_each_gives_alone(tmp_path, capsys, without_report):
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO.format(front=CHAINS))
    assert main(["run", str(scenario), "--out", str(tmp_path / "one")]) == 0
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "broken" / "recordings").mkdir(parents=True)
    several = [str(tmp_path / name) for name in ("one", "broken", "two")]
    assert main(["replay", *several, "--out", str(tmp_path / "all"), "--workers", "2", "--no-report"]) == 1
    said = capsys.readouterr().err
    assert "1 of 3 recordings failed" in said
    assert str(tmp_path / "broken") in said
    # by a process of one thread too: with more, sums of the linear algebra have another order
    alone = [sys.executable, "-m", "testbed.cli", "replay", several[0], "--no-report", "--out", str(tmp_path / "alone")]
    subprocess.run(alone, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    for name in ("one", "two"):
        assert without_the_machine(tmp_path / "all" / name) == without_the_machine(tmp_path / "alone")
    assert main(["replay", *several]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert main(["replay", several[0], several[0], "--out", str(tmp_path / "twice")]) == 2
    assert "would both be written" in capsys.readouterr().err


@pytest.mark.parametrize("front", ["time_stamps = true, " + CHAINS, CHAINS])
def test_offsets_survive_lost_samples(front):
    """Lost buffers take frames away; the rest still tells the clocks apart, by time stamps and by leakage."""
    scenario = loads(
        SCENARIO.format(front=front + ", lost_buffer_probability = 0.06, buffer_samples = 8192"), source=""
    )
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    results = pipeline.finish({})
    assert results.losses
    assert sum(row.frames_lost for row in results.payload) > 0
    judged = [row for row in results.links if row.method == "reciprocity-mle" and row.valid]
    assert judged
    assert all(abs(row.to_error_s) < 4.5 * row.to_std_s for row in judged)
