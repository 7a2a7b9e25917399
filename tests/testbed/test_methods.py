"""Methods that users bring: found, used like the built-in ones, and never the end of a run."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Need, Offset
from testbed import cli, methods
from testbed.bench.reference_ra import draw, run
from testbed.errors import UserError
from testbed.guarded_method import GuardedMethod
from testbed.pairs import Observed, _asked, estimates
from testbed.results import load_results
from testbed.run_folder import open_run
from testbed.scenario import load

PAGE = Path(__file__).parents[2] / "docs/how-to/own-method.md"
MODULE, SCENARIO = (
    re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)[1]
    for language in ("python", "toml")
)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, points: str) -> None:
    """An importable distribution with entry points, as pip leaves it."""
    (folder / f"{name}.py").write_text(module)
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{methods.GROUP}]\n{points}\n")
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def isac(*arguments: str | Path) -> int:
    return cli.main([str(one) for one in arguments])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path = tmp_path / "pair.toml"
    path.write_text(SCENARIO)
    return path


def test_an_installed_method_runs_beside_the_built_in_ones(tmp_path, pair, monkeypatch, capsys):
    site = tmp_path / "site"
    site.mkdir()
    install(site, monkeypatch, "phase_slope", MODULE, "phase-slope = phase_slope:PhaseSlope\nauto = phase_slope:Gone")
    assert isac("run", pair, "--out", tmp_path / "first") == 0
    said = capsys.readouterr()
    assert "phase-slope" in said.out
    assert "method 'auto' of phase_slope:Gone (phase_slope 1.0) is not used: the name is built in" in said.err
    rows = [row for row in load_results(tmp_path / "first").links if row.method == "phase-slope"]
    assert len(rows) == 4
    assert all(row.valid and abs(row.to_error_s) < 6 * row.to_std_s and row.to_std_s < 5e-9 for row in rows)
    assert "phase-slope" in (tmp_path / "first/report.html").read_text(encoding="utf-8")
    # where it is not installed, what it left can be read, and a replay says what is missing
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(site)])
    assert "phase-slope" in open_run(tmp_path / "first").scenario.experiment.methods
    assert isac("replay", tmp_path / "first", "--out", tmp_path / "third") == 2
    assert re.match(r"isac: .*'phase-slope', which is not a method: there are .*auto", capsys.readouterr().err)
    assert not (tmp_path / "third").exists()


def test_a_file_is_enough_and_is_forgotten_with_the_command(tmp_path, pair, capsys):
    file = tmp_path / "phase_slope.py"
    file.write_text(MODULE)
    assert isac("scenario", "check", pair) == 2
    assert "there are reciprocity-mle" in capsys.readouterr().err
    assert isac("scenario", "check", "--methods-file", file, pair) == 0
    assert isac("scenario", "check", pair) == 2
    misspelt = tmp_path / "misspelt.toml"
    misspelt.write_text(SCENARIO.replace('"phase-slope"', '"phase-slop"'))
    capsys.readouterr()
    assert isac("scenario", "check", "--methods-file", file, misspelt) == 2
    assert "did you mean phase-slope?" in capsys.readouterr().err
    found = tmp_path / "found.json"
    asked = ("--trials", "2", "--methods-file", file, "--out", tmp_path / "bench", "--json", found)
    assert isac("bench", "accuracy", "r-a", *asked) == 0
    rows = json.loads(found.read_text())["rows"]
    assert sum(row["method"] == "phase-slope" and row["metric"] == "to_rmse" for row in rows) == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import nothing_of_that_name", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("def f(:", "cannot be loaded: SyntaxError"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("x = 1", "defines no METHODS"),
        (MODULE.replace('"phase-slope"', '"auto"'), "'auto' bears the name of one built in"),
        (MODULE.replace('"phase-slope"', '"phase slope"'), "letters, digits"),
        (MODULE.replace("frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})", "None"), "has no needs"),
        (MODULE.replace("def estimate", "def guess"), "has no estimate"),
        (MODULE.replace("[PhaseSlope()]", "[3]"), "int in METHODS is no method"),
        (MODULE.replace("[PhaseSlope()]", "[PhaseSlope()] * 2"), "is in .* already"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_one_line(tmp_path, pair, capsys, text, complaint):
    file = tmp_path / "wrong.py"
    file.write_text(text)
    assert isac("run", "--methods-file", file, pair, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert re.search(complaint, said)
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_installed_method_that_is_wrong_is_one_line_and_only_where_it_is_named(tmp_path, pair, monkeypatch, capsys):
    install(tmp_path, monkeypatch, "broken_method", "import nothing_of_that_name", "phase-slope = broken_method:X")
    assert isac("run", pair, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "broken_method:X (broken_method 1.0): cannot be loaded: ModuleNotFoundError" in said
    other = tmp_path / "other.toml"
    other.write_text(SCENARIO.replace(', "phase-slope"', ""))
    assert load(other).experiment.methods == ("reciprocity-mle",)
    usable, broken = methods.users()
    assert not usable
    assert "left out" in broken[0]
    install(tmp_path, monkeypatch, "second_method", MODULE, "phase-slope = second_method:PhaseSlope")
    methods._sources.cache_clear()
    with pytest.raises(UserError, match=r"claimed by broken_method:X .* and second_method"):
        methods.method("phase-slope")


def guarded(estimate):
    return GuardedMethod(SimpleNamespace(estimate=estimate), "user", frozenset())


def offset(observation, **changes):
    good = Offset(1e-9, 1.0, epoch=observation.forward.reference, to_std_s=1e-12, cfo_std_hz=0.1)
    return replace(good, **changes)


@pytest.mark.parametrize(
    ("estimate", "reason"),
    [
        (lambda o: 1 / 0, "user failed: ZeroDivisionError: division by zero"),
        (lambda o: sys.exit("stop"), "user failed: SystemExit: stop"),
        (lambda o: o.forward.values.fill(0), "user failed: ValueError"),
        (lambda o: {"to_s": 1.0}, "returned dict, not an Offset"),
        (lambda o: offset(o, to_s=float("nan")), "to_s is nan"),
        (lambda o: offset(o, cfo_hz=np.inf), "cfo_hz is inf"),
        (lambda o: offset(o, to_s="late"), "to_s is 'late'"),
        (lambda o: offset(o, to_std_s=None), "to_s has no positive deviation"),
        (lambda o: offset(o, cfo_std_hz=-1.0), "cfo_hz has no positive deviation"),
        (lambda o: offset(o, epoch=None), "no reading of the receiver's clock"),
        (lambda o: offset(o, epoch=Moment("elsewhere", 0, 0.0, Fraction(1))), "no reading of the receiver's clock"),
    ],
)
def test_whatever_a_method_does_ends_in_an_invalid_row(estimate, reason):
    observation, _, _ = draw(np.random.default_rng(1), 20.0)
    before = observation.forward.values.copy()
    user = guarded(estimate)
    said = _asked(user, observation, {})
    assert not said.valid
    assert reason in said.reason
    assert np.array_equal(observation.forward.values, before)
    assert observation.forward.values.flags.writeable


def test_a_failing_method_is_a_row_of_the_pair(monkeypatch):
    observation, _, _ = draw(np.random.default_rng(1), 20.0)
    user = guarded(lambda o: 1 / 0)
    monkeypatch.setattr("testbed.pairs.method", lambda name: user)
    for row in estimates("user", Observed(observation, (lambda: observation, observation.reversed))):
        assert not row.valid
        assert "ZeroDivisionError" in row.reason


def test_what_a_method_needs_is_asked_for_by_the_guard():
    observation, _, _ = draw(np.random.default_rng(1), 20.0)
    user = GuardedMethod(None, "user", frozenset({Need.FINGERPRINT}))
    with pytest.raises(MissingInputError, match="fingerprint"):
        user.estimate(observation)


def test_a_bench_counts_what_a_users_method_refused():
    user = guarded(lambda o: offset(o, valid=o.forward.values.real.sum() > 0))
    rows = run(8, seed=1, snr_db=(20.0,), methods=(), users={"user": user})
    assert rows[0].trials + rows[0].refused == 8
    assert rows[0].refused > 0
