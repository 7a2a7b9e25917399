"""Payload of a frame: bits to resource elements and back.

A frame's information is a header, the payload proper, and a CRC-32 over both; it is scrambled, coded at rate one half
in codewords of 1944, 1296 and 648 bits, interleaved over the whole frame, and mapped by Gray's code.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from dsp.coding import BLOCK_LENGTHS, code
from dsp.waveform import Modulation, Waveform, pilot_values, random_words

__all__ = ["Decoded", "decode", "encode", "error_vector_db", "grid_of", "modulate", "payload_bits", "soft_bits"]

_NONCE_BITS = 8
_IDENTITY_BITS = 16
_ROUND_BITS = 32
_HEADER_BITS = _NONCE_BITS + _IDENTITY_BITS + _ROUND_BITS
_CHECK_BITS = 32

_PAYLOAD_SEQUENCE = 0x5041
_SCRAMBLING_SEQUENCE = 0x5343
_PADDING_SEQUENCE = 0x4644
_INTERLEAVING_SEQUENCE = 0x494C


@dataclass(frozen=True)
class Decoded:
    """What the decoder made of a frame."""

    crc_ok: bool
    information: NDArray[np.uint8]
    """Header, payload and check, as decided; what `grid_of` encodes anew."""
    payload: NDArray[np.uint8]
    identity: int | None
    """As the header says; None where the checksum fails."""
    round_index: int | None


def encode(
    waveform: Waveform, *, identity: int, round_index: int, seed: int, nonce: int = 0
) -> tuple[NDArray[np.complex64], NDArray[np.uint8]]:
    """Grid of resource elements, shape (symbol, subcarrier), and the payload's bits that it carries.

    Raises
    ------
    ValueError
        If the frame is too small for one codeword.
    """
    payload = _random_bits(payload_bits(waveform), _PAYLOAD_SEQUENCE, seed, identity, round_index)
    header = [_to_bits(nonce, _NONCE_BITS), _to_bits(identity, _IDENTITY_BITS), _to_bits(round_index, _ROUND_BITS)]
    plain = np.concatenate([*header, payload])
    information = np.concatenate([plain, _to_bits(zlib.crc32(np.packbits(plain).tobytes()), _CHECK_BITS)])
    return grid_of(waveform, information, identity=identity), payload


def decode(waveform: Waveform, likelihoods: NDArray[np.floating]) -> Decoded:
    """Information of a frame from its bits' likelihoods.

    Parameters
    ----------
    waveform : Waveform
    likelihoods : float array, shape (bits of all data elements,)
        Logarithm of the ratio of probabilities of 0 and of 1, in the order of `soft_bits`.
    """
    order = _interleaving(likelihoods.size)
    coded = np.empty(likelihoods.size, np.float32)
    coded[order] = likelihoods
    parts, position = [], 0
    for length, count in _codewords(waveform):
        block = coded[position : position + length * count].reshape(count, length)
        parts.append(code(length).decode(block)[0].ravel())
        position += length * count
    information = _scramble(np.concatenate(parts))
    plain = information[:-_CHECK_BITS]
    crc_ok = zlib.crc32(np.packbits(plain).tobytes()) == _to_integer(information[-_CHECK_BITS:])
    identity = _to_integer(plain[_NONCE_BITS : _NONCE_BITS + _IDENTITY_BITS])
    round_index = _to_integer(plain[_NONCE_BITS + _IDENTITY_BITS : _HEADER_BITS])
    return Decoded(
        crc_ok, information, plain[_HEADER_BITS:], identity if crc_ok else None, round_index if crc_ok else None
    )


def grid_of(waveform: Waveform, information: NDArray[np.uint8], *, identity: int) -> NDArray[np.complex64]:
    """Resource elements that carry ``information``, with the pilots of ``identity``, shape (symbol, subcarrier)."""
    scrambled = _scramble(information)
    parts, position = [], 0
    for length, count in _codewords(waveform):
        part = scrambled[position : position + length // 2 * count].reshape(count, -1)
        parts.append(code(length).encode(part).ravel())
        position += part.size
    capacity = _capacity(waveform)
    coded = np.concatenate(parts)
    coded = np.concatenate([coded, _random_bits(capacity - coded.size, _PADDING_SEQUENCE)])
    grid = pilot_values(waveform, identity)
    grid[~waveform.pilots] = modulate(np.take(coded, _interleaving(capacity), mode="clip"), waveform.modulation)
    return grid


def payload_bits(waveform: Waveform) -> int:
    """Payload bits of a frame.

    Raises
    ------
    ValueError
        If the frame is too small for one codeword.
    """
    return sum(length // 2 * count for length, count in _codewords(waveform)) - _HEADER_BITS - _CHECK_BITS


def modulate(bits: NDArray[np.uint8], modulation: Modulation) -> NDArray[np.complex64]:
    """Elements of unit mean power; in each, first the in-phase bits and then the quadrature bits, Gray coded."""
    half = modulation.bits // 2
    words: NDArray[np.integer] = bits[::half]
    for place in range(1, half):
        words = (words << 1) | bits[place::half]
    levels = np.take(_levels(modulation), words, mode="clip")  # not looked at whether a word is out of range
    return np.asarray(levels.view(np.complex64))


def soft_bits(
    elements: NDArray[np.complexfloating], reliability: NDArray[np.floating], modulation: Modulation
) -> NDArray[np.float32]:
    """Logarithm of the ratio of probabilities of 0 and of 1 for each bit, flat, in the order of `modulate`.

    Parameters
    ----------
    elements : complex array, shape (element,)
        Equalised elements.
    reliability : float array, shape (element,)
        Signal to noise ratio of each: |H|² over the noise's variance.

    Source: Tosato and Bisaglia, "Simplified soft-output demapper for binary interleaved COFDM with application to
    HIPERLAN/2", ICC 2002.
    """
    half = modulation.bits // 2
    unit = _unit(modulation)
    axes = np.empty((elements.size, 2), np.float32)
    axes[:, 0], axes[:, 1] = elements.real, elements.imag
    out = np.empty((elements.size, 2, half), np.float32)
    out[..., 0] = axes
    for bit in range(1, half):
        out[..., bit] = (1 << (half - bit)) * unit - np.abs(out[..., bit - 1])
    out *= (4 * unit * reliability).astype(np.float32)[:, None, None]
    return out.ravel()


def decide(elements: NDArray[np.complexfloating], modulation: Modulation) -> NDArray[np.complex64]:
    """Nearest elements of the constellation."""
    unit, top = _unit(modulation), (1 << modulation.bits // 2) - 1
    axes = np.stack([elements.real, elements.imag])
    levels = np.clip(2 * np.round((axes / unit - 1) / 2) + 1, -top, top) * unit
    return np.asarray(levels[0] + 1j * levels[1], np.complex64)


def error_vector_db(received: NDArray[np.complexfloating], expected: NDArray[np.complexfloating]) -> float:
    """Power of the difference over the expected power, in decibels."""
    error = float(np.sum(np.abs(received - expected) ** 2, dtype=float))
    return float(10 * np.log10(max(error, 1e-300) / float(np.sum(np.abs(expected) ** 2, dtype=float))))


def _unit(modulation: Modulation) -> float:
    return {Modulation.QPSK: sqrt(1 / 2), Modulation.QAM16: sqrt(1 / 10), Modulation.QAM64: sqrt(1 / 42)}[modulation]


@lru_cache(maxsize=3)
def _levels(modulation: Modulation) -> NDArray[np.float32]:
    """Level of each word of bits along one axis; the first bit is the sign, 0 for positive."""
    half = modulation.bits // 2
    levels = np.empty(1 << half, np.float32)
    for word in range(1 << half):
        bits = [(word >> (half - 1 - place)) & 1 for place in range(half)]
        # Backwards through the fold of `soft_bits`: each bit is the sign of what the next leaves of the distance.
        value = 0.0
        for place in range(half - 1, 0, -1):
            value = (1 << (half - place)) - (1 - 2 * bits[place]) * (value if value else 1.0)
        levels[word] = (1 - 2 * bits[0]) * (value if value else 1.0)
    return levels * np.float32(_unit(modulation))


def _capacity(waveform: Waveform) -> int:
    return int(np.count_nonzero(~waveform.pilots)) * waveform.modulation.bits


def _codewords(waveform: Waveform) -> list[tuple[int, int]]:
    rest, parts = _capacity(waveform), []
    for length in BLOCK_LENGTHS:
        count, rest = divmod(rest, length)
        if count:
            parts.append((length, count))
    if not parts:
        raise ValueError(
            f"a frame of {waveform.symbols} symbols carries {rest} bits: one codeword needs {BLOCK_LENGTHS[-1]}"
        )
    return parts


@lru_cache(maxsize=4)
def _interleaving(capacity: int) -> NDArray[np.intp]:
    return np.argsort(random_words(capacity, _INTERLEAVING_SEQUENCE, capacity), kind="stable")


def _scramble(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All but the nonce, exclusive-or the nonce's sequence; its own inverse."""
    nonce = _to_integer(bits[:_NONCE_BITS])
    mask = _random_bits(bits.size - _NONCE_BITS, _SCRAMBLING_SEQUENCE, nonce)
    return np.concatenate([bits[:_NONCE_BITS], bits[_NONCE_BITS:] ^ mask])


def _random_bits(count: int, *key: int) -> NDArray[np.uint8]:
    words = random_words(-(-count // 64), *key).astype("<u8")
    return np.unpackbits(words.view(np.uint8), count=count)


def _to_bits(value: int, count: int) -> NDArray[np.uint8]:
    return np.array([(value >> (count - 1 - place)) & 1 for place in range(count)], np.uint8)


def _to_integer(bits: NDArray[np.uint8]) -> int:
    return int("".join("1" if bit else "0" for bit in bits), 2)
