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

    The rows' sum leaves the first parity block alone; the rest follows down the double diagonal. Eight codewords share
    a byte, one bit each: the checks are worked through once for all of them.
    """
    half = 12 * lift
    sums = np.empty((12, lift), np.uint8)
    bits, parity = np.empty(half, np.uint8), np.empty(half, np.uint8)
    for begin in range(0, len(information), 8):
        several = min(8, len(information) - begin)
        bits[:] = 0
        for c in range(several):
            one = information[begin + c]
            for i in range(half):
                bits[i] |= one[i] << np.uint8(c)
        sums[:] = 0
        for e in range(len(rows)):
            total, block, shift = sums[rows[e]], bits[columns[e] * lift : (columns[e] + 1) * lift], shifts[e]
            for z in range(lift - shift):
                total[z] ^= block[z + shift]
            for z in range(lift - shift, lift):
                total[z] ^= block[z + shift - lift]
        first, second = parity[:lift], parity[lift : 2 * lift]
        first[:] = 0
        for row in range(12):
            total = sums[row]
            for z in range(lift):
                first[z] ^= total[z]
        for z in range(lift):
            second[z] = sums[0, z] ^ first[z + 1 if z + 1 < lift else 0]
        for row in range(1, 11):
            before, after = parity[row * lift : (row + 1) * lift], parity[(row + 1) * lift : (row + 2) * lift]
            for z in range(lift):
                after[z] = sums[row, z] ^ before[z]
            if row == 6:
                for z in range(lift):
                    after[z] ^= first[z]
        for c in range(several):
            word, one = out[begin + c], information[begin + c]
            for i in range(half):
                word[i] = one[i]
                word[half + i] = (parity[i] >> np.uint8(c)) & np.uint8(1)


@njit(cache=True)
def _mapped(bits, order, levels, half, places, grid):  # type: ignore[no-untyped-def]
    """Elements of the flat ``grid`` at ``places``, from the bits in their interleaved order, ``half`` of them an axis.

    Indices are unsigned: looking whether one counts from the end would take as long as the rest.
    """
    for element in range(len(places)):
        at = 2 * half * element
        word, other = np.uint32(0), np.uint32(0)
        for bit in range(half):
            word = np.uint32(2) * word + np.uint32(bits[order[at + bit]])
            other = np.uint32(2) * other + np.uint32(bits[order[at + half + bit]])
        grid[places[element]] = complex(levels[word], levels[other])
