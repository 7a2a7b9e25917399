"""The machine itself: USB, permissions, processors, sockets, disk."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.doctor.finding import Finding, Machine, Wants
from testbed.schedule import recording_bytes, round_period_s

__all__ = ["machine", "pluto_serials"]

_SPARE_BYTES = 50_000_000
_SOCKET_BYTES = 50_000_000
"""What UHD asks for of the X3x0 and N3xx; over 10 Gb/s it holds about 60 ms."""
_TRIAL_BYTES = 128 << 20
_TRIAL_S = 3.0
_BLOCK_BYTES = 4 << 20
_HOT_C = 85.0
_JUMBO = 8000

_USB = {
    ("0456", "b673"): ("pluto", "ADALM-Pluto", 480),
    ("2500", "0020"): ("usrp", "USRP B200 or B210", 5000),
    ("2500", "0021"): ("usrp", "USRP B200", 5000),
    ("2500", "0022"): ("usrp", "USRP B205mini", 5000),
    ("3923", "7813"): ("usrp", "USRP B200 (NI)", 5000),
    ("3923", "7814"): ("usrp", "USRP B210 (NI)", 5000),
}
"""Kind, name and the Mb/s that each should show, by vendor and product."""
_RULES = {"pluto": ("0456", "53-adi-plutosdr-usb.rules"), "usrp": ("2500", "60-uhd-host.rules")}
_RULES_MEND = {
    "pluto": "sudo apt-get install libiio0, or copy 53-adi-plutosdr-usb.rules to /etc/udev/rules.d; "
    "sudo udevadm control --reload; unplug and plug in again",
    "usrp": "sudo apt-get install uhd-host; sudo udevadm control --reload; unplug and plug in again",
}


def machine(here: Machine, wants: Wants, folder: Path) -> Iterator[Finding]:
    """Findings on the machine; ``folder`` is where runs are written."""
    yield from _usb(here)
    yield from _rules(here, wants)
    yield _priority(wants)
    yield from _processors(here, wants)
    yield from _sockets(here, wants)
    yield from _links(here, wants)
    yield from _temperatures(here)
    yield from _disk(wants, folder)


def _usb(here: Machine) -> Iterator[Finding]:
    seen: set[str] = set()
    for path in here.glob("/sys/bus/usb/devices/*/idVendor"):
        device = path.parent
        ids = tuple((device / name).read_text().strip().lower() for name in ("idVendor", "idProduct"))
        known = _USB.get(ids)  # type: ignore[arg-type]
        if known is None:
            continue
        kind, name, wanted = known
        seen.add(kind)
        speed = _number(_text(device / "speed"))
        serial = _text(device / "serial") or "unknown"
        slow, cable = speed < wanted, "3" if wanted > 480 else "2"
        yield Finding(
            area="USB", name=f"{name} {serial[-8:]}", status="wrong" if slow else "ok",
            found=f"at {speed:g} Mb/s, serial number {serial}",
            mend=f"{wanted} Mb/s are possible: use a port and a cable of USB {cable}" if slow else "",
        )  # fmt: skip
        node = here.root / "dev/bus/usb" / f"{_count(device / 'busnum'):03d}" / f"{_count(device / 'devnum'):03d}"
        if node.exists() and not os.access(node, os.R_OK | os.W_OK):
            yield Finding(
                area="USB", name=f"permission of {name} {serial[-8:]}", status="wrong",
                found=f"{node} is not yours to write", mend=_RULES_MEND[kind],
            )  # fmt: skip
    for kind, name in (("pluto", "ADALM-Pluto"), ("usrp", "USRP B2x0")):
        if kind not in seen:
            yield Finding(area="USB", name=name, status="note", found="none is plugged in")


def pluto_serials(here: Machine) -> list[str]:
    """Serial numbers of the Plutos on USB."""
    return [
        _text(path.parent / "serial")
        for path in here.glob("/sys/bus/usb/devices/*/idVendor")
        if (_text(path).lower(), _text(path.parent / "idProduct").lower()) == ("0456", "b673")
    ]


def _rules(here: Machine, wants: Wants) -> Iterator[Finding]:
    texts = [
        path.read_text(encoding="utf-8", errors="replace")
        for folder in ("/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d", "/run/udev/rules.d")
        for path in here.glob(f"{folder}/*.rules")
        if path.is_file() and os.access(path, os.R_OK)
    ]
    for kind, (vendor, file) in _RULES.items():
        # libiio's own rule names no vendor: it asks iio_info of every device.
        there = any(f'"{vendor}"' in text or (kind == "pluto" and "iio_info" in text) for text in texts)
        yield Finding(
            area="permissions", name=f"udev rules for {kind}", status="ok" if there else wants.status(kind),
            found="installed" if there else f"none names vendor {vendor}, as {file} does",
            mend="" if there else _RULES_MEND[kind],
        )  # fmt: skip


def _processors(here: Machine, wants: Wants) -> Iterator[Finding]:
    governors = {
        path.read_text().strip() for path in here.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    }
    good = governors <= {"performance"}
    yield Finding(
        area="processor", name="governor", status="ok" if good else wants.status("usrp", "pluto"),
        found=", ".join(sorted(governors)) if governors else "the system shows none",
        mend="" if good else "sudo cpupower frequency-set --governor performance",
    )  # fmt: skip
    load = (here.read("/proc/loadavg") or "0").split()[0]
    cores = os.cpu_count() or 1
    busy = _number(load) > cores
    yield Finding(
        area="processor", name="load", status=wants.status("usrp", "pluto") if busy else "ok",
        found=f"{load} on {cores} cores", mend="end what else runs: samples are lost on a busy machine" if busy else "",
    )  # fmt: skip


def _priority(wants: Wants) -> Finding:
    _, highest = resource.getrlimit(resource.RLIMIT_RTPRIO)
    allowed = highest == resource.RLIM_INFINITY or highest >= 50 or os.geteuid() == 0
    return Finding(
        area="permissions", name="real-time priority", status="ok" if allowed else wants.status("usrp"),
        found="allowed" if allowed else f"limited to {highest}",
        mend="" if allowed else "echo '@usrp - rtprio 99' | sudo tee /etc/security/limits.d/uhd.conf; "
        "sudo groupadd -f usrp; sudo usermod -aG usrp $USER; log in again",
    )  # fmt: skip


def _sockets(here: Machine, wants: Wants) -> Iterator[Finding]:
    for name in ("rmem_max", "wmem_max"):
        value = _number(here.read(f"/proc/sys/net/core/{name}"))
        good = value >= _SOCKET_BYTES
        yield Finding(
            area="network", name=f"net.core.{name}", status="ok" if good else wants.status("usrp"),
            found=f"{value:.0f} bytes",
            mend="" if good else f"sudo sysctl -w net.core.{name}={_SOCKET_BYTES} (for USRPs on Ethernet)",
        )  # fmt: skip


def _links(here: Machine, wants: Wants) -> Iterator[Finding]:
    """Frames of fast Ethernet links, which a USRP at tens of MS/s needs large."""
    for path in here.glob("/sys/class/net/*/mtu"):
        name, frame = path.parent.name, _number(_text(path))
        speed = _number(_text(path.parent / "speed"))
        if speed < 10_000:
            continue
        good = frame >= _JUMBO
        yield Finding(
            area="network", name=f"frames of {name}", status="ok" if good else wants.status("usrp"),
            found=f"{frame:.0f} bytes at {speed / 1000:g} Gb/s",
            mend="" if good else f"sudo ip link set {name} mtu 9000",
        )  # fmt: skip


def _temperatures(here: Machine) -> Iterator[Finding]:
    for path in here.glob("/sys/class/thermal/thermal_zone*/temp"):
        kind = _text(path.parent / "type") or path.parent.name
        celsius = 1e-3 * _number(_text(path))
        hot = celsius > _HOT_C
        yield Finding(
            area="temperature", name=kind, status="wrong" if hot else "ok", found=f"{celsius:.0f} °C",
            mend="let it cool: processors slow down when hot" if hot else "",
        )  # fmt: skip


def _disk(wants: Wants, folder: Path) -> Iterator[Finding]:
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not parent.is_dir():
        found = f"{parent} is a file, so runs cannot go to {folder}"
        yield Finding(area="disk", name="free space", status="wrong", found=found, mend="choose another folder")
        return
    free = shutil.disk_usage(parent).free
    needed = _SPARE_BYTES + (0 if wants.scenario is None else recording_bytes(wants.scenario))
    yield Finding(
        area="disk", name="free space", status="ok" if free >= needed else "wrong",
        found=f"{free / 1e9:.1f} GB in {parent}" + (f", {needed / 1e9:.2f} GB needed" if wants.scenario else ""),
        mend="" if free >= needed else "make room, or record fewer rounds",
    )  # fmt: skip
    rate = _write_rate(parent)
    if isinstance(rate, str):
        yield Finding(area="disk", name="write rate", status="wrong", found=rate, mend="choose another folder")
        return
    if wants.scenario is None:
        yield Finding(area="disk", name="write rate", status="ok", found=f"{rate / 1e6:.0f} MB/s in {parent}")
        return
    scenario = wants.scenario
    wanted = recording_bytes(scenario) / scenario.experiment.rounds / round_period_s(scenario)
    hurried = not all(node.radio == "simulated" for node in scenario.node)
    slow = rate < wanted
    yield Finding(
        area="disk", name="write rate", status=("wrong" if hurried else "note") if slow else "ok",
        found=f"{rate / 1e6:.0f} MB/s in {parent}, {wanted / 1e6:.0f} MB/s wanted to keep up",
        mend="give round.period_s more time, record fewer antennas, or choose a faster disk" if slow else "",
    )  # fmt: skip


def _write_rate(folder: Path) -> float | str:
    """Bytes a second that reach the disk in ``folder``, on a trial that is removed; or why not."""
    path = folder / f".isac-doctor-{os.getpid()}"
    block = os.urandom(_BLOCK_BYTES)
    written = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            began = time.monotonic()
            while written < _TRIAL_BYTES and time.monotonic() - began < _TRIAL_S:
                written += os.write(descriptor, block)
            os.fsync(descriptor)
            return written / (time.monotonic() - began)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return f"{folder}: {error.strerror or error}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _count(path: Path) -> int:
    return int(_number(_text(path)))
