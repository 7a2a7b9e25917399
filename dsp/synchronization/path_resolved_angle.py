"""Static paths told apart by their direction at the array, whose projections isolate each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.path_resolved_alignment import Aligned
from dsp.synchronization.path_resolved_delay import StaticPaths, static_paths

__all__ = ["StaticDirections", "first_antenna_lag_s", "static_directions"]

_CLOSEST_BEAMS = 0.3
_SAME_BEAM_CELLS = 0.5
"""Separation in delay from which two paths of one direction are fitted side by side."""


@dataclass(frozen=True)
class StaticDirections:
    """Directions of the static paths, and the paths in the beam of the strongest."""

    phase_steps_rad: FloatArray
    """Phase from one antenna to the next, by falling power: 2π·fc/c·spacing·sin(bearing)."""
    reference: StaticPaths
    """Paths in the strongest direction, the others projected out."""
    unresolved: bool
    """More directions than the array can tell apart."""


def static_directions(state: Aligned) -> StaticDirections:
    """Directions of the static channel by deterministic maximum likelihood, and its strongest beam.

    Over a uniform array a direction is what a delay is over frequency, its waveform over the subcarriers free: the
    same successive fit finds it. The projection that passes the strongest direction and nulls the others leaves
    its paths, whose delay the subcarriers give although they do not resolve the scene. A wave front that reaches the
    antennas at different times turns from one to the next by 2π·(fc + f)·lateness: with the phase that much steeper
    at higher frequencies the waveforms are those at the first antenna, and so is the delay. Antennas further apart
    than half a wavelength leave whole turns open, each of them one period of the carrier.

    Raises
    ------
    ValueError
        If there are fewer than two antennas.
    """
    antennas = state.static.shape[0]
    if antennas < 2:
        raise ValueError("directions need two antennas")
    known = state.static_weights > 0.0
    frequency, weights = state.csi.subcarrier_hz[known], state.static_weights[known]
    directions = static_paths(
        np.arange(antennas, dtype=np.float64),
        state.static[:, known].T,
        weights=1.0 / state.csi.noise,
        noise=1.0 / weights,
        closest_cells=_CLOSEST_BEAMS,
        stretch=1.0 + frequency / float(state.csi.carrier_hz),
    )
    columns = np.exp(-2j * np.pi * np.outer(np.arange(antennas), directions.delays_s))
    whitened = columns / np.sqrt(state.csi.noise)[:, None]
    # the projection passes noise of this variance for weight one
    noise = float(np.linalg.inv(whitened.conj().T @ whitened)[0, 0].real)
    beam = static_paths(
        frequency,
        directions.amplitudes[:, 0][None, :],
        weights=weights,
        noise=np.array([noise]),
        closest_cells=_SAME_BEAM_CELLS,
    )
    return StaticDirections(
        phase_steps_rad=-2.0 * np.pi * directions.delays_s,
        reference=beam,
        unresolved=directions.unresolved,
    )


def first_antenna_lag_s(amplitudes: ComplexArray, noise: FloatArray, carrier_hz: float) -> float:
    """Delay of a path at the first antenna beyond that of a fit with one delay for all, in seconds.

    The fit's delay is the mean over the antennas, weighted by their SNR. The wave is at each of them earlier than at
    the one before by what the phase from antenna to antenna, at the carrier, says.

    Parameters
    ----------
    amplitudes : complex array, shape (antenna,)
        Of a uniform line, half a wavelength or less from antenna to antenna.
    noise : float array, shape (antenna,)
    carrier_hz : float > 0
    """
    step_rad = float(np.angle(np.sum(amplitudes[1:] * amplitudes[:-1].conj())))
    weights = np.abs(amplitudes) ** 2 / noise
    place = float(np.average(np.arange(len(amplitudes)), weights=weights)) if weights.any() else 0.0
    return step_rad * place / (2.0 * np.pi * carrier_hz)
