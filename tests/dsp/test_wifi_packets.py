"""802.11 packets made here from the standard's text, with offsets; the receiver must find what was put in."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.standards.wifi import find_packets, long_training, short_training

RATES = {6: ("1101", 24), 12: ("0101", 48), 24: ("1001", 96), 54: ("0011", 216)}
TONES = np.setdiff1d(np.r_[-26:0, 1:27], [-21, -7, 7, 21])
POLARITY = [1.0 if sign == "+" else -1.0 for sign in "++++---+----++-+--++-++-++++++-+++-++--+"]


def coded(bits: np.ndarray) -> np.ndarray:
    """Rate one half, generators 133 and 171, by polynomial products."""
    outputs = [np.convolve(bits, [int(b) for b in f"{g:07b}"])[: len(bits)] % 2 for g in (0o133, 0o171)]
    return np.column_stack(outputs).reshape(-1)


def interleaved(bits: np.ndarray) -> np.ndarray:
    """48 coded bits of one BPSK symbol, by writing rows and reading columns."""
    return bits.reshape(3, 16).T.reshape(-1)


def symbol(values: np.ndarray, polarity: float) -> np.ndarray:
    grid = np.zeros(64, dtype=complex)
    grid[TONES % 64] = values
    for tone, sign in zip((-21, -7, 7, 21), (1, 1, 1, -1), strict=True):
        grid[tone % 64] = sign * polarity
    time = np.fft.ifft(grid) * 64 / np.sqrt(52)
    return np.concatenate([time[-16:], time])


def signal_bits(rate: int, length: int) -> np.ndarray:
    bits = [int(b) for b in RATES[rate][0]] + [0] + [(length >> n) & 1 for n in range(12)]
    return np.array([*bits, sum(bits) % 2, *[0] * 6])


def packet(rng: np.random.Generator, rate: int, length: int, *, mcs: int | None = None) -> np.ndarray:
    """Training, SIGNAL and symbols with random data; an 802.11n head after SIGNAL if ``mcs`` is given."""
    parts = [short_training(), long_training(), symbol(2 * interleaved(coded(signal_bits(rate, length))) - 1.0, 1.0)]
    count = -(-(22 + 8 * length) // RATES[rate][1])
    done = 0
    if mcs is not None:
        head = (
            [(mcs >> n) & 1 for n in range(7)]
            + [0]
            + [(500 >> n) & 1 for n in range(16)]
            + [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
        )
        remainder = np.r_[head, np.zeros(8, dtype=int)]
        remainder[:8] ^= 1
        for place in range(34):
            if remainder[place]:
                remainder[place : place + 9] ^= np.array([1, 0, 0, 0, 0, 0, 1, 1, 1])
        bits = np.array([*head, *(1 - remainder[34:]), *[0] * 6])
        for half in (0, 1):
            values = interleaved(coded(bits)[48 * half : 48 * half + 48])
            parts.append(symbol(1j * (2 * values - 1.0), POLARITY[1 + half]))
        parts.append(symbol(np.zeros(48), 0.0) + 0.5 * rng.normal(size=80))
        parts.append(symbol(rng.choice([-1.0, 1.0], 48), 1.0))
        done = 4
    parts += [symbol(rng.choice([-1.0, 1.0], 48) + 0j, POLARITY[(1 + n) % 40]) for n in range(done, count)]
    return np.concatenate(parts)


def heard(
    rng: np.random.Generator,
    packets: list[np.ndarray],
    starts: list[float],
    *,
    cfo_hz: float,
    sfo: float,
    snr_db: float,
) -> np.ndarray:
    """Packets at fractional starts by a Kaiser-windowed sinc, with CFO, SFO, an echo and noise."""
    size = int(starts[-1]) + 40_000
    out = np.zeros(size, dtype=complex)
    echo = 0.3 * np.exp(2j * np.pi * rng.uniform())
    taps = np.arange(-23, 25)
    for wave, start in zip(packets, starts, strict=True):
        place = np.arange(int(start) - 24, int(start) + len(wave) + 24)
        position = (place - start) / (1 + sfo)
        whole = np.floor(position).astype(int)
        kernel = np.sinc(taps - (position - whole)[:, None]) * np.kaiser(50, 7.0)[1:-1]
        padded = np.r_[np.zeros(64), wave, np.zeros(64)]
        padded = padded + echo * np.roll(padded, 3)
        index = np.clip(whole[:, None] + taps + 64, 0, len(padded) - 1)
        inside = (place >= 0) & (place < size)
        out[place[inside]] += np.einsum("nt,nt->n", kernel, padded[index])[inside]
    out *= np.exp(2j * np.pi * cfo_hz / 20e6 * np.arange(size))
    sigma = 10 ** (-snr_db / 20) / np.sqrt(2)
    return out + sigma * (rng.normal(size=size) + 1j * rng.normal(size=size))


@pytest.mark.parametrize("cfo_hz", [-251_300.0, -34_870.0, 61_234.0, 240_000.0])
@pytest.mark.parametrize("snr_db", [12.0, 30.0])
def test_packets_cfo_start_and_signal(cfo_hz: float, snr_db: float) -> None:
    rng = np.random.default_rng(int(abs(cfo_hz)) + int(snr_db))
    starts = [500.37, 4000.81, 9001.12]
    waves = [packet(rng, 12, 60), packet(rng, 54, 400), packet(rng, 6, 31)]
    found = find_packets(heard(rng, waves, starts, cfo_hz=cfo_hz, sfo=0.0, snr_db=snr_db))
    assert [(p.rate_mbps, p.length_bytes) for p in found] == [(12, 60), (54, 400), (6, 31)]
    assert all(p.modulation_index is None for p in found)
    # Two noisy copies of 64 samples; the echo adds to the level.
    bound = 20e6 / (2 * np.pi * 64) / np.sqrt(64 * 10 ** (snr_db / 10))
    for p, start in zip(found, starts, strict=True):
        assert abs(p.cfo_hz - cfo_hz) < 4 * bound
        assert abs(p.start - start) < 0.35
        # Noise fills 64 tones, the packet 52, and the echo adds its power; 0.6 dB is the estimate's own deviation.
        assert p.snr_db == pytest.approx(snr_db + 10 * np.log10(64 / 52 * 1.09), abs=2.4)


@pytest.mark.parametrize("mcs", [None, 1, 7])
@pytest.mark.parametrize("sfo_ppm", [-40.0, 6.7])
def test_drift_of_the_timing(mcs: int | None, sfo_ppm: float) -> None:
    errors = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        wave = packet(rng, 6, 120, mcs=mcs)
        cfo = -5.2e9 * sfo_ppm * 1e-6
        (p,) = find_packets(heard(rng, [wave], [300.6], cfo_hz=cfo, sfo=sfo_ppm * 1e-6, snr_db=30.0))
        assert p.modulation_index == mcs
        assert p.drift is not None
        errors.append(1e6 * p.drift - sfo_ppm)
    # Four pilots at 30 dB over about forty symbols: 1.3 ppm a packet.
    assert np.sqrt(np.mean(np.square(errors))) < 3.0
    assert abs(np.mean(errors)) < 2.0


def test_noise_tones_and_silence_hold_no_packets() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=60_000) + 1j * rng.normal(size=60_000)
    tone = np.exp(2j * np.pi * 0.0313 * np.arange(20_000))
    for stream in (noise, tone + 0.01 * noise[:20_000], np.zeros(5000), noise[:100]):
        assert find_packets(stream.astype(complex)) == []


def test_a_packet_cut_off_is_found_as_far_as_it_goes() -> None:
    rng = np.random.default_rng(4)
    stream = heard(rng, [packet(rng, 6, 120)], [200.0], cfo_hz=1e4, sfo=0.0, snr_db=30.0)
    (p,) = find_packets(stream[: 200 + 400 + 80 * 10 + 30])
    assert p.symbols == 10
    assert find_packets(stream[:450]) == []
