"""Precoders that differ over the band: what is sent on each block of subcarriers, for users and a target at once.

A target's delay is told by the spread of power over the band, its bearing by power alone; users' channels turn over the
band where stations at different distances serve them with common phase. The design is the one of `dsp.network.design`
with covariances on every block, and an echo's unknown phase as a parameter of its own, which keeps the information
linear in the powers (docs/methods/signalling.md eq. 8).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from math import pi

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import sinr
from dsp.network.design import target_vectors
from dsp.network.relaxation import Demand, Limits, relaxed
from dsp.network.sensing_information import Geometry, position_crlb

__all__ = ["SpectralDesign", "Spectrum", "design_over_band", "spectral_crlb", "spectral_terms"]


class Spectrum(StrEnum):
    """What may differ over the band."""

    OPTIMAL = "optimal"
    """Directions and powers."""
    ORTHOGONAL = "orthogonal"
    """The same, but stations light the target in turns over the blocks, so that frequency tells echoes apart; the
    others keep what they send to users off it."""
    BEAMFORMING = "beamforming"
    """Directions alone: every block keeps to its share of each antenna's power."""


@dataclass(frozen=True)
class SpectralDesign:
    """Precoders of every block and what they reach."""

    precoders: ComplexArray
    """Shape (block, stream, station, antenna), users' streams first, in roots of power over the whole band."""
    crlb_m2: float
    bound_m2: float
    """Of the relaxation: no precoders do better."""
    sinr: FloatArray
    """Shape (block, user)."""
    antenna_power: FloatArray
    """Mean over the blocks, shape (station, antenna)."""
    seconds: float

    @property
    def gap(self) -> float:
        """How far above the best possible at the most, as a share."""
        return self.crlb_m2 / self.bound_m2 - 1


def spectral_terms(geometry: Geometry, echo_snr: FloatArray, block_hz: FloatArray) -> FloatArray:
    """Information for a unit of illumination by each station on each block, (station, block, parameter, parameter).

    Parameters are x and y in metres and the phase in radians of every echo, receivers first; each echo's amplitude is
    free and independent of them. J = Σ q_nk·term[n, k], q_nk = a_nᴴ·R_nk·a_n over the whole band, means over blocks.

    Parameters
    ----------
    geometry : Geometry
    echo_snr : float array, shape (receiver, transmitter)
        Signal to noise ratio of an echo at one antenna, for a unit of illumination over the whole band.
    block_hz : float array, shape (block,)
        Middle of each block, from the carrier.

    Source: docs/methods/signalling.md eq. 8 (derived).
    """
    away = geometry.target_m - geometry.stations_m
    distance = np.linalg.norm(away, axis=1)
    unit = away / distance[:, None]
    axis = np.stack([-np.sin(geometry.headings_rad), np.cos(geometry.headings_rad)], axis=1)
    sine = (axis - unit * np.sum(axis * unit, axis=1, keepdims=True)) / distance[:, None]
    stations, m, blocks = len(distance), geometry.antennas, len(block_hz)
    # A block is as wide as its share: what delay is told by within it adds to its middle's.
    within = (geometry.bandwidth_hz / blocks) ** 2 / 12
    terms = np.zeros((stations, blocks, 2 + stations**2, 2 + stations**2))
    for transmitter in range(stations):
        for receiver in range(stations):
            snr = float(echo_snr[receiver, transmitter]) / blocks
            delay = np.zeros(terms.shape[-1])
            delay[:2] = (unit[transmitter] + unit[receiver]) / SPEED_OF_LIGHT_MPS
            bearing = np.zeros_like(delay)
            bearing[:2] = sine[receiver]
            phase = np.zeros_like(delay)
            phase[2 + receiver * stations + transmitter] = 1.0
            for block, frequency in enumerate(block_hz):
                slope = phase - 2 * pi * frequency * delay
                terms[transmitter, block] += 2 * m * snr * np.outer(slope, slope)
                terms[transmitter, block] += 8 * pi**2 * within * m * snr * np.outer(delay, delay)
                terms[transmitter, block] += pi**2 * m * (m**2 - 1) / 6 * snr * np.outer(bearing, bearing)
    return terms


def design_over_band(
    geometry: Geometry, terms: FloatArray, channels: ComplexArray, demand: Demand, spectrum: Spectrum
) -> SpectralDesign:
    """Design by semidefinite relaxation over all blocks at once, and exact recovery on each.

    Parameters
    ----------
    geometry : Geometry
    terms : float array
        Of `spectral_terms`.
    channels : complex array, shape (block, user, station, antenna)
        In place of ``demand.channels``; every user's demand holds on every block.
    demand : Demand
    spectrum : Spectrum

    Raises
    ------
    InfeasibleError
        If the demands cannot be met.
    UnsolvedError
        If the solver fails.
    ModuleNotFoundError
        If cvxpy is not installed.

    Source: survey eq. 30 and its per-subcarrier variants; docs/methods/signalling.md eq. 6, eq. 7 and eq. 8.
    """
    begin = time.process_time()
    stations = len(geometry.stations_m)
    found = relaxed(
        [replace(demand, channels=one) for one in channels],
        terms,
        np.zeros(terms.shape[-2:]),
        target_vectors(geometry),
        Limits(
            each_block=spectrum is Spectrum.BEAMFORMING,
            turn=(lambda block: block % stations) if spectrum is Spectrum.ORTHOGONAL else None,
        ),
    )
    precoders = _padded(found.precoders)
    return SpectralDesign(
        precoders=precoders,
        crlb_m2=spectral_crlb(geometry, terms, precoders),
        bound_m2=found.bound_m2,
        sinr=np.stack([sinr(h, w, demand.noise, demand.mode) for h, w in zip(channels, precoders, strict=True)]),
        antenna_power=(np.abs(precoders) ** 2).sum(axis=1).mean(axis=0),
        seconds=time.process_time() - begin,
    )


def spectral_crlb(geometry: Geometry, terms: FloatArray, precoders: ComplexArray) -> float:
    """Bound of the squared position error in m² by precoders of shape (block, stream, station, antenna)."""
    vectors = target_vectors(geometry)
    lit = (np.abs(np.einsum("na,ksna->ksn", vectors.conj(), precoders)) ** 2).sum(axis=1)
    return position_crlb(np.einsum("kn,nkij->ij", lit, terms))


def _padded(parts: list[ComplexArray]) -> ComplexArray:
    """Precoders of all blocks with as many streams each, silent ones added."""
    streams = max(len(part) for part in parts)
    return np.stack([np.pad(part, ((0, streams - len(part)), (0, 0), (0, 0))) for part in parts])
