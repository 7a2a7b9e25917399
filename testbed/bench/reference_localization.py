"""Localization: what residual offsets do to fused positions (methods 4), and movers located through the whole chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dsp.channel import FloatArray
from dsp.localization import LinkMeasurement, Position, Station, averaged, locate
from testbed.bench.rows import BenchRow, rmse_row, share_row
from testbed.scenario import Scenario, loads

__all__ = ["DECENTRALISED_MM", "MoverTrial", "mover_rows", "mover_trial", "rows"]

NODES = 4
RADIUS_M = 100.0
TARGET_RADIUS_M = 30.0
"""Where the target is, uniform over a disc about the centre; not stated by the reference, whose figures it gives."""
DELAY_STD_S = 20e-12
OFFSETS_PS = (0.0, 10.0, 50.0, 250.0, 1000.0)
TARGETS = 5

CENTRALISED_MM = 2.1
DECENTRALISED_MM = (2.51, 2.73, 5.74, 26.1, 101.0)
MONOSTATIC_MM = 3.0
"""Figures of methods 4, by `OFFSETS_PS`."""

_FREE_S = 1e-6
_METHOD = "reciprocity-mle"
_FOUND_GOAL = 0.95


def rows(trials: int, seed: int) -> list[BenchRow]:
    """Position errors of four nodes on a circle of 100 m by all 16 delays, against their clocks' residual errors.

    Every clock errs by an independent Gaussian, each link by its receiver's less its transmitter's. Centralised:
    all delays at once, pairs' offsets left free. Decentralised: each node by the four delays it received, positions
    averaged. Monostatic: each node's own echo alone. The shares of synchronous performance have the offsets estimated
    from five targets' delays, both ways, of the same frame or of another one.
    """
    found: list[BenchRow] = []
    for offset_ps, reference_mm in zip(OFFSETS_PS, DECENTRALISED_MM, strict=True):
        generator = np.random.default_rng([seed, 0x4])
        errors: dict[str, list[float]] = {}
        for _ in range(trials):
            clocks_s = offset_ps * 1e-12 * generator.standard_normal(NODES)
            places, stations = _circle(generator, 1)
            links = _links(generator, places[0], stations, clocks_s)
            for fusion, where in _fused(links, stations).items():
                errors.setdefault(fusion, []).append(float(np.linalg.norm(where - places[0])))
        goals = {"centralised": CENTRALISED_MM, "decentralised": reference_mm, "monostatic": MONOSTATIC_MM}
        for fusion, listed in errors.items():
            row = rmse_row("localization", fusion, "position_rmse", "m", listed, goals[fusion] * 1e-3)
            row.parameters = {"nodes": NODES, "delay_std_ps": DELAY_STD_S * 1e12, "offset_ps": offset_ps}
            found.append(row)
    return [*found, *_synchronised_rows(trials, seed)]


def _synchronised_rows(trials: int, seed: int) -> list[BenchRow]:
    """Errors with the offsets that five targets of the frame give, over those of perfect clocks on the same draws."""
    generator = np.random.default_rng([seed, 0x5])
    squares: dict[tuple[str, str], list[float]] = {}
    for _ in range(trials):
        clocks_s = 1e-9 * generator.standard_normal(NODES)
        places, stations = _circle(generator, TARGETS)
        true = [_links(generator, place, stations, np.zeros(NODES)) for place in places]
        shifted = [[_shifted(link, clocks_s) for link in links] for links in true]
        another = [_links(generator, place, stations, clocks_s) for place in places]
        cases = {
            "perfect": true,
            "same frame": [_synchronised(shifted, links) for links in shifted],
            "another frame": [_synchronised(another, links) for links in shifted],
        }
        for offsets, per_target in cases.items():
            for place, links in zip(places, per_target, strict=True):
                for fusion, where in _fused(links, stations).items():
                    squares.setdefault((fusion, offsets), []).append(float(np.sum((where - place) ** 2)))
    found = []
    for fusion, offsets, goal in (
        ("centralised", "same frame", 0.98),
        ("centralised", "another frame", 0.98),
        ("decentralised", "same frame", 0.96),
        ("decentralised", "another frame", 0.96),
    ):
        ideal, real = np.array(squares[fusion, "perfect"]), np.array(squares[fusion, offsets])
        share = float(np.sqrt(ideal.mean() / real.mean()))
        # the same noise in both: the spread of the ratio over batches, targets of one draw kept together
        batches = np.array_split(np.arange(ideal.size), min(20, trials))
        ratios = [np.sqrt(ideal[chosen].mean() / real[chosen].mean()) for chosen in batches]
        found.append(
            BenchRow(
                scenario="localization",
                method=fusion,
                parameters={"nodes": NODES, "targets": TARGETS, "offsets_from": offsets, "clock_std_ps": 1000.0},
                metric="share_of_synchronous_performance",
                unit="1",
                value=share,
                bound=goal,
                ratio=share / goal,
                trials=trials,
                standard_error=float(np.std(ratios, ddof=1) / np.sqrt(len(ratios))) if len(ratios) > 1 else None,
            )
        )
    return found


def _circle(generator: np.random.Generator, targets: int) -> tuple[FloatArray, dict[str, Station]]:
    turn = 2 * np.pi * np.arange(NODES) / NODES
    stations = {
        str(node): Station(str(node), RADIUS_M * np.array([np.cos(angle), np.sin(angle)]), angle + np.pi)
        for node, angle in enumerate(turn)
    }
    radius = TARGET_RADIUS_M * np.sqrt(generator.uniform(size=targets))
    bearing = generator.uniform(0, 2 * np.pi, targets)
    return np.stack([radius * np.cos(bearing), radius * np.sin(bearing)], axis=1), stations


def _links(
    generator: np.random.Generator, place: FloatArray, stations: dict[str, Station], clocks_s: FloatArray
) -> list[LinkMeasurement]:
    legs = {
        name: float(np.linalg.norm(place - station.position_m)) / 299_792_458.0 for name, station in stations.items()
    }
    links = [
        LinkMeasurement(
            receiver, transmitter, legs[receiver] + legs[transmitter] + DELAY_STD_S * generator.normal(), DELAY_STD_S
        )
        for receiver in stations
        for transmitter in stations
    ]
    return [_shifted(link, clocks_s) for link in links]


def _shifted(link: LinkMeasurement, clocks_s: FloatArray) -> LinkMeasurement:
    return replace(link, delay_s=link.delay_s + float(clocks_s[int(link.receiver)] - clocks_s[int(link.transmitter)]))


def _synchronised(every: list[list[LinkMeasurement]], links: list[LinkMeasurement]) -> list[LinkMeasurement]:
    """``links`` with each pair's offset taken off, as the mean over all targets of half the directions' difference."""
    delays = np.array([[link.delay_s for link in target] for target in every]).reshape(len(every), NODES, NODES)
    offset_s = 0.5 * np.mean(delays - delays.transpose(0, 2, 1), axis=0)
    return [
        replace(link, delay_s=link.delay_s - float(offset_s[int(link.receiver), int(link.transmitter)]))
        for link in links
    ]


def _fused(links: list[LinkMeasurement], stations: dict[str, Station]) -> dict[str, FloatArray]:
    alone = [_located([link for link in links if link.receiver == name], stations) for name in stations]
    return {
        "centralised": _located([replace(link, offset_std_s=_FREE_S) for link in links], stations).position_m,
        "decentralised": averaged(alone)[0],
        "monostatic": _located([link for link in links if link.receiver == link.transmitter], stations).position_m,
    }


def _located(links: list[LinkMeasurement], stations: dict[str, Station]) -> Position:
    found = locate(links, stations)
    if found is None:
        raise RuntimeError("four delays in general position left a target undetermined")
    return found


@dataclass(frozen=True)
class MoverTrial:
    """One mover in one random scene, located by both directions of a pair."""

    error_m: float | None
    """None where it was not located."""
    normalised: float | None
    """Squared position error over its covariance; two on the average if that is honest."""
    ambiguous: bool
    strangers: int
    """Positions that are no target's."""
    stated_m: float | None
    """Square root of the covariance's trace."""


def mover_trial(seed: int) -> MoverTrial:
    """One round of a random half-duplex pair and mover, from simulated radios to the position."""
    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline

    scenario = _scenario(seed)
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    results = pipeline.finish({})
    positions = [row for row in results.positions if row.method == _METHOD]
    mine = [row for row in positions if row.target is not None]
    strangers = len(positions) - len(mine)
    true = [row.position_m for row in (results.truth.targets if results.truth else []) if row.position_m]
    if not mine or not true or mine[0].position_m is None or mine[0].covariance_m2 is None:
        return MoverTrial(None, None, False, strangers, None)
    error = np.array(mine[0].position_m) - np.mean(np.array(true)[:, :2], axis=0)
    covariance = np.array(mine[0].covariance_m2)
    return MoverTrial(
        error_m=float(np.linalg.norm(error)),
        normalised=float(error @ np.linalg.solve(covariance, error)),
        ambiguous=bool(mine[0].reason),
        strangers=strangers,
        stated_m=float(np.sqrt(np.trace(covariance))),
    )


def mover_rows(done: Sequence[MoverTrial]) -> list[BenchRow]:
    """Figures of finished trials: share located, error over what is stated, consistency of the covariance."""
    located = [one for one in done if one.error_m is not None and one.normalised is not None and one.stated_m]
    sure = [one for one in located if not one.ambiguous]
    scores = np.array([one.normalised for one in sure], dtype=float)
    scenario = "localization-mover"
    ordered = np.sort([one.error_m or 0.0 for one in sure])
    found = [
        share_row(scenario, _METHOD, "located_share", len(located), len(done), _FOUND_GOAL),
        share_row(scenario, _METHOD, "unambiguous_share", len(sure), len(done), _FOUND_GOAL),
    ]
    if scores.size > 1:
        stated = float(np.sqrt(np.mean([(one.stated_m or 0.0) ** 2 for one in sure])))
        found += [
            rmse_row(scenario, _METHOD, "position_rmse", "m", list(ordered), stated),
            _plain(scenario, "position_error_median", "m", float(np.median(ordered)), len(sure)),
            _plain(scenario, "nees_per_dimension", "1", float(scores.mean() / 2), len(sure), float(scores.std() / 2)),
            share_row(scenario, _METHOD, "within_95_percent_ellipse", int(np.sum(scores < 5.991)), len(sure), 0.95),
        ]
    return found


def _plain(scenario: str, metric: str, unit: str, value: float, trials: int, spread: float | None = None) -> BenchRow:
    return BenchRow(
        scenario=scenario, method=_METHOD, metric=metric, unit=unit, value=value, trials=trials,
        standard_error=None if spread is None else spread / trials**0.5,
    )  # fmt: skip


def _scenario(seed: int) -> Scenario:
    """Two nodes 20 to 40 m apart, arrays towards the mover within 40°; its Doppler three cells from the standing."""
    rng = np.random.default_rng([seed, 0x10C])
    frames, period_s = 10, 2e-3
    while True:
        ends = np.array([[0.0, 0.0], [rng.uniform(20, 40), 0.0]])
        place = np.array([rng.uniform(-5, 45), rng.uniform(12, 35)])
        velocity = rng.uniform(-10, 10, 2)
        ways = place - ends
        legs = np.linalg.norm(ways, axis=1, keepdims=True)
        doppler_hz = -2.4e9 / 299_792_458.0 * float(velocity @ np.sum(ways / legs, axis=0))
        if 3.0 / (frames * period_s) < abs(doppler_hz) < 0.4 / period_s:
            break
    nodes: list[dict[str, Any]] = [
        {
            "name": name,
            "position_m": end.tolist(),
            "heading_deg": float(np.degrees(np.arctan2(way[1], way[0])) + rng.uniform(-40, 40)),
            "antennas": 2,
            "tx_power_dbm": 10.0,
            "clock": {"offset_ppm": rng.uniform(-15, 15), "offset_s": rng.uniform(-20, 20), "profile": "tcxo"},
        }
        for name, end, way in zip("ab", ends, ways, strict=True)
    ]
    standing = [
        {"position_m": rng.uniform([-10, 5], [50, 50]).tolist(), "rcs_m2": float(10 ** rng.uniform(0.0, 1.5))}
        for _ in range(3)
    ]
    mover = {"name": "mover", "position_m": place.tolist(), "velocity_mps": velocity.tolist(), "rcs_m2": 2.0}
    return loads(
        _toml({
            "experiment": {"name": "localization-mover", "seed": seed, "rounds": 1, "methods": [_METHOD]},
            "waveform": {
                "carrier_hz": 2.4e9, "sample_rate_hz": 10e6, "fft_size": 256, "cp_samples": 64,
                "active_subcarriers": 200, "symbols": 24, "modulation": "qpsk",
            },
            "round": {
                "duplex": "half", "frames_per_slot": frames, "frame_period_s": period_s, "guard_s": 6e-3,
                "start_spread_s": 2e-3,
            },
            "node": nodes,
            "scene": {"leakage_db": 40.0, "reflector": [*standing, mover]},
        }),
        source="localization-mover",
    )  # fmt: skip


def _toml(table: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)
