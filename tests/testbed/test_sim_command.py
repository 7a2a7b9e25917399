"""`isac sim pluto` says in one line what cannot be, and serves several Plutos from one process."""

from __future__ import annotations

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from testbed.cli import main

SCENARIO = str(Path(__file__).parents[2] / "scenarios" / "two-nodes.toml")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--node", "west"], "--node and --ether place a Pluto in a scene: give its --scenario too"),
        (["--port", "0", "--port", "0"], "several --port are for several --node of a --scenario"),
        (["--scenario", SCENARIO], "--scenario is given without --node: one or several of "),
        (["--scenario", SCENARIO, "--node", "nobody"], "no node is called 'nobody'"),
        (["--scenario", "nowhere.toml", "--node", "west"], "nowhere.toml: no such file"),
        (["--scenario", SCENARIO, "--node", "a", "--node", "a"], "--node names one twice: a, a"),
        (["--scenario", SCENARIO, "--node", "a", "--ether", "x:1", "--clock", "wall"], "one --node, and virtual time"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "pluto", *words]) == 2
    complaint = capsys.readouterr().err
    assert text in complaint
    assert complaint.count("\n") == 1


def test_a_port_that_is_taken_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["sim", "pluto", "--port", str(port)]) == 2
    assert f"--port {port} at 127.0.0.1 cannot be had" in capsys.readouterr().err


def test_one_process_serves_several_nodes() -> None:
    names = [node["name"] for node in tomllib.loads(Path(SCENARIO).read_text())["node"]]
    words = ["--scenario", SCENARIO, "--model", "2r2t", "--port", "0", "--with-parent"]
    command = [sys.executable, "-m", "testbed.cli", "sim", "pluto", *words, "--node", names[0], "--node", names[1]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        served = [process.stdout.readline().split() for _ in names]
        assert [words[0] for words in served] == [f"{name}:" for name in names]
        for words in served:
            address = words[-1].removeprefix("ip:").split(":")
            with socket.create_connection((address[0], int(address[1])), timeout=20) as client:
                client.sendall(b"READ cf-ad9361-lpc INPUT voltage0 sampling_frequency\r\nEXIT\r\n")
                assert client.recv(100).startswith(b"9\n15360000")
        process.stdin.close()
        assert process.wait(20) == 0
