"""Earliest path of a channel: the length of the direct way, where there is one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ChannelState, ComplexArray
from dsp.path_sum import PathFit, PathSum, path_sum

__all__ = ["FirstPath", "first_path"]

_LARGEST_ORDER = 10
_CLOSEST = 0.2
"""Reciprocal bandwidths that two paths must be apart: closer ones trade amplitude against each other without limit."""
_NOISE_TOLERANCE = 1.5
_SLOPE_OF_PATH = 0.4
"""Deviation of the delay, in reciprocal bandwidths, that an unresolved path of unit amplitude and any phase causes."""
_WEAKEST = 0.05
"""Amplitude against the strongest path's below which an earlier one counts as a side lobe's remainder."""


@dataclass(frozen=True)
class FirstPath:
    """Earliest path of a slot's mean channel."""

    delay_s: float
    """Residual, against the CSI's reference."""
    std_s: float
    """Deviation from noise, with every other path's delay and amplitude unknown, and from paths not told apart."""


def first_path(csi: ChannelState, response: ComplexArray | None = None) -> FirstPath:
    """Earliest path of the slot's mean channel on antenna 0, refined together with all others.

    Paths are added where the remainder correlates best, within half a reciprocal subcarrier spacing of the strongest,
    and all are refined together by least squares, while the description length falls. What stands then first in
    delay, no weaker than 26 dB below the strongest, is taken.

    Parameters
    ----------
    response : complex array, shape (subcarrier,), optional
        What the radios' filters do to all paths alike, without their delay. Left in, it is taken for paths on either
        side of the true ones: of a Pluto's filters for one 50 ns early at 11 dB.

    Raises
    ------
    ValueError
        If fewer than eight subcarriers are known.
    """
    fit, noise = path_sum(csi, response)
    best = fit.refined(np.array([fit.strongest_delay()]))
    for _ in range(_LARGEST_ORDER - 1):
        trial = fit.refined(np.append(best.delays_s, fit.other_delay(best)))
        if trial.length >= best.length or not _resolved(fit, trial):
            break
        best = trial
    level = np.abs(best.amplitudes)
    eligible = np.flatnonzero(level >= _WEAKEST * level.max())
    index = int(eligible[np.argmin(best.delays_s[eligible])])
    # What the paths leave above the noise is taken for paths that could not be told apart from this one.
    excess = float(np.mean(np.abs(best.remainder) ** 2)) / noise
    unresolved_s = 0.0
    if excess > _NOISE_TOLERANCE:
        unresolved_s = _SLOPE_OF_PATH * float(np.sqrt((excess - 1.0) * noise)) / level[index] / fit.band_hz
    return FirstPath(float(best.delays_s[index]), float(np.hypot(best.delay_std_s[index], unresolved_s)))


def _resolved(fit: PathSum, trial: PathFit) -> bool:
    """Whether all paths stand apart."""
    return bool(np.all(np.diff(np.sort(trial.delays_s)) > _CLOSEST / fit.band_hz))
