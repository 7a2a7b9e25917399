"""What a path that moves too slowly for the slot to resolve leaves of a carrier offset read off the whole scene."""

from __future__ import annotations

from math import pi

import numpy as np
from scipy import fft, stats

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["slow_mover_doubt_hz"]

_PADDING = 4
_FALSE_ALARM = 1e-3
_MOST = 3
_SHARE_OF_STATIC = 0.1
"""Share of the scene's power from which a path that turns against the others may be the one at rest."""


def slow_mover_doubt_hz(
    values: ComplexArray, weights: FloatArray, noise: FloatArray, time_s: FloatArray, subcarrier_hz: FloatArray
) -> float:
    """Deviation of a carrier offset, in hertz, by paths that turn against the scene within their Doppler cell.

    With the common phase taken off, nothing of a static scene changes linearly over the slot. What does stands at some
    delay in the first moment over time, and is looked for by a likelihood ratio, a false alarm in a thousand slots. A
    weak path pulls the offset by its share of the power; where it is strong, either of the two may be at rest.

    Parameters
    ----------
    values : complex array, shape (antenna, symbol, subcarrier)
        Aligned to the static scene, resolved movers taken out.
    weights : float array, shape (symbol, subcarrier)
    noise : float array, shape (antenna,)
        Of an element of weight one.
    time_s, subcarrier_hz : float arrays, shapes (symbol,) and (subcarrier,)
    """
    known = weights.sum(axis=0) > 0.0
    weights, f = weights[:, known], subcarrier_hz[known]
    sums = weights.sum(axis=0)
    time = time_s - time_s.mean()
    whitened = values[:, :, known] / np.sqrt(np.maximum(noise, np.finfo(float).tiny))[:, None, None]
    scene = np.einsum("alk,lk->ak", whitened, weights) / sums
    moment = np.einsum("alk,lk,l->ak", whitened - scene[:, None, :], weights, time)
    spread = np.einsum("lk,l->k", weights, time**2)
    if len(time) < 3 or float(spread.min()) <= 0.0:
        return 0.0
    steps = grid_steps(f)
    size = fft.next_fast_len(_PADDING * int(steps[-1] + 1))
    threshold = float(stats.gamma.isf(_FALSE_ALARM / (4.0 * len(f)), len(noise)))
    power = float(np.sum(np.abs(scene) ** 2))
    grid_s = fft.fftfreq(size, float(np.min(np.diff(f))))
    doubt_hz = 0.0
    for _ in range(_MOST):
        padded = np.zeros((len(noise), size), dtype=np.complex128)
        padded[:, steps] = moment
        energy = np.sum(np.abs(fft.ifft(padded, axis=1, norm="forward")) ** 2, axis=0) / float(spread.sum())
        peak = int(np.argmax(energy))
        if energy[peak] < threshold:
            break
        beam = np.exp(-2j * pi * f * grid_s[peak])
        path = scene @ beam.conj() / len(f)
        slope = moment @ beam.conj() / float(spread.sum())
        level = float(np.sum(np.abs(path) ** 2))
        turn_hz = abs(float(np.sum((path.conj() * slope).imag))) / (2.0 * pi * max(level, 1e-300))
        share = level * len(f) / power
        # a path of its own turns by its slope; one in the skirts of others by no more than a cell
        turn_hz = min(turn_hz, 0.5 / float(np.ptp(time)))
        doubt_hz = max(doubt_hz, turn_hz * min(1.0, share / _SHARE_OF_STATIC))
        moment = moment - slope[:, None] * beam * spread
    return doubt_hz
