"""Band-limited interpolation at uniformly spaced off-grid positions, with a carrier offset removed."""

from __future__ import annotations

from math import floor

import numpy as np
from numba import njit

BLOCK = 128
"""Outputs that share one set of coefficients and its derivative."""


@njit(cache=True)
def _interpolate(samples, starts, step, rotation, table, slopes, phasors, out):  # type: ignore[no-untyped-def]
    """Rows of ``out`` from positions ``starts[row] + i·step`` of ``samples``, which is one antenna.

    ``rotation`` is the phase per input sample in cycles, zero at position 0; ``phasors`` its first values.
    ``table`` and ``slopes`` hold coefficients and their derivatives at uniform fractions, shape (fraction, tap).
    """
    rows, count = out.shape
    taps = table.shape[1]
    phases = table.shape[0] - 1
    width = BLOCK + taps
    real = np.zeros(width, np.float32)
    imag = np.zeros(width, np.float32)
    value = np.empty(taps, np.float32)
    slope = np.empty(taps, np.float32)
    sums = np.empty((4, BLOCK), np.float32)
    for row in range(rows):
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            # One product and one sum from the row's start: no drift, whatever the length.
            middle = starts[row] + (first + 0.5 * (size - 1)) * step
            begin = floor(middle - 0.5 * (size - 1))
            fraction = middle - 0.5 * (size - 1) - begin
            place = fraction * phases
            index = min(int(place), phases - 1)
            rest = place - index
            # Cubic through values and derivatives at both ends of the interval.
            h00 = (1.0 + 2.0 * rest) * (1.0 - rest) ** 2
            h10 = rest * (1.0 - rest) ** 2 / phases
            h01 = rest**2 * (3.0 - 2.0 * rest)
            h11 = rest**2 * (rest - 1.0) / phases
            for t in range(taps):
                value[t] = (
                    h00 * table[index, t]
                    + h10 * slopes[index, t]
                    + h01 * table[index + 1, t]
                    + h11 * slopes[index + 1, t]
                )
                slope[t] = (1.0 - rest) * slopes[index, t] + rest * slopes[index + 1, t]
            origin = begin - taps // 2 + 1
            turn = origin * rotation
            angle = -2.0 * np.pi * (turn - floor(turn))
            cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            xs = samples[origin : origin + size + taps - 1]
            for i in range(size + taps - 1):
                a = phasors[i].real * cosine - phasors[i].imag * sine
                b = phasors[i].real * sine + phasors[i].imag * cosine
                re = xs[i].real
                im = xs[i].imag
                real[i] = re * a - im * b
                imag[i] = re * b + im * a
            sums[:] = 0
            for t in range(taps):
                c = value[t]
                d = slope[t]
                rs = real[t : t + size]
                js = imag[t : t + size]
                s0 = sums[0]
                s1 = sums[1]
                s2 = sums[2]
                s3 = sums[3]
                for i in range(size):
                    s0[i] += c * rs[i]
                    s1[i] += c * js[i]
                    s2[i] += d * rs[i]
                    s3[i] += d * js[i]
            for i in range(size):
                away = np.float32((i - 0.5 * (size - 1)) * (step - 1.0))
                out[row, first + i] = complex(sums[0, i] + away * sums[2, i], sums[1, i] + away * sums[3, i])
