"""Localization by N cooperating stations: Fisher information of all N² links, and its closed forms.

Every station transmits and receives; station i sees the target under the bearing θ_i at the distance d_i. Information
matrices are symmetric 2 × 2 and stand as their three elements (xx, xy, yy) in the last axis, so that a hundred
thousand random networks are a handful of sums.
"""

from __future__ import annotations

from math import pi

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray

__all__ = [
    "aimed_angle_gdop",
    "angle_gain",
    "angle_gdop",
    "angle_information",
    "crlb",
    "delay_gain",
    "delay_gdop",
    "delay_information",
    "hybrid_gdop",
]


def angle_gain(antennas: FloatArray | float, snr: FloatArray | float) -> FloatArray:
    """Information |ζ_a|² of a half-wavelength array about the sine of a bearing: π²·M(M²−1)/6 times the SNR.

    ``snr`` is the power ratio at one antenna at unit distances, transmit gain and reference path loss in it. One
    antenna has none. Source: docs/methods/network.md eq. 1.
    """
    m = np.asarray(antennas, dtype=float)
    return np.asarray(pi**2 * m * (m**2 - 1) / 6 * snr)


def delay_gain(antennas: FloatArray | float, bandwidth_hz: float, snr: FloatArray | float) -> FloatArray:
    """Information |ζ_r|² of one link about its path's length, 1/m²: 8π²·b²·M/c² times the SNR, b² = B²/12.

    ``bandwidth_hz`` is that of a flat spectrum; ``snr`` as for `angle_gain`. Source: docs/methods/network.md eq. 2.
    """
    return np.asarray(8 * pi**2 * bandwidth_hz**2 / 12 / SPEED_OF_LIGHT_MPS**2 * np.asarray(antennas, float) * snr)


def angle_information(
    bearing_rad: FloatArray, distance: FloatArray, gain: FloatArray | float = 1.0, *, aimed: bool = False
) -> FloatArray:
    """Fisher information of the position from the angles of arrival of all N² links, shape (..., 3).

    Parameters
    ----------
    bearing_rad, distance : float array, shape (..., station)
        Of the target from each station, against the normal of its array.
    gain : float
        |ζ_a|², of `angle_gain`.
    aimed : bool, optional
        Each array is turned towards the target, so that none is foreshortened.

    Source: survey eq. 13; docs/methods/network.md eq. 3.
    """
    cosine, sine = np.cos(bearing_rad), np.sin(bearing_rad)
    power = distance**-2.0
    weight = power * power * (1.0 if aimed else cosine * cosine)
    return np.asarray(gain * power.sum(-1)[..., None] * _moments(weight, -sine, cosine))


def delay_information(
    bearing_rad: FloatArray, distance: FloatArray, gain: FloatArray | float = 1.0, *, exponent: float = 2.0
) -> FloatArray:
    """Fisher information of the position from the delays of all N² links, shape (..., 3).

    The double sum over links factors into sums over stations: each link's gradient is the sum of two unit vectors.
    ``exponent`` is the path loss's, of each leg; ``gain`` is |ζ_r|², of `delay_gain`. Source: survey eq. 16;
    docs/methods/network.md eq. 4.
    """
    cosine, sine = np.cos(bearing_rad), np.sin(bearing_rad)
    weight = distance**-exponent
    x, y = (weight * cosine).sum(-1), (weight * sine).sum(-1)
    crossed = np.stack([x * x, x * y, y * y], axis=-1)
    return np.asarray(2 * gain * (weight.sum(-1)[..., None] * _moments(weight, cosine, sine) + crossed))


def crlb(information: FloatArray) -> FloatArray:
    """Trace of the inverse of 2 × 2 information (..., 3): bound of the squared position error; inf where singular."""
    xx, xy, yy = information[..., 0], information[..., 1], information[..., 2]
    determinant = xx * yy - xy * xy
    known = determinant > 1e-14 * (xx + yy) ** 2
    bound: FloatArray = np.divide(xx + yy, determinant, out=np.full(np.shape(xx), np.inf), where=known)
    return bound


def angle_gdop(stations: FloatArray | int) -> FloatArray:
    """Mean CRLB by angles, of N stations at unit distance all around, unit gain: 32/(3N(N−1)).

    Within 5 % of the mean over random bearings from N = 16; below N = 4 that mean diverges. Source: docs/methods/
    network.md eq. 5.
    """
    n = np.asarray(stations, float)
    return np.asarray(32 / (3 * n * (n - 1)))


def aimed_angle_gdop(stations: FloatArray | int) -> FloatArray:
    """The same with every array turned towards the target: 4/(N(N−1)), better by 8/3. Source: eq. 6, as above."""
    n = np.asarray(stations, float)
    return np.asarray(4 / (n * (n - 1)))


def delay_gdop(stations: FloatArray | int) -> FloatArray:
    """Mean CRLB by delays likewise: 2(N+1)/(N(N−1)(N+2)); within 5 % from N = 8. Source: eq. 7, as above."""
    n = np.asarray(stations, float)
    return np.asarray(2 * (n + 1) / (n * (n - 1) * (n + 2)))


def hybrid_gdop(stations: FloatArray | int) -> FloatArray:
    """Mean CRLB by angles and delays together likewise, both of unit gain; within 5 % from N = 8. Source: eq. 8."""
    n = np.asarray(stations, float)
    trace = 2.5 * n**2 + 2 * n
    return np.asarray(trace / (n**2 * (n - 1) * (n + 2) + 3 * n**3 * (n - 1) / 64 + n**2 * (n + 1) ** 2 / 2))


def _moments(weight: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Σ w·(x, y)ᵀ(x, y) over the stations as (xx, xy, yy)."""
    return np.stack([(weight * x * x).sum(-1), (weight * x * y).sum(-1), (weight * y * y).sum(-1)], axis=-1)
