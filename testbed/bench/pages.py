"""What a bench's page shows: title, caption, panels of its figure, and the figures that are asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.bench.rows import BenchRow

__all__ = ["Goal", "Page", "Panel", "Verdict", "judged"]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a metric over a parameter, a line for each method and each value of what else varies."""

    metric: str
    axis: str = "snr_db"
    title: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Values of parameters that rows must have."""
    methods: tuple[str, ...] = ()
    """All if none is named."""
    ratio: bool = False
    """Value over bound instead of the value."""
    log_x: bool = False
    limit: float | None = None
    """Line across a panel of ratios: the figure asked for."""


@dataclass(frozen=True)
class Goal:
    """A figure asked for."""

    what: str
    asked: str
    metric: str
    method: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    """Values of parameters, or (least, greatest) of them."""
    of: str = "ratio"
    """Which of a row's numbers is judged: "ratio" or "value"."""
    most: float | None = None
    least: float | None = None
    scale: float = 1.0
    """Number by which it is written, as 1e12 for picoseconds."""
    unit: str = ""

    def matches(self, row: BenchRow) -> bool:
        """Whether ``row`` is one of those judged."""
        if row.metric != self.metric or (self.method is not None and row.method != self.method):
            return False
        return all(_inside(row.parameters.get(name), wanted) for name, wanted in self.where.items())


@dataclass(frozen=True)
class Page:
    """How a bench is presented."""

    title: str
    caption: str
    """What is drawn, and which parameters had to be chosen."""
    panels: tuple[Panel, ...] = ()
    picture: tuple[str, str] | None = None
    """Module and function that draw the figure, given its path and the seed, where it is no metric over a parameter."""
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was reached."""

    goal: Goal
    reached: str
    trials: int | None
    met: str
    """"yes", "no", or "within two standard errors"."""


def judged(goals: Sequence[Goal], rows: Sequence[BenchRow]) -> list[Verdict]:
    """Goals beside the worst of the rows that each one judges."""
    found = []
    for goal in goals:
        candidates = [row for row in rows if goal.matches(row) and getattr(row, goal.of) is not None]
        if not candidates:
            found.append(Verdict(goal, "not measured", None, "no"))
            continue
        worst = max(candidates, key=lambda row: _excess(goal, getattr(row, goal.of)))
        value = float(getattr(worst, goal.of))
        error = _error(worst, goal.of)
        text = f"{value * goal.scale:.3g}" + ("" if error is None else f" ± {error * goal.scale:.2g}") + goal.unit
        where = ", ".join(f"{name} {value}" for name, value in worst.parameters.items() if not isinstance(value, dict))
        found.append(Verdict(goal, f"{text} ({where})" if where else text, worst.trials, _met(goal, value, error)))
    return found


def _met(goal: Goal, value: float, error: float | None) -> str:
    excess = _excess(goal, value)
    if excess <= 0.0:
        return "yes"
    return "within two standard errors" if error is not None and excess <= 2.0 * error else "no"


def _excess(goal: Goal, value: float) -> float:
    over = value - goal.most if goal.most is not None else float("-inf")
    under = goal.least - value if goal.least is not None else float("-inf")
    return max(over, under)


def _error(row: BenchRow, of: str) -> float | None:
    if row.standard_error is None or of == "value":
        return row.standard_error
    if row.ratio is None or not row.value:
        return None
    return row.standard_error * row.ratio / row.value


def _inside(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        return value is not None and wanted[0] <= value <= wanted[1]
    return bool(value == wanted)
