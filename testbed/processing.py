"""From captures to the files of a run's folder: the same for a run and for its replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from testbed.environment import environment
from testbed.fingerprints import FINGERPRINT_NAME
from testbed.pipeline import Pipeline
from testbed.results import EventRow, Results, save_results
from testbed.run_folder import PRODUCTS_NAME, SCENARIO_NAME
from testbed.scenario import Scenario, dumps

__all__ = ["write_products", "write_scenario"]


def write_scenario(folder: Path, scenario: Scenario) -> None:
    """State the experiment, every key spelled out, beside what it gave; what it compared with lies beside it too."""
    given = scenario.fingerprint
    if given.file:
        given = msgspec.structs.replace(given, file=FINGERPRINT_NAME)
        scenario = msgspec.structs.replace(scenario, fingerprint=given)
    (folder / SCENARIO_NAME).write_text(dumps(scenario), encoding="utf-8")


def write_products(
    folder: Path, scenario: Scenario, pipeline: Pipeline, events: Sequence[EventRow], *, report: bool = True
) -> Results:
    """Results of all rounds processed, with the run's own ``events``; written with the arrays and the report."""
    results = pipeline.finish(environment(scenario), events)
    save_results(results, folder)
    pipeline.products.save(folder / PRODUCTS_NAME)
    pipeline.fingerprints.save(folder)
    if report:
        from testbed.report.page import write_report

        write_report(folder)
    return results
