"""The command line: quick help, one-line errors, and the exit codes that the design promises."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from testbed import cli
from testbed.commands import run
from testbed.errors import RunError, UserError
from testbed.scenario import load

ROOT = Path(__file__).parents[2]
SMALL = """
[experiment]
name = "small"
rounds = 2
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 4e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 8
[round]
frame_period_s = 2e-3
[[node]]
name = "west"
position_m = [0, 0]
[[node]]
name = "east"
position_m = [30, 0]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def isac(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_help_comes_at_once_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['isac', '--help']; from testbed.cli import main; main();"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'scipy', 'numba', 'zmq', 'matplotlib')))"
    )
    took = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        took.append(time.monotonic() - began)
    assert min(took) < 0.3


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_that_is_listed_is_there(name: str) -> None:
    command = importlib.import_module(cli.COMMANDS[name][0]).command
    assert isinstance(command, click.Command)
    assert command.help
    if isinstance(command, click.Group):
        lines = [part.get_short_help_str(62) for part in command.commands.values()]
        assert not [line for line in lines if line.endswith("...")]


@pytest.mark.parametrize(
    "words",
    [
        "plan x", "signalling x", "network x", "run x", "replay x", "report x", "compare x y", "sweep x", "verify .",
        "csi x", "iq x", "calibrate x", "calibrate levels x", "doctor x", "firmware profiles",
        "firmware plan pluto streaming-4", "bench accuracy", "bench speed", "bench live", "bench paper", "bench pluto",
    ],
)  # fmt: skip
def test_figures_that_could_not_be_written_are_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    for place, wanted in ((tmp_path / "no" / "x.json", "there is no folder"), (tmp_path, "which is a folder")):
        assert isac(*words.split(), "--json", place) == 2
        said = capsys.readouterr()
        assert wanted in said.err
        assert said.err.count("\n") == 1
        assert not said.out
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert isac("rnu") == 2
    assert capsys.readouterr().err == "isac: no such command 'rnu'; see `isac --help`\n"
    assert isac("frame", "x.toml") == 2
    assert capsys.readouterr().err == "isac: missing option '--node'; see `isac frame --help`\n"
    assert isac() == 2
    assert capsys.readouterr().err.startswith("Usage: isac")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("the key is wrong"), 2, "isac: the key is wrong\n"),
        (RunError("the node is gone"), 1, "isac: the node is gone\n"),
        (KeyboardInterrupt(), 130, "isac: interrupted\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.toml"), 2, "isac: x.toml: No such file\n"),
        (OSError(errno.ENOSPC, "No space left", "x"), 1, "isac: x: No space left\n"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli._LazyGroup, "get_command", lambda self, context, name: failing)
    assert isac("anything") == code
    assert capsys.readouterr().err.lstrip("\n") == says


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli._LazyGroup, "get_command", lambda self, context, name: failing)
    with pytest.raises(ZeroDivisionError):
        isac("anything")


def test_scenario_check_judges_every_file(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = small.with_name("wrong.toml")
    wrong.write_text(SMALL.replace("symbols", "symbol"))
    assert isac("scenario", "check", small) == 0
    assert isac("scenario", "check", wrong, small) == 2
    out, err = capsys.readouterr()
    assert err == f"{wrong}: waveform.symbol is not a key: did you mean symbols?\n"
    assert out.count("valid: west, east") == 2


def test_scenario_show_prints_what_is_loaded(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isac("scenario", "show", small) == 0
    shown = small.with_name("shown.toml")
    shown.write_text(capsys.readouterr().out)
    assert load(shown) == load(small)


def test_scenario_new_writes_a_valid_experiment_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my first.toml"
    assert isac("scenario", "new", path) == 0
    assert load(path).experiment.name == "my-first"
    assert isac("scenario", "new", path) == 2
    assert "exists already" in capsys.readouterr().err


def test_keys_are_written_where_asked(tmp_path: Path) -> None:
    assert isac("keys", "east", "west", "--out", tmp_path / "k") == 0
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["coordinator", "east", "west"]
    assert isac("keys", "east", "--out", tmp_path / "k") == 2


def test_run_writes_nothing_over_what_exists(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert isac("run", small, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_run_refuses_a_disk_too_small_before_anything_is_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage)
    assert isac("run", small, "--out", tmp_path / "deep" / "out") == 2
    assert "1 MB are free" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()


def test_run_that_records_nothing_leaves_nothing(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL.replace("position_m = [0, 0]", 'position_m = [0, 0]\nradio = "usrp"'))
    assert isac("run", small, "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
    assert isac("run", small, "--out", tmp_path / "out", "--listen", "tcp://0.0.0.0:5555") == 2
    assert not (tmp_path / "out").exists()


def test_run_makes_the_folder_that_was_promised(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    assert isac("run", small, "--out", out, "--json", figures) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    assert {"scenario.toml", "results.json", "report.html", "figures", "recordings"} <= set(os.listdir(out))
    assert {path.suffix for path in (out / "recordings").iterdir()} == {
        ".sigmf-data",
        ".sigmf-meta",
        ".sigmf-collection",
    }
    assert load(out / "scenario.toml") == load(small)
    assert json.loads(figures.read_text())


def test_output_may_be_cut_short() -> None:
    program = (
        "import sys; from testbed.cli import main; sys.exit(main(['scenario', 'show', 'scenarios/two-nodes.toml']))"
    )
    command = f'"{sys.executable}" -c "{program}" | true'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_an_interrupted_run_keeps_recordings_that_can_be_read(small: Path, tmp_path: Path) -> None:
    from testbed.formats.sigmf_reader import read_recordings

    small.write_text(SMALL.replace("rounds = 2", "rounds = 5000"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "testbed.cli", "run", str(small), "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not any((out / "recordings").glob("east-*.sigmf-meta")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, says = process.communicate(timeout=60)
        assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert says.startswith("isac: interrupted: ")
    assert len(says.splitlines()) == 1
    recordings = read_recordings(out, verify=True)
    assert f"{len(recordings.rounds)} finished round" in says
    assert set(recordings.captures(recordings.rounds[-1])) == {"west", "east"}
