"""Periodic motion (a chest that breathes) seen in the CSI ratio between two antennas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ComplexArray, FloatArray

__all__ = ["PeriodicMotion", "band_ratio", "periodic_motion"]

_LEAST_EXPLAINED = 0.5
_LEAST_PERIODS = 2.5
_FALSE_ALARM = 0.01


@dataclass(frozen=True)
class PeriodicMotion:
    """What was found; rate, deviation and maxima are None and empty where ``reason`` says why nothing was."""

    rate_per_min: float | None
    rate_std_per_min: float | None
    maxima_s: tuple[float, ...]
    """Times of the maxima of the dominant component, seconds after the first packet."""
    explained: float
    """Share of the dominant component's variance that the best period explains, trend taken out."""
    reason: str
    time_s: FloatArray
    """Uniform time axis of ``waveform``, seconds after the first packet."""
    waveform: FloatArray
    """Dominant component of the ratio, unit variance, sharper excursions upwards."""


def band_ratio(above: ComplexArray, below: ComplexArray, *, groups: int) -> ComplexArray:
    """Least-squares CSI ratio per group of neighbouring subcarriers, shape (stream·group, packet).

    Σ_k H_a·conj(H_b) / Σ_k |H_b|² over a group: unlike a quotient per subcarrier it has no poles at single faded
    or zero elements. NaN where the group of ``below`` is all zero. Inputs have shape (stream, packet, subcarrier).
    """
    edges = np.linspace(0, above.shape[-1], min(groups, above.shape[-1]) + 1).astype(int)[:-1]
    product = np.add.reduceat(above * below.conj(), edges, axis=-1)
    power = np.add.reduceat(np.abs(below) ** 2, edges, axis=-1)
    ratio = np.full(product.shape, np.nan + 1j * np.nan, dtype=np.complex128)
    np.divide(product, power, out=ratio, where=(power > 0) & (product != 0))
    return ratio.transpose(0, 2, 1).reshape(-1, above.shape[1])


def periodic_motion(
    ratios: ComplexArray, time_s: FloatArray, *, slowest_per_min: float = 6.0, fastest_per_min: float = 45.0
) -> PeriodicMotion:
    """Rate and maxima of a periodic motion, from the dominant common component of many CSI ratios.

    The logarithms of the ratios (phase unwrapped) are averaged on a uniform grid, detrended, weighted by the
    inverse of their noise (seen in second differences), and reduced to their first principal component. For each
    rate on a fine grid a fundamental and its second harmonic are fitted with a straight line; the rate with the
    least residue is kept if it explains at least half of the variance, is improbable (1 %) as a fit to white
    noise, and fits at least two and a half times into the record. Maxima are peaks of the low-passed component, one
    per period.

    Parameters
    ----------
    ratios : complex array, shape (feature, packet)
        NaN where missing. Turns between the antennas must have been resolved.
    time_s : float array, shape (packet,)
        Ascending, from the first packet.
    slowest_per_min, fastest_per_min : float
        Rates looked for.
    """
    grid_hz = 8.0 * fastest_per_min / 60.0
    span_s = float(time_s[-1] - time_s[0]) if len(time_s) else 0.0
    nothing = np.zeros(0)
    slowest = max(slowest_per_min, 60.0 * _LEAST_PERIODS / span_s if span_s > 0 else np.inf)
    if slowest >= fastest_per_min:
        need = 60.0 * _LEAST_PERIODS / fastest_per_min
        return PeriodicMotion(
            None, None, (), 0.0, f"the record is {span_s:.1f} s, shorter than {need:.1f} s", nothing, nothing
        )
    # Ends half a cell inside, so that the last cell is as full as the others.
    time = time_s[0] + (np.arange(int(span_s * grid_hz)) + 0.5) / grid_hz
    component = _component(ratios, time_s, time)
    if component is None:
        return PeriodicMotion(
            None,
            None,
            (),
            0.0,
            f"packets are too few or too far apart for {grid_hz:.0f} samples a second",
            nothing,
            nothing,
        )
    rate, std, explained, chance = _best_rate(component, time, slowest, fastest_per_min)
    smooth = _low_pass(component, grid_hz, min(4.0 * rate, fastest_per_min * 1.25) / 60.0)
    if np.mean((smooth - smooth.mean()) ** 3) < 0:
        component, smooth = -component, -smooth
    if explained < _LEAST_EXPLAINED or chance > _FALSE_ALARM:
        reason = f"no clear period: the best one explains {100 * explained:.0f} % of the variance"
        return PeriodicMotion(None, None, (), explained, reason, time - time_s[0], component)
    maxima = _maxima(smooth, time - time_s[0], 60.0 / rate)
    return PeriodicMotion(rate, std, maxima, explained, "", time - time_s[0], component)


def _component(ratios: ComplexArray, time_s: FloatArray, time: FloatArray) -> FloatArray | None:
    """First principal component of the detrended log ratios on the uniform grid, unit variance."""
    step = float(time[1] - time[0]) if len(time) > 1 else np.inf
    rows = []
    for row in ratios:
        good = np.isfinite(row) & (row != 0)
        # Cells without packets are bridged; a file with more bridge than cells shows nothing.
        if np.count_nonzero(good) < 8 or np.median(np.diff(time_s[good])) > 2 * step:
            continue
        logs = np.log(np.abs(row[good])), np.unwrap(np.angle(row[good]))
        cell = np.clip(((time_s[good] - time[0]) / step + 0.5).astype(int), 0, len(time) - 1)
        count = np.bincount(cell, minlength=len(time))
        full = count > 0
        for log in logs:
            mean = np.bincount(cell, log, minlength=len(time))[full] / count[full]
            rows.append(np.interp(time, time[full], mean))
    if not rows or len(time) < 16:
        return None
    data = np.array(rows)
    line = np.vander(time - time.mean(), 2)
    data = data - (line @ np.linalg.lstsq(line, data.T, rcond=None)[0]).T
    # The median keeps single glitches from silencing a feature.
    noise = np.median(np.abs(np.diff(data, 2, axis=1)), axis=1)
    data = data / np.maximum(noise, 1e-9 + 0.01 * np.median(noise))[:, None]
    # Features with glitches would otherwise own the first component by their size alone.
    data = np.clip(data, *(np.median(np.abs(data), axis=1)[:, None] * s for s in (-5.0, 5.0)))
    component = np.linalg.svd(data, full_matrices=False)[2][0]
    return np.asarray(component / max(float(component.std()), 1e-300))


def _best_rate(
    component: FloatArray, time: FloatArray, slowest_per_min: float, fastest_per_min: float
) -> tuple[float, float, float, float]:
    """Rate per minute, its deviation, the variance explained, and the chance of that under white noise."""
    from scipy.stats import f as fisher

    span_s = float(time[-1] - time[0])
    centred = time - time.mean()
    line = np.vander(centred, 2)
    rest = component - line @ np.linalg.lstsq(line, component, rcond=None)[0]
    total = float(rest @ rest)
    rates = np.arange(slowest_per_min, fastest_per_min, 60.0 * 0.02 / span_s)
    residues = np.array([_residue(component, centred, rate) for rate in rates])
    index = int(residues.argmin())
    rate, best = float(rates[index]), float(residues[index])
    # Curvature of the residue gives the deviation for white noise; what the fit leaves is a wander, whose
    # correlation from sample to sample takes away from the number of independent samples.
    left = _rest(component, centred, rate)
    correlation = float(np.clip(left[1:] @ left[:-1] / (left @ left), 0.0, 0.95))
    step = float(rates[1] - rates[0])
    sides = [_residue(component, centred, rate + sign * step) for sign in (-1, 1)]
    bend = (sides[0] + sides[1] - 2 * best) / step**2
    freedom = len(time) - 7
    fewer = (1 + correlation) / (1 - correlation)
    std = float(np.sqrt(2 * best / freedom / bend * fewer)) if bend > 0 else np.inf
    explained = 1.0 - best / total
    ratio = (explained / 4) / max((1 - explained) / freedom, 1e-300)
    chance = min(1.0, float(fisher.sf(ratio, 4, freedom)) * span_s * (fastest_per_min - slowest_per_min) / 60.0)
    return rate, std, explained, chance


def _residue(component: FloatArray, centred: FloatArray, rate_per_min: float) -> float:
    """Sum of squares left by a line, a fundamental and its second harmonic."""
    rest = _rest(component, centred, rate_per_min)
    return float(rest @ rest)


def _rest(component: FloatArray, centred: FloatArray, rate_per_min: float) -> FloatArray:
    """What a line, a fundamental and its second harmonic leave of the component."""
    angle = 2 * np.pi * rate_per_min / 60.0 * centred
    basis = np.column_stack(
        [np.ones_like(centred), centred, np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    )
    return np.asarray(component - basis @ np.linalg.lstsq(basis, component, rcond=None)[0])


def _low_pass(component: FloatArray, grid_hz: float, cutoff_hz: float) -> FloatArray:
    """Zero-phase Butterworth low-pass of second order."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(2, min(cutoff_hz / (grid_hz / 2), 0.9), output="sos")
    return np.asarray(sosfiltfilt(sections, component, padlen=min(len(component) - 2, int(2 * grid_hz))))


def _maxima(smooth: FloatArray, time: FloatArray, period_s: float) -> tuple[float, ...]:
    """Times of the peaks at least 0.6 periods apart that stand out by more than half the waveform's deviation."""
    from scipy.signal import find_peaks

    step = float(time[1] - time[0])
    peaks, _ = find_peaks(smooth, distance=max(int(0.6 * period_s / step), 1), prominence=0.75 * float(smooth.std()))
    found = []
    for peak in peaks:
        before, at, after = smooth[peak - 1 : peak + 2]
        # The parabola through three samples places the maximum between them.
        found.append(float(time[peak] + 0.5 * step * (before - after) / (before - 2 * at + after)))
    return tuple(found)
