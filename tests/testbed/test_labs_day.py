"""A lab's day: a Pluto, a USRP and a plain node, each agent with its own key, and in one run all that goes wrong.

The Pluto is simulated down to its protocol and driven by unchanged pyadi-iio; the USRP's library is the fake. One loses
samples, one is killed and started again in mid-run, one has the wrong clock. What is good is as good as ever.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from testbed import cli, processes
from testbed.coordinator import FinishedRound, RunOutcome, acquire
from testbed.errors import UserError
from testbed.keys import write_keys
from testbed.pipeline import Pipeline
from testbed.processes import Child
from testbed.scenario import dumps, load, loads

pytest.importorskip("adi", reason="pyadi-iio or libiio is missing: pip install 'isac-testbed[pluto]', libiio0")

SCENARIO = Path(__file__).parents[2] / "scenarios" / "a-labs-day.toml"
KILLED_AFTER = 3


def await_connections(port: int, count: int) -> None:
    """Wait until so many are connected to a port of this machine."""
    deadline = time.monotonic() + 60.0
    established = 0
    while established < count and time.monotonic() < deadline:
        time.sleep(0.1)
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        established = sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_a_labs_day(tmp_path: Path) -> None:
    scenario = load(SCENARIO)
    # The agent of the Pluto is started by hand, so that it can be started again.
    text = dumps(scenario).replace('agent = "local"', 'agent = "remote"', 1)
    scenario = loads(text, source="a lab's day")
    assert [node.agent for node in scenario.node] == ["remote", "local", "local"]
    keys = tmp_path / "keys"
    write_keys(keys, [node.name for node in scenario.node])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    agents = [processes.start_agent("pluto", address, keys / "pluto")]
    pipeline = Pipeline(scenario)
    finished: list[FinishedRound] = []

    def keep(round_: FinishedRound) -> None:
        finished.append(round_)

    def process(round_: FinishedRound) -> None:
        if round_.index == KILLED_AFTER:  # while the next one is being recorded
            os.kill(agents[0].process.pid, signal.SIGKILL)
            agents.append(processes.start_agent("pluto", address, keys / "pluto"))
        pipeline.process(round_.index, round_.captures)
        if round_.index == KILLED_AFTER + 1:
            await_connections(port, len(scenario.node))  # until the agent is back, however slow the machine

    outcome = acquire(
        scenario, keep, process, progress=lambda done, said: None, listen=address, keys=keys / "coordinator",
        arrival_s=30.0,
    )  # fmt: skip
    processes.end(agents, grace_s=5)
    results = pipeline.finish({}, outcome.events)

    assert outcome.exit_code == 0, outcome
    assert len(finished) == scenario.experiment.rounds
    # Every fault is in the report.
    codes = Counter((event.node, event.code) for event in results.events)
    assert codes["usrp", "reference-unlocked"] == len(finished)
    assert codes["pluto", "node-lost"] == codes["pluto", "node-recovered"] == 1
    assert codes["plain", "samples-lost"] >= 1
    assert {node for node, _ in codes} == {"usrp", "pluto", "plain"}
    assert any(row.node == "plain" and row.samples for row in results.losses)
    status = Counter(row.status for row in results.rounds)
    assert set(status) == {"complete", "partial"}
    assert status["complete"] >= 5

    # Where both directions of a pair were heard whole, the offsets are what the bound promises.
    for method in ("reciprocity-mle", "reciprocity-mp"):
        rows = [row for row in results.links if row.method == method and row.receiver < row.transmitter]
        good = [row for row in rows if row.valid]
        assert len(good) >= 12
        errors = np.array([row.to_error_s for row in good], float)
        bounds = np.array([row.to_std_s for row in good], float)
        assert np.sqrt(np.mean(errors**2)) < 1.3 * np.sqrt(np.mean(bounds**2)), method
        # Not one silently wrong: five deviations at most.
        assert np.max(np.abs(errors / bounds)) < 5, method
        pairs = {(row.receiver, row.transmitter) for row in good}
        assert len(pairs) == 3


def outcome_of(text: str) -> RunOutcome:
    """How a run of two simulated USRPs ends at once."""
    scenario = loads(text, source="two USRPs")
    return acquire(scenario, lambda done: None, lambda done: None, progress=lambda done, said: None)


TWO = """
[experiment]
name = "two"
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 4e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 8
[[node]]
name = "west"
position_m = [0, 0]
radio = "usrp"
usrp = { args = "type=simulated,serial=F5EAC0" }
[[node]]
name = "east"
position_m = [30, 0]
radio = "usrp"
usrp = { args = "type=simulated,serial=F5EAC0" }
"""


def test_two_nodes_on_one_device_are_found_out_by_its_serial_number() -> None:
    outcome = outcome_of(TWO)
    assert "are one device, usrp F5EAC0: give each its own, by serial number" in outcome.failure
    assert outcome.exit_code == 2


def test_an_interpreter_that_is_not_there_is_wrong_input() -> None:
    broken = TWO.replace('serial=F5EAC0" }', 'serial=F5EAC0", python = "/nowhere/python" }', 1)
    with pytest.raises(UserError, match="of 'west' is \"/nowhere/python\", which is no program of this machine"):
        outcome_of(broken)


def test_an_interpreter_without_the_testbeds_packages_is_told_from_a_radio_that_fails() -> None:
    child = Child(["-S", "-c", "import msgspec"], interpreter=sys.executable)
    child.process.wait()
    assert "lacks what the testbed needs (No module named 'msgspec')" in child.last_words()
    child.close()


def test_what_a_device_refuses_is_wrong_input_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only the device knows its range, and only its agent speaks with it.
    path, out = tmp_path / "two.toml", tmp_path / "out"
    path.write_text(TWO.replace("serial=F5EAC0", "serial=F5EAC1", 1).replace('EAC1"', 'EAC1", rx_gain_db = 99.0'))
    assert cli.main(["run", str(path), "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["isac: node west: node.usrp.rx_gain_db is 99, but the device does 0 to 76 dB"]
    assert not out.exists()
