"""What an AD936x's filters make of a signal: analog low pass, half-band stages and FIR filter of one direction.

Analog (AD9361 Reference Manual UG-570): on reception a low pass of one pole at the transimpedance amplifier, at 2.5
times half the RF bandwidth, and a Butterworth low pass of third order at 1.4 times; on transmission Butterworth of
third order at 1.6 times, and one pole at 5 times. Digital: half-band stages by two or three, and the FIR filter that
was loaded.

Two things are left out on purpose. A filter counts as one where it passes most: levels are what the gains say. And its
delay, as one measures it over the inner four fifths of the band, belongs to the chain's, which is stated elsewhere;
what remains of the phase is dispersion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

__all__ = ["PathFilter", "filtered", "impulse", "reach"]

ComplexArray = NDArray[np.complex128]

_ANALOG = {False: (1.4, 2.5), True: (1.6, 5.0)}
"""By whether it transmits: corners of the Butterworth low pass and of the single pole, over half the RF bandwidth."""
_HALF_BANDS: dict[bool, dict[tuple[str, int], tuple[int, ...]]] = {
    False: {
        ("first", 2): (-8, 0, 42, 0, -147, 0, 619, 1013, 619, 0, -147, 0, 42, 0, -8),
        ("second", 2): (-9, 0, 73, 128, 73, 0, -9),
        ("third", 2): (1, 4, 6, 4, 1),
        ("third", 3): (55, 83, 0, -393, -580, 0, 1914, 4041, 5120, 4041, 1914, 0, -580, -393, 0, 83, 55),
    },
    True: {
        ("first", 2): (-53, 0, 313, 0, -1155, 0, 4989, 8192, 4989, 0, -1155, 0, 313, 0, -53),
        ("second", 2): (-9, 0, 73, 128, 73, 0, -9),
        ("third", 2): (1, 2, 1),
        ("third", 3): (
            36, -19, 0, -156, -12, 0, 479, 223, 0, -1215, -993, 0, 3569, 6277, 8192,
            6277, 3569, 0, -993, -1215, 0, 223, 479, 0, -12, -156, 0, -19, 36,
        ),
    },
}  # fmt: skip
_BAND = 0.4
"""Of the sample rate on either side: what a signal occupies."""
_SHORTEST, _LONGEST = 128, 1024
"""Samples on either side for which an impulse response is followed."""
_BLOCKS = 16
"""Length of a block that is transformed at once, over the impulse response's."""
_TIME_CONSTANTS = 12
"""Of the slowest pole: what is left after them is 6e-6."""


@dataclass(frozen=True)
class PathFilter:
    """Filters of one direction."""

    transmit: bool
    bandwidth_hz: int | None
    """RF bandwidth, both sides of the carrier together; None leaves the analog filters out."""
    stages: tuple[int, int, int] = (1, 1, 1)
    """Factors of the third, second and first half-band stage; 1 where one is bypassed."""
    factor: int = 1
    """Of the FIR filter."""
    taps: tuple[int, ...] = ()
    """Of the FIR filter; empty where it is bypassed."""
    corner: float = 1.0
    """The analog filters' corners over what the bandwidth asks for: as near as the device's own tuning comes."""

    def response(self, frequency_hz: NDArray[np.float64], rate_hz: float) -> ComplexArray:
        """Response at ``frequency_hz`` from the carrier, of a path with the sample rate ``rate_hz``."""
        whole = self._product(frequency_hz, rate_hz)
        grid = np.linspace(-rate_hz / 2, rate_hz / 2, 1025)
        largest = float(np.max(np.abs(self._product(grid, rate_hz))))
        # Odd over frequency, so that one side is enough: a slope without an offset, by weighted least squares.
        inner = np.linspace(0.0, _BAND * rate_hz, 513)
        passed = self._product(inner, rate_hz)
        weight = np.abs(passed) ** 2
        slope = np.sum(weight * inner * np.unwrap(np.angle(passed))) / (np.sum(weight * inner**2) or 1.0)
        return np.asarray(whole * np.exp(-1j * slope * frequency_hz) / (largest or 1.0))

    def _product(self, frequency_hz: NDArray[np.float64], rate_hz: float) -> ComplexArray:
        whole = np.ones(np.shape(frequency_hz), np.complex128)
        if self.bandwidth_hz is not None:
            width_hz = self.corner * self.bandwidth_hz
            butterworth, pole = (2j * frequency_hz / (ratio * width_hz) for ratio in _ANALOG[self.transmit])
            whole = 1 / ((1 + butterworth) * (1 + butterworth + butterworth**2)) / (1 + pole)
        for taps, tap_rate_hz in self._digital(rate_hz):
            places = np.arange(len(taps)) - (len(taps) - 1) / 2
            whole = whole * (np.exp(-2j * np.pi * np.multiply.outer(frequency_hz / tap_rate_hz, places)) @ taps)
        return np.asarray(whole, np.complex128)

    def _digital(self, rate_hz: float) -> Iterator[tuple[NDArray[np.float64], float]]:
        """Taps of each stage that works, and the rate at which they stand."""
        rate = rate_hz * self.factor
        if self.taps:
            yield np.array(self.taps, np.float64), rate
        third, second, first = self.stages
        for name, factor in (("first", first), ("second", second), ("third", third)):
            if factor > 1:
                rate *= factor
                taps = np.array(_HALF_BANDS[self.transmit][name, factor], np.float64)
                yield taps / taps.sum(), rate


def reach(path: PathFilter, rate_hz: float) -> int:
    """Samples before and after one that it is made of, as far as they are followed: a power of two."""
    slowest = 0.0
    if path.bandwidth_hz is not None:
        slowest = _TIME_CONSTANTS * rate_hz / (np.pi * _ANALOG[path.transmit][0] * path.bandwidth_hz)
    wanted = max(_SHORTEST, ceil(len(path.taps) / 2) + ceil(slowest))
    return min(1 << (wanted - 1).bit_length(), _LONGEST)


@lru_cache(maxsize=32)
def impulse(path: PathFilter, rate_hz: float) -> ComplexArray:
    """Impulse response at the sample rate, `reach` samples on either side of its middle; real but for rounding.

    The band ends at half the rate: what the device's stages keep out beyond is not there to be folded back.
    """
    half = reach(path, rate_hz)
    size = 8 * half
    response = path.response(np.asarray(np.fft.fftfreq(size, 1 / rate_hz), np.float64), rate_hz)
    # At half the rate there is one bin for both signs.
    response[size // 2] = response[size // 2].real
    return np.asarray(np.fft.fftshift(np.fft.ifft(response))[size // 2 - half : size // 2 + half + 1])


def filtered(samples: NDArray[np.complex64], path: PathFilter, rate_hz: float) -> NDArray[np.complex64]:
    """What remains of ``samples``, shape (…, sample), where the filter sees all that it is made of.

    Twice `reach` samples shorter: the first that comes out belongs to the one `reach` after the first that goes in.
    """
    from scipy.fft import fft, ifft

    taps = impulse(path, rate_hz).real.astype(np.float32)
    size = _BLOCKS * (taps.size - 1)
    step = size - taps.size + 1
    wanted = samples.shape[-1] - taps.size + 1
    # Overlapping blocks, of whose circular convolution the part is kept that nothing has come around to.
    missing = -wanted % step
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])
    blocks = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[..., ::step, :]
    product = ifft(fft(blocks) * fft(taps, size))[..., taps.size - 1 :]
    return np.ascontiguousarray(product.reshape(*samples.shape[:-1], -1)[..., :wanted], np.complex64)
