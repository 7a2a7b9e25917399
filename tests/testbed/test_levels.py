"""`isac calibrate levels`: gains found on simulated radios that are too loud, too quiet, or drowned by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from testbed import cli
from testbed.calibrating import levels
from testbed.calibrating.front_ends import Level
from testbed.calibrating.levels import Hearing, NodeLevels, search
from testbed.scenario import Scenario, Usrp, load, loads

EXPERIMENT = """
[experiment]
name = "small"
seed = 5
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
front_end = {{ level_dbfs = {level} }}
[[node]]
name = "east"
position_m = [30.0, 7.0]
clock = {{ offset_ppm = 4.0 }}
[scene]
snr_db = 35.0
leakage_db = {leakage}
"""


def experiment(level: float = -12.0, leakage: float = 30.0) -> Scenario:
    return loads(EXPERIMENT.format(level=level, leakage=leakage), source="small")


def silent(done: int, text: str) -> None:
    pass


@pytest.mark.parametrize("level", [6.0, -40.0])
def test_a_gain_far_off_is_brought_back(level: float) -> None:
    found = search(experiment(level), silent)
    west = next(one for one in found.nodes if one.node == "west")
    assert found.settled
    assert west.own is not None
    assert west.own.level.dbfs == pytest.approx(-12, abs=1.5)
    assert west.own.level.clipped < 1e-4
    (change,) = found.changes
    assert change.startswith("node.front_end.level_dbfs of 'west' = -1")
    assert found.advice == []


def test_a_node_drowned_by_itself_is_told_how_much_it_lacks() -> None:
    found = search(experiment(leakage=55.0), silent)
    assert len(found.advice) == 2
    for line in found.advice:
        assert "under its own leakage, 5" in line
        assert "quieten the leakage by 1" in line
    west = found.nodes[0]
    distant = next(one for one in west.heard if one.transmitter == "east")
    # The reference's figure: with the leakage at -12 dBFS of 12 bits, 55 dB keep 7.5 dB.
    assert distant.best_snr_db == pytest.approx(7.5, abs=2.0)


def test_the_spectrum_shows_the_band_and_the_silence() -> None:
    west = search(experiment(), silent).nodes[0]
    frequency_hz, power_db = west.spectra["west"]
    band = np.abs(frequency_hz) < 1.4e6
    outside = np.abs(frequency_hz) > 1.8e6
    assert np.median(power_db[band]) - np.median(power_db[outside]) > 15
    assert np.median(west.spectra["silence"][1]) < np.median(power_db[outside])


def usrp_scenario(gain_db: float) -> Scenario:
    scenario = experiment()
    node = msgspec.structs.replace(scenario.node[0], radio="usrp", usrp=Usrp(rx_gain_db=gain_db, tx_gain_db=40.0))
    return msgspec.structs.replace(scenario, node=(node, scenario.node[1]))


def heard(dbfs: float, clipped: float = 0.0, transmitter: str = "west", snr_db: float = 30.0) -> NodeLevels:
    one = Hearing(transmitter, Level(dbfs, dbfs + 10, clipped), snr_db, snr_db + 10)
    return NodeLevels("west", -80.0, -74.0, [one])


def test_a_usrps_gains_are_turned_within_their_range() -> None:
    turned, stops = levels._turned(usrp_scenario(30.0), {"west": -8.0, "east": 0.0})
    assert turned.node[0].usrp is not None
    assert turned.node[0].usrp.rx_gain_db == 22.0
    assert turned.node[0].usrp.tx_gain_db == 40.0
    assert stops == {}
    assert levels._changes(usrp_scenario(30.0), turned) == ["node.usrp.rx_gain_db of 'west' = 22.0"]


def test_at_its_least_gain_a_node_transmits_less_and_wants_an_attenuator() -> None:
    scenario = usrp_scenario(5.0)
    turned, stops = levels._turned(scenario, {"west": -18.0, "east": 0.0})
    assert turned.node[0].usrp is not None
    assert turned.node[0].usrp.rx_gain_db == 0.0
    assert turned.node[0].usrp.tx_gain_db == 27.0
    lines = levels._advice(scenario, [heard(6.0)], stops)
    assert "too loud by 18 dB" in lines[0]
    assert "attenuator of 20 dB" in lines[0]


def test_clipping_says_nothing_of_how_loud_it_is() -> None:
    assert levels._wanted_turn_db(heard(-5.0, clipped=0.2)) == -10.0
    assert levels._wanted_turn_db(heard(-13.0)) == pytest.approx(1.0)
    assert levels._wanted_turn_db(NodeLevels("west", -80.0, -74.0)) == 0.0


def test_who_hears_nobody_is_told() -> None:
    lines = levels._advice(experiment(), [NodeLevels("west", -80.0, -74.0)], {})
    assert lines[0].startswith("west hears nobody")
    quiet = heard(-60.0, transmitter="east", snr_db=12.0)
    quiet.heard[0] = Hearing("east", quiet.heard[0].level, 12.0, 60.0)
    assert "raise its power by 8 dB" in levels._advice(experiment(), [quiet], {})[0]


def test_the_command_writes_the_experiment_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "small.toml", tmp_path / "found.toml"
    path.write_text(EXPERIMENT.format(level=-30.0, leakage=30.0))
    options = ["--out", str(out), "--figure", str(tmp_path / "levels.png"), "--json", str(tmp_path / "l.json")]
    assert cli.main(["calibrate", "levels", str(path), *options]) == 0
    assert load(out).node[0].front_end.level_dbfs == pytest.approx(-12, abs=2)
    assert (tmp_path / "levels.png").read_bytes().startswith(b"\x89PNG")
    metrics = {row["metric"] for row in json.loads((tmp_path / "l.json").read_text())["rows"]}
    assert metrics == {"noise_floor", "level", "clipped", "snr"}
    assert "set node.front_end.level_dbfs of 'west'" in capsys.readouterr().out
    assert cli.main(["calibrate", "levels", str(path), "--out", str(out)]) == 2
