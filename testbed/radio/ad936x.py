"""What an AD936x applies, as exact fractions of its reference: its driver tells whole hertz, rounded down.

Both synthesizers are fractional: a word over a modulus times the reference. The driver computes the word with the
reference it believes in (``xo_correction``); what comes out is that word times the reference that there is, here its
nominal 40 MHz, from which the node's clock offset is counted (UG-570; Linux driver ad9361.c).
"""

from __future__ import annotations

from fractions import Fraction

from testbed.radio.base import RadioError

__all__ = ["exact_carrier_hz", "exact_rate_hz"]

_REFERENCE_HZ = 40_000_000
_CARRIER_MODULUS = 8_388_593
_CARRIER_VCO_HZ = 6_000_000_000
_BASEBAND_MODULUS = 2_088_960
_CARRIER_SLACK_HZ = 8
"""The driver's own tests allow the frequency read back to be off by so much."""


def exact_carrier_hz(asked_hz: int, told_hz: int, believed_hz: int = _REFERENCE_HZ) -> Fraction:
    """Local oscillator after the driver was asked for ``asked_hz`` and reads back ``told_hz``.

    Raises
    ------
    RadioError
        If the two are further apart than rounding explains.
    """
    if abs(told_hz - asked_hz) > _CARRIER_SLACK_HZ:
        raise RadioError(f"a local oscillator of {asked_hz} Hz was asked for, and {told_hz} Hz applied")
    # The clock framework carries half the frequency in whole hertz.
    vco_hz, divider = asked_hz & ~1, 1
    while vco_hz <= _CARRIER_VCO_HZ:
        vco_hz, divider = 2 * vco_hz, 2 * divider
    word = (2 * vco_hz * _CARRIER_MODULUS + 2 * believed_hz) // (4 * believed_hz)
    return Fraction(2 * _REFERENCE_HZ * word, _CARRIER_MODULUS * divider)


def exact_rate_hz(path_rates: str, believed_hz: int = _REFERENCE_HZ) -> Fraction:
    """Sample rate from the driver's ``rx_path_rates`` or ``tx_path_rates``.

    The baseband synthesizer steps by 19 Hz, of which the whole hertz told leave no doubt; what divides it is whole.

    Raises
    ------
    RadioError
        If the text is none of the driver's.
    """
    try:
        rates = {name: int(value) for name, _, value in (word.partition(":") for word in path_rates.split())}
        synthesizer_hz = rates["BBPLL"]
        sample_hz = rates["RXSAMP"] if "RXSAMP" in rates else rates["TXSAMP"]
        division = round(synthesizer_hz / sample_hz)
    except (KeyError, ValueError, ZeroDivisionError):
        raise RadioError(f"the transceiver's rates are {path_rates!r}, which this driver does not understand") from None
    word = round(Fraction(synthesizer_hz * _BASEBAND_MODULUS, believed_hz))
    return Fraction(_REFERENCE_HZ * word, _BASEBAND_MODULUS * division)
