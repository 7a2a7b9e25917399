"""The figures by which a run is judged, drawn from its results; shown first on the page and compared between runs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.report.promise_figures import PromiseFigures, promise_figures
from testbed.report.run_data import Row, RunData, epoch_seconds, link_name, rising_seconds
from testbed.report.style import LIGHT_SPEED
from testbed.report.wander import wander

__all__ = [
    "ELLIPSE_95",
    "KEYS",
    "MethodFigures",
    "PayloadFigures",
    "Quantity",
    "RunSummary",
    "Spread",
    "TargetFigures",
    "mean_power_db",
    "residuals",
    "summarize",
    "true_positions",
]

FloatArray = NDArray[np.float64]
Quantity = Literal["to", "cfo"]

KEYS: dict[Quantity, tuple[str, str, str]] = {
    "to": ("to_s", "to_error_s", "to_std_s"),
    "cfo": ("cfo_hz", "cfo_error_hz", "cfo_std_hz"),
}
"""Fields of a link's row that hold the estimate, its error and its predicted deviation."""

ELLIPSE_95 = -2 * math.log(0.05)
"""Squared deviations within which a plane Gaussian has 95 % of its mass."""


@dataclass(frozen=True)
class Spread:
    """How far estimates lie from the truth, or from a straight line over the rounds where nobody knows the truth."""

    rmse: float
    bias: float | None
    """Mean error of each pair's first direction, the second one's turned round; None against a fitted line."""
    predicted: float | None
    """Root mean square of the standard deviations that the bound predicted; None if none was given."""
    normalized: float | None
    """Root mean square of each error over its own predicted deviation; one where deviations are honest."""
    trials: int
    """Independent ones: the two directions of a pair in one round share their measurement and count once."""
    against_truth: bool
    restarts: bool = False
    """Whether counters start anew between rounds, so that no line joins time offsets of different ones."""

    @property
    def ratio(self) -> float | None:
        """RMSE over prediction."""
        return self.rmse / self.predicted if self.predicted else None

    @property
    def standard_error(self) -> float:
        """Standard error of the RMSE for Gaussian errors."""
        return self.rmse / math.sqrt(2 * self.trials)

    def _quantile(self, deviate: float) -> float:
        """Quantile of chi-squared over its degrees of freedom, at a normal deviate, by Wilson and Hilferty's cube."""
        part = 2 / (9 * self.trials)
        return max(1 - part + deviate * math.sqrt(part), 0.0) ** 3

    @property
    def as_predicted(self) -> bool | None:
        """Whether errors so large against their own deviations come about by chance in one run of a hundred."""
        return None if self.normalized is None else self.normalized**2 <= self._quantile(2.326)

    @property
    def overstated(self) -> bool:
        """Whether errors so small against their own deviations come about by chance in fewer than that."""
        return self.normalized is not None and self.normalized**2 < self._quantile(-2.326)


@dataclass(frozen=True)
class MethodFigures:
    """One method over all links and rounds."""

    method: str
    rows: int
    valid: int
    to: Spread | None
    cfo: Spread | None
    reasons: tuple[tuple[str, int], ...]
    """Why rows are invalid or give no offset, with their number, most frequent first."""

    @property
    def gives_offsets(self) -> bool:
        """Whether the method gave a clock offset at all."""
        return self.to is not None or self.cfo is not None


@dataclass(frozen=True)
class TargetFigures:
    """One target over all rounds, as the detections of one method show it."""

    name: str
    method: str
    """Method whose offsets made the delays absolute, or that needs none."""
    rounds: int | None
    """Rounds in which it was there; None where nobody knows."""
    found: int
    """Rounds in which at least one link detected it."""
    range_rmse_m: float | None
    """Of the bistatic range, over its detections on all links."""
    velocity_rmse_mps: float | None
    position_rmse_m: float | None
    ellipses: tuple[int, int]
    """Positions whose 95 % ellipse holds the true one, and positions that could be so judged."""
    moving: bool
    reference: str = ""
    """What its delays count from: as the detections say; empty if not found."""


@dataclass(frozen=True)
class PayloadFigures:
    """Payload of one link over all rounds, or of all links."""

    link: str
    bits: int
    bit_errors: int | None
    """None where the sent bits are not known."""
    frames: int | None
    frames_lost: int
    evm_db: float | None

    @property
    def error_rate(self) -> float | None:
        """Bit errors over bits."""
        return self.bit_errors / self.bits if self.bits and self.bit_errors is not None else None


@dataclass(frozen=True)
class RunSummary:
    """Everything the verdict is read from."""

    name: str
    methods: tuple[MethodFigures, ...]
    all_targets: tuple[TargetFigures, ...]
    """Every target by every method that detects."""
    unnamed: tuple[tuple[str, int], ...]
    """Detections that bear no target's name, by method."""
    payload: tuple[PayloadFigures, ...]
    promises: tuple[PromiseFigures, ...]
    """What precoders promised beside what came of it; empty where none were given."""
    rounds: int
    rounds_finished: int
    samples_lost: int
    losses: int
    events: int
    seconds: float | None
    has_truth: bool

    @cached_property
    def headline(self) -> MethodFigures | None:
        """`auto` where it ran, else the method with the smallest predicted TO deviation among those mostly valid.

        Ties go to the one named first in the experiment. The actual errors have no say in the choice.
        """
        usable = [m for m in self.methods if m.to is not None]
        for method in usable:
            if method.method == "auto":
                return method
        mostly = [m for m in usable if 2 * m.valid >= m.rows] or usable
        return min(mostly, key=lambda m: m.to.predicted if m.to and m.to.predicted else math.inf, default=None)

    @property
    def sensing_method(self) -> str | None:
        """Method whose detections are judged and drawn: the headline's if it detects, else the first that does."""
        detecting = list(dict.fromkeys(target.method for target in self.all_targets)) or [m for m, _ in self.unnamed]
        if self.headline is not None and (self.headline.method in detecting or not detecting):
            return self.headline.method
        return next(iter(detecting), None)

    @property
    def targets(self) -> list[TargetFigures]:
        """Targets as the sensing method shows them."""
        return [target for target in self.all_targets if target.method == self.sensing_method]

    @property
    def unnamed_detections(self) -> int:
        """Detections of the sensing method that bear no target's name."""
        return dict(self.unnamed).get(self.sensing_method or "", 0)

    @property
    def payload_total(self) -> PayloadFigures | None:
        """All links together; the EVM is averaged as power."""
        if not self.payload:
            return None
        errors = [p.bit_errors for p in self.payload]
        frames = [p.frames for p in self.payload]
        return PayloadFigures(
            "all links",
            sum(p.bits for p in self.payload),
            None if None in errors else sum(e for e in errors if e is not None),
            None if None in frames else sum(f for f in frames if f is not None),
            sum(p.frames_lost for p in self.payload),
            mean_power_db([p.evm_db for p in self.payload]),
        )


def mean_power_db(values_db: list[float | None]) -> float | None:
    """Mean of powers given in decibels; None if there are none."""
    powers = [10 ** (v / 10) for v in values_db if v is not None]
    return 10 * math.log10(sum(powers) / len(powers)) if powers else None


def residuals(rows: list[Row], quantity: Quantity, *, truth: bool) -> FloatArray:
    """Errors of one link's rows against truth, or what a straight line over the epochs leaves; NaN where none.

    The line is fitted to the valid rows and needs three of them. Whole seconds are taken off first, so that the
    fit keeps its picoseconds.
    """
    key, error_key, _ = KEYS[quantity]
    if truth:
        return np.array([np.nan if row.get(error_key) is None else row[error_key] for row in rows], dtype=np.float64)
    values = np.array([np.nan if row.get(key) is None else row[key] for row in rows], dtype=np.float64)
    use = np.isfinite(values) & np.array([bool(row["valid"]) for row in rows], dtype=bool)
    if np.count_nonzero(use) < 3:
        return np.full(len(rows), np.nan)
    time = rising_seconds(rows)
    if time is None:  # a line fits rounds as well
        time = np.array([float(row["round"]) for row in rows])
    values = values - values[use][0]
    time = (time - time[use].mean()) / max(float(np.ptp(time[use])), 1e-12)
    slope, level = np.polyfit(time[use], values[use], 1)
    fitted: FloatArray = values - (slope * time + level)
    return fitted


def _spread(run: RunData, method: str, quantity: Quantity) -> Spread | None:
    errors: list[float] = []
    signed: list[float] = []
    stds: list[float] = []
    ratios: list[float] = []
    trials: set[tuple[frozenset[str], int]] = set()
    fits = 0
    for link in run.links:
        rows = run.link_rows(link, method)
        left = residuals(rows, quantity, truth=run.has_truth)
        receiver, _, transmitter = link.partition(" ← ")
        back = f"{transmitter} ← {receiver}"
        reverse = run.links.index(back) if back in run.links else len(run.links)
        used = [(row, e) for row, e in zip(rows, left, strict=True) if row["valid"] and math.isfinite(e)]
        fits += bool(used)
        # The truth has the oscillators' wander in it, a line has not.
        wandered = (0.0, 0.0) if run.has_truth else wander(run, [row for row, _ in used])
        for row, error in used:
            errors.append(float(error))
            trials.add((frozenset((row["receiver"], row["transmitter"])), int(row["round"])))
            # Offsets are antisymmetric: the mean over both directions would hide any bias.
            signed.append(float(error) if run.links.index(link) <= reverse else -float(error))
            if row.get(KEYS[quantity][2]) is not None:
                stds.append(math.hypot(float(row[KEYS[quantity][2]]), wandered[quantity == "cfo"]))
                if stds[-1] > 0:
                    ratios.append(float(error) / stds[-1])
    # A straight line takes two freedoms of each fit; what is left over is scaled up to stay a deviation.
    freedom = len(errors) - (0 if run.has_truth else 2 * fits)
    if freedom <= 0:
        return None
    rmse = math.sqrt(sum(e * e for e in errors) / freedom)
    predicted = math.sqrt(sum(s * s for s in stds) / len(stds)) if stds else None
    lost = len(errors) / freedom
    normalized = math.sqrt(lost * sum(r * r for r in ratios) / len(ratios)) if ratios else None
    independent = max(1, round(len(trials) * freedom / len(errors)))
    bias = sum(signed) / len(signed) if run.has_truth else None
    restarts = quantity == "to" and not run.has_truth and _restarts(run, method)
    return Spread(rmse, bias, predicted, normalized, independent, run.has_truth, restarts)


def _restarts(run: RunData, method: str) -> bool:
    """Whether the counter of any receiver stands no later in a round than in the one before."""
    for link in run.links:
        epochs: list[Row] = [row["epoch"] for row in run.link_rows(link, method) if row.get("epoch") is not None]
        seconds = [epoch_seconds(epoch, epochs[0]) for epoch in epochs if epoch["clock"] == epochs[0]["clock"]]
        if any(after <= before for before, after in pairwise(seconds)):
            return True
    return False


def _method(run: RunData, method: str) -> MethodFigures:
    rows = [row for row in run.rows("links") if row["method"] == method]
    silent = [row for row in rows if not row["valid"] or row.get("to_s") is None]
    reasons = Counter(str(row.get("reason") or "no reason given") for row in silent)
    return MethodFigures(
        method,
        len(rows),
        sum(bool(row["valid"]) for row in rows),
        _spread(run, method, "to"),
        _spread(run, method, "cfo"),
        tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    )


def _rms(values: list[float]) -> float | None:
    """Root mean square of the finite ones of ``values``; None if there are none."""
    values = [value for value in values if math.isfinite(value)]
    return math.sqrt(sum(v * v for v in values) / len(values)) if values else None


def _baseline_s(run: RunData, row: Row) -> float:
    """Delay of the direct path between a row's nodes, from where the scenario places them; NaN where it does not."""
    places = {node.get("name"): node.get("position_m") for node in run.scenario.get("node", [])}
    ends = [places.get(row["receiver"]), places.get(row["transmitter"])]
    if not all(ends):
        return math.nan
    (x, y, z), (u, v, w) = ((*end, 0.0)[:3] for end in ends if end)
    return math.hypot(x - u, y - v, z - w) / LIGHT_SPEED


def _target(run: RunData, name: str, method: str) -> TargetFigures:
    carrier = float(run.scenario.get("waveform", {}).get("carrier_hz") or math.nan)
    truth = {(link_name(t), int(t["round"])): t for t in run.true_targets if t["name"] == name}
    found = [row for row in run.rows("detections") if row.get("target") == name and row["method"] == method]
    ranges: list[float] = []
    velocities: list[float] = []
    for row in found:
        true = truth.get((link_name(row), int(row["round"])))
        if true is None:
            continue
        if row["reference"] in ("absolute", "line-of-sight"):
            origin = 0.0 if row["reference"] == "absolute" else _baseline_s(run, row)
            ranges.append(LIGHT_SPEED * (row["delay_s"] + origin - true["delay_s"]))
        velocities.append(LIGHT_SPEED / carrier * (row["doppler_hz"] - true["doppler_hz"]))
    misses = [
        float(row["error_m"])
        for row in run.rows("positions")
        if row.get("target") == name and row["method"] == method and row["error_m"] is not None
    ]
    present = {round_index for _, round_index in truth}
    moving = any(abs(t["doppler_hz"]) > 1e-6 for t in truth.values()) or not truth
    return TargetFigures(
        name,
        method,
        len(present) or None,
        len({int(row["round"]) for row in found}),
        _rms(ranges),
        _rms(velocities),
        _rms(misses),
        _ellipses(run, name, method),
        moving,
        next((str(row["reference"]) for row in found), ""),
    )


def true_positions(run: RunData, name: str) -> dict[int, FloatArray]:
    """Where a target was in each round at the mean of the links' slots, in the plane."""
    seen: dict[int, list[list[float]]] = {}
    for row in run.true_targets:
        if row["name"] == name and row.get("position_m") is not None:
            seen.setdefault(int(row["round"]), []).append(row["position_m"][:2])
    return {index: np.mean(np.array(places), axis=0) for index, places in sorted(seen.items())}


def _ellipses(run: RunData, name: str, method: str) -> tuple[int, int]:
    truth = true_positions(run, name)
    held = judged = 0
    for row in run.rows("positions"):
        here = truth.get(int(row["round"]))
        if row.get("target") != name or row["method"] != method or here is None or not row.get("covariance_m2"):
            continue
        off = np.array(row["position_m"][:2]) - here
        covariance = np.array(row["covariance_m2"])[:2, :2]
        judged += 1
        held += float(off @ np.linalg.pinv(covariance) @ off) <= ELLIPSE_95
    return held, judged


def _all_targets(run: RunData) -> list[TargetFigures]:
    """Movers first; methods in the experiment's order, and those that detect nothing only if none does."""
    detections = run.rows("detections")
    names = dict.fromkeys(
        [*(str(t["name"]) for t in run.true_targets), *(str(d["target"]) for d in detections if d["target"])]
    )
    detecting = {str(row["method"]) for row in detections}
    methods = [m for m in run.methods if m in detecting] + sorted(detecting - set(run.methods)) or run.methods
    targets = [_target(run, name, method) for name in names for method in methods]
    return sorted(targets, key=lambda target: not target.moving)


def _payload(run: RunData, link: str) -> PayloadFigures:
    rows = [row for row in run.rows("payload") if link_name(row) == link]
    known = [row["bit_errors"] for row in rows if row.get("bit_errors") is not None]
    frames = [row["frames"] for row in rows if row.get("frames") is not None]
    return PayloadFigures(
        link,
        sum(int(row.get("bits") or 0) for row in rows),
        sum(known) if known else None,
        sum(frames) if frames else None,
        sum(int(row.get("frames_lost") or 0) for row in rows),
        mean_power_db([row.get("evm_db") for row in rows]),
    )


def summarize(run: RunData) -> RunSummary:
    """The figures by which ``run`` is judged."""
    unnamed = Counter(str(row["method"]) for row in run.rows("detections") if not row.get("target"))
    rounds = run.rows("rounds")
    timing = run.results.get("timing") or {}
    heard = dict.fromkeys(link_name(row) for row in run.rows("payload"))
    return RunSummary(
        name=run.name,
        methods=tuple(_method(run, method) for method in run.methods),
        all_targets=tuple(_all_targets(run)),
        unnamed=tuple(unnamed.items()),
        payload=tuple(_payload(run, link) for link in heard),
        promises=promise_figures(run),
        rounds=len(rounds) or int(run.scenario.get("experiment", {}).get("rounds") or 0),
        rounds_finished=sum(row["status"] == "complete" for row in rounds),
        samples_lost=sum(int(row["samples"]) for row in run.rows("losses")),
        losses=len(run.rows("losses")),
        events=len(run.rows("events")),
        seconds=sum(timing.values()) if timing else None,
        has_truth=run.has_truth,
    )
