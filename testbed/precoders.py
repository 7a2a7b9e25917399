"""The file of precoders that `isac signalling --out` writes and an experiment's ``signalling.precoders`` names.

JSON, strictly read: what was designed, for which radio, and what it promises. In an experiment as resolved the key
holds the file's text itself, so that it travels to every agent and stays with the run.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from dsp.channel import ComplexArray
from testbed.errors import UserError

__all__ = ["PrecoderFile", "decoded", "embedded", "numbers"]

Positive = Annotated[float, Meta(gt=0)]
Pair = Annotated[tuple[float, ...], Meta(min_length=2, max_length=2)]
Antennas = Annotated[tuple[Pair, ...], Meta(min_length=1, max_length=4)]
Stations = Annotated[tuple[Antennas, ...], Meta(min_length=1)]
Streams = Annotated[tuple[Stations, ...], Meta(min_length=1)]


class PrecoderFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Precoders, the radio that they are made for, and what they promise there."""

    format: Literal["isac-precoders-1"] = "isac-precoders-1"
    name: str
    mode: Literal["coordinated", "non-coherent", "coherent"]
    """How the stations serve the users together; unless "coherent", each station sends symbols of its own."""
    carrier_hz: Positive
    bandwidth_hz: Positive
    """Occupied: subcarriers times spacing."""
    interval_s: Positive
    """Over which an echo is integrated: symbols over spacing, prefixes left out."""
    noise_figure_db: float
    timing_std_s: Annotated[float, Meta(ge=0)]
    sinr: tuple[Positive, ...]
    """Promised to each user, as a power ratio."""
    position_rmse_m: Positive
    """Promised of the target's position: root of the bound's trace."""
    block_hz: Annotated[tuple[float, ...], Meta(min_length=1)]
    """Middle of each block of subcarriers, from the carrier, ascending: each subcarrier takes the nearest block's."""
    precoders: Annotated[tuple[Streams, ...], Meta(min_length=1)]
    """Real and imaginary part by block, stream, station and antenna, in roots of watts over the whole band; the first
    streams are the users', one each in their order."""


@lru_cache(maxsize=4)
def decoded(text: str) -> PrecoderFile:
    """Precoders in a file's text.

    Raises
    ------
    ValueError
        One line: what is wrong, and where.
    """
    try:
        said = msgspec.json.decode(text.encode(), type=PrecoderFile)
    except msgspec.DecodeError as error:
        text, _, where = str(error).partition(" - at `$")
        raise ValueError(f"{where.strip('.`') or 'the file'}: {text[0].lower()}{text[1:]}") from None
    shapes = {
        (len(streams), len(stations), len(antennas))
        for streams in said.precoders
        for stations in streams
        for antennas in stations
    }
    if len(shapes) != 1:
        raise ValueError("precoders: not as many streams, stations and antennas everywhere")
    if not all(isfinite(part) for part in np.ravel(said.precoders)):
        raise ValueError("precoders: not all finite")
    streams = next(iter(shapes))[0]
    if streams < len(said.sinr):
        raise ValueError(f"precoders: {streams} streams for {len(said.sinr)} users")
    if len(said.block_hz) != len(said.precoders) or list(said.block_hz) != sorted(set(said.block_hz)):
        raise ValueError(f"block_hz: not the ascending middles of {len(said.precoders)} blocks")
    return said


@lru_cache(maxsize=4)
def numbers(text: str) -> ComplexArray:
    """Precoders in a file's text as an array, shape (block, stream, station, antenna)."""
    parts = np.array(decoded(text).precoders, dtype=float)
    return np.asarray(parts[..., 0] + 1j * parts[..., 1])


def embedded(said: str, folder: Path) -> str:
    """Text of the file that ``signalling.precoders`` names, relative to ``folder``; of itself if it is the text.

    Raises
    ------
    UserError
        If there is no such file, or it cannot be read.
    """
    if said.lstrip().startswith("{"):
        return said
    path = folder / said
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UserError(
            f"signalling.precoders is {str(path)!r}: no such file: write it with `isac signalling --out`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"signalling.precoders is {str(path)!r}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
