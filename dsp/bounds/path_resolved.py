"""Cramér–Rao bounds of a moving path against a static reference path, timing and phase new in every packet."""

from __future__ import annotations

from math import hypot

from dsp.bounds.link import delay_std_s, doppler_std_hz

__all__ = ["moving_delay_std_s", "moving_doppler_std_hz"]


def moving_delay_std_s(
    subcarriers: int, spacing_hz: float, symbols: int, *, moving_snr: float, reference_snr: float
) -> float:
    """Bound on the delay of a resolved moving path less that of the reference path.

    Each path's own bound (methods section 2) in quadrature. The packets' timings are unknown, but their errors are
    the reference's own in each packet and average out with it: they cost nothing beyond the reference's bound.

    Parameters
    ----------
    moving_snr, reference_snr : float > 0
        Power of each path over the noise of an element.
    """
    moving = delay_std_s(subcarriers, spacing_hz, symbols, moving_snr)
    return hypot(moving, delay_std_s(subcarriers, spacing_hz, symbols, reference_snr))


def moving_doppler_std_hz(
    subcarriers: int, symbols: int, symbol_spacing_s: float, *, moving_snr: float, reference_snr: float
) -> float:
    """Bound on the Doppler of a resolved moving path against the reference path, as `moving_delay_std_s`."""
    moving = doppler_std_hz(subcarriers, symbols, symbol_spacing_s, moving_snr)
    return hypot(moving, doppler_std_hz(subcarriers, symbols, symbol_spacing_s, reference_snr))
