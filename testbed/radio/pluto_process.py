"""A Pluto in a process of its own, as its driver sees it: what libiio breaks, or waits for in vain, stays there.

Processes are kept for the next device where nothing went wrong with the last; one that did not answer in time is
killed, and the driver is told that the device is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.processes import ONE_THREAD
from testbed.radio import pluto_link as link
from testbed.radio.base import RadioError, RefusalError, Settings
from testbed.radio.pluto_device import SetUp
from testbed.scenario import Pluto

__all__ = ["PlutoProcess"]

_ROOT = Path(__file__).resolve().parents[2]
_OPEN_S = 30.0
"""Until a device is open: the library waits five seconds for each of its answers, and a busy machine starts slowly."""
_SET_UP_S = 30.0
_BEYOND_S = 15.0
"""Beyond the duration of a recording: the library itself gives up after three seconds of silence."""
_CLOSE_S = 4.0
_MOST_IDLE = 2
_ANSWERS = msgspec.msgpack.Decoder(link.Answer)
_IDLE: list[_Process] = []
_LOCK = threading.Lock()


class _Process:
    """One worker with the socket to it."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        environment = os.environ | ONE_THREAD
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "testbed.radio.pluto_worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )

    def ask(
        self, question: link.Question, data: bytes | memoryview = b"", *, patience_s: float
    ) -> tuple[Any, bytearray]:
        """Its answer and the bytes beside it; raises `pluto_link.LinkError`."""
        deadline = time.monotonic() + patience_s
        link.send(self.connection, question, data, deadline=deadline)
        answer, beside = link.receive(self.connection, _ANSWERS, deadline=deadline)
        return answer, beside

    def end(self) -> str:
        """How it ended, or that it was killed."""
        self.connection.close()
        try:
            code = self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "did not answer in time"
        return f"crashed (signal {-code})" if code < 0 else f"ended with exit code {code}"


@atexit.register
def _end_idle() -> None:
    with _LOCK:
        idle, _IDLE[:] = list(_IDLE), []
    for process in idle:
        process.end()


def _taken() -> _Process:
    """A worker that has nothing to do."""
    with _LOCK:
        while _IDLE:
            process = _IDLE.pop()
            if process.process.poll() is None:
                return process
            process.end()
    return _Process()


class PlutoProcess:
    """The Pluto that ``options`` name, with ``channels`` receivers; as `testbed.radio.pluto_device.PlutoDevice`.

    Raises
    ------
    RadioError
        Likewise; also if the library crashed on what the device answered, or did not come to an end.
    """

    def __init__(self, name: str, options: Pluto, channels: int, *, patient: bool = False) -> None:
        self._name = name
        self._closed = False
        self._busy = threading.Lock()
        self._sound = True
        self._process = _taken()
        opened = None
        try:
            opened = self._ask(link.Open(name, options, channels, patient), patience_s=_OPEN_S)[0]
        except OSError as error:
            raise RadioError(f'the Pluto at "{options.uri}" of {name!r} does not open: {error}') from None
        finally:
            if opened is None:
                self.close()
        assert isinstance(opened, link.Opened)
        self.uri, self.facts = opened.uri, opened.facts
        self.conditions: dict[str, float] = {}
        """What was measured of the device during the last recording."""

    def set_up(self, settings: Settings) -> SetUp:
        """See `PlutoDevice.set_up`; raises `OSError` as well, if the device is gone."""
        question = link.Settle(
            str(settings.carrier_hz), str(settings.rate_hz), settings.antennas, settings.tx_power_dbm
        )
        answer, _ = self._ask(question, patience_s=_SET_UP_S)
        assert isinstance(answer, link.SetUp)
        return SetUp(Fraction(answer.carrier_hz), Fraction(answer.rate_hz), answer.details)

    def record(
        self, samples: int, burst: NDArray[np.complex64] | None, offset: int, rate_hz: Fraction
    ) -> tuple[NDArray[np.int16], bool]:
        """See `PlutoDevice.record`."""
        question = link.Record(samples, offset, str(rate_hz), burst is not None)
        data = b"" if burst is None or not burst.size else np.ascontiguousarray(burst).data.cast("B")
        answer, beside = self._ask(question, data, patience_s=float(samples / rate_hz) + _BEYOND_S)
        assert isinstance(answer, link.Recorded)
        self.conditions = answer.conditions
        return np.frombuffer(beside, np.int16).reshape(answer.shape), answer.lost

    def _ask(
        self, question: link.Question, data: bytes | memoryview = b"", *, patience_s: float
    ) -> tuple[Any, bytearray]:
        with self._busy:
            if self._closed:
                raise OSError("closed")
            try:
                answer, beside = self._process.ask(question, data, patience_s=patience_s)
            except link.LinkError:
                self._sound = False
                raise OSError(f"the library {self._process.end()}") from None
        if isinstance(answer, link.Failed):
            if answer.kind == "refusal":
                raise RefusalError(answer.text)
            if answer.kind == "radio":
                raise RadioError(answer.text)
            # What a library did not understand it may have been harmed by.
            self._sound = False
            raise OSError(answer.number, answer.text) if answer.number else OSError(answer.text)
        return answer, beside

    def close(self) -> None:
        """Wake whoever waits, let go of the device and of the process; never raises, may be called twice."""
        if self._closed:
            return
        self._closed = True
        process = self._process
        if not self._busy.acquire(blocking=False):
            # Its answer is being waited for by another thread: this is told to it, and that thread wakes up by it.
            with contextlib.suppress(link.LinkError):
                link.send(process.connection, link.Close(), deadline=time.monotonic() + _CLOSE_S)
            if not self._busy.acquire(timeout=_CLOSE_S):
                process.process.kill()
                self._busy.acquire()
            self._sound = False
        try:
            if self._sound:
                try:
                    process.ask(link.Close(), patience_s=_CLOSE_S)
                except link.LinkError:
                    self._sound = False
            with _LOCK:
                if self._sound and len(_IDLE) < _MOST_IDLE:
                    _IDLE.append(process)
                    return
            process.end()
        finally:
            self._busy.release()
