"""Training means of CA-CFAR by a strided summed-area table."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def _strided_table(
    power: NDArray[np.float64],
    usable: NDArray[np.bool_],
    row_stride: int,
    column_stride: int,
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Summed-area tables of power and of usable cells, running over every ``stride``-th cell in both dimensions."""
    rows, columns = power.shape
    for i in range(rows):
        for j in range(columns):
            total = power[i, j] if usable[i, j] else 0.0
            number = 1 if usable[i, j] else 0
            if i >= row_stride:
                total += sums[i - row_stride, j]
                number += counts[i - row_stride, j]
            if j >= column_stride:
                total += sums[i, j - column_stride]
                number += counts[i, j - column_stride]
            if i >= row_stride and j >= column_stride:
                total -= sums[i - row_stride, j - column_stride]
                number -= counts[i - row_stride, j - column_stride]
            sums[i, j] = total
            counts[i, j] = number


@njit(cache=True)
def _box(table, i, j, rows, columns, row_stride, column_stride, half_rows, half_columns):  # type: ignore[no-untyped-def]
    """Sum over the box of ±half cells in steps of the stride around (i, j), cut at the map's edges."""
    below = min(half_rows, (rows - 1 - i) // row_stride)
    above = min(half_rows, i // row_stride)
    right = min(half_columns, (columns - 1 - j) // column_stride)
    left = min(half_columns, j // column_stride)
    bottom, top = i + below * row_stride, i - (above + 1) * row_stride
    end, start = j + right * column_stride, j - (left + 1) * column_stride
    total = table[bottom, end]
    if top >= 0:
        total -= table[top, end]
    if start >= 0:
        total -= table[bottom, start]
    if top >= 0 and start >= 0:
        total += table[top, start]
    return total


@njit(cache=True)
def _training(
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    strides: tuple[int, int],
    guard: tuple[int, int],
    reach: tuple[int, int],
    mean: NDArray[np.float64],
    number: NDArray[np.int64],
) -> None:
    """Mean power and number of the cells within ``reach`` but outside ``guard``, both in steps of the stride."""
    rows, columns = sums.shape
    row_stride, column_stride = strides
    for i in range(rows):
        for j in range(columns):
            outer = _box(sums, i, j, rows, columns, row_stride, column_stride, reach[0], reach[1])
            inner = _box(sums, i, j, rows, columns, row_stride, column_stride, guard[0], guard[1])
            many = _box(counts, i, j, rows, columns, row_stride, column_stride, reach[0], reach[1])
            few = _box(counts, i, j, rows, columns, row_stride, column_stride, guard[0], guard[1])
            number[i, j] = many - few
            mean[i, j] = (outer - inner) / (many - few) if many > few else np.inf
