"""Low-density parity-check codes of rate one half, as IEEE 802.11 defines them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_LENGTHS", "Code", "code"]

# Cyclic shifts of the twelve systematic block columns, -1 where the block is zero: IEEE Std 802.11-2020, annex F,
# tables F-1 to F-3, rate 1/2. The parity part is the same in all three and built in `Code.base`.
_SHIFTS = {
    648: """
        0 . . . 0 0 . . 0 . . 0      22 0 . . 17 . 0 0 12 . . .   6 . 0 . 10 . . . 24 . 0 .
        2 . . 0 20 . . . 25 0 . .    23 . . . 3 . . . 0 . 9 11    24 . 23 1 17 . 3 . 10 . . .
        25 . . . 8 . . . 7 18 . .    13 24 . . 0 . 8 . 6 . . .    7 20 . 16 22 10 . . 23 . . .
        11 . . . 19 . . . 13 . 3 17  25 . 8 . 23 18 . 14 9 . . .  3 . . . 16 . . 2 25 5 . .
    """,
    1296: """
        40 . . . 22 . 49 23 43 . . .    50 1 . . 48 35 . . 13 . 30 .  39 50 . . 4 . 2 . . . . 49
        33 . . 38 37 . . 4 1 . . .      45 . . . 0 22 . . 20 42 . .   51 . . 48 35 . . . 44 . 18 .
        47 11 . . . 17 . . 51 . . .     5 . 25 . 6 . 45 . 13 40 . .   33 . . 34 24 . . . 23 . . 46
        1 . 27 . 1 . . . 38 . 44 .      . 18 . . 23 . . 8 0 35 . .    49 . 17 . 30 . . . 34 . . 19
    """,
    1944: """
        57 . . . 50 . 11 . 50 . 79 .    3 . 28 . 0 . . . 55 7 . .     30 . . . 24 37 . . 56 14 . .
        62 53 . . 53 . . 3 35 . . .     40 . . 20 66 . . 22 28 . . .  0 . . . 8 . 42 . 50 . . 8
        69 79 79 . . . 56 . 52 . . .    65 . . . 38 57 . . 72 . 27 .  64 . . . 14 52 . . 30 . . 32
        . 45 . 70 0 . . . 77 9 . .      2 56 . 57 35 . . . . . 12 .   24 . 61 . 60 . . 27 51 . . 16
    """,
}

BLOCK_LENGTHS = tuple(sorted(_SHIFTS, reverse=True))
"""Codeword lengths, longest first."""

_ROWS = 12
_ITERATIONS = 25
"""Layered iterations before a codeword is given up; what 25 do not decode, 50 rarely do."""


def _packed(words: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Eight rows of bits to one of bytes, the first in the lowest place; missing ones are zero."""
    whole = np.zeros((-(-len(words) // 8), 8, words.shape[1]), np.uint8)
    whole.reshape(-1, words.shape[1])[: len(words)] = words
    packed = whole[:, 0].copy()
    for place in range(1, 8):
        packed |= whole[:, place] << place
    return packed


def _unpacked(packed: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """The first ``count`` rows of bits that `_packed` made into bytes."""
    bits = np.empty((len(packed), 8, packed.shape[1]), np.uint8)
    for place in range(8):
        np.bitwise_and(packed >> place, 1, out=bits[:, place])
    return bits.reshape(-1, packed.shape[1])[:count]


@dataclass(frozen=True)
class Code:
    """One quasi-cyclic code: ``length`` bits, half of them information, first."""

    length: int

    @property
    def information(self) -> int:
        """Information bits of a codeword."""
        return self.length // 2

    @property
    def lift(self) -> int:
        """Size of a cyclic block."""
        return self.length // (2 * _ROWS)

    @cached_property
    def base(self) -> NDArray[np.int64]:
        """Cyclic shifts of the parity check's blocks, -1 where zero, shape (12, 24)."""
        words = [-1 if word == "." else int(word) for word in _SHIFTS[self.length].split()]
        base = np.full((_ROWS, 2 * _ROWS), -1)
        base[:, :_ROWS] = np.reshape(words, (_ROWS, _ROWS))
        base[[0, _ROWS // 2, _ROWS - 1], _ROWS] = 1, 0, 1
        for row in range(_ROWS - 1):
            base[row : row + 2, _ROWS + 1 + row] = 0
        return base

    def encode(self, information: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Codewords of ``information``, shape (codeword, length/2), as shape (codeword, length).

        The checks' sum leaves the first parity block alone; the rest follows down the double diagonal. Eight codewords
        share a byte, one bit each. Numpy alone: who only transmits need not load a compiler, which takes half a second.
        """
        words = np.ascontiguousarray(information, np.uint8).reshape(-1, self.information)
        lift, base = self.lift, self.base[:, :_ROWS]
        packed = _packed(words).reshape(-1, _ROWS, lift)
        sums = np.zeros((_ROWS, len(packed), lift), np.uint8)
        for row, column in np.argwhere(base >= 0):
            shift, block = base[row, column], packed[:, column]
            sums[row, :, : lift - shift] ^= block[:, shift:]
            sums[row, :, lift - shift :] ^= block[:, :shift]
        parity = np.empty_like(packed)
        parity[:, 0] = np.bitwise_xor.reduce(sums, axis=0)
        parity[:, 1] = sums[0] ^ np.roll(parity[:, 0], -1, axis=1)
        for row in range(1, _ROWS - 1):
            parity[:, row + 1] = sums[row] ^ parity[:, row]
            if row == _ROWS // 2:
                parity[:, row + 1] ^= parity[:, 0]
        return np.concatenate([words, _unpacked(parity.reshape(len(packed), -1), len(words))], axis=1)

    def decode(self, likelihoods: NDArray[np.floating]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Most likely information bits, and which codewords satisfy every check.

        Layered normalised min-sum (factor 0.8), stopped at the first iteration whose decisions satisfy every check;
        a codeword whose received decisions already do costs one pass over its checks.

        Parameters
        ----------
        likelihoods : float array, shape (codeword, length)
            Logarithm of the ratio of probabilities of 0 and of 1.

        Returns
        -------
        tuple
            Bits, shape (codeword, length/2), and flags, shape (codeword,).

        Source: Hocevar, "A reduced complexity decoder architecture via layered decoding of LDPC codes", SiPS 2004.
        """
        from dsp.kernels.coding import _decode_layered

        posterior = np.array(likelihoods, np.float32, order="C").reshape(-1, self.length)
        flags = np.zeros(len(posterior), np.bool_)
        rows, columns = np.nonzero(self.base >= 0)
        starts = np.searchsorted(rows, np.arange(_ROWS + 1))
        messages = np.zeros((len(rows), self.lift), np.float32)
        scratch = np.zeros((2 * _ROWS, self.lift), np.float32)
        _decode_layered(
            posterior, starts, columns, self.base[rows, columns], self.lift, _ITERATIONS, messages, scratch, flags
        )
        return (posterior[:, : self.information] < 0).astype(np.uint8), flags


@lru_cache(maxsize=3)
def code(length: int) -> Code:
    """The code of ``length`` bits: 648, 1296 or 1944.

    Raises
    ------
    ValueError
        For any other length.
    """
    if length not in _SHIFTS:
        raise ValueError(f"no code of {length} bits: lengths are {BLOCK_LENGTHS}")
    return Code(length)
