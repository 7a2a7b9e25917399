"""Cramér–Rao bounds of the Doppler from the ratio of two antennas, one path moving beside a static channel."""

from __future__ import annotations

from math import inf, pi, sqrt

import numpy as np

from dsp.channel import ComplexArray, FloatArray

__all__ = ["circle_snr", "first_order_doppler_std_hz", "moebius_doppler_std_hz"]


def circle_snr(static: ComplexArray, moving: ComplexArray, noise: float) -> float:
    """Power of the ratio's circle over its noise, ρ = |a1·s2 - s1·a2|² / (noise·(|s1|² + |s2|²)).

    Of R = H1/H2 ≈ s1/s2 + alpha·w with alpha = (a1·s2 - s1·a2)/s2² and noise·(|s1|²+|s2|²)/|s2|⁴; zero where
    the ratio is blind. ``static`` and ``moving`` have shape (2,), ``noise`` is each antenna's variance.
    """
    across = abs(moving[0] * static[1] - static[0] * moving[1]) ** 2
    return float(across / (noise * np.sum(np.abs(static) ** 2)))


def first_order_doppler_std_hz(symbols: int, symbol_spacing_s: float, circle_snr: float) -> float:
    """Bound to first order in the moving path: √(6 / ((2πT)²·ρ·L(L²-1))), ρ summed over subcarriers (methods 3.1)."""
    if circle_snr <= 0.0:
        return inf
    return sqrt(6.0 / ((2.0 * pi * symbol_spacing_s) ** 2 * circle_snr * symbols * (symbols**2 - 1)))


def moebius_doppler_std_hz(
    doppler_hz: float, static: ComplexArray, moving: ComplexArray, *, symbol_s: FloatArray, noise: float
) -> float:
    """Bound of the exact model R = (A + B·w)/(1 + C·w): A, B, C unknown for each subcarrier, one Doppler for all.

    The ratio's noise at w is noise·(|p|² + |q|²)/|q|⁴, p and q the antennas' values; its slope is inverted by
    dense linear algebra on the quotient itself.

    Parameters
    ----------
    doppler_hz : float
    static, moving : complex arrays, shape (2, subcarrier)
    symbol_s : float array, shape (symbol,)
    noise : float > 0
        Variance on each antenna.

    Source: derived in docs/methods/csi-ratio.md.
    """
    time = symbol_s - symbol_s.mean()
    w = np.exp(2j * pi * doppler_hz * time)
    information = 0.0
    for s, a in zip(static.T, moving.T, strict=True):
        above, below = s[0] + a[0] * w, s[1] + a[1] * w
        deviation = np.sqrt(noise * (np.abs(above) ** 2 + np.abs(below) ** 2)) / np.abs(below) ** 2
        slope = 2j * pi * time * w * (a[0] * below - above * a[1]) / below**2
        # derivatives after A, B, C, up to the common factor 1/s2
        columns = np.stack([1.0 / below, w / below, above * w / below**2], axis=1) / deviation[:, None]
        basis = np.linalg.qr(columns)[0]
        target = slope / deviation
        information += 2.0 * float(np.sum(np.abs(target - basis @ (basis.conj().T @ target)) ** 2))
    return 1.0 / sqrt(information) if information > 0.0 else inf
