"""The FPGA's filters by eight, between the transceiver's interface and the buffers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim_backend.pluto.emissions import Counts

__all__ = ["FACTOR", "LEAD", "decimated", "interpolated"]

FACTOR = 8
_HALF = 64
LEAD = 2 * _HALF
"""Samples before the first one that the decimator looks at."""


@lru_cache(maxsize=1)
def _taps() -> NDArray[np.float64]:
    from scipy.signal import firwin

    return np.asarray(firwin(2 * _HALF + 1, 0.9 / FACTOR, window=("kaiser", 7.0)))


def decimated(counts: Counts) -> Counts:
    """Every eighth sample after the low pass, of counts that begin `LEAD` samples early."""
    from scipy.signal import upfirdn

    filtered = upfirdn(_taps(), counts.astype(np.float64), down=1, axis=0)[LEAD : len(counts) : FACTOR]
    return np.asarray(np.clip(np.round(filtered), -2048, 2047), dtype=np.int16)


def interpolated(samples: Counts, *, cyclic: bool) -> Counts:
    """Eight samples for each; what is repeated is filtered all around."""
    from scipy.signal import upfirdn

    values = samples.astype(np.float64)
    around = -(-_HALF // FACTOR)
    if cyclic:
        values = np.take(values, np.arange(-around, len(values) + around), axis=0, mode="wrap")
    else:
        values = np.pad(values, ((around, around), (0, 0)))
    filtered = upfirdn(FACTOR * _taps(), values, up=FACTOR, axis=0)
    begin = _HALF + FACTOR * around
    return np.asarray(np.clip(np.round(filtered[begin : begin + FACTOR * len(samples)]), -32768, 32767), dtype=np.int16)
