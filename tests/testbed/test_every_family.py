"""Every method on the same frames: run and replay, fingerprints kept and given, own echoes, and inputs that lack."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from testbed.bench.laboratory import captures
from testbed.cli import main
from testbed.formats.sigmf_reader import read_recordings
from testbed.pipeline import Pipeline
from testbed.results import Results, load_results, save_results
from testbed.scenario import METHODS, Scenario, load, loads
from testbed.truth import ClockTruth, time_offset

SCENARIO = """
[experiment]
name = "yard"
seed = 7
rounds = 2
methods = [%s]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 61.44e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 24
[round]
frames_per_slot = 4
frame_period_s = 0.8e-3
guard_s = 2e-3
start_spread_s = 0.5e-3
[[node]]
name = "west"
position_m = [0.0, 0.0]
heading_deg = 70.0
antennas = 2
clock = { offset_ppm = 4.3, offset_s = 3.2 }
front_end = { start_latency_s = 0.1e-3, transmit_delay_s = 21e-9, receive_delay_s = 8.7e-9 }
[[node]]
name = "east"
position_m = [40.0, 6.0]
heading_deg = 120.0
antennas = 2
clock = { offset_ppm = -7.9, offset_s = -11.7 }
front_end = { start_latency_s = 0.1e-3, transmit_delay_s = 5e-9, receive_delay_s = 33e-9 }
[scene]
snr_db = 15.0
leakage_db = 20.0
[[scene.reflector]]
position_m = [6.4, 16.1]
rcs_m2 = 60.0
[[scene.reflector]]
position_m = [26.4, 28.0]
rcs_m2 = 160.0
[[scene.reflector]]
position_m = [7.4, 47.0]
rcs_m2 = 1000.0
[[scene.reflector]]
position_m = [54.0, 45.8]
rcs_m2 = 1400.0
[[scene.reflector]]
name = "drone"
position_m = [21.0, 33.0]
velocity_mps = [3.0, -36.0]
rcs_m2 = 60.0
"""
REFERENCES = {
    "auto": "absolute",
    "fingerprint": "absolute",
    "cooperation": "absolute",
    "cacc": "line-of-sight",
    "csi-ratio": "none",
}


def text(*methods: str) -> str:
    return SCENARIO % ", ".join(f'"{name}"' for name in methods)


def without_the_machine(folder: Path) -> list[bytes]:
    lines = (folder / "results.json").read_bytes().splitlines()
    return [line for line in lines if not line.startswith((b'"environment"', b'"timing"'))]


def processed(scenario: Scenario) -> tuple[Results, Pipeline, list]:
    pipeline, recorded = Pipeline(scenario), list(captures(scenario))
    for index, one in enumerate(recorded):
        pipeline.process(index, one)
    return pipeline.finish({}), pipeline, recorded


def replayed(yard: Path, folder: str, out: str) -> list[bytes]:
    """Results of the yard's recordings by the scenario in ``folder``, which is all that a replay needs."""
    pipeline, recordings = Pipeline(load(yard / folder / "scenario.toml")), read_recordings(yard / "run")
    for index in recordings.rounds:
        pipeline.process(index, recordings.captures(index))
    (yard / out).mkdir()
    save_results(pipeline.finish({}), yard / out)
    return without_the_machine(yard / out)


@pytest.fixture(scope="module")
def yard(tmp_path_factory) -> Path:
    """Folder with the run of all methods in ``run``."""
    folder = tmp_path_factory.mktemp("yard")
    (folder / "yard.toml").write_text(text(*METHODS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("testbed.report.page.write_report", lambda folder: folder)  # seconds that nothing here looks at
        assert main(["run", str(folder / "yard.toml"), "--out", str(folder / "run")]) == 0
    return folder


def test_every_method_replays_to_the_same_bytes(yard):
    assert without_the_machine(yard / "run") == replayed(yard, "run", "again")
    results = load_results(yard / "run")
    assert {(row.method, row.receiver, row.round) for row in results.links} == {
        (method, node, index) for method in METHODS for node in ("west", "east") for index in (0, 1)
    }
    assert all(row.reason for row in results.links if not row.valid or row.to_s is None)
    for row in results.links:
        if row.valid and row.to_s is not None:
            assert abs(row.to_error_s) < 4.5 * row.to_std_s, row
            assert abs(row.cfo_error_hz) < 4.5 * row.cfo_std_hz, row


def test_each_family_says_of_a_mover_what_it_can(yard):
    results = load_results(yard / "run")
    truth = {(row.receiver, row.round): row for row in results.truth.targets}
    for method, reference in REFERENCES.items():
        rows = [row for row in results.detections if row.method == method and row.target == "drone"]
        assert {row.round for row in rows} == ({1} if method == "fingerprint" else {0, 1}), method
        for row in rows:
            true = truth[row.receiver, row.round]
            assert row.reference == reference
            assert abs(row.doppler_hz - true.doppler_hz) < 5.0 * row.doppler_std_hz + 0.01 * true.doppler_hz
            if reference == "none":
                assert row.delay_s is None
            else:
                sight_s = (40.0**2 + 6.0**2) ** 0.5 / 299_792_458.0 if reference == "line-of-sight" else 0.0
                assert abs(row.delay_s + sight_s - true.delay_s) < 5.0 * row.delay_std_s + 0.2e-9, method
    assert {row.method for row in results.positions} >= {"auto", "fingerprint", "cooperation"}
    assert not {row.method for row in results.positions} & {"cacc", "csi-ratio"}


def test_a_fingerprint_taken_is_absolute_from_the_next_round_on(yard):
    first, later = (
        [row for row in load_results(yard / "run").links if row.method == "fingerprint" and row.round == index]
        for index in (0, 1)
    )
    assert all(not row.valid and "needs a fingerprint: it is taken in this round" in row.reason for row in first)
    for row in later:
        assert row.valid
        assert row.reason.startswith("absolute by a fingerprint taken 0.01")
        assert "known from offset reciprocity (auto) in round 0; scene similarity" in row.reason
        assert row.to_std_s < 40e-12


def test_a_fingerprint_given_replays_to_the_same_bytes(yard):
    given = yard / "run" / "fingerprint.npz"
    arguments = ["--methods", "fingerprint", "--fingerprint", str(given), "--no-report"]
    assert main(["replay", str(yard / "run"), *arguments, "--out", str(yard / "given")]) == 0
    assert (yard / "given" / "fingerprint.npz").read_bytes() == given.read_bytes()
    assert without_the_machine(yard / "given") == replayed(yard, "given", "given-again")
    for row in load_results(yard / "given").links:
        assert row.valid
        assert "taken in round 0 of run yard of 2" in row.reason
        # in its own round it meets its own noise, and what is left is the error of the offset it was anchored to
        assert abs(row.to_error_s) < 4.5 * row.to_std_s


def test_a_file_that_holds_no_fingerprints_is_refused(yard, capsys):
    assert main(["replay", str(yard / "run"), "--fingerprint", str(yard / "none.npz"), "--out", str(yard / "no")]) == 2
    assert "none.npz, but there is no such file" in capsys.readouterr().err
    wrong = yard / "run" / "products.npz"
    assert main(["replay", str(yard / "run"), "--fingerprint", str(wrong), "--out", str(yard / "no")]) == 2
    assert "which holds no fingerprints: no array 'experiment'" in capsys.readouterr().err
    assert main(["replay", str(yard / "run"), "--fingerprint", __file__, "--out", str(yard / "no")]) == 2
    assert "which holds no fingerprints: name the fingerprint.npz" in capsys.readouterr().err
    assert not (yard / "no").exists()
    (yard / "given.toml").write_text(text("fingerprint") + '[fingerprint]\nfile = "run/fingerprint.npz"\n')
    assert main(["scenario", "check", str(yard / "given.toml")]) == 0
    (yard / "given.toml").write_text(text("fingerprint") + '[fingerprint]\nfile = "none.npz"\n')
    assert main(["scenario", "check", str(yard / "given.toml")]) == 2


def test_without_a_known_offset_a_fingerprint_tells_the_change_alone():
    scenario = loads(text("fingerprint").replace("snr_db", "line_of_sight = false\nsnr_db"), source="")
    ports = {"port": "separate", "rx_offset_m": (0.0, 0.08)}
    nodes = tuple(msgspec.structs.replace(node, **ports) for node in scenario.node)
    results, pipeline, recorded = processed(msgspec.structs.replace(scenario, node=nodes))
    rows = [row for row in results.links if row.round == 1]
    assert len(rows) == 2
    for row in rows:
        assert row.valid
        assert row.reason.startswith("time offset relative to the fingerprint")
        assert row.to_s is None
        taken = pipeline.fingerprints.of(row.receiver, row.transmitter)
        truth = [
            time_offset(ClockTruth(one[row.receiver]), ClockTruth(one[row.transmitter]), epoch)
            for one, epoch in zip(recorded, (taken.epoch, row.epoch.moment()), strict=True)
        ]
        assert abs(row.to_change_s - (truth[1] - truth[0])) < 4.5 * row.to_change_std_s
        assert row.to_change_std_s < 1e-10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"antennas": 1},
            "needs the node's own active echo: west has one antenna, which tells no bearing; east has one",
        ),
        ({}, "needs the node's own active echo: west does not hear itself: no leakage, or a port switched away"),
    ],
)
def test_what_cooperation_lacks_is_named(change, reason):
    scenario = loads(text("cooperation", "cacc").replace("rounds = 2", "rounds = 1"), source="")
    nodes = tuple(
        msgspec.structs.replace(
            node, front_end=msgspec.structs.replace(node.front_end, time_stamps=not change), **change
        )
        for node in scenario.node
    )
    scene = msgspec.structs.replace(scenario.scene, leakage_db=scenario.scene.leakage_db if change else "off")
    results, _, _ = processed(msgspec.structs.replace(scenario, node=nodes, scene=scene))
    rows = {row.method: row for row in results.links if row.receiver == "west"}
    assert not rows["cooperation"].valid
    assert reason in rows["cooperation"].reason
    if change:
        assert rows["cacc"].reason == "this method needs a second antenna"
