"""Rows of a Doppler transform against a fingerprint: product, padding, transform and modulus in the first cache."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from dsp.kernels.fourier import _TILE, _i, _stack, _transform, ends_where_it_began


@lru_cache(maxsize=4)
def correlation(n: int) -> Any:
    """Kernel ``(rows, factor, runs, tr, ti, out)``: modulus of the unscaled inverse transform of rows times factor.

    ``rows`` is complex64 (row, subcarrier), ``factor`` (subcarrier,); ``runs`` are (first subcarrier, its place in the
    transform of ``n``, length). ``out`` is float32 (row, n).
    """
    room, length, home = 8 * _TILE, n + 16, ends_where_it_began(n)

    @njit(cache=True)
    def _correlation(rows, factor, runs, tr, ti, out):  # type: ignore[no-untyped-def]
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        cr, ci = _stack(room), _stack(room)
        for row in range(rows.shape[0]):
            for i in range(n):
                ar[i], ai[i] = np.float32(0), np.float32(0)
            for run in range(runs.shape[0]):
                first, place, count = runs[run, 0], runs[run, 1], runs[run, 2]
                xs, ws = rows[row, first : first + count], factor[first : first + count]
                # Real and imaginary parts exchanged make the inverse; the modulus does not see it.
                yr, yi = ai[place : place + count], ar[place : place + count]
                for i in range(count):
                    a, b, c, d = xs[i].real, xs[i].imag, ws[i].real, ws[i].imag
                    yr[i] = a * c - b * d
                    yi[i] = a * d + b * c
            _transform(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
            real, imag = (ar, ai) if home else (br, bi)
            zs = out[row]
            for i in range(n):
                zs[i] = np.sqrt(real[i] * real[i] + imag[i] * imag[i])

    return _correlation
