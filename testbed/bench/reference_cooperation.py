"""Scenario for methods 3.5: a node's echo locates scatterers, which tell the time offset of its link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import pi, sqrt
from time import perf_counter
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.cooperation import cooperation_std_s, predicted_delay_std_s
from dsp.bounds.link import delay_std_s
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.localization import Station
from dsp.moment import Moment
from dsp.synchronization.base import Method, Need, Observation
from dsp.synchronization.cooperation import Cooperation, CooperationCorrelation
from dsp.synchronization.cooperation_paths import active_echo
from testbed.bench.rows import BenchRow, bias_row, rmse_row, share_row, time_row

__all__ = ["Trial", "draw", "observation", "points", "rows", "validity_rows"]

SUBCARRIERS = 256
SPACING_HZ = 480e3
SYMBOLS = 16
SYMBOL_S = 100e-6
ANTENNAS = 4
SCATTERERS = 6
CARRIER_HZ = Fraction(5_800_000_000)
BASELINE_M = 60.0
SNR_DB = (0.0, 10.0, 20.0, 30.0)
"""Of one resource element and antenna, total over paths, alike for echo and link."""

_METHODS: tuple[Method, ...] = (Cooperation(), CooperationCorrelation())
_WRONG = 5.0
_LEAST_CELLS = 3.0
"""Resolution cells between any two paths, in echo and link: the bound is that of resolved paths."""
_RATE_HZ = Fraction(round(SUBCARRIERS * SPACING_HZ))


@dataclass(frozen=True)
class Trial:
    """One draw."""

    echo: ChannelState
    """The receiver's own frames heard by itself."""
    echo_departure: Moment
    link: ChannelState
    departure: Moment
    stations: dict[str, Station]
    to_s: float
    cfo_hz: float
    bound_s: float


def draw(
    generator: np.random.Generator,
    snr_db: float,
    *,
    scatterers: int = SCATTERERS,
    strangers: int = 0,
    displaced_m: float = 0.0,
) -> Trial:
    """Nodes 60 m apart, scatterers of equal echo in a field of 100 by 100 m, line of sight as strong as each.

    ``strangers`` of the scatterers are seen by the echo only; ``displaced_m`` moves every scatterer at random between
    echo and link.
    """
    receiver = Station("n", np.zeros(2), float(generator.uniform(-pi, pi)))
    transmitter = Station("m", np.array([BASELINE_M, 0.0]), 0.0)
    places = _places(generator, receiver, transmitter, scatterers)
    from_receiver = places - receiver.position_m
    distance_m = np.linalg.norm(from_receiver, axis=1)
    sines = from_receiver @ receiver.axis / distance_m
    later = places + generator.normal(size=places.shape) * displaced_m / sqrt(2.0)
    heard_s = _bistatic_s(later, receiver, transmitter)[strangers:]
    passive_s = np.append(heard_s, BASELINE_M / SPEED_OF_LIGHT_MPS)
    noise = 10.0 ** (-snr_db / 10.0)
    echo = _csi(generator, 2.0 * distance_m / SPEED_OF_LIGHT_MPS, sines, noise, clock="n")
    to_s, cfo_hz = float(generator.uniform(-100e-9, 100e-9)), float(generator.uniform(-400.0, 400.0))
    link = _csi(generator, passive_s, None, noise, clock="n", to_s=to_s, cfo_hz=cfo_hz)
    return Trial(
        echo=echo,
        echo_departure=Moment("n", 0, 0.0, _RATE_HZ),
        link=link,
        departure=Moment("m", 0, 0.0, _RATE_HZ),
        stations={"n": receiver, "m": transmitter},
        to_s=to_s,
        cfo_hz=cfo_hz,
        bound_s=_bound_s(places, sines, snr_db, len(passive_s)),
    )


def points(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SNR."""
    return [partial(_point, trials, seed, number, level) for number, level in enumerate(snr_db)]


def rows(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[BenchRow]:
    """Figures of association and of correlation for each SNR, both on the same draws."""
    return [row for point in points(trials, seed, snr_db=snr_db) for row in point()]


def _point(trials: int, seed: int, number: int, snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng([seed, number])
    results: dict[str, list[tuple[float, float, float, float]]] = {method.name: [] for method in _METHODS}
    seconds: dict[str, list[float]] = {method.name: [] for method in _METHODS}
    for _ in range(trials):
        trial = draw(generator, snr_db)
        seen = observation(trial)
        for method in _METHODS:
            started = perf_counter()
            offset = method.estimate(seen)
            seconds[method.name].append(perf_counter() - started)
            if offset.valid and offset.to_s is not None and offset.cfo_hz is not None and offset.to_std_s:
                error_s = offset.to_s - trial.to_s
                results[method.name].append((error_s, trial.bound_s, offset.to_std_s, offset.cfo_hz - trial.cfo_hz))
    made: list[BenchRow] = []
    for name, kept in results.items():
        made += _figures(name, np.array(kept).reshape(-1, 4), trials, snr_db)
        made.append(time_row("cooperation", name, seconds[name]))
        made[-1].parameters = {"snr_db": snr_db}
    return made


def validity_rows(trials: int, seed: int, *, snr_db: float = 10.0) -> list[BenchRow]:
    """Share of false rejections with every assumption intact, and of silently wrong offsets for each one broken."""
    kinds: dict[str, dict[str, Any]] = {
        "nothing": {},
        "two scatterers": {"scatterers": 2},
        "four of six scatterers heard by the echo alone": {"strangers": 4},
        "scatterers moved by 3 m": {"displaced_m": 3.0},
        "scatterers moved by 0.3 m": {"displaced_m": 0.3},
        "scatterers moved by 0.1 m": {"displaced_m": 0.1},
    }
    made = []
    for number, (name, changes) in enumerate(kinds.items()):
        generator = np.random.default_rng([seed, number])
        counts = {method.name: [0, 0] for method in _METHODS}
        for _ in range(trials):
            trial = draw(generator, snr_db, **changes)
            seen = observation(trial)
            for method in _METHODS:
                offset = method.estimate(seen)
                if not offset.valid or offset.to_s is None or offset.to_std_s is None:
                    counts[method.name][0] += 1
                elif abs(offset.to_s - trial.to_s) > _WRONG * offset.to_std_s:
                    counts[method.name][1] += 1
        for method_name, (rejected, wrong) in counts.items():
            share = ("false_rejection_rate", 0.02) if name == "nothing" else ("invalid_share", 1.0)
            for metric, count, goal in ((share[0], rejected, share[1]), ("silent_wrong_rate", wrong, 0.01)):
                row = share_row("cooperation validity", method_name, metric, count, trials, goal)
                row.parameters = {"broken": name, "snr_db": snr_db}
                made.append(row)
    return made


def observation(trial: Trial) -> Observation:
    """What either method receives."""
    spacing_m = 0.5 * SPEED_OF_LIGHT_MPS / float(CARRIER_HZ)
    echo = active_echo(trial.echo, trial.echo_departure, spacing_m=spacing_m, least_delay_s=20e-9)
    extras: dict[str, Any] = {Need.ACTIVE_ECHO: echo, Need.KNOWN_POSITIONS: trial.stations}
    return Observation(trial.link, trial.departure, extras=extras)


def _figures(name: str, kept: FloatArray, trials: int, snr_db: float) -> list[BenchRow]:
    errors, bounds, stated, cfo = kept.T
    bound = float(np.sqrt(np.mean(bounds**2))) if len(bounds) else 1.0
    cfo_bound = sqrt(6.0 / ((2.0 * pi * SYMBOL_S) ** 2 * 10.0 ** (snr_db / 10.0) * SUBCARRIERS * SYMBOLS * 255.0))
    made = [
        rmse_row("cooperation", name, "to_rmse", "s", list(errors), bound),
        bias_row("cooperation", name, "to_bias", "s", list(errors)),
        rmse_row("cooperation", name, "to_rmse_by_own_bound", "1", list(errors / bounds), 1.0),
        rmse_row("cooperation", name, "to_nees_root", "1", list(errors / stated), 1.0),
        rmse_row("cooperation", name, "cfo_rmse", "Hz", list(cfo), cfo_bound),
        share_row("cooperation", name, "valid_share", len(errors), trials, 0.98),
        share_row("cooperation", name, "outlier_rate", int(np.sum(np.abs(errors) > 6.0 * stated)), trials, 0.01),
    ]
    for row in made:
        row.parameters = {"snr_db": snr_db}
    return made


def _places(generator: np.random.Generator, receiver: Station, transmitter: Station, count: int) -> FloatArray:
    """Scatterers whose paths all stand apart in echo and link, none near a node or along the array."""
    cell_s = _LEAST_CELLS / (SUBCARRIERS * SPACING_HZ)
    while True:
        places = np.zeros((0, 2))
        link_s, echo_s = np.array([BASELINE_M / SPEED_OF_LIGHT_MPS]), np.zeros(0)
        for place in generator.uniform([-20.0, -50.0], [80.0, 50.0], (30 * count, 2)):
            distances = [float(np.linalg.norm(place - node.position_m)) for node in (receiver, transmitter)]
            sine = float((place - receiver.position_m) @ receiver.axis) / distances[0]
            there_s, back_s = sum(distances) / SPEED_OF_LIGHT_MPS, 2.0 * distances[0] / SPEED_OF_LIGHT_MPS
            apart = np.append(np.abs(link_s - there_s), np.abs(echo_s - back_s))
            if min(distances) > 8.0 and abs(sine) < 0.9 and float(apart.min()) > cell_s:
                places = np.vstack([places, place])
                link_s, echo_s = np.append(link_s, there_s), np.append(echo_s, back_s)
            if len(places) == count:
                return places


def _bistatic_s(places: FloatArray, receiver: Station, transmitter: Station) -> FloatArray:
    legs = sum(np.linalg.norm(places - node.position_m, axis=1) for node in (receiver, transmitter))
    return np.asarray(legs / SPEED_OF_LIGHT_MPS)


def _bound_s(places: FloatArray, sines: FloatArray, snr_db: float, passive_paths: int) -> float:
    """Bound of methods 3.5, resolved paths of equal power."""
    snr = 10.0 ** (snr_db / 10.0)
    unit_active = -places / np.linalg.norm(places, axis=1)[:, None]
    towards = np.array([BASELINE_M, 0.0]) - places
    cosine = np.sum(unit_active * towards, axis=1) / np.linalg.norm(towards, axis=1)
    echo_snr = snr / len(places) * ANTENNAS
    active_std_s = delay_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, echo_snr)
    aperture = float(np.sum((np.arange(ANTENNAS) - 0.5 * (ANTENNAS - 1)) ** 2))
    information = 2.0 * snr / len(places) * SUBCARRIERS * SYMBOLS * pi**2 * aperture
    angle_std_rad = 1.0 / (sqrt(information) * np.sqrt(1.0 - sines**2))
    distance_m = np.linalg.norm(places, axis=1)
    predicted_s = predicted_delay_std_s(np.arccos(np.clip(cosine, -1, 1)), distance_m, active_std_s, angle_std_rad)
    passive_s = delay_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, snr / passive_paths)
    return cooperation_std_s(np.full(len(places), passive_s), predicted_s)


def _csi(
    generator: np.random.Generator,
    delays_s: FloatArray,
    sines: FloatArray | None,
    noise: float,
    *,
    clock: str,
    to_s: float = 0.0,
    cfo_hz: float = 0.0,
) -> ChannelState:
    """Static paths of equal power, total one, on one antenna or on the array; offsets hold at the slot's middle."""
    f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * SPACING_HZ
    t = (np.arange(SYMBOLS) - (SYMBOLS - 1) / 2) * SYMBOL_S
    gains = np.exp(2j * pi * generator.uniform(size=len(delays_s))) / sqrt(len(delays_s))
    antennas = np.arange(1 if sines is None else ANTENNAS)
    # half wavelengths from the array's centre, at which a wave also arrives at another time
    places = np.outer(antennas - antennas.mean(), np.zeros(len(delays_s)) if sines is None else sines)
    array = np.exp(1j * pi * places[:, None, :] * (1.0 + f / float(CARRIER_HZ))[:, None])
    static = np.einsum("u,aku,ku->ak", gains, array, np.exp(-2j * pi * np.outer(f, delays_s)))
    turn = np.exp(2j * pi * (np.outer(t * cfo_hz, 1.0 + f / float(CARRIER_HZ)) - to_s * f))
    values: ComplexArray = static[:, None, :] * turn
    scatter = generator.normal(size=(*values.shape, 2), scale=sqrt(0.5 * noise)).view(np.complex128)[..., 0]
    return ChannelState(
        values=values + scatter,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=f,
        symbol_s=t,
        reference=Moment(clock, 0, 0.0, _RATE_HZ),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.full(len(antennas), noise),
        frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
    )
