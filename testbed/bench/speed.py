"""`isac bench speed`: each stage of the chain against a copy, against bare transforms and against plain numpy.

One process, one thread, and its processor time, so that what else the machine does hardly counts. In every round each
contestant runs once (as many calls as make a few milliseconds), the order rotated from round to round, and ratios are
taken within a round: a machine that slows down slows all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from testbed.bench.rows import BenchRow

__all__ = ["Goal", "Stage", "exponent_row", "measure", "stage_rows"]

_LEAST_S = 4e-3
"""Time that the calls of one contestant take together in one round."""
_MOST_CALLS = 2000

Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class Goal:
    """What a ratio is to be."""

    value: float
    at_least: bool = False
    """True where the other way's time over ours is judged, False where ours over the other's."""


@dataclass(frozen=True)
class Stage:
    """One piece of work, done in several ways that give the same result."""

    name: str
    ours: Callable[[], object]
    others: Mapping[str, Callable[[], object]]
    """By what they are: "copy", "reading", "scipy", "numpy", …"""
    goals: Mapping[str, Goal] = field(default_factory=dict)


def measure(stage: Stage, rounds: int) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Seconds of one call by contestant and round, "ours" first."""
    ways = {"ours": stage.ours, **stage.others}
    calls = {}
    for name, way in ways.items():
        way()
        begin = time.thread_time()
        way()
        once = max(time.thread_time() - begin, 1e-7)
        calls[name] = int(np.clip(_LEAST_S / once, 1, _MOST_CALLS))
    taken: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {name: np.empty(rounds) for name in ways}
    order = list(ways)
    for index in range(rounds):
        shift = index % len(order)
        for name in order[shift:] + order[:shift]:
            way, count = ways[name], calls[name]
            begin = time.thread_time()
            for _ in range(count):
                way()
            taken[name][index] = (time.thread_time() - begin) / count
    return taken


def stage_rows(stage: Stage, rounds: int) -> list[BenchRow]:
    """Shortest time of every way, and the paired ratios' median and minimum against every other way."""
    taken = measure(stage, rounds)
    rows = [
        BenchRow(
            scenario="speed", method=stage.name, parameters={"way": name}, metric="time", unit="s",
            value=float(seconds.min()), trials=rounds,
        )
        for name, seconds in taken.items()
    ]  # fmt: skip
    for name in stage.others:
        goal = stage.goals.get(name)
        at_least = (goal is not None and goal.at_least) or (goal is None and name == "numpy")
        ratios = taken[name] / taken["ours"] if at_least else taken["ours"] / taken[name]
        bound = None if goal is None else goal.value
        # The standard error of a median of normal values.
        error = 1.2533 * float(ratios.std(ddof=1)) / sqrt(rounds)
        for kind, value, deviation in (
            ("median", float(np.median(ratios)), error),
            ("best", float(ratios.max() if at_least else ratios.min()), None),
        ):
            rows.append(
                BenchRow(
                    scenario="speed", method=stage.name, parameters={"against": name, "of rounds": kind},
                    metric="times_faster" if at_least else "time_ratio", unit="1", value=value, bound=bound,
                    ratio=None if bound is None else value / bound, trials=rounds, standard_error=deviation,
                )
            )  # fmt: skip
    return rows


def exponent_row(name: str, axis: str, sizes: Sequence[float], seconds: Sequence[float]) -> BenchRow:
    """Exponent of the power law fitted to times over sizes, with its standard error."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    slope, offset = np.polyfit(x, y, 1)
    rest = y - slope * x - offset
    error = None
    if x.size > 2:
        error = float(np.sqrt(np.sum(rest**2) / (x.size - 2) / np.sum((x - x.mean()) ** 2)))
    return BenchRow(
        scenario="growth", method=name, parameters={"over": axis}, metric="exponent", unit="1", value=float(slope),
        trials=x.size, standard_error=error,
    )  # fmt: skip
