"""One clock against another, from packets that both stamped on arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsp.channel import FloatArray

__all__ = ["ClockRate", "compare_clocks"]

_FASTEST_PPM = 200.0
"""Two crystals differ by less; a fit beyond is a wrong pairing."""
_LEAST_PAIRS = 8


@dataclass(frozen=True)
class ClockRate:
    """Rate of the other clock against the first; None with the reason where it could not be found."""

    rate_ppm: float | None
    """Positive when the other clock runs faster."""
    rate_std_ppm: float | None
    offset_s: float | None
    """What the other clock read, after its first packet, at the first packet of this one."""
    jitter_s: float | None
    """Standard deviation of a pair's reading about the line."""
    pairs: NDArray[np.int64]
    """Indices (own packet, other packet) of the packets paired, shape (pair, 2)."""
    reason: str


def compare_clocks(own_s: FloatArray, other_s: FloatArray, *, tolerance_s: float = 5e-3) -> ClockRate:
    """Rate difference of two clocks that stamped the same, or alternating, packets, with unknown starts and losses.

    The start difference is the one at which most packets of the two coincide within the tolerance (all differences
    of pairs, counted); a line is then fitted to the pairs while the tolerance shrinks to four deviations. It is
    refused where another start difference explains nearly as many pairs nearly as tightly (a strictly periodic
    train without losses cannot be aligned), or where fewer than eight pairs remain.

    Parameters
    ----------
    own_s, other_s : float array
        Time stamps of either clock, ascending, seconds from anywhere.
    tolerance_s : float > 0
        Within which two stamps of one packet (or of a packet and its answer) lie, drift included.
    """
    nothing = np.zeros((0, 2), dtype=np.int64)
    if min(len(own_s), len(other_s)) < _LEAST_PAIRS:
        return ClockRate(None, None, None, None, nothing, f"fewer than {_LEAST_PAIRS} packets")
    starts = _start_differences(own_s, other_s, tolerance_s)
    fits = [fit for start in starts if (fit := _line(own_s, other_s, start, tolerance_s)) is not None]
    if not fits:
        return ClockRate(None, None, None, None, nothing, "the packets of the two files do not coincide")
    # More pairs first, then the tighter fit: neighbours of a nearly periodic train pair nearly as many.
    fits.sort(key=lambda fit: len(fit[0]) / np.sqrt(fit[4] ** 2 + 1e-12), reverse=True)
    pairs, slope, deviation, offset, jitter = fits[0]
    rivals = [fit for fit in fits[1:] if abs(fit[3] - offset) > 2 * tolerance_s]
    if rivals and len(rivals[0][0]) > 0.97 * len(pairs) and rivals[0][4] < 2.0 * jitter:
        return ClockRate(None, None, None, None, nothing, "the packets are periodic: several alignments fit alike")
    if abs(slope) > _FASTEST_PPM * 1e-6:
        return ClockRate(None, None, None, None, nothing, "the packets of the two files do not coincide")
    return ClockRate(slope * 1e6, deviation * 1e6, offset, jitter, pairs, "")


def _start_differences(own_s: FloatArray, other_s: FloatArray, tolerance_s: float) -> list[float]:
    """The start differences with most coinciding pairs, best first, at most twelve."""
    differences = np.sort(np.subtract.outer(other_s, own_s).ravel())
    ends = np.searchsorted(differences, differences + tolerance_s)
    count = ends - np.arange(len(differences))
    found: list[float] = []
    for index in np.argsort(-count, kind="stable"):
        center = float(np.median(differences[index : ends[index]]))
        if all(abs(center - other) > tolerance_s for other in found):
            found.append(center)
        if len(found) == 12:
            break
    return found


def _line(
    own_s: FloatArray, other_s: FloatArray, start_s: float, tolerance_s: float
) -> tuple[NDArray[np.int64], float, float, float, float] | None:
    """Pairs, slope, its deviation, offset at own zero, and jitter; None if too few pairs remain."""
    after = np.clip(np.searchsorted(other_s, own_s + start_s), 1, len(other_s) - 1)
    nearer = np.abs(other_s[after - 1] - own_s - start_s) < np.abs(other_s[after] - own_s - start_s)
    partner = np.where(nearer, after - 1, after)
    gap = other_s[partner] - own_s
    origin = own_s[0]
    time = own_s - origin
    slope, level, tolerance = 0.0, start_s, tolerance_s
    good = np.abs(gap - start_s) < tolerance
    jitter = tolerance_s
    for _ in range(8):
        if np.count_nonzero(good) < _LEAST_PAIRS:
            return None
        slope, level = np.polyfit(time[good], gap[good], 1)
        rest = gap - slope * time - level
        jitter = max(float(1.4826 * np.median(np.abs(rest[good]))), 1e-7)
        tolerance = min(tolerance_s, max(4 * jitter, 2e-6))
        good = np.abs(rest) < tolerance
    if np.count_nonzero(good) < _LEAST_PAIRS:
        return None
    scatter = float(rest[good].std())
    deviation = scatter / (float(time[good].std()) * np.sqrt(np.count_nonzero(good)))
    pairs = np.column_stack([np.flatnonzero(good), partner[good]]).astype(np.int64)
    return pairs, float(slope), deviation, float(level), scatter
