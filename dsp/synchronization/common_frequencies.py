"""CSI of the two directions at the same physical frequencies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["at_common_frequencies"]

_NEIGHBOURS = 24
_WINDOW_PERIODS = 0.25  # delays admitted, as a part of the reciprocal subcarrier spacing
_RIDGE = 1e-7


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
    wanted = state.subcarrier_hz + shift_hz * (1.0 + state.subcarrier_hz / float(state.carrier_hz))
    values = np.zeros_like(state.values)
    weights = np.zeros_like(state.weights)
    patterns, which = np.unique(state.weights > 0.0, axis=0, return_inverse=True)
    for number, known in enumerate(patterns):
        rows = np.flatnonzero(which.ravel() == number)
        columns = np.flatnonzero(known)
        if len(columns) < 2:
            continue
        matrix = _interpolator(
            state.subcarrier_hz[columns], wanted, _mean_delay(state.values[:, rows][:, :, columns], state, columns)
        )
        values[:, rows] = state.values[:, rows][:, :, columns] @ matrix.T
        # Smoothing moves noise to the neighbours and keeps its sum: an element counts as much as before.
        inside = known & (np.abs(matrix) ** 2).any(axis=1)
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


def _interpolator(known_hz: FloatArray, wanted_hz: FloatArray, mean_delay_s: float) -> ComplexArray:
    """Rows of interpolation weights, shape (wanted, known); zero rows outside the band."""
    spacing = float(np.min(np.diff(known_hz)))
    window_s = _WINDOW_PERIODS / spacing
    count = min(_NEIGHBOURS, len(known_hz))
    first = np.clip(np.searchsorted(known_hz, wanted_hz) - count // 2, 0, len(known_hz) - count)
    index = first[:, None] + np.arange(count)
    near = known_hz[index]
    covariance = np.sinc(window_s * (near[:, :, None] - near[:, None, :])) + _RIDGE * np.eye(count)
    target = np.sinc(window_s * (wanted_hz[:, None] - near))
    taps = np.linalg.solve(covariance, target[:, :, None])[:, :, 0]
    taps = taps * np.exp(-2j * np.pi * mean_delay_s * (wanted_hz[:, None] - near))
    outside = (wanted_hz < known_hz[0]) | (wanted_hz > known_hz[-1])
    matrix = np.zeros((len(wanted_hz), len(known_hz)), dtype=np.complex128)
    np.put_along_axis(matrix, index, np.where(outside[:, None], 0.0, taps), axis=1)
    return matrix
