"""Inner loop of the looped-back receiver, unchecked and private; `cable` owns it and explains."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim_backend.kernels import _mix

Singles = NDArray[np.float32]

CHUNK = 1024
"""Samples that take consecutive values of the noise tile."""


@njit(cache=True, nogil=True)
def _receive(
    tile_re: Singles,
    tile_im: Singles,
    place: int,
    tick: int,
    noise_re: Singles,
    noise_im: Singles,
    key: np.uint32,
    angle_one: Singles,
    angle_two: Singles,
    deviation: float,
    gain: float,
    scale: float,
    ratio: float,
    skew_sin: float,
    skew_cos: float,
    dc_re: float,
    dc_im: float,
    limit: int,
    pairs: NDArray[np.int32],
    column: int,
) -> None:
    """What the converter delivers of a periodic field: as `sim_backend.kernels._digitise`, from tiles.

    The field's tile is read from ``place`` on, round and round. Thermal noise is read from its tile at a place that
    is drawn anew for each chunk of absolute time; the two synthesizers' angles from tiles of coprime lengths.
    Each of ``pairs``, shape (sample, channel), takes an in-phase count in its lower and a quadrature count in its upper
    half: one store where two of sixteen bits took as long as all the arithmetic.
    """
    period = tile_re.size
    span = noise_re.size - CHUNK
    done = 0
    total = pairs.shape[0]
    block = np.empty(CHUNK, dtype=np.int32)
    level, drive, all_scale = np.float32(deviation * scale), np.float32(gain * scale), np.float32(ratio)
    across, along = np.float32(skew_sin), np.float32(skew_cos)
    zero_re, zero_im = np.float32(dc_re + 0.5), np.float32(dc_im + 0.5)
    low, high = np.float32(-limit), np.float32(limit - 1)
    one = np.float32(1.0)
    while done < total:
        inside = tick % CHUNK
        chunk = tick // CHUNK
        draw = _mix(np.uint32(_mix(np.uint32(np.uint32(chunk & 0xFFFFFFFF) ^ key)) + np.uint32(chunk >> 32)))
        offset = int(draw) % span + inside
        first = tick % angle_one.size
        second = tick % angle_two.size
        run = min(
            min(CHUNK - inside, total - done), min(period - place, min(angle_one.size - first, angle_two.size - second))
        )
        line_re = tile_re[place : place + run]
        line_im = tile_im[place : place + run]
        hiss_re = noise_re[offset : offset + run]
        hiss_im = noise_im[offset : offset + run]
        turn_one = angle_one[first : first + run]
        turn_two = angle_two[second : second + run]
        for i in range(run):
            t = turn_one[i] + turn_two[i]
            q = t * t
            s = t * (one + q * (np.float32(-1 / 6) + q * (np.float32(1 / 120) + q * np.float32(-1 / 5040))))
            c = one + q * (
                np.float32(-0.5) + q * (np.float32(1 / 24) + q * (np.float32(-1 / 720) + q * np.float32(1 / 40320)))
            )
            a = drive * line_re[i]
            b = drive * line_im[i]
            # Thermal noise looks the same from every angle: it need not be turned.
            turned_re = a * c - b * s + level * hiss_re[i]
            turned_im = a * s + b * c + level * hiss_im[i]
            out_re = np.floor(all_scale * turned_re + zero_re)
            out_im = np.floor(along * turned_im + across * turned_re + zero_im)
            lower = np.int32(min(max(out_re, low), high)) & np.int32(0xFFFF)
            block[i] = lower | np.int32(min(max(out_im, low), high)) << np.int32(16)
        line_out = pairs[done : done + run]
        for i in range(run):
            line_out[i, column] = block[i]
        done += run
        tick += run
        place += run
        if place == period:
            place = 0
