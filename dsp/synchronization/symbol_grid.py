"""Uniform grids under subcarriers and symbols that have gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsp.channel import FloatArray

__all__ = ["frame_blocks", "grid_steps"]


def grid_steps(axis: FloatArray) -> NDArray[np.intp]:
    """Whole steps of the smallest spacing at which the points of an ascending axis stand."""
    if len(axis) < 2:
        return np.zeros(len(axis), dtype=np.intp)
    steps: NDArray[np.intp] = np.rint((axis - axis[0]) / np.min(np.diff(axis))).astype(np.intp)
    return steps


def frame_blocks(frame_of_symbol: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """Symbol indices of each frame; all symbols together where a frame holds a single one."""
    frames = [np.flatnonzero(frame_of_symbol == frame) for frame in np.unique(frame_of_symbol)]
    if min(len(frame) for frame in frames) < 2:
        return [np.arange(len(frame_of_symbol))]
    return frames
