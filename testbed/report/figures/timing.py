"""Where the time went: seconds per stage of the run."""

from __future__ import annotations

from testbed.report.figures import Drawing, LeftOut
from testbed.report.run_data import RunData
from testbed.report.style import BLUE, new_figure, quantity

__all__ = ["draw"]


def draw(run: RunData) -> Drawing | LeftOut:
    """One bar a stage, longest first."""
    title = "Time per stage"
    stages = {str(k): float(v) for k, v in (run.results.get("timing") or {}).items() if isinstance(v, int | float)}
    if not stages:
        return LeftOut(title, "The run recorded no times.")
    ordered = sorted(stages.items(), key=lambda item: (-item[1], item[0]))
    total = sum(stages.values())
    figure = new_figure(10.0, 0.75 + 0.3 * len(ordered))
    axes = figure.subplots()
    axes.barh(range(len(ordered)), [v for _, v in ordered], height=0.62, color=BLUE)
    for y, (_, seconds) in enumerate(ordered):
        share = f"{100 * seconds / total:.0f} %" if total > 0 else ""
        axes.annotate(
            f"{quantity(seconds, 's')}  {share}", (seconds, y), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(ordered)), [name.replace("_", " ") for name, _ in ordered])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * ordered[0][1] or 1.0)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Wall-clock time over the whole run, s")
    return Drawing(
        "timing",
        title,
        figure,
        f"Wall-clock time that each stage took over all rounds, {quantity(total, 's')} together. Stages that ran "
        "beside one another are counted each in full.",
        "Bar chart of seconds per stage.",
    )
