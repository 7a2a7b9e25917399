"""Rows turned by phases that are linear in frequency: what time and frequency offsets do to channel state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray

__all__ = ["turned"]


def turned(values: ComplexArray, angle_rad: FloatArray, slope_s: FloatArray, frequency_hz: FloatArray) -> ComplexArray:
    """``values`` times exp(j·(angle + slope·frequency)), by doubling along each row instead of an exponential each.

    Parameters
    ----------
    values : complex array, shape (…, row, column)
        complex64 stays single precision, phases are double all the same; all else is made complex128.
    angle_rad, slope_s : float array, shape (row,)
        Phase at baseband frequency zero, and radians per hertz.
    frequency_hz : float array, shape (column,)
        Ascending, on one raster, gaps allowed.
    """
    from dsp.kernels.channel import _turned

    spacing = float(np.min(np.diff(frequency_hz))) if frequency_hz.size > 1 else 1.0
    places = np.rint((frequency_hz - frequency_hz[0]) / spacing).astype(np.int64)
    first = np.concatenate([[0], np.flatnonzero(np.diff(places) != 1) + 1])
    runs = np.stack([first, places[first], np.diff(first, append=places.size)], axis=1)
    single = values.dtype == np.complex64
    flat = np.ascontiguousarray(values, np.complex64 if single else np.complex128)
    flat = flat.reshape(-1, *values.shape[-2:])
    out = np.empty_like(flat)
    room = np.empty((2, int(places[-1]) + 1))
    angle: NDArray[np.float64] = np.asarray(angle_rad + slope_s * frequency_hz[0], np.float64)
    _turned(flat, angle, np.asarray(slope_s * spacing, np.float64), runs, room[0], room[1], out)
    return out.reshape(values.shape)
