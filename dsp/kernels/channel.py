"""Passes over channel state that go through memory once."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_BLOCK = 16
"""Symbols summed in single precision before the sum goes on in double: rounding stays 130 dB down."""


@njit(cache=True)
def _cross_mean(values: NDArray[np.complex64], out: NDArray[np.complex128]) -> None:
    """Mean over the symbols of H_a·conj(H_0), a ≥ 1, of (antenna, symbol, subcarrier)."""
    antennas, symbols, subcarriers = values.shape
    real, imag = np.empty(subcarriers, np.float32), np.empty(subcarriers, np.float32)
    share = 1.0 / symbols
    for antenna in range(1, antennas):
        row = out[antenna - 1]
        row[:] = 0.0
        for begin in range(0, symbols, _BLOCK):
            real[:] = np.float32(0)
            imag[:] = np.float32(0)
            for symbol in range(begin, min(begin + _BLOCK, symbols)):
                xs, ys = values[antenna, symbol], values[0, symbol]
                for k in range(subcarriers):
                    a, b, c, d = xs[k].real, xs[k].imag, ys[k].real, ys[k].imag
                    real[k] += a * c + b * d
                    imag[k] += b * c - a * d
            for k in range(subcarriers):
                row[k] += share * complex(np.float64(real[k]), np.float64(imag[k]))


@njit(cache=True)
def _turned(values, angle, slope, bins, cosine, sine, out):  # type: ignore[no-untyped-def]
    """Rows (…, row, column) times exp(j·(angle[row] + slope[row]·bins[column])), phases by recurrence in double.

    Eight recurrences side by side: one alone would wait for each product. 1000 steps keep 1e-13. ``cosine`` and
    ``sine`` are room for a row, of the precision that the products shall have.
    """
    antennas, rows, columns = values.shape
    length = (bins[-1] // 8 + 1) * 8
    whole_re, whole_im = np.empty(length), np.empty(length)
    state_re, state_im = np.empty(8), np.empty(8)
    for row in range(rows):
        for i in range(8):
            state_re[i], state_im[i] = np.cos(angle[row] + i * slope[row]), np.sin(angle[row] + i * slope[row])
        turn_re, turn_im = np.cos(8 * slope[row]), np.sin(8 * slope[row])
        for begin in range(0, length, 8):
            for i in range(8):
                whole_re[begin + i], whole_im[begin + i] = state_re[i], state_im[i]
                real = state_re[i] * turn_re - state_im[i] * turn_im
                state_im[i] = state_re[i] * turn_im + state_im[i] * turn_re
                state_re[i] = real
        for k in range(columns):
            cosine[k], sine[k] = whole_re[bins[k]], whole_im[bins[k]]
        for antenna in range(antennas):
            xs, ys = values[antenna, row], out[antenna, row]
            for k in range(columns):
                a, b = xs[k].real, xs[k].imag
                ys[k] = complex(a * cosine[k] - b * sine[k], a * sine[k] + b * cosine[k])


@njit(cache=True)
def _neighbours(values, taps, first, out):  # type: ignore[no-untyped-def]
    """Rows of ``out`` as sums of taps[j, k]·values[first[k] + j], over runs of k whose neighbours move on by one."""
    count, wanted = taps.shape
    real, imag = np.empty(wanted), np.empty(wanted)
    xr, xi = np.empty(values.shape[1]), np.empty(values.shape[1])
    for row in range(len(values)):
        for k in range(values.shape[1]):
            xr[k], xi[k] = values[row, k].real, values[row, k].imag
        real[:] = 0.0
        imag[:] = 0.0
        begin = 0
        while begin < wanted:
            end = begin + 1
            while end < wanted and first[end] - first[begin] == end - begin:
                end += 1
            for j in range(count):
                weights = taps[j, begin:end]
                at = first[begin] + j
                ar, ai = xr[at : at + end - begin], xi[at : at + end - begin]
                sr, si = real[begin:end], imag[begin:end]
                for k in range(end - begin):
                    sr[k] += weights[k] * ar[k]
                    si[k] += weights[k] * ai[k]
            begin = end
        for k in range(wanted):
            out[row, k] = complex(real[k], imag[k])
