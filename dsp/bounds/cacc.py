"""Cramér-Rao bound of a moving path from cross-antenna products (docs/methods/cacc.md eq. 3)."""

from __future__ import annotations

import numpy as np

from dsp.channel import ComplexArray

__all__ = ["cross_term_snr"]


def cross_term_snr(sight: ComplexArray, moving: ComplexArray, noise: float) -> float:
    """Power ratio of one resource element that the products of a resolved mover amount to, both cross terms together.

    The products of antennas 1… with antenna 0 carry the direct term b_a·g_0* and the mirrored one g_a·b_0*, g the
    line of sight and b the mover. The reference antenna's noise is in all of them, along g; what stands across g has
    the noise of one antenna alone:

        |b⊥|²·|g_0|²/(σ²·(|g_0|² + σ²)) + (|b∥|²·|g_0|² + |g|²·|b_0|²)/(σ²·(|g_0|² + |g|² + σ²)),

    g and b over antennas 1…. In `dsp.bounds.link.delay_std_s` and `doppler_std_hz` it gives the bound with every
    term's amplitude unknown. Two equal antennas: twice SNR_p/(2 + 1/SNR_LoS), once for each of the terms.

    Parameters
    ----------
    sight, moving : complex arrays, shape (antenna,)
        Amplitudes of the line of sight and of the mover; antenna 0 is the reference.
    noise : float > 0
        Variance of an element, alike on all antennas.

    Raises
    ------
    ValueError
        If there are fewer than two antennas.
    """
    if len(sight) < 2 or sight.shape != moving.shape:
        raise ValueError(f"need two antennas, got amplitudes of {len(sight)} and {len(moving)}")
    reference, others = abs(sight[0]) ** 2, sight[1:]
    power = float(np.sum(np.abs(others) ** 2))
    along = abs(np.vdot(others, moving[1:])) ** 2 / power
    across = float(np.sum(np.abs(moving[1:]) ** 2)) - along
    single, common = noise * (reference + noise), noise * (reference + power + noise)
    return float(across * reference / single + (along * reference + power * abs(moving[0]) ** 2) / common)
