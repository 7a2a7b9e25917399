"""Stages that one frame passes: two antennas, 256 symbols of 1024 subcarriers behind prefixes of 128, int16."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.frame import FrameReader
from dsp.sensing.cross_antenna import mean_product
from testbed.bench.speed import Goal, Stage

__all__ = ["Frame", "stages"]

_GATE = 128
_CFO_CYCLES = 1.37e-4
_CLOCKS = 2.1e-6


@dataclass(frozen=True)
class Frame:
    """Counts of one frame, and the plain way from them to its map."""

    antennas: int = 2
    symbols: int = 256
    size: int = 1024
    prefix: int = 128
    seed: int = 1

    @property
    def start(self) -> float:
        """Where the first window begins: off the samples' raster."""
        return self.prefix + 0.3

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """Active subcarriers: 25/32 of all, none at zero."""
        half = self.size * 25 // 64
        return np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])

    @cached_property
    def counts(self) -> NDArray[np.int16]:
        """Twelve-bit noise: the work does not depend on the values."""
        rng = np.random.default_rng(self.seed)
        shape = (self.antennas, self.symbols * (self.size + self.prefix) + 64, 2)
        return rng.integers(-2048, 2048, shape, dtype=np.int16)

    @cached_property
    def reference(self) -> NDArray[np.complex64]:
        """Inverse of the elements sent, QPSK, over the transform's length."""
        rng = np.random.default_rng(self.seed + 1)
        turns = rng.integers(0, 4, (self.symbols, self.bins.size))
        return np.asarray(np.exp(-0.5j * np.pi * turns) / self.size, np.complex64)

    @cached_property
    def reader(self) -> FrameReader:
        """Ours."""
        return FrameReader(self.size, self.size + self.prefix, self.reference, self.bins)

    @cached_property
    def channel_out(self) -> NDArray[np.complex64]:
        """Room for the channel state."""
        return np.empty((self.antennas, self.symbols, self.bins.size), np.complex64)

    @cached_property
    def grid(self) -> NDArray[np.complex64]:
        """Complex values of the frame's shape, for bare transforms and copies."""
        rng = np.random.default_rng(self.seed + 2)
        shape = (self.antennas, self.symbols, self.size)
        return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), np.complex64)

    def channel(self) -> NDArray[np.complex64]:
        """The channel by ours, shape (antenna, symbol, subcarrier); every call fills the same array."""
        return self.reader.channel(
            self.counts, start=self.start, cfo_cycles=_CFO_CYCLES, clock_difference=_CLOCKS, out=self.channel_out
        )

    def power(self, delays: int | None = None) -> NDArray[np.float32]:
        """The map by ours, shape (doppler, delay), whole or of the first ``delays`` cells."""
        return self.reader.power_map(
            self.counts, start=self.start, cfo_cycles=_CFO_CYCLES, clock_difference=_CLOCKS, delays=delays
        )

    def plain_channel(self) -> NDArray[np.complex128]:
        """The channel by numpy in double precision, as one writes it down."""
        samples = self.counts[..., 0] + 1j * self.counts[..., 1]
        samples = samples * np.exp(-2j * np.pi * _CFO_CYCLES * np.arange(samples.shape[1]))
        places = self.start + (self.size + self.prefix) / (1 + _CLOCKS) * np.arange(self.symbols)
        starts = np.rint(places).astype(int)
        windows = np.stack([samples[:, start : start + self.size] for start in starts], axis=1)
        spectra = np.fft.fft(windows, axis=2)[..., self.bins % self.size]
        late = np.exp(2j * np.pi * np.outer((places - starts) / self.size, self.bins))
        return np.asarray(spectra * late * self.reference)

    def plain_power(self, delays: int | None = None) -> NDArray[np.float64]:
        """The map by numpy in double precision."""
        padded = np.zeros((self.antennas, self.symbols, self.size), complex)
        padded[..., self.bins % self.size] = self.plain_channel()
        profile = np.fft.ifft(padded, axis=2, norm="forward")[..., :delays]
        found = np.fft.fftshift(np.fft.fft(profile, axis=1), axes=1)
        return np.asarray(np.sum(np.abs(found) ** 2, axis=0))

    def script_power(self) -> NDArray[np.float32]:
        """The map as a careful script has it: scipy's transforms in complex64, everything that can be kept made before.

        It does less: windows stand at whole samples, so that the rest of the timing and the clocks' difference stay in.
        """
        stride = self.size + self.prefix
        begin = round(self.start) - self.prefix
        stretch = self.counts[:, begin : begin + self.symbols * stride].astype(np.float32).view(np.complex64)[..., 0]
        turned = stretch * self._script_phasors
        windows = turned.reshape(self.antennas, self.symbols, stride)[..., self.prefix :]
        spectra = fft.fft(windows, axis=2, workers=1) * self._script_reference
        profile = fft.ifft(spectra, axis=2, norm="forward", overwrite_x=True, workers=1)
        found = fft.fft(profile, axis=1, overwrite_x=True, workers=1)
        return np.asarray(np.sum(found.real**2 + found.imag**2, axis=0))

    @cached_property
    def _script_phasors(self) -> NDArray[np.complex64]:
        places = round(self.start) - self.prefix + np.arange(self.symbols * (self.size + self.prefix))
        return np.asarray(np.exp(-2j * np.pi * _CFO_CYCLES * places), np.complex64)

    @cached_property
    def _script_reference(self) -> NDArray[np.complex64]:
        whole = np.zeros((self.symbols, self.size), np.complex64)
        # Alternating signs move zero Doppler to the middle.
        whole[:, self.bins % self.size] = self.reference * np.where(np.arange(self.symbols) % 2, -1, 1)[:, None]
        return whole

    def bare_rows(self) -> Any:
        """The transforms of all symbols, and nothing else."""
        return fft.fft(self.grid, axis=2, workers=1)

    def bare_frame(self, delays: int | None = None) -> None:
        """The transforms that the way to the map needs, and nothing else."""
        fft.fft(self.grid, axis=2, workers=1)
        profile = fft.ifft(self.grid, axis=2, norm="forward", workers=1)
        fft.fft(profile[..., :delays], axis=1, workers=1)


def stages() -> list[Stage]:
    """From counts to channel and map, whole and gated."""
    frame = Frame()
    spare = np.empty_like(frame.grid)
    windows = np.empty_like(frame.grid)
    channel = frame.channel().copy()
    words = channel.view(np.int64)
    listed = [
        Stage(
            "counts to windows",
            lambda: frame.reader.windows(frame.counts, start=frame.start, cfo_cycles=_CFO_CYCLES, out=windows),
            {"copy": lambda: np.copyto(spare, frame.grid)},
            {"copy": Goal(2.0)},
        ),
        Stage(
            "CACC mean",
            lambda: mean_product(channel),
            {"reading": lambda: words.sum(), "numpy": lambda: np.mean(channel[1:] * channel[0].conj(), axis=1)},
            {"reading": Goal(1.6)},
        ),
        Stage(
            "samples to channel",
            frame.channel,
            {"scipy row transforms": frame.bare_rows, "copy": lambda: np.copyto(spare, frame.grid),
             "numpy": frame.plain_channel},
            {"scipy row transforms": Goal(0.7)},
        )
    ]  # fmt: skip
    for name, delays, goal in (("samples to map", None, 0.7), (f"samples to map, {_GATE} delays", _GATE, 0.6)):
        listed.append(
            Stage(
                name,
                lambda delays=delays: frame.power(delays),  # type: ignore[misc]
                {
                    "scipy transforms": lambda delays=delays: frame.bare_frame(delays),  # type: ignore[misc]
                    **({"scipy script, complex64": frame.script_power} if delays is None else {}),
                    "numpy": lambda delays=delays: frame.plain_power(delays),  # type: ignore[misc]
                },
                {
                    "scipy transforms": Goal(goal),
                    "scipy script, complex64": Goal(1.2, at_least=True),
                    "numpy": Goal(12, at_least=True),
                }
                if delays is None
                else {"scipy transforms": Goal(goal)},
            )
        )  # fmt: skip
    return listed
