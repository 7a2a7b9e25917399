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


@njit(cache=True, fastmath={"contract"})
def _turned(values, angle, slope, runs, cosine, sine, out):  # type: ignore[no-untyped-def]
    """(antenna, row, column) times exp(j·(angle[row] + slope[row]·place)).

    A row's phasors by doubling: the first m, turned by m·slope, are the next m; ten products, whatever the length.
    ``runs`` of neighbouring columns: first column, first place, count. ``cosine`` and ``sine`` are room for the places.
    """
    antennas, rows, _ = values.shape
    length = cosine.size
    for row in range(rows):
        cosine[0], sine[0] = np.cos(angle[row]), np.sin(angle[row])
        done = 1
        while done < length:
            a, b = np.cos(done * slope[row]), np.sin(done * slope[row])
            count = min(done, length - done)
            xr, xi = cosine[:count], sine[:count]
            yr, yi = cosine[done : done + count], sine[done : done + count]
            for i in range(count):
                yr[i] = xr[i] * a - xi[i] * b
                yi[i] = xr[i] * b + xi[i] * a
            done += count
        for antenna in range(antennas):
            for run in range(len(runs)):
                column, place, count = runs[run, 0], runs[run, 1], runs[run, 2]
                xs, ys = values[antenna, row, column : column + count], out[antenna, row, column : column + count]
                cs, ss = cosine[place : place + count], sine[place : place + count]
                for k in range(count):
                    a, b = xs[k].real, xs[k].imag
                    ys[k] = complex(a * cs[k] - b * ss[k], a * ss[k] + b * cs[k])


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
