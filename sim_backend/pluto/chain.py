"""The AD936x's clock chain: baseband synthesizer, converter rates and half-band stages for a sample rate.

Three half-band filters divide the ADC's rate by 12, 8, 6, 4, 3, 2 or 1; the FIR filter by another 1, 2 or 4. The ADC
runs at 25 to 640 MHz, the DAC at the ADC's rate or, beyond 320 MHz, at half of it. The synthesizer makes the ADC's rate
times a power of two, at 715 to 1430 MHz, in steps of the reference over 2 088 960 (AD9361 Reference Manual UG-570).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sim_backend.synthesizer import BASEBAND_MODULUS

__all__ = ["ClockChain", "clock_chain", "rate_range_hz"]

_STAGES: dict[int, tuple[int, int, int]] = {
    12: (3, 2, 2), 8: (2, 2, 2), 6: (3, 1, 2), 4: (2, 2, 1), 3: (3, 1, 1), 2: (2, 1, 1), 1: (1, 1, 1),
}  # fmt: skip
"""Total division of the half-band stages: that of the third, second and first."""
_ADC_HZ = (25_000_000, 640_000_000)
_DAC_MAXIMUM_HZ = 320_000_000
_SYNTHESIZER_MAXIMUM_HZ = 1_430_000_000
_MAXIMUM_HZ = 61_440_000


def rate_range_hz(decimation: int, channels: int) -> tuple[int, int]:
    """Lowest and highest sample rate with a FIR filter of ``decimation`` (1: none) and so many channels.

    Two channels share the CMOS interface of the Pluto and halve the highest.
    """
    return _ADC_HZ[0] // (12 * decimation), _MAXIMUM_HZ // channels


@dataclass(frozen=True)
class ClockChain:
    """Clocks of both paths."""

    synthesizer_hz: Fraction
    """Exact at the nominal reference."""
    adc_hz: Fraction
    dac_hz: Fraction
    receive: tuple[int, int, int, int]
    """Divisions after the ADC: stages 3, 2, 1 and the FIR filter."""
    transmit: tuple[int, int, int, int]
    """Divisions before the DAC, likewise."""

    @property
    def rate_hz(self) -> Fraction:
        """Sample rate, exact at the nominal reference."""
        return self.adc_hz / (self.receive[0] * self.receive[1] * self.receive[2] * self.receive[3])

    def taps(self) -> tuple[int, int]:
        """Most taps that the receive and the transmit FIR filter have time for."""
        adc = self.adc_hz / (1 if self.receive[0] == 1 else 2)
        return int(adc / self.rate_hz) * 16, int(self.dac_hz / self.rate_hz) * 16

    def words(self, *, transmit: bool, scale: Fraction = Fraction(1)) -> str:
        """The path's rates as the driver prints them, each rounded down, seen through a reference off by ``scale``."""
        names = ("DAC", "T2", "T1", "TF", "TXSAMP") if transmit else ("ADC", "R2", "R1", "RF", "RXSAMP")
        rate = self.dac_hz if transmit else self.adc_hz
        rates = [rate]
        for division in self.transmit if transmit else self.receive:
            rates.append(rates[-1] / division)
        clocks = zip(("BBPLL", *names), (self.synthesizer_hz, *rates), strict=True)
        return " ".join(f"{name}:{int(clock * scale)}" for name, clock in clocks)


def clock_chain(
    rate_hz: int, *, receive_fir: int = 1, transmit_fir: int = 1, highest: bool = False, reference_hz: int = 40_000_000
) -> ClockChain:
    """Clock chain for a sample rate.

    Parameters
    ----------
    rate_hz : int
        Asked for.
    receive_fir, transmit_fir : int
        Decimation and interpolation of the FIR filters, 1 where they are bypassed.
    highest : bool
        Oversample as much as the ADC allows, rather than at most eightfold.
    reference_hz : int
        What the driver believes the 40 MHz reference to be.

    Raises
    ------
    ValueError
        If no division brings the converters into their range.
    """
    for division in _STAGES:
        if division == 12 and not highest and rate_hz * receive_fir * 8 >= _ADC_HZ[0]:
            continue
        adc = rate_hz * receive_fir * division
        if not _ADC_HZ[0] <= adc <= _ADC_HZ[1]:
            continue
        half = 2 if adc > _DAC_MAXIMUM_HZ else 1
        remaining, rest = divmod(adc, rate_hz * transmit_fir * half)
        if rest or remaining not in _STAGES:
            continue
        power = 64
        while adc * power > _SYNTHESIZER_MAXIMUM_HZ and power > 2:
            power //= 2
        step = Fraction(reference_hz, BASEBAND_MODULUS)
        # The word that the driver computes, at the reference that there is.
        exact = round(adc * power / step) * Fraction(40_000_000, BASEBAND_MODULUS)
        return ClockChain(
            exact,
            exact / power,
            exact / power / half,
            (*_STAGES[division], receive_fir),
            (*_STAGES[remaining], transmit_fir),
        )
    raise ValueError(f"no clock chain makes {rate_hz} Hz with FIR filters of {receive_fir} and {transmit_fir}")
