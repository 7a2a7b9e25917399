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
