"""Errors of one method over the trials of one point, and the figures that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from time import perf_counter
from typing import Any

import numpy as np

from dsp.synchronization.base import Method, Observation, Offset
from testbed.bench.rows import BenchRow, bias_row, rmse_row, share_row, time_row

__all__ = ["Tally"]

_UNITS = {
    "to": "s", "cfo": "Hz", "delay": "s", "doppler": "Hz", "range": "m", "angle": "rad", "position": "m",
}  # fmt: skip
_VALID_GOAL = 0.98
_OUTLIER_GOAL = 0.01


class Tally:
    """What one method did at one point: errors by quantity, what was invalid or an outlier, and how long it took.

    Parameters
    ----------
    scenario, method : str
    parameters : dict
        Of the point, as they shall stand in the rows.
    outlier : float
        Bounds beyond which an error is a wrong cell or path and not noise. All valid results count in the root mean
        square; ``keep_outliers`` False leaves outliers out of it, for scenes in which a target may not be found.
    outlier_goal : float
        Rate that is asked for.
    """

    def __init__(
        self,
        scenario: str,
        method: str,
        parameters: dict[str, Any],
        *,
        outlier: float = 6.0,
        outlier_goal: float = _OUTLIER_GOAL,
        keep_outliers: bool = True,
    ) -> None:
        self.scenario, self.method, self.parameters = scenario, method, parameters
        self.trials = 0
        self.missed = 0
        self._outlier, self._outlier_goal, self._keep = outlier, outlier_goal, keep_outliers
        self._invalid = 0
        self._seconds: list[float] = []
        self._errors: dict[str, list[float]] = {}
        self._bounds: dict[str, list[float]] = {}
        self._stated: dict[str, list[float]] = {}

    def run(self, method: Method, observation: Observation) -> Offset:
        """The method's result, timed and counted as a trial; invalid ones are counted as such."""
        started = perf_counter()
        offset = method.estimate(observation)
        self.count(perf_counter() - started, valid=offset.valid)
        return offset

    def count(self, seconds: float | None, *, valid: bool = True) -> None:
        """One trial more, which took ``seconds``."""
        self.trials += 1
        self._invalid += not valid
        if seconds is not None:
            self._seconds.append(seconds)

    def add(self, quantity: str, error: float, bound: float, stated: float | None = None) -> None:
        """Error of a valid result in ``quantity``, beside the bound of its trial and the deviation it states."""
        self._errors.setdefault(quantity, []).append(error)
        self._bounds.setdefault(quantity, []).append(bound)
        if stated is not None and isfinite(stated) and stated > 0.0:
            self._stated.setdefault(quantity, []).append(error / stated)

    def offset(self, offset: Offset, to: tuple[float, float], cfo: tuple[float, float] | None = None) -> None:
        """Errors of a valid clock offset: true value and bound of each, in seconds and hertz."""
        if not offset.valid or offset.to_s is None:
            return
        self.add("to", offset.to_s - to[0], to[1], offset.to_std_s)
        if cfo is not None and offset.cfo_hz is not None:
            self.add("cfo", offset.cfo_hz - cfo[0], cfo[1], offset.cfo_std_hz)

    def errors(self, quantity: str) -> Sequence[float]:
        """Errors so far."""
        return self._errors.get(quantity, ())

    def rows(self) -> list[BenchRow]:
        """Root mean square error, bias and honesty of each quantity; outliers, valid and missed shares, time."""
        made: list[BenchRow] = []
        wrong = np.zeros(0, dtype=bool)
        for quantity, errors in self._errors.items():
            array, bounds = np.array(errors), np.array(self._bounds[quantity])
            far = ~(np.abs(array) <= self._outlier * bounds)
            wrong = far if wrong.size != far.size else wrong | far
        for quantity, errors in self._errors.items():
            array, bounds = np.array(errors), np.array(self._bounds[quantity])
            if not self._keep and wrong.size == array.size:
                array, bounds = array[~wrong], bounds[~wrong]
            if array.size:
                made += self._error_rows(quantity, array, float(np.sqrt(np.mean(bounds**2))))
        name = self.scenario, self.method
        valid = self.trials - self._invalid
        if self._errors:
            made.append(share_row(*name, "outlier_rate", int(wrong.sum()), wrong.size, self._outlier_goal))
        if self.missed:
            made.append(share_row(*name, "missed_rate", self.missed, valid, 0.02))
        made.append(share_row(*name, "valid_share", valid, self.trials, _VALID_GOAL))
        if self._seconds:
            made.append(time_row(self.scenario, self.method, self._seconds))
        for row in made:
            row.parameters = dict(self.parameters)
        return made

    def _error_rows(self, quantity: str, errors: np.ndarray[Any, np.dtype[np.float64]], bound: float) -> list[BenchRow]:
        unit = _UNITS[quantity]
        made = [rmse_row(self.scenario, self.method, f"{quantity}_rmse", unit, errors.tolist(), bound)]
        made.append(bias_row(self.scenario, self.method, f"{quantity}_bias", unit, errors.tolist()))
        scores = np.square(self._stated.get(quantity, ()))
        if scores.size > 1:
            made.append(
                BenchRow(
                    scenario=self.scenario, method=self.method, metric=f"{quantity}_normalised_error_squared", unit="1",
                    value=float(scores.mean()), bound=1.0, ratio=float(scores.mean()), trials=scores.size,
                    standard_error=float(scores.std(ddof=1)) / sqrt(scores.size),
                )
            )  # fmt: skip
        return made
