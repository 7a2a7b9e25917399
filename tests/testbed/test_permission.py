"""Real radios transmit where the experiment permits it and somebody agrees, and nothing is written before."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from testbed.errors import UserError
from testbed.permission import ask_to_transmit, duty_cycle, transmissions
from testbed.scenario import Scenario, loads

TEXT = """
[experiment]
name = "roof"
[waveform]
carrier_hz = 2.44e9
sample_rate_hz = 20e6
symbols = 6
[transmission]
bands_hz = [[2.4e9, 2.4835e9]]
[round]
frames_per_slot = 3
frame_period_s = 1e-3
guard_s = 12e-3
[[node]]
name = "west"
position_m = [0, 0]
radio = "pluto"
tx_power_dbm = -13.0
pluto = { uri = "ip:192.168.2.1" }
[[node]]
name = "east"
position_m = [30, 0]
radio = "usrp"
usrp = { args = "type=b200", tx_gain_db = 50.0 }
"""


def experiment(old: str = "", new: str = "") -> Scenario:
    return loads(TEXT.replace(old, new) if old else TEXT, source="roof")


def test_what_is_shown_is_frequency_power_and_duty_cycle() -> None:
    west, east = transmissions(experiment())
    # 801 subcarriers of 20 MHz / 1024 about 2440 MHz.
    assert "2432.178 to 2447.822 MHz" in west
    assert "-13 dBm at full scale as the file says, attenuation 20 dB" in west
    assert "transmit gain 50 dB" in east
    scenario = experiment()
    # Two slots of 3 ms, three guards of 12 ms, starts and latency; preamble and six symbols of 1152 samples a frame.
    frame_s = (2 + 6) * 1152 / 20e6
    assert duty_cycle(scenario) == pytest.approx(3 * frame_s / (3 * 12e-3 + 2 * 3e-3 + 2 * 5e-3 + 2e-3), rel=0.2)


def test_it_asks_once_and_takes_no_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(value: bool) -> None:
        monkeypatch.setattr(click, "confirm", lambda text, **how: asked.append(text) or value)

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    answer(True)
    ask_to_transmit(experiment(), yes=False)
    assert asked == ["Transmit?"]
    assert capsys.readouterr().err.count("MHz") == 2
    answer(False)
    with pytest.raises(UserError, match="nothing was transmitted"):
        ask_to_transmit(experiment(), yes=False)
    asked.clear()
    ask_to_transmit(experiment(), yes=True)
    assert asked == []


def test_without_a_terminal_or_bands_nothing_is_transmitted_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from testbed.cli import main

    monkeypatch.setattr("sys.stdin", type("Pipe", (), {"isatty": staticmethod(lambda: False)}))
    path = tmp_path / "roof.toml"
    for text, words in (
        (TEXT, "real radios transmit only when somebody agrees: add --yes"),
        (TEXT.replace("bands_hz = [[2.4e9, 2.4835e9]]", ""), "transmission.bands_hz is missing, but 'west' is a real"),
    ):
        path.write_text(text)
        assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_simulated_radios_need_no_permission() -> None:
    simulated = loads(
        TEXT.replace('"ip:192.168.2.1"', '"simulated"')
        .replace('"type=b200"', '"type=simulated"')
        .replace("bands_hz = [[2.4e9, 2.4835e9]]", ""),
        source="roof",
    )
    ask_to_transmit(simulated, yes=False)
    assert transmissions(simulated) == []
