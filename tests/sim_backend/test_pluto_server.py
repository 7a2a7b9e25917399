"""The server outlives its clients, however they leave, and leaves nothing behind itself."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from sim_backend.pluto.cable import Cable
from sim_backend.pluto.device import Pluto
from sim_backend.pluto.server import PlutoServer
from sim_backend.specification import FrontEndSpec

SCRIPT = (
    b"VERSION\r\nTIMEOUT 2500\r\nPRINT\r\n"
    b"READ ad9361-phy INPUT voltage0 hardwaregain\r\n"
    b"WRITE ad9361-phy INPUT voltage0 gain_control_mode 7\r\nmanual\0"
    b"OPEN iio:device3 64 00000003 CYCLIC\r\nWRITEBUF iio:device3 256\r\n"
    + bytes(range(256))
    + b"CLOSE iio:device3\r\n"
    b"OPEN iio:device4 256 00000003\r\nREADBUF iio:device4 4096\r\nCLOSE iio:device4\r\n\r\nEXIT\r\n"
)


@pytest.fixture
def server() -> Iterator[PlutoServer]:
    made = PlutoServer(Pluto("1r1t", Cable(1, FrontEndSpec())))
    yield made
    made.close()


def connected(server: PlutoServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def everything(client: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    heard = b""
    while data := client.recv(1 << 16):
        heard += data
    return heard


def told(server: PlutoServer, said: bytes) -> bytes:
    with connected(server) as client:
        client.sendall(said + b"EXIT\r\n")
        return everything(client)


def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_conversation_in_pieces_is_the_same_conversation(server: PlutoServer) -> None:
    whole = told(server, SCRIPT.removesuffix(b"EXIT\r\n"))
    with connected(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(SCRIPT), 11):
            client.sendall(SCRIPT[place : place + 11])
        pieces = everything(client)
    assert len(pieces) == len(whole)
    assert pieces.split(b"00000003\n")[0] == whole.split(b"00000003\n")[0]


def test_a_client_may_vanish_at_every_step(server: PlutoServer) -> None:
    told(server, b"VERSION\r\n")
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for place in range(0, len(SCRIPT), 9):
        with connected(server) as client:
            # Reset instead of an orderly end.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(SCRIPT[:place])
    until(lambda: server.clients == 0)
    until(lambda: threading.active_count() <= threads)
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert server.pluto.transmitter._writer is None
    assert told(server, b"OPEN iio:device3 64 00000003 CYCLIC\r\n") == b"0\n"


def test_a_client_that_does_not_listen_holds_up_nobody(server: PlutoServer) -> None:
    with connected(server) as deaf:
        deaf.sendall(b"OPEN iio:device4 1048576 00000003\r\nREADBUF iio:device4 1000000000\r\n")
        until(lambda: server.pluto.receiver._readers)
        for _ in range(3):
            assert told(server, b"READ ad9361-phy ensm_mode\r\n") == b"4\nfdd\0\n"
    until(lambda: server.clients == 0)
    assert not server.pluto.receiver._readers


def test_two_readers_of_different_channels_share_the_receiver(server: PlutoServer) -> None:
    heard: dict[str, bytes] = {}

    def read(mask: str, size: int) -> None:
        said = f"OPEN iio:device4 4096 {mask}\r\nREADBUF iio:device4 {size}\r\nCLOSE iio:device4\r\n"
        heard[mask] = told(server, said.encode())

    threads = [threading.Thread(target=read, args=item) for item in (("00000003", 16_384), ("00000001", 8192))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for mask, size in (("00000003", 16_384), ("00000001", 8192)):
        data = heard[mask].split(mask.encode() + b"\n", 1)[1]
        assert len(data) == size + len(b"0\n")
        assert np.any(np.frombuffer(data[:size], np.int16))


def test_lines_without_end_are_refused_and_forgotten(server: PlutoServer) -> None:
    assert told(server, b"READ " * 100_000 + b"\r\nREAD ad9361-phy ensm_mode\r\n") == b"-22\n4\nfdd\0\n"


def test_a_value_too_large_to_be_one_ends_the_conversation(server: PlutoServer) -> None:
    assert told(server, b"WRITE ad9361-phy filter_fir_config 99999999999\r\nREAD") == b"-12\n"
    assert told(server, b"VERSION\r\n").startswith(b"0.")


def test_the_server_ends_while_clients_wait() -> None:
    made = PlutoServer(Pluto("1r1t", Cable(1, FrontEndSpec()), clock="wall"))
    threads = threading.active_count()
    with connected(made) as waiting, connected(made) as idle:
        waiting.sendall(b"TIMEOUT 0\r\nOPEN iio:device4 67108864 00000003\r\nREADBUF iio:device4 268435456\r\n")
        heard = b""
        while len(heard) < len(b"0\n0\n"):
            heard += waiting.recv(1)
        assert heard == b"0\n0\n"
        made.close()
        made.close()
        until(lambda: threading.active_count() <= threads - 1)
        assert everything(waiting) in (b"", b"-9\n")  # the block never came
        assert everything(idle) == b""
