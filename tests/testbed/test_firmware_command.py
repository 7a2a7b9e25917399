"""`isac firmware`: what it prints, writes and refuses; the devices themselves are tested beside their package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed import cli


def isac(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_profiles_are_listed_for_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isac("firmware", "profiles", "--json", tmp_path / "p.json") == 0
    rows = json.loads((tmp_path / "p.json").read_text())["profiles"]
    assert {row["device"] for row in rows} == {"pluto", "b2x0", "x3x0", "n3xx"}
    assert all(row["purpose"] in capsys.readouterr().out for row in rows[:1])


def test_a_plan_without_a_device_shows_all_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isac("firmware", "plan", "pluto", "sounding-20-two-antennas", "--json", tmp_path / "p.json") == 0
    steps = json.loads((tmp_path / "p.json").read_text())["steps"]
    assert [step["command"] for step in steps if step["kind"] == "environment"][-1] == "fw_setenv mode 2r2t"
    assert "iio_attr -u URI -i -c ad9361-phy voltage1 hardwaregain 40" in capsys.readouterr().out


def test_a_plan_for_a_usrp_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert isac("firmware", "plan", "x3x0", "pps-20") == 0
    out = capsys.readouterr().out
    assert "nothing is changed on a USRP" in out
    assert "clock_source: external" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("plan", "pluto", "sonding-20"), "did you mean sounding-20?"),
        (("plan", "lime", "x"), "nothing is known"),
        (("plan", "ip:127.0.0.1:1", "sounding-20"), "does not answer"),
        (("plan", "usb:1.2.3", "sounding-20"), "--ssh"),
        (("apply", "pluto", "sounding-20"), "no address"),
        (("apply", "b2x0", "sounding-20"), "no address"),
        (("filter", "--out", "x.ftr"), "--profile"),
        (("plan", "pluto", "missing.toml"), "cannot be read"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("iio")
    assert isac("firmware", *arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.startswith("isac: ")
    assert len(err.splitlines()) == 1


def test_a_filter_that_misses_its_specification_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "x.ftr"
    wanted = ("--rate-hz", "20e6", "--pass-hz", "9.9e6", "--stop-hz", "10.1e6")
    assert isac("firmware", "filter", *wanted, "--out", out, "--json", tmp_path / "f.json") == 1
    assert not out.exists()
    assert json.loads((tmp_path / "f.json").read_text())["filters"][0]["ripple_db"] > 0.1


def test_a_filter_is_written_with_its_figure(tmp_path: Path) -> None:
    out, figure = tmp_path / "x.ftr", tmp_path / "x.png"
    assert isac("firmware", "filter", "--profile", "sounding-20", "--out", out, "--figure", figure) == 0
    assert out.read_text().count("\n") == 6 + 128
    assert figure.read_bytes().startswith(b"\x89PNG")
