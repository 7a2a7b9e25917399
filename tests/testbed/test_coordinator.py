"""Runs as they happen in a lab: agents and ether die, freeze, come back or never come, disks fill, people interrupt.

Every fault must end, or pass, within ten seconds, keep what is finished, and leave no process behind.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from testbed import coordinator, processes, protocol
from testbed.commands.run import leave
from testbed.coordinator import FinishedRound, RunOutcome, acquire
from testbed.errors import RunError, UserError
from testbed.radio_worker import slot_burst
from testbed.roster import Roster
from testbed.scenario import Scenario, dumps, loads
from testbed.schedule import frame_offsets_samples, round_samples
from testbed.switchboard import Switchboard

LIMIT_S = 10.0


def experiment(names: tuple[str, ...] = ("west", "east"), rounds: int = 3, extra: str = "") -> Scenario:
    nodes = "".join(
        f"""
        [[node]]
        name = "{name}"
        position_m = [{20.0 * index}, {3.0 * index**2}]
        {extra}
        """
        for index, name in enumerate(names)
    )
    return loads(
        f"""
        [experiment]
        name = "test"
        rounds = {rounds}
        [waveform]
        carrier_hz = 2.4e9
        sample_rate_hz = 2.4e6
        fft_size = 256
        cp_samples = 32
        active_subcarriers = 200
        symbols = 4
        [round]
        frame_period_s = 2e-3
        start_spread_s = 1e-3
        guard_s = 4e-3
        {nodes}
        """,
        source="test",
    )


def children() -> dict[int, str]:
    """Living children of this process, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(status[1]) == os.getpid() and status[0] != "Z":
            found[int(entry.name)] = command
    return found


def child(words: str) -> int:
    return next(pid for pid, command in children().items() if words in command)


class Run:
    """A run in which something happens after a round, and what came of it."""

    def __init__(self, scenario: Scenario, after: int = 0, do: Callable[[], None] | None = None, **options: object):
        self.finished: list[FinishedRound] = []
        self.happened: float | None = None

        def process(finished: FinishedRound) -> None:
            if finished.index == after and do is not None:
                self.happened = time.monotonic()
                do()

        self.outcome: RunOutcome = acquire(
            scenario,
            self.finished.append,
            process,
            progress=lambda done, text: None,
            **options,  # type: ignore[arg-type]
        )
        self.took = time.monotonic() - (self.happened or time.monotonic())


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    before = set(children())
    yield
    assert set(children()) <= before


def test_every_round_arrives_whole_and_in_order() -> None:
    scenario = experiment()
    run = Run(scenario)
    assert (run.outcome.exit_code, run.outcome.events) == (0, [])
    assert [finished.index for finished in run.finished] == run.outcome.rounds == [0, 1, 2]
    for finished in run.finished:
        assert list(finished.captures) == ["west", "east"]
        for name, capture in finished.captures.items():
            assert (capture.node, capture.round, capture.stream) == (name, finished.index, 0)
            assert capture.samples.shape == (1, round_samples(scenario), 2)
            assert capture.samples.any()
    ticks = [finished.captures["west"].stretches[0].first_tick for finished in run.finished]
    assert ticks[0] == 0
    assert np.all(np.diff(ticks) > round_samples(scenario))
    # Another run of the same seed gives the same bits.
    for first, second in zip(run.finished[:2], Run(experiment(rounds=2)).finished, strict=True):
        for name in ("west", "east"):
            np.testing.assert_array_equal(first.captures[name].samples, second.captures[name].samples)
            assert first.captures[name].truth == second.captures[name].truth


def test_stamped_devices_state_the_departure_of_every_frame() -> None:
    scenario = experiment(rounds=1, extra="front_end.time_stamps = true")
    capture = Run(scenario).finished[0].captures["east"]
    first = capture.stretches[0].first_tick
    assert [d.tick - first for d in capture.departures] == frame_offsets_samples(scenario, 1)
    assert [d.frame for d in capture.departures] == list(range(scenario.round.frames_per_slot))


def test_a_slot_holds_its_frames_at_their_period() -> None:
    text = dumps(experiment()).replace("frames_per_slot = 1", "frames_per_slot = 3")
    scenario = loads(text, source="test")
    burst = slot_burst(scenario, 1, 0)
    period = 4800
    frame = burst[2 * period :]
    for begin in (0, period):
        np.testing.assert_array_equal(burst[begin : begin + len(frame)], frame)
        assert not burst[begin + len(frame) : begin + period].any()
    assert np.abs(burst).max() <= 1.0


def test_a_run_that_never_began_does_not_speak_of_rounds_kept() -> None:
    scenario = experiment()
    switchboard = Switchboard(["west", "east"], "tcp://127.0.0.1:*", None)
    roster = Roster(scenario, switchboard, threading.Event())
    roster._lose(roster.peers["east"], "no Pluto answers")
    switchboard.close()
    with pytest.raises(RunError, match=r"^node east did not get ready: no Pluto answers: no round was finished$"):
        leave(Path("runs/x"), RunOutcome(failure=roster.events[-1].text), 0)
    with pytest.raises(RunError, match=r"^gone: 1 finished round is kept$"):
        leave(Path("runs/x"), RunOutcome(rounds=[0], failure="gone"), 1)


def test_a_killed_agent_ends_a_run_of_two() -> None:
    run = Run(experiment(rounds=200), 1, lambda: os.kill(child("--name east"), signal.SIGKILL))
    assert run.took < LIMIT_S
    assert run.outcome.exit_code == 1
    assert "node east was lost: killed by signal 9" in run.outcome.failure
    assert len(run.outcome.rounds) == len(run.finished) >= 2
    assert [event.code for event in run.outcome.events] == ["node-lost"]


def test_a_run_of_three_goes_on_without_a_killed_agent() -> None:
    scenario = experiment(("west", "east", "north"), rounds=6)
    run = Run(scenario, 1, lambda: os.kill(child("--name east"), signal.SIGKILL))
    assert run.outcome.exit_code == 1
    assert run.outcome.failure.startswith("lost for good: east")
    assert run.outcome.rounds == list(range(6))
    assert set(run.finished[-1].captures) == {"west", "north"}


def test_a_killed_ether_ends_the_run() -> None:
    run = Run(experiment(rounds=200), 1, lambda: os.kill(child("testbed.radio.simulated"), signal.SIGKILL))
    assert run.took < LIMIT_S
    assert run.outcome.failure == "the simulated ether is gone: killed by signal 9"
    assert len(run.finished) >= 2


def test_a_frozen_agent_ends_a_run_of_two() -> None:
    run = Run(experiment(rounds=1000), 1, lambda: os.kill(child("--name east"), signal.SIGSTOP))
    assert run.took < LIMIT_S
    assert "node east was lost: silent" in run.outcome.failure


def test_a_frozen_agent_that_thaws_is_lost_and_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SILENCE_S", 2.0)

    def freeze_and_thaw() -> None:
        pid = child("--name east")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(pid, signal.SIGCONT)
        time.sleep(1.5)

    run = Run(experiment(("west", "east", "north"), rounds=20), 1, freeze_and_thaw)
    codes = [event.code for event in run.outcome.events]
    assert codes == ["node-lost", "node-recovered"], run.outcome
    assert run.outcome.exit_code == 0
    assert len(run.outcome.rounds) == 20
    last = run.finished[-1].captures
    assert set(last) == {"west", "east", "north"}
    assert last["east"].stream == 1
    # Back in step: their recordings begin within twice the spread of each other, in true time.
    begins = [c.truth["start_s"] + c.truth["start_fraction_s"] for c in last.values() if c.truth]
    assert max(begins) - min(begins) < 2e-3


def test_an_agent_that_never_comes_is_named() -> None:
    scenario = experiment()
    text = dumps(scenario).replace('agent = "local"', 'agent = "remote"', 1)
    began = time.monotonic()
    run = Run(loads(text, source="test"), arrival_s=3.0)
    assert time.monotonic() - began < LIMIT_S
    assert run.outcome.failure == "node west never came: waited 3 s for its agent"
    assert run.finished == []


def test_an_agent_started_by_hand_serves_a_remote_node(free_port: int) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    text = dumps(experiment(rounds=2)).replace('agent = "local"', 'agent = "remote"', 1)
    agent = processes.start_agent("west", address, None)
    run = Run(loads(text, source="test"), listen=address)
    processes.end([agent], grace_s=5)
    assert run.outcome.exit_code == 0, run.outcome
    assert len(run.finished) == 2


def test_a_killed_agent_that_is_started_again_serves_on(free_port: int) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    started: list[processes.Child] = []

    def restart() -> None:
        os.kill(child("--name east"), signal.SIGKILL)
        started.append(processes.start_agent("east", address, None))
        time.sleep(1.5)

    run = Run(experiment(("west", "east", "north"), rounds=20), 1, restart, listen=address)
    processes.end(started, grace_s=5)
    codes = [event.code for event in run.outcome.events]
    assert codes == ["node-lost", "node-recovered"], run.outcome
    assert run.outcome.exit_code == 0
    assert set(run.finished[-1].captures) == {"west", "east", "north"}


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished() -> None:
    processed: list[int] = []

    def keep(finished: FinishedRound) -> None:
        if finished.index == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    outcome = acquire(
        experiment(rounds=20), keep, lambda finished: processed.append(finished.index), progress=lambda *_: None
    )
    assert outcome.exit_code == 1
    assert outcome.failure == "the disk is full"
    assert outcome.rounds == processed == [0, 1]


@pytest.mark.parametrize("stage", ["keep", "process"])
def test_an_error_of_the_callers_is_not_swallowed(stage: str) -> None:
    def fail(finished: FinishedRound) -> None:
        raise ZeroDivisionError("bug")

    def succeed(finished: FinishedRound) -> None:
        pass

    with pytest.raises(ZeroDivisionError):
        acquire(
            experiment(),
            fail if stage == "keep" else succeed,
            fail if stage == "process" else succeed,
            progress=lambda *_: None,
        )


def test_an_interrupt_does_not_wait_for_slow_processing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_PATIENCE_S", 0.5)
    release = threading.Event()
    kept: list[int] = []

    def slow(finished: FinishedRound) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(30)

    began = time.monotonic()
    outcome = acquire(experiment(), lambda f: kept.append(f.index), slow, progress=lambda *_: None)
    release.set()
    assert time.monotonic() - began < LIMIT_S
    assert outcome.interrupted
    assert not outcome.at_rest
    assert outcome.rounds == kept
    assert kept[0] == 0


def test_memory_holds_no_more_than_two_rounds_that_wait_for_processing() -> None:
    waiting: list[int] = []
    most = 0

    def keep(finished: FinishedRound) -> None:
        nonlocal most
        waiting.append(finished.index)
        most = max(most, len(waiting))

    def process(finished: FinishedRound) -> None:
        time.sleep(0.3)
        waiting.remove(finished.index)

    acquire(experiment(rounds=5), keep, process, progress=lambda *_: None)
    assert most == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_finished(number: signal.Signals) -> None:
    run = Run(experiment(rounds=200), 1, lambda: os.kill(os.getpid(), number))
    assert run.took < LIMIT_S
    assert run.outcome.exit_code == 130
    assert run.outcome.interrupted
    assert len(run.finished) == len(run.outcome.rounds) >= 2


def test_children_end_when_the_coordinator_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "test.toml"
    path.write_text(dumps(experiment(rounds=1000)))
    program = (
        "import sys; from testbed.coordinator import acquire; from testbed.scenario import load;"
        "acquire(load(sys.argv[1]), lambda f: print(f.index, flush=True), lambda f: None, progress=lambda *a: None)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=root, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"0\n"
        family = _family(run.pid)
        run.kill()
    deadline = time.monotonic() + LIMIT_S
    while any(_alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(family) == 3
    assert not [pid for pid in family if _alive(pid)]


def test_a_radio_without_a_driver_is_the_users_error() -> None:
    scenario = loads(dumps(experiment()).replace('radio = "simulated"', 'radio = "recorded"', 1), source="test")
    with pytest.raises(UserError, match="no driver runs"):
        Run(scenario)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(number) for number in children]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
