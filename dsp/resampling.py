"""Resampling of a recording onto the clock of the node that transmitted."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, pi

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, toeplitz

__all__ = ["interpolate", "margin_samples"]

_MOST_STEP = 2e-4
"""Largest departure of the step from one: over half a block of outputs the coefficients are taken as linear."""
_PHASES = 256
_REGULARISATION = 1e-11


def interpolate(
    samples: NDArray[np.complex64],
    starts: NDArray[np.floating],
    count: int,
    *,
    step: float,
    rotation: float,
    occupancy: float,
) -> NDArray[np.complex64]:
    """Values of a band-limited recording at ``starts[row] + i·step``, with a carrier frequency offset removed.

    The offset is removed first, at the recording's own samples, so that the band lies symmetric about zero whatever
    the offset; then a least-squares interpolator, whose coefficients follow the position continuously, is applied.
    Each position is computed afresh in double precision.

    Parameters
    ----------
    samples : complex64 array, shape (antenna, sample)
    starts : float array, shape (row,)
        Position of each row's first output, in samples. At least `margin_samples` inside the recording.
    count : int
        Outputs of a row.
    step : float, within 2e-4 of 1
        Spacing of outputs in samples.
    rotation : float
        Carrier frequency offset removed, in cycles per input sample; its phase is zero at position 0.
    occupancy : float, 0 < occupancy ≤ 0.97
        Share of the sampled band, centred, that the signal takes up once the offset is removed. Error vector below
        -80 dB for it; what lies beyond is not reproduced.

    Returns
    -------
    complex64 array, shape (antenna, row, count)

    Raises
    ------
    ValueError
        If a position lies outside the recording, or step or occupancy outside their domains.

    Source: Laakso et al., "Splitting the unit delay", IEEE Signal Processing Magazine 13(1), 1996 (least squares).
    """
    from dsp.kernels.resampling import BLOCK, _interpolate

    if abs(step - 1) > _MOST_STEP:
        raise ValueError(f"step is {step}: must be within {_MOST_STEP} of 1")
    if not 0 < occupancy <= 0.97:
        raise ValueError(f"occupancy is {occupancy}: must be above 0 and at most 0.97")
    table, slopes = _coefficients(_taps(occupancy), occupancy)
    first = np.asarray(starts, float)
    margin = table.shape[1] // 2 + 1
    if first.size and (first.min() < margin or first.max() + (count - 1) * step > samples.shape[1] - 1 - margin):
        raise ValueError(f"positions must lie {margin} samples inside the recording of {samples.shape[1]}")
    phasors = np.exp(-2j * pi * rotation * np.arange(BLOCK + table.shape[1])).astype(np.complex64)
    out = np.empty((samples.shape[0], first.size, count), np.complex64)
    for antenna, recording in enumerate(samples):
        _interpolate(np.ascontiguousarray(recording), first, step, rotation, table, slopes, phasors, out[antenna])
    return out


def margin_samples(occupancy: float) -> int:
    """Samples that the recording must extend beyond the outermost positions."""
    return _taps(occupancy) // 2 + 1


def _taps(occupancy: float) -> int:
    """Coefficients for an error below -80 dB: Kaiser's estimate for the guard between the band and its image."""
    return 2 * ceil((84 - 8) / (2.285 * 2 * pi * (1 - occupancy)) / 2) + 4


@lru_cache(maxsize=4)
def _coefficients(taps: int, occupancy: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares coefficients at fractions 0 to 1 and their derivatives, shape (fraction, tap).

    They minimise the error integrated over the band; a little white noise keeps the equations well posed.
    """
    offsets = np.arange(taps) - (taps // 2 - 1)
    normal = toeplitz(np.sinc(occupancy * np.arange(taps)))
    normal[np.diag_indices(taps)] += _REGULARISATION
    fractions = np.arange(_PHASES + 1) / _PHASES
    away = fractions[:, None] - offsets
    target = np.sinc(occupancy * away)
    angle = pi * occupancy * np.where(away == 0, 1, away)
    change = np.where(away == 0, 0, (np.cos(angle) - np.sinc(occupancy * away)) / np.where(away == 0, 1, away))
    factor = cho_factor(normal)
    return np.ascontiguousarray(cho_solve(factor, target.T).T), np.ascontiguousarray(cho_solve(factor, change.T).T)
