"""Rounds followed live say what the exact pipeline says of them; what cannot be followed is acquired and counted."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from testbed.bench.laboratory import captures
from testbed.calibration import Calibration
from testbed.capture import Stretch
from testbed.cli import main
from testbed.formats.sigmf_reader import read_recordings
from testbed.live_chain import LiveChain, block_symbols, live_scenario
from testbed.pipeline import Pipeline
from testbed.results import load_results
from testbed.scenario import loads

ROUNDS = 3
CLOSE = 0.8
"""Of a stated deviation: followed frames are averaged further, which takes other parts of the noise; 0.21 root mean
square over 16 rounds of four seeds, 0.36 at most, which adds two per cent to the deviation."""


@pytest.fixture(scope="module")
def scenario():
    return loads(SCENARIO, source="test")


@pytest.fixture(scope="module")
def rounds(scenario):
    return list(captures(scenario))


@pytest.fixture(scope="module")
def followed(scenario, rounds):
    chain = LiveChain(scenario, calibration=Calibration.simulated(scenario))
    for index, one in enumerate(rounds):
        chain.process(index, one)
        if index == 0:
            chain.begun = copy.deepcopy(chain)
    return chain


@pytest.fixture
def begun(followed):
    """The chain as the first rounds left it."""
    return copy.deepcopy(followed.begun)


@pytest.fixture(scope="module")
def exact(scenario, rounds):
    pipeline = Pipeline(live_scenario(scenario), calibration=Calibration.simulated(scenario))
    for index, one in enumerate(rounds):
        pipeline.process(index, one)
    return pipeline.finish({})


def test_one_round_is_acquired_and_the_others_followed(followed):
    assert (followed.counts.acquired, followed.counts.followed) == (1, ROUNDS - 1)
    assert followed.counts.reasons == ((0, "nothing was acquired before"),)
    results = followed.results
    assert [(row.round, row.code) for row in results.events if row.code == "round-acquired"] == [(0, "round-acquired")]
    assert [row.status for row in results.rounds] == ["complete"] * ROUNDS


def test_offsets_are_those_of_the_exact_pipeline_and_of_the_clocks(followed, exact):
    """Within a fraction of the stated deviations of each other: what both see is the same noise."""
    links = [row for row in followed.results.links if row.round > 0]
    other = {(row.receiver, row.round): row for row in exact.links}
    assert len(links) == 2 * (ROUNDS - 1)
    for row in links:
        twin = other[row.receiver, row.round]
        assert row.valid
        assert twin.valid
        carrier = 2.4e9
        apart_s = row.epoch.moment().seconds_since(twin.epoch.moment())
        at_twin_s = row.to_s + row.cfo_hz / carrier * apart_s
        assert abs(at_twin_s - twin.to_s) < CLOSE * twin.to_std_s
        assert abs(row.cfo_hz - twin.cfo_hz) < CLOSE * twin.cfo_std_hz
        assert row.to_std_s == pytest.approx(twin.to_std_s, rel=0.05)
        assert abs(row.to_error_s) < 4 * row.to_std_s
        assert abs(row.cfo_error_hz) < 4 * row.cfo_std_hz
        assert row.snr_db == pytest.approx(twin.snr_db, abs=0.3)


def test_detections_stand_in_the_same_cells(followed, exact):
    cell_s, cell_hz = 1 / 7.8e6, 1 / (4 * 5e-3)
    mine = [row for row in followed.results.detections if row.round > 0]
    theirs = [row for row in exact.detections if row.round > 0]
    assert [(row.receiver, row.round, row.target) for row in mine] == [
        (row.receiver, row.round, row.target) for row in theirs
    ]
    assert sum(row.target == "car" for row in mine) == 2 * (ROUNDS - 1)
    for row, twin in zip(mine, theirs, strict=True):
        assert abs(row.delay_s - twin.delay_s) < 0.05 * cell_s
        assert abs(row.doppler_hz - twin.doppler_hz) < 0.05 * cell_hz
    truth = {(row.receiver, row.round): row for row in followed.results.truth.targets}
    for row in mine:
        there = truth[row.receiver, row.round]
        assert abs(row.delay_s - there.delay_s) < 4 * row.delay_std_s
        assert abs(row.doppler_hz - there.doppler_hz) < 4 * row.doppler_std_hz


def test_what_is_left_to_replay_is_told(followed):
    assert "cacc" in followed.left_out
    assert "payload bits" in followed.left_out
    rows = [row for row in followed.results.payload if row.round > 0]
    assert {row.reason for row in rows} == {"live: not decoded"}
    assert all(row.evm_db < -15 for row in rows)


def silenced(capture, begin, length):
    samples = capture.samples.copy()
    samples[:, begin : begin + length] = 0
    return replace(capture, samples=samples)


def with_gap(capture, at, lost):
    rest = capture.samples.shape[1] - at
    first = capture.stretches[0].first_tick
    return replace(capture, stretches=(Stretch(0, at, first), Stretch(at, rest, first + at + lost)))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda one: {"west": one["west"]}, "no capture of east"),
        (lambda one: one | {"east": with_gap(one["east"], 1000, 64)}, "east lost samples"),
        (lambda one: one | {"east": replace(one["east"], stream=one["east"].stream + 1)}, "stream is not known"),
        (lambda one: one | {"west": silenced(one["west"], 0, one["west"].samples.shape[1])}, "is not heard"),
        (lambda one: one | {"east": replace(one["east"], samples=one["east"].samples // 4)}, "power went by -12 dB"),
    ],
)
def test_a_round_that_fails_a_check_is_acquired(begun, rounds, harm, why, monkeypatch):
    begun.process(1, rounds[1])
    exactly = []
    monkeypatch.setattr(Pipeline, "_hear", lambda self, node, index, current: exactly.append(node.name))
    begun.process(2, harm(rounds[2]))
    assert begun.counts.acquired == 2
    assert why in begun.counts.reasons[-1][1]
    assert exactly


def test_elements_that_were_not_sent_are_not_believed(begun, rounds, monkeypatch):
    monkeypatch.setattr(Pipeline, "_hear", lambda *_: None)
    begun.process(1, rounds[2])  # what round 2 carries is not what round 1 sends
    assert "dB unexplained" in begun.counts.reasons[-1][1]


def test_a_frame_that_was_scrambled_anew_is_followed(begun, rounds):
    """The first scrambling does not fit: the second is what was sent."""
    encoded, asked = begun._elements, []

    def sent(identity, index, nonce):
        asked.append((identity, index, nonce))
        return encoded(identity, index if nonce == 1 else index + 9, 0)

    begun._elements = sent
    begun.process(1, rounds[1])
    assert begun.counts.followed == 1
    assert asked == [(0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)]


def test_floats_of_others_recordings_are_not_followed(begun, rounds, monkeypatch):
    monkeypatch.setattr(Pipeline, "_hear", lambda *_: None)
    floats = {name: replace(one, samples=one.samples.astype("f4")) for name, one in rounds[1].items()}
    begun.process(1, floats)
    assert "are no 16-bit counts" in begun.counts.reasons[-1][1]


def test_blocks_are_short_against_the_dopplers_searched(scenario):
    assert block_symbols(scenario) == 8  # 4 blocks a frame
    lone = loads(SCENARIO.replace("frames_per_slot = 4", "frames_per_slot = 1"), source="test")
    assert block_symbols(lone) == 2  # an eighth of the symbols' rate is searched


def test_a_live_run_says_what_the_exact_pipeline_says(tmp_path, exact):
    """Three rounds, the same to the last bit: as many as the ring holds, so that none is dropped on a slow machine."""
    file, folder = tmp_path / "live.toml", tmp_path / "run"
    file.write_text(SCENARIO, encoding="utf-8")
    assert main(["run", str(file), "--live", "--out", str(folder)]) == 0
    live = load_results(folder)
    told = [row.text for row in live.events if row.code == "live"]
    assert len(told) == 1
    assert "2 rounds followed, 1 acquired, 0 dropped" in told[0]
    assert "left to `isac replay`: the methods cacc" in told[0]
    assert [(row.receiver, row.round, row.method) for row in live.links] == [
        (row.receiver, row.round, "reciprocity-mle") for row in exact.links
    ]
    for row, twin in zip(live.links, exact.links, strict=True):
        assert row.valid
        assert abs(row.to_error_s - twin.to_error_s) < CLOSE * twin.to_std_s
        assert abs(row.cfo_error_hz - twin.cfo_error_hz) < CLOSE * twin.cfo_std_hz
    assert (folder / "report.html").is_file()
    assert list(read_recordings(folder).rounds) == [0, 1, 2]  # all of it can be replayed


SCENARIO = f"""
[experiment]
name = "live-chain"
seed = 3
rounds = {ROUNDS}
methods = ["reciprocity-mle", "cacc"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 10e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 32
modulation = "16qam"
[round]
frames_per_slot = 4
frame_period_s = 5e-3
guard_s = 2e-3
start_spread_s = 0.4e-3
[[node]]
name = "west"
position_m = [0.0, 0.0]
heading_deg = 40.0
antennas = 2
clock = {{ offset_ppm = 4.3, offset_s = 3.2104, profile = "tcxo" }}
[[node]]
name = "east"
position_m = [30.0, 4.0]
heading_deg = 140.0
antennas = 2
clock = {{ offset_ppm = -7.9, offset_s = -11.7331, profile = "tcxo" }}
[scene]
snr_db = 20.0
[[scene.reflector]]
name = "wall"
position_m = [12.0, 34.0]
rcs_m2 = 40.0
[[scene.reflector]]
name = "car"
position_m = [19.0, 41.6]
velocity_mps = [-0.6, -5.2]
rcs_m2 = 20.0
"""
