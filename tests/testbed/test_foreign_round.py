"""A round that somebody else made: `isac frame`, an exact simulator of their own, SigMF, `isac replay`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from testbed.cli import main
from testbed.results import load_results

RATE_HZ, CARRIER_HZ = 20e6, 2.4e9
SCENARIO = """
[experiment]
name = "foreign"
methods = ["reciprocity-mle", "reciprocity-mp"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 20e6
symbols = 32
[round]
frames_per_slot = 2
frame_period_s = 3e-3
[[node]]
name = "left"
position_m = [0.0, 0.0]
radio = "recorded"
[[node]]
name = "right"
position_m = [21.0, 0.0]
radio = "recorded"
"""


def frame_of(folder: Path, scenario: Path, node: str) -> np.ndarray:
    """The frame as a signal generator would be given it."""
    assert main(["frame", str(scenario), "--node", node, "--out", str(folder / node)]) == 0
    data = next(folder.glob(f"{node}*.sigmf-data"))
    samples = np.fromfile(data, np.complex64)
    for path in folder.glob(f"{node}*.sigmf-*"):
        path.unlink()
    return samples


def write_sigmf(folder: Path, node: str, counts: np.ndarray) -> None:
    """A recording with nothing in it but what the SigMF core namespace has."""
    data = counts.astype("<i2").tobytes()
    (folder / f"{node}-0.sigmf-data").write_bytes(data)
    meta = {
        "global": {
            "core:datatype": "ci16_le",
            "core:version": "1.2.0",
            "core:sample_rate": RATE_HZ,
            "core:sha512": hashlib.sha512(data).hexdigest(),
        },
        "captures": [{"core:sample_start": 0, "core:frequency": CARRIER_HZ}],
        "annotations": [],
    }
    (folder / f"{node}-0.sigmf-meta").write_text(json.dumps(meta))


@pytest.mark.parametrize(("seed", "leakage_db", "whole"), [(3, 30.0, True), (4, 50.0, True), (5, 40.0, False)])
def test_a_foreign_round_replays_to_the_bound(tmp_path, foreign_laboratory, foreign_node, seed, leakage_db, whole):
    """Departures at whole samples of the node's clock, and at fractions that only its leakage tells."""
    rng = np.random.default_rng(seed)
    scenario = tmp_path / "foreign.toml"
    scenario.write_text(SCENARIO)
    frames = tuple(frame_of(tmp_path, scenario, node) for node in ("left", "right"))
    slot = 2 * 60_000
    # A clock that starts with its recording reads zero then; by how much they are apart is what nobody knows.
    begins = rng.uniform(-4e-3, 4e-3, 2)
    departures = np.array([240_000, 480_000 + slot]) + rng.integers(20_000, size=2)
    departures = departures + (0.0 if whole else rng.uniform(0.2, 0.8, 2))
    echoes = tuple((float(d), complex(10 ** (-50 / 20) * np.exp(2j * np.pi * rng.uniform()))) for d in (62e-9, 143e-9))
    laboratory = foreign_laboratory(
        rate_hz=RATE_HZ,
        carrier_hz=CARRIER_HZ,
        frames=frames,
        nodes=tuple(
            foreign_node(begins_s=float(b), ppm=float(rng.uniform(-25, 25)), departure_samples=float(d), echoes=echoes)
            for b, d in zip(begins, departures, strict=True)
        ),
        paths=((70.05e-9, 1.0), (153.2e-9, 0.35 * np.exp(1.1j)), (411.7e-9, 0.2 * np.exp(-2.3j))),
        frames_per_slot=2,
        frame_period_s=3e-3,
        leakage_db=leakage_db,
        seed=seed,
    )
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for node, counts in zip(("left", "right"), laboratory.record(3 * 240_000 + 2 * slot), strict=True):
        write_sigmf(recordings, node, counts)
    out = tmp_path / "replayed"
    assert main(["replay", str(recordings), "--scenario", str(scenario), "--out", str(out), "--no-report"]) == 0

    rows = [row for row in load_results(out).links if row.valid]
    assert {(row.receiver, row.method) for row in rows} == {
        (node, method) for node in ("left", "right") for method in ("reciprocity-mle", "reciprocity-mp")
    }
    for row in rows:
        assert row.epoch is not None
        assert row.to_s is not None
        assert row.to_std_s is not None
        receiver = ("left", "right").index(row.receiver)
        error = row.to_s - laboratory.time_offset(receiver, row.epoch.moment().seconds_since(_zero(row)))
        # Bound of two frames of 32 symbols at what the converter leaves of 20 dB; four deviations of it.
        assert abs(error) < 4 * row.to_std_s
        assert row.to_std_s < (25e-12 if leakage_db <= 40 else 120e-12)
        assert row.baseline_m == pytest.approx(70.05e-9 * 299_792_458.0, abs=0.05)


def _zero(row):
    moment = row.epoch.moment()
    return type(moment)(moment.clock, 0, 0.0, moment.rate_hz)
