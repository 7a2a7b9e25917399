"""The tests themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import hypot, sqrt

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.oscillator import PowerLaw
from dsp.stability import averaging_factors, predicted_time_deviation, time_deviation, upper_limit
from testbed.antennas import antenna_m
from testbed.results import LinkRow
from testbed.scenario import Scenario
from testbed.schedule import slot_samples
from testbed.verify.verdict import Figure, Subject, Verdict, deviation_ratio, ratio_limit

__all__ = ["StabilityCurve", "cable_step", "closure", "common_clock", "stability", "surveyed_baseline"]

_FEWEST = 3
_SIGMAS = 3.0
_SPACING_TOLERANCE = 1e-3
"""Rounds may come this much, relatively, out of step with each other, and still count as equally spaced."""
_CABLE_TOLERANCE = 0.03
"""Of a cable's velocity factor, and of its connectors."""


class StabilityCurve:
    """Time deviation of one pair over averaging time."""

    def __init__(self, of: str, spacing_s: float, factors: list[int], measured: np.ndarray, predicted: np.ndarray):
        self.of = of
        self.averaging_s = spacing_s * np.asarray(factors, dtype=float)
        self.measured_s = measured
        self.predicted_s = predicted
        self.limit_s = predicted


def common_clock(subject: Subject) -> Verdict:
    """Time and frequency offsets of devices that share a clock are zero, as nearly as the bounds say."""
    name = "common-clock zero"
    shares, stamps = _sharing(subject)
    if not shares:
        return _untested(name, "the nodes do not share a clock, or nothing says so: --common-clock says it")
    figures: list[Figure] = []
    wrong = []
    for (here, there), rows in subject.pairs.items():
        of = f"{here}-{there}"
        found = [("cfo", "Hz", _known([(row.cfo_hz, row.cfo_std_hz) for row in rows]))]
        if stamps:
            found.append(("to", "s", _known([(row.to_s, row.to_std_s) for row in rows])))
        for label, unit, values in found:
            if len(values) >= _FEWEST:
                figures += _about_zero(of, label, unit, values)
                ratio, limit = figures[-2].value, ratio_limit(len(values))
                if ratio > limit:
                    wrong.append(f"{of}: {label} is {ratio:.2f} times what its bound predicts about zero")
    if not figures:
        return _untested(name, f"fewer than {_FEWEST} rounds gave a valid offset")
    text = "; ".join(wrong) or "offsets stand about zero as their bounds predict"
    return Verdict(test=name, status="failed" if wrong else "passed", text=text, figures=figures)


def closure(subject: Subject) -> Verdict:
    """Around a triangle of nodes the offsets, brought to one instant, add up to nothing."""
    name = "closure of triangles"
    names = [node.name for node in subject.run.scenario.node]
    if len(names) < 3:
        return _untested(name, "a triangle takes three nodes")
    carrier_hz = subject.run.scenario.waveform.carrier_hz
    figures, wrong = [], []
    for triangle in combinations(names, 3):
        sums, deviations = [], []
        for index in sorted({row.round for rows in subject.pairs.values() for row in rows}):
            found = _triangle(subject, triangle, index, carrier_hz)
            if found is not None:
                sums.append(found[0])
                deviations.append(found[1])
        if not sums:
            continue
        of = "-".join(triangle)
        ratio, limit = deviation_ratio(sums, deviations), ratio_limit(len(sums))
        rms = float(np.sqrt(np.mean(np.square(sums))))
        figures += [
            Figure(of=of, name="closure_rms", unit="s", value=rms, expected=0.0, count=len(sums)),
            Figure(of=of, name="closure_ratio", unit="1", value=ratio, expected=1.0, limit=limit, count=len(sums)),
        ]
        if ratio > limit:
            wrong.append(f"{of}: misclosed by {ratio:.2f} times what the bounds predict")
    if not figures:
        return _untested(name, "no round has three valid offsets around a triangle")
    text = "; ".join(wrong) or "every triangle closes as its bounds predict"
    return Verdict(test=name, status="failed" if wrong else "passed", text=text, figures=figures)


def surveyed_baseline(subject: Subject) -> Verdict:
    """Two-way ranges, free of all clocks, are the surveyed distances."""
    name = "two-way range against survey"
    if not subject.run.scenario.scene.line_of_sight:
        return _untested(name, "the scene has no line of sight")
    figures, wrong = [], []
    for (here, there), rows in subject.pairs.items():
        known = _known([(row.baseline_m, row.baseline_std_m) for row in rows])
        if len(known) < _FEWEST:
            continue
        surveyed, count = _distance_m(subject.run.scenario, here, there), len(known)
        values = np.array([value for value, _ in known])
        error = max(float(values.std(ddof=1)), float(np.median([std for _, std in known]))) / sqrt(count)
        limit = _SIGMAS * hypot(error, subject.options.survey_std_m)
        mean = float(values.mean())
        found = Figure(
            of=f"{here}-{there}",
            name="two_way_range",
            unit="m",
            value=mean,
            expected=surveyed,
            limit=limit,
            standard_error=error,
            count=count,
        )
        figures.append(found)
        if abs(mean - surveyed) > limit:
            wrong.append(
                f"{found.of}: {100 * (mean - surveyed):+.1f} cm from the survey, {100 * limit:.1f} are allowed"
            )
    if not figures:
        return _untested(name, f"fewer than {_FEWEST} rounds gave a two-way range")
    text = "; ".join(wrong) or "two-way ranges are the surveyed distances"
    return Verdict(test=name, status="failed" if wrong else "passed", text=text, figures=figures)


def cable_step(subjects: Sequence[Subject]) -> Verdict:
    """A longer cable between the nodes lengthens the two-way range by its electrical length, 5 ns a metre."""
    name = "cable-length step"
    options = subjects[0].options
    if options.cable_step_m is None or len(subjects) != 2:
        return _untested(name, "give two runs that differ by a cable, and its length with --cable-step-m")
    expected = options.cable_step_m / options.velocity_factor
    figures, wrong = [], []
    first, second = subjects
    for pair in first.pairs.keys() & second.pairs.keys():
        means, variance = [], 0.0
        for subject in (first, second):
            values = [row.baseline_m for row in subject.pairs[pair] if row.baseline_m is not None]
            if len(values) < _FEWEST:
                break
            means.append(float(np.mean(values)))
            variance += float(np.var(values, ddof=1)) / len(values)
        if len(means) < 2:
            continue
        step, of = means[1] - means[0], "-".join(pair)
        limit = _SIGMAS * sqrt(variance) + _CABLE_TOLERANCE * abs(expected)
        figures += [
            Figure(
                of=of, name="range_step", unit="m", value=step, expected=expected, limit=limit,
                standard_error=sqrt(variance),
            ),
            Figure(of=of, name="delay_step", unit="s", value=step / SPEED_OF_LIGHT_MPS,
                   expected=expected / SPEED_OF_LIGHT_MPS),
        ]  # fmt: skip
        if abs(step - expected) > limit:
            nanoseconds = 1e9 / SPEED_OF_LIGHT_MPS
            wrong.append(
                f"{of}: the step is {step * nanoseconds:.2f} ns, {expected * nanoseconds:.2f} ns "
                f"± {limit * nanoseconds:.2f} are right"
            )
    if not figures:
        return _untested(name, "no pair has two-way ranges in both runs")
    text = "; ".join(wrong) or "the range follows the cable"
    return Verdict(test=name, status="failed" if wrong else "passed", text=text, figures=figures)


def stability(subject: Subject) -> tuple[Verdict, list[StabilityCurve]]:
    """Time deviation over averaging time is what the bounds and the oscillators predict, at most."""
    name = "time deviation"
    scenario = subject.run.scenario
    laws = {node.name: node.clock.power_law for node in scenario.node}
    slot_s = slot_samples(scenario) / scenario.waveform.sample_rate_hz
    figures, wrong, curves, reasons = [], [], [], []
    for (here, there), rows in subject.pairs.items():
        series = _equally_spaced(rows)
        if isinstance(series, str):
            reasons.append(f"{here}-{there}: {series}")
            continue
        spacing_s, offsets = series
        factors = averaging_factors(len(offsets))
        measured = time_deviation(offsets, factors)
        noise_s = float(np.sqrt(np.mean([float(row.to_std_s or 0.0) ** 2 for row in rows])))
        predicted = predicted_time_deviation(
            [_power_law(laws[node]) for node in (here, there)], factors,
            spacing_s=spacing_s, averaging_s=slot_s, noise_s=noise_s,
        )  # fmt: skip
        curve = StabilityCurve(f"{here}-{there}", spacing_s, factors, measured, predicted)
        curve.limit_s = 1.3 * predicted * upper_limit(len(offsets), factors)
        curves.append(curve)
        for averaging_s, value, known, limit in zip(curve.averaging_s, measured, predicted, curve.limit_s, strict=True):
            found = Figure(
                of=curve.of,
                name=f"tdev_{averaging_s:.4g}s",
                unit="s",
                value=float(value),
                expected=float(known),
                limit=float(limit),
                count=len(offsets),
            )
            figures.append(found)
            if value > limit:
                wrong.append(f"{curve.of}: {1e12 * value:.1f} ps over {averaging_s:.3g} s, {1e12 * limit:.1f} allowed")
    if not figures:
        return _untested(name, "; ".join(reasons) or "no pair has valid offsets"), []
    text = "; ".join(wrong) or "no averaging time shows more than bounds and oscillators predict"
    return Verdict(test=name, status="failed" if wrong else "passed", text=text, figures=figures), curves


def _known(values: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    """Values that are there, with the deviations stated of them."""
    return [(value, std) for value, std in values if value is not None and std]


def _about_zero(of: str, label: str, unit: str, values: Sequence[tuple[float, float]]) -> list[Figure]:
    """Ratio of the values to what was predicted of them about zero, and their mean."""
    count = len(values)
    plain = np.array([value for value, _ in values])
    ratio = deviation_ratio([value for value, _ in values], [std for _, std in values])
    limit, error = ratio_limit(count), float(plain.std(ddof=1)) / sqrt(count)
    return [
        Figure(of=of, name=f"{label}_ratio", unit="1", value=ratio, expected=1.0, limit=limit, count=count),
        Figure(
            of=of,
            name=f"{label}_mean",
            unit=unit,
            value=float(plain.mean()),
            expected=0.0,
            standard_error=error,
            count=count,
        ),
    ]


def _untested(name: str, reason: str) -> Verdict:
    return Verdict(test=name, status="not tested", text=reason)


def _sharing(subject: Subject) -> tuple[bool, bool]:
    """Whether the nodes share a clock, and whether their counters agree besides."""
    scenario = subject.run.scenario
    if subject.options.common_clock:
        stamped = all(node.front_end.time_stamps for node in scenario.node if node.radio == "simulated")
        usrps = all(
            node.usrp is not None and node.usrp.time_source not in ("none", "internal")
            for node in scenario.node
            if node.radio == "usrp"
        )
        return True, stamped and usrps and all(node.radio != "pluto" for node in scenario.node)
    simulated = all(node.radio == "simulated" for node in scenario.node)
    if simulated:
        clocks = {(node.clock.offset_ppm, node.clock.offset_s, node.clock.profile) for node in scenario.node}
        alike = len(clocks) == 1 and next(iter(clocks))[2] == "ideal"
        return alike, alike and all(node.front_end.time_stamps for node in scenario.node)
    driven = all(
        node.usrp is not None and node.usrp.clock_source == "external" for node in scenario.node if node.radio == "usrp"
    ) and all(node.radio == "usrp" for node in scenario.node)
    timed = driven and all(node.usrp is not None and node.usrp.time_source == "external" for node in scenario.node)
    return driven, timed


def _triangle(subject: Subject, triangle: tuple[str, ...], index: int, carrier_hz: float) -> tuple[float, float] | None:
    """Sum of the offsets around a triangle in one round and its deviation, at the epoch of the first pair.

    Each epoch is read on its receiver's clock. Pairs share clocks, so that any of them is brought to another's epoch
    over the clock that both have: a reading of that clock, carried by the pair's own frequency offset.
    """
    a, b, c = triangle
    rows = []
    for pair in ((a, b), (a, c), (b, c)):
        row = next((one for one in subject.pairs.get(pair, ()) if one.round == index), None)
        if row is None or row.epoch is None or row.cfo_hz is None:
            return None
        rows.append(row)
    ab, ac, bc = rows
    assert ab.epoch is not None
    assert ac.epoch is not None
    assert bc.epoch is not None
    assert ab.to_s is not None
    at_a = ab.epoch.moment()
    # b reads s_b = s_a - TO(a,b) at the epoch of the first pair.
    ticks = at_a.seconds_since(ac.epoch.moment())
    carried_ac = _carried(ac, ticks, carrier_hz)
    moment = bc.epoch.moment()
    reading_b_s = (at_a.tick + at_a.fraction) / float(at_a.rate_hz) - ab.to_s
    apart = reading_b_s - (moment.tick + moment.fraction) / float(moment.rate_hz)
    carried_bc = _carried(bc, apart, carrier_hz)
    deviation = sqrt(float(ab.to_std_s or 0.0) ** 2 + carried_ac[1] ** 2 + carried_bc[1] ** 2)
    return ab.to_s + carried_bc[0] - carried_ac[0], deviation


def _carried(row: LinkRow, seconds: float, carrier_hz: float) -> tuple[float, float]:
    """Offset of a row ``seconds`` of the receiver's clock after its epoch, and its deviation.

    The frequency offset counts by the mean of the two clocks: per second of the receiver's, which gains half of it on
    that mean, the time offset grows by d/(1 + d/2). At 10 ppm over 50 ms that is 5 ps.
    """
    assert row.to_s is not None
    assert row.cfo_hz is not None
    growth = -row.cfo_hz / carrier_hz
    deviation = float(row.cfo_std_hz or 0.0) / carrier_hz * seconds
    return row.to_s + growth / (1.0 + 0.5 * growth) * seconds, hypot(float(row.to_std_s or 0.0), deviation)


def _distance_m(scenario: Scenario, here: str, there: str) -> float:
    one, other = (scenario.node[scenario.index(name)] for name in (here, there))
    lengths = [
        float(np.linalg.norm(antenna_m(source, transmits=True) - antenna_m(sink, transmits=False)))
        for source, sink in ((one, other), (other, one))
    ]
    return 0.5 * sum(lengths)


def _equally_spaced(rows: Sequence[LinkRow]) -> tuple[float, np.ndarray] | str:
    """Spacing and offsets of consecutive rounds, or why they are no series."""
    known = [row for row in rows if row.epoch is not None]
    if len(known) < 8:
        return f"{len(known)} rounds are too few for a time deviation: eight at least"
    moments = [row.epoch.moment() for row in known if row.epoch is not None]
    steps = np.array([after.seconds_since(before) for before, after in pairwise(moments)])
    if (steps <= 0).any():
        return "the device's counter starts anew with each round, so that offsets of different rounds do not compare"
    if any(after.round != before.round + 1 for before, after in pairwise(known)):
        return "rounds are missing between valid ones"
    spacing_s = float(np.median(steps))
    # Offsets drift between the epochs; where these are not quite equally spaced, each is carried to its place.
    late = np.array([moment.seconds_since(moments[0]) for moment in moments]) - spacing_s * np.arange(len(moments))
    offsets = np.array([float(row.to_s or 0.0) for row in known])
    slope = np.polyfit(spacing_s * np.arange(len(known)) + late, offsets, 1)[0]
    if np.abs(late).max() > 0.5 * spacing_s:
        return "rounds do not come in equal steps"
    return spacing_s, offsets - slope * late


def _power_law(law: object) -> PowerLaw:
    names = ("random_walk_fm", "flicker_fm", "white_fm", "flicker_pm", "white_pm")
    return PowerLaw(*(float(getattr(law, name)) for name in names))
