"""Cramér–Rao bounds of positions from bistatic delays, Dopplers and angles of arrival.

Every gradient takes one link, or arrays of links along leading axes.
"""

from __future__ import annotations

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray

__all__ = [
    "angle_bound_two_antennas",
    "delay_curvature",
    "delay_gradient",
    "position_bound",
    "position_information",
    "sine_gradient",
]


def delay_gradient(position_m: FloatArray, transmitter_m: FloatArray, receiver_m: FloatArray) -> FloatArray:
    """Gradient of the bistatic delay, s/m: sum of the unit vectors from both nodes to the target, over c.

    Zero on the baseline between the nodes, where the delay says nothing across it. The Doppler of a target with
    velocity v is -carrier·v·gradient.
    """
    return np.asarray((_towards(transmitter_m, position_m) + _towards(receiver_m, position_m)) / SPEED_OF_LIGHT_MPS)


def delay_curvature(position_m: FloatArray, transmitter_m: FloatArray, receiver_m: FloatArray) -> FloatArray:
    """Second derivative of the bistatic delay, s/m², shape (..., dimension, dimension): how its gradient turns.

    Of each leg it is the projection across the leg, over the leg's length.
    """
    total = np.zeros((*np.shape(position_m), np.shape(position_m)[-1]))
    for node in (transmitter_m, receiver_m):
        unit = _towards(node, position_m)
        distance = np.linalg.norm(position_m - node, axis=-1)[..., None, None]
        total = total + (np.eye(unit.shape[-1]) - unit[..., :, None] * unit[..., None, :]) / distance
    return np.asarray(total / SPEED_OF_LIGHT_MPS)


def sine_gradient(position_m: FloatArray, receiver_m: FloatArray, axis: FloatArray) -> FloatArray:
    """Gradient of the sine of the bearing, 1/m: the array axis across the line of sight, over the distance."""
    difference = position_m - receiver_m
    distance = np.linalg.norm(difference, axis=-1, keepdims=True)
    unit = difference / distance
    return np.asarray((axis - unit * np.sum(axis * unit, axis=-1, keepdims=True)) / distance)


def position_information(gradients: FloatArray, deviations: FloatArray) -> FloatArray:
    """Fisher information of a position from independent measurements, Σ g·gᵀ/σ².

    Parameters
    ----------
    gradients : float array, shape (measurement, dimension)
    deviations : float array > 0, shape (measurement,)
    """
    scaled = gradients / deviations[:, None]
    return np.asarray(scaled.T @ scaled)


def position_bound(information: FloatArray) -> float:
    """Smallest root-mean-square position error, √tr F⁻¹, in metres; infinite where F is singular."""
    if np.linalg.matrix_rank(information) < len(information):
        return float("inf")
    return float(np.sqrt(np.trace(np.linalg.inv(information))))


def angle_bound_two_antennas(snr: float, bearing_rad: float) -> float:
    """Deviation of one source's bearing at two antennas half a wavelength apart: 1/(π·cos(bearing)·√snr).

    ``snr`` is the cell's power ratio at one antenna. Source: methods.md §2 (derived there).
    """
    return float(1.0 / (np.pi * np.cos(bearing_rad) * np.sqrt(snr)))


def _towards(node: FloatArray, position: FloatArray) -> FloatArray:
    difference = position - node
    return np.asarray(difference / np.linalg.norm(difference, axis=-1, keepdims=True))
