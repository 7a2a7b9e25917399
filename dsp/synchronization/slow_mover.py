"""What a path that moves too slowly for the slot to resolve leaves of a carrier offset read off the whole scene.

With the common phase taken off, nothing of a static scene changes linearly over the slot. A path that turns against the
others does, at its delay, in the first moment over time. It pulls the offset by its share p of the power times its turn
Δ; the offset taken off, it is seen to turn by (1 - p)·Δ against p·Δ of all others the other way. Which of two paths is
the one at rest nobody can tell: each delay's pull is at stake.
"""

from __future__ import annotations

from math import pi

import numpy as np
from scipy import fft

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["delay_doubt_s", "slow_mover_doubt_hz", "turning_doubt_hz"]

_PADDING = 4
_CHANCE = 3.0
"""Of a reading's variance, not counted: what stands still exceeds it at one of twelve delays."""
_LARGEST_SHARE = 0.95
"""Beyond, nothing is left for the path to be seen to turn against."""
_EXCESS = 1.5
"""Delay excess of a mover over its Doppler, both in resolution cells."""


def slow_mover_doubt_hz(
    values: ComplexArray, weights: FloatArray, noise: FloatArray, time_s: FloatArray, subcarrier_hz: FloatArray
) -> float:
    """Deviation of a carrier offset, in hertz, by paths that turn against the scene within their Doppler cell.

    The greatest pull that any delay shows beyond what noise makes of it. Not an error corrected: a significance so
    low that a pull of several of the offset's deviations is not overlooked would correct noise more often than movers.

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
    power = float(np.sum(np.abs(scene) ** 2)) - len(noise) * float(np.sum(1.0 / sums))
    if len(time) < 3 or power <= 0.0:
        return 0.0
    return turning_doubt_hz(scene, moment, spread, f, power=power, longest_s=float(np.ptp(time)))


def turning_doubt_hz(
    scene: ComplexArray, moment: ComplexArray, spread: FloatArray, f: FloatArray, *, power: float, longest_s: float
) -> float:
    """Greatest pull on the frequency of what turns at one delay, beyond chance.

    Parameters
    ----------
    scene, moment : complex arrays, shape (antenna, subcarrier)
        The scene at rest, and what changes in it: Σ_l w·t·x over symbols at times of mean zero.
    spread : float array, shape (subcarrier,)
        Variance of a moment, Σ_l w·t²: values have the variance 1/w.
    f : float array, shape (subcarrier,)
    power : float > 0
        Of the scene summed over antennas and subcarriers, noise taken off, with what moves in it.
    longest_s : float
        Span of the slot: no path turns by more than half a cell of it.
    """
    if float(spread.min()) <= 0.0:
        return 0.0
    common = complex(np.sum(scene.conj() * moment)) / float(np.sum(np.abs(scene) ** 2 * spread))
    steps = grid_steps(f)
    padded = np.zeros((2, len(scene), fft.next_fast_len(_PADDING * int(steps[-1] + 1))), dtype=np.complex128)
    padded[0][:, steps] = scene
    padded[1][:, steps] = moment - common * scene * spread
    path, slope = fft.ifft(padded, axis=2, norm="forward")
    path, slope = path / len(f), slope / float(spread.sum())
    level = np.sum(np.abs(path) ** 2, axis=0)
    share = np.minimum(level * len(f) / power, _LARGEST_SHARE)
    per_turn = len(f) / (2.0 * pi * power * (1.0 - share))
    pull_hz = per_turn * np.sum((path.conj() * slope).imag, axis=0)
    variance = per_turn**2 * (1.0 - share) * level / (2.0 * float(spread.sum()))
    excess = np.minimum(pull_hz**2 - _CHANCE * variance, (0.5 * share / longest_s) ** 2)
    return float(np.sqrt(max(float(excess.max()), 0.0)))


def delay_doubt_s(doubt_hz: float, subcarrier_hz: FloatArray, time_s: FloatArray) -> float:
    """Deviation of a delay by the path that leaves ``doubt_hz`` of the frequency.

    A mover of relative amplitude a in the cell of a path turns it by a·ν·cos θ and pulls its delay by a·τ·cos θ, ν and
    τ its own Doppler and excess delay, of which the cell is all that is known.
    """
    return _EXCESS * doubt_hz * float(np.ptp(time_s)) / float(np.ptp(subcarrier_hz))
