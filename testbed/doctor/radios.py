"""The radios that a scenario names, or that are asked for: do they answer, are they locked, how warm are they?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from testbed.doctor.finding import Finding, Wants
from testbed.doctor.software import find_uhd
from testbed.scenario import Pluto

__all__ = ["radios"]

_WARM_C = 75.0
_TIMEOUT_S = 60.0
_PROBE = """
import json, sys, time, uhd
def told(sensor):
    return (sensor.value + " " + sensor.unit).strip()
device = uhd.usrp.MultiUSRP(sys.argv[1])
for setter, value in ((device.set_clock_source, sys.argv[2]), (device.set_time_source, sys.argv[3])):
    if value:
        setter(value)
time.sleep(0.3)
boards = []
for board in range(device.get_num_mboards()):
    info = dict(device.get_usrp_rx_info(0)) if board == 0 else {}
    before = device.get_time_last_pps(board)
    time.sleep(1.1)
    after = device.get_time_last_pps(board)
    moved = (before.get_full_secs(), before.get_frac_secs()) != (after.get_full_secs(), after.get_frac_secs())
    boards.append({
        "name": device.get_mboard_name(board),
        "serial": str(info.get("mboard_serial", "")),
        "clock": device.get_clock_source(board),
        "time": device.get_time_source(board),
        "pps": moved,
        "sensors": {n: told(device.get_mboard_sensor(n, board)) for n in device.get_mboard_sensor_names(board)},
        "front_ends": {n: told(device.get_rx_sensor(n, 0)) for n in device.get_rx_sensor_names(0)},
    })
print(json.dumps(boards))
"""


def radios(wants: Wants, uris: Sequence[str]) -> Iterator[Finding]:
    """Findings on the scenario's radios, and on Plutos at further ``uris``."""
    nodes = () if wants.scenario is None else wants.scenario.node
    asked: dict[str, str] = {}
    for node in nodes:
        if node.radio == "pluto":
            options = node.pluto or Pluto()
            if options.simulated or not options.uri:
                continue  # one without an address is found on USB by its serial number, which `machine` lists
            uri = options.uri
            if uri in asked:
                yield Finding(
                    area="radio", name=node.name, status="wrong", found=f"{uri} is {asked[uri]!r}'s already",
                    mend="give each node its own device: isac doctor lists serial numbers",
                )  # fmt: skip
                continue
            asked[uri] = node.name
            yield from _pluto(node.name, uri)
        elif node.radio == "usrp" and node.usrp is not None and not node.usrp.simulated:
            sources = [node.usrp.clock_source, node.usrp.time_source]
            yield from _usrp(wants, node.name, [node.usrp.args, *sources])
    for uri in uris:
        if uri not in asked:
            yield from _pluto(uri, uri)


def _pluto(name: str, uri: str) -> Iterator[Finding]:
    from firmware_cfg.attributes import Address, Attributes
    from firmware_cfg.boards import known_board
    from firmware_cfg.errors import FirmwareError

    try:
        device = Attributes(uri)
    except FirmwareError as error:
        yield Finding(
            area="radio", name=name, status="wrong", found=str(error),
            mend=f"is it plugged in, and its address right? iio_info -s; ping {uri.removeprefix('ip:').split(':')[0]}",
        )  # fmt: skip
        return
    identity = device.identity
    found = f"{identity.model}, firmware {identity.firmware}, serial number {identity.serial or 'unknown'}"
    try:
        known_board(identity)
        trouble = "" if identity.version >= (0, 31) else "firmware 0.31 or later is needed"
    except FirmwareError as error:
        trouble = str(error)
    yield Finding(
        area="radio", name=name, status="wrong" if trouble else "ok", found=f"{found}; {trouble}" if trouble else found,
        mend="update: https://github.com/analogdevicesinc/plutosdr-fw/releases" if trouble else "",
    )  # fmt: skip
    try:
        celsius = 1e-3 * float(device.read(Address("input", "temp0")))
    except (FirmwareError, ValueError):
        return  # not every firmware shows it
    warm = celsius > _WARM_C
    yield Finding(
        area="temperature", name=f"transceiver of {name}", status="note" if warm else "ok", found=f"{celsius:.0f} °C",
        mend="let it stand free: its crystal drifts by about 10 ppm over its range" if warm else "",
    )  # fmt: skip


def _usrp(wants: Wants, name: str, arguments: list[str]) -> Iterator[Finding]:
    said = find_uhd(wants)
    if isinstance(said, str):
        yield Finding(
            area="radio", name=name, status="wrong", found="uhd cannot be loaded, so it cannot be asked",
            mend="sudo apt-get install python3-uhd uhd-host",
        )  # fmt: skip
        return
    boards = _probed(said[0], arguments)
    if isinstance(boards, str):
        yield Finding(
            area="radio", name=name, status="wrong", found=boards,
            mend=f"uhd_find_devices; uhd_usrp_probe --args '{arguments[0]}'",
        )  # fmt: skip
        return
    for board in boards:
        yield from _board(name, board)


def _board(name: str, board: dict[str, Any]) -> Iterator[Finding]:
    yield Finding(
        area="radio", name=name, status="ok",
        found=f"{board['name']}, serial number {board['serial'] or 'unknown'}, clock {board['clock']}, "
        f"time {board['time']}",
    )  # fmt: skip
    # A sensor is true whatever it says: what it prints is what counts.
    for key, what in (("ref_locked", "reference"), ("gps_locked", "GPS")):
        if key in board["sensors"]:
            locked = board["sensors"][key].split()[0].lower() in ("true", "locked")
            matters = key == "ref_locked" or "gpsdo" in (board["clock"], board["time"])
            yield Finding(
                area="radio", name=f"{what} of {name}", status="ok" if locked else "wrong" if matters else "note",
                found=str(board["sensors"][key]),
                mend="" if locked else "check the 10 MHz cable and its level" if key == "ref_locked"
                else "put its antenna under the sky, and wait some minutes",
            )  # fmt: skip
    if board["time"] in ("external", "gpsdo"):
        yield Finding(
            area="radio", name=f"PPS of {name}", status="ok" if board["pps"] else "wrong",
            found="an edge each second" if board["pps"] else "no edge within 1.1 s",
            mend="" if board["pps"] else "check the PPS cable: 3.3 V or 5 V pulses into 50 ohms",
        )  # fmt: skip
    for key, text in (board["sensors"] | board["front_ends"]).items():
        if "temp" in key:
            yield Finding(area="temperature", name=f"{key} of {name}", status="ok", found=str(text))


def _probed(interpreter: str, arguments: list[str]) -> list[dict[str, Any]] | str:
    try:
        done = subprocess.run(
            [interpreter, "-c", _PROBE, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"does not answer within {_TIMEOUT_S:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode or not lines:
        return lines[-1] if lines else f"asking it ended with exit code {done.returncode}"
    boards: list[dict[str, Any]] = json.loads(lines[-1])
    return boards
