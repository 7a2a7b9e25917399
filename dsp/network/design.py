"""Precoders that locate a target as well as users' demands and the antennas' power allow.

Minimise tr of the position's block of J⁻¹ subject to every user's SINR and every antenna's power. In covariances the
problem is a semidefinite one, and dedicated sensing streams make its relaxation exact: from any solution users' streams
of rank one are cut out that keep each wanted power and the total (docs/methods/signalling.md eq. 7).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import sinr
from dsp.network.relaxation import Demand, InfeasibleError, UnsolvedError, relaxed
from dsp.network.sensing_information import Geometry, InformationTerms, position_crlb, steering

__all__ = ["Demand", "Design", "InfeasibleError", "UnsolvedError", "design_precoders", "target_vectors"]


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
    UnsolvedError
        If the solver fails.
    ModuleNotFoundError
        If cvxpy is not installed.

    Source: survey eq. 30; relaxation and recovery, docs/methods/signalling.md eq. 6 and eq. 7.
    """
    begin = time.process_time()
    vectors = target_vectors(geometry)
    found = relaxed([demand], terms.station[:, None], terms.prior, vectors)
    precoders = found.precoders[0]
    lit_power = (np.abs(np.einsum("na,sna->sn", vectors.conj(), precoders)) ** 2).sum(axis=0)
    return Design(
        precoders=precoders,
        crlb_m2=position_crlb(terms.at(lit_power)),
        bound_m2=found.bound_m2,
        sinr=sinr(demand.channels, precoders, demand.noise, demand.mode),
        antenna_power=(np.abs(precoders) ** 2).sum(axis=0),
        seconds=time.process_time() - begin,
    )


def target_vectors(geometry: Geometry) -> ComplexArray:
    """Steering vector of each station towards the target, shape (station, antenna)."""
    away = geometry.target_m - geometry.stations_m
    bearings = np.arctan2(away[:, 1], away[:, 0]) - geometry.headings_rad
    return np.stack([steering(float(bearing), geometry.antennas) for bearing in bearings])
