"""Libraries, drivers and what they bring: versions, FPGA images, caches, keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from testbed.doctor.finding import Finding, Wants

__all__ = ["find_uhd", "find_usrps", "software"]

_TIMEOUT_S = 30.0
_PYLIBIIO = "0.25"
_UHD = """
import json, re, numpy, uhd
# Python's face of the library tells no version; the library's file does.
loaded = re.search(r"libuhd\\.so\\.([0-9.]+)", open("/proc/self/maps").read())
images = uhd.get_images_dir("") if hasattr(uhd, "get_images_dir") else ""
print(json.dumps({"numpy": numpy.__version__, "uhd": loaded[1] if loaded else "unknown", "images": images}))
"""
_FIND_USRPS = """
import json, uhd
found = [device.to_dict() for device in uhd.find("")]
keep = ("type", "serial", "addr")
print(json.dumps([",".join(f"{key}={one[key]}" for key in keep if one.get(key)) for one in found]))
"""
_LIBIIO = "import json, iio; print(json.dumps(list(iio.version)))"


def software(wants: Wants, keys: Path | None) -> Iterator[Finding]:
    """Findings on what is installed."""
    yield _python()
    yield from _libiio(wants)
    yield from _uhd(wants)
    yield _cache()
    yield from _keys(wants, keys)


def _python() -> Finding:
    names = ("numpy", "scipy", "numba", "pyzmq")
    found = f"Python {sys.version.split()[0]}, " + ", ".join(f"{name} {_version(name)}" for name in names)
    return Finding(area="software", name="Python", status="ok", found=found)


def _libiio(wants: Wants) -> Iterator[Finding]:
    status = wants.status("pluto")
    said = _asked(sys.executable, _LIBIIO)
    if isinstance(said, list):
        numbers = f"{said[0]}.{said[1]}"
        good = said[0] == 0
        yield Finding(
            area="software", name="libiio", status="ok" if good else status, found=f"version {numbers}",
            mend="" if good else "version 0.x is needed: sudo apt-get install libiio0",
        )  # fmt: skip
    else:
        yield Finding(
            area="software", name="libiio", status=status, found=f"cannot be loaded: {said}",
            mend="sudo apt-get install libiio0 libiio-utils",
        )  # fmt: skip
    for name, wanted in (("pyadi-iio", None), ("pylibiio", _PYLIBIIO)):
        found = _version(name)
        good = found != "missing" and wanted in (None, found)
        yield Finding(
            area="software", name=name, status="ok" if good else status,
            found=found if found == "missing" else f"version {found}",
            mend="" if good else "pip install 'isac-testbed[pluto]'",
        )  # fmt: skip


def find_uhd(wants: Wants) -> tuple[str, dict[str, Any]] | str:
    """Interpreter that has uhd, and its versions; or why none does.

    Asked are those that the scenario's USRPs name, ours, and Debian's own, for which its package is.
    """
    named = [] if wants.scenario is None else [node.usrp for node in wants.scenario.node if node.usrp is not None]
    candidates = [options.python for options in named] + [sys.executable, "/usr/bin/python3"]
    reasons = []
    for interpreter in dict.fromkeys(filter(None, candidates)):
        said = _asked(interpreter, _UHD)
        if isinstance(said, dict):
            return interpreter, said
        reasons.append(f"{interpreter}: {said}")
    return "; ".join(reasons)


def find_usrps(wants: Wants) -> list[str]:
    """Arguments that name each USRP that uhd finds; none where there is no uhd."""
    said = find_uhd(wants)
    found = _asked(said[0], _FIND_USRPS) if not isinstance(said, str) else []
    return [str(one) for one in found] if isinstance(found, list) else []


def _uhd(wants: Wants) -> Iterator[Finding]:
    status = wants.status("usrp")
    said = find_uhd(wants)
    if isinstance(said, str):
        yield Finding(
            area="software", name="uhd", status=status, found=f"cannot be loaded: {said}",
            mend="sudo apt-get install python3-uhd uhd-host",
        )  # fmt: skip
        return
    interpreter, known = said
    old = int(str(known["numpy"]).split(".")[0]) < 2
    yield Finding(
        area="software", name="uhd", status="ok" if old else status,
        found=f"version {known['uhd']} with numpy {known['numpy']} in {interpreter}",
        mend="" if old else "its receive calls crash under numpy 2: use an interpreter with numpy 1.26 for USRP nodes",
    )  # fmt: skip
    images = Path(str(known["images"])) if known["images"] else None
    files = sorted(images.glob("usrp_*")) if images is not None and images.is_dir() else []
    yield Finding(
        area="software", name="FPGA images", status="ok" if files else status,
        found=f"{len(files)} in {images}" if files else "none",
        mend="" if files else "sudo uhd_images_downloader",
    )  # fmt: skip


def _cache() -> Finding:
    """Whether compiled kernels can be, and are, kept."""
    spec = find_spec("dsp.kernels")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    own = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(own) if own else Path(places[0]) / "__pycache__"
    kept = len(list(folder.rglob("*.nbi"))) if folder.is_dir() else 0
    parent = folder if folder.is_dir() else folder.parent
    if not os.access(parent, os.W_OK):
        return Finding(
            area="software", name="compiled kernels", status="note", found=f"{folder} cannot be written",
            mend="export NUMBA_CACHE_DIR=~/.cache/isac-numba, or each run compiles for half a minute",
        )  # fmt: skip
    found = f"{kept} kept in {folder}" if kept else "none yet: the first run compiles them, which takes half a minute"
    return Finding(area="software", name="compiled kernels", status="ok", found=found)


def _keys(wants: Wants, folder: Path | None) -> Iterator[Finding]:
    from testbed.errors import UserError
    from testbed.keys import coordinator_keys

    remote = [] if wants.scenario is None else [node.name for node in wants.scenario.node if node.agent == "remote"]
    make = "isac keys " + " ".join(remote or ["NODE"])
    if folder is None:
        if remote:
            yield Finding(
                area="software", name="keys", status="note",
                found=f"{', '.join(remote)} come from other machines, and no --keys was given to look at", mend=make,
            )  # fmt: skip
        return
    try:
        keys = coordinator_keys(folder)
    except UserError as error:
        yield Finding(area="software", name="keys", status="wrong", found=str(error), mend=make)
        return
    missing = [name for name in remote if name not in keys.nodes.values()]
    open_to_others = [path for path in folder.glob("*.key_secret") if path.stat().st_mode & 0o077]
    if open_to_others:
        yield Finding(
            area="software", name="keys", status="wrong", found=f"{open_to_others[0]} can be read by others",
            mend=f"chmod 600 {open_to_others[0]}",
        )  # fmt: skip
    yield Finding(
        area="software", name="keys", status="wrong" if missing else "ok",
        found=f"of {', '.join(sorted(keys.nodes.values())) or 'nobody'}"
        + (f", not of {', '.join(missing)}" if missing else ""),
        mend=make if missing else "",
    )  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _asked(interpreter: str, program: str) -> Any:
    """What the program prints as JSON; the last line of its complaint if it fails, as a library may take it down."""
    try:
        done = subprocess.run(
            [interpreter, "-c", program], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else _last(done)
    except (IndexError, json.JSONDecodeError):
        return _last(done)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
