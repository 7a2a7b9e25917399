"""Calibration: measured on simulated radios, whose constants the experiment's file states; applied, and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from testbed import cli
from testbed.bench.laboratory import captures
from testbed.calibrating.chains import Exchange, StartLatency, chain_constants, mean_fraction
from testbed.calibrating.front_ends import image_db, level, linearity
from testbed.calibrating.measure import STEPS_DB, Session, Wishes, _steps, measure
from testbed.calibration import Calibration
from testbed.calibration_records import (
    AntennaResponse,
    ChainConstants,
    Gains,
    Record,
    load_records,
    matching,
    save_record,
)
from testbed.capture import Capture, Departure, Stretch
from testbed.commands.calibrate import _nearest
from testbed.errors import RunError, UserError
from testbed.pipeline import Pipeline
from testbed.results import load_results
from testbed.run_folder import open_run
from testbed.scenario import Scenario, loads

EXPERIMENT = """
[experiment]
name = "small"
seed = 5
rounds = 1
methods = ["reciprocity-mle"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 4e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 12
[round]
frame_period_s = 1.2e-3
start_spread_s = 1e-4
guard_s = 2e-3
[[node]]
name = "west"
position_m = [0.0, 0.0]
antennas = 2
clock = {{ offset_ppm = 3.0, offset_s = 2.0 }}
[node.front_end]
transmit_delay_s = 31.3e-9
receive_delay_s = 47.9e-9
leakage_delay_s = 1.3e-9
gain_imbalance_db = 0.8
phase_imbalance_deg = -3.0
{extra}
[[node]]
name = "east"
position_m = [30.0, 7.0]
clock = {{ offset_ppm = -5.0, offset_s = -7.5 }}
[node.front_end]
transmit_delay_s = 22.1e-9
receive_delay_s = 40.2e-9
leakage_delay_s = 0.4e-9
{extra}
[scene]
snr_db = 35.0
leakage_db = {leakage}
"""
ASYMMETRY_S = (47.9e-9 + 0.65e-9) - (40.2e-9 + 0.2e-9)


def experiment(extra: str = "", leakage: str = "30.0") -> Scenario:
    return loads(EXPERIMENT.format(extra=extra, leakage=leakage), source="small")


def silent(done: int, text: str) -> None:
    pass


@pytest.fixture(scope="module")
def session() -> Session:
    return measure(experiment(), Wishes(starts=3, rounds=4), silent)


def test_fractions_are_those_of_the_chains(session: Session) -> None:
    for record, total_s in zip(session.records, (80.5e-9, 62.7e-9), strict=True):
        assert record.chain is not None
        assert record.chain.fraction is not None
        assert record.chain.fraction_std is not None
        error_s = ((record.chain.fraction - total_s * 4e6 + 0.5) % 1.0 - 0.5) / 4e6
        assert abs(error_s) < 5 * record.chain.fraction_std / 4e6
        assert abs(error_s) < 100e-12
        # Streams start when they like.
        assert len(set(record.chain.latency_samples)) == 3


def test_the_chain_constant_and_the_common_delay_are_those_of_the_chains(session: Session) -> None:
    (pair,) = session.exchanges
    assert (pair.first, pair.second) == ("west", "east")
    assert pair.asymmetry_s is not None
    assert abs(pair.asymmetry_s - ASYMMETRY_S) < 5 * pair.asymmetry_std_s
    assert abs(pair.asymmetry_s - ASYMMETRY_S) < 150e-12
    assert abs(pair.common_s + 1.7e-9) < 5 * pair.common_std_s + 100e-12


def test_receivers_are_known(session: Session) -> None:
    for antenna in session.records[0].antenna:
        assert antenna.gain_imbalance_db == pytest.approx(0.8, abs=0.15)
        assert antenna.phase_imbalance_deg == pytest.approx(-3.0, abs=1.0)
        assert antenna.dc == pytest.approx((0.002, 0.001), abs=1e-4)
    second = session.records[0].antenna[1]
    assert second.phase_deg == pytest.approx(0.0, abs=1.5)
    assert second.gain_db == pytest.approx(0.0, abs=0.3)


def test_levels_rise_as_they_are_told(session: Session) -> None:
    for record in session.records:
        assert record.linearity is not None
        assert record.linearity.slope == pytest.approx(1.0, abs=0.02)
        assert abs(record.linearity.compression_db) < 0.2
        assert record.leakage_dbfs == pytest.approx(-12, abs=1.5)


def test_levels_are_read_where_the_frames_are_though_counters_begin_anew() -> None:
    """As a device without time stamps does it: with every recording its own frames stand elsewhere."""
    scenario = loads(EXPERIMENT.format(extra="", leakage="30.0"), source="")
    (whole,) = captures(scenario)

    class Anew:
        def round(self, index: int, drive: dict[str, float]) -> dict[str, Capture]:
            return {
                name: replace(
                    one, samples=np.rint(np.roll(one.samples, 150 * index, axis=1) * drive[name]).astype("i2")
                )
                for name, one in whole.items()
            }

    lines = _steps(scenario, Anew(), Wishes(), lambda index, text: None)
    assert set(lines) == {"west", "east"}
    for line in lines.values():
        assert line.step_db == STEPS_DB
        assert line.slope == pytest.approx(1.0, abs=0.01)
        assert abs(line.compression_db) < 0.1


@pytest.mark.usefixtures("without_report")
def test_what_was_measured_is_applied_in_a_run_and_its_replay(session: Session, tmp_path: Path) -> None:
    for record in session.records:
        save_record(record, tmp_path / "calibrations")
    path, out = tmp_path / "small.toml", tmp_path / "run"
    path.write_text(EXPERIMENT.format(extra="", leakage="30.0"))
    assert cli.main(["run", str(path), "--calibration", str(tmp_path / "calibrations"), "--out", str(out)]) == 0
    rows = load_results(out).links
    assert max(abs(row.to_error_s or 1.0) for row in rows) < 0.5e-9
    assert cli.main(["replay", str(out), "--out", str(tmp_path / "again")]) == 0
    assert load_results(tmp_path / "again").links == rows
    run = open_run(out)
    assert not np.array_equal(run.csi("west", "east").values, Pipeline(run.scenario).channel(
        0, run.recordings.captures(0), "west", "east"
    ).values)  # fmt: skip
    # The same without: the two directions do not even see the same channel, for the image is in one alone.
    bare = Pipeline(run.scenario, calibration=Calibration(records=[]))
    bare.process(0, run.recordings.captures(0))
    found = bare.finish({})
    assert not any(row.valid and abs(row.to_error_s or 0.0) < 5e-9 for row in found.links)
    assert [event.code for event in found.events][:2] == ["calibration-missing"] * 2


def test_time_stamped_departures_have_their_own_constant() -> None:
    found = measure(experiment("time_stamps = true"), Wishes(starts=1, rounds=3, steps=False), silent)
    (pair,) = found.exchanges
    assert pair.asymmetry_s is not None
    truth_s = 0.5 * ((47.9e-9 - 31.3e-9) - (40.2e-9 - 22.1e-9))
    assert abs(pair.asymmetry_s - truth_s) < 5 * pair.asymmetry_std_s
    assert abs(pair.common_s - (47.9e-9 + 31.3e-9 + 40.2e-9 + 22.1e-9)) < 5 * pair.common_std_s + 100e-12
    assert found.records[0].chain is not None
    assert found.records[0].chain.departure == "time-stamp"
    assert found.records[0].chain.fraction is None


def test_a_common_clock_needs_no_truth() -> None:
    text = EXPERIMENT.format(extra="time_stamps = true", leakage="30.0")
    for clock in ("offset_ppm = 3.0, offset_s = 2.0", "offset_ppm = -5.0, offset_s = -7.5"):
        text = text.replace(clock, 'profile = "ideal"')
    # Where carriers do not turn, the image cannot be told from the channel: at -26 dB nearly every round is refused
    # as not reciprocal, here it is 45 dB down.
    text = text.replace(
        "gain_imbalance_db = 0.8\nphase_imbalance_deg = -3.0", "gain_imbalance_db = 0.08\nphase_imbalance_deg = -0.3"
    )
    wishes = Wishes(starts=1, rounds=3, steps=False, common_clock=True)
    found = measure(loads(text, source="common"), wishes, silent)
    assert found.reference == "common clock"
    truth_s = 0.5 * ((47.9e-9 - 31.3e-9) - (40.2e-9 - 22.1e-9))
    # Carriers that do not turn against each other tell nothing of imbalance.
    assert all(antenna.image_db is None for one in found.records for antenna in one.antenna)
    assert "no imbalance measured" in found.notes[0]
    assert found.exchanges[0].asymmetry_s == pytest.approx(truth_s, abs=5 * found.exchanges[0].asymmetry_std_s)
    with pytest.raises(UserError, match="clocks of their own"):
        measure(experiment("time_stamps = true"), wishes, silent)


def test_no_departure_is_said_in_one_line() -> None:
    with pytest.raises(RunError, match="departure"):
        measure(experiment(leakage='"off"'), Wishes(starts=1, rounds=2, steps=False), silent)


# Records and their arithmetic -------------------------------------------------------------------------------------


def record(**changes: object) -> Record:
    plain = Record(
        serial="104", radio="pluto", measured="2026-01-02T03:04:05Z", session="one", reference="common clock",
        carrier_hz=2.4e9, rate_hz=20e6, gains=Gains(rx_gain_db=40.0), temperature_c=30.0,
        chain=ChainConstants(departure="leakage", fraction=0.25, asymmetry_s=3e-9, common_s=-1e-9),
        antenna=(AntennaResponse(gain_imbalance_db=0.5, phase_imbalance_deg=2.0),),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def capture(node: str = "west", serial: str = "104", **changes: object) -> Capture:
    settings = {"serial": serial, "rx_gain_db": [40.0, 40.0], "temperature_c": 33.0}
    plain = Capture(
        node=node, round=0, samples=np.zeros((1, 8, 2), np.int16), full_scale=2048, rate_hz=Fraction(20_000_000),
        carrier_hz=Fraction(2_400_000_000), stretches=(Stretch(0, 8, 0),), stream=0, settings=settings,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_records_are_read_back_as_written_newest_first(tmp_path: Path) -> None:
    older, newer = record(), record(measured="2026-05-05T00:00:00Z", serial="a/b 1")
    for one in (older, newer):
        assert save_record(one, tmp_path).parent == tmp_path
    assert load_records(tmp_path) == [newer, older]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"carrier_hz": 5.8e9}, "carrier of 5800000000 Hz, not 2400000000 Hz"),
        ({"rate_hz": 10e6}, "is for 10000000 samples a second, not 20000000"),
        ({"gains": Gains(rx_gain_db=30.0)}, "rx_gain_db = 30, not 40"),
        ({"temperature_c": 80.0}, "80 °C, 47 °C away"),
        ({"serial": "105"}, "no calibration of 104: there are calibrations of 105"),
        ({"chain": ChainConstants(departure="time-stamp")}, "departures by time-stamp"),
    ],
)
def test_a_record_holds_for_its_own_device_and_setting(changes: dict[str, object], says: str) -> None:
    found = matching([record(**changes)], capture())
    assert isinstance(found, str) == bool(says)
    if isinstance(found, str):
        assert says in found
        assert "\n" not in found


def test_the_newest_that_holds_is_taken() -> None:
    known = [record(measured="2026-03-01T00:00:00Z", carrier_hz=5.8e9), record(measured="2026-02-01T00:00:00Z")]
    found = matching(known, capture())
    assert isinstance(found, Record)
    assert found.measured.startswith("2026-02")


def test_files_of_other_devices_are_refused_before_anything_transmits() -> None:
    Calibration().refuse_strangers({"west": "104"})
    Calibration(records=[record(), record(serial="node-east")]).refuse_strangers({"west": "104", "east": ""})
    with pytest.raises(UserError, match=r"for 'east': no calibration of 105: there are calibrations of 104; .*out$"):
        Calibration(records=[record()]).refuse_strangers({"west": "104", "east": "105"})


def test_events_are_said_once_and_constants_applied() -> None:
    known = Calibration(records=[record(), record(serial="105", chain=ChainConstants(departure="leakage"))])
    said = known.meet({"west": capture(), "east": capture("east", "105"), "south": capture("south", "1")})
    assert [(node, code) for node, code, _ in said] == [
        ("east", "calibration-partial"),
        ("south", "calibration-missing"),
    ]
    assert known.meet({"west": capture()}) == []
    assert known.leakage_fraction("west", Fraction(20_000_000)) == pytest.approx(0.25)
    assert known.leakage_fraction("south", Fraction(20_000_000)) is None
    there = known.one_way_s("west", "south", time_stamped=False)
    back = known.one_way_s("south", "west", time_stamped=False)
    assert 0.5 * (there - back) == pytest.approx(3e-9)
    assert there + back == pytest.approx(-1e-9)


def test_sessions_are_not_mixed() -> None:
    known = Calibration(records=[record(), record(serial="105", session="two")])
    said = known.meet({"west": capture(), "east": capture("east", "105")})
    assert [code for _, code, _ in said] == ["calibration-sessions"]
    there, back = (known.one_way_s(*pair, time_stamped=False) for pair in (("west", "east"), ("east", "west")))
    assert there - back == pytest.approx(0.0, abs=1e-18)


def test_time_stamps_have_their_sums() -> None:
    chain = ChainConstants(departure="time-stamp", asymmetry_s=4e-9, common_s=70e-9)
    known = Calibration(records=[record(chain=chain)])
    known.meet({"west": capture(departures=(Departure(0, 5, 0.0),))})
    there, back = (known.one_way_s(*pair, time_stamped=True) for pair in (("west", "x"), ("x", "west")))
    assert 0.5 * (there - back) == pytest.approx(4e-9)
    assert there + back == pytest.approx(70e-9)


def test_imbalance_is_undone() -> None:
    rng = np.random.default_rng(3)
    ideal = (rng.normal(size=4096) + 1j * rng.normal(size=4096)).astype(np.complex64)
    ratio, skew = 10 ** (0.5 / 20), np.deg2rad(2.0)
    seen = (ratio * ideal.real + 1j * (np.cos(skew) * ideal.imag + np.sin(skew) * ideal.real)).astype(np.complex64)
    known = Calibration(records=[record()])
    known.meet({"west": capture()})
    assert known.corrected("west", seen[None].copy())[0] == pytest.approx(ideal, abs=1e-5)
    assert known.corrected("east", seen[None])[0] is not ideal
    tone = np.exp(2j * np.pi * 5 * np.arange(64) / 64)
    pressed = np.fft.fft(ratio * tone.real + 1j * (np.cos(skew) * tone.imag + np.sin(skew) * tone.real))
    assert image_db(0.5, 2.0) == pytest.approx(20 * np.log10(abs(pressed[-5] / pressed[5])))


def test_a_file_that_is_no_calibration_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("serial = 3\n")
    with pytest.raises(UserError, match=r"x\.toml: not a calibration"):
        load_records(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        load_records(tmp_path / "missing")
    (tmp_path / "x.toml").unlink()
    with pytest.raises(UserError, match="holds none"):
        Calibration.on_file(tmp_path)


def test_fractions_live_on_a_circle() -> None:
    rng = np.random.default_rng(2)
    near_one = [StartLatency(float(whole) + 0.999 + 0.002 * rng.normal(), 0.002) for whole in rng.integers(0, 99, 50)]
    fraction, deviation = mean_fraction(near_one)
    assert abs((fraction - 0.999 + 0.5) % 1 - 0.5) < 4 * deviation
    assert deviation == pytest.approx(0.002 / np.sqrt(50), rel=0.5)


def test_a_fraction_is_shown_and_judged_modulo_a_sample() -> None:
    assert _nearest(49.86e-9, 0.0, 20e6) == pytest.approx(-0.14e-9)
    assert _nearest(80.1e-9, -0.14e-9, 20e6) == pytest.approx(-19.9e-9)
    assert _nearest(100.1e-9, -0.14e-9, 20e6) == pytest.approx(0.1e-9)


def test_what_all_starts_share_is_not_averaged_away() -> None:
    rng = np.random.default_rng(4)
    starts = [StartLatency(5.25 + 1e-4 * rng.normal(), 2e-3) for _ in range(30)]
    assert mean_fraction(starts)[1] == pytest.approx(2e-3, rel=0.01)
    assert mean_fraction(starts[:1])[1] == pytest.approx(2e-3)


def test_three_nodes_are_solved_from_their_pairs() -> None:
    names, asymmetry, common = ["a", "b", "c"], np.array([0.0, 3e-9, -2e-9]), np.array([1e-9, 2e-9, 5e-9])
    found = [
        Exchange(names[i], names[j], asymmetry[i] - asymmetry[j], 1e-12, common[i] + common[j], 1e-12, 9)
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    differences, sums = chain_constants(names, found)
    assert [differences[name].value_s for name in names] == pytest.approx(list(asymmetry), abs=1e-18)
    assert [sums[name].value_s for name in names] == pytest.approx(list(common), abs=1e-18)
    assert differences["a"].std_s == pytest.approx(0.0, abs=1e-20)
    assert differences["b"].std_s == pytest.approx(np.sqrt(2 / 3) * 1e-12)


def test_compression_and_levels_are_read_as_they_are() -> None:
    steps = np.array([-20.0, -10.0, -5.0, 0.0])
    found = linearity(steps, -12 + steps - np.array([0, 0, 0.5, 2.0]))
    assert found.slope == pytest.approx(1.0)
    assert found.compression_db == pytest.approx(2.0)
    samples = np.zeros((1, 1000, 2), np.float32)
    samples[0, :, 0] = 0.25 * np.sign(np.sin(np.arange(1000) * 0.3)) + 0.1
    samples[0, :10, 1] = 2047 / 2048
    samples[0, 10:20, 1] = -1.0
    assert level(samples, 2048).clipped == pytest.approx(0.02)
    assert level(samples[:, 20:], 2048).dbfs == pytest.approx(20 * np.log10(0.25), abs=0.05)


def test_the_command_writes_files_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.toml"
    path.write_text(EXPERIMENT.format(extra="", leakage="30.0"))
    options = ["--starts", "1", "--rounds", "2", "--no-linearity", "--out", str(tmp_path / "c")]
    assert cli.main(["calibrate", str(path), *options, "--json", str(tmp_path / "f.json")]) == 0
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    constant = next(row for row in rows if row["metric"] == "chain_constant")
    assert constant["parameters"]["truth"] == pytest.approx(ASYMMETRY_S)
    assert len(load_records(tmp_path / "c")) == 2
    assert "node-west" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("calibrate",), ("calibrate", "levels")])
def test_real_radios_are_asked_for_before_anything_transmits(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "real.toml"
    assert cli.main(["scenario", "new", str(path), "--kind", "usrps-pps", "--unit", "1", "--unit", "2"]) == 0
    assert cli.main([*words, str(path)]) == 2
    assert "add --yes" in capsys.readouterr().err
