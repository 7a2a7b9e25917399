"""The report's table of plan against run."""

from __future__ import annotations

from testbed.errors import UserError
from testbed.report.run_data import RunData
from testbed.report.style import quantity
from testbed.report.summary import RunSummary
from testbed.report.tables import Table

__all__ = ["plan_table"]


def plan_table(run: RunData, summary: RunSummary) -> Table:
    """Each figure that the plan of the run's scenario predicts, beside the run's; empty where there is no plan.

    A run without a readable scenario, or whose radios are not simulated and so without levels that the file states,
    has none.
    """
    from testbed.planning.comparison import PlanFigure, against_plan
    from testbed.planning.plan import make_plan
    from testbed.scenario import load

    head = ("Figure", "Method", "Planned", "Run", "Run over planned", "Trials", "Verdict")
    if not run.has_truth:
        return Table(head, (), 2)
    try:
        scenario = load(run.folder / "scenario.toml")
    except UserError:
        return Table(head, (), 2)
    if any(node.radio != "simulated" for node in scenario.node):
        return Table(head, (), 2)

    def cells(figure: PlanFigure) -> tuple[str, ...]:
        if figure.unit == "dB":
            values = f"{figure.planned:.1f} dB", f"{figure.run:.1f} dB", f"{figure.run - figure.planned:+.1f} dB"
            return figure.name, figure.method, *(value.replace("-", "−") for value in values), "–", figure.verdict
        return (
            figure.name,
            figure.method,
            quantity(figure.planned, figure.unit),
            quantity(figure.run, figure.unit),
            f"{figure.ratio:.2f}",
            str(figure.trials),
            figure.verdict,
        )

    figures = against_plan(make_plan(scenario), run, summary)
    off = [f"{figure.name} {figure.method}".strip() for figure in figures if figure.verdict != "as planned"]
    note = (
        "Every figure is within what its trials allow about the plan (99 % of the time)."
        if not off
        else f"Beyond what the trials allow: {', '.join(off)}."
    )
    return Table(head, tuple(cells(figure) for figure in figures), 2, note)
