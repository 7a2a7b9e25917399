"""Inner loops of propagation, unchecked and private; `sim_backend.propagation` validates and explains.

Scratch lies on the stack and windows have a constant length: only then does the compiler see that nothing overlaps,
and make vector code of every loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]

BLOCK = 128
"""Output samples that share one set of filter taps and their first derivative."""
HALF_TAPS = 96
QUARTER_TAPS = 12
TAPS = 6
"""Of the filter between quarter samples."""
DEGREE = 7
TILE = 128
"""Samples of the source that are filled in at a time."""
_LANES = 16
_BATCH = 32
"""Blocks whose taps are made side by side."""
_RATES = 2.0**17
"""Steps in a cycle per sample of the table of carrier turns; half a step is left to first order: 1e-7 of the field."""
_MIDDLE = 0.5 * (BLOCK - 1)
_FAST = {"contract", "nsz"}
# sin(2·pi·u)/u over u², |u| ≤ 1/4, lowest power first; 7e-9 by Chebyshev fit.
_SINE = (6.28318528, -41.3416807, 81.6024807, -76.5812846, 39.7607221)
_f = np.float32


def _array_at(context: Any, builder: Any, data: Any, count: int) -> Any:
    """Float32 array of constant size at an address."""
    array = make_array(types.Array(types.float32, 1, "C"))(context, builder)
    populate_array(
        array,
        data=data,
        shape=cgutils.pack_array(builder, [context.get_constant(types.intp, count)]),
        strides=cgutils.pack_array(builder, [context.get_constant(types.intp, 4)]),
        itemsize=context.get_constant(types.intp, 4),
        meminfo=None,
    )
    return array._getvalue()


def _stack_code(typing_context: Any, count: Any) -> Any:
    """Uninitialised float32 array of constant size on the stack of the function that asks for it."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(ir.FloatType(), count.literal_value))
            place.align = 64
        return _array_at(context, builder, builder.bitcast(place, ir.FloatType().as_pointer()), count.literal_value)

    return types.Array(types.float32, 1, "C")(count), generate


def _window_code(typing_context: Any, values: Any, begin: Any, count: Any) -> Any:
    """``values[begin : begin + count]`` of constant length, unchecked."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return _array_at(context, builder, builder.gep(data, [arguments[1]], inbounds=True), count.literal_value)

    return types.Array(types.float32, 1, "C")(values, types.intp, count), generate


_stack: Any = intrinsic(_stack_code)
_window: Any = intrinsic(_window_code)


@njit(cache=True, nogil=True, forceinline=True, fastmath=_FAST)
def _circle(count, turns, real, imag):  # type: ignore[no-untyped-def]
    """Cosine and sine of ``count`` angles within half a turn of zero, in turns."""
    for i in range(count):
        t = turns[i]
        u = _f(0.25) - abs(t)
        v = _f(0.25) - abs(u)
        p, q = u * u, v * v
        a, b = _f(_SINE[4]), _f(_SINE[4])
        a, b = a * p + _f(_SINE[3]), b * q + _f(_SINE[3])
        a, b = a * p + _f(_SINE[2]), b * q + _f(_SINE[2])
        a, b = a * p + _f(_SINE[1]), b * q + _f(_SINE[1])
        a, b = u * (a * p + _f(_SINE[0])), v * (b * q + _f(_SINE[0]))
        real[i] = a
        imag[i] = b if t >= _f(0.0) else -b


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _split(
    values: NDArray[np.complex64], angle: Singles, quiet: int, runs: NDArray[np.int64], real: Singles, imag: Singles
) -> int:
    """Real and imaginary parts, turned by ``angle`` if it has any; the number of runs, or -1 for what is not finite.

    A run ends before more than ``quiet`` zeros, of which there are more than a block's.
    """
    count = 0
    last = -quiet - 1
    for begin in range(0, values.size, BLOCK):
        piece = values[begin : begin + BLOCK]
        total = _f(0.0)
        for i in range(piece.size):
            total += abs(piece[i].real) + abs(piece[i].imag)
        if not total < _f(np.inf):
            return -1
        if total == _f(0.0):
            continue
        first, end = 0, piece.size
        while piece[first] == 0:
            first += 1
        while piece[end - 1] == 0:
            end -= 1
        if begin + first - last > quiet:
            runs[count, 0] = begin + first
            count += 1
        last = begin + end - 1
        runs[count - 1, 1] = last + 1
    if angle.size == 0:
        for i in range(values.size):
            real[i] = values[i].real
            imag[i] = values[i].imag
        return count
    turns, cosine, sine = _stack(BLOCK), _stack(BLOCK), _stack(BLOCK)
    for begin in range(0, values.size, BLOCK):
        size = min(BLOCK, values.size - begin)
        line, piece = angle[begin : begin + size], values[begin : begin + size]
        to_re, to_im = real[begin : begin + size], imag[begin : begin + size]
        for i in range(size):
            t = line[i] * _f(0.5 / np.pi)
            turns[i] = t - np.floor(t + _f(0.5))
        _circle(BLOCK, turns, cosine, sine)
        for i in range(size):
            a, b = piece[i].real, piece[i].imag
            to_re[i] = a * cosine[i] - b * sine[i]
            to_im[i] = a * sine[i] + b * cosine[i]
    return count


@njit(cache=True, nogil=True, fastmath=_FAST)
def _fill_in(half: Singles, quarter: Singles, phases: NDArray[np.float32], part: int, begin: int, end: int) -> None:
    """Values half a sample, a quarter, and three quarters after each of the samples ``begin`` … ``end`` - 1.

    ``phases`` is (quarter, part, sample), its first row given. Eight stretches of a tile and six taps 16 apart share
    thirteen loads.
    """
    s0, s1, s2, s3 = _stack(_LANES), _stack(_LANES), _stack(_LANES), _stack(_LANES)
    s4, s5, s6, s7 = _stack(_LANES), _stack(_LANES), _stack(_LANES), _stack(_LANES)
    x, h, first, third = phases[0, part], phases[2, part], phases[1, part], phases[3, part]
    for origin in range(begin, end, TILE):
        for i in range(_LANES):
            s0[i], s1[i], s2[i], s3[i] = _f(0.0), _f(0.0), _f(0.0), _f(0.0)
            s4[i], s5[i], s6[i], s7[i] = _f(0.0), _f(0.0), _f(0.0), _f(0.0)
        for k in range(_LANES):
            a, b, c, d, e, f = half[k], half[k + 16], half[k + 32], half[k + 48], half[k + 64], half[k + 80]
            at = origin - (HALF_TAPS // 2 - 1) + k
            x0, x1, x2 = _window(x, at, _LANES), _window(x, at + 16, _LANES), _window(x, at + 32, _LANES)
            x3, x4, x5 = _window(x, at + 48, _LANES), _window(x, at + 64, _LANES), _window(x, at + 80, _LANES)
            x6, x7, x8 = _window(x, at + 96, _LANES), _window(x, at + 112, _LANES), _window(x, at + 128, _LANES)
            x9, x10 = _window(x, at + 144, _LANES), _window(x, at + 160, _LANES)
            x11, x12 = _window(x, at + 176, _LANES), _window(x, at + 192, _LANES)
            for i in range(_LANES):
                s0[i] += a * x0[i] + b * x1[i] + c * x2[i] + d * x3[i] + e * x4[i] + f * x5[i]
                s1[i] += a * x1[i] + b * x2[i] + c * x3[i] + d * x4[i] + e * x5[i] + f * x6[i]
                s2[i] += a * x2[i] + b * x3[i] + c * x4[i] + d * x5[i] + e * x6[i] + f * x7[i]
                s3[i] += a * x3[i] + b * x4[i] + c * x5[i] + d * x6[i] + e * x7[i] + f * x8[i]
                s4[i] += a * x4[i] + b * x5[i] + c * x6[i] + d * x7[i] + e * x8[i] + f * x9[i]
                s5[i] += a * x5[i] + b * x6[i] + c * x7[i] + d * x8[i] + e * x9[i] + f * x10[i]
                s6[i] += a * x6[i] + b * x7[i] + c * x8[i] + d * x9[i] + e * x10[i] + f * x11[i]
                s7[i] += a * x7[i] + b * x8[i] + c * x9[i] + d * x10[i] + e * x11[i] + f * x12[i]
        for stretch, sums in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
            line = _window(h, origin + stretch * _LANES, _LANES)
            for i in range(_LANES):
                line[i] = sums[i]
    c0, c1, c2, c3, c4, c5 = quarter[6], quarter[7], quarter[8], quarter[9], quarter[10], quarter[11]
    one, three = _stack(TILE), _stack(TILE)
    for origin in range(begin, end, TILE):
        a, b, c = _window(x, origin - 2, TILE), _window(x, origin - 1, TILE), _window(x, origin, TILE)
        d, e, f = _window(x, origin + 1, TILE), _window(x, origin + 2, TILE), _window(x, origin + 3, TILE)
        p, q, r, s = (
            _window(h, origin - 3, TILE), _window(h, origin - 2, TILE), _window(h, origin - 1, TILE),
            _window(h, origin, TILE),
        )  # fmt: skip
        t, u, v = _window(h, origin + 1, TILE), _window(h, origin + 2, TILE), _window(h, origin + 3, TILE)
        for i in range(TILE):
            one[i] = (
                c0 * (c[i] + s[i])
                + c1 * (r[i] + d[i])
                + c2 * (b[i] + t[i])
                + c3 * (q[i] + e[i])
                + c4 * (a[i] + u[i])
                + c5 * (p[i] + f[i])
            )
        for i in range(TILE):
            three[i] = (
                c0 * (s[i] + d[i])
                + c1 * (c[i] + t[i])
                + c2 * (r[i] + e[i])
                + c3 * (b[i] + u[i])
                + c4 * (q[i] + f[i])
                + c5 * (a[i] + v[i])
            )
        to_one, to_three = _window(first, origin, TILE), _window(third, origin, TILE)
        for i in range(TILE):
            to_one[i] = one[i]
            to_three[i] = three[i]


@njit(cache=True, nogil=True, forceinline=True, fastmath=_FAST)
def _places(position, cycles, count, pad, start, fraction, drift, turn):  # type: ignore[no-untyped-def]
    """What ``count`` blocks read: the quarter sample of the first tap, what is left of it, and the carrier's phase."""
    after, cycles_after = position[1:], cycles[1:]
    for b in range(count):
        rate = (after[b] - position[b]) * (1.0 / BLOCK)
        middle = position[b] + _MIDDLE * rate + pad
        place = 4.0 * (middle - _MIDDLE)
        whole = np.floor(place)
        start[b] = np.int64(whole) - (TAPS // 2 - 1)
        fraction[b] = _f(place - whole - 0.5)
        drift[b] = _f(4.0 * (rate - 1.0))
        phase = cycles[b] + (cycles_after[b] - cycles[b]) * (_MIDDLE / BLOCK)
        turn[b] = _f(phase - np.floor(phase + 0.5))


@njit(cache=True, nogil=True, forceinline=True, fastmath=_FAST)
def _taps(polynomial, fraction, tap, slope):  # type: ignore[no-untyped-def]
    """Taps of a batch of blocks, and their derivatives, (tap, block)."""
    for k in range(TAPS):
        row = polynomial[k]
        c0, c1, c2, c3, c4, c5, c6, c7 = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
        values, slopes = _window(tap, k * _BATCH, _BATCH), _window(slope, k * _BATCH, _BATCH)
        for b in range(_BATCH):
            x = fraction[b]
            values[b] = c0 + x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * (c5 + x * (c6 + x * c7))))))
            slopes[b] = c1 + x * (
                _f(2.0) * c2
                + x * (_f(3.0) * c3 + x * (_f(4.0) * c4 + x * (_f(5.0) * c5 + x * (_f(6.0) * c6 + x * _f(7.0) * c7))))
            )


@njit(cache=True, nogil=True, fastmath=_FAST)
def _propagate(
    phases: NDArray[np.float32],
    pad: int,
    position: Doubles,
    cycles: Doubles,
    gains: NDArray[np.complex128],
    blocks: NDArray[np.int64],
    polynomial: Singles,
    out_re: Singles,
    out_im: Singles,
) -> None:
    """Add paths, each to its output blocks ``blocks[path, 0]`` … ``blocks[path, 1]`` - 1.

    ``position`` and ``cycles`` (path, edge) give, at block edges, the place in the source (in samples, ``pad`` before
    the first of ``phases``' rows) and the carrier phase; both are linear between. Within a block the taps are expanded
    to first order around the middle, which bounds their error by (pi·128·rate difference)²/8 of the band's edge; so is
    the carrier's turn around the nearest rate of a raster, whatever blocks came before. A batch of blocks is made of
    all paths before the next, so that the source stays in the second cache.
    """
    sum_re, sum_im, ramp = _stack(BLOCK), _stack(BLOCK), _stack(BLOCK)
    angle, fine_re, fine_im = _stack(BLOCK), _stack(BLOCK), _stack(BLOCK)
    fraction, drift, turn = _stack(_BATCH), _stack(_BATCH), _stack(_BATCH)
    base_re, base_im = _stack(_BATCH), _stack(_BATCH)
    tap, slope = _stack(192), _stack(192)
    start = np.empty(_BATCH, np.int64)
    flat, row = phases.reshape(phases.size), phases.shape[2]
    for i in range(BLOCK):
        ramp[i] = _f(i) - _f(_MIDDLE)
    for i in range(_BATCH):
        fraction[i], turn[i] = _f(0.0), _f(0.0)
    held = np.inf
    for number in range(blocks[:, 0].min() // _BATCH * len(gains), -(-blocks[:, 1].max() // _BATCH) * len(gains)):
        path = number % len(gains)
        origin = max(number // len(gains) * _BATCH, blocks[path, 0])
        count = min(number // len(gains) * _BATCH + _BATCH, blocks[path, 1]) - origin
        if count <= 0:
            continue
        edge = cycles[path, origin : origin + count + 1]
        _places(position[path, origin : origin + count + 1], edge, count, pad, start, fraction, drift, turn)
        _taps(polynomial, fraction, tap, slope)
        _circle(_BATCH, turn, base_re, base_im)
        direct, across = _f(gains[path].real), _f(gains[path].imag)
        for b in range(count):
            quarter, at = start[b] & 3, start[b] >> 2
            begin_0 = 2 * row * quarter + at
            begin_1 = 2 * row * ((quarter + 1) & 3) + at + ((quarter + 1) >> 2)
            begin_2 = 2 * row * ((quarter + 2) & 3) + at + ((quarter + 2) >> 2)
            begin_3 = 2 * row * ((quarter + 3) & 3) + at + ((quarter + 3) >> 2)
            x0, y0 = _window(flat, begin_0, BLOCK), _window(flat, begin_0 + row, BLOCK)
            x1, y1 = _window(flat, begin_1, BLOCK), _window(flat, begin_1 + row, BLOCK)
            x2, y2 = _window(flat, begin_2, BLOCK), _window(flat, begin_2 + row, BLOCK)
            x3, y3 = _window(flat, begin_3, BLOCK), _window(flat, begin_3 + row, BLOCK)
            x4, y4 = _window(flat, begin_0 + 1, BLOCK), _window(flat, begin_0 + row + 1, BLOCK)
            x5, y5 = _window(flat, begin_1 + 1, BLOCK), _window(flat, begin_1 + row + 1, BLOCK)
            h0, h1, h2, h3, h4, h5 = tap[b], tap[32 + b], tap[64 + b], tap[96 + b], tap[128 + b], tap[160 + b]
            g0, g1, g2, g3, g4, g5 = (
                slope[b], slope[32 + b], slope[64 + b], slope[96 + b], slope[128 + b], slope[160 + b],
            )  # fmt: skip
            away = drift[b]
            for i in range(BLOCK):
                s = ramp[i] * away
                w0, w1, w2 = h0 + g0 * s, h1 + g1 * s, h2 + g2 * s
                w3, w4, w5 = h3 + g3 * s, h4 + g4 * s, h5 + g5 * s
                sum_re[i] = w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i] + w4 * x4[i] + w5 * x5[i]
                sum_im[i] = w0 * y0[i] + w1 * y1[i] + w2 * y2[i] + w3 * y3[i] + w4 * y4[i] + w5 * y5[i]
            advance = (edge[b + 1] - edge[b]) * (1.0 / BLOCK)
            nearest = np.floor(advance * _RATES + 0.5) * (1.0 / _RATES)
            if nearest != held:
                held = nearest
                for i in range(BLOCK):
                    cycle = held * (i - _MIDDLE)
                    angle[i] = _f(cycle - np.floor(cycle + 0.5))
                _circle(BLOCK, angle, fine_re, fine_im)
            rest = _f(2.0 * np.pi * (advance - held))
            coarse_re = direct * base_re[b] - across * base_im[b]
            coarse_im = direct * base_im[b] + across * base_re[b]
            place = (origin + b) * BLOCK
            target_re, target_im = _window(out_re, place, BLOCK), _window(out_im, place, BLOCK)
            for i in range(BLOCK):
                t = rest * ramp[i]
                p, q = coarse_re - t * coarse_im, coarse_im + t * coarse_re
                rotor_re = p * fine_re[i] - q * fine_im[i]
                rotor_im = p * fine_im[i] + q * fine_re[i]
                target_re[i] += sum_re[i] * rotor_re - sum_im[i] * rotor_im
                target_im[i] += sum_re[i] * rotor_im + sum_im[i] * rotor_re
