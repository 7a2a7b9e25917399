"""Node keys carried to the machines where they are used, by the system's `ssh` and `scp`, or into a folder."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import RunError, UserError

__all__ = ["Copy", "copied", "planned"]

_TIMEOUT_S = 120.0
"""Somebody may have to type a password."""


@dataclass(frozen=True)
class Copy:
    """One node's keys, and where they go."""

    node: str
    source: Path
    host: str
    """USER@HOST; empty for a folder of this machine."""
    folder: str

    @property
    def commands(self) -> list[list[str]]:
        """What carries them: nothing but the node's own folder leaves this machine."""
        place = f"{self.folder.rstrip('/')}/{self.node}"
        if not self.host:
            return [["mkdir", "-p", "-m", "700", self.folder], ["cp", "-pR", str(self.source), place]]
        prepared = f"umask 077; mkdir -p {shlex.quote(self.folder)}; ! test -e {shlex.quote(place)}"
        return [
            ["ssh", self.host, prepared],
            ["scp", "-pqr", str(self.source), f"{self.host}:{place}"],
            ["ssh", self.host, f"chmod 700 {shlex.quote(place)}; chmod 600 {shlex.quote(place)}/*.key_secret"],
        ]

    def text(self) -> str:
        """The commands as one would type them."""
        return "\n".join(shlex.join(command) for command in self.commands)


def planned(folder: Path, wishes: tuple[str, ...]) -> list[Copy]:
    """Copies that NODE=TARGET texts ask for; a target is USER@HOST:FOLDER, or a folder of this machine.

    Raises
    ------
    UserError
        If one is not of that form.
    """
    copies = []
    for wish in wishes:
        node, _, target = wish.partition("=")
        if not node or not target:
            raise UserError(f"--to is {wish!r}: give NODE=USER@HOST:FOLDER, or NODE=FOLDER")
        remote = re.fullmatch(r"([^:/\s-][^:/\s]*):(.*)", target)
        host, place = (remote[1], remote[2] or "isac-keys") if remote is not None else ("", target)
        copies.append(Copy(node, folder / node, host, place))
    return copies


def copied(copy: Copy) -> None:
    """Carry one node's keys.

    Raises
    ------
    UserError
        If the node has no keys, or some are there already, or a program is missing.
    RunError
        If the copy fails.
    """
    if not copy.source.is_dir():
        raise UserError(f"{copy.source}: there are no keys of {copy.node!r}: make them with `isac keys {copy.node}`")
    if not copy.host and (Path(copy.folder) / copy.node).exists():
        raise UserError(f"{Path(copy.folder) / copy.node}: exists already: remove it first")
    for command in copy.commands:
        if shutil.which(command[0]) is None:
            raise UserError(f"there is no {command[0]} on this machine: sudo apt-get install openssh-client")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise RunError(f"{copy.node}: `{shlex.join(command)}` takes longer than {_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            said = " ".join(done.stderr.split())[-200:]
            reason = said or f"exit code {done.returncode}; perhaps keys of {copy.node!r} are there already"
            raise RunError(f"{copy.node}: `{shlex.join(command)}` failed: {reason}")
