"""Sweeps that are killed, go on, lose processes, run on a cluster: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cli import main
from testbed.errors import UserError
from testbed.sweep.ledger import Ledger
from testbed.sweep.point import Outcome

pq = pytest.importorskip("pyarrow.parquet")
ROOT = Path(__file__).parents[3]


def _python(folder: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that finds the project and the modules in ``folder``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    (folder / "script.py").write_text(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py"), *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


QUICK = """
    import os, sys
    from pathlib import Path
    from testbed.sweep.point import Outcome

    def quick(task):
        with open(os.environ["CALLS"], "ab") as calls:
            calls.write(b"%d\\n" % task.index)
        if task.index == 5 and "MURDER" in os.environ:
            os._exit(3)
        return Outcome(index=task.index, status="done", rows=[{"metric": "to_rmse", "value": float(task.index)}])
"""
MAIN = """
    from pathlib import Path
    import sys
    from quick import quick
    from testbed.sweep.campaign import run_sweep
    from testbed.sweep.design import load_sweep

    if __name__ == "__main__":
        tally = run_sweep(load_sweep(Path(sys.argv[1])), Path(sys.argv[2]), workers=2, work=quick)
        print(tally.points, tally.resumed, tally.done, tally.failed, tally.first_reason, sep=",")
"""


def _indices(path: Path) -> list[int]:
    return [json.loads(line)["index"] for line in path.read_bytes().splitlines()[1:]]


def test_ten_thousand_points_killed_and_resumed_lose_none_and_repeat_none(
    sweep_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ", ".join(str(value / 100) for value in range(1000))
    file = sweep_file(
        f'[sweep]\nname = "s"\nscenario = "pair.toml"\nseeds = 10\n[parameters]\nscene.snr_db = [{values}]'
    )
    (tmp_path / "quick.py").write_text(textwrap.dedent(QUICK))
    calls, out = tmp_path / "calls", tmp_path / "out"
    monkeypatch.setenv("CALLS", str(calls))
    killed = _python(tmp_path, MAIN, str(file), str(out))
    ledger = out / "points.jsonl"
    deadline = time.monotonic() + 60
    while not ledger.exists() or ledger.stat().st_size < 200_000:
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = ledger.read_bytes().count(b"\n") - 1
    assert 0 < kept < 10_000
    output, errors = _python(tmp_path, MAIN, str(file), str(out)).communicate(timeout=120)
    assert output.split(",")[:4] == ["10000", str(kept), str(10_000 - kept), "0"], errors
    assert sorted(_indices(ledger)) == list(range(10_000))
    # Of what was done, nothing is computed again but the few that the kill caught on their way into the file.
    repeated = sum(count - 1 for count in Counter(calls.read_bytes().split()).values())
    assert repeated <= 8


def test_a_point_that_kills_its_process_fails_alone(
    sweep_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sweep_file('[sweep]\nname = "s"\nscenario = "pair.toml"\nseeds = 30\n')
    (tmp_path / "quick.py").write_text(textwrap.dedent(QUICK))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("MURDER", "1")
    output, errors = _python(tmp_path, MAIN, str(file), str(tmp_path / "out")).communicate(timeout=60)
    assert output.strip() == "30,0,30,1,its process died, twice", errors
    assert sorted(_indices(tmp_path / "out" / "points.jsonl")) == list(range(30))


def test_table_of_real_points_is_the_same_with_one_worker_with_two_and_on_a_cluster(
    sweep_file: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    # 20 symbols of 2 ms frames fit, 200 do not: that combination fails alone.
    file = sweep_file(
        '[sweep]\nname = "s"\nscenario = "pair.toml"\nseeds = 2\n[parameters]\nwaveform.symbols = [20, 200]\n'
    )
    for workers in ("1", "2"):
        out = tmp_path / workers
        assert main(["sweep", str(file), "--out", str(out), "--workers", workers]) == 0
        assert "2 points failed, the first with: point 2: round.frame_period_s is" in capsys.readouterr().err
        assert (out / "figures" / "to_rmse.png").stat().st_size > 10_000
    script = """
        import sys
        from distributed import LocalCluster
        from testbed.cli import main

        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                sys.exit(main(["sweep", sys.argv[1], "--out", sys.argv[2], "--scheduler", cluster.scheduler_address]))
    """
    process = _python(tmp_path, script, str(file), str(tmp_path / "cluster"))
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    table, two, cluster = (
        pq.read_table(tmp_path / name / "table.parquet").drop_columns("seconds").to_pylist()
        for name in ("1", "2", "cluster")
    )
    assert table == two
    assert table == cluster
    failed = [row for row in table if row["status"] == "failed"]
    assert [row["point"] for row in failed] == [2, 3]
    errors_found = [row for row in table if row["metric"] == "to_rmse"]
    assert [(row["point"], row["seed"], row["method"]) for row in errors_found] == [
        (point, 40 + point, method) for point in (0, 1) for method in ("reciprocity-mle", "spectral-cc-interpolated")
    ]
    # Two clocks of 8 ppm over a 30 m link: synchronized to well below a sample of 200 ns, and not exactly.
    assert all(0 < row["value"] < 20e-9 and row["bound"] > 0 for row in errors_found)
    assert len({row["scenario_hash"] for row in table if row["scenario_hash"]}) == 2


def test_scheduler_that_does_not_answer_leaves_nothing(
    sweep_file: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    file = sweep_file('[sweep]\nname = "s"\nscenario = "pair.toml"\nseeds = 3\n')
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), "--scheduler", "nowhere"]) == 2
    assert "--scheduler is nowhere, where no Dask scheduler answers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "a", "one").close()
    with pytest.raises(UserError, match="holds another sweep"):
        Ledger(tmp_path / "a", "other")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="something else than a sweep"):
        Ledger(tmp_path / "b", "one")


@settings(max_examples=60, deadline=None)
@given(points=st.integers(0, 6), cut=st.integers(0, 400), reason=st.text(max_size=20))
def test_a_ledger_cut_anywhere_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, points: int, cut: int, reason: str
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger(folder, "f") as ledger:
        for index in range(points):
            ledger.add(Outcome(index=index, status="failed", reason=reason))
    path = folder / "points.jsonl"
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    left = whole[: max(head, len(whole) - cut)]
    path.write_bytes(left)
    with Ledger(folder, "f") as ledger:
        assert ledger.done == set(range(left.count(b"\n") - 1))
        ledger.add(Outcome(index=99, status="done"))
    with Ledger(folder, "f") as ledger:
        assert [outcome.index for outcome in ledger.outcomes()] == [*range(left.count(b"\n") - 1), 99]
