"""Fast path from one frame's counts to its channel state and power map, for live views and surveys.

The front (`dsp.front`) resamples a recording onto the transmitter's clock and is exact. This path moves each symbol's
transform window by whole samples and takes what is left as a phase ramp over the subcarriers. That is exact for the
timing and for the carrier offset; what it leaves out is the converters' drift within one symbol, which leaks between
subcarriers: `drift_error_db` says how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log10, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import FloatArray

__all__ = ["FrameReader", "drift_error_db"]


def drift_error_db(clock_difference: float, subcarriers: int) -> float:
    """Error vector of the fast path, in decibels, mean over the subcarriers.

    Subcarrier k of a symbol that is stretched by δ over its transform leaks (π·δ·k)²/3 of its power into others; the
    mean over ±K/2 is (π·δ·K)²/36.

    Parameters
    ----------
    clock_difference : float
        δ: the transmitter's rate over the receiver's, less one (CFO over carrier).
    subcarriers : int
        K.
    """
    share = (pi * clock_difference * subcarriers) ** 2 / 36
    return 10 * log10(max(share, 1e-30))


@dataclass(frozen=True)
class FrameReader:
    """Reader of one transmitter's frames: tables of everything that does not change from frame to frame.

    Parameters
    ----------
    fft_size : int
        A power of two, 64 to 8192.
    symbol_samples : int
        Spacing of the transform windows, prefix included, on the transmitter's clock.
    reference : complex64 array, shape (symbol, subcarrier)
        Factor of each resource element: conj(X)/|X|², conj(X), any window and scale folded in.
    bins : int array, shape (subcarrier,)
        Centred subcarrier numbers, ascending.
    """

    fft_size: int
    symbol_samples: int
    reference: NDArray[np.complex64]
    bins: NDArray[np.int64]

    def __post_init__(self) -> None:
        from dsp.kernels.fourier import SIZES

        if self.fft_size not in SIZES:
            raise ValueError(f"fft_size is {self.fft_size}: must be one of {', '.join(map(str, SIZES))}")
        if self.reference.dtype != np.complex64 or self.reference.shape[1:] != self.bins.shape:
            raise ValueError(
                f"the reference has shape {self.reference.shape} of {self.reference.dtype}: must be complex64 over "
                f"{self.bins.size} subcarriers"
            )
        half = self.fft_size // 2
        if np.any(np.diff(self.bins) < 1) or self.bins[0] < -half or self.bins[-1] >= half:
            raise ValueError(f"bins must ascend within -{half} … {half - 1}")

    def channel(
        self,
        counts: NDArray[np.int16],
        *,
        start: float,
        cfo_cycles: float,
        clock_difference: float = 0.0,
        out: NDArray[np.complex64] | None = None,
    ) -> NDArray[np.complex64]:
        """Channel state of a frame, shape (antenna, symbol, subcarrier).

        Parameters
        ----------
        counts : int16 array, shape (antenna, sample, 2)
            As the converter gave them, C-contiguous.
        start : float
            Where the first symbol's transform window begins, in samples; phases refer to it.
        cfo_cycles : float
            Carrier offset removed, in cycles per sample; its phase is zero at sample 0.
        clock_difference : float
            CFO over carrier: windows stand symbol_samples/(1 + difference) apart. Its effect within one symbol is not
            removed: `drift_error_db`.
        out : complex64 array, optional
            Where to put the result, of its shape; saves a new array's page faults.

        Raises
        ------
        ValueError
            If a window leaves the samples, or an array has not its shape and type.
        """
        from dsp.kernels.frame import channel

        shape = (counts.shape[0], *self.reference.shape)
        if out is None:
            out = np.empty(shape, np.complex64)
        elif out.shape != shape or out.dtype != np.complex64:
            raise ValueError(f"out has shape {out.shape} of {out.dtype}: must be complex64 of {shape}")
        channel(self.fft_size)(*self._arguments(counts, start, cfo_cycles, clock_difference, None), out)
        return out

    def windows(
        self, counts: NDArray[np.int16], *, start: float, cfo_cycles: float, out: NDArray[np.complex64]
    ) -> None:
        """Samples of the symbols' windows without prefix and carrier offset, into ``out`` (antenna, symbol, sample).

        What `channel` does first, for those who want to look at it or to go on by other means.
        """
        from dsp.kernels.frame import _windows

        pairs, starts, _, gains = self._places(counts, start, cfo_cycles, 0.0)
        _windows(pairs, starts, _phasors(-cfo_cycles, self.fft_size, 0), gains, out)

    def power_map(
        self,
        counts: NDArray[np.int16],
        *,
        start: float,
        cfo_cycles: float,
        clock_difference: float = 0.0,
        delays: int | None = None,
        window: FloatArray | None = None,
    ) -> NDArray[np.float32]:
        """Power over Doppler and delay of one frame, antennas added, shape (doppler, delay); arguments as `channel`.

        Doppler ascends from minus half the symbol rate, zero at row n/2, n the symbols rounded up to a power of two;
        delays are 0 … delays - 1 samples of 1/(fft_size·spacing) behind the window's start. Neither transform is
        scaled. No complex map is kept, and no delay beyond the gate is transformed over the symbols.

        Parameters
        ----------
        delays : int, optional
            Delays kept; all if not given. A multiple of 16.
        window : float array, shape (symbol,), optional
            Over slow time.
        """
        from dsp.kernels.fourier import twiddles
        from dsp.kernels.frame import LANES, SYMBOLS, power, profile

        symbols = self.reference.shape[0]
        kept = self.fft_size if delays is None else delays
        size = max(64, 1 << (symbols - 1).bit_length())
        if size not in SYMBOLS or kept % LANES or not 0 < kept <= self.fft_size:
            raise ValueError(
                f"{symbols} symbols and {kept} delays: at most {SYMBOLS[-1]} symbols, delays a multiple of {LANES} up "
                f"to {self.fft_size}"
            )
        # Alternating signs move zero Doppler to the middle.
        slow = np.where(np.arange(symbols) % 2, -1.0, 1.0) * (1.0 if window is None else window)
        arguments = self._arguments(counts, start, cfo_cycles, clock_difference, slow)
        # Rows a cache line longer than a power of two, which would make them share a set of the cache.
        profiles = np.empty((counts.shape[0], 2, symbols, kept + 16), np.float32)
        profile(self.fft_size)(*arguments, profiles)
        out = np.empty((size, kept), np.float32)
        power(size)(profiles, np.stack(twiddles(size)), out)
        return out

    def _arguments(
        self, counts: NDArray[np.int16], start: float, cfo: float, difference: float, slow: FloatArray | None
    ) -> tuple[Any, ...]:
        """Arguments of the kernels, less their output."""
        n = self.fft_size
        pairs, starts, places, gains = self._places(counts, start, cfo, difference)
        if slow is not None:
            gains = gains * slow
        spacing = self.symbol_samples / (1 + difference)
        return (
            pairs,
            starts,
            _phasors(-cfo, n, 0),
            gains,
            # A window that begins before its place shows the channel later by as much.
            (places - starts) / n,
            _phasors((spacing - round(spacing)) / n, n, n // 2),
            self.reference,
            self._runs,
            self._twiddles,
        )

    def _places(
        self, counts: NDArray[np.int16], start: float, cfo: float, difference: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], FloatArray, NDArray[np.complex128]]:
        """Counts by pairs, first samples of the windows, where they would begin exactly, and phases to take off."""
        if counts.ndim != 3 or counts.shape[2] != 2 or counts.dtype != np.int16:
            raise ValueError(f"counts have shape {counts.shape} of {counts.dtype}: must be int16 (antenna, sample, 2)")
        symbols, n = self.reference.shape[0], self.fft_size
        places = start + self.symbol_samples / (1 + difference) * np.arange(symbols)
        starts = np.rint(places).astype(np.int64)
        if starts[0] < 0 or starts[-1] + n > counts.shape[1]:
            raise ValueError(f"the frame from {start:.0f} to {places[-1] + n:.0f} leaves the {counts.shape[1]} samples")
        turns = starts * cfo
        pairs = np.ascontiguousarray(counts).view(np.int32)[..., 0]
        return pairs, starts, places, np.exp(-2j * pi * (turns - np.rint(turns)))

    @cached_property
    def _runs(self) -> NDArray[np.int64]:
        """Runs of neighbouring subcarriers that the transform's order does not break: place among the subcarriers, in
        the transform, among centred bins, and length."""
        n = self.fft_size
        places = self.bins % n
        edges = np.flatnonzero(np.diff(places) != 1) + 1
        first = np.concatenate([[0], edges])
        count = np.diff(np.concatenate([first, [self.bins.size]]))
        return np.stack([first, places[first], self.bins[first] + n // 2, count], axis=1)

    @cached_property
    def _twiddles(self) -> NDArray[np.float32]:
        from dsp.kernels.fourier import twiddles

        return np.stack(twiddles(self.fft_size))


def _phasors(cycles: float, count: int, zero: int) -> NDArray[np.float32]:
    """exp(j2π·(i - zero)·cycles), real and imaginary parts apart."""
    angle = 2 * pi * cycles * (np.arange(count) - zero)
    out = np.empty((2, count), np.float32)
    np.cos(angle, out=out[0], casting="same_kind")
    np.sin(angle, out=out[1], casting="same_kind")
    return out
