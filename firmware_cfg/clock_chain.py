"""Clocks and half-band filters between the AD936x's converters and its FIR filters.

The driver derives the converters' rate from the sample rate and the FIR filter's factor; the ratio of both decides how
many taps the filter may have. Ratios, limits and half-band coefficients are those of the AD9361's reference manual
(UG-570) and of its Linux driver with the rate governor that Pluto ships with, "nominal".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firmware_cfg.errors import FirmwareError

__all__ = ["FIR_TAPS", "HIGHEST_RATE_HZ", "LOWEST_RATE_HZ", "ClockChain", "Direction", "amplitude", "clock_chain"]

Direction = Literal["receive", "transmit"]

LOWEST_RATE_HZ = 25e6 / 12
"""Lowest sample rate without a FIR filter that decimates."""
HIGHEST_RATE_HZ = 61.44e6
FIR_TAPS = 128
"""Most taps that any FIR filter of the device has."""
_ADC_HZ = (25e6, 640e6)
_DAC_HZ = 320e6
_TAPS_PER_CLOCK = 16
_TAPS_WITHOUT_INTERPOLATION = 64
_NOMINAL = ((8, 2, 2, 2), (6, 3, 1, 2), (4, 2, 2, 1), (3, 3, 1, 1), (2, 2, 1, 1), (1, 1, 1, 1))
"""Ratio of converter and FIR rate, and its parts by the third, second and first half-band stage."""
_HIGHEST_OVERSAMPLING = ((12, 3, 2, 2), *_NOMINAL)
_HALF_BANDS: dict[Direction, dict[str, tuple[int, ...]]] = {
    "receive": {
        "first": (-8, 0, 42, 0, -147, 0, 619, 1013, 619, 0, -147, 0, 42, 0, -8),
        "second": (-9, 0, 73, 128, 73, 0, -9),
        "third": (1, 4, 6, 4, 1),
        "by three": (55, 83, 0, -393, -580, 0, 1914, 4041, 5120, 4041, 1914, 0, -580, -393, 0, 83, 55),
    },
    "transmit": {
        "first": (-53, 0, 313, 0, -1155, 0, 4989, 8192, 4989, 0, -1155, 0, 313, 0, -53),
        "second": (-9, 0, 73, 128, 73, 0, -9),
        "third": (1, 2, 1),
        "by three": (
            36, -19, 0, -156, -12, 0, 479, 223, 0, -1215, -993, 0, 3569, 6277, 8192,
            6277, 3569, 0, -993, -1215, 0, 223, 479, 0, -12, -156, 0, -19, 36,
        ),
    },
}  # fmt: skip


@dataclass(frozen=True)
class ClockChain:
    """Rates of one direction, from the samples to the converter."""

    direction: Direction
    rate_hz: float
    """Of the samples."""
    fir_rate_hz: float
    """At which the FIR filter's taps stand: samples times its factor."""
    adc_hz: float
    """Of the receive converter, whose clock limits the taps of both directions."""
    converter_hz: float
    """Of this direction's converter."""
    ratio: tuple[int, int, int, int]
    """Converter over FIR rate, and its parts by the third, second and first half-band stage."""

    @property
    def most_taps(self) -> int:
        """Taps that the filter has time for, a multiple of 16."""
        taps = min(FIR_TAPS, int(self.adc_hz / 2 / self.rate_hz) * _TAPS_PER_CLOCK)
        if self.direction == "transmit" and self.fir_rate_hz == self.rate_hz:
            taps = min(taps, _TAPS_WITHOUT_INTERPOLATION)
        return taps

    def half_bands(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Amplitude of all half-band stages together at ``frequency_hz``, one at zero; real, as they are symmetric."""
        response = np.ones_like(frequency_hz)
        rate_hz = self.fir_rate_hz
        _, third, second, first = self.ratio
        for stage, factor in (("first", first), ("second", second), ("third", third)):
            if factor > 1:
                rate_hz *= factor
                taps = np.array(_HALF_BANDS[self.direction][stage if factor == 2 else "by three"], dtype=np.float64)
                response = response * amplitude(taps / taps.sum(), frequency_hz / rate_hz)
        return response


def amplitude(taps: NDArray[np.float64], frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero-phase amplitude of a symmetric FIR filter at ``frequency`` in cycles per tap."""
    place = np.arange(len(taps)) - (len(taps) - 1) / 2
    result: NDArray[np.float64] = np.cos(2 * np.pi * np.multiply.outer(frequency, place)) @ taps
    return result


def clock_chain(direction: Direction, rate_hz: float, factor: int) -> ClockChain:
    """Clocks that the driver chooses for a sample rate and a FIR filter that decimates or interpolates by ``factor``.

    Raises
    ------
    FirmwareError
        If the device cannot run at that rate with that factor.
    """
    if factor not in (1, 2, 4):
        raise FirmwareError(f"filter.factor is {factor}, but the device's FIR filter changes the rate by 1, 2 or 4")
    lowest = _ADC_HZ[0] / 12 / factor
    if not lowest <= rate_hz <= HIGHEST_RATE_HZ:
        raise FirmwareError(
            f"sample_rate_hz is {rate_hz:.0f}, but with filter.factor = {factor} the device covers "
            f"{lowest:.0f} to {HIGHEST_RATE_HZ:.0f} Hz: use a rate in that range"
        )
    fir_rate_hz = rate_hz * factor
    ratios = _NOMINAL if 8 * fir_rate_hz >= _ADC_HZ[0] else _HIGHEST_OVERSAMPLING
    for ratio in ratios:
        adc_hz = fir_rate_hz * ratio[0]
        if _ADC_HZ[0] <= adc_hz <= _ADC_HZ[1]:
            break
    else:
        raise FirmwareError(
            f"sample_rate_hz is {rate_hz:.0f}: too fast for filter.factor = {factor}: use a smaller one"
        )
    if direction == "receive" or adc_hz <= _DAC_HZ:
        return ClockChain(direction, rate_hz, fir_rate_hz, adc_hz, adc_hz, ratio)
    halved = next((one for one in _HIGHEST_OVERSAMPLING if 2 * one[0] == ratio[0]), None)
    if halved is None:
        raise FirmwareError(
            f"sample_rate_hz is {rate_hz:.0f}: the transmit converter has no clock at filter.factor = {factor}: "
            "use another factor"
        )
    return ClockChain(direction, rate_hz, fir_rate_hz, adc_hz, adc_hz / 2, halved)
