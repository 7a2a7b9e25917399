"""CSI of the two directions at the same physical frequencies."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray

__all__ = ["at_common_frequencies"]

_NEIGHBOURS = 24
_WINDOW_PERIODS = 0.25  # delays admitted, as a part of the reciprocal subcarrier spacing
_RIDGE = 1e-7
_DIGITS = 5
"""Of the shift in subcarrier spacings: what that rounds off is 100 dB below the channel, and rounds whose carriers have
hardly moved share their weights."""


def at_common_frequencies(state: ChannelState, shift_hz: float) -> ChannelState:
    """Channel at the frequencies f_k + shift·(1 + f_k/fc), carried under the names f_k.

    Transmitter m emits subcarrier k at (fc + f_k)(1 + delta_m), transmitter n at (fc + f_k)(1 + delta_n): the two
    directions sample the channel on grids that stand apart by the CFO, stretched alike. Shifting the forward
    direction by -CFO/2 and the reverse one by +CFO/2 puts both on the mean of the two grids.

    Each value is the minimum-variance linear estimate from its nearest known neighbours, for delays uniform
    over a quarter of the range that the subcarrier spacing can tell, about the slot's mean delay; a hole at DC or
    between pilots is bridged the same way. Frequencies outside the band get weight zero: to extrapolate by a
    quarter of a spacing would cost four times the noise.
    Neighbours count alike whatever their weights: average symbols of an amplitude-modulated constellation first.

    The shift moves the mean of the apparent residual delays by parts of 1e-5 and with them the epoch: the two-way
    epoch, half-way between reception and departure, accounts for it exactly.
    """
    if shift_hz == 0.0:
        return state
    spacing_hz = float(np.min(np.diff(state.subcarrier_hz)))
    shift_hz = round(shift_hz / spacing_hz, _DIGITS) * spacing_hz
    wanted = state.subcarrier_hz + shift_hz * (1.0 + state.subcarrier_hz / float(state.carrier_hz))
    values = np.zeros_like(state.values)
    weights = np.zeros_like(state.weights)
    heard = state.weights > 0.0
    if heard.all():
        patterns, which = heard[:1], np.zeros(len(heard), np.intp)
    else:
        patterns, which = np.unique(heard, axis=0, return_inverse=True)
    for number, known in enumerate(patterns):
        rows = np.flatnonzero(which.ravel() == number)
        columns = np.flatnonzero(known)
        if len(columns) < 2:
            continue
        taps, index = _interpolator(state.subcarrier_hz[columns].tobytes(), wanted.tobytes())
        delay_s = _mean_delay(state.values[:, rows][:, :, columns], state, columns)
        flat = state.values[:, rows][:, :, columns] * np.exp(2j * np.pi * delay_s * state.subcarrier_hz[columns])
        values[:, rows] = _weighted(flat, taps, index) * np.exp(-2j * np.pi * delay_s * wanted)
        # Smoothing moves noise to the neighbours and keeps its sum: an element counts as much as before.
        inside = known & (taps != 0.0).any(axis=1)
        weights[rows] = np.where(inside, state.weights[rows], 0.0)
    return replace(state, values=values, weights=weights)


def _mean_delay(values: ComplexArray, state: ChannelState, columns: NDArray[np.intp]) -> float:
    """Power-weighted mean delay, from the phase between neighbours."""
    frequencies = state.subcarrier_hz[columns]
    steps = np.diff(frequencies)
    smallest = float(steps.min())
    next_door = steps < 1.5 * smallest
    lag = np.sum(values[..., 1:][..., next_door] * np.conj(values[..., :-1][..., next_door]))
    return float(-np.angle(lag) / (2.0 * np.pi * smallest))


@lru_cache(maxsize=8)
def _interpolator(known: bytes, wanted: bytes) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Weights of each wanted frequency about mean delay zero, shape (wanted, neighbour), and which of the known they
    take; zero outside the band. Both axes as the bytes of their frequencies."""
    known_hz, wanted_hz = np.frombuffer(known), np.frombuffer(wanted)
    spacing = float(np.min(np.diff(known_hz)))
    window_s = _WINDOW_PERIODS / spacing
    count = min(_NEIGHBOURS, len(known_hz))
    first = np.clip(np.searchsorted(known_hz, wanted_hz) - count // 2, 0, len(known_hz) - count)
    index = first[:, None] + np.arange(count)
    near = known_hz[index]
    target = np.sinc(window_s * (wanted_hz[:, None] - near))
    taps = np.empty(target.shape)
    # All neighbourhoods but those about holes are alike: each kind's covariance is solved once.
    steps_of = np.rint((near - near[:, :1]) / spacing).astype(np.int32)
    _, examples, kind = np.unique(steps_of.view(f"V{4 * count}"), return_index=True, return_inverse=True)
    for number, example in enumerate(examples):
        mine, steps = kind.ravel() == number, steps_of[example]
        covariance = np.sinc(window_s * spacing * (steps[:, None] - steps)) + _RIDGE * np.eye(count)
        taps[mine] = np.linalg.solve(covariance, target[mine].T).T
    taps[(wanted_hz < known_hz[0]) | (wanted_hz > known_hz[-1])] = 0.0
    return taps, index


def _weighted(values: ComplexArray, taps: NDArray[np.float64], index: NDArray[np.intp]) -> ComplexArray:
    """Σ_j taps[k, j]·values[…, index[k, j]]: neighbours are consecutive."""
    from dsp.kernels.channel import _neighbours

    flat = np.ascontiguousarray(values.reshape(-1, values.shape[-1]), np.complex128)
    out = np.empty((len(flat), len(taps)), np.complex128)
    _neighbours(flat, np.ascontiguousarray(taps.T), np.ascontiguousarray(index[:, 0]), out)
    return out.reshape(*values.shape[:-1], len(taps))
