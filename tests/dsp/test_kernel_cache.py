"""Compiled kernels on disk: made once, with a word about it, and never stale."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dsp.kernels

_NOTE = "compiling numerical kernels for this machine"


@pytest.fixture
def package(tmp_path):
    """A package whose one kernel calls a jitted function of another file, under the real package's ``__init__``."""
    folder = tmp_path / "trial"
    folder.mkdir()
    shutil.copy(Path(dsp.kernels.__file__), folder / "__init__.py")
    (folder / "callee.py").write_text(
        "from numba import njit\n\n@njit(cache=True)\ndef value():\n    return 1\n", encoding="utf-8"
    )
    (folder / "caller.py").write_text(
        "from numba import njit\nfrom trial.callee import value\n\n"
        "@njit(cache=True)\ndef twice():\n    return 2 * value()\n",
        encoding="utf-8",
    )
    return folder


def run(package: Path) -> tuple[str, str]:
    environment = os.environ | {"PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(package.parent / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = "from trial.caller import twice; print(twice())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip(), done.stderr.strip()


def test_an_edit_in_a_called_file_is_noticed_and_nothing_else_is_compiled_twice(package):
    first, note = run(package)
    assert first == "2"
    assert note.count(_NOTE) == 1
    assert len(note.splitlines()) == 1
    assert run(package) == ("2", "")
    callee = package / "callee.py"
    callee.write_text(callee.read_text(encoding="utf-8").replace("return 1", "return 7"), encoding="utf-8")
    second, note = run(package)
    assert second == "14"
    assert _NOTE in note


def test_where_the_package_cannot_be_written_to_the_user_keeps_the_cache(package):
    # A file where the folder would have to be: also root cannot write there.
    (package / "__pycache__").write_text("", encoding="utf-8")
    assert run(package)[0] == "2"
    assert list((package.parent / "cache").rglob("*.nbi"))
    assert run(package) == ("2", "")
