"""`isac scenario new`: experiments to begin with, for devices that a machine has or that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import beginnings, cli
from testbed.beginnings import KINDS, Units, beginning
from testbed.doctor import software
from testbed.doctor.finding import Machine, Wants
from testbed.doctor.machine import pluto_serials
from testbed.scenario import load, loads


def new(tmp_path: Path, *words: str) -> int:
    return cli.main(["scenario", "new", str(tmp_path / "mine.toml"), *words])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plugged-in"])
def test_every_kind_is_a_valid_experiment(kind: str, tmp_path: Path) -> None:
    units = () if kind == "simulated" else ("--unit", "104A", "--unit", "104B")
    assert new(tmp_path, "--kind", kind, *units) == 0
    scenario = load(tmp_path / "mine.toml")
    assert scenario.experiment.name == "mine"
    radio = {"simulated": "simulated", "usrps-pps": "usrp"}.get(kind, "pluto")
    assert [node.radio for node in scenario.node] == [radio] * 2
    assert {node.port for node in scenario.node} == {"separate" if kind == "plutos-air" else "shared"}
    assert new(tmp_path, "--kind", kind, *units) == 2


def test_units_are_chosen_by_serial_number_or_address() -> None:
    one, other = loads(beginning("plutos-air", "x", units=("104A", "ip:10.0.0.2")), source="x").node
    assert one.pluto is not None
    assert other.pluto is not None
    assert (one.pluto.uri, one.pluto.serial) == ("", "104A")
    assert (other.pluto.uri, other.pluto.serial) == ("ip:10.0.0.2", "")
    one, other = loads(beginning("usrps-pps", "x", units=("30F1", "type=x300,addr=192.168.40.2")), source="x").node
    assert one.usrp is not None
    assert other.usrp is not None
    assert one.usrp.args == "serial=30F1"
    assert other.usrp.args == "type=x300,addr=192.168.40.2,master_clock_rate=200e6"
    assert (one.usrp.clock_source, one.usrp.time_source) == ("external", "external")


def test_carrier_and_length_are_those_asked_for() -> None:
    text = beginning("plutos-cable", "x", units=("a", "b"), carrier_hz=868e6, length_m=4.55)
    scenario = loads(text, source="x")
    assert scenario.waveform.carrier_hz == 868e6
    assert scenario.node[1].position_m == (4.55, 0.0)
    # Nobody can say for the user where they may transmit, but at 2.4 GHz.
    assert scenario.transmission.bands_hz == ()
    known = loads(beginning("plutos-cable", "x", units=("a", "b")), source="x")
    assert known.transmission.bands_hz == ((2400e6, 2483.5e6),)


@pytest.mark.parametrize(
    ("there", "radio"),
    [
        (Units(plutos=("1", "2", "3")), "pluto"),
        (Units(plutos=("1", "2"), usrps=("serial=8", "serial=9")), "usrp"),
    ],
)
def test_what_is_plugged_in_is_taken(there: Units, radio: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "plugged_in", lambda: there)
    assert {node.radio for node in loads(beginning("plugged-in", "x"), source="x").node} == {radio}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--kind", "plugged-in"), "1 and 0 are there"),
        (("--kind", "plutos-air"), "takes two Plutos, but there are 1"),
        (("--kind", "usrps-pps", "--unit", "x"), "takes two USRPs, but there are 1"),
        (("--kind", "plutos-air", "--unit", "x", "--unit", "x"), "its own device"),
        (("--unit", "x"), "no devices"),
    ],
)
def test_too_few_devices_are_one_line_and_nothing_is_written(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(beginnings, "plugged_in", lambda: Units(plutos=("1",)))
    assert new(tmp_path, *words) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "mine.toml").exists()


def test_plutos_are_found_on_usb_and_usrps_by_their_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for port, ids in (("1-1", ("0456", "b673")), ("1-2", ("046d", "c52b"))):
        device = tmp_path / "sys/bus/usb/devices" / port
        device.mkdir(parents=True)
        for name, text in zip(("idVendor", "idProduct", "serial"), (*ids, f"serial-of-{port}"), strict=True):
            (device / name).write_text(text + "\n")
    assert pluto_serials(Machine(tmp_path)) == ["serial-of-1-1"]
    assert pluto_serials(Machine(tmp_path / "none")) == []
    monkeypatch.setattr(software, "find_uhd", lambda wants: "there is none")
    assert software.find_usrps(Wants()) == []
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '[\"type=b200,serial=30F1\"]'\n")
    program.chmod(0o755)
    monkeypatch.setattr(software, "find_uhd", lambda wants: (str(program), {}))
    assert software.find_usrps(Wants()) == ["type=b200,serial=30F1"]
