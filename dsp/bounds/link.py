"""Cramér-Rao bounds of one link: delay, Doppler, angle, and the two-way clock offsets.

All are for circular Gaussian noise; SNR is a power ratio per resource element and direction, total over paths.
Derived in methods sections 2 and 3.6; the general forms hold for gaps between subcarriers and any symbol times.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, inf, pi, sqrt

import numpy as np

from dsp.channel import FloatArray

__all__ = [
    "OffsetBound",
    "angle_std_rad",
    "delay_std_s",
    "doppler_std_hz",
    "grid_std",
    "product_factor",
    "two_way_bound",
    "two_way_cfo_std_hz",
    "two_way_to_std_s",
]


@dataclass(frozen=True)
class OffsetBound:
    """Standard deviations that no unbiased estimator undercuts."""

    to_std_s: float
    cfo_std_hz: float


def delay_std_s(subcarriers: int, spacing_hz: float, symbols: int, snr: float) -> float:
    """Bound on a resolved path's delay, amplitude unknown: √(6 / ((2πD)²·SNR·L·K(K²-1)))."""
    return sqrt(6.0 / ((2.0 * pi * spacing_hz) ** 2 * snr * symbols * subcarriers * (subcarriers**2 - 1)))


def doppler_std_hz(subcarriers: int, symbols: int, symbol_spacing_s: float, snr: float) -> float:
    """Bound on a resolved path's Doppler, amplitude unknown: √(6 / ((2πT)²·SNR·K·L(L²-1)))."""
    return sqrt(6.0 / ((2.0 * pi * symbol_spacing_s) ** 2 * snr * subcarriers * symbols * (symbols**2 - 1)))


def angle_std_rad(cell_snr: float, angle_rad: float) -> float:
    """Bound on the angle of one source in a cell, two antennas half a wavelength apart: 1/(π·cos θ·√ρ)."""
    return 1.0 / (pi * cos(angle_rad) * sqrt(cell_snr))


def grid_std(step: float) -> float:
    """Deviation of an estimate left on a grid: step/√12."""
    return step / sqrt(12.0)


def product_factor(snr: float) -> float:
    """Loss in deviation of methods that multiply two equally noisy elements: √(1 + 1/(2·SNR))."""
    return sqrt(1.0 + 0.5 / snr)


def two_way_to_std_s(subcarriers: int, spacing_hz: float, symbols: int, snr: float) -> float:
    """Bound on the time offset from both directions: √(3 / (4π²D²·SNR·KL(K²-1)))."""
    return sqrt(3.0 / (4.0 * pi**2 * spacing_hz**2 * snr * symbols * subcarriers * (subcarriers**2 - 1)))


def two_way_cfo_std_hz(subcarriers: int, symbols: int, symbol_spacing_s: float, snr: float) -> float:
    """Bound on the frequency offset from both directions: √(3 / (4π²T²·SNR·KL(L²-1)))."""
    return sqrt(3.0 / (4.0 * pi**2 * symbol_spacing_s**2 * snr * subcarriers * symbols * (symbols**2 - 1)))


def two_way_bound(
    subcarrier_hz: FloatArray, symbol_s: FloatArray, snr: float, *, carrier_hz: float = inf, product: bool = False
) -> OffsetBound:
    """Bounds on the two-way offsets at the middle of the symbols, whatever the gaps in either axis.

    Fisher's information of the phase -4πf·u + 4πt·v(1 + f/fc), common phase unknown, for an element power of
    one: var(u) ≥ 1/(16π²·SNR·L·Σ(f - mean f)²) and var(v) likewise over t, where the two decorrelate.

    Parameters
    ----------
    subcarrier_hz, symbol_s : float arrays, shapes (subcarrier,) and (symbol,)
        Frequencies and times of the elements used.
    snr : float > 0
        Power ratio of one element in each direction; their harmonic mean if the directions differ.
    carrier_hz : float, optional
        Carrier that couples sampling to carrier offset; infinite (no coupling) if not given.
    product : bool
        Include the loss of methods that multiply element by element.

    Raises
    ------
    ValueError
        If the SNR is not positive or there are fewer than two subcarriers.
    """
    if snr <= 0.0 or len(subcarrier_hz) < 2:
        raise ValueError(f"need a positive SNR and two subcarriers, got {snr} and {len(subcarrier_hz)}")
    f = np.asarray(subcarrier_hz, dtype=np.float64)
    t = np.asarray(symbol_s, dtype=np.float64) - np.mean(symbol_s)
    stretch = 1.0 + f / carrier_hz
    to_information = t.size * float(np.sum((f - f.mean()) ** 2))
    cfo_information = float(np.sum(t**2) * np.sum(stretch**2))
    # With t centred the cross terms sum to nothing, and so do those with the common phase.
    scale = 16.0 * pi**2 * snr
    factor = product_factor(snr) if product else 1.0
    return OffsetBound(
        to_std_s=factor / sqrt(scale * to_information),
        cfo_std_hz=factor / sqrt(scale * cfo_information) if cfo_information > 0.0 else inf,
    )
