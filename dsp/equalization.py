"""The channel over a frame, from its preamble and pilots, for decisions on the payload.

A channel is held to delays inside the cyclic prefix: its response over the active subcarriers is a combination of
that many complex exponentials, found by regularised least squares. Over the frame it follows the preamble's estimate
times a common phase of each symbol, plus corrections that vary linearly between blocks of symbols long enough to
have sounded every subcarrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.fourier import transformed
from dsp.waveform import Waveform

__all__ = ["combine", "common_phase", "follow", "noise_beyond_prefix", "smooth"]

_ITERATIONS = 24
_TOLERANCE = 1e-10
"""Squared residual over its start at which the iteration ends: -100 dB."""
_TAIL = 6
"""Delays allowed beyond the prefix at either end, for the tails of paths between samples."""


def smooth(
    values: NDArray[np.complexfloating],
    weights: NDArray[np.floating],
    waveform: Waveform,
    regularisation: float | NDArray[np.floating],
) -> NDArray[np.complex64]:
    """Responses of delay-limited channels nearest to ``values``, by conjugate gradients in single precision.

    A row ends when its squared residual has fallen by 100 dB, or after 24 steps.

    Parameters
    ----------
    values : complex array, shape (row, subcarrier)
    weights : float array, shape (row, subcarrier) or (subcarrier,)
        Zero where unknown.
    waveform : Waveform
    regularisation : float > 0, or float array of shape (row,)
        Noise variance over the variance that one delay's amplitude is expected to have.

    Returns
    -------
    complex64 array, shape (row, subcarrier)
    """
    from dsp.kernels.fourier import twiddles
    from dsp.kernels.smoothing import smoother

    rows, subcarriers = values.shape
    weights = np.broadcast_to(np.asarray(weights, np.float32), values.shape)
    damping = np.broadcast_to(np.asarray(regularisation, np.float32), rows)
    out = np.empty((rows, subcarriers), np.complex64)
    smoother(waveform.fft_size)(
        np.ascontiguousarray(values, np.complex64),
        np.ascontiguousarray(weights),
        _runs(tuple(_gate(waveform).tolist())),
        _runs(tuple((waveform.bins % waveform.fft_size).tolist())),
        np.ascontiguousarray(damping),
        _ITERATIONS,
        _TOLERANCE,
        *twiddles(waveform.fft_size),
        out,
    )
    return out


@lru_cache(maxsize=16)
def _runs(places: tuple[int, ...]) -> NDArray[np.int64]:
    """Runs of ascending neighbours: where each begins, the place there, and its length."""
    values = np.asarray(places, np.int64)
    first = np.concatenate([[0], np.flatnonzero(np.diff(values) != 1) + 1])
    count = np.diff(np.concatenate([first, [values.size]]))
    return np.stack([first, values[first], count], axis=1)


def common_phase(
    received: NDArray[np.complexfloating],
    known: NDArray[np.complexfloating],
    channel: NDArray[np.complexfloating],
    noise: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Common phase of each symbol against ``channel``, in radians, shape (symbol,).

    The mean over nine symbols is taken as it is; what a symbol departs from it is shrunk by the share of the
    departures' variance that noise does not explain.

    Parameters
    ----------
    received : complex array, shape (antenna, symbol, subcarrier)
    known : complex array, shape (symbol, subcarrier)
        Transmitted elements, zero where unknown.
    channel : complex array, shape (antenna, subcarrier) or (antenna, symbol, subcarrier)
    noise : float array, shape (antenna,)
    """
    if channel.ndim == 2:
        channel = channel[:, None, :]
    expected = channel * known / noise[:, None, None]
    sums = np.einsum("alk,alk->l", received, expected.conj(), dtype=complex)
    strength = np.einsum("alk,alk->l", channel * known, expected.conj(), dtype=complex).real
    width = min(9, len(sums))
    count = np.convolve(np.ones(len(sums)), np.ones(width), "same")
    mean = np.convolve(sums, np.ones(width), "same") / count
    rest = np.angle(sums * mean.conj())
    variance = float(np.mean(rest**2)) + 1e-30
    explained = float(np.mean(0.5 / np.maximum(strength, 1e-30)))
    share = 1.0 - min(explained / variance, 1.0)
    return np.asarray(np.angle(mean) + share * rest)


def follow(
    received: NDArray[np.complexfloating],
    known: NDArray[np.complexfloating],
    start: NDArray[np.complexfloating],
    noise: NDArray[np.floating],
    waveform: Waveform,
    passes: int = 3,
) -> NDArray[np.complex64]:
    """Channel at every symbol, shape (antenna, symbol, subcarrier), from a start that it departs from slowly.

    Parameters
    ----------
    received : complex array, shape (antenna, symbol, subcarrier)
    known : complex array, shape (symbol, subcarrier)
        Transmitted elements, zero where unknown.
    start : complex array, shape (antenna, subcarrier) or (antenna, symbol, subcarrier)
        Channel without the common phases.
    noise : float array, shape (antenna,)
        Variance at an element.
    waveform : Waveform
    passes : int
        Rounds of correction; later ones take up the change within blocks that the first took for constant.
    """
    antennas, symbols, subcarriers = received.shape
    phase = np.exp(1j * common_phase(received, known, start, noise)).astype(np.complex64)
    # Corrections are sought on top of the common phases: a path that does not move needs none.
    turned = received * phase.conj()[:, None]
    first = start[:, None, :] if start.ndim == 2 else start
    channel: NDArray[np.complex64] = np.broadcast_to(first, received.shape).astype(np.complex64)
    blocks = _Blocks.of(symbols, min(waveform.pilot_spacing, symbols))
    power = np.abs(known) ** 2
    weights = blocks.sums(power[None])[0]
    for _ in range(passes):
        residual = blocks.sums((turned - channel * known) * known.conj())
        values = residual / np.maximum(weights, 1e-12)
        energy = np.sum(np.abs(values) ** 2 * weights, axis=(1, 2)) / max(int(np.count_nonzero(weights)), 1)
        excess = np.maximum(np.maximum(energy - noise, 0.02 * noise), 1e-30)
        damping = np.maximum(noise * _gate(waveform).size / excess, 1e-8 * subcarriers)
        count = values.shape[1]
        update = smooth(
            values.reshape(-1, subcarriers), np.tile(weights, (antennas, 1)), waveform, np.repeat(damping, count)
        )
        channel += blocks.spread(update.reshape(antennas, count, subcarriers))
    return np.asarray(channel * phase[:, None])


def combine(
    received: NDArray[np.complexfloating], channel: NDArray[np.complexfloating], noise: NDArray[np.floating]
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Equalised elements, by maximum-ratio combining of the antennas, and the signal to noise ratio of each."""
    weighted = channel.conj() / noise[:, None, None].astype(np.float32)
    reliability = np.sum((weighted * channel).real, axis=0)
    elements = np.sum(weighted * received, axis=0) / np.maximum(reliability, 1e-20)
    return elements.astype(np.complex64), reliability.astype(np.float32)


def noise_beyond_prefix(
    values: NDArray[np.complexfloating], weights: NDArray[np.floating], waveform: Waveform
) -> NDArray[np.float64]:
    """Noise variance of an element of unit weight, from the delays that no path can have, shape (antenna,).

    Movers, phase noise and common phases keep a path at its delay, so that none of them counts as noise. The
    four-term Blackman-Harris taper keeps the paths' side lobes 92 dB down.

    Parameters
    ----------
    values : complex array, shape (antenna, symbol, subcarrier)
        Received over transmitted.
    weights : float array, shape (symbol, subcarrier)
        All positive.
    waveform : Waveform

    Source: Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform", Proc. IEEE 1978.
    """
    size, prefix, half = waveform.fft_size, waveform.cp_samples, waveform.active_subcarriers // 2
    x = 2 * np.pi * (np.arange(half) + 0.5) / half
    taper = 0.35875 - 0.48829 * np.cos(x) + 0.14128 * np.cos(2 * x) - 0.01168 * np.cos(3 * x)
    lobe = int(np.ceil(4 * size / half)) + _TAIL
    low, high = prefix + lobe, size - back_off(waveform) - lobe
    if high - low < size // 8:
        # A prefix that leaves no room: the delays farthest from the first path's.
        low, high = size // 2, size // 2 + size // 8
    measured = np.zeros(values.shape[0])
    expected = 0.0
    # The two half bands apart: the carrier's gap between them would raise the side lobes.
    for side in (slice(0, half), slice(half, 2 * half)):
        padded = np.zeros((*values.shape[:2], size), np.complex64)
        padded[..., :half] = values[..., side] * taper.astype(np.float32)
        beyond = transformed(padded, inverse=True)[..., low:high]
        measured += np.sum(np.mean(np.abs(beyond) ** 2, axis=2, dtype=float), axis=1)
        expected += float(np.sum(taper**2 / weights[:, side]))
    return np.asarray(measured / expected)


def back_off(waveform: Waveform) -> int:
    """Samples by which transform windows start early, inside the prefix: an eighth of it, at least four or half."""
    return min(max(waveform.cp_samples // 8, 4), waveform.cp_samples // 2)


@lru_cache(maxsize=8)
def _gate(waveform: Waveform) -> NDArray[np.int64]:
    """Delays in samples that a channel may have, modulo the transform."""
    low = -back_off(waveform) - _TAIL
    high = min(waveform.cp_samples + _TAIL, low + waveform.fft_size)
    return np.arange(low, high) % waveform.fft_size


@dataclass(frozen=True)
class _Blocks:
    """Runs of consecutive symbols, and linear interpolation between their centres."""

    edges: NDArray[np.int64]
    left: NDArray[np.int64]
    share: NDArray[np.float32]

    @classmethod
    def of(cls, symbols: int, length: int) -> _Blocks:
        """Blocks of about ``length`` of the ``symbols``, one at least."""
        count = max(symbols // length, 1)
        edges = np.linspace(0, symbols, count + 1).round().astype(np.int64)
        centres = (edges[:-1] + edges[1:] - 1) / 2
        if count == 1:
            return cls(edges, np.zeros(symbols, np.int64), np.zeros(symbols, np.float32))
        left = np.clip(np.searchsorted(centres, np.arange(symbols), side="right") - 1, 0, count - 2)
        share = (np.arange(symbols) - centres[left]) / (centres[left + 1] - centres[left])
        return cls(edges, left, share.astype(np.float32))

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums over each block, shape (..., block, subcarrier)."""
        return np.asarray(np.add.reduceat(values, self.edges[:-1], axis=-2))

    def spread(self, values: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Values at every symbol, extrapolated before the first and after the last centre."""
        if values.shape[1] == 1:
            return np.repeat(values, len(self.left), axis=1)
        share = self.share[:, None]
        return np.asarray((1 - share) * values[:, self.left] + share * values[:, self.left + 1])
