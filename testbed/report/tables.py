"""The report's tables: rows of finished text, so that the template only lays them out."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from testbed.report.run_data import Row, RunData
from testbed.report.style import LIGHT_SPEED, metres, quantity
from testbed.report.summary import RunSummary, Spread
from testbed.report.verdict import error_rate_text

__all__ = [
    "Table",
    "brief",
    "clocks",
    "environment",
    "events",
    "losses",
    "methods",
    "nodes",
    "payload",
    "promises",
    "remarks",
    "targets",
]

_MOST_ROWS = 40
_REFERENCES = {
    "absolute": "absolute",
    "line-of-sight": "beyond the line of sight",
    "static-path": "beyond a static path",
    "none": "Doppler alone",
}
"""What a detection's ``reference`` says, in words."""


@dataclass(frozen=True)
class Table:
    """Cells of text; numbers are set to the right from column ``figures_from`` on."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures_from: int = 1
    note: str = ""
    """A sentence below the table."""


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _db(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} dB".replace("-", "−")


def _vector(values: Any) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values).replace("-", "−") + ")"


def _spread_cells(spread: Spread | None, base: str) -> tuple[str, ...]:
    if spread is None or spread.restarts:
        return ("–",) * 4
    single = "–" if spread.normalized is None else f"{spread.normalized:.2f}"
    return quantity(spread.rmse, base), quantity(spread.predicted, base), single, quantity(spread.bias, base)


def remarks(summary: RunSummary) -> Table:
    """Why estimates are invalid or methods give no offset, in the methods' own words."""
    rows = [
        (method.method, f"{count} of {method.rows}", reason)
        for method in summary.methods
        for reason, count in method.reasons
    ]
    more = len(rows) - _MOST_ROWS
    note = f"{more} rarer reasons are in results.json." if more > 0 else ""
    return Table(
        ("Method", "Estimates", "Why invalid, or why it gives no clock offset"), tuple(rows[:_MOST_ROWS]), 3, note
    )


def methods(summary: RunSummary) -> Table:
    """Every method's time and frequency offset against its prediction."""
    head = ("Method", "Valid", "TO RMSE", "predicted", "error/σ", "bias", "CFO RMSE", "predicted", "error/σ", "bias")
    rows = tuple(
        (
            m.method,
            f"{m.valid}/{m.rows}",
            *(_spread_cells(m.to, "s") if m.gives_offsets else ("–",) * 4),
            *(_spread_cells(m.cfo, "Hz") if m.gives_offsets else ("–",) * 4),
        )
        for m in summary.methods
    )
    against = "the true clocks" if summary.has_truth else "a straight line over the rounds, fitted per link"
    note = (
        f"Errors against {against}, over valid estimates of all links. Error/σ is the RMS of each error over its own "
        "predicted deviation, which is one where deviations are honest; the bias is that of each pair's first "
        "direction, since the two are opposite."
    )
    if any(m.to is not None and m.to.restarts for m in summary.methods):
        note += " Counters start anew with each round, so that time offsets of different rounds do not compare."
    return Table(head, rows, note=note)


def targets(run: RunData, summary: RunSummary) -> Table:
    """Every target that was sought: how often found, and how far off."""
    removed = bool(run.scenario.get("sensing", {}).get("remove_clutter", True))
    sought = [t for t in summary.all_targets if t.moving or t.found or not removed]
    rows = tuple(
        (
            t.name,
            t.method,
            _REFERENCES.get(t.reference, "–"),
            f"{t.found}" if t.rounds is None else f"{t.found} of {t.rounds}",
            metres(t.range_rmse_m),
            "–" if t.velocity_rmse_mps is None else metres(t.velocity_rmse_mps) + "/s",
            metres(t.position_rmse_m),
            f"{t.ellipses[0]} of {t.ellipses[1]}" if t.ellipses[1] else "–",
        )
        for t in sought
    )
    head = (
        "Target",
        "Method",
        "Delays",
        "Rounds found",
        "Bistatic range RMSE",
        "Bistatic velocity RMSE",
        "Position RMSE",
        "In 95 % ellipse",
    )
    stray = summary.unnamed_detections
    if run.true_targets and summary.sensing_method:
        which = f"{stray} of the detections" if stray else "Every detection"
        note = f"{which} by {summary.sensing_method} {'match no' if stray else 'matches a'} known target."
    else:
        note = "What was there is not known."
    if len(sought) < len(summary.all_targets):
        note += " Reflectors that stand were removed with the static clutter and are not sought."
    return Table(head, rows, figures_from=3, note=note)


def payload(summary: RunSummary) -> Table:
    """Payload of every link and of all together."""
    total = summary.payload_total
    listed = [*summary.payload, total] if total and len(summary.payload) > 1 else list(summary.payload)
    rows = tuple(
        (
            p.link,
            _count(p.bits),
            "–" if p.bit_errors is None else _count(p.bit_errors),
            error_rate_text(p),
            _db(p.evm_db),
            f"{p.frames_lost}" + ("" if p.frames is None else f" of {p.frames}"),
        )
        for p in listed
    )
    head = ("Link", "Bits", "Bit errors", "Bit error rate", "EVM", "Frames lost")
    note = "Where no bit was wrong, the bound in brackets holds with 95 % confidence. EVM is averaged as power."
    return Table(head, rows, note=note)


def promises(summary: RunSummary) -> Table:
    """What precoders promised beside what the joint slots showed."""
    rows = tuple(
        (
            p.title,
            p.told(p.promised),
            p.told(p.expected),
            p.measured_text,
            "–" if p.ratio is None else f"{p.ratio:.2f}",
            "–" if p.stated is None else quantity(p.stated, "m"),
            "–" if p.bound is None else quantity(p.bound, "m"),
            "–" if p.bound_ratio is None else f"{p.bound_ratio:.2f}",
            f"{p.trials} of {p.rounds}",
            p.reason or "–",
        )
        for p in summary.promises
    )
    head = (
        *("", "Promised", "With the offsets left", "Measured", "Measured over promised", "Stated by the likelihood"),
        *("Bound", "Measured over bound", "Rounds", "Where not"),
    )
    note = (
        "SINR by what a channel fitted to the known symbols explains and leaves, mean of the rounds; position error as "
        "root mean square. The promise knows thermal noise and free space alone: phase noise, reflections at users and "
        "overlap of echoes with the direct paths are not in it. The bound, of the signals "
        "sent, counts that overlap and the phase noise. Where stations take their offsets off what they send, the SINR "
        "with what was left of them, as each round's own slots show it, stands beside the promise."
    )
    return Table(head, rows, note=note if rows else "")


def losses(run: RunData) -> Table:
    """Samples lost, per node."""
    samples: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    where: dict[str, list[int]] = {}
    for row in run.rows("losses"):
        samples[row["node"]] += int(row["samples"])
        gaps[row["node"]] += 1
        where.setdefault(row["node"], []).append(int(row["round"]))
    rows = tuple((node, _count(gaps[node]), _count(samples[node]), _rounds(where[node])) for node in sorted(samples))
    return Table(("Node", "Gaps", "Samples lost", "Rounds"), rows)


def _rounds(values: list[int]) -> str:
    unique = sorted(set(values))
    return ", ".join(map(str, unique[:12])) + (" …" if len(unique) > 12 else "")


def events(run: RunData) -> Table:
    """What went otherwise than planned, and rounds that are not complete."""
    rows = [
        ("–" if e.get("round") is None else str(e["round"]), e.get("node") or "–", e["code"], e["text"])
        for e in run.rows("events")
    ]
    rows += [
        (str(r["round"]), "–", f"round {r['status']}", r.get("reason") or "no reason given")
        for r in run.rows("rounds")
        if r["status"] != "complete"
    ]
    more = len(rows) - _MOST_ROWS
    note = f"{more} more are in results.json." if more > 0 else ""
    return Table(("Round", "Node", "What", "In words"), tuple(rows[:_MOST_ROWS]), figures_from=4, note=note)


def clocks(run: RunData) -> Table:
    """Each node's clock in the last round for which the offsets were closed over the pairs."""
    rows = [row for row in run.rows("nodes") if row.get("offset_s") is not None]
    head = ("Node", "Reads beyond the reference", "Gains", "Deviation")
    if not rows:
        return Table(head, ())
    last = max(int(row["round"]) for row in rows)
    rows = [row for row in rows if int(row["round"]) == last]
    body = tuple(
        (_told(row), _offset(row["offset_s"]), _drift(row.get("drift")), quantity(_deviation(row), "s")) for row in rows
    )
    return Table(head, body, note=f"Round {last}, against the clock of {rows[0]['reference']}.")


def _told(row: Row) -> str:
    return f"{row['node']} (predicted)" if row.get("source") == "predicted" else str(row["node"])


def _offset(seconds: float) -> str:
    return "0 s (reference)" if seconds == 0 else f"{seconds:+.12f} s".replace("-", "−")


def _drift(drift: float | None) -> str:
    if drift == 0:
        return "0 µs/s"
    return "–" if drift is None else f"{1e6 * drift:+.6f} µs/s".replace("-", "−")


def _deviation(row: Row) -> float | None:
    covariance = row.get("covariance")
    return math.sqrt(max(covariance[0][0], 0.0)) if covariance else None


def nodes(run: RunData) -> Table:
    """Who took part."""
    rows = []
    for node in run.scenario.get("node", []):
        clock = node.get("clock", {})
        profile = clock.get("profile", "")
        oscillator = profile if isinstance(profile, str) else "own spectrum"
        if node.get("radio", "simulated") != "simulated":
            oscillator = "the device's"
        elif clock.get("offset_ppm") is not None:
            oscillator += f" {clock['offset_ppm']:+g} ppm".replace("-", "−")
        rows.append(
            (
                str(node.get("name")),
                str(node.get("radio", "simulated")),
                oscillator,
                f"{node.get('antennas', 1)}, {node.get('port', 'shared')} port",
                _vector(node.get("position_m", ())) + " m",
                f"{node.get('heading_deg', 0.0):g}°".replace("-", "−"),
            )
        )
    return Table(("Node", "Radio", "Oscillator", "Antennas", "Position", "Heading"), tuple(rows), figures_from=4)


def brief(run: RunData) -> Table:
    """The experiment in a dozen lines, with the resolutions that follow from it."""
    scenario = run.scenario
    experiment, waveform = scenario.get("experiment", {}), scenario.get("waveform", {})
    slot, sensing, scene = scenario.get("round", {}), scenario.get("sensing", {}), scenario.get("scene", {})
    rows: list[tuple[str, str]] = []
    if experiment:
        rounds = _plural(experiment.get("rounds", 1), "round")
        rows.append(("Experiment", f"{experiment.get('name')}, {rounds}, seed {experiment.get('seed', 0)}"))
    if {"carrier_hz", "sample_rate_hz", "fft_size", "active_subcarriers"} <= waveform.keys():
        rows += _waveform(waveform, slot)
    if slot:
        rows.append(
            ("Duplex", f"{slot.get('duplex', 'half')}, {_plural(slot.get('frames_per_slot', 1), 'frame')} a slot")
        )
    if sensing:
        removed = "removed" if sensing.get("remove_clutter", True) else "left in"
        rows.append(
            ("Sensing", f"false-alarm rate {sensing.get('false_alarm_rate'):g} a cell, static clutter {removed}")
        )
    if scene:
        rows.append(("Scene", _scene(scene)))
    return Table(("", ""), tuple(rows), figures_from=2)


def _waveform(waveform: Row, slot: Row) -> list[tuple[str, str]]:
    rate, carrier = float(waveform["sample_rate_hz"]), float(waveform["carrier_hz"])
    spacing = rate / int(waveform["fft_size"])
    band = int(waveform["active_subcarriers"]) * spacing
    frames, period = int(slot.get("frames_per_slot", 1)), float(slot.get("frame_period_s", 0.0))
    symbols = int(waveform.get("symbols", 1))
    prefix_s = int(waveform.get("cp_samples", 0)) / rate
    modulation = str(waveform.get("modulation", "qpsk")).upper()
    rows = [
        (
            "Waveform",
            f"{quantity(carrier, 'Hz', digits=4)}, {quantity(rate, 'Hz')} sampled, {waveform['active_subcarriers']} of "
            f"{waveform['fft_size']} subcarriers = {quantity(band, 'Hz')} occupied, {symbols} symbols "
            f"{modulation}, prefix {quantity(prefix_s, 's')}",
        ),
        ("Range cell", f"{LIGHT_SPEED / band:.2f} m of bistatic range"),
    ]
    interval = (
        frames * period
        if frames > 1
        else symbols * (1 + waveform.get("cp_samples", 0) / waveform["fft_size"]) / spacing
    )
    if interval > 0:
        cell = LIGHT_SPEED / carrier / interval
        rows.append(("Velocity cell", f"{cell:.2f} m/s over a coherent interval of {quantity(interval, 's')}"))
    return rows


def _scene(scene: Row) -> str:
    reflectors = scene.get("reflector") or []
    moving = [r for r in reflectors if any(r.get("velocity_mps") or ())]
    parts = [f"reflectors: {len(reflectors) - len(moving)} standing, {len(moving)} moving"]
    parts += [
        f"{r.get('name') or 'a mover'} at {math.hypot(*r['velocity_mps']):.1f} m/s with {r.get('rcs_m2', 1.0):g} m²"
        for r in moving[:4]
    ]
    parts.append("line of sight" if scene.get("line_of_sight", True) else "no line of sight")
    if scene.get("snr_db") is not None:
        parts.append(f"{scene['snr_db']:g} dB a resource element".replace("-", "−"))
    if isinstance(scene.get("leakage_db"), int | float):
        parts.append(f"own leakage {scene['leakage_db']:+g} dB".replace("-", "−"))
    return ", ".join(parts)


def environment(run: RunData) -> Table:
    """Versions, machine and seed, as the results state them."""
    rows = []
    for key, value in (run.results.get("environment") or {}).items():
        if isinstance(value, dict):
            text = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, str):
            text = value
        else:
            text = json.dumps(value, ensure_ascii=False)
        rows.append((str(key).replace("_", " "), text))
    return Table(("", ""), tuple(rows), figures_from=2)
