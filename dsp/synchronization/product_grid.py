"""Where the matched product's coherent sum is greatest, to a part of a cell, without a finely padded grid.

A grid padded by two finds the peaks' neighbourhoods: between its points a peak loses a third of its power at most. The
peaks that could be the greatest are then looked at eight times as finely as the band resolves, by Fourier sums at their
own places alone. A grid padded by four throughout would cost four times as much and end in the same cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.channel import ComplexArray, FloatArray
from dsp.fourier import transformed

__all__ = ["Cell", "greatest_cell"]

_PADDING = 2
_CANDIDATE = 0.55
"""Share of the grid's greatest power at which a peak may still be the greatest, or as great, between the points: 0.81
of it is left at the corner of a cell in either axis, and ties are counted from `_TIE` on."""
_MOST_CANDIDATES = 32
_TIE = 0.85
"""Of the greatest power: peaks as great as this are alike."""
_FINE = np.arange(-2, 3) / 4
"""Places looked at about a peak of the grid, in its cells."""

Cell = tuple[float, float]
"""Over symbols and over subcarriers, in turns per step, -½ … ½."""


def greatest_cell(
    blocks: Sequence[ComplexArray], symbol_steps: Sequence[NDArray[np.intp]], steps: NDArray[np.intp]
) -> tuple[Cell, Cell]:
    """Place (p, q) of the greatest power Σ_blocks |Σ P·exp(-j2π·p·l + j2π·q·k)|², and a quarter of a resolution cell.

    Of places that are alike, as the repetitions are that staggered pilots make, the one nearest to zero is meant.

    Parameters
    ----------
    blocks : sequence of complex arrays, shape (symbol, subcarrier)
        Frames, added incoherently.
    symbol_steps, steps : int arrays
        Places of each block's symbols, and of the subcarriers, on their rasters.
    """
    width, length = int(steps[-1]) + 1, int(max(step[-1] for step in symbol_steps)) + 1
    columns, rows = _size(width), _size(length)
    power = _grid_power(blocks, symbol_steps, steps, rows, columns)
    row, column = _peaks(power)
    over_rows = (row[:, None] + _FINE) / rows
    over_columns = (column[:, None] + _FINE) / columns
    fine: FloatArray = np.zeros((row.size, _FINE.size, _FINE.size))
    beams = np.exp(2j * np.pi * np.multiply.outer(steps, over_columns.ravel())).astype(np.complex64)
    for block, symbol_step in zip(blocks, symbol_steps, strict=True):
        sums = (block.astype(np.complex64) @ beams).reshape(len(block), row.size, _FINE.size)
        turns = np.exp(-2j * np.pi * np.multiply.outer(over_rows, symbol_step))
        fine += np.abs(np.matmul(turns, sums.transpose(1, 0, 2))) ** 2
    best = fine.reshape(row.size, -1).argmax(axis=1)
    greatest = fine.reshape(row.size, -1).max(axis=1)
    at_row = over_rows[np.arange(row.size), best // _FINE.size]
    at_column = over_columns[np.arange(row.size), best % _FINE.size]
    at_row, at_column = at_row - np.rint(at_row), at_column - np.rint(at_column)
    alike = np.flatnonzero(greatest >= _TIE * greatest.max())
    nearest = alike[np.argmin(at_row[alike] ** 2 + at_column[alike] ** 2)]
    return (float(at_row[nearest]), float(at_column[nearest])), (0.25 / length, 0.25 / width)


def _size(points: int) -> int:
    """Transform of a grid padded by two at least: a power of two that has a kernel, or what scipy likes."""
    size = max(64, 1 << (_PADDING * points - 1).bit_length())
    return size if size <= 8192 else int(fft.next_fast_len(_PADDING * points))


def _grid_power(
    blocks: Sequence[ComplexArray],
    symbol_steps: Sequence[NDArray[np.intp]],
    steps: NDArray[np.intp],
    rows: int,
    columns: int,
) -> NDArray[np.float32]:
    from dsp.kernels.fourier import twiddles
    from dsp.kernels.frame import LANES, SYMBOLS, power

    longest = int(max(step[-1] for step in symbol_steps)) + 1
    own = rows in SYMBOLS and columns % LANES == 0 and columns <= 8192
    out = np.zeros((rows, columns), np.float32)
    # Rows a cache line longer than a power of two, which would make them share a set of the cache.
    planes = np.zeros((len(blocks), 2, longest, columns + 16), np.float32) if own else np.zeros((0, 2, 0, 0))
    for number, (block, symbol_step) in enumerate(zip(blocks, symbol_steps, strict=True)):
        padded = np.zeros((len(block), columns), np.complex64)
        if steps.size == steps[-1] + 1:
            padded[:, : steps.size] = block
        else:
            padded[:, steps] = block
        profile = transformed(padded, inverse=True)
        if own:
            planes[number, 0, symbol_step, :columns] = profile.real
            planes[number, 1, symbol_step, :columns] = profile.imag
        else:
            whole = np.zeros((longest, columns), np.complex64)
            whole[symbol_step] = profile
            spectrum = fft.fft(whole, n=rows, axis=0, workers=1)
            out += spectrum.real**2 + spectrum.imag**2
    if own:
        power(rows)(planes, np.stack(twiddles(rows)), out)
    return out


def _peaks(power: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the grid's greatest peaks: no smaller than any neighbour, the grid being periodic."""
    rows, columns = power.shape
    strong = np.flatnonzero(power.ravel() >= _CANDIDATE * power.max())
    row, column = np.divmod(strong, columns)
    value = power[row, column]
    peak = np.ones(row.size, bool)
    for up in (-1, 0, 1):
        for right in (-1, 0, 1):
            peak &= value >= power[(row + up) % rows, (column + right) % columns]
    row, column, value = row[peak], column[peak], value[peak]
    most = np.argsort(-value, kind="stable")[:_MOST_CANDIDATES]
    return row[most], column[most]
