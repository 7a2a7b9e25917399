"""Frames found in a capture, gathered into the slots of their transmitters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsp.acquisition import Detection, find_frames
from dsp.channel import ChannelState
from dsp.waveform import Waveform
from testbed.capture import Capture

__all__ = ["Slot", "baseband", "find_slots", "from_first_frame", "quiet_offset"]

_BLOCK = 1024
_LOOKED_AT = 160
"""Blocks that `quiet_offset` takes of a recording."""


@dataclass(frozen=True)
class Slot:
    """The frames of one transmitter in one capture."""

    transmitter: int
    """Index of the node, which its preamble carries."""
    starts: tuple[float, ...]
    """First samples of the frames found, in samples since the capture's first tick."""
    frames: tuple[int, ...]
    """Which frame of the slot each is."""
    cfo_hz: float
    ambiguous: bool
    """True where frames are missing that no loss explains, so that the first one found need not be the first sent."""


def baseband(capture: Capture) -> NDArray[np.complex64]:
    """Samples on the counter's raster, shape (antenna, sample), full scale one, lost ones zero, DC removed."""
    full_scale = np.float32(capture.full_scale)
    last = capture.stretches[-1]
    length = last.first_tick - capture.stretches[0].first_tick + last.samples
    samples: NDArray[np.complex64] = np.zeros((capture.samples.shape[0], length), dtype=np.complex64)
    for stretch in capture.stretches:
        at = stretch.first_tick - capture.stretches[0].first_tick
        pairs = np.ascontiguousarray(capture.samples[:, stretch.start : stretch.start + stretch.samples])
        piece = (pairs.astype(np.float32) / full_scale).view(np.complex64)[..., 0]
        samples[:, at : at + stretch.samples] = piece
    samples -= _offset(samples)[:, None]
    for before, after in itertools.pairwise(capture.stretches):
        first = before.first_tick - capture.stretches[0].first_tick + before.samples
        samples[:, first : after.first_tick - capture.stretches[0].first_tick] = 0.0
    return samples


def _offset(samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Constant added by the receiver, shape (antenna,)."""
    blocks = samples[:, : samples.shape[1] // _BLOCK * _BLOCK].reshape(samples.shape[0], -1, _BLOCK)
    means = blocks.mean(axis=2, dtype=np.complex128)
    power = np.asarray(np.mean(blocks.real**2 + blocks.imag**2, axis=2, dtype=np.float64))
    single: NDArray[np.complex64] = _common(means, power).astype(np.complex64)
    return single


def _common(means: NDArray[np.complex128], power: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Mean of block means (antenna, block), each weighted with the inverse of its variance.

    The plain mean would keep what the strong leakage does not average out, a line 40 dB above the noise that is left.
    """
    variance = power - np.abs(means) ** 2
    weights = np.where(variance > 0, 1.0 / np.maximum(variance, 1e-30), 0.0)
    total = weights.sum(axis=1)
    common: NDArray[np.complex128] = np.zeros(len(total), np.complex128)
    np.divide((weights * means).sum(axis=1), total, out=common, where=total > 0)
    return common


def quiet_offset(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Constant added by the receiver, in counts, shape (antenna, 2), as `baseband` takes it off: by blocks across
    the recording, of which those between the frames count most."""
    from dsp.kernels.slot import _moments

    antennas, blocks = len(samples), samples.shape[1] // _BLOCK
    every = max(1, blocks // _LOOKED_AT)
    sums = np.empty((antennas, -(-blocks // every), 2))
    powers = np.empty(sums.shape[:2])
    _moments(samples[:, : blocks * _BLOCK].reshape(antennas, blocks, _BLOCK, 2), every, sums, powers)
    offset = _common(sums.view(np.complex128)[..., 0] / _BLOCK, powers / _BLOCK)
    return np.stack([offset.real, offset.imag], axis=1)


def find_slots(
    capture: Capture,
    samples: NDArray[np.complex64],
    waveform: Waveform,
    *,
    identities: Sequence[int],
    frames_per_slot: int,
    period_samples: int,
    false_alarm_rate: float,
) -> dict[int, Slot]:
    """Slots heard in a capture, by transmitter.

    Each stretch without loss is searched by itself; the frames of one transmitter that stand on one raster of its
    frame period, and agree best in number and strength, are its slot. A frame may be off the raster by half a prefix,
    because in fading its first path may be another one's second.
    """
    origin = capture.stretches[0].first_tick
    bounds = [(s.first_tick - origin, s.first_tick - origin + s.samples) for s in capture.stretches]
    found = [
        (begin + detection.start, detection)
        for begin, end in bounds
        for detection in find_frames(
            samples[:, begin:end], waveform, identities=identities, false_alarm_rate=false_alarm_rate
        )
    ]
    slots = {}
    for identity in identities:
        mine = [(start, detection) for start, detection in found if detection.identity == identity]
        if mine:
            slots[identity] = _slot(mine, waveform, bounds, identity, frames_per_slot, period_samples)
    return slots


def from_first_frame(csi: ChannelState, before: int, period_s: float) -> ChannelState:
    """The same CSI referred to the slot's first frame, ``before`` frames earlier than the first one found."""
    if before == 0:
        return csi
    lead_s = before * period_s / (1.0 + csi.cfo_reference_hz / float(csi.carrier_hz))
    turn = np.exp(-2j * np.pi * csi.cfo_reference_hz * lead_s)
    return replace(
        csi,
        values=(csi.values * turn).astype(csi.values.dtype),
        symbol_s=csi.symbol_s + lead_s,
        reference=csi.reference.shifted(-lead_s),
        frame_of_symbol=csi.frame_of_symbol + before,
    )


def _slot(
    found: list[tuple[float, Detection]],
    waveform: Waveform,
    bounds: list[tuple[int, int]],
    identity: int,
    frames_per_slot: int,
    period_samples: int,
) -> Slot:
    """Best raster of one transmitter's detections, and which frame of the slot is which."""
    best: list[tuple[int, float, Detection]] = []
    strength = -1.0
    for anchor, reference in found:
        # The transmitter's samples come at its own rate: 1 + CFO/carrier against the receiver's.
        period = period_samples / (1.0 + reference.cfo_hz / float(waveform.carrier_hz))
        raster = []
        for start, detection in found:
            frame = round((start - anchor) / period)
            if 0 <= frame < frames_per_slot and abs(start - anchor - frame * period) < 0.5 * waveform.cp_samples:
                raster.append((frame, start, detection))
        total = sum(detection.metric for _, _, detection in raster)
        if total > strength:
            best, strength = raster, total
    cfo_hz = float(np.mean([detection.cfo_hz for _, _, detection in best]))
    period = period_samples / (1.0 + cfo_hz / float(waveform.carrier_hz))
    missing = frames_per_slot - 1 - best[-1][0]
    unexplained = [
        sum(
            not _lost(best[0][1] + (frame - shift) * period, waveform.frame_samples, bounds)
            for frame in range(frames_per_slot)
            if frame - shift not in {index for index, _, _ in best}
        )
        for shift in range(missing + 1)
    ]
    shift = int(np.argmin(unexplained))
    return Slot(
        transmitter=identity,
        starts=tuple(start for _, start, _ in best),
        frames=tuple(frame + shift for frame, _, _ in best),
        cfo_hz=cfo_hz,
        ambiguous=unexplained.count(unexplained[shift]) > 1,
    )


def _lost(start: float, samples: int, bounds: list[tuple[int, int]]) -> bool:
    """Whether a frame that begins at ``start`` was not recorded whole."""
    return not any(begin <= start and start + samples <= end for begin, end in bounds)
