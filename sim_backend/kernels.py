"""Inner loops, unchecked and private; the modules that own them validate and explain."""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 64
"""Output samples that share one set of filter taps and their first derivative."""


@njit(cache=True, nogil=True)
def _first_order_paths(poles, start, innovations, step, integrated, total, ends):
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
def _spline(coefficients, position, result):
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
def _propagate(source_re, source_im, position, cycles, gain_re, gain_im, polynomial, out_re, out_im, first, last):
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
def _filtered_phase(start, pole, gain, normals, angle):
    """First-order low-passed noise, in radians."""
    value = start
    for i in range(normals.size):
        value = pole * value + gain * normals[i]
        angle[i] = value


@njit(cache=True, nogil=True, inline="always")
def _mix(word):
    """Avalanche of 32 bits (Wellons' lowbias32). Casts keep the arithmetic from growing to 64 bits."""
    word = np.uint32(word ^ (word >> np.uint32(16)))
    word = np.uint32(word * np.uint32(0x7FEB352D))
    word = np.uint32(word ^ (word >> np.uint32(15)))
    word = np.uint32(word * np.uint32(0x846CA68B))
    return np.uint32(word ^ (word >> np.uint32(16)))


@njit(cache=True, nogil=True)
def _normal_block(first, keys, normal_re, normal_im):
    """Independent standard normals of counters ``first`` …, by a keyed hash and Box and Muller's transform."""
    key_a, key_b, key_c, key_d = np.uint32(keys[0]), np.uint32(keys[1]), np.uint32(keys[2]), np.uint32(keys[3])
    for i in range(BLOCK):
        counter = np.uint32(first + i)
        one = _mix(np.uint32(_mix(np.uint32(counter ^ key_a)) + key_b))
        two = _mix(np.uint32(_mix(np.uint32(counter ^ key_c)) + key_d))
        # (0, 1]: the logarithm stays finite, and the tail reaches 6.7 deviations.
        radius = np.sqrt(np.float32(-2.0) * np.log((np.float32(one) + np.float32(0.5)) * np.float32(2.0**-32)))
        angle = np.float32(two) * np.float32(2.0 * np.pi * 2.0**-32)
        normal_re[i] = radius * np.cos(angle)
        normal_im[i] = radius * np.sin(angle)


@njit(cache=True, nogil=True)
def _digitise(real, imaginary, angle, keys, deviation, scale, ratio, skew_sin, skew_cos, dc_re, dc_im, limit, counts):
    """Noise, phase noise, gain, imbalance, offset, rounding and clipping of one antenna's stretch."""
    normal_re = np.zeros(BLOCK, dtype=np.float32)
    normal_im = np.zeros(BLOCK, dtype=np.float32)
    level = np.float32(deviation)
    for block in range(0, real.size, BLOCK):
        if deviation > 0.0:
            _normal_block(block, keys, normal_re, normal_im)
        for i in range(min(BLOCK, real.size - block)):
            n = block + i
            a = real[n] + level * normal_re[i]
            b = imaginary[n] + level * normal_im[i]
            c = np.cos(angle[n])
            s = np.sin(angle[n])
            turned_re = scale * (a * c - b * s)
            turned_im = scale * (a * s + b * c)
            out_re = np.rint(ratio * turned_re + dc_re)
            out_im = np.rint(skew_cos * turned_im + skew_sin * turned_re + dc_im)
            counts[n, 0] = np.int16(min(max(out_re, -limit), limit - 1))
            counts[n, 1] = np.int16(min(max(out_im, -limit), limit - 1))
