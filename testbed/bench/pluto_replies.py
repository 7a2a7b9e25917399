"""Malformed replies towards libiio: a server that tells the truth until it lies, and what that does to its client.

`isac bench pluto replies` runs it. Every connection is answered by a simulated Pluto, whose answers are let through up
to one of a few; that one is mutilated, and the connection is closed or reset after it but for a few. libiio is used as
`testbed.bench.pluto_client` does, in a process of its own, and now and then by the whole driver.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np

from testbed.bench.rows import BenchRow

__all__ = ["LyingServer", "faults", "mutilated", "replies"]

_NUMBERS = (
    b"-1", b"-22", b"-32", b"-110", b"0", b"1", b"3", b"7", b"255", b"1023", b"1024", b"65536", b"16777216",
    b"2147483647", b"-2147483648", b"4294967296", b"99999999999999999999", b"", b"abc", b"0x10", b"1e9", b" 5",
)  # fmt: skip
"""What a reply's first line may say instead."""
_HONEST = (0, 0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55)
"""Replies that a connection gives before it lies."""
_RESET = struct.pack("ii", 1, 0)
_SILENT_SHARE = 2e-4
"""Of the lies, those after which the connection is kept: the client then waits five seconds."""
_LIMIT_S = 30.0
_WARM = 100
_CONNECTIONS_A_ROUND = 100
"""Of the bare library, for each round with the whole driver."""


def mutilated(random: np.random.Generator, reply: bytes) -> bytes:
    """The reply cut short, with bits turned, replaced by noise or by another number, with parts in, out or doubled."""
    first, second = sorted(int(place) for place in random.integers(len(reply) + 1, size=2))
    noise = random.bytes(int(random.choice([1, 5, 40, 300, 1100])))
    number = _NUMBERS[int(random.integers(len(_NUMBERS)))]
    rest = reply[reply.find(b"\n") :]
    match int(random.integers(10)):
        case 0:
            return b""
        case 1:
            return reply[:first]
        case 2:
            turned = bytearray(reply)
            for place in random.integers(len(reply), size=int(random.integers(1, 8))):
                turned[place] ^= 1 << int(random.integers(8))
            return bytes(turned)
        case 3:
            return noise
        case 4:
            return number + rest
        case 5:
            return number + b"\n"
        case 6:
            return reply[:first] + noise + reply[first:]
        case 7:
            return reply[:first] + reply[second:]
        case 8:
            return reply[:second] + reply[first:second] * int(random.choice([1, 2, 20])) + reply[second:]
        case _:
            # A number within, which lengths, masks and the context's description have many of.
            digits = [place for place, sign in enumerate(reply[:4096]) if chr(sign).isdigit()] or [0]
            place = digits[int(random.integers(len(digits)))]
            return reply[:place] + number + reply[place + 1 :]


class LyingServer:
    """A simulated Pluto's server, each of whose connections ends with a lie; `lies` counts them.

    Parameters
    ----------
    seed : int
        Chooses what it says.
    fault_at : int, optional
        Instead of lying on each connection: fall silent once, at the reply of this number, all connections together.
    silence_s : float
        For so long, before the connection is reset.
    """

    def __init__(self, seed: int, *, fault_at: int | None = None, silence_s: float = 0.0) -> None:
        from testbed.radio.simulated_pluto import Interlocutor

        self.lies = 0
        self.replies = 0
        """Answers that were true."""
        self._fault_at, self._silence_s = fault_at, silence_s
        self._random = np.random.default_rng(seed)
        self._pluto = Interlocutor()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"ip:127.0.0.1:{self.port}"

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            seed = int(self._random.integers(2**62))
            threading.Thread(target=self._serve, args=(connection, seed), daemon=True).start()

    def _serve(self, connection: socket.socket, seed: int) -> None:
        random = np.random.default_rng(seed)
        left = int(random.choice(_HONEST))

        def send(reply: bytes) -> None:
            nonlocal left
            left -= 1
            with self._lock:
                honest = left >= 0 if self._fault_at is None else self.lies > 0 or self.replies != self._fault_at
                self.replies += honest
                self.lies += not honest
            if honest:
                connection.sendall(reply)
                return
            if self._fault_at is None:
                connection.sendall(mutilated(random, reply))
            else:
                time.sleep(self._silence_s)
            if self._fault_at is not None or random.uniform() >= _SILENT_SHARE:
                if random.uniform() < 0.3:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                raise ConnectionResetError

        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pluto.serve(connection, send)


class _Client:
    """`testbed.bench.pluto_client` as a process, started anew when it crashes or hangs."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._process: subprocess.Popen[str] | None = None
        self.crashes = self.hangs = 0
        self.growth = [0, 0, 0]
        """Largest growth within one process, after its first hundred connections: threads, descriptors, bytes."""
        self._first: list[int] | None = None
        self._lines = 0

    def listen(self) -> None:
        """Wait for the end of its present connection."""
        if self._process is None:
            command = [sys.executable, "-m", "testbed.bench.pluto_client", self._uri]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self._lines, self._first = 0, None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _LIMIT_S)[0]:
            self.hangs += 1
            self.close()
            return
        line = self._process.stdout.readline()
        if not line:
            self.crashes += 1
            self.close()
            return
        self._lines += 1
        now = [int(word) for word in line.split()]
        if self._lines == _WARM:
            self._first = now
        if self._first is not None:
            grown = [late - early for late, early in zip(now, self._first, strict=True)]
            self.growth = [max(pair) for pair in zip(self.growth, grown, strict=True)]

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def replies(trials: int = 100_000, seed: int = 1) -> list[BenchRow]:
    """Lies told to libiio and to the driver: crashes, hangs, and what is left behind."""
    from testbed.bench.simulated_pluto import _row
    from testbed.progress import progress_bar
    from testbed.radio.base import RadioError

    server = LyingServer(seed)
    client = _Client(server.uri)
    before = None
    whole = told = connections = 0
    with progress_bar(trials) as progress:
        while server.lies < trials:
            client.listen()
            connections += 1
            if connections % _CONNECTIONS_A_ROUND == 0:
                try:
                    _whole_driver(server.uri)
                    whole += 1
                except RadioError:
                    told += 1  # why not, in one line
                before = before or _left()
            progress(min(server.lies, trials), "lying")
    client.close()
    lies = server.lies
    server.close()
    after = _left()
    before = before or after
    return [
        _row("library_crashes", "1", float(client.crashes), None, lies, connections=connections),
        _row("library_hangs", "1", float(client.hangs), None, lies, limit_s=_LIMIT_S),
        _row("library_threads_left", "1", float(client.growth[0]), None, lies),
        _row("library_descriptors_left", "1", float(client.growth[1]), None, lies),
        _row("library_memory_left", "MB", client.growth[2] / 1e6, None, lies),
        _row("driver_rounds_whole", "1", float(whole), None, whole + told),
        _row("driver_says_why_not", "1", float(told), None, whole + told),
        _row("driver_threads_left", "1", float(after[0] - before[0]), None, whole + told),
        _row("driver_descriptors_left", "1", float(after[1] - before[1]), None, whole + told),
    ]


def faults(silences: int = 3) -> list[BenchRow]:
    """The connection reset at every step of one round with the driver, and the server hung for ten seconds at some.

    Each fault befalls once: a driver that opens the device anew finds it well.
    """
    from testbed.bench.simulated_pluto import _row
    from testbed.progress import progress_bar

    server = LyingServer(0, fault_at=-1)
    for _ in range(3):
        before = _left()
        told = _fate(server.uri)
    assert told == "whole"
    server.close()
    steps = server.replies // 3
    fates: Counter[str] = Counter()
    longest_s = 0.0
    hung = np.linspace(0, steps - 1, silences).astype(int).tolist()
    with progress_bar(steps + silences) as progress:
        for number, (step, silence_s) in enumerate(
            [*((step, 0.0) for step in range(steps)), *((s, 10.0) for s in hung)]
        ):
            lying = LyingServer(0, fault_at=step, silence_s=silence_s)
            begun = time.monotonic()
            fates[_fate(lying.uri)] += 1
            longest_s = max(longest_s, time.monotonic() - begun)
            lying.close()
            progress(number + 1, "breaking")
    after = _left()
    return [
        _row("faults_survived", "1", float(fates["recovered"] + fates["whole"]), None, steps + silences),
        _row("faults_told", "1", float(fates["told"]), None, steps + silences),
        _row("longest", "s", longest_s, None, steps + silences),
        _row("threads_left", "1", float(after[0] - before[0]), None, steps + silences),
        _row("descriptors_left", "1", float(after[1] - before[1]), None, steps + silences),
    ]


def _fate(uri: str) -> str:
    """Of one round: it is whole; or recovered, which it says; or it fails, and one line says why."""
    from testbed.radio.base import RadioError

    try:
        events = _whole_driver(uri)
    except RadioError as error:
        return "told in several lines" if "\n" in str(error) else "told"
    return "recovered" if events else "whole"


def _left() -> tuple[int, int]:
    """Threads and descriptors of this process, once those of connections that ended are gone."""
    time.sleep(0.3)
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def _whole_driver(uri: str) -> int:
    """Events of one round through the driver; raises `RadioError` where it says why not."""
    from fractions import Fraction

    from testbed.radio.base import Settings
    from testbed.radio.pluto import PlutoRadio
    from testbed.scenario import Pluto

    radio = PlutoRadio("west", Pluto(uri=uri), wait=lambda seconds: None, patient=True)
    try:
        radio.configure(Settings(Fraction(2_400_000_000), Fraction(4_000_000), 1, 0.0))
        radio.transmit(np.ones(256, np.complex64), offset_samples=100)
        reception = radio.receive(4096)
        assert reception.samples.shape == (1, 4096, 2)
        return len(reception.events)
    finally:
        radio.close()
