"""Residuals of one target's measurements and their minimisation, for `dsp.target_model`."""

from __future__ import annotations

import numpy as np
from numba import njit

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray

__all__ = ["_minimise", "_residuals"]


@njit(cache=True)
def _residuals(
    state: FloatArray,
    geometry: FloatArray,
    figures: FloatArray,
    sines: FloatArray,
    whiten_delays: FloatArray,
    prior_std: float,
    values: FloatArray,
    slopes: FloatArray,
) -> None:
    """Fill ``values`` (3m + d) and ``slopes`` (3m + d, 2d): delays, Dopplers, sines of m links, velocity's prior.

    ``geometry`` (3, m, d): receivers, transmitters, array axes. ``figures`` (5, m): time, delay, carrier over the
    Doppler's deviation (0 for none), Doppler over its deviation, inverse deviation of the sine (0 for none).
    ``sines`` (m, repetitions), filled up with infinity.
    """
    links, dimension = geometry.shape[1], geometry.shape[2]
    values[:] = 0.0
    slopes[:] = 0.0
    delays = np.empty(links)
    gradients = np.empty((links, dimension))
    first, second = np.empty(dimension), np.empty(dimension)
    for link in range(links):
        time = figures[0, link]
        near, far = 0.0, 0.0
        for axis in range(dimension):
            place = state[axis] + time * state[dimension + axis]
            first[axis] = place - geometry[0, link, axis]
            second[axis] = place - geometry[1, link, axis]
            near += first[axis] ** 2
            far += second[axis] ** 2
        near, far = np.sqrt(near), np.sqrt(far)
        delays[link] = figures[1, link] - (near + far) / SPEED_OF_LIGHT_MPS
        along_first, along_second, closing, sine = 0.0, 0.0, 0.0, 0.0
        for axis in range(dimension):
            first[axis] /= near
            second[axis] /= far
            gradients[link, axis] = (first[axis] + second[axis]) / SPEED_OF_LIGHT_MPS
            along_first += first[axis] * state[dimension + axis]
            along_second += second[axis] * state[dimension + axis]
            closing += gradients[link, axis] * state[dimension + axis]
            sine += first[axis] * geometry[2, link, axis]
        row = links + link
        scale = -figures[2, link]
        if scale != 0.0:
            values[row] = figures[3, link] - scale * closing
            for axis in range(dimension):
                speed = state[dimension + axis]
                turn = (speed - first[axis] * along_first) / near + (speed - second[axis] * along_second) / far
                turn /= SPEED_OF_LIGHT_MPS
                slopes[row, axis] = scale * turn
                slopes[row, dimension + axis] = scale * (gradients[link, axis] + time * turn)
        row = 2 * links + link
        weight = figures[4, link]
        if weight != 0.0:
            nearest = np.inf
            for repetition in range(sines.shape[1]):
                apart = sines[link, repetition] - sine
                if abs(apart) < abs(nearest):
                    nearest = apart
            values[row] = nearest * weight
            for axis in range(dimension):
                slope = (geometry[2, link, axis] - first[axis] * sine) / near * weight
                slopes[row, axis] = slope
                slopes[row, dimension + axis] = slope * time
    for row in range(links):
        for link in range(row + 1):
            weight = whiten_delays[row, link]
            values[row] += weight * delays[link]
            for axis in range(dimension):
                slopes[row, axis] += weight * gradients[link, axis]
                slopes[row, dimension + axis] += weight * gradients[link, axis] * figures[0, link]
    for axis in range(dimension):
        values[3 * links + axis] = -state[dimension + axis] / prior_std
        slopes[3 * links + axis, dimension + axis] = 1.0 / prior_std


@njit(cache=True)
def _solve_positive(matrix: FloatArray, right: FloatArray) -> None:
    """Overwrite ``right`` with matrix⁻¹·right and ``matrix`` with its Cholesky factor; NaN if it is not positive."""
    size = len(right)
    for column in range(size):
        for row in range(column, size):
            total = matrix[row, column]
            for inner in range(column):
                total -= matrix[row, inner] * matrix[column, inner]
            matrix[row, column] = np.sqrt(total) if row == column else total / matrix[column, column]
    for row in range(size):
        for inner in range(row):
            right[row] -= matrix[row, inner] * right[inner]
        right[row] /= matrix[row, row]
    for row in range(size - 1, -1, -1):
        for inner in range(row + 1, size):
            right[row] -= matrix[inner, row] * right[inner]
        right[row] /= matrix[row, row]


@njit(cache=True)
def _minimise(
    state: FloatArray,
    geometry: FloatArray,
    figures: FloatArray,
    sines: FloatArray,
    whiten_delays: FloatArray,
    prior_std: float,
    values: FloatArray,
    slopes: FloatArray,
    steps: int,
) -> float:
    """Move ``state`` to a minimum of the squared residuals by Gauss–Newton with Marquardt's damping; its cost."""
    size = len(state)
    trial_values, trial_slopes = np.empty_like(values), np.empty_like(slopes)
    _residuals(state, geometry, figures, sines, whiten_delays, prior_std, values, slopes)
    cost = np.sum(values**2)
    damping = 1e-3
    for _ in range(steps):
        information = slopes.T @ slopes
        step = slopes.T @ values
        damped = information.copy()
        floor = 1e-12 * np.trace(information)
        for index in range(size):
            damped[index, index] += damping * (information[index, index] + floor)
        _solve_positive(damped, step)
        trial = state + step
        _residuals(trial, geometry, figures, sines, whiten_delays, prior_std, trial_values, trial_slopes)
        trial_cost = np.sum(trial_values**2)
        if not trial_cost <= cost:  # not a number counts as worse
            damping *= 8.0
            if damping > 1e9:
                break
            continue
        settled = cost - trial_cost < 1e-9 and step @ information @ step < 1e-8
        state[:] = trial
        cost = trial_cost
        values[:] = trial_values
        slopes[:] = trial_slopes
        damping = max(damping / 8.0, 1e-12)
        if settled:
            break
    return float(cost)
