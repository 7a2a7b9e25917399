"""`isac doctor` on machines that are not this one: a folder stands for the root of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from testbed import cli
from testbed.doctor import machine as machine_checks
from testbed.doctor import radios as radio_checks
from testbed.doctor import software as software_checks
from testbed.doctor.finding import Finding, Machine, Wants
from testbed.doctor.machine import machine
from testbed.doctor.radios import radios
from testbed.doctor.software import software
from testbed.scenario import Scenario, loads

TWO = """
[experiment]
name = "two"
rounds = 100
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 20e6
[round]
guard_s = 30e-3
[[node]]
name = "west"
position_m = [0, 0]
{west}
[[node]]
name = "east"
position_m = [30, 0]
{east}
"""
PLUTOS = {
    "west": 'radio = "pluto"\npluto = { uri = "ip:127.0.0.1:9" }',
    "east": 'radio = "pluto"\npluto = { uri = "ip:127.0.0.1:10" }',
}
USRPS = {name: f'radio = "usrp"\nusrp = {{ args = "type=b200,serial={name}" }}' for name in ("west", "east")}


def scenario(west: str = "", east: str = "") -> Scenario:
    return loads(TWO.format(west=west, east=east), source="two")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Machine]:
    """Function that makes a machine of files, by absolute path."""
    monkeypatch.setattr(machine_checks, "_TRIAL_BYTES", 1 << 20)

    def make(files: dict[str, str]) -> Machine:
        root = tmp_path / "root"
        for name, text in files.items():
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return Machine(root)

    return make


def named(found: list[Finding], name: str) -> Finding:
    return next(one for one in found if name in one.name)


USB = "/sys/bus/usb/devices/1-2"
PLUTO_ON_USB = {
    f"{USB}/idVendor": "0456", f"{USB}/idProduct": "b673", f"{USB}/speed": "480", f"{USB}/serial": "1044738",
    f"{USB}/busnum": "1", f"{USB}/devnum": "7",
}  # fmt: skip


def test_an_empty_machine_is_told_without_a_complaint(elsewhere: Callable[..., Machine], tmp_path: Path) -> None:
    found = list(machine(elsewhere({}), Wants(), tmp_path))
    assert {one.status for one in found} <= {"ok", "note"}
    assert named(found, "ADALM-Pluto").found == "none is plugged in"
    assert named(found, "rmem_max").status == "note"


def test_what_a_scenario_needs_weighs_more(elsewhere: Callable[..., Machine], tmp_path: Path) -> None:
    here = elsewhere(
        {"/proc/sys/net/core/rmem_max": "212992", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"}
    )
    found = list(machine(here, Wants(scenario(**USRPS)), tmp_path))
    assert named(found, "rmem_max").status == "wrong"
    assert "sysctl -w net.core.rmem_max" in named(found, "rmem_max").mend
    assert named(found, "governor").status == "wrong"
    assert named(found, "rules for usrp").status == "wrong"
    assert named(found, "rules for pluto").status == "note"
    assert named(list(machine(here, Wants(scenario()), tmp_path)), "governor").status == "note"


def test_a_machine_in_order_is_in_order(elsewhere: Callable[..., Machine], tmp_path: Path) -> None:
    here = elsewhere(
        PLUTO_ON_USB
        | {
            "/etc/udev/rules.d/53-adi.rules": 'SUBSYSTEM=="usb", ATTRS{idVendor}=="0456", MODE="0666"',
            "/lib/udev/rules.d/60-uhd-host.rules": 'ATTRS{idVendor}=="2500"',
            "/proc/sys/net/core/rmem_max": "50000000",
            "/proc/sys/net/core/wmem_max": "50000000",
            "/proc/loadavg": "0.10 0.2 0.3",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
            "/sys/class/net/eth1/mtu": "9000",
            "/sys/class/net/eth1/speed": "10000",
            "/sys/class/thermal/thermal_zone0/temp": "45000",
            "/sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
        }
    )
    found = list(machine(here, Wants(scenario(**USRPS)), tmp_path))
    assert [one for one in found if one.status == "wrong" and "priority" not in one.name] == []
    assert named(found, "x86_pkg_temp").found == "45 °C"
    assert "1044738" in named(found, "ADALM-Pluto").found


def test_a_slow_port_a_locked_node_and_heat_are_wrong(
    elsewhere: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = elsewhere(
        PLUTO_ON_USB
        | {
            f"{USB}/speed": "12",
            "/dev/bus/usb/001/007": "",
            "/sys/class/thermal/thermal_zone0/temp": "97000",
            "/sys/class/net/eth1/mtu": "1500",
            "/sys/class/net/eth1/speed": "10000",
        }
    )
    node = here.root / "dev/bus/usb/001/007"
    # Whoever is root may write anything: the system is made to say that they may not.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != node)
    found = list(machine(here, Wants(scenario(**USRPS)), tmp_path))
    assert named(found, "ADALM-Pluto").status == "wrong"
    assert "USB 2" in named(found, "ADALM-Pluto").mend
    assert "udevadm" in named(found, "permission of ADALM-Pluto").mend
    assert named(found, "thermal_zone0").status == "wrong"
    assert named(found, "frames of eth1").mend == "sudo ip link set eth1 mtu 9000"


def test_the_disk_is_measured_and_held_against_the_scenario(
    elsewhere: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "_write_rate", lambda folder: 1e6)
    found = list(machine(elsewhere({}), Wants(scenario(**USRPS)), tmp_path))
    assert named(found, "write rate").status == "wrong"
    monkeypatch.undo()
    measured = machine_checks._write_rate(tmp_path)
    assert isinstance(measured, float)
    assert measured > 0
    assert not list(tmp_path.glob(".isac*"))
    assert isinstance(machine_checks._write_rate(tmp_path / "missing"), str)


def test_a_disk_too_small_is_wrong(
    elsewhere: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda path: usage)
    assert named(list(machine(elsewhere({}), Wants(scenario()), tmp_path)), "free space").status == "wrong"
    (tmp_path / "file").write_text("")
    asked = list(machine(elsewhere({}), Wants(None), tmp_path / "file" / "runs"))
    assert "is a file" in named(asked, "free space").found


def interpreter(tmp_path: Path, answers: str) -> str:
    """Program in place of an interpreter: whatever it is asked, it does this."""
    path = tmp_path / "python-with-uhd"
    path.write_text(f"#!/bin/sh\n{answers}\n")
    path.chmod(0o755)
    return str(path)


def test_libraries_are_told_with_their_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usrp_x310.bit").touch()
    answer = json.dumps({"numpy": "1.26.4", "uhd": "4.3.0", "images": str(tmp_path)})
    monkeypatch.setattr(software_checks.sys, "executable", interpreter(tmp_path, f"echo '{answer}'"))
    found = list(software(Wants(scenario(**USRPS)), None))
    assert named(found, "uhd").status == "ok"
    assert named(found, "images").found.startswith("1 in ")
    # The same answer is none that libiio gives.
    assert named(found, "libiio").status == "note"


def test_uhd_beside_numpy_2_is_wrong_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"numpy": "2.1.0", "uhd": "4.3.0", "images": ""})
    monkeypatch.setattr(software_checks.sys, "executable", interpreter(tmp_path, f"echo '{answer}'"))
    found = list(software(Wants(scenario(**USRPS)), None))
    assert named(found, "uhd").status == "wrong"
    assert "numpy 1.26" in named(found, "uhd").mend
    assert named(found, "images").mend == "sudo uhd_images_downloader"


def test_a_library_that_takes_its_interpreter_down_is_told(tmp_path: Path) -> None:
    assert software_checks._asked(interpreter(tmp_path, "kill -SEGV $$"), "pass") == "exit code -11"
    assert software_checks._asked(str(tmp_path / "none"), "pass") == "No such file or directory"


def test_keys_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software_checks.sys, "executable", interpreter(tmp_path, "exit 1"))
    assert cli.main(["keys", "west", "--out", str(tmp_path / "keys")]) == 0
    folder = tmp_path / "keys" / "coordinator"
    wants = Wants(scenario(west='agent = "remote"', east='agent = "remote"'))
    found = [one for one in software(wants, folder) if one.name == "keys"]
    assert found[-1].status == "wrong"
    assert "not of east" in found[-1].found
    next(folder.glob("*.key_secret")).chmod(0o644)
    assert next(one for one in software(wants, folder) if one.name == "keys").mend.startswith("chmod 600")
    assert next(one for one in software(wants, tmp_path) if one.name == "keys").status == "wrong"
    assert next(one for one in software(wants, None) if one.name == "keys").status == "note"


BOARD = {
    "name": "B210", "serial": "30F1", "clock": "external", "time": "external", "pps": True,
    "sensors": {"ref_locked": "true locked"}, "front_ends": {"temp": "41 C", "lo_locked": "true locked"},
}  # fmt: skip


def asked_usrp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: dict[str, object]) -> list[Finding]:
    program = interpreter(tmp_path, f"echo '{json.dumps([board])}'")
    monkeypatch.setattr(radio_checks, "find_uhd", lambda wants: (program, {}))
    return list(radios(Wants(scenario(**USRPS)), ()))


def test_a_locked_usrp_is_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked_usrp(tmp_path, monkeypatch, BOARD)
    assert {one.status for one in found} == {"ok"}
    assert named(found, "temp of west").found == "41 C"


def test_an_unlocked_usrp_without_pulses_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = BOARD | {"pps": False, "sensors": {"ref_locked": "false unlocked", "gps_locked": "false unlocked"}}
    found = asked_usrp(tmp_path, monkeypatch, board)
    assert named(found, "reference of west").status == "wrong"
    assert named(found, "PPS of west").status == "wrong"
    assert named(found, "GPS of west").status == "note"


def test_no_usrp_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = interpreter(tmp_path, "echo 'RuntimeError: LookupError: KeyError: No devices found' >&2; exit 1")
    monkeypatch.setattr(radio_checks, "find_uhd", lambda wants: (program, {}))
    for found in radios(Wants(scenario(**USRPS)), ()):
        assert found.status == "wrong"
        assert found.found.endswith("No devices found")


def test_two_nodes_on_one_pluto_are_told_and_it_does_not_answer() -> None:
    pytest.importorskip("iio")
    one, other = scenario(**PLUTOS).node
    # The experiment file's own rules refuse it; a doctor looks all the same.
    same = msgspec.structs.replace(scenario(), node=(one, msgspec.structs.replace(other, pluto=one.pluto)))
    first, second = radios(Wants(same), ())
    assert "does not answer" in first.found
    assert second.found.endswith("'west''s already")


def test_the_command_says_by_its_exit_code_whether_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "_TRIAL_BYTES", 1 << 20)
    path = tmp_path / "two.toml"
    path.write_text(TWO.format(west="", east=""))
    json_file = tmp_path / "found.json"
    assert cli.main(["doctor", str(path), "--out", str(tmp_path / "runs"), "--json", str(json_file)]) == 0
    rows = json.loads(json_file.read_text())["findings"]
    assert {"area", "name", "status", "found", "mend"} == set(rows[0])
    assert "0 wrong" in capsys.readouterr().out
    path.write_text(TWO.format(**PLUTOS))
    assert cli.main(["doctor", str(path), "--out", str(tmp_path / "runs")]) == 1
    path.write_text("nonsense")
    assert cli.main(["doctor", str(path)]) == 2
