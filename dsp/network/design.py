"""Precoders that locate a target as well as users' demands and the antennas' power allow.

Minimise tr of the position's block of J⁻¹ subject to every user's SINR and every antenna's power. In covariances the
problem is a semidefinite one, and dedicated sensing streams make its relaxation exact: from any solution users' streams
of rank one are cut out that keep each wanted power and the total (docs/methods/signalling.md eq. 7).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import Cooperation, sinr
from dsp.network.sensing_information import Geometry, InformationTerms, position_crlb, steering

IntArray = NDArray[np.integer]

__all__ = [
    "Demand",
    "Design",
    "InfeasibleError",
    "design_precoders",
    "infeasible",
    "least_power",
    "recovered",
    "service",
    "target_vectors",
]

_NOTHING = 1e-9
"""Share of an antenna's power below which a stream is the solver's remainder, and left out."""


class InfeasibleError(ValueError):
    """No precoders meet the users' demands within the antennas' power; the text says so."""


@dataclass(frozen=True)
class Demand:
    """What a design has to keep."""

    channels: ComplexArray
    """Shape (user, station, antenna)."""
    noise: float
    """Power at a user."""
    sinr: FloatArray
    """Least power ratio of each user, shape (user,)."""
    antenna_power: float
    """Most that an antenna sends."""
    mode: Cooperation = Cooperation.COHERENT
    serving: tuple[int, ...] = ()
    """Station of each user, where they are coordinated; the nearest in channel power if empty."""

    def stations_of(self, user: int) -> list[int]:
        """Stations that send to a user."""
        count = self.channels.shape[1]
        if self.mode is not Cooperation.COORDINATED:
            return list(range(count))
        if self.serving:
            return [self.serving[user]]
        return [int(np.argmax((np.abs(self.channels[user]) ** 2).sum(axis=1)))]


@dataclass(frozen=True)
class Design:
    """Precoders and what they reach."""

    precoders: ComplexArray
    """Shape (stream, station, antenna), users' streams first."""
    crlb_m2: float
    bound_m2: float
    """Of the relaxation: no precoders do better."""
    sinr: FloatArray
    antenna_power: FloatArray
    """Shape (station, antenna)."""
    seconds: float

    @property
    def gap(self) -> float:
        """How far above the best possible at the most, as a share."""
        return self.crlb_m2 / self.bound_m2 - 1


def design_precoders(geometry: Geometry, terms: InformationTerms, demand: Demand) -> Design:
    """Design by semidefinite relaxation and exact recovery of rank-one users' streams.

    Raises
    ------
    InfeasibleError
        If the demands cannot be met.
    ModuleNotFoundError
        If cvxpy is not installed.

    Source: survey eq. 30; relaxation and recovery, docs/methods/signalling.md eq. 6 and eq. 7.
    """
    # Imported by name: its types and its untyped parts would be strangers in a strictly typed tree.
    cp: Any = import_module("cvxpy")

    begin = time.process_time()
    users, stations, antennas = demand.channels.shape
    # One block over all antennas where fields add coherently, else one for each station.
    everything = np.arange(stations * antennas)
    blocks = [everything] if demand.mode is Cooperation.COHERENT else list(everything.reshape(stations, -1))
    size = len(blocks[0])
    streams = [[cp.Variable((size, size), hermitian=True) for _ in blocks] for _ in range(users + 1)]
    constraints: list[Any] = [one >> 0 for stream in streams for one in stream]
    constraints += service(cp, demand, streams, blocks)
    totals = [sum(stream[index] for stream in streams) for index in range(len(blocks))]
    constraints += [cp.real(cp.diag(total)) <= 1.0 for total in totals]
    lit = []
    for station, vector in enumerate(target_vectors(geometry)):
        own = slice(station * antennas, (station + 1) * antennas)
        total = totals[0][own, own] if len(blocks) == 1 else totals[station]
        lit.append(cp.real(cp.trace(np.outer(vector, vector.conj()) @ total)))
    objective, schur = _position_error(cp, geometry, terms, demand, lit)
    problem = cp.Problem(cp.Minimize(objective), [*constraints, schur])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an inaccurate solution: the gap says what it is worth
        try:
            problem.solve(solver=cp.CLARABEL)
        except cp.error.SolverError:
            # Demands that no power meets end there too, now and then: the service alone says which it was.
            if least_power(cp, demand, blocks) <= 1.0:
                raise
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise InfeasibleError(infeasible(demand))
    matrices = [[np.array(one.value, dtype=complex) for one in stream] for stream in streams]
    precoders = recovered(demand, matrices, blocks) * np.sqrt(demand.antenna_power)
    lit_power = (np.abs(np.einsum("na,sna->sn", np.stack(target_vectors(geometry)).conj(), precoders)) ** 2).sum(axis=0)
    return Design(
        precoders=precoders,
        crlb_m2=position_crlb(terms.at(lit_power)),
        bound_m2=float(problem.value) * float(_scale(geometry, terms, demand)[0] ** 2),
        sinr=sinr(demand.channels, precoders, demand.noise, demand.mode),
        antenna_power=(np.abs(precoders) ** 2).sum(axis=0),
        seconds=time.process_time() - begin,
    )


def service(cp: Any, demand: Demand, streams: list[list[Any]], blocks: list[IntArray]) -> list[Any]:
    """Constraints that give every user its SINR, by the stations that may send to it."""
    users = len(demand.channels)
    flat = demand.channels.reshape(users, int(np.prod(demand.channels.shape[1:])))
    flat = flat / np.sqrt(demand.noise / demand.antenna_power)
    constraints = []
    for user in range(users):
        if demand.mode is not Cooperation.COHERENT:
            silent = set(range(len(blocks))) - set(demand.stations_of(user))
            constraints += [streams[user][index] == 0 for index in silent]
        seen = [np.outer(flat[user, block], flat[user, block].conj()) for block in blocks]
        heard = [
            sum(cp.real(cp.trace(one @ matrix)) for one, matrix in zip(seen, stream, strict=True)) for stream in streams
        ]
        others = sum(power for index, power in enumerate(heard) if index != user)
        constraints.append(heard[user] >= demand.sinr[user] * (others + 1.0))
    return constraints


def least_power(cp: Any, demand: Demand, blocks: list[IntArray]) -> float:
    """Least power of the strongest antenna, as a share of what it may send, that gives every user its SINR; inf where
    none does."""
    size, users = len(blocks[0]), len(demand.channels)
    streams = [[cp.Variable((size, size), hermitian=True) for _ in blocks] for _ in range(users)]
    share = cp.Variable()
    constraints: list[Any] = [one >> 0 for stream in streams for one in stream]
    constraints += service(cp, demand, streams, blocks)
    constraints += [cp.real(cp.diag(sum(stream[index] for stream in streams))) <= share for index in range(len(blocks))]
    problem = cp.Problem(cp.Minimize(share), constraints)
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.error.SolverError:
        return float("inf")
    return float(problem.value) if problem.status in ("optimal", "optimal_inaccurate") else float("inf")


def _position_error(
    cp: Any, geometry: Geometry, terms: InformationTerms, demand: Demand, lit: list[Any]
) -> tuple[Any, Any]:
    """Trace of the position's block of the inverse information, by Schur's complement, in units of the scale."""
    scale = _scale(geometry, terms, demand)
    both = np.outer(scale, scale)
    information = terms.prior * both + sum(
        power * (one * both * demand.antenna_power) for power, one in zip(lit, terms.station, strict=True)
    )
    bound = cp.Variable((2, 2), symmetric=True)
    select = np.eye(len(scale))[:, :2]
    return cp.trace(bound), cp.bmat([[bound, select.T], [select, information]]) >> 0


def _scale(geometry: Geometry, terms: InformationTerms, demand: Demand) -> FloatArray:
    """Of each parameter, that brings the information with every antenna on to about one; one for both coordinates."""
    full = np.diag(terms.at(np.full(len(terms.station), demand.antenna_power * geometry.antennas)))
    scale: FloatArray = 1 / np.sqrt(full)
    scale[:2] = np.sqrt(np.mean(scale[:2] ** 2))
    return scale


def target_vectors(geometry: Geometry) -> list[ComplexArray]:
    """Steering vector of each station towards the target."""
    away = geometry.target_m - geometry.stations_m
    bearings = np.arctan2(away[:, 1], away[:, 0]) - geometry.headings_rad
    return [steering(float(bearing), geometry.antennas) for bearing in bearings]


def recovered(demand: Demand, matrices: list[list[ComplexArray]], blocks: list[IntArray]) -> ComplexArray:
    """Users' streams of rank one that keep h·W·h, and sensing streams that make up the total."""
    users, stations, antennas = demand.channels.shape
    flat = demand.channels.reshape(users, stations * antennas)
    sensing = []
    made: list[ComplexArray] = []
    rest = list(matrices[users])
    for user in range(users):
        vector = np.zeros(stations * antennas, dtype=complex)
        for index, block in enumerate(blocks):
            matrix = 0.5 * (matrices[user][index] + matrices[user][index].conj().T)
            h = flat[user, block]
            wanted = float((h.conj() @ matrix @ h).real)
            if wanted > _NOTHING * float((np.abs(h) ** 2).sum()):
                vector[block] = matrix @ h / np.sqrt(wanted)
            rest[index] = rest[index] + matrix - np.outer(vector[block], vector[block].conj())
        made.append(vector)
    for index, block in enumerate(blocks):
        values, directions = np.linalg.eigh(0.5 * (rest[index] + rest[index].conj().T))
        for value, direction in zip(values, directions.T, strict=True):
            if value > _NOTHING:
                stream = np.zeros(stations * antennas, dtype=complex)
                stream[block] = np.sqrt(value) * direction
                sensing.append(stream)
    return np.array([*made, *sensing]).reshape(-1, stations, antennas)


def infeasible(demand: Demand) -> str:
    """Sentence on demands that no precoders meet."""
    wanted = ", ".join(f"{10 * np.log10(one):.1f} dB" for one in demand.sinr)
    return (
        f"no precoders give the users {wanted} with {demand.antenna_power:g} W an antenna: ask for less, or more power"
    )
