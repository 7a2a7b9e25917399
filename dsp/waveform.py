"""Numerology of the OFDM frame, its preamble, and the samples that a node transmits.

A frame is a preamble and then ``symbols`` OFDM symbols with cyclic prefix. The preamble is a short part, periodic and
the same for all nodes, whose autocorrelation gives presence and coarse carrier frequency offset; and a long part, one
body that differs between nodes, sent twice after a cyclic prefix, which gives identity, timing, and fine offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil, gcd, log, log2, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import fft

__all__ = ["CAPTURE_PPM", "CAPTURE_RANGE_HZ", "Frame", "Modulation", "Waveform", "frame", "preamble", "random_words"]

CAPTURE_PPM = 60.0
"""Carrier frequency offset that acquisition covers, in parts per million of the carrier."""
CAPTURE_RANGE_HZ = 150e3
"""Carrier frequency offset that acquisition covers at any carrier."""

PREAMBLE_BOOST = sqrt(2.0)
"""Amplitude of the preamble over the symbols': its envelope is flat enough to stay below the symbols' peaks."""
_SHORT_SEQUENCE = 0x5150
_LONG_SEQUENCE = 0x4C4F
_PILOT_SEQUENCE = 0x5049


class Modulation(StrEnum):
    """Constellation of the payload."""

    QPSK = "qpsk"
    QAM16 = "16qam"
    QAM64 = "64qam"

    @property
    def bits(self) -> int:
        """Bits of one resource element."""
        return {Modulation.QPSK: 2, Modulation.QAM16: 4, Modulation.QAM64: 6}[self]


@dataclass(frozen=True)
class Waveform:
    """Numerology of a frame; everything else about it follows.

    Raises
    ------
    ValueError
        If the transform is not a power of two from 64 to 8192, the cyclic prefix is not shorter than it, the active
        subcarriers are odd or do not fit, or the pilots leave no payload.
    """

    fft_size: int
    cp_samples: int
    active_subcarriers: int
    symbols: int
    modulation: Modulation
    pilot_spacing: int
    rate_hz: Fraction
    carrier_hz: Fraction

    def __post_init__(self) -> None:
        if self.fft_size not in (64, 128, 256, 512, 1024, 2048, 4096, 8192):
            raise ValueError(f"fft_size is {self.fft_size}: must be a power of two from 64 to 8192")
        if not 1 <= self.cp_samples < self.fft_size:
            raise ValueError(f"cp_samples is {self.cp_samples}: must be from 1 to fft_size - 1 = {self.fft_size - 1}")
        if self.active_subcarriers % 2 or not 8 <= self.active_subcarriers <= self.fft_size - 2:
            limit = self.fft_size - 2
            raise ValueError(f"active_subcarriers is {self.active_subcarriers}: must be even and from 8 to {limit}")
        if self.symbols < 1:
            raise ValueError(f"symbols is {self.symbols}: must be at least 1")
        if not 2 <= self.pilot_spacing <= self.active_subcarriers // 2:
            half = self.active_subcarriers // 2
            raise ValueError(f"pilot_spacing is {self.pilot_spacing}: must be from 2 to {half}")
        if self.rate_hz <= 0 or self.carrier_hz <= 0:
            raise ValueError("rate_hz and carrier_hz must be positive")

    @property
    def spacing_hz(self) -> float:
        """Subcarrier spacing."""
        return float(self.rate_hz) / self.fft_size

    @property
    def symbol_samples(self) -> int:
        """Samples of a symbol, cyclic prefix included."""
        return self.fft_size + self.cp_samples

    @property
    def symbol_s(self) -> float:
        """Spacing of symbols."""
        return self.symbol_samples / float(self.rate_hz)

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """Active subcarrier indices, ascending, without the carrier's own."""
        half = self.active_subcarriers // 2
        return np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])

    @cached_property
    def subcarrier_hz(self) -> NDArray[np.float64]:
        """Baseband frequencies of the active subcarriers."""
        return np.asarray(self.bins * self.spacing_hz, np.float64)

    @cached_property
    def pilots(self) -> NDArray[np.bool_]:
        """Where pilots stand, shape (symbol, subcarrier): a regular comb in each symbol.

        The comb moves from symbol to symbol by a step coprime to its spacing, near the golden section of it, so that
        ``pilot_spacing`` consecutive symbols sound every subcarrier and neighbouring combs lie far apart.
        """
        spacing = self.pilot_spacing
        step = next(
            s for s in sorted(range(1, spacing + 1), key=lambda s: abs(s - 0.382 * spacing)) if gcd(s, spacing) == 1
        )
        offset = np.arange(self.symbols) * step % spacing
        return np.asarray((np.arange(self.active_subcarriers)[None, :] - offset[:, None]) % spacing == 0)

    @property
    def capture_range_hz(self) -> float:
        """Carrier frequency offset, to either side, that acquisition covers."""
        return max(CAPTURE_PPM * 1e-6 * float(self.carrier_hz), CAPTURE_RANGE_HZ)

    @cached_property
    def short_period(self) -> int:
        """Samples in a period of the short part, a power of two.

        Such that half the rate over it covers the capture range, so that its phase tells the offset; but at least 16,
        with four tones inside the band, where at low rates the long part must decide between the phase's aliases.
        The rate counts to three digits: what one device applies and another is asked for must make the same preamble.
        """
        periods_hz = float(f"{float(self.rate_hz):.3g}") / (2 * self.capture_range_hz)
        unambiguous = min(int(log2(max(periods_hz, 1.0))), int(log2(self.long_samples)) - 2)
        tones = ceil(log2(4 * self.fft_size / self.active_subcarriers))
        return int(2 ** max(unambiguous, tones, 4))

    @property
    def short_samples(self) -> int:
        """Samples of the short part: half a symbol or 256 samples if more, plus the cyclic prefix, in whole periods."""
        return ceil((max(self.fft_size // 2, 256) + self.cp_samples) / self.short_period) * self.short_period

    @property
    def long_samples(self) -> int:
        """Samples of the long part's body: a symbol's, or 256 if more, below which it could not be told from noise."""
        return max(self.fft_size, 256)

    @property
    def preamble_samples(self) -> int:
        """Samples of the preamble: short part, cyclic prefix, and the long body twice."""
        return self.short_samples + self.cp_samples + 2 * self.long_samples

    @property
    def frame_samples(self) -> int:
        """Samples of preamble and symbols."""
        return self.preamble_samples + self.symbols * self.symbol_samples

    @property
    def occupancy(self) -> float:
        """Share of the sampled band between the outermost active subcarriers."""
        return (self.active_subcarriers + 1) / self.fft_size

    @property
    def scale(self) -> float:
        """Root mean square of the symbols' samples.

        The same for every frame of a waveform, so that a receiver knows it whatever the payload: the crest that one
        frame in twenty exceeds; such a frame is scrambled anew.
        """
        return 1.0 / sqrt(log(self.symbols * self.symbol_samples) + 3.0)

    @cached_property
    def long_bins(self) -> NDArray[np.int64]:
        """Bins of the long body's own transform inside the active band."""
        half = self.active_subcarriers // 2 * (self.long_samples // self.fft_size)
        return np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])


@dataclass(frozen=True)
class Frame:
    """One frame as a node transmits it."""

    samples: NDArray[np.complex64]
    """Preamble and symbols at the waveform's rate, shape (sample,), peak at most 1."""
    grid: NDArray[np.complex64]
    """Resource elements of unit mean power, shape (symbol, subcarrier)."""
    scale: float
    """Root mean square of the symbols' samples: samples = scale · Σ_k grid_k·exp(j2πki/fft_size)/√K."""
    payload: NDArray[np.uint8]
    """The payload's bits, without header, checksum and redundancy."""


def frame(waveform: Waveform, *, identity: int, round_index: int, seed: int) -> Frame:
    """Frame that node ``identity`` transmits in round ``round_index``, the same for all frames of its slot.

    Parameters
    ----------
    waveform : Waveform
    identity : int, 0 ≤ identity < 65536
        Index of the node in the experiment file.
    round_index : int, 0 ≤ round_index < 2**32
    seed : int ≥ 0
        Seed of the experiment, from which the payload is drawn.

    Raises
    ------
    ValueError
        If an argument is out of range, or the frame is too small for one codeword.
    """
    from dsp.payload import encode  # payload describes its elements by Waveform

    if not 0 <= identity < 1 << 16 or not 0 <= round_index < 1 << 32 or seed < 0:
        raise ValueError(f"identity {identity}, round {round_index} or seed {seed} is out of range")
    head = preamble(waveform, identity)
    for nonce in range(256):
        grid, bits = encode(waveform, identity=identity, round_index=round_index, seed=seed, nonce=nonce)
        body = waveform.scale * symbol_samples(waveform, grid)
        if np.abs(body).max() <= 1.0:
            break
    else:
        raise ValueError("no scrambling keeps the frame's peak below full scale")
    samples = np.concatenate([head, body.ravel()]).astype(np.complex64)
    return Frame(samples, grid, waveform.scale, bits)


def symbol_samples(waveform: Waveform, grid: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
    """Samples of unit mean power of the symbols in ``grid``, prefix included, shape (symbol, sample)."""
    spectrum = np.zeros((grid.shape[0], waveform.fft_size), complex)
    spectrum[:, waveform.bins % waveform.fft_size] = grid
    body = fft.ifft(spectrum, axis=1) * (waveform.fft_size / sqrt(waveform.active_subcarriers))
    return np.concatenate([body[:, waveform.fft_size - waveform.cp_samples :], body], axis=1)


def preamble(waveform: Waveform, identity: int) -> NDArray[np.complex128]:
    """Preamble of node ``identity`` as transmitted, shape (sample,)."""
    short = short_part(waveform)
    body = long_body(waveform, identity)
    parts = [np.tile(short, waveform.short_samples // waveform.short_period)]
    parts += [body[waveform.long_samples - waveform.cp_samples :], body, body]
    return PREAMBLE_BOOST * waveform.scale * np.concatenate(parts)


@lru_cache(maxsize=8)
def short_part(waveform: Waveform) -> NDArray[np.complex128]:
    """One period of the short part, unit mean power, common to all nodes."""
    period = waveform.short_period
    half = int(waveform.active_subcarriers * period / (2 * waveform.fft_size))
    tones = np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])
    return _flat_sequence(period, tones, random_words(len(tones), _SHORT_SEQUENCE))


def long_spectrum(waveform: Waveform, identity: int) -> NDArray[np.complex128]:
    """Spectrum of the transmitted long body at ``long_bins``: the transform of its samples as `preamble` sends them."""
    spectrum = fft.fft(long_body(waveform, identity))[waveform.long_bins % waveform.long_samples]
    return np.asarray(spectrum * (PREAMBLE_BOOST * waveform.scale))


@lru_cache(maxsize=64)
def long_body(waveform: Waveform, identity: int) -> NDArray[np.complex128]:
    """Long body of node ``identity``, unit mean power."""
    bins = waveform.long_bins
    return _flat_sequence(waveform.long_samples, bins, random_words(len(bins), _LONG_SEQUENCE, identity))


def pilot_values(waveform: Waveform, identity: int) -> NDArray[np.complex64]:
    """Pilots of node ``identity`` on the grid, QPSK of unit power, zero where data stand."""
    return _pilots(waveform, identity).copy()


@lru_cache(maxsize=16)
def _pilots(waveform: Waveform, identity: int) -> NDArray[np.complex64]:
    quarter = random_words(int(np.count_nonzero(waveform.pilots)), _PILOT_SEQUENCE, identity) >> np.uint64(62)
    values = np.zeros(waveform.pilots.shape, np.complex64)
    values[waveform.pilots] = np.exp(1j * (pi / 4 + pi / 2 * np.arange(4)))[quarter.astype(np.int64)]
    return values


def random_words(count: int, *key: int) -> NDArray[np.uint64]:
    """Reproducible random 64-bit words for an integer key; the same on every machine and version."""
    words = np.random.Philox(np.random.SeedSequence(key)).random_raw(count)
    return np.asarray(words, np.uint64)


def _flat_sequence(length: int, bins: NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.complex128]:
    """Periodic sequence of unit power with equal magnitudes at ``bins`` and a flat envelope.

    Alternating projections from random phases: clip the samples, twice oversampled, to 1.2 times their root mean
    square, keep the phases of what results. The start decides the sequence, so that different keys stay uncorrelated.
    """
    spectrum = np.exp(2j * pi * words.astype(float) / 2.0**64)
    wide = np.zeros(2 * length, complex)
    for _ in range(60):
        wide[:] = 0
        wide[bins % (2 * length)] = spectrum
        samples = fft.ifft(wide)
        limit = 1.2 * np.sqrt(np.mean(np.abs(samples) ** 2))
        samples *= np.minimum(1.0, limit / np.maximum(np.abs(samples), 1e-300))
        clipped = fft.fft(samples)[bins % (2 * length)]
        spectrum = clipped / np.abs(clipped)
    narrow = np.zeros(length, complex)
    narrow[bins % length] = spectrum
    return np.asarray(fft.ifft(narrow) * (length / sqrt(len(bins))))
