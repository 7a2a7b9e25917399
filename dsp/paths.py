"""Earliest path of a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ChannelState
from dsp.departure import _mean_channel, _Paths

__all__ = ["FirstPath", "first_path"]


@dataclass(frozen=True)
class FirstPath:
    """Earliest path of a slot's mean channel."""

    delay_s: float
    """Residual, against the CSI's reference."""
    std_s: float


def first_path(csi: ChannelState) -> FirstPath:
    weights = csi.weights.sum(axis=0)
    known = weights > 0.0
    channel = _mean_channel(csi)[known] / weights[known]
    fit = _Paths(csi.subcarrier_hz[known], channel, weights[known] / weights[known].mean())
    best = fit.refined(np.array([fit.strongest_delay()]))
    index = int(np.argmax(np.abs(best.amplitudes)))
    return FirstPath(float(best.delays_s[index]), float(best.delay_std_s[index]))
