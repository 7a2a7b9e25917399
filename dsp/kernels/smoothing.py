"""Channels held to a gate of delays, by conjugate gradients whose transforms stay in the first cache."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from dsp.kernels.fourier import _TILE, _i, _stack, _transform, ends_where_it_began


@njit(cache=True, forceinline=True)
def _clear(n, real, imag):  # type: ignore[no-untyped-def]
    for i in range(n):
        real[i] = np.float32(0)
        imag[i] = np.float32(0)


@njit(cache=True, forceinline=True)
def _move(runs, source, target, from_re, from_im, to_re, to_im):  # type: ignore[no-untyped-def]
    """Copies runs from places in column ``source`` to places in column ``target`` of (…, …, count)."""
    for run in range(runs.shape[0]):
        start, end, count = runs[run, source], runs[run, target], runs[run, 2]
        xr, xi = from_re[start : start + count], from_im[start : start + count]
        yr, yi = to_re[end : end + count], to_im[end : end + count]
        for i in range(count):
            yr[i], yi[i] = xr[i], xi[i]


@njit(cache=True, forceinline=True)
def _energy(count, real, imag):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(count):
        total += np.float64(real[i] * real[i] + imag[i] * imag[i])
    return total


@lru_cache(maxsize=4)
def smoother(n: int) -> Any:
    """Kernel of `dsp.equalization.smooth` for transforms of ``n``.

    ``gate`` and ``places`` are runs of (place in the row, place in the transform, length). Delays and subcarriers of
    one row stay on the stack.
    """
    room, length, home = 8 * _TILE, n + 16, ends_where_it_began(n)

    @njit(cache=True)
    def _smooth(values, weights, gate, places, damping, iterations, tolerance, tr, ti, out):  # type: ignore[no-untyped-def]
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        cr, ci, gr, gi = _stack(room), _stack(room), _stack(n), _stack(n)
        tap_re, tap_im, left_re, left_im, way_re, way_im = (
            _stack(n), _stack(n), _stack(n), _stack(n), _stack(n), _stack(n),
        )  # fmt: skip
        delays = gate[-1, 0] + gate[-1, 2]
        subcarriers = values.shape[1]
        fr, fi = (ar, ai) if home else (br, bi)
        for row in range(values.shape[0]):
            xs, ws, ys = values[row], weights[row], out[row]
            for i in range(subcarriers):
                gr[i], gi[i] = ws[i] * xs[i].real, ws[i] * xs[i].imag
            _clear(_i(n), ar, ai)
            # Real and imaginary parts exchanged before and after make the inverse.
            _move(places, 0, 1, gi, gr, ar, ai)
            _transform(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
            _move(gate, 1, 0, fi, fr, left_re, left_im)
            _move(gate, 1, 0, fi, fr, way_re, way_im)
            _clear(delays, tap_re, tap_im)
            power = _energy(delays, left_re, left_im)
            floor, enough = 1e-12 * power + 1e-30, tolerance * power
            for _ in range(iterations):
                if power <= enough:
                    break
                _clear(_i(n), ar, ai)
                _move(gate, 0, 1, way_re, way_im, ar, ai)
                _transform(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
                _move(places, 1, 0, fr, fi, gr, gi)
                for i in range(subcarriers):
                    gr[i], gi[i] = ws[i] * gr[i], ws[i] * gi[i]
                _clear(_i(n), ar, ai)
                _move(places, 0, 1, gi, gr, ar, ai)
                _transform(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
                _move(gate, 1, 0, fi, fr, gr, gi)
                along = 0.0
                for i in range(delays):
                    gr[i] += damping[row] * way_re[i]
                    gi[i] += damping[row] * way_im[i]
                    along += np.float64(way_re[i] * gr[i] + way_im[i] * gi[i])
                step = np.float32(power / (along + floor))
                for i in range(delays):
                    tap_re[i] += step * way_re[i]
                    tap_im[i] += step * way_im[i]
                    left_re[i] -= step * gr[i]
                    left_im[i] -= step * gi[i]
                fresh = _energy(delays, left_re, left_im)
                share = np.float32(fresh / (power + floor))
                for i in range(delays):
                    way_re[i] = left_re[i] + share * way_re[i]
                    way_im[i] = left_im[i] + share * way_im[i]
                power = fresh
            _clear(_i(n), ar, ai)
            _move(gate, 0, 1, tap_re, tap_im, ar, ai)
            _transform(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
            _move(places, 1, 0, fr, fi, gr, gi)
            for i in range(subcarriers):
                ys[i] = complex(gr[i], gi[i])

    return _smooth
