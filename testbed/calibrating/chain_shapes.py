"""Shapes of the chains over frequency: what two-way exchanges show of receive over transmit chain of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.synchronization.base import Observation
from dsp.synchronization.chain_response import RATIO_ORDER, ChainRatio, ChainResponse, measured_ratio
from testbed.calibration_records import ChainShape

__all__ = ["chain_shapes"]


def chain_shapes(
    names: Sequence[str], rounds: Sequence[Mapping[tuple[str, str], ChannelState]]
) -> dict[str, ChainShape]:
    """Shape of every node that exchanged frames both ways, against the first node, mean over rounds.

    ``rounds`` hold the CSI of each round by receiver and transmitter. Least squares over all pairs; a node that no
    chain of exchanges joins to the first has none.
    """
    ratios: dict[tuple[str, str], list[ChainRatio]] = {}
    for states in rounds:
        for one, other in combinations(names, 2):
            if (one, other) in states and (other, one) in states:
                both = Observation(states[one, other], None, states[other, one], None)
                try:
                    ratio = measured_ratio(both)
                except ValueError:  # too weak in one direction to be compared, in this round
                    continue
                ratios.setdefault((one, other), []).append(ratio)
    if not ratios:
        return {}
    edge_hz = max(ratio.edge_hz for found in ratios.values() for ratio in found)
    joined = _joined(names, list(ratios))
    design = np.array([[float(name == one) - float(name == other) for name in joined] for one, other in ratios])
    means, deviations = zip(*(_mean(found) for found in ratios.values()), strict=True)
    # The first node is the reference: its column is left out, its shape is none.
    inverse = np.linalg.pinv(design[:, 1:])
    series = np.concatenate([np.zeros((1, RATIO_ORDER)), inverse @ np.array(means)])
    std = np.concatenate([np.zeros((1, RATIO_ORDER)), np.sqrt(inverse**2 @ np.square(deviations))])
    return {
        name: ChainShape.of(
            ChainResponse(edge_hz, tuple(map(float, own.real)), tuple(map(float, own.imag))), std=_over_band(spread)
        )
        for name, own, spread in zip(joined, series, std, strict=True)
    }


def _joined(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The first node, and whom exchanges join to it."""
    joined = {names[0]}
    while more := {name for pair in pairs if joined & set(pair) for name in pair} - joined:
        joined |= more
    return [name for name in names if name in joined]


def _mean(found: Sequence[ChainRatio]) -> tuple[ComplexArray, FloatArray]:
    """Mean series and its deviation: of what the fits state, or of the scatter over rounds if that is more."""
    series = np.array([ratio.series for ratio in found])
    stated = np.sqrt(np.mean([ratio.std**2 for ratio in found], axis=0))
    scatter = np.sqrt(0.5 * np.var(series, axis=0, ddof=1)) if len(found) > 1 else np.zeros(RATIO_ORDER)
    return series.mean(axis=0), np.maximum(stated, scatter) / np.sqrt(len(found))


def _over_band(std: FloatArray) -> float:
    """Root mean square over the band of a Legendre series whose coefficients have these deviations."""
    return float(np.sqrt(np.sum(std**2 / (2.0 * np.arange(1, RATIO_ORDER + 1) + 1.0))))
