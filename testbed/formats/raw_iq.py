"""Reader of raw IQ files without a header: interleaved I and Q as int16, uint8, int8 or float32, little-endian."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.errors import UserError

__all__ = ["FORMATS", "RawIq", "guess_format", "read_raw_iq"]

FORMATS = ("ci16", "cu8", "ci8", "cf32")
_TYPES = {"ci16": "<i2", "cu8": "u1", "ci8": "i1", "cf32": "<f4"}
_FULL_SCALE = {"ci16": 32768.0, "cu8": 127.5, "ci8": 128.0, "cf32": 1.0}
_LOOKED_AT = 1 << 20


@dataclass(frozen=True)
class RawIq:
    """Samples of a raw file."""

    samples: NDArray[np.complex64]
    """Full scale is one, except for cf32, which is as it was; shape (sample,)."""
    format: str
    guessed: bool
    notes: tuple[str, ...]


def read_raw_iq(path: Path, form: str | None = None, *, most_samples: int | None = None) -> RawIq:
    """Samples of a raw IQ file; the number format is guessed from the bytes if not given.

    Raises
    ------
    UserError
        If the file cannot be read, is too short, or holds floats that are not numbers.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
            chosen = form or guess_format(head)
            size = 2 * np.dtype(_TYPES[chosen]).itemsize
            most = -1 if most_samples is None else max(most_samples * size - len(head), 0)
            data = head + file.read(most)
            more = bool(file.read(1))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    notes = []
    if most_samples is not None and (more or len(data) > most_samples * size):
        data = data[: most_samples * size]
        notes.append(f"only the first {most_samples} samples were read")
    rest = len(data) % size
    if rest:
        notes.append(f"the last {rest} bytes are no whole sample: left out")
    count = len(data) // size
    if count < 1:
        raise UserError(f"{path}: holds no whole {chosen} sample")
    numbers = np.frombuffer(data, _TYPES[chosen], 2 * count).astype(np.float32)
    if chosen == "cu8":
        numbers -= 127.5
    if not np.isfinite(numbers).all():
        raise UserError(f"{path}: holds values that are no numbers, so it is not {chosen}: name the --format")
    samples = (numbers / np.float32(_FULL_SCALE[chosen])).view(np.complex64)
    return RawIq(samples, chosen, form is None, tuple(notes))


def guess_format(head: bytes) -> str:
    """Most likely number format of the first bytes of a raw file.

    Floats have sensible exponents throughout. Of 16-bit numbers the high bytes are distributed otherwise than the
    low ones, bytes of 8-bit numbers all alike. Unsigned bytes crowd about 128, signed ones about 0.
    """
    data = np.frombuffer(head[: len(head) // 8 * 8], np.uint8)
    if data.size < 64:
        return "ci16"
    floats = data.view("<f4")
    exponent = (data.view("<u4") >> 23) & 0xFF
    # From 1e-9 to 1e9, or exactly zero; random bytes are there one time in four.
    sensible = ((exponent > 97) & (exponent < 157)) | (floats == 0)
    if sensible.mean() > 0.95 and np.any(floats != 0) and np.unique(floats).size > 4:
        integers = data.view("<i2")
        # Small integers in pairs may look like floats; true floats have busy low halves.
        if np.unique(integers[0::2]).size > 16:
            return "cf32"
    low, high = (np.bincount(part, minlength=256) / part.size for part in (data[0::2], data[1::2]))
    if 0.5 * np.abs(low - high).sum() > 0.2:
        return "ci16"
    counts = np.bincount(data, minlength=256)
    # The rails of either format (0 and 255, 127 and 128) pile up when it clips: left out.
    middle = counts[112:127].sum() + counts[129:144].sum()
    edges = counts[1:16].sum() + counts[240:255].sum()
    return "cu8" if middle > edges else "ci8"
