"""Random numbers that depend on what they are for, not on when or where they are drawn."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["generator", "key_words"]


def key_words(seed: int, *labels: str | int) -> tuple[int, int, int, int]:
    """Four 32-bit key words for the purpose that ``labels`` name.

    A cryptographic hash of seed and labels, so that streams of different purposes share nothing and the same
    purpose gives the same bits in any process and in any order.
    """
    text = "\x1f".join([str(seed), *(f"{type(label).__name__}:{label}" for label in labels)])
    digest = blake2b(text.encode(), digest_size=16).digest()
    first, second, third, fourth = (int.from_bytes(digest[start : start + 4], "little") for start in (0, 4, 8, 12))
    return first, second, third, fourth


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """Counter-based generator for the purpose that ``labels`` name."""
    first, second, third, fourth = key_words(seed, *labels)
    return np.random.Generator(np.random.Philox(key=[first | second << 32, third | fourth << 32]))
