"""Processes that a run starts beside itself: the agents and the ether. None outlives it."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from testbed.scenario import Scenario, dumps

__all__ = ["ONE_THREAD", "Child", "EtherChild", "end", "start_agent"]

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Environment of a process whose linear algebra is to take one thread: numpy heeds it when it is imported."""
_ROOT = Path(__file__).resolve().parents[1]


class Child:
    """A process of ours: it ends by itself when its standard input does, and leaves its last words in a file."""

    def __init__(self, arguments: list[str], *, interpreter: str = "") -> None:
        self._interpreter = interpreter
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        environment = os.environ | ONE_THREAD
        environment["PYTHONPATH"] = os.pathsep.join(
            str(path) for path in (_ROOT, os.environ.get("PYTHONPATH", "")) if str(path)
        )
        # A session of its own: Ctrl-C is for the coordinator, which then ends its children in order.
        try:
            self.process = subprocess.Popen(
                [interpreter or sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                start_new_session=True,
                env=environment,
            )
        except OSError:
            self._words.close()
            raise

    @property
    def exited(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """Last line of its standard error, or how it ended."""
        self._words.seek(0)
        lines = self._words.read().decode("utf-8", "replace").strip().splitlines()
        if lines and self._interpreter and lines[-1].startswith("ModuleNotFoundError: "):
            lacks = lines[-1].removeprefix("ModuleNotFoundError: ")
            mend = f"{self._interpreter} -m pip install isac-testbed"
            return f"{self._interpreter} lacks what the testbed needs ({lacks}): {mend}"
        if lines:
            return lines[-1].removeprefix("isac: ")
        code = self.process.poll()
        if code is None:
            return "it is still running"
        return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        """Free what the parent holds of an ended child."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # it ended before it read everything
                    stream.close()
        self._words.close()


class EtherChild(Child):
    """The process that serves the simulated surroundings."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(["-m", "testbed.radio.simulated"])
        self.address = ""
        """Where radios find it; empty until it is ready."""
        self.heard = time.monotonic()
        text = dumps(scenario).encode()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._line = b""
        with contextlib.suppress(BrokenPipeError):  # it ended at once: `exited` says so and `last_words` why
            self.process.stdin.write(struct.pack("<I", len(text)) + text)
            self.process.stdin.flush()

    def fileno(self) -> int:
        """Descriptor that has something to read when the ether says that it is there."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def listen(self) -> None:
        """Take what it says: its port first, then a sign of life each second."""
        said = os.read(self.fileno(), 4096)
        if said:
            self.heard = time.monotonic()
        if not self.address:
            self._line += said
            if b"\n" in self._line:
                self.address = f"127.0.0.1:{int(self._line.split(maxsplit=1)[0])}"

    def drop(self, node: str) -> None:
        """Tell it not to wait for ``node`` until that asks again."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone, which its exit tells
            self.process.stdin.write(f"{node}\n".encode())
            self.process.stdin.flush()


def start_agent(name: str, coordinator: str, keys: Path | None, *, interpreter: str = "") -> Child:
    """Agent of the node ``name``, as a process of this machine, by another ``interpreter`` if that is given.

    Raises
    ------
    OSError
        If there is no such interpreter.
    """
    arguments = ["-m", "testbed.cli", "node", "--name", name, "--coordinator", coordinator, "--with-parent"]
    return Child(arguments + (["--keys", str(keys)] if keys is not None else []), interpreter=interpreter)


def end(children: Iterable[Child], *, grace_s: float) -> None:
    """Let every child end by itself, kill those that do not within ``grace_s``, and reap them all."""
    children = list(children)
    for child in children:
        assert child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before it read everything
            child.process.stdin.close()
    deadline = time.monotonic() + grace_s
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.close()
