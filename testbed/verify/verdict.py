"""The verdict of one test, and the runs that tests look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Literal

import msgspec

from dsp.synchronization.base import Need
from testbed.methods import method
from testbed.results import LinkRow
from testbed.run_folder import Run, open_run

__all__ = ["Figure", "Options", "Subject", "Verdict", "deviation_ratio", "ratio_limit"]

Status = Literal["passed", "failed", "not tested"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a test."""

    of: str
    name: str
    unit: str
    value: float
    expected: float | None = None
    limit: float | None = None
    """Largest departure from what is expected, or largest value, that still passes."""
    standard_error: float | None = None
    count: int | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a test found."""

    test: str
    status: Status
    text: str
    """A sentence: what was found, or why it could not be tested."""
    figures: list[Figure] = []


@dataclass(frozen=True)
class Options:
    """What the person at the bench knows of the runs."""

    method: str | None = None
    """Method to judge; by default the first of the run's two-way methods."""
    common_clock: bool = False
    """The devices share a clock, and counters that stamp times agree."""
    survey_std_m: float = 0.02
    """Deviation of the surveyed distances."""
    cable_step_m: float | None = None
    """Cable that the second run has more than the first."""
    velocity_factor: float = 0.66
    """Of that cable: 0.66 solid polyethylene, 0.7 PTFE, 0.85 foam."""


@dataclass(frozen=True)
class Subject:
    """A run as the tests see it: the rows of one two-way method."""

    run: Run
    options: Options

    @classmethod
    def of(cls, folder: Path, options: Options) -> Subject:
        """The run in ``folder``.

        Raises
        ------
        UserError
            If there is no such run.
        """
        return cls(open_run(folder), options)

    @property
    def name(self) -> str:
        """Folder's name."""
        return self.run.path.name

    @cached_property
    def method(self) -> str | None:
        """Two-way method that is judged; None if the run has none."""
        if self.options.method is not None:
            return self.options.method
        named = {row.method for row in self.run.results.links}
        for name in self.run.scenario.experiment.methods:
            if name in named and Need.REVERSE_LINK in method(name).needs:
                return name
        return None

    @cached_property
    def pairs(self) -> dict[tuple[str, str], list[LinkRow]]:
        """Valid rows of the method with a time offset, by pair, first node in the scenario as receiver, by round."""
        names = [node.name for node in self.run.scenario.node]
        found = {}
        for here, there in combinations(names, 2):
            rows = [
                row
                for row in self.run.results.links
                if (row.receiver, row.transmitter, row.method) == (here, there, self.method)
                and row.valid
                and row.to_s is not None
                and row.to_std_s
            ]
            if rows:
                found[here, there] = sorted(rows, key=lambda row: row.round)
        return found


def deviation_ratio(values: Sequence[float], deviations: Sequence[float]) -> float:
    """Root mean square of ``values`` in units of what was predicted of each."""
    return sqrt(sum((value / std) ** 2 for value, std in zip(values, deviations, strict=True)) / len(values))


def ratio_limit(count: int) -> float:
    """Largest ratio that ``count`` values may show: 1.3 for what the bound leaves out, and three standard errors."""
    return 1.3 * (1.0 + 3.0 / sqrt(2.0 * count))
