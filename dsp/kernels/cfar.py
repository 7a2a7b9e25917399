"""Training means of CA-CFAR by running sums over the Doppler and prefix sums over the delay."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def _add_row(power, usable, sign, sums, counts):  # type: ignore[no-untyped-def]
    step = np.int64(sign)
    for j in range(power.size):
        value, counted = sign * power[j], usable[j]
        sums[j] += value if counted else 0.0
        counts[j] += step if counted else np.int64(0)


@njit(cache=True)
def _prefix(outer, inner, many, few, stride, totals, numbers):  # type: ignore[no-untyped-def]
    """Sums over every ``stride``-th cell up to each, in the columns behind the first zeros, constant behind the last.

    The four run at once: each addition waits for the one before it in its own sum alone.
    """
    columns = outer.size
    pad = (totals.shape[1] - columns) // 2
    wide, narrow = totals[0, pad:], totals[1, pad:]
    wide_count, narrow_count = numbers[0, pad:], numbers[1, pad:]
    for first in range(stride):
        a, b, m, n = 0.0, 0.0, np.int64(0), np.int64(0)
        for j in range(first, columns, stride):
            a += outer[j]
            b += inner[j]
            m += many[j]
            n += few[j]
            wide[j], narrow[j], wide_count[j], narrow_count[j] = a, b, m, n
    for j in range(columns, columns + pad):
        wide[j], narrow[j] = wide[j - stride], narrow[j - stride]
        wide_count[j], narrow_count[j] = wide_count[j - stride], narrow_count[j - stride]


@njit(cache=True)
def _training(
    power: NDArray[np.float64],
    usable: NDArray[np.bool_],
    strides: tuple[int, int],
    guard: tuple[int, int],
    reach: tuple[int, int],
    mean: NDArray[np.float64],
    number: NDArray[np.int64],
) -> None:
    """Mean power and number of the cells within ``reach`` but outside ``guard``, both in steps of the stride.

    Sums are of double precision: what a cell 90 dB above the noise leaves behind when it has passed is 1e-7 of it.
    """
    rows, columns = power.shape
    row_stride, stride = strides
    pad = (reach[1] + 1) * stride
    outer, inner = np.empty(columns), np.empty(columns)
    many, few = np.empty(columns, np.int64), np.empty(columns, np.int64)
    totals, numbers = np.zeros((2, columns + 2 * pad)), np.zeros((2, columns + 2 * pad), np.int64)
    wide, narrow = reach[1] * stride, guard[1] * stride
    for residue in range(row_stride):
        for half, sums, counts in ((reach[0], outer, many), (guard[0], inner, few)):
            sums[:] = 0.0
            counts[:] = 0
            for i in range(residue, min(residue + half * row_stride, rows), row_stride):
                _add_row(power[i], usable[i], 1.0, sums, counts)
        for i in range(residue, rows, row_stride):
            for half, sums, counts in ((reach[0], outer, many), (guard[0], inner, few)):
                entering, leaving = i + half * row_stride, i - (half + 1) * row_stride
                if entering < rows:
                    _add_row(power[entering], usable[entering], 1.0, sums, counts)
                if leaving >= 0:
                    _add_row(power[leaving], usable[leaving], -1.0, sums, counts)
            _prefix(outer, inner, many, few, stride, totals, numbers)
            end, start = totals[0, pad + wide :], totals[0, pad - wide - stride :]
            inner_end, inner_start = totals[1, pad + narrow :], totals[1, pad - narrow - stride :]
            many_end, many_start = numbers[0, pad + wide :], numbers[0, pad - wide - stride :]
            few_end, few_start = numbers[1, pad + narrow :], numbers[1, pad - narrow - stride :]
            mean_row, number_row = mean[i], number[i]
            for j in range(columns):
                cells = many_end[j] - many_start[j] - few_end[j] + few_start[j]
                total = end[j] - start[j] - inner_end[j] + inner_start[j]
                number_row[j] = cells
                mean_row[j] = total / cells if cells > 0 else np.inf
