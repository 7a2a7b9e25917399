"""Local oscillator and sample rate as an AD936x can make them: exact rationals of its 40 MHz reference.

Both synthesizers are fractional-N: the RF one with a VCO of 6 to 12 GHz, twice the reference and a modulus of
8 388 593, the baseband one with 715 to 1430 MHz, the reference itself and a modulus of 2 088 960 (AD9361
Register Map Reference Manual; constants as in the Linux driver ad9361.c). At 2.4 GHz the local oscillator steps
by 2.384 Hz.
"""

from __future__ import annotations

from fractions import Fraction

__all__ = ["BASEBAND_MODULUS", "REFERENCE_HZ", "applied_carrier_hz", "applied_rate_hz"]

REFERENCE_HZ = 40_000_000
_RF_MODULUS = 8_388_593
_RF_VCO_HZ = 6_000_000_000
BASEBAND_MODULUS = 2_088_960
_BASEBAND_MAXIMUM_HZ = 1_430_000_000
CARRIER_RANGE_HZ = (70e6, 6e9)
_LOWEST_TRANSMIT_HZ = 46_875_000
"""What the transmitter's largest divider leaves of the lowest VCO frequency."""
RATE_RANGE_HZ = (25e6 / 48, 61.44e6)


def applied_carrier_hz(
    requested_hz: Fraction | float, *, believed_hz: int = REFERENCE_HZ, transmit: bool = False
) -> Fraction:
    """Local oscillator nearest to the requested one, exact, at the nominal reference.

    A driver that believes the reference to be ``believed_hz`` (``xo_correction``) computes the word by that.

    Raises
    ------
    ValueError
        Outside 70 MHz to 6 GHz; the transmitter alone begins at 46.875 MHz.
    """
    requested = Fraction(requested_hz)
    if not (_LOWEST_TRANSMIT_HZ if transmit else CARRIER_RANGE_HZ[0]) <= requested <= CARRIER_RANGE_HZ[1]:
        raise ValueError(f"a carrier of {float(requested):g} Hz is outside the AD936x's 70 MHz to 6 GHz")
    divider = 1
    while requested * divider <= _RF_VCO_HZ:
        divider *= 2
    word = round(requested * _RF_MODULUS * divider / (2 * believed_hz))
    return word * Fraction(2 * REFERENCE_HZ, _RF_MODULUS * divider)


def applied_rate_hz(requested_hz: Fraction | float) -> Fraction:
    """Sample rate nearest to the requested one, exact, at the nominal reference.

    The baseband synthesizer runs at the largest power-of-two multiple of the rate within its range.

    Raises
    ------
    ValueError
        Outside 520.8 kS/s (filters decimating by four) to 61.44 MS/s.
    """
    requested = Fraction(requested_hz)
    if not RATE_RANGE_HZ[0] <= requested <= RATE_RANGE_HZ[1]:
        raise ValueError(f"a rate of {float(requested):g} Hz is outside the AD936x's 520.8 kS/s to 61.44 MS/s")
    divider = 1
    while requested * divider * 2 <= _BASEBAND_MAXIMUM_HZ:
        divider *= 2
    step = Fraction(REFERENCE_HZ, BASEBAND_MODULUS * divider)
    return round(requested / step) * step
