"""Cramér–Rao bounds of positions from bistatic delays and angles of arrival."""

from __future__ import annotations

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray

__all__ = ["angle_bound_two_antennas", "delay_gradient", "position_bound", "position_information", "sine_gradient"]


def delay_gradient(position_m: FloatArray, transmitter_m: FloatArray, receiver_m: FloatArray) -> FloatArray:
    """Gradient of the bistatic delay, s/m: sum of the unit vectors from both nodes to the target, over c.

    Zero on the baseline between the nodes, where the delay says nothing across it.
    """
    return np.asarray((_towards(transmitter_m, position_m) + _towards(receiver_m, position_m)) / SPEED_OF_LIGHT_MPS)


def sine_gradient(position_m: FloatArray, receiver_m: FloatArray, axis: FloatArray) -> FloatArray:
    """Gradient of the sine of the bearing, 1/m: the array axis across the line of sight, over the distance."""
    difference = position_m - receiver_m
    distance = float(np.linalg.norm(difference))
    unit = difference / distance
    return np.asarray((axis - unit * float(axis @ unit)) / distance)


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
    return np.asarray(difference / np.linalg.norm(difference))
