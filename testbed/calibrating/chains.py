"""Delays of the chains: latency over stream starts and its fraction, and what two-way exchanges leave of them.

A node hears itself a whole number of samples after it commands a frame, and a fraction; the number is the stream's
whim, the fraction belongs to the device. Two nodes exchange frames over a path of known length, while their clocks
are known to agree, or the simulation says by how much they do not: what the two-way time offset then shows is the
difference of their asymmetries, what the half-sum of both directions shows beyond the path is the sum of what both
add to it (docs/methods/reciprocity.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState
from dsp.departure import leakage_arrival
from testbed.antennas import antenna_m
from testbed.capture import Capture
from testbed.results import LinkRow
from testbed.scenario import Scenario
from testbed.schedule import slot_offset_samples

__all__ = ["Exchange", "StartLatency", "chain_constants", "exchanges", "mean_fraction", "start_latency"]


@dataclass(frozen=True)
class StartLatency:
    """From a node's commanded departure to its arrival over the leakage, in samples, in one stream."""

    samples: float
    std: float


@dataclass(frozen=True)
class Exchange:
    """What a pair's two-way exchanges show of their chains; node first, node second."""

    first: str
    second: str
    asymmetry_s: float | None
    """Asymmetry of the first less that of the second; None where nothing tells the clocks' true offset."""
    asymmetry_std_s: float
    common_s: float
    """What both add to twice the half-sum."""
    common_std_s: float
    rounds: int


@dataclass(frozen=True)
class NodeConstants:
    """Estimate for one node, with its deviation."""

    value_s: float
    std_s: float


def start_latency(scenario: Scenario, node: str, capture: Capture, own: ChannelState) -> StartLatency:
    """Latency of the stream that ``capture`` belongs to, by the node's own frames; its echoes are fitted with it."""
    arrival = leakage_arrival(own)
    rate_hz = float(capture.rate_hz)
    commanded = capture.stretches[0].first_tick + slot_offset_samples(scenario, scenario.index(node))
    return StartLatency(arrival.moment.tick - commanded + arrival.moment.fraction, arrival.std_s * rate_hz)


def mean_fraction(latencies: Sequence[StartLatency]) -> tuple[float, float]:
    """Fraction of a sample, 0 to 1, that all starts share, and its standard error; fractions live on a circle.

    What each start states beyond the scatter between them, an image or an echo that could not be resolved, is the same
    in all, and no number of starts makes it less.
    """
    parts = np.array([one.samples for one in latencies])
    centre = float(np.angle(np.mean(np.exp(2j * np.pi * parts)))) / (2 * np.pi)
    apart = (parts - centre + 0.5) % 1.0 - 0.5
    count = len(parts)
    scatter = float(apart.std(ddof=1)) if count > 1 else 0.0
    stated = float(np.sqrt(np.mean([one.std**2 for one in latencies])))
    shared = 0.0
    if count == 1 or stated**2 > scatter**2 * (1.0 + 3.0 * np.sqrt(2.0 / (count - 1))):
        shared = np.sqrt(max(stated**2 - scatter**2, 0.0))
    noise = max(scatter, stated if not shared else 0.0) / np.sqrt(count)
    return float((centre + apart.mean()) % 1.0), float(np.hypot(noise, shared))


def exchanges(
    scenario: Scenario,
    rows: Sequence[LinkRow],
    *,
    reference: str,
    path_s: float | None = None,
    wrap_s: float | None = None,
) -> list[Exchange]:
    """What each pair shows, mean over its valid rounds; the rows must come from a pipeline without chain constants.

    Parameters
    ----------
    reference : str
        "simulated truth": the offset's error is what counts; "common clock": the offset itself; "none".
    path_s : float, optional
        Delay of the cable between any two nodes; the geometry's line of sight if not given.
    wrap_s : float, optional
        Sample period, where counters that share a clock may begin a whole number of samples apart: what they do is
        taken off, and the constant lies within half a sample.
    """
    found = []
    for first, second in combinations([node.name for node in scenario.node], 2):
        both = [row for row in rows if {row.receiver, row.transmitter} == {first, second} and row.valid]
        forward = [row for row in both if row.receiver == first]
        offsets = [(row.to_error_s if reference == "simulated truth" else row.to_s) for row in forward]
        known = np.array([value for value in offsets if value is not None])
        if wrap_s is not None and known.size:
            centre = np.angle(np.mean(np.exp(2j * np.pi * known / wrap_s))) / (2 * np.pi) * wrap_s
            known = (known - centre + wrap_s / 2) % wrap_s - wrap_s / 2 + centre
        ranges = np.array([row.baseline_m for row in forward if row.baseline_m is not None])
        if not ranges.size:
            continue
        path_m = _sight_m(scenario, first, second) if path_s is None else path_s * SPEED_OF_LIGHT_MPS
        extra = 2.0 * (ranges - path_m) / SPEED_OF_LIGHT_MPS
        compared = reference != "none" and known.size > 0
        found.append(
            Exchange(
                first=first,
                second=second,
                asymmetry_s=float(known.mean()) if compared else None,
                asymmetry_std_s=_standard_error(known, forward) if compared else float("inf"),
                common_s=float(extra.mean()),
                common_std_s=float(extra.std(ddof=1) / np.sqrt(extra.size)) if extra.size > 1 else float("inf"),
                rounds=len(forward),
            )
        )
    return found


def chain_constants(
    names: Sequence[str], found: Sequence[Exchange]
) -> tuple[Mapping[str, NodeConstants], Mapping[str, NodeConstants]]:
    """Asymmetry and common delay of each node, least squares over all pairs.

    The first node's asymmetry counts as zero. Two nodes cannot tell how their common delay is shared, and share it
    evenly, which is what every exchange between them needs.
    """
    pairs = [one for one in found if one.asymmetry_s is not None]
    asymmetry = _solved(
        names, [(one.first, one.second, one.asymmetry_s or 0.0, one.asymmetry_std_s) for one in pairs], sign=-1.0
    )
    common = _solved(names, [(one.first, one.second, one.common_s, one.common_std_s) for one in found], sign=1.0)
    return asymmetry, common


def _solved(
    names: Sequence[str], pairs: Sequence[tuple[str, str, float, float]], *, sign: float
) -> dict[str, NodeConstants]:
    """Values of the nodes whose differences (sign -1) or sums (+1) were measured, those of least norm that fit."""
    if not pairs:
        return {}
    design = np.zeros((len(pairs), len(names)))
    for row, (first, second, _, _) in enumerate(pairs):
        design[row, names.index(first)] = 1.0
        design[row, names.index(second)] = sign
    deviation = np.array([std if np.isfinite(std) and std > 0 else 1.0 for *_, std in pairs])
    inverse = np.linalg.pinv(design / deviation[:, None])
    values = inverse @ (np.array([value for _, _, value, _ in pairs]) / deviation)
    covariance = inverse @ inverse.T
    touched = np.abs(design).sum(axis=0) > 0
    if sign < 0:
        # The first node is the reference: its value is zero, and certain.
        gauge = np.eye(len(names))
        gauge[:, 0] -= 1.0
        values, covariance = gauge @ values, gauge @ covariance @ gauge.T
    return {
        name: NodeConstants(float(values[i]), float(np.sqrt(max(covariance[i, i], 0.0))))
        for i, name in enumerate(names)
        if touched[i]
    }


def _standard_error(values: np.ndarray, rows: Sequence[LinkRow]) -> float:
    """Of the mean: from the scatter over rounds, no less than the bound predicts."""
    predicted = [row.to_std_s for row in rows if row.to_std_s is not None]
    scatter = float(values.std(ddof=1)) if values.size > 1 else 0.0
    stated = float(np.sqrt(np.mean(np.square(predicted)))) if predicted else 0.0
    return max(scatter, stated) / float(np.sqrt(values.size))


def _sight_m(scenario: Scenario, first: str, second: str) -> float:
    """Mean length of the line of sight in both directions."""
    one, other = (scenario.node[scenario.index(name)] for name in (first, second))
    there = np.linalg.norm(antenna_m(other, transmits=True) - antenna_m(one, transmits=False))
    back = np.linalg.norm(antenna_m(one, transmits=True) - antenna_m(other, transmits=False))
    return 0.5 * float(there + back)
