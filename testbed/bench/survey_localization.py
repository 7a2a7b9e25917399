"""The survey's Fig. 8: localization error over SINR, one node against distributed ones, by synchronization method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations
from math import sqrt

import numpy as np

from dsp.bounds.link import delay_std_s
from dsp.channel import FloatArray
from dsp.localization import LinkMeasurement, Position, Station, averaged, locate
from dsp.synchronization.registry import METHODS
from testbed.bench.reference_structured import Amplitudes, Numerology, draw
from testbed.bench.rows import BenchRow, rmse_row

__all__ = ["SINR_DB", "points_8"]

NODES = 4
RADIUS_M = 100.0
TARGET_RADIUS_M = 30.0
NUMEROLOGY = Numerology(600, 4, 960e3, 1.115e-6)
"""576 MHz: on the grid, spectral correlation then errs by the survey's 250 ps."""
SYNC_DB = 10.0
"""SNR of the paths between two nodes above the target's SINR."""
SINR_DB = (0.0, 5.0, 10.0, 15.0, 20.0)
_PATHS_S = (50e-9, 500e-9)
_METHODS = ("spectral-cc", "reciprocity-mp")
_SURVEY_S = {"spectral-cc": 250e-12, "reciprocity-mp": 10e-12}
"""Residual offsets that the survey states for both."""


def points_8(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SINR."""
    return [partial(_point, trials, [seed, 8, number], level) for number, level in enumerate(SINR_DB)]


def _point(trials: int, seed: list[int], sinr_db: float) -> list[BenchRow]:
    """Errors at one SINR: the same targets, delays' noise and true offsets for every way to synchronise."""
    generator = np.random.default_rng(seed)
    sinr = 10.0 ** (sinr_db / 10.0)
    delay_s = delay_std_s(NUMEROLOGY.subcarriers, NUMEROLOGY.spacing_hz, NUMEROLOGY.symbols, sinr)
    squares: dict[str, list[float]] = {}
    offsets: dict[str, list[float]] = {name: [] for name in _METHODS}
    for _ in range(trials):
        stations, place = _scene(generator)
        links = _links(generator, place, stations, delay_s)
        residuals = _residuals(generator, sinr_db + SYNC_DB)
        for name, pairs in residuals.items():
            offsets[name] += list(pairs.values())
        ways: dict[str, Mapping[tuple[int, int], float]] = {"distributed, no offset": {}}
        ways |= {f"distributed, {name}": pairs for name, pairs in residuals.items()}
        for std_s in _SURVEY_S.values():
            clocks_s = std_s / sqrt(2.0) * generator.standard_normal(NODES)
            drawn = {(a, b): float(clocks_s[a] - clocks_s[b]) for a, b in combinations(range(NODES), 2)}
            ways[f"distributed, {std_s * 1e12:.0f} ps"] = drawn
        for name, way in ways.items():
            where = averaged(_alone(_shifted(links, way), stations))[0]
            squares.setdefault(name, []).append(float(np.sum((where - place) ** 2)))
        both = [replace(link, offset_std_s=1e-6) for link in _shifted(links, residuals["reciprocity-mp"])]
        squares.setdefault("centralised, any", []).append(
            float(np.sum((_located(both, stations).position_m - place) ** 2))
        )
        single = _single(generator, place, stations["0"], delay_s, sinr)
        squares.setdefault("one node", []).append(float(np.sum((single - place) ** 2)))
    return _rows(squares, offsets, sinr_db)


def _rows(squares: dict[str, list[float]], offsets: dict[str, list[float]], sinr_db: float) -> list[BenchRow]:
    ideal = np.array(squares["distributed, no offset"])
    made = []
    for name, listed in squares.items():
        real = np.array(listed)
        made.append(
            rmse_row("survey-8", name, "position_rmse", "m", np.sqrt(real).tolist(), float(np.sqrt(ideal.mean())))
        )
        batches = np.array_split(np.arange(ideal.size), min(20, ideal.size))
        shares = [float(np.sqrt(ideal[some].mean() / real[some].mean())) for some in batches]
        share = float(np.sqrt(ideal.mean() / real.mean()))
        made.append(
            BenchRow(
                scenario="survey-8", method=name, metric="share_of_synchronous_performance", unit="1", value=share,
                trials=ideal.size, standard_error=float(np.std(shares) / sqrt(len(shares))),
            )
        )  # fmt: skip
    for name, errors in offsets.items():
        made.append(rmse_row("survey-8", name, "to_rmse", "s", errors, _SURVEY_S[name]))
    for row in made:
        row.parameters = {"sinr_db": sinr_db}
    return made


def _scene(generator: np.random.Generator) -> tuple[dict[str, Station], FloatArray]:
    turn = 2 * np.pi * np.arange(NODES) / NODES
    stations = {
        str(node): Station(str(node), RADIUS_M * np.array([np.cos(angle), np.sin(angle)]), angle + np.pi)
        for node, angle in enumerate(turn)
    }
    radius, bearing = TARGET_RADIUS_M * sqrt(generator.uniform()), generator.uniform(0, 2 * np.pi)
    return stations, radius * np.array([np.cos(bearing), np.sin(bearing)])


def _links(
    generator: np.random.Generator, place: FloatArray, stations: dict[str, Station], std_s: float
) -> list[LinkMeasurement]:
    """All delays, each at its bound, clocks in step."""
    legs = {name: float(np.linalg.norm(place - one.position_m)) / 299_792_458.0 for name, one in stations.items()}
    return [
        LinkMeasurement(receiver, transmitter, legs[receiver] + legs[transmitter] + std_s * generator.normal(), std_s)
        for receiver in stations
        for transmitter in stations
    ]


def _residuals(generator: np.random.Generator, snr_db: float) -> dict[str, dict[tuple[int, int], float]]:
    """What the methods leave of each pair's offset, estimated on a frame of its own in both directions."""
    found: dict[str, dict[tuple[int, int], float]] = {name: {} for name in _METHODS}
    for pair in combinations(range(NODES), 2):
        trial = draw(generator, snr_db, Amplitudes.RECIPROCAL, NUMEROLOGY, delays_s=_PATHS_S, bound=False)
        for name in _METHODS:
            offset = METHODS[name].estimate(trial.observation)
            # without a result the offset stays as the coarse stage left it, which the estimate refines
            found[name][pair] = (offset.to_s or 0.0) - trial.to_s
    return found


def _shifted(links: list[LinkMeasurement], pairs: Mapping[tuple[int, int], float]) -> list[LinkMeasurement]:
    """Delays with residual offsets: a pair's with opposite signs in its two directions, a node's own echo without."""
    shifted = []
    for link in links:
        here, there = int(link.receiver), int(link.transmitter)
        extra_s = -pairs.get((here, there), 0.0) if here < there else pairs.get((there, here), 0.0)
        shifted.append(replace(link, delay_s=link.delay_s + extra_s))
    return shifted


def _alone(links: list[LinkMeasurement], stations: dict[str, Station]) -> list[Position]:
    return [_located([link for link in links if link.receiver == name], stations) for name in stations]


def _single(
    generator: np.random.Generator, place: FloatArray, station: Station, delay_s: float, sinr: float
) -> FloatArray:
    """Position by one node with the antennas of all: its own echo's delay and the sine of its bearing, at bounds."""
    towards = place - station.position_m
    distance = float(np.linalg.norm(towards))
    antennas = np.arange(NODES) - (NODES - 1) / 2
    elements = NUMEROLOGY.subcarriers * NUMEROLOGY.symbols
    sine_std = 1.0 / sqrt(2.0 * sinr * elements * float(np.sum((np.pi * antennas) ** 2)))
    sine = float(towards @ station.axis) / distance + sine_std * generator.normal()
    std_s = delay_s / sqrt(NODES)  # all antennas tell the delay
    echo = LinkMeasurement(
        "0", "0", 2.0 * distance / 299_792_458.0 + std_s * generator.normal(), std_s, (sine,), sine_std
    )
    # the mirror behind the array is outside the disc: a node knows which side it faces
    found = _located([echo], {"0": station})
    candidates = [found.position_m, *(np.asarray(other) for other in found.alternatives_m)]
    return min(candidates, key=lambda one: float(np.linalg.norm(one)))


def _located(links: list[LinkMeasurement], stations: dict[str, Station]) -> Position:
    found = locate(links, stations)
    if found is None:
        raise RuntimeError("delays in general position left a target undetermined")
    return found
