"""Fourier transforms of single precision, to be built into the kernels that need one.

Stockham's algorithm in split real and imaginary buffers: passes of radix 8, then 4 or 2, each reading one buffer and
writing the other in an order that leaves the result sorted. Buffers lie on the stack and sizes are constants where a
kernel is compiled: only then does the compiler see that nothing overlaps, and make vector code of every pass.

Source: Van Loan, "Computational Frameworks for the Fast Fourier Transform", 1992, section 1.7 (Stockham).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
_HALF = np.float32(np.sqrt(0.5))
_i = np.int64
"""Sizes as plain integers: literal ones would have every pass compiled anew for each."""
_TILE = 16
"""Butterflies of the first pass between two transpositions."""


def _stack_code(typing_context: Any, count: Any) -> Any:
    """Uninitialised float32 array of constant size on the stack of the function that asks for it."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    array_type = types.Array(types.float32, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(ir.FloatType(), count.literal_value))
            place.align = 64
        array = make_array(array_type)(context, builder)
        populate_array(
            array,
            data=builder.bitcast(place, ir.FloatType().as_pointer()),
            shape=cgutils.pack_array(builder, [context.get_constant(types.intp, count.literal_value)]),
            strides=cgutils.pack_array(builder, [context.get_constant(types.intp, 4)]),
            itemsize=context.get_constant(types.intp, 4),
            meminfo=None,
        )
        return array._getvalue()

    return array_type(count), generate


_stack: Any = intrinsic(_stack_code)


def _transpose_code(typing_context: Any, source: Any, first: Any, target: Any, place: Any) -> Any:
    """Eight runs of eight floats, ``_TILE`` apart from ``source[first]``, transposed to ``target[place]`` onwards.

    Three rounds of interleaving the first half of the rows with the second.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = make_array(signature.args[0])
        row = ir.VectorType(ir.FloatType(), 8).as_pointer()

        def at(values: Any, index: Any, away: int) -> Any:
            start = builder.add(index, context.get_constant(types.intp, away))
            data = array(context, builder, values).data
            return builder.bitcast(builder.gep(data, [start], inbounds=True), row)

        rows = [builder.load(at(arguments[0], arguments[1], _TILE * k), align=4) for k in range(8)]
        half = [ir.Constant(ir.VectorType(ir.IntType(32), 8), [i // 2 + 8 * (i % 2) + 4 * h for i in range(8)])
                for h in (0, 1)]  # fmt: skip
        for _ in range(3):
            rows = [builder.shuffle_vector(rows[k // 2], rows[k // 2 + 4], half[k % 2]) for k in range(8)]
        for k, value in enumerate(rows):
            builder.store(value, at(arguments[2], arguments[3], 8 * k), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), generate


_transpose: Any = intrinsic(_transpose_code)


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _eight(r0, r1, r2, r3, r4, r5, r6, r7, i0, i1, i2, i3, i4, i5, i6, i7):  # type: ignore[no-untyped-def]
    """Transform of eight values, real parts and then imaginary parts."""
    a0, b0, a4, b4 = r0 + r4, i0 + i4, r0 - r4, i0 - i4
    a1, b1 = r1 + r5, i1 + i5
    t, u = r1 - r5, i1 - i5
    a5, b5 = _HALF * (t + u), _HALF * (u - t)
    a2, b2, a6, b6 = r2 + r6, i2 + i6, i2 - i6, r6 - r2
    a3, b3 = r3 + r7, i3 + i7
    t, u = r3 - r7, i3 - i7
    a7, b7 = _HALF * (u - t), -_HALF * (t + u)
    c0, d0, c2, d2 = a0 + a2, b0 + b2, a0 - a2, b0 - b2
    c1, d1, c3, d3 = a1 + a3, b1 + b3, b1 - b3, a3 - a1
    c4, d4, c6, d6 = a4 + a6, b4 + b6, a4 - a6, b4 - b6
    c5, d5, c7, d7 = a5 + a7, b5 + b7, b5 - b7, a7 - a5
    return (
        c0 + c1, c4 + c5, c2 + c3, c6 + c7, c0 - c1, c4 - c5, c2 - c3, c6 - c7,
        d0 + d1, d4 + d5, d2 + d3, d6 + d7, d0 - d1, d4 - d5, d2 - d3, d6 - d7,
    )  # fmt: skip


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _first_pass(n, ar, ai, br, bi, cr, ci, tr, ti):  # type: ignore[no-untyped-def]
    """Radix 8 over the whole length; ``c`` takes a tile of results before they are transposed into place."""
    m = n // 8
    for begin in range(0, m, _TILE if m > _TILE else m):
        for i in range(_TILE if m > _TILE else m):
            p = begin + i
            x0, x1, x2, x3, x4, x5, x6, x7, y0, y1, y2, y3, y4, y5, y6, y7 = _eight(
                ar[p], ar[p + m], ar[p + 2 * m], ar[p + 3 * m],
                ar[p + 4 * m], ar[p + 5 * m], ar[p + 6 * m], ar[p + 7 * m],
                ai[p], ai[p + m], ai[p + 2 * m], ai[p + 3 * m],
                ai[p + 4 * m], ai[p + 5 * m], ai[p + 6 * m], ai[p + 7 * m],
            )  # fmt: skip
            cr[i], ci[i] = x0, y0
            wr, wi = tr[p + m], ti[p + m]
            cr[_TILE + i], ci[_TILE + i] = x1 * wr - y1 * wi, x1 * wi + y1 * wr
            wr, wi = tr[p + 2 * m], ti[p + 2 * m]
            cr[2 * _TILE + i], ci[2 * _TILE + i] = x2 * wr - y2 * wi, x2 * wi + y2 * wr
            wr, wi = tr[p + 3 * m], ti[p + 3 * m]
            cr[3 * _TILE + i], ci[3 * _TILE + i] = x3 * wr - y3 * wi, x3 * wi + y3 * wr
            wr, wi = tr[p + 4 * m], ti[p + 4 * m]
            cr[4 * _TILE + i], ci[4 * _TILE + i] = x4 * wr - y4 * wi, x4 * wi + y4 * wr
            wr, wi = tr[p + 5 * m], ti[p + 5 * m]
            cr[5 * _TILE + i], ci[5 * _TILE + i] = x5 * wr - y5 * wi, x5 * wi + y5 * wr
            wr, wi = tr[p + 6 * m], ti[p + 6 * m]
            cr[6 * _TILE + i], ci[6 * _TILE + i] = x6 * wr - y6 * wi, x6 * wi + y6 * wr
            wr, wi = tr[p + 7 * m], ti[p + 7 * m]
            cr[7 * _TILE + i], ci[7 * _TILE + i] = x7 * wr - y7 * wi, x7 * wi + y7 * wr
        for i in range(0, _TILE if m > _TILE else m, 8):
            _transpose(cr, i, br, 8 * (begin + i))
            _transpose(ci, i, bi, 8 * (begin + i))


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _pass_8(m, s, o, ar, ai, br, bi, tr, ti):  # type: ignore[no-untyped-def]
    """Radix 8 over runs of ``s`` transforms side by side, each of 8·m values; its twiddles start at ``o``."""
    h = m * s
    for p in range(m):
        w1, w2, w3, w4 = tr[o + p + m], tr[o + p + 2 * m], tr[o + p + 3 * m], tr[o + p + 4 * m]
        w5, w6, w7 = tr[o + p + 5 * m], tr[o + p + 6 * m], tr[o + p + 7 * m]
        v1, v2, v3, v4 = ti[o + p + m], ti[o + p + 2 * m], ti[o + p + 3 * m], ti[o + p + 4 * m]
        v5, v6, v7 = ti[o + p + 5 * m], ti[o + p + 6 * m], ti[o + p + 7 * m]
        for q in range(s):
            j = s * p + q
            x0, x1, x2, x3, x4, x5, x6, x7, y0, y1, y2, y3, y4, y5, y6, y7 = _eight(
                ar[j], ar[j + h], ar[j + 2 * h], ar[j + 3 * h],
                ar[j + 4 * h], ar[j + 5 * h], ar[j + 6 * h], ar[j + 7 * h],
                ai[j], ai[j + h], ai[j + 2 * h], ai[j + 3 * h],
                ai[j + 4 * h], ai[j + 5 * h], ai[j + 6 * h], ai[j + 7 * h],
            )  # fmt: skip
            j = 8 * s * p + q
            br[j], bi[j] = x0, y0
            br[j + s], bi[j + s] = x1 * w1 - y1 * v1, x1 * v1 + y1 * w1
            br[j + 2 * s], bi[j + 2 * s] = x2 * w2 - y2 * v2, x2 * v2 + y2 * w2
            br[j + 3 * s], bi[j + 3 * s] = x3 * w3 - y3 * v3, x3 * v3 + y3 * w3
            br[j + 4 * s], bi[j + 4 * s] = x4 * w4 - y4 * v4, x4 * v4 + y4 * w4
            br[j + 5 * s], bi[j + 5 * s] = x5 * w5 - y5 * v5, x5 * v5 + y5 * w5
            br[j + 6 * s], bi[j + 6 * s] = x6 * w6 - y6 * v6, x6 * v6 + y6 * w6
            br[j + 7 * s], bi[j + 7 * s] = x7 * w7 - y7 * v7, x7 * v7 + y7 * w7


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _pass_4(m, s, o, ar, ai, br, bi, tr, ti):  # type: ignore[no-untyped-def]
    """Radix 4, as `_pass_8`."""
    h = m * s
    for p in range(m):
        w1, w2, w3 = tr[o + p + m], tr[o + p + 2 * m], tr[o + p + 3 * m]
        v1, v2, v3 = ti[o + p + m], ti[o + p + 2 * m], ti[o + p + 3 * m]
        for q in range(s):
            j = s * p + q
            r0, r1, r2, r3 = ar[j], ar[j + h], ar[j + 2 * h], ar[j + 3 * h]
            i0, i1, i2, i3 = ai[j], ai[j + h], ai[j + 2 * h], ai[j + 3 * h]
            a0, b0, a2, b2 = r0 + r2, i0 + i2, r0 - r2, i0 - i2
            a1, b1, a3, b3 = r1 + r3, i1 + i3, i1 - i3, r3 - r1
            j = 4 * s * p + q
            br[j], bi[j] = a0 + a1, b0 + b1
            x, y = a2 + a3, b2 + b3
            br[j + s], bi[j + s] = x * w1 - y * v1, x * v1 + y * w1
            x, y = a0 - a1, b0 - b1
            br[j + 2 * s], bi[j + 2 * s] = x * w2 - y * v2, x * v2 + y * w2
            x, y = a2 - a3, b2 - b3
            br[j + 3 * s], bi[j + 3 * s] = x * w3 - y * v3, x * v3 + y * w3


@njit(cache=True, forceinline=True, fastmath={"contract"})
def _last_2(s, ar, ai, br, bi):  # type: ignore[no-untyped-def]
    """Radix 2 without twiddles."""
    for q in range(s):
        r0, r1, i0, i1 = ar[q], ar[q + s], ai[q], ai[q + s]
        br[q], bi[q] = r0 + r1, i0 + i1
        br[q + s], bi[q + s] = r0 - r1, i0 - i1


@njit(cache=True, inline="always", fastmath={"contract"})
def _transform(n, ar, ai, br, bi, cr, ci, tr, ti):  # type: ignore[no-untyped-def]
    """Forward transform of ``a``, which is overwritten: into ``a`` if `ends_where_it_began`, else into ``b``.

    ``n`` has to be a constant where this is built in, ``c`` room for 8·_TILE, ``t`` the `twiddles`.
    """
    _first_pass(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
    # Sizes written out: a pass is made vector code only where its sizes are numbers when it is built in.
    if n == 64:
        _pass_8(_i(n // 64), _i(8), _i(64), br, bi, ar, ai, tr, ti)
    elif n == 128:
        _pass_8(_i(2), _i(8), _i(128), br, bi, ar, ai, tr, ti)
        _last_2(_i(64), ar, ai, br, bi)
    elif n == 256:
        _pass_8(_i(4), _i(8), _i(256), br, bi, ar, ai, tr, ti)
        _pass_4(_i(1), _i(64), _i(288), ar, ai, br, bi, tr, ti)
    elif n == 512:
        _pass_8(_i(8), _i(8), _i(512), br, bi, ar, ai, tr, ti)
        _pass_8(_i(1), _i(64), _i(576), ar, ai, br, bi, tr, ti)
    elif n == 1024:
        _pass_8(_i(16), _i(8), _i(1024), br, bi, ar, ai, tr, ti)
        _pass_4(_i(4), _i(64), _i(1152), ar, ai, br, bi, tr, ti)
        _pass_4(_i(1), _i(256), _i(1168), br, bi, ar, ai, tr, ti)
    elif n == 2048:
        _pass_8(_i(32), _i(8), _i(2048), br, bi, ar, ai, tr, ti)
        _pass_8(_i(4), _i(64), _i(2304), ar, ai, br, bi, tr, ti)
        _pass_4(_i(1), _i(512), _i(2336), br, bi, ar, ai, tr, ti)
    elif n == 4096:
        _pass_8(_i(64), _i(8), _i(4096), br, bi, ar, ai, tr, ti)
        _pass_8(_i(8), _i(64), _i(4608), ar, ai, br, bi, tr, ti)
        _pass_8(_i(1), _i(512), _i(4672), br, bi, ar, ai, tr, ti)
    elif n == 8192:
        _pass_8(_i(128), _i(8), _i(8192), br, bi, ar, ai, tr, ti)
        _pass_8(_i(16), _i(64), _i(9216), ar, ai, br, bi, tr, ti)
        _pass_4(_i(4), _i(512), _i(9344), br, bi, ar, ai, tr, ti)
        _pass_4(_i(1), _i(2048), _i(9360), ar, ai, br, bi, tr, ti)


def _radices(n: int) -> tuple[int, ...]:
    """Passes of `_transform`."""
    rest = {1: (), 2: (2,), 4: (4,), 8: (8,), 16: (4, 4), 32: (8, 4), 64: (8, 8), 128: (8, 4, 4)}
    return (8, 8, *rest[n // 64])


def ends_where_it_began(n: int) -> bool:
    """Whether `_transform` leaves its result in the buffer that held the input."""
    return len(_radices(n)) % 2 == 0


@lru_cache(maxsize=16)
def twiddles(n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors of all passes of `_transform`, real and imaginary parts, each rounded once."""
    parts, length = [], n
    for radix in _radices(n):
        parts.append(np.exp(-2j * np.pi * np.outer(np.arange(radix), np.arange(length // radix)) / length).ravel())
        length //= radix
    whole = np.concatenate(parts)
    return np.ascontiguousarray(whole.real, np.float32), np.ascontiguousarray(whole.imag, np.float32)


@lru_cache(maxsize=8)
def rows(n: int) -> Any:
    """Kernel ``(values, inverse, tr, ti, out)`` that transforms rows of ``n`` complex64 values, unscaled."""
    room = 8 * _TILE
    length = n + 16
    home = ends_where_it_began(n)

    @njit(cache=True, fastmath={"contract"})
    def _rows(values, inverse, tr, ti, out):  # type: ignore[no-untyped-def]
        ar, ai, br, bi = _stack(length), _stack(length), _stack(length), _stack(length)
        cr, ci = _stack(room), _stack(room)
        for row in range(values.shape[0]):
            xs, ys = values[row], out[row]
            # Real and imaginary parts exchanged before and after make the inverse.
            if inverse:
                for i in range(n):
                    ar[i], ai[i] = xs[i].imag, xs[i].real
            else:
                for i in range(n):
                    ar[i], ai[i] = xs[i].real, xs[i].imag
            _transform(_i(n), ar, ai, br, bi, cr, ci, tr, ti)
            real, imag = (ar, ai) if home else (br, bi)
            if inverse:
                for i in range(n):
                    ys[i] = complex(imag[i], real[i])
            else:
                for i in range(n):
                    ys[i] = complex(real[i], imag[i])

    return _rows
