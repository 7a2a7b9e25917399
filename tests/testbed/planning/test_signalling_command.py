"""`isac signalling`: the shipped file, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from testbed.cli import main
from testbed.precoders import decoded

pytest.importorskip("cvxpy")
FILE = Path(__file__).parents[3] / "scenarios" / "signalling" / "three-stations.toml"


def test_shipped_file_is_designed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, figures = tmp_path / "p.png", tmp_path / "f.json"
    assert main(["signalling", str(FILE), "--picture", str(picture), "--json", str(figures)]) == 0
    assert "SINR of user 2" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = {row["metric"]: row for row in msgspec.json.decode(figures.read_bytes())["rows"]}
    assert rows["position_rmse_bound"]["ratio"] == pytest.approx(1.0, abs=0.005)
    assert rows["sinr"]["value"] >= 12.0 - 1e-3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sinr_db = 12.0", "sinr_db = 90.0", "design.sinr_db: no precoders give the users 90.0 dB, 90.0 dB"),
        ("sinr_db = 12.0", "sinr_db = [3.0]", "design.sinr_db has 1 values for 2 users"),
        ('mode = "coherent" ', 'mode = "magic" ', 'design.mode is "magic", but must be one of "coherent"'),
        ("antennas = 4", "antennae = 4", "radio.antennae is not a key: did you mean antennas?"),
        (
            "timing_std_s = 0.0",
            'spectrum = "optimal"\ntiming_std_s = 1e-9',
            'spectrum is "optimal", which is for',
        ),
        (
            'mode = "coherent" ',
            'symbol_level = true\nmode = "coordinated" ',
            "symbol_level is true, but design",
        ),
        ("position_m = [62.0, 41.0]", "position_m = [0.0, 0.5]", "station 1 stands within a metre of target"),
    ],
)
def test_mistakes_take_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    text = FILE.read_text()
    assert old in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(old, new))
    code = main(["signalling", str(path), "--picture", str(tmp_path / "p.png")])
    said = capsys.readouterr().err
    assert code == 2
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p.png").exists()


def test_single_antennas_serve_users_and_locate_by_delays_alone(tmp_path: Path) -> None:
    # Three stations with common phase have a degree of freedom for each of two users left, but no bearing.
    path, figures = tmp_path / "one.toml", tmp_path / "f.json"
    path.write_text(FILE.read_text().replace("antennas = 4", "antennas = 1"))
    assert main(["signalling", str(path), "--picture", str(tmp_path / "p.png"), "--json", str(figures)]) == 0
    rows = {row["metric"]: row for row in msgspec.json.decode(figures.read_bytes())["rows"]}
    assert rows["position_rmse_bound"]["ratio"] == pytest.approx(1.0, abs=0.005)
    assert rows["sinr"]["value"] >= 12.0 - 1e-3
    # A quarter of the power alone would double the 11.7 mm of four antennas; the bearing is lost besides.
    assert rows["position_rmse_bound"]["value"] > 2 * 0.0117


def test_precoders_over_the_band_tell_more_and_are_written_by_blocks(tmp_path: Path) -> None:
    path, figures, out = tmp_path / "band.toml", tmp_path / "f.json", tmp_path / "w.json"
    text = FILE.read_text().replace("timing_std_s = 0.0", 'spectrum = "optimal"\nblocks = 6')
    path.write_text(text.replace('mode = "coherent" ', 'mode = "non-coherent" '))
    command = ["signalling", str(path), "--picture", str(tmp_path / "p.png"), "--json", str(figures), "--out", str(out)]
    assert main(command) == 0
    rows = {row["metric"]: row for row in msgspec.json.decode(figures.read_bytes())["rows"]}
    assert rows["position_rmse_bound"]["ratio"] == pytest.approx(1.0, abs=0.005)
    # Without users every antenna aims at the target all over the band; power at its ends tells more than users take.
    assert rows["position_rmse_bound"]["value"] < 0.9 * rows["position_rmse_bound_without_users"]["value"]
    said = decoded(out.read_text().strip())
    assert said.block_hz == pytest.approx([20e6 * share / 12 for share in (-5, -3, -1, 1, 3, 5)])
    assert min(said.sinr) >= 10**1.2 * (1 - 1e-3)
    assert said.position_rmse_m == pytest.approx(rows["position_rmse_bound"]["value"])
