"""Layered decoding of quasi-cyclic parity-check codes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _satisfied(word, starts, columns, shifts, lift):  # type: ignore[no-untyped-def]
    for row in range(len(starts) - 1):
        for z in range(lift):
            odd = False
            for e in range(starts[row], starts[row + 1]):
                position = z + shifts[e]
                if position >= lift:
                    position -= lift
                odd ^= word[columns[e] * lift + position] < 0
            if odd:
                return False
    return True


@njit(cache=True)
def _decode_layered(posterior, starts, columns, shifts, lift, iterations, messages, scratch, flags):  # type: ignore[no-untyped-def]
    """Replaces each row of ``posterior`` by its posterior likelihoods; ``flags`` where every check holds."""
    least = np.empty(lift, np.float32)
    second = np.empty(lift, np.float32)
    sign = np.empty(lift, np.float32)
    for c in range(len(posterior)):
        word = posterior[c]
        flags[c] = _satisfied(word, starts, columns, shifts, lift)
        messages[:] = 0
        for _ in range(iterations):
            if flags[c]:
                break
            for row in range(len(starts) - 1):
                first = starts[row]
                degree = starts[row + 1] - first
                least[:] = np.float32(3e38)
                second[:] = np.float32(3e38)
                sign[:] = np.float32(1)
                for d in range(degree):
                    shift = shifts[first + d]
                    block = word[columns[first + d] * lift : (columns[first + d] + 1) * lift]
                    old = messages[first + d]
                    out = scratch[d]
                    for z in range(lift - shift):
                        out[z] = block[z + shift] - old[z]
                    for z in range(lift - shift, lift):
                        out[z] = block[z + shift - lift] - old[z]
                    for z in range(lift):
                        value = out[z]
                        size = abs(value)
                        second[z] = min(second[z], max(size, least[z]))
                        least[z] = min(least[z], size)
                        sign[z] = -sign[z] if value < 0 else sign[z]
                for d in range(degree):
                    shift = shifts[first + d]
                    block = word[columns[first + d] * lift : (columns[first + d] + 1) * lift]
                    new = messages[first + d]
                    out = scratch[d]
                    for z in range(lift):
                        value = out[z]
                        size = second[z] if abs(value) == least[z] else least[z]
                        own = -sign[z] if value < 0 else sign[z]
                        new[z] = np.float32(0.8) * size * own
                    for z in range(lift - shift):
                        block[z + shift] = out[z] + new[z]
                    for z in range(lift - shift, lift):
                        block[z + shift - lift] = out[z] + new[z]
            flags[c] = _satisfied(word, starts, columns, shifts, lift)


@njit(cache=True)
def _encode_blocks(information, rows, columns, shifts, lift, out):  # type: ignore[no-untyped-def]
    """Codewords (codeword, 24·lift) of ``information`` (codeword, 12·lift); the checks' entries in its half alone.

    The rows' sum leaves the first parity block alone; the rest follows down the double diagonal.
    """
    half = 12 * lift
    sums = np.empty((12, lift), np.uint8)
    for c in range(len(information)):
        word, bits = out[c], information[c]
        sums[:] = 0
        for e in range(len(rows)):
            total, block, shift = sums[rows[e]], bits[columns[e] * lift : (columns[e] + 1) * lift], shifts[e]
            for z in range(lift - shift):
                total[z] ^= block[z + shift]
            for z in range(lift - shift, lift):
                total[z] ^= block[z + shift - lift]
        for i in range(half):
            word[i] = bits[i]
        first, second = word[half : half + lift], word[half + lift : half + 2 * lift]
        first[:] = 0
        for row in range(12):
            total = sums[row]
            for z in range(lift):
                first[z] ^= total[z]
        for z in range(lift):
            second[z] = sums[0, z] ^ first[z + 1 if z + 1 < lift else 0]
        for row in range(1, 11):
            before = word[half + row * lift : half + (row + 1) * lift]
            after = word[half + (row + 1) * lift : half + (row + 2) * lift]
            for z in range(lift):
                after[z] = sums[row, z] ^ before[z]
            if row == 6:
                for z in range(lift):
                    after[z] ^= first[z]


@njit(cache=True)
def _mapped(bits, order, levels, half, free, grid):  # type: ignore[no-untyped-def]
    """Elements of ``grid`` where ``free``, from the bits in their interleaved order, ``half`` of them an axis."""
    at = 0
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            if free[row, column]:
                word, other = 0, 0
                for _ in range(half):
                    word = 2 * word + bits[order[at]]
                    at += 1
                for _ in range(half):
                    other = 2 * other + bits[order[at]]
                    at += 1
                grid[row, column] = complex(levels[word], levels[other])
