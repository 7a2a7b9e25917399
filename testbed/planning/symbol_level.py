"""Symbol-level precoding of a signalling experiment: how near to full illumination users' symbols let it come."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import Cooperation
from dsp.network.design import Demand, target_vectors
from dsp.network.sensing_information import Geometry, InformationTerms, position_crlb
from dsp.network.symbol_level import constructive_vectors, sectors_kept

__all__ = ["SymbolLevel", "symbol_level"]

_SYMBOLS = 128
_HALVINGS = 14


@dataclass(frozen=True)
class SymbolLevel:
    """What symbols precoded one by one reach."""

    crlb_m2: float
    antenna_power: FloatArray
    """Mean over the symbols, shape (station, antenna)."""
    kept: FloatArray
    """Least Γ of each user over the symbols, shape (user,)."""


def symbol_level(geometry: Geometry, terms: InformationTerms, demand: Demand, *, seed: int = 0) -> SymbolLevel | None:
    """Vectors nearest to the target's illumination that keep every user's QPSK symbol inside its region.

    Every station is to aim at the target with phases of its own in every symbol, so that echoes are told apart; how
    strongly is the most that leaves no antenna above its mean power. None where users alone take more.

    Raises
    ------
    ValueError
        If the stations have no common phase, without which their fields do not add; or users cannot be told apart.

    Source: docs/methods/signalling.md eq. 9.
    """
    if demand.mode is not Cooperation.COHERENT:
        raise ValueError("symbol-level precoding takes stations with common phase")
    rng = np.random.default_rng([seed, 0x51])
    users, stations, antennas = demand.channels.shape
    sent = np.exp(1j * (pi / 4 + pi / 2 * rng.integers(4, size=(_SYMBOLS, users))))
    turns = np.exp(2j * pi * rng.random((_SYMBOLS, stations, 1)))
    aimed = np.sqrt(demand.antenna_power) * turns * target_vectors(geometry)
    flat = demand.channels.reshape(users, -1)

    def made(share: float) -> tuple[ComplexArray, FloatArray]:
        vectors = constructive_vectors(
            flat, sent, demand.sinr, demand.noise, wanted=share * aimed.reshape(_SYMBOLS, -1)
        )
        return vectors, np.mean(np.abs(vectors) ** 2, axis=0)

    low, high = 0.0, 1.0
    vectors, power = made(low)
    if power.max() > demand.antenna_power:
        return None
    for _ in range(_HALVINGS):
        share = 0.5 * (low + high)
        trial, spent = made(share)
        if spent.max() <= demand.antenna_power:
            low, vectors, power = share, trial, spent
        else:
            high = share
    split = vectors.reshape(_SYMBOLS, stations, antennas)
    lit = np.mean(np.abs(np.einsum("na,sna->sn", target_vectors(geometry).conj(), split)) ** 2, axis=0)
    kept = sectors_kept(flat, vectors, sent, demand.noise)
    return SymbolLevel(position_crlb(terms.at(lit)), power.reshape(stations, antennas), kept.min(axis=0))
