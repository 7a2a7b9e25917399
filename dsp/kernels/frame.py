"""One frame's samples to its channel state, and on to its delay-Doppler map, symbol by symbol in the first cache.

A pair of int16 is one int32 to these kernels: low half in phase, high half in quadrature.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from dsp.kernels.fourier import _TILE, _i, _last_2, _pass_4, _pass_8, _stack, _transform, ends_where_it_began

LANES = 8
"""Delays whose transforms over the symbols run side by side."""
_REFRESH = 16
"""Symbols after which the timing's phase ramp is computed afresh: in between its rounding stays below -120 dB."""
_FINE = 32


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _convert(n, pairs, turn_re, turn_im, real, imag):  # type: ignore[no-untyped-def]
    """Counts to floats, turned by the carrier offset as if the window began at phase zero."""
    for i in range(n):
        a = np.float32(np.int16(pairs[i]))
        b = np.float32(np.int16(pairs[i] >> 16))
        real[i] = a * turn_re[i] - b * turn_im[i]
        imag[i] = a * turn_im[i] + b * turn_re[i]


@njit(cache=True, fastmath={"contract"})
def _windows(samples, starts, turn, gains, out):  # type: ignore[no-untyped-def]
    """Counts to complex samples of the symbols' windows, each turned back to phase zero of the carrier offset."""
    n = out.shape[2]
    turn_re, turn_im = np.empty(n, np.float32), np.empty(n, np.float32)
    for symbol in range(starts.size):
        a, b = np.float32(gains[symbol].real), np.float32(gains[symbol].imag)
        for i in range(n):
            turn_re[i] = a * turn[0, i] - b * turn[1, i]
            turn_im[i] = a * turn[1, i] + b * turn[0, i]
        for antenna in range(samples.shape[0]):
            xs, ys = samples[antenna, starts[symbol] : starts[symbol] + n], out[antenna, symbol]
            for i in range(n):
                re, im = np.float32(np.int16(xs[i])), np.float32(np.int16(xs[i] >> 16))
                ys[i] = complex(re * turn_re[i] - im * turn_im[i], re * turn_im[i] + im * turn_re[i])


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _ramp(n, cycles, ramp_re, ramp_im, fine_re, fine_im):  # type: ignore[no-untyped-def]
    """exp(j2π·k·cycles) for k = -n/2 … n/2 - 1, as products of two short tables."""
    for i in range(_FINE):
        fine_re[i] = np.float32(np.cos(2.0 * np.pi * cycles * i))
        fine_im[i] = np.float32(np.sin(2.0 * np.pi * cycles * i))
    for begin in range(0, n, _FINE):
        turn = cycles * (begin - n // 2)
        a, b = np.float32(np.cos(2.0 * np.pi * turn)), np.float32(np.sin(2.0 * np.pi * turn))
        for i in range(_FINE):
            ramp_re[begin + i] = a * fine_re[i] - b * fine_im[i]
            ramp_im[begin + i] = a * fine_im[i] + b * fine_re[i]


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _advance(n, ramp_re, ramp_im, step_re, step_im):  # type: ignore[no-untyped-def]
    for i in range(n):
        a = ramp_re[i]
        ramp_re[i] = a * step_re[i] - ramp_im[i] * step_im[i]
        ramp_im[i] = a * step_im[i] + ramp_im[i] * step_re[i]


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _factors(reference, gain, runs, ramp_re, ramp_im, factor_re, factor_im):  # type: ignore[no-untyped-def]
    """Reference times the symbol's gain and its phase ramp, by subcarrier."""
    a, b = np.float32(gain.real), np.float32(gain.imag)
    for run in range(runs.shape[0]):
        at, centred, count = runs[run, 0], runs[run, 2], runs[run, 3]
        known = reference[at : at + count]
        rr, ri = ramp_re[centred : centred + count], ramp_im[centred : centred + count]
        fr, fi = factor_re[at : at + count], factor_im[at : at + count]
        for i in range(count):
            re = a * rr[i] - b * ri[i]
            im = a * ri[i] + b * rr[i]
            fr[i] = known[i].real * re - known[i].imag * im
            fi[i] = known[i].real * im + known[i].imag * re


@lru_cache(maxsize=4)
def channel(n: int) -> Any:
    """Kernel of `dsp.frame.channel` for transforms of ``n``."""
    room, length, home = 8 * _TILE, n + 16, ends_where_it_began(n)

    @njit(cache=True, fastmath={"contract"})
    def _channel(samples, starts, turn, gains, cycles, step, reference, runs, twiddle, out):  # type: ignore[no-untyped-def]
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        cr, ci = _stack(room), _stack(room)
        ramp_re, ramp_im, factor_re, factor_im = _stack(n), _stack(n), _stack(n), _stack(n)
        fine_re, fine_im = _stack(_FINE), _stack(_FINE)
        since = _REFRESH
        for symbol in range(starts.size):
            since += 1
            if since >= _REFRESH or (symbol > 0 and starts[symbol] - starts[symbol - 1] != starts[1] - starts[0]):
                _ramp(_i(n), cycles[symbol], ramp_re, ramp_im, fine_re, fine_im)
                since = 0
            else:
                _advance(_i(n), ramp_re, ramp_im, step[0], step[1])
            _factors(reference[symbol], gains[symbol], runs, ramp_re, ramp_im, factor_re, factor_im)
            for antenna in range(samples.shape[0]):
                pairs = samples[antenna, starts[symbol] : starts[symbol] + n]
                _convert(_i(n), pairs, turn[0], turn[1], ar, ai)
                _transform(_i(n), ar, ai, br, bi, cr, ci, twiddle[0], twiddle[1])
                real, imag = (ar, ai) if home else (br, bi)
                ys = out[antenna, symbol]
                for run in range(runs.shape[0]):
                    at, place, count = runs[run, 0], runs[run, 1], runs[run, 3]
                    xr, xi = real[place : place + count], imag[place : place + count]
                    fr, fi = factor_re[at : at + count], factor_im[at : at + count]
                    zs = ys[at : at + count]
                    for i in range(count):
                        zs[i] = complex(xr[i] * fr[i] - xi[i] * fi[i], xr[i] * fi[i] + xi[i] * fr[i])

    return _channel


@lru_cache(maxsize=4)
def profile(n: int) -> Any:
    """Kernel that goes on from the channel to the delays ``0 … out.shape[-1] - 1`` of every symbol.

    ``out`` has shape (antenna, 2, symbol, delay): real and imaginary parts apart, as `power` takes them.
    """
    room, length, home = 8 * _TILE, n + 16, ends_where_it_began(n)

    @njit(cache=True, fastmath={"contract"})
    def _profile(samples, starts, turn, gains, cycles, step, reference, runs, twiddle, out):  # type: ignore[no-untyped-def]
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        cr, ci = _stack(room), _stack(room)
        ramp_re, ramp_im, factor_re, factor_im = _stack(n), _stack(n), _stack(n), _stack(n)
        fine_re, fine_im = _stack(_FINE), _stack(_FINE)
        delays = out.shape[3] - 16
        since = _REFRESH
        for symbol in range(starts.size):
            since += 1
            if since >= _REFRESH or (symbol > 0 and starts[symbol] - starts[symbol - 1] != starts[1] - starts[0]):
                _ramp(_i(n), cycles[symbol], ramp_re, ramp_im, fine_re, fine_im)
                since = 0
            else:
                _advance(_i(n), ramp_re, ramp_im, step[0], step[1])
            _factors(reference[symbol], gains[symbol], runs, ramp_re, ramp_im, factor_re, factor_im)
            for antenna in range(samples.shape[0]):
                pairs = samples[antenna, starts[symbol] : starts[symbol] + n]
                _convert(_i(n), pairs, turn[0], turn[1], ar, ai)
                _transform(_i(n), ar, ai, br, bi, cr, ci, twiddle[0], twiddle[1])
                real, imag = (ar, ai) if home else (br, bi)
                er, ei = (br, bi) if home else (ar, ai)
                for i in range(n):
                    er[i] = np.float32(0)
                    ei[i] = np.float32(0)
                for run in range(runs.shape[0]):
                    at, place, count = runs[run, 0], runs[run, 1], runs[run, 3]
                    xr, xi = real[place : place + count], imag[place : place + count]
                    fr, fi = factor_re[at : at + count], factor_im[at : at + count]
                    zr, zi = er[place : place + count], ei[place : place + count]
                    for i in range(count):
                        zr[i] = xr[i] * fr[i] - xi[i] * fi[i]
                        zi[i] = xr[i] * fi[i] + xi[i] * fr[i]
                # Real and imaginary parts exchanged before and after make the inverse.
                _transform(_i(n), ei, er, imag, real, cr, ci, twiddle[0], twiddle[1])
                dr, di = (er, ei) if home else (real, imag)
                yr, yi = out[antenna, 0, symbol], out[antenna, 1, symbol]
                for i in range(delays):
                    yr[i], yi[i] = dr[i], di[i]

    return _profile


@njit(cache=True, inline="always", fastmath={"contract"})
def _transform_lanes(n, ar, ai, br, bi, tr, ti):  # type: ignore[no-untyped-def]
    """`_transform` of ``n`` values by 8 lanes, which need no transposition; the same `twiddles`."""
    if n == 64:
        _pass_8(_i(8), _i(8), _i(0), ar, ai, br, bi, tr, ti)
        _pass_8(_i(1), _i(64), _i(64), br, bi, ar, ai, tr, ti)
    elif n == 128:
        _pass_8(_i(16), _i(8), _i(0), ar, ai, br, bi, tr, ti)
        _pass_8(_i(2), _i(64), _i(128), br, bi, ar, ai, tr, ti)
        _last_2(_i(512), ar, ai, br, bi)
    elif n == 256:
        _pass_8(_i(32), _i(8), _i(0), ar, ai, br, bi, tr, ti)
        _pass_8(_i(4), _i(64), _i(256), br, bi, ar, ai, tr, ti)
        _pass_4(_i(1), _i(512), _i(288), ar, ai, br, bi, tr, ti)
    elif n == 512:
        _pass_8(_i(64), _i(8), _i(0), ar, ai, br, bi, tr, ti)
        _pass_8(_i(8), _i(64), _i(512), br, bi, ar, ai, tr, ti)
        _pass_8(_i(1), _i(512), _i(576), ar, ai, br, bi, tr, ti)
    elif n == 1024:
        _pass_8(_i(128), _i(8), _i(0), ar, ai, br, bi, tr, ti)
        _pass_8(_i(16), _i(64), _i(1024), br, bi, ar, ai, tr, ti)
        _pass_4(_i(4), _i(512), _i(1152), ar, ai, br, bi, tr, ti)
        _pass_4(_i(1), _i(2048), _i(1168), br, bi, ar, ai, tr, ti)


SYMBOLS = (64, 128, 256, 512, 1024)
"""Transform lengths of `power`."""


@lru_cache(maxsize=4)
def power(n: int) -> Any:
    """Kernel that transforms (antenna, 2, symbol, delay) over ``n`` symbols and adds |.|² of the antennas."""
    length, home = LANES * n + 16, ends_where_it_began(n)
    used = LANES * n

    @njit(cache=True, fastmath={"contract"})
    def _power(profiles, twiddle, out):  # type: ignore[no-untyped-def]
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        sums = _stack(used)
        symbols, blocks = profiles.shape[2], out.shape[1] // LANES
        for block in range(blocks):
            for i in range(used):
                sums[i] = np.float32(0)
            for antenna in range(profiles.shape[0]):
                real, imag = profiles[antenna, 0], profiles[antenna, 1]
                for symbol in range(symbols):
                    for i in range(LANES):
                        ar[symbol * LANES + i] = real[symbol, block * LANES + i]
                        ai[symbol * LANES + i] = imag[symbol, block * LANES + i]
                for i in range(symbols * LANES, used):
                    ar[i], ai[i] = np.float32(0), np.float32(0)
                _transform_lanes(_i(n), ar, ai, br, bi, twiddle[0], twiddle[1])
                if home:
                    for i in range(used):
                        sums[i] += ar[i] * ar[i] + ai[i] * ai[i]
                else:
                    for i in range(used):
                        sums[i] += br[i] * br[i] + bi[i] * bi[i]
            for row in range(n):
                for i in range(LANES):
                    out[row, block * LANES + i] = sums[row * LANES + i]

    return _power
