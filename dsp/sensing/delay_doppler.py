"""Delay-Doppler map of a slot: all its frames on their true, non-uniform time axis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft, next_fast_len

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["DelayDopplerMap", "Taper", "block_symbols", "delay_doppler"]


class Taper(StrEnum):
    """Window over slow time and over frequency."""

    RECTANGULAR = "rectangular"
    """No loss, side lobes −13 dB."""
    KAISER_2 = "kaiser-2"
    """β = 2: costs 0.2 dB a dimension, side lobes −18 dB: for detection with successive cancellation."""
    HANN = "hann"
    """Costs 1.8 dB a dimension, side lobes −31 dB falling by 18 dB an octave."""
    KAISER_9 = "kaiser-9"
    """β = 9: costs 2.5 dB a dimension, side lobes below −66 dB: for pictures without cancellation."""

    def at(self, position: FloatArray) -> FloatArray:
        """Value at ``position``, −½…½ over the window's extent."""
        from scipy.special import i0

        match self:
            case Taper.RECTANGULAR:
                return np.ones_like(position)
            case Taper.HANN:
                return np.asarray(np.cos(np.pi * position) ** 2)
            case Taper.KAISER_2 | Taper.KAISER_9:
                beta = 2.0 if self is Taper.KAISER_2 else 9.0
                inside = np.maximum(1.0 - (2.0 * position) ** 2, 0.0)
                return np.asarray(i0(beta * np.sqrt(inside)) / i0(beta))
        assert_never(self)


@dataclass(frozen=True)
class DelayDopplerMap:
    """Windowed matched filter over delay and Doppler, scaled to unit noise power in every cell."""

    values: ComplexArray
    """Shape (antenna, doppler, delay); |values|² is 1 + the cell's SNR on average."""
    delay_s: FloatArray
    """Ascending; absolute path delay if the origin was given, else against the CSI's reference; shape (delay,)."""
    doppler_hz: FloatArray
    """Ascending, positive when the path shortens, shape (doppler,)."""
    delay_padding: int
    """Cells of the map per resolution cell 1/bandwidth."""
    doppler_padding: int
    """Cells of the map per resolution cell 1/coherent interval."""
    usable: FloatArray
    """Share of the noise (and so of a mover) left by clutter removal, by Doppler; one without removal."""
    delay_weights: FloatArray
    """Noise weights over frequency (window² · weight, per hertz position); with `frequency_hz` gives the correlation
    of cells over delay."""
    frequency_hz: FloatArray
    slow_weights: FloatArray
    """The same over slow time, at `time_s`."""
    time_s: FloatArray

    @property
    def power(self) -> FloatArray:
        """Sum over antennas of |values|², shape (doppler, delay): mean of noise is the number of antennas."""
        return np.asarray(np.sum(self.values.real**2 + self.values.imag**2, axis=0), dtype=np.float64)

    @property
    def delay_cell_s(self) -> float:
        """Resolution cell over delay: 1/bandwidth, or a little less where the transform is faster so."""
        return float(self.delay_s[1] - self.delay_s[0]) * self.delay_padding

    @property
    def doppler_cell_hz(self) -> float:
        """Resolution cell over Doppler: 1/coherent interval."""
        return float(self.doppler_hz[1] - self.doppler_hz[0]) * self.doppler_padding


_FEWEST_BLOCKS = 3


def block_symbols(csi: ChannelState, max_doppler_hz: float) -> int:
    """Symbols that may be averaged before the map: ≤ 0.9 dB of a mover is lost at ``max_doppler_hz``.

    A block of duration T attenuates Doppler ν by sinc²(νT), so T ≤ 1/(4·max Doppler). Preferred is the longest
    that divides a frame, so that no symbol is dropped, and leaves the three blocks that removal of clutter needs
    where the slot has three symbols: of a slot's many frames one may be all that was heard.
    """
    if max_doppler_hz <= 0:
        raise ValueError(f"max_doppler_hz is {max_doppler_hz}: a positive Doppler is needed")
    same = np.diff(csi.frame_of_symbol) == 0
    spacing = float(np.median(np.diff(csi.symbol_s)[same])) if same.any() else np.inf
    lengths = np.bincount(csi.frame_of_symbol - csi.frame_of_symbol.min())
    frame, frames = int(lengths.max()), int(np.count_nonzero(lengths))
    limit = int(np.clip(0.25 / (max_doppler_hz * spacing), 1, frame))
    least = min(_FEWEST_BLOCKS, frame * frames)
    return max(size for size in range(1, limit + 1) if frame % size == 0 and frame // size * frames >= least)


def delay_doppler(
    csi: ChannelState,
    *,
    max_delay_s: float,
    min_delay_s: float = 0.0,
    max_doppler_hz: float,
    delay_origin_s: float = 0.0,
    delay_padding: int = 3,
    doppler_padding: int = 3,
    taper: Taper = Taper.KAISER_2,
    static_removed: bool = False,
) -> DelayDopplerMap:
    """Delay-Doppler map of all frames of a slot, gated in delay and in Doppler.

    Over frequency an FFT (the missing DC stays zero); over slow time the windowed Fourier sum at the symbols'
    own times, because frames with gaps between them are not uniform. The gaps leave grating lobes at multiples
    of the frame rate, about 20·log10(sinc(duty)) high, which successive cancellation removes.

    Parameters
    ----------
    csi : ChannelState
        Referenced to the static path, averaged over `block_symbols`.
    min_delay_s, max_delay_s : float
        Gate, residual delays against the CSI's reference; the maximum is the cyclic prefix at most.
    max_doppler_hz : float > 0
        Doppler axis runs from minus to plus this.
    delay_origin_s : float
        Added to the axis: departure-to-reference delay with the clock offset taken out makes it absolute.
    delay_padding, doppler_padding : int ≥ 1
        Map cells per resolution cell.
    taper : Taper
        Window over both dimensions.
    static_removed : bool
        True if `remove_static` was applied: Dopplers near zero are scaled to unit noise too, see ``usable``.

    Raises
    ------
    ValueError
        If the gate is empty, the Doppler not positive, or subcarriers are not on one raster.
    """
    if not max_delay_s > min_delay_s or max_doppler_hz <= 0:
        raise ValueError("the delay gate and the Doppler span must not be empty")
    frequency = csi.subcarrier_hz
    bins = _bins(frequency)
    extent = int(bins[-1]) + 1
    over_frequency = taper.at((bins + 0.5) / extent - 0.5)
    # 801 subcarriers are three times as slow to transform as 810: a resolution cell is a little narrower instead
    size = delay_padding * next_fast_len(extent)
    profile, delay = _delay_profile(csi, over_frequency, bins, size, (min_delay_s, max_delay_s))
    time = csi.symbol_s - csi.symbol_s.mean()
    block = float(np.median(np.diff(time)))
    span = float(time[-1] - time[0]) + block
    over_time = taper.at((time - 0.5 * (time[0] + time[-1])) / span)
    step = 1.0 / (span * doppler_padding)
    count = int(max_doppler_hz / step)
    doppler = step * np.arange(-count, count + 1)
    kernel = over_time * np.exp(-2j * np.pi * np.outer(doppler, time))
    values = kernel.astype(profile.dtype) @ profile
    weight = csi.weights.mean(axis=1)
    noise = float(np.sum(over_time**2 * weight))
    usable = np.ones(doppler.size)
    if static_removed:
        usable = 1.0 - np.abs(kernel @ weight) ** 2 / (float(weight.sum()) * noise)
    column = float(np.sum(over_frequency**2 * csi.weights.mean(axis=0))) / float(csi.weights.mean())
    scale = np.sqrt(np.multiply.outer(csi.noise, np.maximum(usable, 1e-6)) * noise * column)
    return DelayDopplerMap(
        values=values / scale[:, :, None].astype(values.real.dtype),
        delay_s=delay + delay_origin_s,
        doppler_hz=doppler,
        delay_padding=delay_padding,
        doppler_padding=doppler_padding,
        usable=usable,
        delay_weights=over_frequency**2 * csi.weights.mean(axis=0),
        frequency_hz=frequency,
        slow_weights=over_time**2 * weight,
        time_s=time,
    )


def _bins(frequency: FloatArray) -> NDArray[np.int64]:
    """Place of each subcarrier on the raster of the least spacing, from zero."""
    raster = (frequency - frequency[0]) / float(np.min(np.diff(frequency)))
    bins: NDArray[np.int64] = np.rint(raster).astype(np.int64)
    if np.max(np.abs(raster - bins)) > 1e-3:
        raise ValueError("subcarriers are not on one raster")
    return bins


def _delay_profile(
    csi: ChannelState,
    window: FloatArray,
    bins: NDArray[np.int64],
    size: int,
    gate: tuple[float, float],
) -> tuple[ComplexArray, FloatArray]:
    """Delay response of every symbol within the gate, and its axis; phases refer to baseband zero frequency."""
    spacing = float(np.min(np.diff(csi.subcarrier_hz)))
    padded = np.zeros((*csi.values.shape[:2], size), csi.values.dtype)
    weighted = csi.values * (csi.weights * window).astype(csi.values.real.dtype)
    ends = np.flatnonzero(np.diff(bins) != 1) + 1
    for begin, end in pairwise((0, *ends, len(bins))):
        padded[..., bins[begin] : bins[begin] + end - begin] = weighted[..., begin:end]
    response = ifft(padded, axis=-1, norm="forward", overwrite_x=True)
    step = 1.0 / (size * spacing)
    first, last = int(np.ceil(gate[0] / step)), int(np.floor(gate[1] / step))
    last = min(last, first + size - 1)
    index = np.arange(first, last + 1)
    # the lowest subcarrier stood at zero
    centre = int(np.rint(csi.subcarrier_hz[0] / spacing))
    turn = np.exp(2j * np.pi * (centre * index % size) / size).astype(csi.values.dtype)
    return np.take(response, index % size, axis=-1) * turn, step * index
