"""Keys carried to other machines, by an `ssh` and an `scp` that are not the system's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed import cli
from testbed.keys import node_keys

_SSH = """#!/bin/sh
for word in "$@"; do before=$script; script=$word; done
[ "$before" = lab@west.local ] || { echo "no such host $before" >&2; exit 255; }
cd ROOT && exec sh -c "$script"
"""
_SCP = """#!/bin/sh
for word in "$@"; do source=$target; target=$word; done
cd ROOT && cp -pR "$source" "${target#lab@west.local:}"
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home on the other machine."""
    programs, home = tmp_path / "bin", tmp_path / "far"
    programs.mkdir()
    home.mkdir()
    for name, text in (("ssh", _SSH), ("scp", _SCP)):
        (programs / name).write_text(text.replace("ROOT", str(home)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return home


def keys(tmp_path: Path, *words: str) -> int:
    return cli.main(["keys", *words, "--out", str(tmp_path / "keys")])


def test_a_nodes_keys_and_nothing_else_arrive(far: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys(tmp_path, "west", "east", "--to", "west=lab@west.local:isac keys") == 0
    arrived = far / "isac keys"
    assert [path.name for path in arrived.iterdir()] == ["west"]
    assert node_keys(arrived / "west", "west").secret == node_keys(tmp_path / "keys" / "west", "west").secret
    assert (arrived / "west" / "west.key_secret").stat().st_mode & 0o777 == 0o600
    assert "isac node --name west" in capsys.readouterr().out
    # Once more: the keys are kept, and what is there is not overwritten.
    assert keys(tmp_path, "west", "--to", "west=lab@west.local:isac keys") == 1
    assert "there already" in capsys.readouterr().err


def test_keys_that_exist_are_carried_elsewhere(tmp_path: Path, far: Path) -> None:
    assert keys(tmp_path, "west") == 0
    before = (tmp_path / "keys" / "west" / "west.key_secret").read_text()
    assert keys(tmp_path, "west", "--to", f"west={tmp_path / 'stick'}") == 0
    assert (tmp_path / "stick" / "west" / "west.key_secret").read_text() == before
    assert keys(tmp_path, "west", "--to", f"west={tmp_path / 'stick'}") == 2


def test_a_dry_run_only_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys(tmp_path, "west", "--to", "west=lab@west.local:", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "scp -pqr" in out
    assert "isac-keys/west" in out
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("west", "--to", "east=x"), 2, "not among the nodes"),
        (("west", "--to", "west"), 2, "NODE=USER@HOST:FOLDER"),
        (("west", "--to", "west=lab@elsewhere:keys"), 1, "no such host lab@elsewhere"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], code: int, says: str, far: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys(tmp_path, *words) == code
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1
