"""Residuals of one target's measurements and their minimisation, for `dsp.target_model`."""

from __future__ import annotations

import numpy as np
from numba import njit

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray

__all__ = ["_costs", "_minimise", "_residuals"]


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
    for row in range(len(values)):
        values[row] = 0.0
        for column in range(2 * dimension):
            slopes[row, column] = 0.0
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
def _squared(values: FloatArray) -> float:
    total = 0.0
    for index in range(len(values)):
        total += values[index] * values[index]
    return total


@njit(cache=True)
def _copy(source: FloatArray, target: FloatArray) -> None:
    for index in range(len(source)):
        target[index] = source[index]


@njit(cache=True)
def _costs(
    states: FloatArray,
    geometry: FloatArray,
    figures: FloatArray,
    sines: FloatArray,
    whiten_delays: FloatArray,
    prior_std: float,
    values: FloatArray,
    slopes: FloatArray,
    costs: FloatArray,
) -> None:
    """Fill ``costs`` with the squared residuals at each of ``states``."""
    for index in range(len(states)):
        _residuals(states[index], geometry, figures, sines, whiten_delays, prior_std, values, slopes)
        costs[index] = _squared(values)


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
    """Move ``state`` to a minimum of the squared residuals by Gauss–Newton with Marquardt's damping; its cost.

    ``values`` and ``slopes`` are two sets of what `_residuals` fills, one above the other.
    """
    # plain loops: matrix products would take LLVM several seconds to compile
    size = len(state)
    information, damped = np.empty((size, size)), np.empty((size, size))
    step, trial = np.empty(size), np.empty(size)
    trial_values, trial_slopes = values[1], slopes[1]
    values, slopes = values[0], slopes[0]
    _residuals(state, geometry, figures, sines, whiten_delays, prior_std, values, slopes)
    cost = _squared(values)
    damping = 1e-3
    for _ in range(steps):
        trace = 0.0
        for row in range(size):
            for column in range(row + 1):
                total = 0.0
                for index in range(len(values)):
                    total += slopes[index, row] * slopes[index, column]
                information[row, column] = total
                information[column, row] = total
            trace += information[row, row]
        better, settled = False, False
        while damping <= 1e9:
            for row in range(size):
                step[row] = 0.0
                for index in range(len(values)):
                    step[row] += slopes[index, row] * values[index]
                for column in range(size):
                    damped[row, column] = information[row, column]
                damped[row, row] += damping * (information[row, row] + 1e-12 * trace)
            _solve_positive(damped, step)
            for row in range(size):
                trial[row] = state[row] + step[row]
            _residuals(trial, geometry, figures, sines, whiten_delays, prior_std, trial_values, trial_slopes)
            trial_cost = _squared(trial_values)
            if trial_cost <= cost:  # never true of what is not a number
                better = True
                break
            damping *= 8.0
        if not better:
            break
        length = 0.0
        for row in range(size):
            for column in range(size):
                length += step[row] * information[row, column] * step[column]
        settled = cost - trial_cost < 1e-9 and length < 1e-8
        cost = trial_cost
        _copy(trial, state)
        _copy(trial_values, values)
        for index in range(len(values)):
            _copy(trial_slopes[index], slopes[index])
        damping = max(damping / 8.0, 1e-12)
        if settled:
            break
    return cost
