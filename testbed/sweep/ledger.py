"""What is done of a sweep: one line a point, appended as points end, so that a kill loses nothing that was done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from testbed.errors import UserError
from testbed.sweep.point import Outcome

__all__ = ["Ledger"]

_SYNC_S = 1.0
"""A crash of the machine, not only of the process, loses the points of this long at most."""


class _Head(msgspec.Struct):
    sweep: str
    """Fingerprint of the sweep."""


class Ledger:
    """Points done, in ``folder``/points.jsonl; opened again, it goes on where it was left.

    A line that a kill cut short is dropped. One process writes.

    Raises
    ------
    UserError
        If the folder holds another sweep, or something else.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / "points.jsonl"
        self.done: set[int] = set()
        if not self._path.exists():
            if folder.exists() and any(folder.iterdir()):
                raise UserError(f"--out is {folder}, which holds something else than a sweep: choose another folder")
            folder.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(msgspec.json.encode(_Head(fingerprint)) + b"\n")
        else:
            self._reopen(folder, fingerprint)
        self._file = self._path.open("ab")
        self._synced = time.monotonic()

    def _reopen(self, folder: Path, fingerprint: str) -> None:
        whole = 0
        with self._path.open("rb") as file:
            head = file.readline()
            try:
                same = msgspec.json.decode(head, type=_Head).sweep == fingerprint
            except msgspec.DecodeError:
                same = False
            if not same:
                raise UserError(f"--out is {folder}, which holds another sweep: choose another folder, or remove it")
            whole = len(head)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.done.add(msgspec.json.decode(line, type=Outcome).index)
                whole += len(line)
        if whole < self._path.stat().st_size:
            os.truncate(self._path, whole)

    def add(self, outcome: Outcome) -> None:
        """Keep a point's outcome; one that is there already is not kept twice."""
        if outcome.index in self.done:
            return
        self._file.write(msgspec.json.encode(outcome) + b"\n")
        self._file.flush()
        self.done.add(outcome.index)
        if time.monotonic() - self._synced > _SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        """Everything kept, in the order in which it came."""
        with self._path.open("rb") as file:
            next(file)
            for line in file:
                yield msgspec.json.decode(line, type=Outcome)

    def close(self) -> None:
        """Write what is left to write."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
