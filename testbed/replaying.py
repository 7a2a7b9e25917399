"""Many recordings replayed at once: each by a command of its own, so that memory is one round for each worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import UserError
from testbed.processes import ONE_THREAD

__all__ = ["Replayed", "folders", "replay_all"]


@dataclass(frozen=True)
class Replayed:
    """How the replay of one recording ended."""

    recording: Path
    folder: Path
    exit_code: int
    complaint: str
    """Its last line on the standard error, where it failed."""


def folders(recordings: Sequence[Path], out: Path) -> list[Path]:
    """Folder of each recording's replay: its name under ``out``.

    Raises
    ------
    UserError
        If two recordings bear one name, or a folder is there already.
    """
    names = [(path if path.is_dir() else path.parent).resolve().name for path in recordings]
    for index, name in enumerate(names):
        if name in names[:index]:
            first = recordings[names.index(name)]
            raise UserError(f"{recordings[index]} and {first} would both be written to {out / name}: replay them apart")
        if (out / name).exists():
            raise UserError(f"--out holds {out / name} already: choose another folder, or remove it")
    return [out / name for name in names]


def replay_all(
    recordings: Sequence[Path],
    out: Path,
    *,
    options: Sequence[str],
    workers: int,
    progress: Callable[[int, str], None],
) -> list[Replayed]:
    """How each replay ended, in the recordings' order; one that fails does not stop the others.

    Parameters
    ----------
    options : sequence of str
        Of `isac replay`, handed to every one.
    workers : int
        Replays at once, each a process of one thread.
    """
    jobs = list(zip(recordings, folders(recordings, out), strict=True))
    environment = os.environ | ONE_THREAD

    def one(recording: Path, folder: Path) -> Replayed:
        command = [sys.executable, "-m", "testbed.cli", "replay", str(recording), "--out", str(folder), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        said = done.stderr.strip().splitlines()
        return Replayed(recording, folder, done.returncode, said[-1].removeprefix("isac: ") if said else "")

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(one, *job) for job in jobs]
        for done, finished in enumerate(as_completed(running), start=1):
            progress(done, finished.result().recording.name)
    return [job.result() for job in running]
