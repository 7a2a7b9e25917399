"""`isac network`: the shipped file against its closed forms, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from testbed.cli import main

FILE = Path(__file__).parents[3] / "scenarios" / "network" / "town.toml"


def test_the_shipped_town_agrees_with_its_closed_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "f.json"
    assert main(["network", str(FILE), "--draws", "4000", "--json", str(figures)]) == 0
    assert "3-localizability" in capsys.readouterr().out
    rows = {row["metric"]: row for row in msgspec.json.decode(figures.read_bytes())["rows"]}
    assert len(rows) == 13
    for name in ("user_rate", "localizability", "user_area_spectral_efficiency", "energy_efficiency"):
        assert rows[name]["value"] == pytest.approx(rows[name]["bound"], abs=4 * rows[name]["standard_error"])
    assert rows["user_area_spectral_efficiency"]["bound"] == pytest.approx(25 * 2 * rows["user_rate"]["bound"])
    assert rows["isac_coverage"]["value"] <= min(rows["user_coverage"]["value"], rows["target_coverage"]["value"])
    assert rows["localization_coverage"]["value"] < rows["user_coverage"]["value"]
    # By hand: 149 bit/s/Hz/km² in 20 MHz over 25 stations a km² of 1/0.3 + 8·0.5 + 10 W.
    watts = 25 * (1 / 0.3 + 8 * 0.5 + 10)
    assert rows["energy_efficiency"]["bound"] == pytest.approx(
        20e6 * rows["user_area_spectral_efficiency"]["bound"] / watts
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("antennas = 8", "antennas = 5", "network.antennas is 5, but 2 users spared by 2 stations and 1 targets by 3"),
        (
            "path_loss_exponent = 4.0",
            "path_loss_exponent = 2.0",
            "exponent is 2.0, but must be a number greater than 2",
        ),
        ("[radio]", "[radios]", "radios is not a key: did you mean radio?"),
        ("transmit_w = 1.0", "transmit_dbm = 30.0", "radio.transmit_dbm is not a key"),
    ],
)
def test_mistakes_take_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    text = FILE.read_text()
    assert old in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(old, new))
    assert main(["network", str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
