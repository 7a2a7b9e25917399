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
def _turned_back(
    values: NDArray[np.complex64],
    phase: NDArray[np.float64],
    raster: tuple[float, float],
    bins: NDArray[np.int64],
    carrier: float,
    out: NDArray[np.complex64],
) -> None:
    """(antenna, symbol, subcarrier) times exp(-j·phase·(1 + f/carrier)), phases by recurrence in double precision.

    Eight recurrences side by side: one alone would wait for each product. 1000 steps keep 1e-13.
    """
    antennas, symbols, subcarriers = values.shape
    first, step = raster
    length = (bins[-1] // 8 + 1) * 8
    whole = np.empty(length, np.complex64)
    cosine, sine = np.empty(subcarriers, np.float32), np.empty(subcarriers, np.float32)
    state_re, state_im = np.empty(8), np.empty(8)
    for symbol in range(symbols):
        angle = -phase[symbol] * (1.0 + first / carrier)
        slope = -phase[symbol] * step / carrier
        for i in range(8):
            state_re[i], state_im[i] = np.cos(angle + i * slope), np.sin(angle + i * slope)
        turn_re, turn_im = np.cos(8 * slope), np.sin(8 * slope)
        for begin in range(0, length, 8):
            for i in range(8):
                whole[begin + i] = complex(np.float32(state_re[i]), np.float32(state_im[i]))
                real = state_re[i] * turn_re - state_im[i] * turn_im
                state_im[i] = state_re[i] * turn_im + state_im[i] * turn_re
                state_re[i] = real
        for k in range(subcarriers):
            cosine[k], sine[k] = whole[bins[k]].real, whole[bins[k]].imag
        for antenna in range(antennas):
            xs, ys = values[antenna, symbol], out[antenna, symbol]
            for k in range(subcarriers):
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
