"""A slot's counts to block sums of its channel state, symbol by symbol in the first cache, and what its elements carry.

Beyond `dsp.kernels.frame`: branches corrected, the drift within a symbol taken off to first order, symbols summed into
blocks as a matched filter, so that no channel state of single symbols goes through memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from dsp.kernels.fourier import _TILE, _i, _stack, _transform, ends_where_it_began
from dsp.kernels.frame import _FINE, _REFRESH, _advance, _factors, _ramp

REACH = 6
"""Samples to either side that the derivative takes."""


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _straight(n, pairs, branch, turn_re, turn_im, real, imag):  # type: ignore[no-untyped-def]
    """Counts to floats, offset and imbalance of the branches undone, turned back by the carrier offset."""
    ii, iq, qi, qq = branch[0, 0], branch[0, 1], branch[1, 0], branch[1, 1]
    di, dq = branch[0, 2], branch[1, 2]
    for i in range(n):
        a = np.float32(np.int16(pairs[i])) - di
        b = np.float32(np.int16(pairs[i] >> 16)) - dq
        c = ii * a + iq * b
        d = qi * a + qq * b
        real[i] = c * turn_re[i] - d * turn_im[i]
        imag[i] = c * turn_im[i] + d * turn_re[i]


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _shifted_by_2(n, wide, away, taps, out):  # type: ignore[no-untyped-def]
    """Values ``away[i]`` samples later than the window's, to first order: the value and its derivative, which two taps
    to either side give."""
    t1, t2 = taps[0], taps[1]
    m2, m1, p0, p1, p2 = wide[4 : n + 4], wide[5 : n + 5], wide[6 : n + 6], wide[7 : n + 7], wide[8 : n + 8]
    for i in range(n):
        out[i] = p0[i] + away[i] * (t1 * (p1[i] - m1[i]) + t2 * (p2[i] - m2[i]))


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _shifted_by_6(n, wide, away, taps, out):  # type: ignore[no-untyped-def]
    """The same with six taps to either side. Loads bound both: two taps take two fifths of the time."""
    t1, t2, t3, t4, t5, t6 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    m6, m5, m4, m3, m2, m1 = (
        wide[0:n],
        wide[1 : n + 1],
        wide[2 : n + 2],
        wide[3 : n + 3],
        wide[4 : n + 4],
        wide[5 : n + 5],
    )
    p0, p1, p2, p3 = wide[6 : n + 6], wide[7 : n + 7], wide[8 : n + 8], wide[9 : n + 9]
    p4, p5, p6 = wide[10 : n + 10], wide[11 : n + 11], wide[12 : n + 12]
    for i in range(n):
        near = t1 * (p1[i] - m1[i]) + t2 * (p2[i] - m2[i]) + t3 * (p3[i] - m3[i])
        far = t4 * (p4[i] - m4[i]) + t5 * (p5[i] - m5[i]) + t6 * (p6[i] - m6[i])
        out[i] = p0[i] + away[i] * (near + far)


@njit(cache=True, fastmath={"contract"})
def _moments(counts, every, sums, powers):  # type: ignore[no-untyped-def]
    """Sum and power (antenna, block, branch) of every so many blocks of ``counts`` (antenna, block, sample, branch)."""
    samples = counts.shape[2]
    for antenna in range(sums.shape[0]):
        for block in range(sums.shape[1]):
            part = counts[antenna, block * every]
            a, b, aa, bb = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
            for i in range(samples):
                x, y = np.int64(part[i, 0]), np.int64(part[i, 1])
                a += x
                b += y
                aa += x * x
                bb += y * y
            sums[antenna, block, 0], sums[antenna, block, 1] = a, b
            powers[antenna, block] = aa + bb


@lru_cache(maxsize=4)
def block_sums(n: int, taps: int) -> Any:
    """Kernel of `dsp.slot_reader` for transforms of ``n``.

    ``sums`` (antenna, block, subcarrier) take conj(sent)·received, ``power`` (antenna, frame, subcarrier) |received|²;
    both are set, not added to. ``sent`` is conjugated, and of one frame: every frame sends the same.
    """
    room, length, home = 8 * _TILE, n + 16, ends_where_it_began(n)
    wide_length, shifted = n + 2 * REACH, {2: _shifted_by_2, 6: _shifted_by_6}[taps]

    @njit(cache=True, fastmath={"contract"})
    def _block_sums(  # type: ignore[no-untyped-def]
        samples, branches, starts, per_block, turn, gains, cycles, step, away, taps, sent, runs, twiddle, sums, power
    ):
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        cr, ci = _stack(room), _stack(room)
        wr, wi = _stack(wide_length), _stack(wide_length)
        ramp_re, ramp_im, factor_re, factor_im = _stack(n), _stack(n), _stack(n), _stack(n)
        fine_re, fine_im = _stack(_FINE), _stack(_FINE)
        symbols, subcarriers = sent.shape[0], sent.shape[1]
        antennas = samples.shape[0]
        sum_re = np.empty((antennas, subcarriers), np.float32)
        sum_im = np.empty((antennas, subcarriers), np.float32)
        blocks = -(-symbols // per_block)
        since = _REFRESH
        for row in range(starts.size):
            frame, symbol = row // symbols, row % symbols
            since += 1
            if since >= _REFRESH or symbol < 2 or starts[row] - starts[row - 1] != starts[1] - starts[0]:
                _ramp(_i(n), cycles[row], ramp_re, ramp_im, fine_re, fine_im)
                since = 0
            else:
                _advance(_i(n), ramp_re, ramp_im, step[0], step[1])
            _factors(sent[symbol], gains[row], runs, ramp_re, ramp_im, factor_re, factor_im)
            block = frame * blocks + symbol // per_block
            for antenna in range(antennas):
                begin = starts[row] - REACH
                pairs = samples[antenna, begin : begin + n + 2 * REACH]
                _straight(_i(wide_length), pairs, branches[antenna], turn[0], turn[1], wr, wi)
                shifted(_i(n), wr, away, taps, ar)
                shifted(_i(n), wi, away, taps, ai)
                _transform(_i(n), ar, ai, br, bi, cr, ci, twiddle[0], twiddle[1])
                real, imag = (ar, ai) if home else (br, bi)
                if symbol % per_block == 0:
                    sum_re[antenna] = 0
                    sum_im[antenna] = 0
                if symbol == 0:
                    power[antenna, frame] = 0
                for run in range(runs.shape[0]):
                    at, place, count = runs[run, 0], runs[run, 1], runs[run, 3]
                    xr, xi = real[place : place + count], imag[place : place + count]
                    fr, fi = factor_re[at : at + count], factor_im[at : at + count]
                    yr, yi = sum_re[antenna, at : at + count], sum_im[antenna, at : at + count]
                    ps = power[antenna, frame, at : at + count]
                    for i in range(count):
                        ps[i] += xr[i] * xr[i] + xi[i] * xi[i]
                        yr[i] += xr[i] * fr[i] - xi[i] * fi[i]
                        yi[i] += xr[i] * fi[i] + xi[i] * fr[i]
                if symbol % per_block == per_block - 1:
                    zs, yr, yi = sums[antenna, block], sum_re[antenna], sum_im[antenna]
                    for i in range(subcarriers):
                        zs[i] = complex(yr[i], yi[i])

    return _block_sums
