"""`isac bench speed`: ratios on a clock of the test's own, the fit of growth, and wrong input."""

from __future__ import annotations

import json

import pytest

from testbed.bench import speed
from testbed.bench.speed import Goal, Stage, exponent_row, stage_rows
from testbed.bench.speed_run import print_speed, write_speed
from testbed.cli import main


class Clock:
    """Processor time that only work moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def thread_time(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> None:
        self.done.append(name)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(speed, "time", made)
    return made


@pytest.fixture
def rows(clock):
    stage = Stage(
        "work",
        lambda: clock.work("ours", 2.0),
        {"copy": lambda: clock.work("copy", 4.0), "numpy": lambda: clock.work("numpy", 10.0)},
        {"copy": Goal(0.4), "numpy": Goal(4.0, at_least=True)},
    )
    return stage_rows(stage, 7)


def test_ratios_are_ours_over_a_copy_and_numpy_over_ours(rows):
    medians = {row.parameters["against"]: row for row in rows if row.parameters.get("of rounds") == "median"}
    assert medians["copy"].metric == "time_ratio"
    assert medians["copy"].value == pytest.approx(0.5)
    assert medians["copy"].ratio == pytest.approx(1.25)
    assert medians["numpy"].metric == "times_faster"
    assert medians["numpy"].value == pytest.approx(5.0)
    assert {row.parameters["way"]: row.value for row in rows if row.metric == "time"} == {
        "ours": 2.0,
        "copy": 4.0,
        "numpy": 10.0,
    }


def test_contestants_take_turns_at_being_first(rows, clock):
    measured = clock.done[-21:]
    assert [measured[3 * index] for index in range(4)] == ["ours", "copy", "numpy", "ours"]
    assert all(set(measured[3 * index : 3 * index + 3]) == {"ours", "copy", "numpy"} for index in range(7))


def test_exponent_of_a_power_law():
    row = exponent_row("work", "antennas", [1, 2, 4, 8], [3e-3 * size**1.5 for size in (1, 2, 4, 8)])
    assert row.value == pytest.approx(1.5)
    assert row.standard_error == pytest.approx(0.0, abs=1e-9)


def test_table_and_files_say_which_goals_are_met(rows, tmp_path, capsys):
    print_speed(rows)
    shown = capsys.readouterr().out
    assert "0.5" in shown
    assert "≥ 4×" in shown
    write_speed(tmp_path, rows, {"machine": "none"})
    page = (tmp_path / "speed.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[8].strip() for line in page if line.startswith("| work")] == ["no", "yes"]
    assert (tmp_path / "speed.png").stat().st_size > 0
    assert len(json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["rows"]) == len(rows)


def test_a_group_that_does_not_exist_is_named(capsys):
    assert main(["bench", "speed", "warp"]) == 2
    assert "no group is called 'warp'" in capsys.readouterr().err
