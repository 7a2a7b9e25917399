"""LTE cell search: which cell is heard, and its carrier and sampling offsets against the receiver.

Frequency-division duplex, normal prefix. Source of all constants: 3GPP TS 36.211, 6.11.1 (primary), 6.11.2
(secondary synchronization signal) and 6.12 (symbol lengths).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, ifft, next_fast_len

from dsp.channel import ComplexArray, FloatArray
from dsp.sensing.cross_antenna import packet_timing

__all__ = ["RATE_HZ", "LteCell", "find_cell", "primary", "secondary"]

RATE_HZ = 1.92e6
"""Rate of the samples that `find_cell` takes: 128 subcarriers."""

SPACING_HZ = 15e3
_FFT = 128
_HALF_FRAME = 9600
_SLOT = 960
_PREFIX = 9
_FIRST_PREFIX = 10
_TONES = np.r_[-31:0, 1:32]
_ROOTS = (25, 29, 34)
_SEARCHED = 16 * _HALF_FRAME + 2 * _FFT
"""Samples searched, 80 ms: the steps of the drift searched are a sample and a half apart at their end."""
_LEAST_SECONDARY = 5.0
"""How far, in deviations, the best secondary sequence must stand above the rest."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class LteCell:
    """The strongest cell in a stream."""

    identity: int
    """Physical cell identity, 0…503."""
    frame_start: float
    """Sample index (at 1.92 MS/s) at which the first whole radio frame starts; fractional."""
    cfo_hz: float
    """Carrier frequency offset, integer multiples of 15 kHz resolved; received ~ exp(+j2π·cfo·t)."""
    cfo_std_hz: float
    sfo_ppm: float
    """Drift of the frame timing, positive when frames come later and later on the receiver's clock."""
    sfo_std_ppm: float
    half_frames: int
    """Primary sequences used."""
    timing_s: FloatArray
    """Timing of each primary sequence against a train of 5 ms on the receiver's clock, shape (half frame,)."""
    primary_snr_db: float
    """Per subcarrier of the primary sequence, from the consistency of neighbouring subcarriers."""
    secondary_margin: float
    """Deviations by which the secondary sequence stands above the other 335 hypotheses."""


@dataclass(frozen=True)
class _Candidate:
    root: int
    cfo_hz: float
    drift: float
    position: int
    """Start of the first whole primary symbol, prefix left out."""
    power: float


def primary(index: int) -> ComplexArray:
    """Primary sequence of sector 0, 1 or 2 over subcarriers -31…-1, 1…31 (6.11.1.1)."""
    root, n = _ROOTS[index], np.arange(62)
    return np.asarray(np.exp(-1j * np.pi * root * np.where(n < 31, n * (n + 1), (n + 1) * (n + 2)) / 63))


def secondary(identity: int) -> tuple[FloatArray, FloatArray]:
    """Secondary sequences of a cell, of subframes 0 and 5, over subcarriers -31…-1, 1…31 (6.11.2.1)."""
    group, sector = divmod(identity, 3)
    q_prime = group // 30
    q = (group + q_prime * (q_prime + 1) // 2) // 30
    m_prime = group + q * (q + 1) // 2
    m0 = m_prime % 31
    m1 = (m0 + m_prime // 31 + 1) % 31
    n = np.arange(31)
    s, c, z = (_maximum_length(taps) for taps in ((2, 0), (3, 0), (4, 2, 1, 0)))
    s0, s1 = s[(n + m0) % 31], s[(n + m1) % 31]
    c0, c1 = c[(n + sector) % 31], c[(n + sector + 3) % 31]
    z0, z1 = z[(n + m0 % 8) % 31], z[(n + m1 % 8) % 31]
    both = []
    for even, odd, scramble in ((s0, s1, z0), (s1, s0, z1)):
        sequence = np.empty(62)
        sequence[0::2], sequence[1::2] = even * c0, odd * c1 * scramble
        both.append(sequence)
    return both[0], both[1]


@cache
def _secondary_table(sector: int) -> tuple[FloatArray, FloatArray]:
    """Secondary sequences of the 168 cells of a sector, of subframes 0 and 5, each (168, 62)."""
    rows = [secondary(3 * group + sector) for group in range(168)]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


@cache
def _maximum_length(taps: tuple[int, ...]) -> FloatArray:
    """±1 sequence of 31 from x(i+5) = Σ x(i+tap) mod 2, started with 0,0,0,0,1."""
    bits = [0, 0, 0, 0, 1]
    for i in range(26):
        bits.append(sum(bits[i + tap] for tap in taps) % 2)
    return 1.0 - 2.0 * np.array(bits, dtype=float)


def find_cell(
    samples: ComplexArray, *, widest_hz: float = 100e3, carrier_hz: float | None = None, widest_ppm: float = 120.0
) -> LteCell | None:
    """The strongest FDD cell in a stream of 1.92 MS/s of at least 15 ms, or None.

    The primary sequences are searched over carrier offsets and, because a cheap crystal moves the frames by several
    samples in 80 ms, over timing drifts. A shift by whole subcarriers turns a primary sequence into a time shift of
    itself, so each offset that fits modulo 15 kHz is kept with its own timing, and the secondary sequence, which has
    no such symmetry, decides between them and gives the cell. The carrier offset then comes from the prefixes of all
    symbols, the sampling offset from the drift of the primary sequences' timing.

    Parameters
    ----------
    samples : complex array, shape (sample,)
    widest_hz : float
        Largest carrier offset looked for.
    carrier_hz : float, optional
        If given, offsets beyond ``widest_ppm`` of it are not looked for.
    """
    signal = np.asarray(samples, dtype=np.complex128)
    if len(signal) < 3 * _HALF_FRAME:
        return None
    signal = signal - signal.mean()
    if carrier_hz is not None:
        widest_hz = min(widest_hz, widest_ppm * 1e-6 * carrier_hz)
    opening = signal[:_SEARCHED]
    fractional = _prefix_cfo(opening[: _SEARCHED // 2])
    found: tuple[float, int, int, _Candidate] | None = None
    for candidate in _candidates(opening, fractional, widest_hz, widest_ppm):
        margin, identity, half = _identify(opening, candidate)
        if found is None or margin > found[0]:
            found = margin, identity, half, candidate
    if found is None or found[0] < _LEAST_SECONDARY:
        return None
    margin, identity, half, candidate = found
    return _measured(signal, identity, half, candidate, margin)


def _prefix_cfo(signal: ComplexArray) -> float:
    """Carrier offset modulo 15 kHz from the likeness of prefixes and symbol ends, symbol timing unknown.

    The lag-128 product folded at the slot's length peaks at the seven prefixes; their sum over the best alignment
    has the offset's phase.
    """
    product = signal[_FFT:] * signal[:-_FFT].conj()
    whole = len(product) // _SLOT
    folded = product[: whole * _SLOT].reshape(whole, _SLOT).sum(axis=0)
    mask = np.zeros(_SLOT)
    place = 0
    for symbol in range(7):
        prefix = _FIRST_PREFIX if symbol == 0 else _PREFIX
        mask[place : place + prefix] = 1.0
        place += prefix + _FFT
    aligned = np.fft.ifft(np.fft.fft(folded) * np.fft.fft(mask).conj())
    return float(np.angle(aligned[np.abs(aligned).argmax()])) * SPACING_HZ / (2 * np.pi)


def _candidates(signal: ComplexArray, fractional: float, widest_hz: float, widest_ppm: float) -> list[_Candidate]:
    """The best position of each root, whole-subcarrier offset and drift."""
    whole = int(widest_hz // SPACING_HZ) + 1
    offsets = [fractional + n * SPACING_HZ for n in range(-whole, whole + 1)]
    offsets = [offset for offset in offsets if abs(offset) <= widest_hz]
    halves = (len(signal) - _FFT) // _HALF_FRAME
    drifts = np.arange(-widest_ppm, widest_ppm + 1, 15.0) * 1e-6
    # Rows shifted against each other by the drift: no more of them than the file is long.
    shifts = np.unique(np.rint(np.outer(drifts, np.arange(halves)) * _HALF_FRAME).astype(int), axis=0)
    size = next_fast_len(len(signal) + _FFT)
    total = np.concatenate([[0.0], np.cumsum(np.abs(signal) ** 2)])
    energy = total[_FFT:] - total[:-_FFT]
    index = np.arange(len(signal))
    found = []
    for offset in offsets:
        spectrum = fft(signal * np.exp(-2j * np.pi * offset / RATE_HZ * index), size)
        for root in range(3):
            grid = np.zeros(_FFT, dtype=np.complex128)
            grid[_TONES % _FFT] = primary(root)
            replica = np.fft.ifft(grid)
            replica /= np.linalg.norm(replica)
            match = ifft(spectrum * fft(replica, size).conj())[: len(energy)]
            # Normalised by the energy under it, so that bursts do not stand for sequences.
            power = np.abs(match) ** 2 / np.maximum(energy, 1e-3 * energy.mean())
            rows = power[: halves * _HALF_FRAME].reshape(halves, _HALF_FRAME)
            best = max((_stacked(rows, shift) for shift in shifts), key=lambda pair: pair[1])
            which, value, place = best[0], best[1], best[2]
            slope = float(np.polyfit(np.arange(halves), which, 1)[0]) / _HALF_FRAME if halves > 1 else 0.0
            found.append(_Candidate(root, offset, slope, place, value))
    found.sort(key=lambda candidate: candidate.power, reverse=True)
    return found[:24]


def _stacked(rows: FloatArray, shift: IntArray) -> tuple[IntArray, float, int]:
    """Mean power of the half frames once each is shifted: the shift, the largest mean and its place."""
    total = np.zeros(rows.shape[1])
    for row, step in zip(rows, shift, strict=True):
        total += np.roll(row, -int(step))
    return shift, float(total.max() / len(rows)), int(total.argmax())


def _places(signal: ComplexArray, candidate: _Candidate) -> IntArray:
    """Start of every whole primary symbol that has a whole secondary symbol before it."""
    count = len(signal) // _HALF_FRAME + 1
    nominal = candidate.position + np.arange(count) * _HALF_FRAME * (1 + candidate.drift)
    place = np.rint(nominal).astype(np.int64)
    return np.asarray(place[(place >= _FFT + _PREFIX + 2) & (place + _FFT <= len(signal))])


def _grids(signal: ComplexArray, places: IntArray, cfo_hz: float) -> ComplexArray:
    """The 62 tones of the symbols whose transform windows start at ``places``, shape (symbol, tone)."""
    index = places[:, None] + np.arange(_FFT)
    windows = signal[index] * np.exp(-2j * np.pi * cfo_hz / RATE_HZ * index)
    return np.asarray(np.fft.fft(windows, axis=1)[:, _TONES % _FFT])


def _identify(signal: ComplexArray, candidate: _Candidate) -> tuple[float, int, int]:
    """Margin in deviations, identity, and whether the first half frame used is the second of its frame."""
    # Two samples early, inside the prefix.
    places = _places(signal, candidate) - 2
    if len(places) < 2:
        return 0.0, 0, 0
    first = _grids(signal, places, candidate.cfo_hz) * primary(candidate.root).conj()
    channel = _smoothed(first)
    received = _grids(signal, places - _FFT - _PREFIX, candidate.cfo_hz)
    soft = np.real(received * channel.conj())
    soft /= np.maximum(np.linalg.norm(soft, axis=1, keepdims=True), 1e-300)
    even, odd = soft[0::2].sum(axis=0), soft[1::2].sum(axis=0)
    zero, five = _secondary_table(candidate.root)
    values = np.column_stack([zero @ even + five @ odd, five @ even + zero @ odd]).reshape(-1)
    best = int(values.argmax())
    others = np.delete(values, best)
    return float((values[best] - others.mean()) / others.std()), 3 * (best // 2) + candidate.root, best % 2


def _smoothed(channel: ComplexArray) -> ComplexArray:
    """Channel averaged over seven neighbouring tones, timing slope kept: the prefix limits how fast it turns."""
    kernel = np.ones(7)
    below = np.sum(channel[:, 1:31] * channel[:, :30].conj(), axis=1)
    above = np.sum(channel[:, 32:] * channel[:, 31:61].conj(), axis=1)
    step = np.angle(below + above)
    ramp = np.exp(-1j * step[:, None] * _TONES)
    flat = channel * ramp
    weight = np.convolve(np.ones(62), kernel, "same")
    smooth = np.array([np.convolve(row, kernel, "same") / weight for row in flat])
    return np.asarray(smooth * ramp.conj())


def _measured(signal: ComplexArray, identity: int, half: int, candidate: _Candidate, margin: float) -> LteCell:
    """Offsets of the cell that was found, over the whole stream."""
    length = min(_SEARCHED, len(signal))
    cfo, cfo_std = _fine_cfo(signal[:length], candidate)
    while True:
        places = _places(signal[:length], candidate)
        back = places - 2
        channel = _grids(signal, back, cfo) * primary(candidate.root).conj()
        timing = packet_timing(channel[None, None], SPACING_HZ * _TONES)
        half_frame = np.rint((places - places[0]) / _HALF_FRAME)
        time = half_frame * _HALF_FRAME / RATE_HZ
        # Where each sequence was seen, less where a train of exactly 5 ms would have put it.
        late = back / RATE_HZ + timing - time
        slope, level, std = _line(time, late)
        # The drift now known holds for twice the stretch, and so on to the end.
        candidate = replace(candidate, drift=slope)
        if length == len(signal):
            break
        length = min(2 * length, len(signal))
    cfo, cfo_std = _fine_cfo(signal, replace(candidate, cfo_hz=cfo))
    # The primary sequence is the last symbol of slot 0 or 10; its transform window ends with the slot.
    frame_start = level * RATE_HZ + _FFT - _SLOT - half * _HALF_FRAME
    if frame_start < 0:
        frame_start += 2 * _HALF_FRAME * (1 + slope)
    neighbours = channel[:, 1:31] * channel[:, :30].conj()
    likeness = float(np.abs(neighbours.sum()) / np.sum(np.abs(channel[:, :31]) ** 2 + 1e-300) * 31 / 30)
    likeness = min(max(likeness, 1e-3), 1 - 1e-6)
    return LteCell(
        identity=identity,
        frame_start=float(frame_start),
        cfo_hz=cfo,
        cfo_std_hz=cfo_std,
        sfo_ppm=1e6 * slope,
        sfo_std_ppm=1e6 * std,
        half_frames=len(places),
        timing_s=late - late[0],
        primary_snr_db=float(10 * np.log10(likeness / (1 - likeness))),
        secondary_margin=margin,
    )


def _line(time: FloatArray, values: FloatArray) -> tuple[float, float, float]:
    """Slope, value at time zero, and the slope's deviation, outliers left out."""
    good = np.ones(len(time), dtype=bool)
    slope = level = 0.0
    for _ in range(4):
        slope, level = np.polyfit(time[good], values[good], 1)
        rest = np.abs(values - slope * time - level)
        good = rest <= 4 * 1.4826 * float(np.median(rest)) + 1e-12
    freedom = max(int(np.count_nonzero(good)) - 2, 1)
    scatter = float(np.sqrt(np.sum((values - slope * time - level)[good] ** 2) / freedom))
    return float(slope), float(level), scatter / (float(time[good].std()) * float(np.sqrt(np.count_nonzero(good))))


def _fine_cfo(signal: ComplexArray, candidate: _Candidate) -> tuple[float, float]:
    """Carrier offset from the prefixes of all symbols at their drifting places, and its deviation over slots."""
    straight = signal * np.exp(-2j * np.pi * candidate.cfo_hz / RATE_HZ * np.arange(len(signal)))
    product = straight[_FFT:] * straight[:-_FFT].conj()
    # The slot that ends with the first primary symbol, and all others about it.
    origin = candidate.position + _FFT - _SLOT
    slots = np.arange(-(origin // _SLOT) - 1, (len(signal) - origin) // _SLOT + 1)
    sums = []
    for slot in slots:
        start = origin + round(slot * _SLOT * (1 + candidate.drift))
        if start < 0 or start + _SLOT > len(product):
            continue
        place, total = start, 0j
        for symbol in range(7):
            prefix = _FIRST_PREFIX if symbol == 0 else _PREFIX
            # The first third of the prefix may still hold the previous symbol's echoes.
            total += product[place + prefix // 3 : place + prefix].sum()
            place += prefix + _FFT
        sums.append(total)
    values = np.array(sums)
    scale = SPACING_HZ / (2 * np.pi)
    mean = values.sum()
    # Deviation of the mean's angle from the scatter of the slots across it.
    across = np.imag(values * np.exp(-1j * np.angle(mean)))
    std = float(np.sqrt(np.sum(across**2)) / np.abs(mean))
    return candidate.cfo_hz + float(np.angle(mean)) * scale, std * scale
