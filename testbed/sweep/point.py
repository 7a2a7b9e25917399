"""One point of a sweep, from its experiment file to its figures; runs wherever it is sent."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec

from testbed.errors import RunError, UserError

__all__ = ["Outcome", "Task", "evaluate"]


class Task(msgspec.Struct, frozen=True):
    """What a worker is asked for."""

    index: int
    text: str
    """Experiment file."""


class Outcome(msgspec.Struct, kw_only=True):
    """What one point gave."""

    index: int
    status: str
    """``done`` or ``failed``."""
    reason: str = ""
    scenario_hash: str = ""
    """SHA-256 of the experiment file as resolved; empty where it could not be."""
    rows: list[dict[str, Any]] = []
    """Figures as benches write them."""
    seconds: float = 0.0


def evaluate(task: Task) -> Outcome:
    """Figures of one experiment on simulated radios in this process; what fails is an outcome too."""
    from testbed.scenario import dumps, loads

    begin = time.perf_counter()
    outcome = Outcome(index=task.index, status="failed")
    try:
        scenario = loads(task.text, source=f"point {task.index}")
        text = dumps(scenario)
        outcome.scenario_hash = hashlib.sha256(text.encode()).hexdigest()
        outcome.rows = _figures(text)
        outcome.status = "done"
    except (UserError, RunError) as error:
        outcome.reason = str(error)
    except Exception as error:  # one point that breaks must not take the other ten thousand with it
        outcome.reason = f"{type(error).__name__}: {error}".splitlines()[0]
    outcome.seconds = round(time.perf_counter() - begin, 3)
    return outcome


def _figures(text: str) -> list[dict[str, Any]]:
    import tomllib

    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline
    from testbed.report.comparison import bench_rows
    from testbed.report.run_data import RunData
    from testbed.report.summary import summarize
    from testbed.results import encode_results
    from testbed.scenario import loads

    scenario = loads(text, source="point")
    for node in scenario.node:
        if node.radio != "simulated":
            raise UserError(f'node.radio of {node.name!r} is "{node.radio}", but a sweep runs "simulated" radios')
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    results = msgspec.json.decode(encode_results(pipeline.finish({})))
    run = RunData(Path(scenario.experiment.name), results, tomllib.loads(text))
    rows = bench_rows(run, summarize(run))
    # how long it took is the machine's, not the experiment's: it stands beside the figures, not among them
    return [row for row in rows if row["metric"] != "processing_time"]
