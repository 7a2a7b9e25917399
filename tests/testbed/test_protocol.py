"""Messages are strictly decoded, captures are put together believing nobody, and only nodes may speak."""

from __future__ import annotations

import dataclasses
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed import keys, protocol
from testbed.assembly import Assembly
from testbed.errors import RunError, UserError
from testbed.node import Agent
from testbed.protocol import Beat, Captured, Chunk, Configure, Hello, ProtocolError, Ready, Start, Stop, StretchRow
from testbed.radio import wire
from testbed.scenario import Scenario, loads
from testbed.schedule import round_samples
from testbed.switchboard import Switchboard

HEADER = Captured(
    round=3,
    antennas=2,
    samples=5,
    full_scale=2048,
    carrier_hz="2400000000",
    rate_hz="40000000/3",
    stretches=(StretchRow(0, 2, 100), StretchRow(2, 3, 110)),
    stream=1,
    departures=(),
    settings={"gain_db": 30},
    truth=None,
    events=({"code": "samples-lost", "text": "8"},),
)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return loads(
        """
        [experiment]
        name = "pair"
        [waveform]
        carrier_hz = 2.4e9
        sample_rate_hz = 4e6
        fft_size = 256
        active_subcarriers = 200
        symbols = 8
        [[node]]
        name = "west"
        position_m = [0, 0]
        antennas = 2
        [[node]]
        name = "east"
        position_m = [30, 0]
        """,
        source="pair",
    )


@pytest.mark.parametrize("message", [Hello("west"), Ready(2, "7/3", "1"), HEADER, protocol.Failed("gone"), Beat()])
def test_agents_messages_arrive_as_sent(message: protocol.FromAgent) -> None:
    assert protocol.decode_from_agent([zmq.Frame(protocol.encode(message))]) == (message, None)


@pytest.mark.parametrize("message", [Configure(2, "text", "127.0.0.1:1"), Start(0), Stop(), Beat()])
def test_coordinators_messages_arrive_as_sent(message: protocol.FromCoordinator) -> None:
    assert protocol.decode_from_coordinator([zmq.Frame(protocol.encode(message))]) == message


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=3))
def test_random_bytes_are_a_protocol_error_and_nothing_else(parts: list[bytes]) -> None:
    for decode in (protocol.decode_from_agent, protocol.decode_from_coordinator):
        with pytest.raises(ProtocolError):
            decode([zmq.Frame(part) for part in parts])


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(list(Captured.__struct_fields__)), value=_PLAIN)
def test_a_header_with_one_field_changed_is_valid_in_type_or_refused(field: str, value: object) -> None:
    fields = msgspec.to_builtins(HEADER)
    changed = zmq.Frame(msgspec.msgpack.encode({**fields, field: value}))
    try:
        message, _ = protocol.decode_from_agent([changed])
    except ProtocolError:
        return
    assert isinstance(message, Captured)
    assert 1 <= message.antennas <= 16
    assert message.samples >= 0


def test_an_unknown_field_is_refused() -> None:
    fields = {**msgspec.to_builtins(Beat()), "more": 1}
    with pytest.raises(ProtocolError, match="unknown field"):
        protocol.decode_from_agent([zmq.Frame(msgspec.msgpack.encode(fields))])


def test_samples_come_with_a_chunk_and_nothing_else() -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_from_agent([zmq.Frame(protocol.encode(Beat())), zmq.Frame(b"1234")])
    with pytest.raises(ProtocolError):
        protocol.decode_from_agent([zmq.Frame(protocol.encode(Chunk(0, 0)))])


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=5))
def test_a_capture_is_put_together_from_chunks_of_any_size(scenario: Scenario, cuts: list[int]) -> None:
    samples = np.arange(20, dtype=np.int16).reshape(2, 5, 2)
    data = samples.tobytes()
    assembly = Assembly(HEADER, scenario, 0)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 40], strict=True):
        assembly.take(Chunk(3, begin), memoryview(data)[begin:end])
    assert assembly.complete
    capture = assembly.capture()
    np.testing.assert_array_equal(capture.samples, samples)
    assert (capture.node, capture.round, capture.stream) == ("west", 3, 1)
    assert capture.rate_hz * 3 == 40_000_000
    assert [dataclasses.astuple(s) for s in capture.stretches] == [(0, 2, 100), (2, 3, 110)]


@pytest.mark.parametrize(
    "changed",
    [
        {"antennas": 3},
        {"samples": 10**9, "stretches": (StretchRow(0, 10**9, 0),)},
        {"stretches": ()},
        {"stretches": (StretchRow(0, 2, 0), StretchRow(3, 2, 5))},
        {"stretches": (StretchRow(0, 0, 0), StretchRow(0, 5, 5))},
    ],
)
def test_a_header_that_promises_what_is_not_due_is_refused(scenario: Scenario, changed: dict[str, object]) -> None:
    assert round_samples(scenario) < 10**9
    with pytest.raises(ProtocolError):
        Assembly(msgspec.structs.replace(HEADER, **changed), scenario, 0)


@pytest.mark.parametrize(("offset", "size"), [(4, 4), (0, 44)])
def test_bytes_out_of_place_are_refused(scenario: Scenario, offset: int, size: int) -> None:
    with pytest.raises(ProtocolError):
        Assembly(HEADER, scenario, 0).take(Chunk(3, offset), memoryview(bytes(size)))


@pytest.mark.parametrize(
    ("uri", "loopback"),
    [
        ("tcp://127.0.0.1:*", True),
        ("tcp://127.8.9.1:5555", True),
        ("tcp://localhost:5555", True),
        ("tcp://[::1]:5555", True),
        ("ipc:///run/isac", True),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://*:5555", False),
        ("tcp://192.168.1.2:5555", False),
        ("tcp://127.evil.example:1", False),
    ],
)
def test_what_stays_on_this_machine(uri: str, loopback: bool) -> None:
    assert protocol.is_loopback(uri) is loopback


@pytest.mark.parametrize(
    "uri", ["", "5555", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "http://127.0.0.1:80"]
)
def test_what_is_no_address(uri: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        protocol.is_loopback(uri)


def test_beyond_loopback_nobody_speaks_without_keys() -> None:
    with pytest.raises(UserError, match="--keys"):
        Switchboard(["east"], "tcp://0.0.0.0:*", None)
    with pytest.raises(UserError, match="--keys"):
        Agent("east", "tcp://192.168.1.2:5555", keys=None)


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="cannot be used"):
        Switchboard(["east"], f"tcp://127.0.0.1:{taken.getsockname()[1]}", None)


# Who may speak ----------------------------------------------------------------------------------------------------


def _heard(board: Switchboard, seconds: float = 3.0) -> list[tuple[str, object]]:
    deadline = time.monotonic() + seconds
    heard: list[tuple[str, object]] = []
    while not heard and time.monotonic() < deadline:
        board.socket.poll(50)
        heard += [(name, message) for name, message, _ in board.messages()]
    return heard


@pytest.fixture
def key_folders(tmp_path: Path) -> Path:
    keys.write_keys(tmp_path, ["east", "west"])
    return tmp_path


@pytest.fixture
def board(key_folders: Path) -> Iterator[Switchboard]:
    made = Switchboard(["east", "west"], "tcp://127.0.0.1:*", key_folders / "coordinator")
    yield made
    made.close()


def _serve(agent: Agent, said: list[str]) -> threading.Thread:
    def serve() -> None:
        try:
            agent.serve()
        except RunError as error:
            said.append(str(error))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_node_with_its_own_keys_is_heard_and_hears(board: Switchboard, key_folders: Path) -> None:
    said: list[str] = []
    thread = _serve(Agent("east", board.address, keys=key_folders / "east"), said)
    assert _heard(board) == [("east", Hello("east"))]
    board.send("east", Stop("enough"))
    thread.join(3)
    assert said == ["enough"]


def test_a_node_with_anothers_keys_is_sent_away(board: Switchboard, key_folders: Path) -> None:
    (key_folders / "west" / "west.key_secret").rename(key_folders / "west" / "east.key_secret")
    said: list[str] = []
    thread = _serve(Agent("east", board.address, keys=key_folders / "west"), said)
    assert _heard(board, 1.5) == []
    thread.join(3)
    assert said == ["these are not the keys of 'east'"]


def test_who_has_no_keys_is_not_heard(board: Switchboard) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    intruder = context.socket(zmq.DEALER)
    intruder.setsockopt(zmq.IDENTITY, b"east")
    intruder.setsockopt(zmq.LINGER, 0)
    intruder.connect(board.address)
    intruder.send(protocol.encode(Hello("east")))
    assert _heard(board, 1.0) == []
    intruder.close()
    context.term()


def test_who_is_no_node_of_the_run_is_sent_away() -> None:
    plain = Switchboard(["east", "west"], "tcp://127.0.0.1:*", None)
    said: list[str] = []
    thread = _serve(Agent("south", plain.address, keys=None), said)
    assert _heard(plain, 1.0) == []
    thread.join(3)
    plain.close()
    assert said == ["'south' is no node of this run: there are east, west"]


def test_keys_are_never_replaced_and_secrets_are_private(key_folders: Path) -> None:
    assert (key_folders / "east" / "east.key_secret").stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="exists already"):
        keys.write_keys(key_folders, ["east"])
    for names in (["../north"], ["north", "north"], ["coordinator"], ["north\n"]):
        with pytest.raises(UserError, match=r"NODE is|cannot be a node's name"):
            keys.write_keys(key_folders, names)
    before = (key_folders / "coordinator" / "coordinator.key_secret").read_bytes()
    keys.write_keys(key_folders, ["north"])
    assert (key_folders / "coordinator" / "coordinator.key_secret").read_bytes() == before
    assert set(keys.coordinator_keys(key_folders / "coordinator").nodes.values()) == {"east", "west", "north"}


def test_missing_keys_are_one_line(key_folders: Path) -> None:
    with pytest.raises(UserError, match="no key of north"):
        Switchboard(["east", "north"], "tcp://127.0.0.1:*", key_folders / "coordinator")
    with pytest.raises(UserError, match="no secret key there"):
        Agent("north", "tcp://127.0.0.1:5", keys=key_folders / "north")


# The ether's wire -------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80), framed=st.booleans())
def test_random_bytes_on_the_ethers_wire_are_a_wire_error(data: bytes, framed: bool) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(struct.pack("<IQ", len(data), 0) + data if framed else data)
        there.shutdown(socket.SHUT_WR)
        with pytest.raises(wire.WireError):
            wire.receive_question(here)


def test_questions_and_samples_cross_the_wire_as_sent() -> None:
    here, there = socket.socketpair()
    samples = (np.arange(1000) * (1 - 0.5j)).astype(np.complex64)
    with here, there:
        wire.send(there, wire.Transmit(17), samples)
        question, data = wire.receive_question(here)
    assert question == wire.Transmit(17)
    np.testing.assert_array_equal(np.frombuffer(data, np.complex64), samples)
