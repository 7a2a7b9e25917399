"""Running correlation of a recording with itself one period later."""

from __future__ import annotations

import numpy as np
from numba import njit

_CHUNK = 4096


@njit(cache=True)
def _search_periodic(samples, period, length, threshold, positions, strengths, angles):  # type: ignore[no-untyped-def]
    """Strongest places of the runs in which the normalised lag correlation exceeds ``threshold``.

    Correlation and energies are of the departures from each window's own mean: an offset of the converters, even one
    that a strong frame has just shifted, correlates with nothing. Returns how many places were written. A run ends
    ``length`` samples after its last exceedance, or twice that after its best: then the short part that made it has
    passed. Sums run in double precision and start afresh in every chunk, so that what was loud leaves nothing behind.
    """
    antennas, total = samples.shape
    last = total - length - period
    share = 1.0 / length
    found = 0
    open_run = False
    run_last = 0
    best = 0.0
    best_at = 0
    best_angle = 0.0
    real = np.empty(_CHUNK)
    imag = np.empty(_CHUNK)
    early = np.empty(_CHUNK)
    late = np.empty(_CHUNK)
    for origin in range(0, last + 1, _CHUNK):
        size = min(_CHUNK, last + 1 - origin)
        real[:] = 0
        imag[:] = 0
        early[:] = 0
        late[:] = 0
        for antenna in range(antennas):
            xs = samples[antenna, origin : origin + size + length + period]
            _add_correlation(xs, size, period, length, share, real, imag, early, late)
        for i in range(size):
            at = origin + i
            power = real[i] * real[i] + imag[i] * imag[i]
            if open_run and (at - run_last > length or at - best_at > 2 * length):
                positions[found] = best_at
                strengths[found] = best
                angles[found] = best_angle
                found += 1
                open_run = False
            if power > threshold * early[i] * late[i] and early[i] > 0.0 and late[i] > 0.0:
                metric = power / (early[i] * late[i])
                if not open_run:
                    open_run = True
                    best = 0.0
                run_last = at
                if metric > best:
                    best = metric
                    best_at = at
                    best_angle = np.arctan2(imag[i], real[i])
    if open_run:
        positions[found] = best_at
        strengths[found] = best
        angles[found] = best_angle
        found += 1
    return found


@njit(cache=True)
def _add_correlation(xs, size, period, length, share, real, imag, early, late):  # type: ignore[no-untyped-def]
    """Adds one antenna's lag covariance and energies at ``size`` places."""
    pr = 0.0
    pi = 0.0
    e0 = 0.0
    e1 = 0.0
    # Sums of both windows, for their means.
    ur = 0.0
    ui = 0.0
    vr = 0.0
    vi = 0.0
    for i in range(length):
        ar = np.float64(xs[i].real)
        ai = np.float64(xs[i].imag)
        br = np.float64(xs[i + period].real)
        bi = np.float64(xs[i + period].imag)
        pr += ar * br + ai * bi
        pi += ar * bi - ai * br
        e0 += ar * ar + ai * ai
        e1 += br * br + bi * bi
        ur += ar
        ui += ai
        vr += br
        vi += bi
    for i in range(size):
        real[i] += pr - share * (ur * vr + ui * vi)
        imag[i] += pi - share * (ur * vi - ui * vr)
        early[i] += e0 - share * (ur * ur + ui * ui)
        late[i] += e1 - share * (vr * vr + vi * vi)
        if i + 1 == size:
            break
        ar = np.float64(xs[i].real)
        ai = np.float64(xs[i].imag)
        br = np.float64(xs[i + period].real)
        bi = np.float64(xs[i + period].imag)
        cr = np.float64(xs[i + length].real)
        ci = np.float64(xs[i + length].imag)
        dr = np.float64(xs[i + length + period].real)
        di = np.float64(xs[i + length + period].imag)
        pr += cr * dr + ci * di - (ar * br + ai * bi)
        pi += cr * di - ci * dr - (ar * bi - ai * br)
        e0 += cr * cr + ci * ci - (ar * ar + ai * ai)
        e1 += dr * dr + di * di - (br * br + bi * bi)
        ur += cr - ar
        ui += ci - ai
        vr += dr - br
        vi += di - bi
