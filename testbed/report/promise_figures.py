"""The precoders' promises beside what a run's joint slots showed, one figure a user and one for the target."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10, sqrt

from testbed.report.run_data import Row, RunData
from testbed.report.style import quantity

__all__ = ["PromiseFigures", "decibels", "promise_figures"]


@dataclass(frozen=True)
class PromiseFigures:
    """One promise over all rounds: SINR as power ratios, position errors in metres."""

    quantity: str
    subject: str
    promised: float
    bound: float | None
    """Least root mean square position error for the signals sent; None for a SINR and in runs that do not tell it."""
    expected: float | None
    """Mean SINR that the design gives with what was left of offsets that stations take off; None otherwise."""
    measured: float | None
    """Mean of the rounds' ratios, or root mean square of their position errors; None if no round shows any."""
    standard_error: float | None
    stated: float | None
    """Root mean square of the deviations that the positions' likelihoods state."""
    trials: int
    """Rounds that show it."""
    rounds: int
    reason: str
    """Why the first round that does not show it does not."""

    @property
    def title(self) -> str:
        """What it is, in a table."""
        return f"SINR of {self.subject}" if self.quantity == "sinr" else f"position error of {self.subject}"

    @property
    def ratio(self) -> float | None:
        """Measured over promised."""
        return None if self.measured is None else self.measured / self.promised

    @property
    def bound_ratio(self) -> float | None:
        """Measured over what the signals sent allow."""
        return None if self.measured is None or self.bound is None else self.measured / self.bound

    def told(self, value: float | None) -> str:
        """A value of this quantity in words."""
        if value is None:
            return "–"
        return decibels(value) if self.quantity == "sinr" else quantity(value, "m")

    @property
    def measured_text(self) -> str:
        """Measured value with its standard error."""
        if self.measured is None or self.standard_error is None:
            return self.told(self.measured)
        if self.quantity != "sinr":
            return f"{self.told(self.measured)} ± {quantity(self.standard_error, 'm', digits=2)}"
        return f"{10 * log10(self.measured):.2f} ± {4.343 * self.standard_error / self.measured:.2f} dB"


def decibels(ratio: float) -> str:
    """A power ratio in decibels."""
    return f"{10 * log10(max(ratio, 1e-30)):.2f} dB".replace("-", "−")


def promise_figures(run: RunData) -> tuple[PromiseFigures, ...]:
    """Figures of every promise, in the order of the first round."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in run.rows("signalling"):
        kinds.setdefault((str(row["quantity"]), str(row["subject"])), []).append(row)
    return tuple(_figures(quantity, subject, rows) for (quantity, subject), rows in kinds.items())


def _figures(quantity: str, subject: str, rows: list[Row]) -> PromiseFigures:
    shown = [row for row in rows if row["valid"]]
    values = [float(row["measured"]) for row in shown]
    count = len(values)
    measured = error = stated = bound = expected = None
    if values and quantity == "sinr":
        measured = sum(values) / count
        # A single round states its own error; several are more than their scatter tells only if the scene changes.
        error = sqrt(sum(float(row["standard_error"]) ** 2 for row in shown)) / count
        if all(row.get("expected") is not None for row in shown):
            expected = sum(float(row["expected"]) for row in shown) / count
    elif values:
        measured = sqrt(sum(value**2 for value in values) / count)
        error = measured / sqrt(4 * count)  # two coordinates a round
        stated = sqrt(sum(float(row["stated"]) ** 2 for row in shown) / count)
        # Runs of earlier releases do not tell it.
        if all(row.get("bound") is not None for row in shown):
            bound = sqrt(sum(float(row["bound"]) ** 2 for row in shown) / count)
    reason = next((str(row["reason"]) for row in rows if not row["valid"]), "")
    return PromiseFigures(
        quantity,
        subject,
        float(rows[0]["promised"]),
        bound,
        expected,
        measured,
        error,
        stated,
        count,
        len(rows),
        reason,
    )
