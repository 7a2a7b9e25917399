"""Position of one target from the echoes of signals that stations know, by maximum likelihood over the plane.

Every station hears every other over the line of sight, itself over its leakage, and the target's echo of each. All
signals sent are known. Amplitudes of echoes, lines of sight and leakages are free, noise levels too: what is left is a
likelihood of the position alone, in which antennas stand where they stand, near fields included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import pi

import numpy as np
from scipy.optimize import minimize

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray

__all__ = ["EchoPosition", "Hearing", "Illumination", "locate_by_echoes", "position_bound"]

_GRID_CELLS = 0.15
"""Step of the search in units of the band's resolution c/B: the likelihood's peak is some half of it wide."""
_DELAY_CELLS = 1 / 16
"""Step of the delays that the search looks at, in units of 1/B."""
_TOO_NEAR_M = 1.0
_ALIGNMENTS = 2
"""Times that the zeros of the delays are found anew from the lines of sight, the target where it was found."""
_SLOPE_M = 1e-4
"""Step of the echoes' derivatives."""
_DIFFERENCE_M = 5e-3
"""Step of the likelihood's curvature."""


@dataclass(frozen=True)
class Illumination:
    """What stations send, and from where."""

    sent: ComplexArray
    """Elements of each antenna, shape (station, antenna, symbol, subcarrier)."""
    antennas_m: FloatArray
    """Shape (station, antenna, 2)."""
    carrier_hz: float
    subcarrier_hz: FloatArray
    """From the carrier, shape (subcarrier,)."""


@dataclass(frozen=True)
class Hearing:
    """What one station received of it."""

    station: int
    received: ComplexArray
    """Shape (antenna, symbol, subcarrier)."""
    antennas_m: FloatArray
    """Shape (antenna, 2)."""
    zero_s: FloatArray
    """Delay at which a path of no length from each station would be seen, shape (station,): its own exactly, those of
    the others to well below the band's resolution."""
    leakage_s: float = 0.0
    """Delay of its own leakage beyond that."""


@dataclass(frozen=True)
class EchoPosition:
    """Where the target is."""

    position_m: FloatArray
    """Shape (2,)."""
    covariance_m2: FloatArray
    """From the likelihood's curvature, shape (2, 2)."""
    gain: float
    """Logarithm of the likelihood over that without a target."""


class _Heard:
    """Correlations of one hearing with everything sent, and with what is not an echo."""

    def __init__(self, hearing: Hearing, light: Illumination, gram: ComplexArray) -> None:
        self._light, self._hearing, self._gram = light, hearing, gram
        sent, received = light.sent, hearing.received
        stations, antennas = sent.shape[:2]
        self._told = np.einsum("nalk,blk->nabk", sent.conj(), received, dtype=complex, optimize=True)
        self.correlations = self._told
        steady: list[ComplexArray] = []
        self._others = [station for station in range(stations) if station != hearing.station]
        # Places of those stations' lines of sight among the steady signals.
        self._sights: list[int] = []
        for station in range(stations):
            if station != hearing.station:
                apart = np.linalg.norm(light.antennas_m[station][:, None] - hearing.antennas_m, axis=-1)
                vector = np.zeros(self.correlations.shape, dtype=complex)
                vector[station] = self._waves(apart, station)
                self._sights.append(len(steady))
                steady.append(vector)
                continue
            turn = np.exp(-2j * pi * light.subcarrier_hz * (hearing.leakage_s + hearing.zero_s[station]))
            # Each antenna's way to each other is its own: by centimetres, of which the slope over the band tells.
            slope = turn * (light.subcarrier_hz / np.ptp(light.subcarrier_hz))
            for antenna, wave in product(range(antennas), (turn, slope)):
                vector = np.zeros(self.correlations.shape, dtype=complex)
                vector[station, antenna] = wave
                steady.append(vector)
        # Shape (receive antenna, steady signal, station, transmit antenna, subcarrier).
        self._steady = np.stack(steady).transpose(3, 0, 1, 2, 4)
        self._seen = np.einsum("namck,bqmck->bqnak", gram, self._steady, optimize=True)
        own = np.einsum("bqnak,brnak->bqr", self._steady.conj(), self._seen, optimize=True)
        self._inverse = np.linalg.inv(own)
        told = np.einsum("bqnak,nabk->bq", self._steady.conj(), self.correlations, optimize=True)
        self._fitted = np.einsum("bqr,br->bq", self._inverse, told)
        self.correlations = self.correlations - np.einsum("bqnak,bq->nabk", self._seen, self._fitted, optimize=True)
        self.count = received.size - self._fitted.size
        self.energy = float(np.sum(np.abs(received) ** 2, dtype=float) - np.sum((told.conj() * self._fitted).real))

    def aligned(self, place: FloatArray) -> Hearing:
        """The same hearing with the delays' zeros as its lines of sight tell them, echoes from ``place`` beside them.

        To first order in what the zeros err, which is far below the band's resolution.
        """
        echoes = self._echoes(place)
        alone = np.zeros((len(echoes), *echoes.shape), dtype=complex)
        alone[np.arange(len(echoes)), np.arange(len(echoes))] = echoes
        sights = self._steady[:, self._sights]
        slopes = -2j * pi * self._light.subcarrier_hz * sights
        columns = np.concatenate([self._steady, slopes, alone.transpose(3, 0, 1, 2, 4)], axis=1)
        seen = np.einsum("namck,bqmck->bqnak", self._gram, columns, optimize=True)
        own = np.einsum("bqnak,brnak->bqr", columns.conj(), seen, optimize=True)
        told = np.einsum("bqnak,nabk->bq", columns.conj(), self._told, optimize=True)
        size = np.sqrt(np.einsum("bqq->bq", own).real)
        fitted = np.linalg.solve(own / (size[:, :, None] * size[:, None]), (told / size)[..., None])[..., 0] / size
        first = self._steady.shape[1]
        level, slope = fitted[:, self._sights], fitted[:, first : first + len(self._sights)]
        zero_s = self._hearing.zero_s.astype(float)
        zero_s[self._others] += (level.conj() * slope).real.sum(axis=0) / (np.abs(level) ** 2).sum(axis=0)
        return replace(self._hearing, zero_s=zero_s)

    def _waves(self, path_m: FloatArray, station: int) -> ComplexArray:
        """Phase of each subcarrier over paths of lengths (transmit, receive antenna), one more axis."""
        delay = path_m / SPEED_OF_LIGHT_MPS
        light = self._light
        apparent = delay + self._hearing.zero_s[station]
        turns = light.carrier_hz * delay[..., None] + light.subcarrier_hz * apparent[..., None]
        return np.asarray(np.exp(-2j * pi * turns))

    def _echoes(self, place: FloatArray) -> ComplexArray:
        """Echoes' phases, shape (station, transmit, receive antenna, subcarrier)."""
        out = np.linalg.norm(self._light.antennas_m - place, axis=-1)
        back = np.linalg.norm(self._hearing.antennas_m - place, axis=-1)
        return np.stack([self._waves(path[:, None] + back, station) for station, path in enumerate(out)])

    def rough(self, places: FloatArray) -> FloatArray:
        """Energy that echoes from each of ``places`` explain, as if each echo stood alone and the band were narrow
        against the carrier; shape (place,)."""
        light, hearing = self._light, self._hearing
        out = np.linalg.norm(places[:, None, None] - light.antennas_m, axis=-1)
        back = np.linalg.norm(places[:, None] - hearing.antennas_m, axis=-1)
        back_turn = np.exp(-2j * pi * light.carrier_hz / SPEED_OF_LIGHT_MPS * (back - back[:, :1]))
        explained = np.zeros(len(places))
        for station in range(len(light.sent)):
            lengths = out[:, station]
            turn = np.exp(-2j * pi * light.carrier_hz / SPEED_OF_LIGHT_MPS * (lengths - lengths[:, :1]))
            delay = (lengths[:, 0] + back[:, 0]) / SPEED_OF_LIGHT_MPS + hearing.zero_s[station]
            step = _DELAY_CELLS / float(np.ptp(light.subcarrier_hz))
            first = float(delay.min())
            index = np.rint((delay - first) / step).astype(int)
            lags = first + step * np.arange(index.max() + 1)
            profile = self.correlations[station] @ np.exp(2j * pi * np.outer(light.subcarrier_hz, lags))
            found = np.einsum("pa,pb,abp->p", turn.conj(), back_turn.conj(), profile[..., index], optimize=True)
            alone = self._gram[station, :, station].sum(axis=-1)
            own = np.einsum("pa,ac,pc->p", turn.conj(), alone, turn, optimize=True).real * back.shape[1]
            explained += np.abs(found) ** 2 / own
        return explained

    def explained(self, place: FloatArray) -> float:
        """Energy that echoes from ``place`` explain beyond all that is steady, every overlap allowed for."""
        echoes = self._echoes(place)
        found = np.einsum("nabk,nabk->n", echoes.conj(), self.correlations)
        own = np.einsum("nabk,namck,mcbk->nm", echoes.conj(), self._gram, echoes, optimize=True)
        shared = np.einsum("bqnak,nabk->bqn", self._seen.conj(), echoes, optimize=True)
        own = own - np.einsum("bqn,bqr,brm->nm", shared.conj(), self._inverse, shared, optimize=True)
        return float((found.conj() @ np.linalg.solve(own, found)).real)

    def information(self, place: FloatArray, powers: FloatArray) -> FloatArray:
        """Fisher information about the position, shape (2, 2), for noise of unit power and echoes of ``powers``.

        Echoes of different stations are taken as of independent phase: terms between them vanish on average.
        """
        echoes = self._echoes(place)
        stations = np.arange(len(echoes))

        def alone(values: ComplexArray) -> ComplexArray:
            """Each station's echo as a signal by itself, shape (receive antenna, station, station, antenna, tone)."""
            spread = np.zeros((len(echoes), *echoes.shape), dtype=complex)
            spread[stations, stations] = values
            return spread.transpose(3, 0, 1, 2, 4)

        sights = self._steady[:, self._sights]
        zeros = -2j * pi * self._light.subcarrier_hz * sights
        step = _SLOPE_M * np.eye(2)
        slopes = [alone((self._echoes(place + h) - self._echoes(place - h)) / (2 * _SLOPE_M)) for h in step]
        # Amplitudes of lines of sight and leakages are free at each antenna, those of echoes and zeros at all at once.
        columns = np.concatenate([self._steady, zeros, alone(echoes), *slopes], axis=1)
        seen = np.einsum("namck,bqmck->bqnak", self._gram, columns, optimize=True)
        own = np.einsum("bqnak,brnak->bqr", columns.conj(), seen, optimize=True)
        steady = self._steady.shape[1]
        cross = own[:, :steady, steady:]
        shared = np.linalg.solve(own[:, :steady, :steady], cross)
        left = (own[:, steady:, steady:] - cross.conj().transpose(0, 2, 1) @ shared).sum(axis=0)
        nuisance = len(self._sights) + len(echoes)
        size = np.sqrt(np.diag(left)[:nuisance].real)
        inner = left[:nuisance, :nuisance] / np.outer(size, size)
        outer = left[:nuisance, nuisance:] / size[:, None]
        rest = left[nuisance:, nuisance:] - outer.conj().T @ np.linalg.solve(inner, outer)
        by_station = rest.reshape(2, len(echoes), 2, len(echoes))
        return np.asarray(2 * np.einsum("injn,n->ij", by_station, powers).real)


def locate_by_echoes(
    hearings: Sequence[Hearing], light: Illumination, area_m: tuple[FloatArray, FloatArray]
) -> EchoPosition:
    """Maximum of the likelihood within a box, found on a grid and refined.

    Parameters
    ----------
    hearings : sequence of Hearing
    light : Illumination
    area_m : pair of float arrays, shape (2,)
        Least and largest coordinates searched.

    Raises
    ------
    ValueError
        If the box is empty.

    Source: docs/methods/signalling.md eq. 11.
    """
    low, high = area_m
    if not np.all(high > low):
        raise ValueError(f"an area from {low} to {high} holds no place")
    sent = light.sent
    gram = np.einsum("nalk,mclk->namck", sent.conj(), sent, dtype=complex, optimize=True)
    heard = [_Heard(hearing, light, gram) for hearing in hearings]
    band = float(np.ptp(light.subcarrier_hz))
    axes = [
        np.linspace(a, b, max(int(np.ceil((b - a) * band / (_GRID_CELLS * SPEED_OF_LIGHT_MPS))), 2) + 1)
        for a, b in zip(low, high, strict=True)
    ]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    apart = np.linalg.norm(places[:, None] - light.antennas_m[:, 0], axis=-1)
    places = places[apart.min(axis=1) > _TOO_NEAR_M]
    rough = sum((one.rough(places) * (one.count / one.energy) for one in heard), np.zeros(len(places)))

    def surprise(place: FloatArray) -> float:
        """Less the logarithm of the likelihood, the noise of each hearing at its best."""
        left = [max(one.energy - one.explained(place), 1e-12 * one.energy) for one in heard]
        return float(sum(one.count * np.log(rest / one.energy) for one, rest in zip(heard, left, strict=True)))

    best, size = places[int(np.argmax(rough))], 0.05 * SPEED_OF_LIGHT_MPS / band
    for last in range(_ALIGNMENTS + 1):
        simplex = best + size * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        found = minimize(
            surprise,
            best,
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-4},
        )
        best, size = np.asarray(found.x, dtype=float), 0.1 * size
        if last < _ALIGNMENTS and len(sent) > 1:
            heard[:] = [_Heard(one.aligned(best), light, gram) for one in heard]
    return EchoPosition(best, np.linalg.inv(_curvature(surprise, best)), -float(found.fun))


def position_bound(
    hearings: Sequence[Hearing],
    light: Illumination,
    place: FloatArray,
    echo_power: FloatArray,
    noise: FloatArray,
) -> FloatArray:
    """Covariance that the bound allows a target's position, shape (2, 2), in square metres.

    Inverse of the Fisher information that `locate_by_echoes` draws on: of the signals sent as they are, amplitudes of
    echoes, lines of sight and leakages unknown on every link, and the zeros of the other stations' delays, which their
    lines of sight tell.

    Parameters
    ----------
    hearings : sequence of Hearing
        What they received does not matter.
    light : Illumination
    place : float array, shape (2,)
        Of the target.
    echo_power : float array, shape (hearing, station)
        Of each station's echo, for elements of unit power sent by one antenna.
    noise : float array, shape (hearing,)
        Power on a resource element and antenna, all that disturbs counted.

    Source: docs/methods/signalling.md eq. 12.
    """
    gram = np.einsum("nalk,mclk->namck", light.sent.conj(), light.sent, dtype=complex, optimize=True)
    information = np.zeros((2, 2))
    for hearing, powers, power in zip(hearings, echo_power, noise, strict=True):
        information += _Heard(hearing, light, gram).information(place, powers) / power
    return np.linalg.inv(information)


def _curvature(surprise: Callable[[FloatArray], float], place: FloatArray) -> FloatArray:
    """Second differences about a minimum, shape (2, 2)."""
    h = _DIFFERENCE_M
    steps = h * np.eye(2)
    middle = surprise(place)
    diagonal = [(surprise(place + step) - 2 * middle + surprise(place - step)) / h**2 for step in steps]
    both = steps[0] + steps[1]
    mixed = (surprise(place + both) - 2 * middle + surprise(place - both)) / (2 * h**2) - 0.5 * sum(diagonal)
    return np.array([[diagonal[0], mixed], [mixed, diagonal[1]]])
