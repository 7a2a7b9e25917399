"""What stations learn of a target's position from the echoes of what they send, as a function of how they send it.

Every information here is linear in the powers with which the stations light the target up: J = J_0 + Σ_n q_n·J_n with
q_n = a_nᴴ·R_n·a_n, R_n the station's transmit covariance and a_n its steering vector towards the target. The first two
parameters are the position, the rest nuisance. That makes its design convex.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray

__all__ = ["Geometry", "InformationTerms", "illumination", "information_terms", "position_crlb", "steering"]


@dataclass(frozen=True)
class Geometry:
    """Stations about a target, in the plane."""

    stations_m: FloatArray
    """Shape (station, 2)."""
    headings_rad: FloatArray
    """Direction of each array's broadside, shape (station,)."""
    antennas: int
    """Of each station, half a wavelength apart, for sending and receiving."""
    target_m: FloatArray
    """Shape (2,)."""
    carrier_hz: float
    bandwidth_hz: float


@dataclass(frozen=True)
class InformationTerms:
    """J = ``prior`` + Σ_n q_n·``station[n]``."""

    prior: FloatArray
    """Shape (parameter, parameter)."""
    station: FloatArray
    """Information for a unit of illumination by each station, shape (station, parameter, parameter)."""

    def at(self, illumination: FloatArray) -> FloatArray:
        """Information for the illuminations, shape (station,)."""
        return np.asarray(self.prior + np.tensordot(illumination, self.station, axes=1))


def steering(bearing_rad: float, antennas: int) -> ComplexArray:
    """Steering vector of a half-wavelength array that sends, exp(-jπ·a·sin(bearing)), shape (antenna,).

    What precoders w bring there is its conjugate times w: antenna a, to the heading's left, is nearer to a place on
    that side, so that its wave comes with the phase +π·a·sin(bearing) of the conventions.
    """
    return np.asarray(np.exp(-1j * pi * np.arange(antennas) * np.sin(bearing_rad)))


def illumination(geometry: Geometry, covariances: ComplexArray) -> FloatArray:
    """Power a_nᴴ·R_n·a_n towards the target from transmit covariances (station, antenna, antenna), shape (station,)."""
    vectors = np.stack([steering(bearing, geometry.antennas) for bearing in _bearings(geometry)])
    return np.asarray(np.einsum("na,nab,nb->n", vectors.conj(), covariances, vectors).real)


def information_terms(
    geometry: Geometry, echo_snr: FloatArray, *, coherent: bool = False, timing_std_s: float = 0.0
) -> InformationTerms:
    """Information of all station-to-station echoes about the target's position, for a unit of illumination.

    Echoes of different transmitters are told apart at each receiver, each with its own amplitude. Non-coherent: their
    delays, by the band, and the sines of their bearings, by the receiving array. Coherent: their carrier phases too,
    known up to one that is common to all, which is a nuisance parameter. Timing errors: each station's clock error,
    Gaussian about zero, is a nuisance parameter with that prior; a link's delay errs by receiver's less transmitter's.

    Parameters
    ----------
    geometry : Geometry
    echo_snr : float array, shape (receiver, transmitter)
        Signal to noise ratio of an echo at one antenna, for a unit of illumination.
    coherent : bool, optional
        Phases are synchronized.
    timing_std_s : float ≥ 0, optional
        Deviation of each station's clock.

    Returns
    -------
    InformationTerms
        Parameters: x and y in metres; then the common phase in radians if coherent; then a clock error in seconds for
        each station if there is one.

    Source: survey eqs 27 to 29; docs/methods/signalling.md eq. 3 to eq. 5.
    """
    away = geometry.target_m - geometry.stations_m
    distance = np.linalg.norm(away, axis=1)
    unit = away / distance[:, None]
    axis = np.stack([-np.sin(geometry.headings_rad), np.cos(geometry.headings_rad)], axis=1)
    sine = (axis - unit * np.sum(axis * unit, axis=1, keepdims=True)) / distance[:, None]
    stations, m = len(distance), geometry.antennas
    size = 2 + coherent + (stations if timing_std_s > 0 else 0)
    prior = np.zeros((size, size))
    if timing_std_s > 0:
        prior[-stations:, -stations:] = np.eye(stations) / timing_std_s**2
    band = geometry.bandwidth_hz**2 / 12
    terms = np.zeros((stations, size, size))
    for transmitter in range(stations):
        for receiver in range(stations):
            snr = float(echo_snr[receiver, transmitter])
            delay = np.zeros(size)
            delay[:2] = (unit[transmitter] + unit[receiver]) / SPEED_OF_LIGHT_MPS
            phase = np.zeros(size)
            phase[:2] = -2 * pi * geometry.carrier_hz * delay[:2]
            if coherent:
                phase[2] = 1.0
            if timing_std_s > 0 and receiver != transmitter:
                delay[size - stations + receiver] += 1.0
                delay[size - stations + transmitter] -= 1.0
            bearing = np.zeros(size)
            bearing[:2] = sine[receiver]
            # Sums over the receiving antennas: of ones for delay and phase, of squared places for the bearing.
            terms[transmitter] += 8 * pi**2 * band * m * snr * np.outer(delay, delay)
            terms[transmitter] += pi**2 * m * (m**2 - 1) / 6 * snr * np.outer(bearing, bearing)
            if coherent:
                terms[transmitter] += 2 * m * snr * np.outer(phase, phase)
    return InformationTerms(prior, terms)


def position_crlb(information: FloatArray) -> float:
    """Bound of the squared position error in m²: trace of the inverse's first two by two; inf where singular."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information / np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1e13:
        return float("inf")
    inverse = np.linalg.inv(scaled) / np.outer(scale, scale)
    return float(np.trace(inverse[:2, :2]))


def _bearings(geometry: Geometry) -> FloatArray:
    away = geometry.target_m - geometry.stations_m
    return np.asarray(np.arctan2(away[:, 1], away[:, 0]) - geometry.headings_rad)
