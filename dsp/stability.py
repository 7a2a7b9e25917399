"""Stability of a series of time offsets over averaging time: as measured, and as spectra predict it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import chdtri

from dsp.channel import FloatArray
from dsp.oscillator import PowerLaw

__all__ = ["averaging_factors", "predicted_time_deviation", "time_deviation", "upper_limit"]

_FEWEST_TERMS = 4
"""Averages of a series that one value of the deviation must rest on."""
_FOLDS = 400


def averaging_factors(count: int) -> list[int]:
    """Averaging times in sample periods, by octaves, that a series of ``count`` samples has enough of."""
    factors = []
    factor = 1
    while _FEWEST_TERMS * factor <= count:
        factors.append(factor)
        factor *= 2
    return factors


def time_deviation(offsets_s: FloatArray, factors: Sequence[int]) -> FloatArray:
    """Time deviation of equally spaced time offsets, TDEV = τ·MDEV/√3, overlapping, one value for each factor.

    TVAR(nτ0) = 1/(6n²(N-3n+1)) · Σ_j [Σ_{i=j}^{j+n-1} (x_{i+2n} - 2x_{i+n} + x_i)]². Blind to constant offset and
    frequency.

    Parameters
    ----------
    offsets_s : float array, shape (sample,)
        Time offsets in seconds.
    factors : sequence of int ≥ 1
        Averaging times in sample periods.

    Raises
    ------
    ValueError
        If the series is shorter than three times a factor.

    Source: Riley, Handbook of Frequency Stability Analysis, NIST SP 1065, section 5.2.16.
    """
    x = np.asarray(offsets_s, dtype=np.float64)
    x = x - x.mean()
    result = np.empty(len(factors))
    for place, n in enumerate(factors):
        if n < 1 or len(x) < 3 * n:
            raise ValueError(f"a series of {len(x)} offsets has no time deviation over {n} of them")
        sums = np.concatenate([[0.0], np.cumsum(x)])
        means = (sums[n:] - sums[:-n]) / n
        second = means[2 * n :] - 2 * means[n:-n] + means[: -2 * n]
        result[place] = np.sqrt(np.mean(second**2) / 6.0)
    return result


def predicted_time_deviation(
    power_laws: Sequence[PowerLaw], factors: Sequence[int], *, spacing_s: float, averaging_s: float, noise_s: float
) -> FloatArray:
    """Time deviation that independent oscillators and white measurement noise predict together.

    TVAR(nτ0) = 8/(3n²)·∫ S_x(f)·sinc²(fT)·sin⁶(πfnτ0)/sin²(πfτ0) df + σ²/n: the second difference of means over n
    samples, each the mean over T, of a series sampled every τ0; what lies above its Nyquist frequency is folded.

    Parameters
    ----------
    power_laws : sequence of PowerLaw
        Of the oscillators compared.
    spacing_s, averaging_s : float > 0
        Sample period τ0, and T over which one offset is measured.
    noise_s : float ≥ 0
        Standard deviation σ of one offset's own noise.

    Source: NIST SP 1065, section 5.2 (transfer function); this project (folding).
    """
    nyquist = 0.5 / spacing_s
    largest = max(factors)
    low = np.geomspace(1e-4 * nyquist / largest, 0.05 * nyquist / largest, 300)
    high = np.arange(0.05 * nyquist / largest, nyquist, 0.02 * nyquist / largest)
    frequency = np.concatenate([low[:-1], high])
    spectrum = np.zeros_like(frequency)
    folds = int(min(_FOLDS, np.ceil(4 * spacing_s / averaging_s)))
    for law in power_laws:
        spectrum += law.time_error(frequency) * np.sinc(frequency * averaging_s) ** 2
        for fold in range(1, folds + 1):
            for image in (fold / spacing_s + frequency, fold / spacing_s - frequency):
                spectrum += law.time_error(image) * np.sinc(image * averaging_s) ** 2
    result = np.empty(len(factors))
    for place, n in enumerate(factors):
        response = np.sin(np.pi * frequency * n * spacing_s) ** 6 / np.sin(np.pi * frequency * spacing_s) ** 2
        result[place] = 8 / (3 * n**2) * trapezoid(spectrum * response, frequency) + noise_s**2 / n
    return np.sqrt(result)


def upper_limit(count: int, factors: Sequence[int], *, probability: float = 0.9987) -> FloatArray:
    """Factor that a time deviation of ``count`` offsets stays within, with ``probability``, above its expectation.

    By chi-square with N/2n - 1 degrees of freedom, about what white noise of the offsets leaves the second differences;
    noises that walk have more.
    """
    degrees = np.maximum(1.0, 0.5 * count / np.asarray(factors, dtype=float) - 1.0)
    limit: FloatArray = np.sqrt(chdtri(degrees, 1.0 - probability) / degrees)
    return limit
