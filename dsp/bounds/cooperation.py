"""Bound of the time offset from scatterers that a node's own echo locates (methods section 3.5)."""

from __future__ import annotations

from math import sqrt

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray

__all__ = ["cooperation_std_s", "predicted_delay_std_s"]


def cooperation_std_s(passive_std_s: FloatArray, predicted_std_s: FloatArray) -> float:
    """Bound on the time offset: [Σ_u 1/(var(tau_p,u) + var(g_u))]^-½; arrays of shape (scatterer,)."""
    return 1.0 / sqrt(float(np.sum(1.0 / (passive_std_s**2 + predicted_std_s**2))))


def predicted_delay_std_s(
    bistatic_angle_rad: FloatArray, distance_m: FloatArray, active_std_s: FloatArray | float, angle_std_rad: FloatArray
) -> FloatArray:
    """Deviation of the bistatic delay predicted: var ≈ ((1+cosβ)/2)²·var(tau_a) + (d·sinβ/c)²·var(θ).

    ``distance_m`` is from the active node to the scatterer, ``active_std_s`` of the round trip, β the angle at the
    scatterer between the two nodes. Shape (scatterer,) all; one ``active_std_s`` may serve all.
    """
    along = 0.5 * (1.0 + np.cos(bistatic_angle_rad)) * active_std_s
    across = distance_m * np.sin(bistatic_angle_rad) / SPEED_OF_LIGHT_MPS * angle_std_rad
    return np.asarray(np.hypot(along, across))
