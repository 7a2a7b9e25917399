"""Precoders given to simulated radios: what they show of the promise, and one line for what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from testbed import promises
from testbed.bench.laboratory import captures
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.joint_slot import joint_burst, joint_slot
from testbed.pipeline import Pipeline
from testbed.promises import Listening
from testbed.results import SignallingRow
from testbed.scenario import Scenario, dumps, load, loads
from testbed.schedule import joint_offset_samples, joint_symbols, round_samples
from testbed.slots import Slot, find_slots
from testbed.transmit_correction import Correction, applied

SHIPPED = Path(__file__).parents[2] / "scenarios" / "precoders.toml"
COHERENT = SHIPPED.with_name("coherent.toml")
C_MPS = 299_792_458.0
CARRIER_HZ, BAND_HZ, NOISE_W = 3.5e9, 200 * 78125.0, 1.380649e-23 * 290.0 * 200 * 78125.0 * 10**0.7
USRP = 'radio = "usrp"\nusrp.args = "type=simulated"'
USER = np.array([40.0, 10.0])
TEXT = """
[experiment]
name = "spine"
seed = 3
rounds = {rounds}
methods = ["reciprocity-mle"]
[waveform]
carrier_hz = 3.5e9
sample_rate_hz = 20e6
fft_size = 256
cp_samples = 64
active_subcarriers = 200
symbols = 24
[round]
frame_period_s = 0.6e-3
guard_s = 1.25e-3
start_spread_s = 1e-4
[[node]]
name = "station"
position_m = [0.0, 0.0]
heading_deg = 30.0
transmit_antennas = 4
tx_power_dbm = 12.0
clock = {{ offset_ppm = 2.0 }}
front_end = {{ noise_figure_db = 7.0 }}
[[node]]
name = "phone"
position_m = [40.0, 10.0]
tx_power_dbm = 12.0
clock = {{ offset_ppm = -3.0, offset_s = 0.7 }}
front_end = {{ noise_figure_db = 7.0 }}
[scene]
leakage_db = "off"
[signalling]
precoders = "spine.json"
stations = ["station"]
users = ["phone"]
"""


def _channel() -> np.ndarray:
    """Free space from each of the station's antennas, from their places."""
    left = np.array([-np.sin(np.radians(30.0)), np.cos(np.radians(30.0))])
    distance = np.linalg.norm(USER - 0.5 * C_MPS / CARRIER_HZ * np.arange(4)[:, None] * left, axis=1)
    return C_MPS / CARRIER_HZ / (4 * np.pi * distance) * np.exp(-2j * np.pi * CARRIER_HZ * distance / C_MPS)


def _design(**changes: object) -> dict[str, object]:
    """A stream for the user, not quite matched, and a stream that disturbs it 17 dB below."""
    channel, rng = _channel(), np.random.default_rng(4)
    streams = channel.conj() / np.abs(channel) * 0.012 + 0.002 * np.exp(2j * np.pi * rng.random((2, 4)))
    streams[1] *= 0.14 * abs(channel @ streams[0]) / abs(channel @ streams[1])
    power = np.abs(streams @ channel) ** 2
    parts = np.stack([streams.real, streams.imag], axis=-1)[None, :, None]
    return {
        "format": "isac-precoders-1", "name": "spine", "mode": "non-coherent", "carrier_hz": CARRIER_HZ,
        "bandwidth_hz": BAND_HZ, "interval_s": 40 / 78125.0, "noise_figure_db": 7.0, "timing_std_s": 0.0,
        "sinr": [power[0] / (power[1] + NOISE_W)], "position_rmse_m": 1.0, "block_hz": [0.0],
        "precoders": parts.tolist(),
    } | changes  # fmt: skip


def _scenario(folder: Path, *, rounds: int = 1, old: str = "", new: str = "", **changes: object) -> Scenario:
    (folder / "spine.json").write_text(json.dumps(_design(**changes)))
    text = TEXT.format(rounds=rounds)
    assert old in text
    (folder / "spine.toml").write_text(text.replace(old, new) if old else text)
    return load(folder / "spine.toml")


def _rows(scenario: Scenario) -> list[SignallingRow]:
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    return list(pipeline.finish({}).signalling or [])


def test_a_user_measures_the_sinr_that_was_promised(tmp_path: Path) -> None:
    # Without time stamps, with oscillators of their own: the user finds the slot by the station's frame.
    rows = _rows(_scenario(tmp_path, rounds=6))
    assert [row.valid for row in rows] == [True] * 6
    ratio = np.array([row.measured / row.promised for row in rows])
    error = np.array([row.standard_error / row.promised for row in rows])
    # Phase noise of half a degree at both ends takes 1.5e-4 of 1/SINR, one part in two hundred.
    assert ratio.mean() == pytest.approx(0.995, abs=3 * error.mean() / np.sqrt(6))
    assert error.max() < 0.04


def test_what_is_sent_is_the_precoders_and_the_same_everywhere(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path)
    again = loads(dumps(scenario), source="an agent's")
    assert again == scenario
    joint = joint_burst(again, 0, 3)
    assert joint is not None
    assert joint_burst(again, 1, 3) is None
    burst = joint.samples
    assert burst.shape == (4, 40 * 320)
    assert joint_symbols(scenario) == 40
    assert np.abs(burst).max() <= 1.0
    same = joint_burst(scenario, 0, 3)
    assert same is not None
    np.testing.assert_array_equal(burst, same.samples)
    # Taken off: a delay, of which two samples go by the schedule, and a phase of the carrier that turns.
    moved = joint_burst(scenario, 0, 3, Correction(2.3 / 20e6, 0.7, 50.0))
    assert moved is not None
    assert moved.earlier == 2
    places = np.arange(64, 320)
    back = moved.samples[:, places] * np.exp(1j * (0.7 + 2 * np.pi * 50.0 * places / 20e6))
    used = np.fft.fftfreq(256) * 256
    used = (np.abs(used) <= 100) & (used != 0)
    turned = np.exp(2j * np.pi * np.fft.fftfreq(256) * 0.3)
    np.testing.assert_allclose(
        np.fft.fft(back)[:, used], (np.fft.fft(burst[:, places]) * turned)[:, used], rtol=1e-3, atol=1e-4
    )
    # Mean power of an antenna over the streams' symbols, full scale being 12 dBm.
    sent = np.mean(np.abs(burst) ** 2, axis=1) * 1e-3 * 10**1.2
    designed = np.array(_design()["precoders"])
    np.testing.assert_allclose(sent, (designed**2).sum(axis=(0, 1, 2, 4)), rtol=0.05)
    assert joint_slot(scenario, 3).elements.shape == (1, 2, 40, 200)
    end = joint_offset_samples(scenario) + burst.shape[1]
    assert round_samples(scenario) - end == 25_000


@pytest.mark.parametrize(
    ("old", "new", "changes", "message"),
    [
        ("transmit_antennas = 4", "transmit_antennas = 2", {}, "'station' is 2, but signalling.precoders are for 4 a"),
        ('stations = ["station"]', 'stations = ["mast"]', {}, "names 'mast', but no node is called so: there are stat"),
        ('users = ["phone"]', "users = []", {}, "signalling.users names 0, but the precoders are for 1: name 1"),
        ('users = ["phone"]', 'users = ["station"]', {}, "names 'station', which signalling.stations names too"),
        ("tx_power_dbm = 12.0", "tx_power_dbm = 0.0", {}, "'station' is 0, which leaves an antenna 0.0"),
        ("carrier_hz = 3.5e9", "carrier_hz = 3.6e9", {}, "waveform.carrier_hz is 3.6e9, but signalling.precoders are "),
        ("active_subcarriers = 200", "active_subcarriers = 180", {}, "(14.0625 MHz), but signalling.precoders are for"),
        ("noise_figure_db = 7.0", "noise_figure_db = 5.0", {}, "noise_figure_db of 'phone' is 5.0, but"),
        ("heading_deg = 30.0", "antenna_spacing_m = 0.05", {}, "'station' is 0.05, but signalling.precoders are"),
        ("spine.json", "none.json", {}, "none.json': no such file: write it with `isac signalling --out`"),
        ('users = ["phone"]', 'users = ["phone"]\ntarget = "car"', {}, "is 'car', but no reflector is called so"),
        ("[scene]", "[scene]\nsnr_db = 20.0", {}, "scene.snr_db is 20, but what signalling.precod"),
        ("", "", {"mode": "magic"}, "signalling.precoders is no file of `isac signalling --out`: mode: invalid enum "),
        ("", "", {"block_hz": [0.0, 1.0]}, "block_hz: not the ascending middles of 1 blocks"),
        ("", "", {"sinr": [1.0] * 3}, "precoders: 2 streams for 3 users"),
        ('name = "phone"', f'name = "phone"\n{USRP}\ntransmit_antennas = 2', {}, '"usrp", which sends from one:'),
    ],
)  # fmt: skip
def test_what_does_not_fit_takes_one_line(
    tmp_path: Path, old: str, new: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        _scenario(tmp_path, old=old, new=new, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shipped_stations_keep_their_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = load(SHIPPED)
    one = msgspec.structs.replace(scenario, experiment=msgspec.structs.replace(scenario.experiment, rounds=1))
    taken: list[Listening] = []

    def told(index: int, heard: Listening, *rest: Any) -> list[SignallingRow]:
        taken.append(heard)
        return promises.promises(index, heard, *rest)

    monkeypatch.setattr("testbed.pipeline.promises", told)
    rows = _rows(one)
    assert [row.subject for row in rows] == ["phone-1", "phone-2", "car"]
    assert all(row.valid for row in rows)
    for row in rows[:2]:
        # A reflection 40 dB below the direct path, of beams 12 dB stronger, moves the ratio by up to 3 %.
        assert row.measured == pytest.approx(row.promised, abs=0.03 * row.promised + 3 * row.standard_error)
    # Phase noise and the lines of sight take their part of the promised 24 mm, and the bound knows which.
    assert 1.05 * rows[2].promised < rows[2].bound < 1.25 * rows[2].promised
    assert rows[2].stated == pytest.approx(rows[2].bound, rel=0.1)
    assert [row.bound for row in rows[:2]] == [None, None]
    assert rows[2].measured < 3 * rows[2].stated

    # Stations whose clocks do not agree cannot be looked at together, and say so.
    (heard,) = taken
    link = ("south-west", "north")
    parted = replace(heard, slots={**heard.slots, link: replace(heard.slots[link], cfo_reference_hz=-3500.0)})
    row = promises.promises(0, parted, one, Calibration.simulated(one))[2]
    assert not row.valid
    assert "carriers of south-west and north are 3.5e+03 Hz apart" in row.reason
    deaf = replace(heard, slots={})
    reasons = [row.reason for row in promises.promises(0, deaf, one, Calibration.simulated(one))]
    assert "phone-1 heard no station's own slot" in reasons[0]
    assert reasons[2] == "south-west did not hear south-east"


def test_offsets_of_one_round_are_taken_off_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = COHERENT.read_text().replace("\nantennas = 4", "").replace('"precoders/', f'"{COHERENT.parent}/precoders/')
    text = text.replace("frames_per_slot = 4", "frames_per_slot = 2")
    (tmp_path / "one.toml").write_text(text.replace("rounds = 8", "rounds = 2"))
    scenario = load(tmp_path / "one.toml")
    pipeline = Pipeline(scenario)

    def feedback(index: int) -> dict[str, Correction]:
        known = pipeline.corrections(index)
        if index == 1:  # twenty picoseconds of carrier phase that nobody asked for
            wrong = known["south-east"]
            turned = wrong.phase_rad + 2 * np.pi * CARRIER_HZ * 20e-12
            known["south-east"] = msgspec.structs.replace(wrong, phase_rad=turned)
        return known

    def doubtful(capture: Capture, *rest: Any, **named: Any) -> dict[int, Slot]:
        """As found, but that north cannot tell which of phone-2's frames it found."""
        return {
            identity: replace(slot, ambiguous=(capture.node, identity) == ("north", 4))
            for identity, slot in find_slots(capture, *rest, **named).items()
        }

    monkeypatch.setattr("testbed.pipeline.find_slots", doubtful)
    for index, recorded in enumerate(captures(scenario, feedback)):
        pipeline.process(index, recorded)
    results = pipeline.finish({})
    unsure = {(row.receiver, row.transmitter) for row in results.links if "found fewer frames of" in row.reason}
    assert unsure >= {("north", "phone-2"), ("phone-2", "north")}
    assert not any(row.valid for row in results.links if (row.receiver, row.transmitter) in unsure)
    assert not unsure & {("south-west", "south-east"), ("south-west", "north")}
    rows = list(results.signalling or [])
    assert [row.valid for row in rows] == [False, False, True, True]
    assert rows[0].reason == "nothing was taken off what south-west sends: no round before told its offset"
    for row in rows[2:]:
        assert row.measured == pytest.approx(row.expected, abs=4 * row.standard_error)
    assert rows[3].expected < 0.5 * rows[3].promised
    # What a station took off stays with its recording, for replays: here the oscillators' 0.0005 ppm.
    taken = applied(recorded["north"])
    assert taken is not None
    assert taken.cfo_hz == pytest.approx(-0.0005e-6 * CARRIER_HZ, abs=1.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("coherent-slot", "joint-slot", 'signalling.compensate is true, but signalling.precoders are "non-coherent", '),
        (", common_phase = true", "", "but 'south-west' does not send and receive with one phase"),
        ("start_spread_s = 0.0", "start_spread_s = 1e-6", "round.start_spread_s is 1e-06, but signalling.compensate"),
        ("period_s = 0.03 ", "period_s = 0.02 ", "round.period_s is 0.02, but signalling.compensate tells phases on"),
    ],
)
def test_what_offsets_cannot_be_taken_off_of_takes_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = COHERENT.read_text().replace('"precoders/', f'"{COHERENT.parent}/precoders/').replace(old, new)
    if "joint" in new:
        text = text.replace("active_subcarriers = 20", "active_subcarriers = 200")
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "wrong.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
