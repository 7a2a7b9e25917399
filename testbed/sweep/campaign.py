"""A sweep from its file to its table: points that are not done yet are computed, whatever went before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import RunError, UserError
from testbed.sweep.design import Sweep
from testbed.sweep.ledger import Ledger
from testbed.sweep.point import Outcome, Task, evaluate
from testbed.sweep.workers import on_cluster, on_processes

__all__ = ["TABLE_NAME", "Progress", "Tally", "run_sweep"]

TABLE_NAME = "table.parquet"
Progress = Callable[[int, str], None]


@dataclass
class Tally:
    """How far a sweep has come."""

    points: int
    resumed: int
    """Done before this call."""
    done: int = 0
    """Done now, failures among them."""
    failed: int = 0
    first_reason: str = ""


def run_sweep(
    sweep: Sweep,
    folder: Path,
    *,
    workers: int,
    scheduler: str | None = None,
    progress: Progress = lambda done, text: None,
    work: Callable[[Task], Outcome] = evaluate,
) -> Tally:
    """Count of points done, when all are; each is kept in ``folder`` as soon as it ends.

    Parameters
    ----------
    workers : int
        Processes on this machine, where no ``scheduler`` is named.
    scheduler : str, optional
        Address of a Dask scheduler.
    work : callable, optional
        What is done at a point; importable, since it goes to other processes.

    Raises
    ------
    UserError
        If the folder holds something else, or the scheduler does not answer: nothing is written.
    RunError
        If the scheduler is lost: what was done is kept.
    """
    fresh = not folder.exists()
    with Ledger(folder, sweep.fingerprint()) as ledger:
        tally = Tally(points=len(sweep), resumed=len(ledger.done))
        tasks = _tasks(sweep, frozenset(ledger.done))
        outcomes = on_processes(tasks, work, workers) if scheduler is None else on_cluster(tasks, work, scheduler)
        progress(tally.resumed, "points")
        reasons: dict[int, str] = {}
        try:
            for outcome in outcomes:
                ledger.add(outcome)
                tally.done += 1
                if outcome.status == "failed":
                    tally.failed += 1
                    reasons[outcome.index] = outcome.reason
                    tally.first_reason = reasons[min(reasons)]  # points end in any order
                progress(tally.resumed + tally.done, f"points, {tally.failed} failed" if tally.failed else "points")
        except UserError:
            if fresh:
                ledger.close()
                (folder / "points.jsonl").unlink()
                folder.rmdir()
            raise
        except RunError as error:
            kept = tally.resumed + tally.done
            raise RunError(f"{error}: {kept} of {tally.points} points are kept; the same command goes on") from None
    return tally


def _tasks(sweep: Sweep, done: frozenset[int]) -> Iterator[Task]:
    return (Task(point.index, sweep.text(point)) for point in sweep.points() if point.index not in done)
