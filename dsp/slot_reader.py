"""Counts of one slot to block-averaged channel state, where timing, carrier offset and elements are known beforehand.

The front (`dsp.front`) finds all three and resamples the recording onto the transmitter's clock. Here a link is
followed: windows move by whole samples, the rest of the timing is a phase ramp over the subcarriers about each window's
centre, and the drift within a window is taken off to first order by the samples' derivative. What that leaves out,
`drift_error_db` states. Symbols go into blocks at once, as a matched filter: sums of conj(sent)·received.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log10, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.equalization import back_off, noise_beyond_prefix
from dsp.fourier import transformed
from dsp.front import Tuning
from dsp.moment import Moment
from dsp.waveform import Waveform

__all__ = ["BlockReading", "SlotReader", "drift_error_db", "strongest_delay_s"]

_NOISE_BLOCKS = 32
"""Blocks looked at for the noise: it is known to 1 % then."""
_LEAK = 10**-7.5
"""Power that may leak between subcarriers of a block's average: 17 dB below the noise of 64 symbols at 40 dB."""


def drift_error_db(clock_difference: float, subcarriers: int, fft_size: int, per_block: int) -> float:
    """Error vector of `SlotReader`'s blocks by the clocks' drift within a symbol, in decibels, mean over the band.

    Of the displacement ε = δ·(i - centre) the first order is taken off but for the derivative's own error, which
    leaks between subcarriers, whose elements differ from symbol to symbol: averages have it less. The second,
    (2πf·ε)²/2, remains: (π·δ·K)⁴/1600 in the mean over window and band.

    Parameters
    ----------
    clock_difference : float
        δ: the transmitter's rate over the receiver's, less one.
    subcarriers, fft_size : int
        Active ones, and the transform's length.
    per_block : int ≥ 1
        Symbols averaged.
    """
    occupancy = (subcarriers + 1) / fft_size
    taps = _derivative(clock_difference, subcarriers, occupancy, per_block).size
    first = _leak(clock_difference, subcarriers, per_block) * _differentiator(occupancy, taps)[1]
    second = (pi * clock_difference * subcarriers) ** 4 / 1600
    return 10 * log10(max(first + second, 1e-30))


@dataclass(frozen=True)
class BlockReading:
    """One slot as `SlotReader` read it."""

    csi: ChannelState
    """Averaged over blocks."""
    unexplained: FloatArray
    """Power that the blocks' channels leave of each frame's elements over the power that they explain, shape
    (frame,)."""
    level: FloatArray
    """Mean power of each frame's elements, full scale one, shape (frame,)."""
    profile: FloatArray
    """Power over delay of each frame, antennas added, shape (frame, fft_size); delay zero first."""
    strongest_delay_s: float
    """As `strongest_delay_s`."""


class SlotReader:
    """Reader of the slots of one transmitter at one receiver: tables that do not change from round to round.

    Parameters
    ----------
    waveform : Waveform
        As the transmitter applied it.
    tuning : Tuning
        What the receiver applied.
    per_block : int ≥ 1
        Symbols averaged; divides the symbols of a frame.
    frames, period_samples : int
        Frames of the slot, and their spacing on the transmitter's clock.

    Raises
    ------
    ValueError
        If ``per_block`` does not divide the frame.
    """

    def __init__(self, waveform: Waveform, tuning: Tuning, *, per_block: int, frames: int, period_samples: int) -> None:
        if per_block < 1 or waveform.symbols % per_block:
            raise ValueError(f"per_block is {per_block}: must divide the {waveform.symbols} symbols of a frame")
        self._waveform, self._tuning = waveform, tuning
        self._per_block, self._frames = per_block, frames
        early = back_off(waveform)
        lead = waveform.preamble_samples + waveform.cp_samples - early
        within = lead + np.arange(waveform.symbols) * waveform.symbol_samples
        self._firsts = (np.arange(frames)[:, None] * period_samples + within).ravel().astype(np.float64)
        self._blocks = frames * waveform.symbols // per_block
        centres = self._firsts + (waveform.fft_size - 1) / 2
        self._centres = centres.reshape(self._blocks, per_block).mean(axis=1)
        self._frame_of_block = np.repeat(np.arange(frames), waveform.symbols // per_block)

    def read(
        self,
        counts: NDArray[np.int16],
        *,
        clock: str,
        first_tick: int,
        start: float,
        cfo_hz: float,
        sent: NDArray[np.complex64],
        branches: NDArray[np.float32],
    ) -> BlockReading:
        """The slot's channel state and what there is to check of it.

        Parameters
        ----------
        counts : int16 array, shape (antenna, sample, 2)
            As the converter gave them, C-contiguous.
        clock, first_tick : str, int
            The receiver's clock, and its reading at the first sample.
        start : float
            Sample at which the slot's first sample arrives with zero residual delay.
        cfo_hz : float
            Carrier frequency offset removed, and the drift of the converters with it.
        sent : complex64 array, shape (symbol, subcarrier)
            Elements of a frame.
        branches : float32 array, shape (antenna, 2, 3)
            By output branch: shares of the input branches, and its offset, in counts, taken off the input first. The
            shares hold the full scale.

        Raises
        ------
        ValueError
            If the slot leaves the samples.
        """
        from dsp.kernels.fourier import twiddles
        from dsp.kernels.slot import REACH, block_sums

        waveform, n = self._waveform, self._waveform.fft_size
        speed = 1 + cfo_hz / float(self._tuning.carrier_hz)
        step = float(self._tuning.rate_hz / waveform.rate_hz) / speed
        observed = cfo_hz + float(waveform.carrier_hz - self._tuning.carrier_hz) * speed
        rotation = observed / float(self._tuning.rate_hz)
        centre = (n - 1) / 2
        places = start + (self._firsts + centre) * step - centre
        starts = np.rint(places).astype(np.int64)
        if starts[0] < REACH or starts[-1] + n + REACH > counts.shape[1]:
            raise ValueError(f"the slot from {starts[0]} to {starts[-1] + n} leaves the {counts.shape[1]} samples")
        turns = rotation * (starts - start)
        scale = sqrt(waveform.active_subcarriers) / (n * waveform.scale)
        subcarriers = waveform.active_subcarriers
        taps = _derivative(step - 1, subcarriers, (subcarriers + 1) / n, self._per_block)
        antennas = counts.shape[0]
        sums = np.empty((antennas, self._blocks, subcarriers), np.complex64)
        power = np.empty((antennas, self._frames, subcarriers), np.float32)
        block_sums(n, taps.size)(
            np.ascontiguousarray(counts).view(np.int32)[..., 0],
            branches,
            starts,
            self._per_block,
            _phasors(-rotation, n + 2 * REACH, REACH),
            scale * np.exp(-2j * pi * (turns - np.rint(turns))),
            (places - starts + back_off(waveform)) / n,
            _phasors((waveform.symbol_samples * step - waveform.symbol_samples) / n, n, n // 2),
            ((np.arange(n) - centre) * (step - 1)).astype(np.float32),
            taps,
            np.conj(sent),
            self._runs,
            np.stack(twiddles(n)),
            sums,
            power,
        )
        return self._reading(sums, power * np.float32(scale**2), sent, clock, first_tick, start, cfo_hz, step)

    def _reading(
        self,
        sums: NDArray[np.complex64],
        power: NDArray[np.float32],
        sent: NDArray[np.complex64],
        clock: str,
        first_tick: int,
        start: float,
        cfo_hz: float,
        step: float,
    ) -> BlockReading:
        waveform, frames = self._waveform, self._frames
        strength = sent.real**2 + sent.imag**2
        one = strength.reshape(-1, self._per_block, strength.shape[1]).sum(axis=1)
        weights = np.tile(one, (frames, 1))
        values = sums
        values /= weights
        # |Σ conj(X)Y|²/Σ|X|² is the power that a block's own channel explains, and a part of the noise.
        explained = np.einsum("afbk,bk->f", _squared(values).reshape(len(values), frames, -1, values.shape[2]), one)
        total = power.sum(axis=(0, 2), dtype=float)
        share = 1.0 - 1.0 / self._per_block
        unexplained = (total - explained) / share
        every = max(1, self._blocks // _NOISE_BLOCKS)
        noise = noise_beyond_prefix(values[:, ::every], weights[::every].astype(np.float64), waveform)
        mean = float(one.mean())
        csi = ChannelState(
            values=values,
            weights=weights / np.float32(mean),
            subcarrier_hz=waveform.subcarrier_hz,
            symbol_s=self._centres * step / float(self._tuning.rate_hz),
            reference=Moment.at(clock, start, self._tuning.rate_hz, tick=first_tick),
            cfo_reference_hz=cfo_hz,
            carrier_hz=self._tuning.carrier_hz,
            noise=noise / mean,
            frame_of_symbol=self._frame_of_block,
        )
        signal = np.maximum(total - unexplained, 1e-30)
        elements = power.shape[0] * strength.size
        each = _frames(csi)
        profile = _profile(csi, each, waveform.fft_size)
        strongest_s = _strongest_s(csi, each, profile)
        return BlockReading(csi, unexplained / signal, total / elements, profile, strongest_s)

    @cached_property
    def _runs(self) -> NDArray[np.int64]:
        """Runs of neighbouring subcarriers: place among them, in the transform, among centred bins, and length."""
        bins, n = self._waveform.bins, self._waveform.fft_size
        places = bins % n
        first = np.concatenate([[0], np.flatnonzero(np.diff(places) != 1) + 1])
        count = np.diff(np.concatenate([first, [bins.size]]))
        return np.stack([first, places[first], bins[first] + n // 2, count], axis=1)


def strongest_delay_s(csi: ChannelState) -> float:
    """Residual delay of the slot's strongest path, to a twentieth of a sample: a parabola through the profile."""
    frames = _frames(csi)
    return _strongest_s(csi, frames, _profile(csi, frames, 1 << int(csi.subcarrier_hz.size - 1).bit_length()))


def _strongest_s(csi: ChannelState, frames: NDArray[np.complex64], profile: FloatArray) -> float:
    spacing, size = float(np.min(np.diff(csi.subcarrier_hz))), profile.shape[1]
    rough = int(np.argmax(profile.sum(axis=0)))
    # quarters of the profile's cells about its greatest, and one on either side for the parabola
    near = ((rough + size // 2) % size - size // 2 + np.arange(-5, 6) / 4) / (size * spacing)
    power = np.sum(_squared(frames @ _phases(csi.subcarrier_hz, near)), axis=(0, 1))
    peak = 1 + int(np.argmax(power[1:-1]))
    left, middle, right = power[peak - 1 : peak + 2]
    curve = left - 2 * middle + right
    fine = 0.5 * (left - right) / curve if curve < 0 else 0.0
    return float(near[peak] + fine * (near[1] - near[0]))


def _phases(frequency_hz: FloatArray, delay_s: FloatArray) -> NDArray[np.complex64]:
    return np.asarray(np.exp(2j * pi * np.outer(frequency_hz, delay_s)), np.complex64)


def _frames(csi: ChannelState) -> NDArray[np.complex64]:
    """Each frame's mean channel, times its weight, shape (antenna, frame, subcarrier)."""
    starts = np.flatnonzero(np.diff(csi.frame_of_symbol, prepend=-1))
    return np.asarray(np.add.reduceat(csi.values * csi.weights.astype(np.float32), starts, axis=1), np.complex64)


def _profile(csi: ChannelState, frames: NDArray[np.complex64], size: int) -> FloatArray:
    """Power over delay of each frame's mean channel, antennas added, shape (frame, size)."""
    spacing = float(np.min(np.diff(csi.subcarrier_hz)))
    bins = np.rint(csi.subcarrier_hz / spacing).astype(np.int64)
    padded = np.zeros((*frames.shape[:2], size), np.complex64)
    padded[..., bins % size] = frames
    return np.asarray(_squared(transformed(padded, inverse=True)).sum(axis=0))


def _squared(values: ComplexArray) -> NDArray[np.float32]:
    return np.asarray(values.real**2 + values.imag**2)


def _phasors(cycles: float, count: int, zero: int) -> NDArray[np.float32]:
    """exp(j2π·(i - zero)·cycles), real and imaginary parts apart."""
    angle = 2 * pi * cycles * (np.arange(count) - zero)
    return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def _derivative(clock_difference: float, subcarriers: int, occupancy: float, per_block: int) -> NDArray[np.float32]:
    """Antisymmetric differentiator: coefficient of each x[i+m] - x[i-m], as few as keep the leakage small."""
    for taps in (2, 6):
        coefficients, error = _differentiator(occupancy, taps)
        if _leak(clock_difference, subcarriers, per_block) * error < _LEAK:
            break
    return coefficients


def _leak(clock_difference: float, subcarriers: int, per_block: int) -> float:
    """Power that leaks between subcarriers where the first order is not taken off, of an average's."""
    return (pi * clock_difference * subcarriers) ** 2 / 36 / per_block


@lru_cache(maxsize=16)
def _differentiator(occupancy: float, taps: int) -> tuple[NDArray[np.float32], float]:
    """Least squares over the occupied band, and the power of its error over the derivative's."""
    omega = pi * min(occupancy, 0.97) * (np.arange(512) + 0.5) / 512
    columns = 2 * np.sin(np.outer(omega, np.arange(1, taps + 1)))
    coefficients = solve(columns.T @ columns, columns.T @ omega, assume_a="pos")
    left = columns @ coefficients - omega
    return coefficients.astype(np.float32), float(left @ left / (omega @ omega))
