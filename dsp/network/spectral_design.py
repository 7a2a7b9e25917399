"""Precoders that differ over the band: what is sent on each block of subcarriers, for users and a target at once.

A target's delay is told by the spread of power over the band, its bearing by power alone; users' channels turn over the
band where stations at different distances serve them with common phase. The design is the one of `dsp.network.design`
with covariances on every block, and an echo's unknown phase as a parameter of its own, which keeps the information
linear in the powers (docs/methods/signalling.md eq. 8).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import import_module
from math import pi
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import Cooperation, sinr
from dsp.network.design import (
    Demand,
    InfeasibleError,
    infeasible,
    least_power,
    recovered,
    service,
    target_vectors,
)
from dsp.network.sensing_information import Geometry, position_crlb

__all__ = ["SpectralDesign", "Spectrum", "design_over_band", "spectral_crlb", "spectral_terms"]


class Spectrum(StrEnum):
    """What may differ over the band."""

    OPTIMAL = "optimal"
    """Directions and powers."""
    ORTHOGONAL = "orthogonal"
    """The same, but stations' sensing streams take turns over the blocks, so that frequency tells echoes apart."""
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
    ModuleNotFoundError
        If cvxpy is not installed.

    Source: survey eq. 30 and its per-subcarrier variants; docs/methods/signalling.md eq. 6, eq. 7 and eq. 8.
    """
    cp: Any = import_module("cvxpy")

    begin = time.process_time()
    count, users, stations, antennas = channels.shape
    everything = np.arange(stations * antennas)
    parts = [everything] if demand.mode is Cooperation.COHERENT else list(everything.reshape(stations, -1))
    demands = [replace(demand, channels=one) for one in channels]
    size = len(parts[0])
    streams = [
        [[cp.Variable((size, size), hermitian=True) for _ in parts] for _ in range(users + 1)] for _ in range(count)
    ]
    constraints: list[Any] = [one >> 0 for block in streams for stream in block for one in stream]
    for one, block in zip(demands, streams, strict=True):
        constraints += service(cp, one, block, parts)
    totals = [[sum(stream[index] for stream in block) for index in range(len(parts))] for block in streams]
    if spectrum is Spectrum.BEAMFORMING:
        constraints += [cp.real(cp.diag(total)) <= 1.0 for block in totals for total in block]
    else:
        constraints += [sum(cp.real(cp.diag(block[index])) for block in totals) <= count for index in range(len(parts))]
    if spectrum is Spectrum.ORTHOGONAL:
        constraints += _turns(cp, streams, stations, antennas)
    lit = [
        [_lit(cp, block, station, vector, antennas) for station, vector in enumerate(target_vectors(geometry))]
        for block in totals
    ]
    objective, schur, unit = _position_error(cp, terms, demand, lit, antennas)
    problem = cp.Problem(cp.Minimize(objective), [*constraints, schur])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an inaccurate solution: the gap says what it is worth
        try:
            problem.solve(solver=cp.CLARABEL)
        except cp.error.SolverError:
            if max(least_power(cp, one, parts) for one in demands) <= 1.0:
                raise
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise InfeasibleError(infeasible(demand))
    precoders = _padded(
        [
            recovered(one, [[np.array(w.value, dtype=complex) for w in stream] for stream in block], parts)
            for one, block in zip(demands, streams, strict=True)
        ]
    ) * np.sqrt(demand.antenna_power)
    return SpectralDesign(
        precoders=precoders,
        crlb_m2=spectral_crlb(geometry, terms, precoders),
        bound_m2=float(problem.value) * unit,
        sinr=np.stack([sinr(h, w, demand.noise, demand.mode) for h, w in zip(channels, precoders, strict=True)]),
        antenna_power=(np.abs(precoders) ** 2).sum(axis=1).mean(axis=0),
        seconds=time.process_time() - begin,
    )


def spectral_crlb(geometry: Geometry, terms: FloatArray, precoders: ComplexArray) -> float:
    """Bound of the squared position error in m² by precoders of shape (block, stream, station, antenna)."""
    vectors = np.stack(target_vectors(geometry))
    lit = (np.abs(np.einsum("na,ksna->ksn", vectors.conj(), precoders)) ** 2).sum(axis=1)
    return position_crlb(np.einsum("kn,nkij->ij", lit, terms))


def _turns(cp: Any, streams: list[list[list[Any]]], stations: int, antennas: int) -> list[Any]:
    """Sensing covariances that are zero but for the station whose turn a block is."""
    constraints = []
    for number, block in enumerate(streams):
        sensing = block[-1]
        for station in range(stations):
            if station == number % stations:
                continue
            if len(sensing) == 1:
                own = slice(station * antennas, (station + 1) * antennas)
                constraints.append(cp.real(cp.trace(sensing[0][own, own])) == 0)
            else:
                constraints.append(sensing[station] == 0)
    return constraints


def _lit(cp: Any, totals: list[Any], station: int, vector: ComplexArray, antennas: int) -> Any:
    own = slice(station * antennas, (station + 1) * antennas)
    total = totals[0][own, own] if len(totals) == 1 else totals[station]
    return cp.real(cp.trace(np.outer(vector, vector.conj()) @ total))


def _position_error(
    cp: Any, terms: FloatArray, demand: Demand, lit: list[list[Any]], antennas: int
) -> tuple[Any, Any, float]:
    """Trace of the position's block of the inverse information, the constraint that makes it so, and its unit."""
    full = np.diag(terms.sum(axis=(0, 1))) * demand.antenna_power * antennas
    scale = 1 / np.sqrt(np.maximum(full, 1e-300))
    scale[:2] = np.sqrt(np.mean(scale[:2] ** 2))
    both = np.outer(scale, scale) * demand.antenna_power
    information = sum(
        power * (terms[station, block] * both) for block, row in enumerate(lit) for station, power in enumerate(row)
    )
    bound = cp.Variable((2, 2), symmetric=True)
    select = np.eye(len(scale))[:, :2]
    return cp.trace(bound), cp.bmat([[bound, select.T], [select, information]]) >> 0, float(scale[0] ** 2)


def _padded(parts: list[ComplexArray]) -> ComplexArray:
    """Precoders of all blocks with as many streams each, silent ones added."""
    streams = max(len(part) for part in parts)
    return np.stack([np.pad(part, ((0, streams - len(part)), (0, 0), (0, 0))) for part in parts])
