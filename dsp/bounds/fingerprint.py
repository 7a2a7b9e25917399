"""Bounds of time offset and path length from a fingerprint of the static scene, and from CACC beside it.

Derived in docs/methods/fingerprint.md (methods section 3.4).
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from dsp.channel import ComplexArray, FloatArray

__all__ = ["cacc_delay_std_s", "fingerprint_scene_std_s", "fingerprint_target_std_s", "fingerprint_to_std_s"]


def fingerprint_to_std_s(
    subcarriers: int, spacing_hz: float, symbols: int, snr: float, *, noise_free: bool = False
) -> float:
    """Bound on the change of the time offset: √(12 / ((2πD)²·SNR_s·L·K(K²-1))).

    ``snr`` is the static paths' per resource element, alike in fingerprint and frame; 6 in place of 12 for a
    fingerprint without noise.
    """
    return sqrt((6.0 if noise_free else 12.0) * _cell(subcarriers, spacing_hz, symbols, snr))


def fingerprint_scene_std_s(subcarrier_hz: FloatArray, channel: ComplexArray, variance: FloatArray) -> float:
    """The same bound for one channel as it is: its faded subcarriers carry no information.

    Parameters
    ----------
    subcarrier_hz, variance : float arrays, shape (subcarrier,)
        ``variance`` is the sum of fingerprint's and frame's noise variance of each subcarrier.
    channel : complex array, shape (subcarrier,)
        Static channel without noise.
    """
    weight = np.abs(channel) ** 2 / variance
    centred = subcarrier_hz - float(weight @ subcarrier_hz / weight.sum())
    return 1.0 / sqrt(2.0 * (2.0 * pi) ** 2 * float(weight @ centred**2))


def fingerprint_target_std_s(subcarriers: int, spacing_hz: float, symbols: int, snr: float, target_snr: float) -> float:
    """Bound on a target's path delay once the offset is taken out: both variances, of offset and of target."""
    offset = fingerprint_to_std_s(subcarriers, spacing_hz, symbols, snr)
    return sqrt(offset**2 + 6.0 * _cell(subcarriers, spacing_hz, symbols, target_snr))


def cacc_delay_std_s(subcarriers: int, spacing_hz: float, symbols: int, snr: float, target_snr: float) -> float:
    """Bound on a target's delay against the line of sight by CACC: effective SNR SNR_p/(2 + 1/SNR_LoS)."""
    return sqrt(6.0 * (2.0 + 1.0 / snr) * _cell(subcarriers, spacing_hz, symbols, target_snr))


def _cell(subcarriers: int, spacing_hz: float, symbols: int, snr: float) -> float:
    return 1.0 / ((2.0 * pi * spacing_hz) ** 2 * snr * symbols * subcarriers * (subcarriers**2 - 1))
