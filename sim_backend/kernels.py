"""Inner loops, unchecked and private; the modules that own them validate and explain."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Keys = tuple[int, int, int, int]

BLOCK = 64
"""Output samples that share one set of filter taps and their first derivative."""
NOISE_CHUNK = 64 * BLOCK
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


@njit(cache=True, nogil=True)
def _propagate(
    source_re: Singles,
    source_im: Singles,
    position: Doubles,
    cycles: Doubles,
    gain_re: float,
    gain_im: float,
    polynomial: Doubles,
    out_re: Singles,
    out_im: Singles,
    first: int,
    last: int,
) -> None:
    """Add one path to the output blocks ``first`` … ``last`` - 1.

    ``position`` and ``cycles`` give, at block edges, the place in the source (in samples, of the filter's first
    tap) and the carrier phase; both are linear between. Within a block the taps are expanded to first order
    around the middle, which bounds their error by (pi·64·rate difference)²/8 of the band's edge.
    """
    degree = polynomial.shape[0] - 1
    taps = polynomial.shape[1]
    middle = 0.5 * (BLOCK - 1)
    tap = np.empty(taps, dtype=np.float32)
    slope = np.empty(taps, dtype=np.float32)
    shift = np.empty(BLOCK, dtype=np.float32)
    sum_re = np.empty(BLOCK, dtype=np.float32)
    sum_im = np.empty(BLOCK, dtype=np.float32)
    fine_re = np.empty(8)
    fine_im = np.empty(8)
    for block in range(first, last):
        step = (position[block + 1] - position[block]) / BLOCK
        centre = position[block] + middle * step
        start = int(np.floor(centre - middle))
        fraction = centre - middle - start
        for k in range(taps):
            value = polynomial[degree, k]
            derivative = 0.0
            for power in range(degree - 1, -1, -1):
                derivative = derivative * fraction + value
                value = value * fraction + polynomial[power, k]
            tap[k] = value
            slope[k] = derivative
        for i in range(BLOCK):
            shift[i] = (i - middle) * (step - 1.0)
            sum_re[i] = 0.0
            sum_im[i] = 0.0
        piece_re = source_re[start : start + BLOCK + taps]
        piece_im = source_im[start : start + BLOCK + taps]
        for k in range(taps):
            h = tap[k]
            g = slope[k]
            line_re = piece_re[k : k + BLOCK]
            line_im = piece_im[k : k + BLOCK]
            for i in range(BLOCK):
                weight = h + g * shift[i]
                sum_re[i] += weight * line_re[i]
                sum_im[i] += weight * line_im[i]
        advance = (cycles[block + 1] - cycles[block]) / BLOCK
        angle = 2.0 * np.pi * (cycles[block] - np.floor(cycles[block]))
        turn = 2.0 * np.pi * advance
        turn_re = np.cos(turn)
        turn_im = np.sin(turn)
        fine_re[0] = 1.0
        fine_im[0] = 0.0
        for i in range(1, 8):
            fine_re[i] = fine_re[i - 1] * turn_re - fine_im[i - 1] * turn_im
            fine_im[i] = fine_re[i - 1] * turn_im + fine_im[i - 1] * turn_re
        leap_re = fine_re[7] * turn_re - fine_im[7] * turn_im
        leap_im = fine_re[7] * turn_im + fine_im[7] * turn_re
        phase_re = np.cos(angle)
        phase_im = np.sin(angle)
        coarse_re = gain_re * phase_re - gain_im * phase_im
        coarse_im = gain_re * phase_im + gain_im * phase_re
        target_re = out_re[block * BLOCK : block * BLOCK + BLOCK]
        target_im = out_im[block * BLOCK : block * BLOCK + BLOCK]
        for leap in range(0, BLOCK, 8):
            for i in range(8):
                rotor_re = np.float32(coarse_re * fine_re[i] - coarse_im * fine_im[i])
                rotor_im = np.float32(coarse_re * fine_im[i] + coarse_im * fine_re[i])
                a = sum_re[leap + i]
                b = sum_im[leap + i]
                target_re[leap + i] += a * rotor_re - b * rotor_im
                target_im[leap + i] += a * rotor_im + b * rotor_re
            swap = coarse_re * leap_re - coarse_im * leap_im
            coarse_im = coarse_re * leap_im + coarse_im * leap_re
            coarse_re = swap


@njit(cache=True, nogil=True)
def _filtered_phase(start: float, pole: float, gain: float, normals: Singles, angle: Singles) -> None:
    """First-order low-passed noise, in radians."""
    value = start
    for i in range(normals.size):
        value = pole * value + gain * normals[i]
        angle[i] = value


@njit(cache=True, nogil=True, inline="always")
def _mix(word: np.uint32) -> np.uint32:
    """Avalanche of 32 bits (Wellons' lowbias32). Casts keep the arithmetic from growing to 64 bits."""
    word = np.uint32(word ^ (word >> np.uint32(16)))
    word = np.uint32(word * np.uint32(0x7FEB352D))
    word = np.uint32(word ^ (word >> np.uint32(15)))
    word = np.uint32(word * np.uint32(0x846CA68B))
    return np.uint32(word ^ (word >> np.uint32(16)))


@njit(cache=True, nogil=True, inline="always")
def _normal_block(
    first: int,
    key_a: np.uint32,
    key_b: np.uint32,
    key_c: np.uint32,
    key_d: np.uint32,
    uniform: Singles,
    bits: NDArray[np.int32],
    angle: NDArray[np.uint32],
    normal_re: Singles,
    normal_im: Singles,
) -> None:
    """Independent standard normals of counters ``first`` …, by a keyed hash and Box and Muller's transform.

    ``uniform`` and ``bits`` are one buffer seen as floats and as integers. Logarithm and circle are polynomials
    good to 2e-7, which the compiler turns into vector code where the library's functions would be called.
    """
    for i in range(BLOCK):
        counter = np.uint32(first + i)
        one = _mix(np.uint32(_mix(np.uint32(counter ^ key_a)) + key_b))
        two = _mix(np.uint32(_mix(np.uint32(counter ^ key_c)) + key_d))
        # (0, 1]: the logarithm stays finite, and the tail reaches 6.8 deviations.
        uniform[i] = np.float32(one) * np.float32(2.0**-32) + np.float32(2.0**-33)
        angle[i] = two
    for i in range(BLOCK):
        # uniform = mantissa · 2^exponent with the mantissa within [sqrt(1/2), sqrt(2)).
        raised = np.int32(bits[i] - np.int32(0x3F3504F3))
        exponent = np.int32(raised >> np.int32(23))
        bits[i] = np.int32((raised & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3))
        x = uniform[i] - np.float32(1.0)
        log = np.float32(_LOG[0])
        log = log * x + np.float32(_LOG[1])
        log = log * x + np.float32(_LOG[2])
        log = log * x + np.float32(_LOG[3])
        log = log * x + np.float32(_LOG[4])
        log = log * x + np.float32(_LOG[5])
        log = log * x + np.float32(_LOG[6])
        log = log * x + np.float32(_LOG[7])
        log = log * x + np.float32(_LOG[8])
        log = log * x + np.float32(exponent) * np.float32(0.6931471805599453)
        radius = np.sqrt(max(np.float32(-2.0) * log, np.float32(0.0)))
        quarter = np.uint32(np.uint32(angle[i] + np.uint32(0x20000000)) >> np.uint32(30))
        rest = np.int32(np.uint32(angle[i] - np.uint32(quarter << np.uint32(30))))
        t = np.float32(rest) * np.float32(2.0 * np.pi * 2.0**-32)
        q = t * t
        sine = t * (np.float32(1.0) + q * (np.float32(-1 / 6) + q * (np.float32(1 / 120) + q * np.float32(-1 / 5040))))
        cosine = np.float32(1.0) + q * (
            np.float32(-0.5) + q * (np.float32(1 / 24) + q * (np.float32(-1 / 720) + q * np.float32(1 / 40320)))
        )
        odd = (quarter & np.uint32(1)) == np.uint32(1)
        along = sine if odd else cosine
        across = cosine if odd else sine
        normal_re[i] = radius * (-along if quarter == np.uint32(1) or quarter == np.uint32(2) else along)
        normal_im[i] = radius * (-across if quarter >= np.uint32(2) else across)


@njit(cache=True, nogil=True)
def _normals(first: int, keys: Keys, normal_re: Singles, normal_im: Singles) -> None:
    """Fill two arrays, a whole number of blocks long, with the independent standard normals of counters ``first`` …."""
    uniform = np.empty(BLOCK, dtype=np.float32)
    bits = uniform.view(np.int32)
    angle = np.empty(BLOCK, dtype=np.uint32)
    key_a, key_b, key_c, key_d = np.uint32(keys[0]), np.uint32(keys[1]), np.uint32(keys[2]), np.uint32(keys[3])
    for block in range(0, normal_re.size, BLOCK):
        _normal_block(
            first + block,
            key_a,
            key_b,
            key_c,
            key_d,
            uniform,
            bits,
            angle,
            normal_re[block : block + BLOCK],
            normal_im[block : block + BLOCK],
        )


@njit(cache=True, nogil=True)
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
    counts: NDArray[np.int16],
) -> None:
    """Noise, phase noise, gain, imbalance, offset, rounding and clipping of a stretch, a whole number of blocks."""
    normal_re = np.zeros(NOISE_CHUNK, dtype=np.float32)
    normal_im = np.zeros(NOISE_CHUNK, dtype=np.float32)
    rounded_re = np.empty(BLOCK, dtype=np.int16)
    rounded_im = np.empty(BLOCK, dtype=np.int16)
    level, gain = np.float32(deviation), np.float32(scale)
    in_phase, across, along = np.float32(ratio), np.float32(skew_sin), np.float32(skew_cos)
    # Half a count, so that the floor rounds.
    zero_re, zero_im = np.float32(dc_re + 0.5), np.float32(dc_im + 0.5)
    low, high = np.float32(-limit), np.float32(limit - 1)
    one = np.float32(1.0)
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
            s = t * (one + q * (np.float32(-1 / 6) + q * (np.float32(1 / 120) + q * np.float32(-1 / 5040))))
            c = one + q * (
                np.float32(-0.5) + q * (np.float32(1 / 24) + q * (np.float32(-1 / 720) + q * np.float32(1 / 40320)))
            )
            turned_re = gain * (a * c - b * s)
            turned_im = gain * (a * s + b * c)
            out_re = np.floor(in_phase * turned_re + zero_re)
            out_im = np.floor(along * turned_im + across * turned_re + zero_im)
            rounded_re[i] = np.int16(np.int32(min(max(out_re, low), high)))
            rounded_im[i] = np.int16(np.int32(min(max(out_im, low), high)))
        for i in range(BLOCK):
            line_out[i, 0] = rounded_re[i]
            line_out[i, 1] = rounded_im[i]
