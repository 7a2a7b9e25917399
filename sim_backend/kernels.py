"""Inner loops, unchecked and private; the modules that own them validate and explain."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Keys = tuple[int, int, int, int]

BLOCK = 64
"""Samples whose noise is made side by side."""
NOISE_CHUNK = 64 * BLOCK
_FAST = {"contract", "nsz"}
_LOG = (
    0.0874394535,
    -0.143773306,
    0.149490955,
    -0.16560696,
    0.199569775,
    -0.250021535,
    0.333341833,
    -0.49999987,
    0.999999974,
)
"""Coefficients of ln(1 + x)/x for 1 + x within [sqrt(1/2), sqrt(2)), highest power first; 1e-7 by Chebyshev fit."""
# sin(x)/x and cos(x) over x², |x| ≤ pi/2, lowest power first; 7e-9 by Chebyshev fit.
_SINE = (0.999999996, -0.16666658, 0.00833305062, -0.000198090464, 2.60516628e-06)
_COSINE = (1, -0.499999994, 0.0416666362, -0.00138883608, 2.47601355e-05, -2.60510762e-07)
_f, _i, _u = np.float32, np.int32, np.uint32


@njit(cache=True, nogil=True)
def _first_order_paths(
    poles: Doubles, start: Doubles, innovations: Doubles, step: float, integrated: bool, total: Doubles, ends: Doubles
) -> None:
    """Sum of first-order processes (or of their integrals) over a segment, and each one's end state."""
    count, steps = innovations.shape
    for j in range(count):
        pole = poles[j]
        value = start[j]
        integral = 0.0
        noise = innovations[j]
        if integrated:
            for i in range(steps):
                total[i] += integral
                integral += step * value
                value = pole * value + noise[i]
        else:
            for i in range(steps):
                total[i] += value
                value = pole * value + noise[i]
        ends[j, 0] = value
        ends[j, 1] = integral


@njit(cache=True, nogil=True)
def _spline(coefficients: Doubles, position: Doubles, result: Doubles) -> None:
    """Cubic B-spline of ``coefficients`` at ``position`` (in steps)."""
    for i in range(position.size):
        n = int(np.floor(position[i]))
        u = position[i] - n
        v = 1.0 - u
        before = v * v * v / 6.0
        after = u * u * u / 6.0
        here = 2.0 / 3.0 - 0.5 * u * u * (2.0 - u)
        there = 2.0 / 3.0 - 0.5 * v * v * (2.0 - v)
        result[i] = (
            before * coefficients[n - 1]
            + here * coefficients[n]
            + there * coefficients[n + 1]
            + after * coefficients[n + 2]
        )


def _mix_code(typing_context: Any, word: Any) -> Any:
    """Avalanche of 32 bits (Wellons' lowbias32), in the compiler's own words: numba's would grow to 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def number(value: int) -> Any:
            return ir.Constant(ir.IntType(32), value)

        value = arguments[0]
        value = builder.xor(value, builder.lshr(value, number(16)))
        value = builder.mul(value, number(0x7FEB352D))
        value = builder.xor(value, builder.lshr(value, number(15)))
        value = builder.mul(value, number(0x846CA68B))
        return builder.xor(value, builder.lshr(value, number(16)))

    return types.uint32(types.uint32), generate


_mix: Any = intrinsic(_mix_code)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _normals(first: int, keys: Keys, normal_re: Singles, normal_im: Singles) -> None:
    """Fill two arrays, a whole number of blocks long, with the independent standard normals of counters ``first`` ….

    A keyed hash, and Box and Muller's transform. Logarithm and circle are polynomials good to 2e-7, which the
    compiler turns into vector code where the library's functions would be called.
    """
    uniform = np.empty(BLOCK, dtype=np.float32)
    # One buffer seen as floats and as integers.
    bits = uniform.view(np.int32)
    angle = np.empty(BLOCK, dtype=np.int32)
    key_a, key_b, key_c, key_d = _u(keys[0]), _u(keys[1]), _u(keys[2]), _u(keys[3] | 1)
    for block in range(0, normal_re.size, BLOCK):
        begin = first + block
        for i in range(BLOCK):
            word = _u(_mix(_u(_u(begin + i) ^ key_a)) + key_b)
            # (0, 1]: the logarithm stays finite, and the tail reaches 6.6 deviations.
            uniform[i] = _f(_i(_mix(_u(word ^ key_c)) >> _u(1))) * _f(2.0**-31) + _f(2.0**-32)
            angle[i] = _i(_u(word * key_d))
        real, imag = normal_re[block : block + BLOCK], normal_im[block : block + BLOCK]
        for i in range(BLOCK):
            # uniform = mantissa · 2^exponent with the mantissa within [sqrt(1/2), sqrt(2)).
            raised = _i(bits[i] - _i(0x3F3504F3))
            exponent = _i(raised >> _i(23))
            bits[i] = _i((raised & _i(0x007FFFFF)) + _i(0x3F3504F3))
            x = uniform[i] - _f(1.0)
            log = _f(_LOG[0])
            log = log * x + _f(_LOG[1])
            log = log * x + _f(_LOG[2])
            log = log * x + _f(_LOG[3])
            log = log * x + _f(_LOG[4])
            log = log * x + _f(_LOG[5])
            log = log * x + _f(_LOG[6])
            log = log * x + _f(_LOG[7])
            log = log * x + _f(_LOG[8])
            log = log * x + _f(exponent) * _f(0.6931471805599453)
            radius = np.sqrt(max(_f(-2.0) * log, _f(0.0)))
            # One bit says which half of the circle, the others where in it.
            radius = -radius if angle[i] < _i(0) else radius
            t = _f(_i(angle[i] << _i(1))) * _f(np.pi / 2 * 2.0**-31)
            q = t * t
            sine = _f(_SINE[3]) + q * _f(_SINE[4])
            sine = t * (_f(_SINE[0]) + q * (_f(_SINE[1]) + q * (_f(_SINE[2]) + q * sine)))
            cosine = _f(_COSINE[3]) + q * (_f(_COSINE[4]) + q * _f(_COSINE[5]))
            cosine = _f(_COSINE[0]) + q * (_f(_COSINE[1]) + q * (_f(_COSINE[2]) + q * cosine))
            real[i] = radius * cosine
            imag[i] = radius * sine


@njit(cache=True, nogil=True, fastmath=_FAST)
def _low_passed(start: float, pole: float, gain: float, normals: Singles, angle: Singles) -> float:
    """First-order low-passed noise; its last value. Four steps at once: each would wait for the one before."""
    value = start
    second, third, fourth = pole * pole, pole * pole * pole, pole * pole * pole * pole
    whole = normals.size // 4 * 4
    for i in range(0, whole, 4):
        a = gain * normals[i]
        b = pole * a + gain * normals[i + 1]
        c = pole * b + gain * normals[i + 2]
        d = pole * c + gain * normals[i + 3]
        angle[i] = a + pole * value
        angle[i + 1] = b + second * value
        angle[i + 2] = c + third * value
        value = d + fourth * value
        angle[i + 3] = value
    for i in range(whole, normals.size):
        value = pole * value + gain * normals[i]
        angle[i] = value
    return value


@njit(cache=True, nogil=True, fastmath=_FAST)
def _phase_noise(start: float, pole: float, gain: float, keys: Keys, angle: Singles) -> None:
    """First-order low-passed noise, in radians; the normals of both branches one after the other."""
    normals = np.empty(2 * NOISE_CHUNK, dtype=np.float32)
    value = start
    for begin in range(0, angle.size, 2 * NOISE_CHUNK):
        _normals(begin // 2, keys, normals[:NOISE_CHUNK], normals[NOISE_CHUNK:])
        piece = angle[begin : begin + 2 * NOISE_CHUNK]
        value = _low_passed(value, pole, gain, normals[: piece.size], piece)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _digitise(
    real: Singles,
    imaginary: Singles,
    angle: Singles,
    keys: Keys,
    deviation: float,
    scale: float,
    ratio: float,
    skew_sin: float,
    skew_cos: float,
    dc_re: float,
    dc_im: float,
    limit: int,
    counts: NDArray[np.int32],
) -> None:
    """Noise, phase noise, gain, imbalance, offset, rounding and clipping of a stretch, a whole number of blocks.

    A pair of counts is one int32: low half in phase, high half in quadrature.
    """
    normal_re = np.zeros(NOISE_CHUNK, dtype=np.float32)
    normal_im = np.zeros(NOISE_CHUNK, dtype=np.float32)
    level, gain = _f(deviation), _f(scale)
    in_phase, across, along = _f(ratio), _f(skew_sin), _f(skew_cos)
    # Half a count, so that the floor rounds.
    zero_re, zero_im = _f(dc_re + 0.5), _f(dc_im + 0.5)
    low, high = _f(-limit), _f(limit - 1)
    one = _f(1.0)
    for block in range(0, real.size, BLOCK):
        place = block % NOISE_CHUNK
        if deviation > 0.0 and place == 0:
            _normals(block, keys, normal_re, normal_im)
        noise_re = normal_re[place : place + BLOCK]
        noise_im = normal_im[place : place + BLOCK]
        line_re = real[block : block + BLOCK]
        line_im = imaginary[block : block + BLOCK]
        line_angle = angle[block : block + BLOCK]
        line_out = counts[block : block + BLOCK]
        for i in range(BLOCK):
            a = line_re[i] + level * noise_re[i]
            b = line_im[i] + level * noise_im[i]
            t = line_angle[i]
            q = t * t
            # Series for a few degrees of phase noise; 2e-4 at a quarter turn.
            s = t * (one + q * (_f(-1 / 6) + q * (_f(1 / 120) + q * _f(-1 / 5040))))
            c = one + q * (_f(-0.5) + q * (_f(1 / 24) + q * (_f(-1 / 720) + q * _f(1 / 40320))))
            turned_re = gain * (a * c - b * s)
            turned_im = gain * (a * s + b * c)
            out_re = np.floor(in_phase * turned_re + zero_re)
            out_im = np.floor(along * turned_im + across * turned_re + zero_im)
            whole_re = _i(min(max(out_re, low), high))
            whole_im = _i(min(max(out_im, low), high))
            line_out[i] = _i(_i(whole_im << _i(16)) | _i(whole_re & _i(0xFFFF)))
