"""Signal to interference and noise of users whom stations serve together, by how closely the stations cooperate.

Precoders stand in one array of shape (stream, station, antenna): what each station sends of each stream. The first
streams are the users', one each in their order; any further ones carry nothing for users and serve sensing alone.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from dsp.channel import ComplexArray, FloatArray

__all__ = ["Cooperation", "sinr", "sinr_over_band"]


class Cooperation(StrEnum):
    """How stations share users."""

    COORDINATED = "coordinated"
    """Each user has one station; the others spare it interference (CBF): channel knowledge is shared."""
    NON_COHERENT = "non-coherent"
    """All stations send to all users, symbols independent between stations (NCJT): data is shared, phase is not."""
    COHERENT = "coherent"
    """All stations send the same symbols with common phase (CJT)."""


def sinr(channels: ComplexArray, precoders: ComplexArray, noise: float, mode: Cooperation) -> FloatArray:
    """Signal to interference and noise ratio of each user, as a power ratio, shape (user,).

    Parameters
    ----------
    channels : complex array, shape (user, station, antenna)
        From every station's antennas to each user; what a user receives of a stream is Σ conj(channel)·precoder.
    precoders : complex array, shape (stream ≥ user, station, antenna)
    noise : float > 0
        Power at a user.
    mode : Cooperation
        Coherent fields of the stations add before they are squared, else after. Coordinated users count as
        non-coherent ones whose precoders are zero at all stations but one.

    Source: survey eqs 24 (coordinated), 25 (non-coherent), 26 (coherent); docs/methods/signalling.md eq. 1, eq. 2.
    """
    heard = np.einsum("una,sna->usn", channels.conj(), precoders)
    power = np.abs(heard.sum(axis=2)) ** 2 if mode is Cooperation.COHERENT else (np.abs(heard) ** 2).sum(axis=2)
    users = np.arange(len(channels))
    wanted = power[users, users]
    return np.asarray(wanted / (power.sum(axis=1) - wanted + noise))


def sinr_over_band(
    channels: ComplexArray,
    precoders: ComplexArray,
    noise: float,
    *,
    stream: int,
    offset_hz: FloatArray,
    delay_s: FloatArray,
    phase_rad: FloatArray,
) -> float:
    """Signal to interference and noise ratio of a user whom stations serve coherently with offsets left between them.

    A station that is late by δ and ahead by φ turns its field by φ - 2π·f·δ at f from the carrier. Powers are summed
    over the band before the ratio is formed, as a receiver measures it.

    Parameters
    ----------
    channels : complex array, shape (subcarrier, station, antenna)
        From every station's antennas to the user, conjugate as in `sinr`.
    precoders : complex array, shape (subcarrier, stream, station, antenna)
        In roots of power over the whole band.
    noise : float > 0
        Power at the user over the whole band.
    stream : int
        The user's own.
    offset_hz : float array, shape (subcarrier,)
        From the carrier.
    delay_s, phase_rad : float arrays, shape (station,)

    Source: docs/methods/signalling.md eq. 14 (derived).
    """
    turned = np.exp(1j * (phase_rad - 2 * np.pi * offset_hz[:, None] * delay_s))
    power = np.abs(np.einsum("kna,ksna,kn->ks", channels.conj(), precoders, turned)) ** 2
    wanted = float(power[:, stream].sum())
    return wanted / (float(power.sum()) - wanted + len(channels) * noise)
