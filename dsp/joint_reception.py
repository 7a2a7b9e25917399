"""Symbols without preamble, heard at a place known beforehand, and the signal to interference and noise in them."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray
from dsp.equalization import back_off
from dsp.fourier import transformed
from dsp.front import Tuning, interpolated_band
from dsp.resampling import interpolate, margin_samples
from dsp.waveform import Waveform

__all__ = ["MeasuredSinr", "known_symbols_sinr", "symbols_at"]

_GROUPS = 20
"""Groups of neighbouring subcarriers that the standard error is taken from."""
_PASSES = 2
"""Fits of the carrier offset that is left, each with gains found without what the one before saw."""


def symbols_at(
    samples: NDArray[np.complex64], waveform: Waveform, *, start: float, cfo_hz: float, symbols: int, tuning: Tuning
) -> NDArray[np.complex64]:
    """Resource elements of ``symbols`` symbols whose first sample stands at ``start``, (antenna, symbol, subcarrier).

    In units of the samples: an element of magnitude one contributes a power of one over the number of subcarriers.

    Parameters
    ----------
    samples : complex64 array, shape (antenna, sample)
    waveform : Waveform
        As the transmitter applied it.
    start : float
        In samples of the recording; windows begin `dsp.equalization.back_off` early, inside the prefix.
    cfo_hz : float
        Carrier frequency offset to remove, the converters' with it; its phase is zero at ``start``.
    symbols : int
    tuning : Tuning
        What the receiver applied.

    Raises
    ------
    ValueError
        If the symbols leave the samples.
    """
    speed = 1 + cfo_hz / float(tuning.carrier_hz)
    step = float(tuning.rate_hz / waveform.rate_hz) / speed
    rotation = (cfo_hz + float(waveform.carrier_hz - tuning.carrier_hz) * speed) / float(tuning.rate_hz)
    early = back_off(waveform)
    places = start + (waveform.cp_samples - early + np.arange(symbols) * waveform.symbol_samples) * step
    margin = margin_samples(interpolated_band(waveform)) + 2
    low = int(np.floor(places[0])) - margin
    high = int(np.ceil(places[-1] + waveform.fft_size * step)) + margin
    if low < 0 or high > samples.shape[1]:
        raise ValueError(f"the joint slot from {start:.0f} to {high} leaves the {samples.shape[1]} samples")
    windows = interpolate(
        samples[:, low:high], places - low, waveform.fft_size, step=step, rotation=rotation,
        occupancy=interpolated_band(waveform),
    )  # fmt: skip
    bins = waveform.bins
    place = np.exp(2j * np.pi * (rotation * (low - start) + bins * early / waveform.fft_size)).astype(np.complex64)
    scale = np.float32(sqrt(waveform.active_subcarriers) / waveform.fft_size)
    return np.asarray(transformed(windows)[..., bins % waveform.fft_size] * (place * scale))


@dataclass(frozen=True)
class MeasuredSinr:
    """Signal to interference and noise ratio, as a power ratio."""

    value: float
    standard_error: float


def known_symbols_sinr(received: ComplexArray, wanted: ComplexArray) -> MeasuredSinr:
    """SINR of streams whose symbols are known, by what a channel fitted to them explains and what it leaves.

    On each subcarrier the streams' gains are fitted over the symbols by least squares, once the carrier offset that is
    left has been taken off as a straight line of phase over the symbols; phase noise stays, and counts as disturbance.
    Left are other streams and noise, with one degree of freedom a symbol less one a stream; the gains' powers are less
    by the variance with which they were fitted. No model of the channel enters. Sums over the subcarriers make the
    ratio, and a jackknife over groups of them its error.

    Parameters
    ----------
    received : complex array, shape (symbol, subcarrier)
    wanted : complex array, shape (stream ≥ 1, symbol, subcarrier)
        Elements sent; powers of the streams add.

    Raises
    ------
    ValueError
        If there are not more symbols than streams.

    Source: docs/methods/signalling.md eq. 10.
    """
    streams, symbols, subcarriers = wanted.shape
    if symbols <= streams:
        raise ValueError(f"{streams} streams cannot be told from what disturbs them by {symbols} symbols")
    gram = np.einsum("plk,qlk->kpq", wanted.conj(), wanted, dtype=complex)
    inverse = np.linalg.inv(gram)
    for _ in range(_PASSES):
        gains = np.einsum("kpq,qlk,lk->kp", inverse, wanted.conj(), received, dtype=complex, optimize=True)
        explained = np.einsum("kp,plk->lk", gains, wanted)
        received = received * np.exp(-1j * _phase_line(np.sum(received * explained.conj(), axis=1)))[:, None]
    gains = np.einsum("kpq,qlk,lk->kp", inverse, wanted.conj(), received, dtype=complex, optimize=True)
    left = np.abs(received - np.einsum("kp,plk->lk", gains, wanted)) ** 2
    disturbance = left.sum(axis=0, dtype=float) / (symbols - streams)
    strength = np.einsum("plk,plk->kp", wanted.conj(), wanted).real / symbols
    excess = np.einsum("kpp,kp->k", inverse, strength).real
    power = (np.abs(gains) ** 2 * strength).sum(axis=1) - disturbance * excess
    value = float(power.sum() / disturbance.sum())
    parts = np.array_split(np.arange(subcarriers), min(_GROUPS, subcarriers))
    without = np.array([np.delete(power, part).sum() / np.delete(disturbance, part).sum() for part in parts])
    count = len(parts)
    return MeasuredSinr(value, float(np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2))))


def _phase_line(sums: ComplexArray) -> FloatArray:
    """Straight line of phase over the symbols, weighted by their strength, radians, shape (symbol,)."""
    places = np.arange(len(sums)) - 0.5 * (len(sums) - 1)
    phase = np.unwrap(np.angle(sums))
    weight = np.abs(sums)
    slope, level = np.polyfit(places, phase, 1, w=weight)
    return np.asarray(slope * places + level)
