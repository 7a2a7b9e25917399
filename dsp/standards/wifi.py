"""Packets of 802.11a/g/n in a stream of samples: where they start, and the clock of who sent them.

Everything is read from the parts that every such packet has: short and long training fields, the SIGNAL symbol
and the pilots. Source of all constants: IEEE 802.11-2020, clause 17 (17.3.3 training fields, 17.3.4 SIGNAL).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ComplexArray, FloatArray

__all__ = ["RATE_HZ", "WifiPacket", "find_packets", "long_training", "short_training"]

RATE_HZ = 20e6
"""Rate of the samples that `find_packets` takes."""

_FFT = 64
_SYMBOL = 80
_PREFIX = 16
_BACK_OFF = 4
"""Transform windows open this many samples early, inside the prefix, so that early paths stay in."""
_SPACING_HZ = RATE_HZ / _FFT
_PLATEAU = 128
_LEAST_PERIODICITY = 0.6
_LEAST_MATCH = 0.35
_TONES = np.r_[-26:0, 1:27]
_PILOTS = np.array([-21, -7, 7, 21])
_DATA = np.setdiff1d(_TONES, _PILOTS)

# Equation 17-8: the long training sequence over tones -26…26, DC zero.
_LONG_SIGNS = "++--++-+-++++++--++-+-++++0+--++-+-+-----++--+-+-++++"
_LONG = np.array([{"+": 1.0, "-": -1.0, "0": 0.0}[sign] for sign in _LONG_SIGNS])
# Equation 17-6: tones of the short training sequence, each with the sign of 1+j.
_SHORT = {-24: 1, -20: -1, -16: 1, -12: -1, -8: -1, -4: 1, 4: -1, 8: -1, 12: 1, 16: 1, 20: 1, 24: 1}
# Table 17-6: RATE bits (R1 first) to megabits a second, and data bits a symbol (table 17-4).
_RATES = {
    (1, 1, 0, 1): (6, 24),
    (1, 1, 1, 1): (9, 36),
    (0, 1, 0, 1): (12, 48),
    (0, 1, 1, 1): (18, 72),
    (1, 0, 0, 1): (24, 96),
    (1, 0, 1, 1): (36, 144),
    (0, 0, 0, 1): (48, 192),
    (0, 0, 1, 1): (54, 216),
}


@dataclass(frozen=True)
class WifiPacket:
    """One packet whose SIGNAL symbol was read."""

    start: float
    """Sample index of the first sample of the short training field, by the strongest path; fractional."""
    cfo_hz: float
    """Carrier frequency offset from the long training field; received ~ exp(+j2π·cfo·t)."""
    cfo_short_hz: float
    """The same from the short training field, while the transmitter may still settle."""
    snr_db: float
    """Per tone of the long training field."""
    rate_mbps: int
    """From SIGNAL; an 802.11n packet says 6."""
    length_bytes: int
    """From SIGNAL; for 802.11n a duration in disguise."""
    symbols: int
    """Durations of 4 µs after SIGNAL that lie wholly in the stream."""
    modulation_index: int | None
    """MCS of an 802.11n packet, from HT-SIG; None for 802.11a/g."""
    drift: float | None
    """Drift of the timing over the packet, seconds a second, from the pilots; positive when symbols come later and
    later. None if fewer than four symbols carry pilots."""
    drift_weight: float
    """Information about the drift, proportional to the inverse of its variance: Σ(t - mean)² over the symbols, s²."""


def short_training() -> ComplexArray:
    """The short training field, 160 samples at 20 MS/s, unit mean power."""
    grid = np.zeros(_FFT, dtype=np.complex128)
    for tone, sign in _SHORT.items():
        grid[tone % _FFT] = sign * (1 + 1j)
    period = np.fft.ifft(grid)[:16]
    return np.tile(period / np.sqrt(np.mean(np.abs(period) ** 2)), 10)


def long_training() -> ComplexArray:
    """The long training field, 160 samples: a prefix of 32 and the long symbol twice, unit mean power."""
    symbol = _long_symbol()
    return np.concatenate([symbol[-32:], symbol, symbol])


def find_packets(samples: ComplexArray) -> list[WifiPacket]:
    """Packets in a stream of 20 MS/s, in order.

    A plateau of the autocorrelation at the short training field's period marks a candidate and gives a coarse CFO;
    the correlation with the long symbol, twice in succession, places it; the two long symbols give the CFO (its
    ambiguity of 312.5 kHz resolved by the coarse one), the channel and the SNR. A candidate counts as a packet if
    its SIGNAL symbol decodes with good parity to a rate and length that exist.

    Parameters
    ----------
    samples : complex array, shape (sample,)
    """
    signal = np.asarray(samples, dtype=np.complex128)
    found: list[WifiPacket] = []
    for begin, end in _plateaus(signal):
        packet = _packet(signal, begin, end)
        if packet is not None and (not found or packet.start - found[-1].start > 320):
            found.append(packet)
    return found


def _long_symbol() -> ComplexArray:
    grid = np.zeros(_FFT, dtype=np.complex128)
    grid[np.arange(-26, 27) % _FFT] = _LONG
    symbol = np.fft.ifft(grid)
    return np.asarray(symbol / np.sqrt(np.mean(np.abs(symbol) ** 2)))


def _plateaus(signal: ComplexArray) -> list[tuple[int, int]]:
    """First and last start of a window of 128 samples in which the signal has a period of 16."""
    if len(signal) < 400:
        return []
    product = signal[16:] * signal[:-16].conj()
    power = np.abs(signal) ** 2

    def running(values: ComplexArray) -> ComplexArray:
        total = np.concatenate([np.zeros(1, dtype=np.complex128), np.cumsum(values)])
        return np.asarray(total[_PLATEAU:] - total[:-_PLATEAU])

    match = np.abs(running(product))
    energy = np.real(running(power.astype(np.complex128)))
    # Both windows' energy: an edge between a loud and a quiet part has no plateau.
    scale = np.sqrt(np.maximum(energy[:-16] * energy[16:], 1e-300))
    above = match > _LEAST_PERIODICITY * scale
    # Silence is periodic, too: at least a thousandth of the stream's power.
    above &= energy[:-16] > 1e-3 * float(power.mean()) * _PLATEAU
    edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def _packet(signal: ComplexArray, begin: int, end: int) -> WifiPacket | None:
    """The packet whose short training field spans about the given plateau, or None."""
    middle = slice(max((begin + end) // 2, 0), (begin + end) // 2 + _PLATEAU)
    short = signal[middle]
    coarse = float(np.angle(np.vdot(short[:-16], short[16:]))) * RATE_HZ / (2 * np.pi * 16)
    # The plateau starts with the field or a little before it; the long symbol follows 192 samples after the start.
    low, high = max(begin + 96, 0), min(end + _PLATEAU + 16 + 96, len(signal) - 2 * _FFT - _SYMBOL)
    if high <= low:
        return None
    index = np.arange(low, high + 2 * _FFT + _SYMBOL)
    piece = signal[index] * np.exp(-2j * np.pi * coarse / RATE_HZ * index)
    correlation = np.abs(np.correlate(piece, _long_symbol(), "valid")) ** 2
    energy = np.convolve(np.abs(piece) ** 2, np.ones(_FFT), "valid")
    # Normalised so that one clean path gives one.
    single = correlation / np.maximum(energy * _FFT, 1e-300)
    match = 0.5 * (single[:-_FFT] + single[_FFT:])[: high - low]
    first = low + int(match.argmax())
    if match.max() < _LEAST_MATCH:
        return None
    one, two = (signal[first - _BACK_OFF + n * _FFT :][:_FFT] for n in (0, 1))
    turn = float(np.angle(np.vdot(one, two))) * RATE_HZ / (2 * np.pi * _FFT)
    cfo = turn + _SPACING_HZ * round((coarse - turn) / _SPACING_HZ)
    straight = signal[first - 192 if first >= 192 else 0 :]
    offset = first - 192 if first >= 192 else 0
    straight = straight * np.exp(-2j * np.pi * cfo / RATE_HZ * np.arange(len(straight)))
    return _described(straight, first - offset, offset, cfo, coarse)


def _described(straight: ComplexArray, first: int, offset: int, cfo: float, coarse: float) -> WifiPacket | None:
    """The packet from its CFO-free samples, ``first`` the long symbol's place in them; None if SIGNAL is unreadable."""
    grids = [_tones(straight, first + n * _FFT) for n in (0, 1)]
    sequence = _LONG[_TONES + 26]
    channel = 0.5 * (grids[0] + grids[1]) * sequence
    noise = float(np.mean(np.abs(grids[0] - grids[1]) ** 2)) / 4
    signal_field = _tones(straight, first + 2 * _FFT + _PREFIX)
    read = _read_signal(signal_field, channel)
    if read is None:
        return None
    rate, length, data_bits = read
    symbols = -(-(16 + 8 * length + 6) // data_bits)
    whole = (len(straight) - first - 2 * _FFT - _SYMBOL) // _SYMBOL
    symbols = min(symbols, max(whole, 0))
    extension = _read_extension(straight, first, channel) if symbols >= 2 else None
    drift, weight = _drift(straight, first, channel, symbols, extension)
    snr = max(float(np.mean(np.abs(channel) ** 2)) - noise, 1e-12 * noise) / max(2 * noise, 1e-300)
    return WifiPacket(
        start=offset + first - 192 + _fraction(channel),
        cfo_hz=cfo,
        cfo_short_hz=coarse,
        snr_db=float(10 * np.log10(snr)),
        rate_mbps=rate,
        length_bytes=length,
        symbols=symbols,
        modulation_index=None if extension is None else extension[0],
        drift=drift,
        drift_weight=weight,
    )


def _tones(samples: ComplexArray, start: int) -> ComplexArray:
    """The 52 tones of the symbol whose transform window nominally starts at ``start``."""
    window = samples[start - _BACK_OFF : start - _BACK_OFF + _FFT]
    return np.asarray(np.fft.fft(window)[_TONES % _FFT])


def _fraction(channel: ComplexArray) -> float:
    """Samples by which the strongest path comes after the long symbol's integer place."""
    grid = np.arange(-1.5, 1.5, 1 / 64)
    steering = np.exp(2j * np.pi * np.outer(_TONES, grid + _BACK_OFF) / _FFT)
    return float(grid[np.abs(channel @ steering).argmax()])


def _read_signal(tones: ComplexArray, channel: ComplexArray) -> tuple[int, int, int] | None:
    """Rate in Mb/s, length in bytes and data bits a symbol, or None if the SIGNAL symbol is not one."""
    soft = np.real(tones * channel.conj())[np.isin(_TONES, _DATA)]
    # Equation 17-18 undone for 48 coded bits: bit k stands at 3·(k mod 16) + k // 16.
    order = 3 * (np.arange(48) % 16) + np.arange(48) // 16
    bits = _viterbi(soft[order].reshape(24, 2))
    rate = _RATES.get((int(bits[0]), int(bits[1]), int(bits[2]), int(bits[3])))
    length = int(bits[5:17] @ (1 << np.arange(12)))
    if rate is None or bits[4] or bits[:18].sum() % 2 or bits[18:].any() or length == 0:
        return None
    return rate[0], length, rate[1]


def _viterbi(soft: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Bits of the code 133/171 (octal) that best match soft values (step, output), +1 for a one, ending in zeros."""
    state = np.arange(64)
    outputs = np.empty((64, 2, 2))
    for new in (0, 1):
        register = (new << 6) | state
        for place, generator in enumerate((0o133, 0o171)):
            parity = np.array([bin(int(value) & generator).count("1") % 2 for value in register])
            outputs[:, new, place] = 2 * parity - 1
    score = np.where(state == 0, 0.0, -np.inf)
    history = []
    for step in soft:
        gain = outputs @ step
        # The next state has the new bit on top; two states differing in their lowest bit lead to it.
        bit, rest = state >> 5, (state & 31) << 1
        candidates = np.stack([score[rest] + gain[rest, bit], score[rest + 1] + gain[rest + 1, bit]])
        choice = candidates.argmax(axis=0)
        history.append(choice)
        score = candidates[choice, state]
    bits = np.zeros(len(soft), dtype=np.int64)
    here = 0
    for index in range(len(soft) - 1, -1, -1):
        bits[index] = here >> 5
        here = ((here & 31) << 1) + int(history[index][here])
    return bits


def _read_extension(straight: ComplexArray, first: int, channel: ComplexArray) -> tuple[int, bool] | None:
    """MCS and whether the guard is short, from HT-SIG (clause 19.3.9.4.3); None if the check does not hold."""
    soft = []
    for symbol in (1, 2):
        tones = _tones(straight, first + 2 * _FFT + _PREFIX + symbol * _SYMBOL)
        # Turned by a quarter against SIGNAL.
        values = np.imag(tones * channel.conj())[np.isin(_TONES, _DATA)]
        soft.append(values[3 * (np.arange(48) % 16) + np.arange(48) // 16])
    bits = _viterbi(np.concatenate(soft).reshape(48, 2))
    register = 0xFF
    for bit in bits[:34]:
        # Check sum of 19.3.9.4.4: D⁸ + D² + D + 1 over 34 bits, started with ones, inverted.
        top = (register >> 7) ^ int(bit)
        register = ((register << 1) & 0xFF) ^ (0x07 if top else 0)
    check = [(register >> (7 - place)) & 1 ^ 1 for place in range(8)]
    if list(bits[34:42]) != check or bits[42:].any():
        return None
    return int(bits[:7] @ (1 << np.arange(7))), bool(bits[31])


def _drift(
    straight: ComplexArray, first: int, channel: ComplexArray, symbols: int, extension: tuple[int, bool] | None
) -> tuple[float | None, float]:
    """Drift of the timing, seconds a second, from the pilots, and its information.

    Pilots are ±1 in every symbol: squared they are known whatever the packet's format. An 802.11n packet may change
    its channel (cyclic shifts) after HT-SIG: there only the symbols after the second training are used.
    """
    begin, length = 2 * _FFT + _PREFIX, _SYMBOL
    count = symbols + 1
    if extension is not None:
        # HT-SIG, HT short and (for one stream) one long training symbol come before the data.
        begin += 5 * _SYMBOL
        length = _SYMBOL - 8 if extension[1] else _SYMBOL
        count = (symbols - 4) * _SYMBOL // length
        begin -= 8 if extension[1] else 0
    if count < 4 or (extension is not None and extension[0] > 7):
        return None, 0.0
    at = np.searchsorted(_TONES, _PILOTS)
    starts = first + begin + length * np.arange(count)
    tones = np.array([_tones(straight, int(start))[at] for start in starts])
    squared = (tones * channel[at].conj()) ** 2
    pairs = squared[:, [3, 2]] * squared[:, [0, 1]].conj()
    # Each pair against its own mean, so that the channel's delay and its change do not matter.
    angles = 0.5 * np.unwrap(np.angle(pairs), axis=0)
    span = np.array([42.0, 14.0])
    delay = -((angles - angles.mean(axis=0)) @ span) / (span @ span) / (2 * np.pi * _SPACING_HZ)
    time = length / RATE_HZ * (np.arange(count) - (count - 1) / 2)
    return float(time @ delay / (time @ time)), float(time @ time)
