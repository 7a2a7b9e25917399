"""A synthetic run whose every figure is known beforehand."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from testbed.report.page import write_report

C = 299_792_458.0
CARRIER = 2.4e9
RATE = 20_000_000
NODES: dict[str, tuple[float, float, float]] = {
    "alpha": (0.0, 0.0, 60.0),
    "bravo": (34.0, 0.0, 120.0),
    "carol": (17.0, 34.0, -90.0),
}
REFLECTORS = {"wall": (-6.0, 14.0), "mast": (41.0, 22.0), "car": (20.0, -9.0)}
SPREADS = {
    "reciprocity-mle": (1.0, 7.0e-12, 0.013),
    "reciprocity-mp": (1.1, 7.0e-12, 0.013),
    "spectral-cc-interpolated": (1.0, 80e-12, 0.06),
    "spectral-cc": (1.0, 9e-9, 6.0),
}
"""Method: (actual over predicted deviation, predicted TO deviation in s, predicted CFO deviation in Hz)."""


def scenario_text(names: list[str], rounds: int, *, truth: bool) -> str:
    listed = ", ".join(f'"{m}"' for m in [*SPREADS, "cacc"])
    text = f"""
[experiment]
name = "two-nodes"
seed = 7
rounds = {rounds}
methods = [{listed}]
[waveform]
carrier_hz = {CARRIER}
sample_rate_hz = {RATE}.0
fft_size = 1024
cp_samples = 128
active_subcarriers = 800
symbols = 64
modulation = "16qam"
pilot_spacing = 8
[round]
duplex = "half"
frames_per_slot = 16
frame_period_s = 0.005
[sensing]
false_alarm_rate = 1e-6
remove_clutter = true
"""
    for index, name in enumerate(names):
        x, y, heading = NODES[name]
        radio = f'radio = "pluto"\npluto = {{ uri = "ip:192.168.{index + 2}.1" }}'
        if truth:
            radio = 'radio = "simulated"'
        text += f"""
[[node]]
name = "{name}"
position_m = [{x}, {y}]
heading_deg = {heading}
antennas = 2
{radio}
[node.clock]
profile = "tcxo"
offset_ppm = {[12.3, -7.9, 3.1][index]}
"""
    if truth:
        text += "[scene]\nline_of_sight = true\nleakage_db = 40.0\n"
        for name, (x, y) in REFLECTORS.items():
            text += f'[[scene.reflector]]\nname = "{name}"\nposition_m = [{x}, {y}]\nrcs_m2 = 8.0\n'
        text += '[[scene.reflector]]\nname = "cyclist"\nposition_m = [8.0, 22.0]\nvelocity_mps = [4.0, -3.0]\n'
    return text


def cyclist(round_index: int) -> np.ndarray:
    return np.array([8.0, 22.0]) + 0.25 * round_index * np.array([4.0, -3.0])


def bistatic(point: np.ndarray, velocity: np.ndarray, receiver: str, transmitter: str) -> tuple[float, float]:
    """Delay and Doppler of the path over ``point``; Doppler positive when the path shortens."""
    legs = [point - np.array(NODES[name][:2]) for name in (receiver, transmitter)]
    rate = sum(float(velocity @ leg) / float(np.hypot(*leg)) for leg in legs)
    return sum(float(np.hypot(*leg)) for leg in legs) / C, -rate * CARRIER / C


def baseline_s(receiver: str, transmitter: str) -> float:
    return math.dist(NODES[receiver][:2], NODES[transmitter][:2]) / C


def link_rows(names: list[str], rounds: int, rng: np.random.Generator, *, truth: bool) -> list[dict[str, Any]]:
    rows = []
    for receiver, transmitter in permutations(names, 2):
        sign = 1 if receiver < transmitter else -1
        for round_index in range(rounds):
            tick = 1_000_000 + 5_000_000 * round_index
            epoch = {"clock": receiver, "tick": tick, "fraction": 0.25, "rate": RATE}
            seconds = tick / RATE
            cfo = sign * (48_480.0 + 0.4 * seconds)
            to = sign * (2.301234 - 48_480.0 / CARRIER * seconds)
            for method, (actual, to_std, cfo_std) in SPREADS.items():
                pair = np.random.default_rng(
                    [round_index, *map(ord, "".join([*sorted((receiver, transmitter)), method]))]
                )
                to_error, cfo_error = sign * actual * np.array([to_std, cfo_std]) * pair.standard_normal(2)
                if method == "spectral-cc":
                    to_error = sign * to_std * pair.uniform(-1.7, 1.7)
                valid = not (method == "reciprocity-mp" and round_index == 3)
                rows.append(
                    {
                        "receiver": receiver,
                        "transmitter": transmitter,
                        "round": round_index,
                        "method": method,
                        "valid": valid,
                        "reason": "" if valid else "two poles of equal strength",
                        "to_s": to + float(to_error),
                        "to_std_s": to_std,
                        "cfo_hz": cfo + float(cfo_error),
                        "cfo_std_hz": cfo_std,
                        "epoch": epoch,
                        "to_error_s": float(to_error) if truth else None,
                        "cfo_error_hz": float(cfo_error) if truth else None,
                        "snr_db": 20.0,
                    }
                )
            rows.append(
                {
                    "receiver": receiver,
                    "transmitter": transmitter,
                    "round": round_index,
                    "method": "cacc",
                    "valid": True,
                    "reason": "gives offset-free sensing, no clock offset",
                }
            )
    return rows


def target_rows(
    names: list[str], rounds: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Detections, positions, truth."""
    velocity = np.array([4.0, -3.0])
    detections, positions, truth = [], [], []
    for round_index in range(rounds):
        point = cyclist(round_index)
        for receiver, transmitter in permutations(names, 2):
            delay, doppler = bistatic(point, velocity, receiver, transmitter)
            where = {"receiver": receiver, "transmitter": transmitter, "round": round_index}
            truth.append(
                {**where, "name": "cyclist", "delay_s": delay, "doppler_hz": doppler, "position_m": point.tolist()}
            )
            for name, at in REFLECTORS.items():
                still = bistatic(np.array(at), np.zeros(2), receiver, transmitter)
                truth.append({**where, "name": name, "delay_s": still[0], "doppler_hz": 0.0, "position_m": list(at)})
            seen = {
                "reference": "absolute",
                "delay_s": delay + 1.2e-9 * rng.standard_normal(),
                "delay_std_s": 1.2e-9,
                "doppler_hz": doppler + 0.4 * rng.standard_normal(),
                "doppler_std_hz": 0.4,
                "angle_rad": 0.3,
                "snr_db": 24.0,
                "target": "cyclist",
            }
            detections.append({**where, **seen, "method": "reciprocity-mle"})
            # the same peak made absolute by a time offset 9 ns off
            detections.append({**where, **seen, "method": "spectral-cc", "delay_s": seen["delay_s"] + 9e-9})
            detections.append(
                {
                    **where,
                    "method": "cacc",
                    "reference": "line-of-sight",
                    "delay_s": delay - baseline_s(receiver, transmitter) + 3e-9 * rng.standard_normal(),
                    "doppler_hz": doppler + 0.6 * rng.standard_normal(),
                    "target": "cyclist",
                }
            )
        covariance = np.array([[0.09, 0.05], [0.05, 0.16]])
        estimate = point + np.linalg.cholesky(covariance) @ rng.standard_normal(2)
        for method, off in (("reciprocity-mle", estimate), ("spectral-cc", estimate + 3.0)):
            positions.append(
                {
                    "round": round_index,
                    "method": method,
                    "fusion": "centralised",
                    "target": "cyclist",
                    "position_m": off.tolist(),
                    "covariance_m2": covariance.tolist(),
                    "error_m": float(np.hypot(*(off - point))),
                }
            )
    return detections, positions, truth


def delay_doppler_map(receiver: str, transmitter: str, round_index: int, rng: np.random.Generator) -> dict[str, Any]:
    """Power map of the mover, what clutter removal left, and noise, with windows of both axes."""
    delay = np.arange(0, 512) / (2 * 15.625e6)
    doppler = (np.arange(64) - 32) / (64 * 0.005)
    paths = [(*bistatic(cyclist(round_index), np.array([4.0, -3.0]), receiver, transmitter), 30.0)]
    paths += [(*bistatic(np.array(at), np.zeros(2), receiver, transmitter), 6.0) for at in REFLECTORS.values()]
    noise = (rng.standard_normal((64, 512)) + 1j * rng.standard_normal((64, 512))) / math.sqrt(2)
    for tau, nu, db in paths:
        along = np.sinc((delay - tau) * 15.625e6 * 0.6)[None, :] ** 2
        across = np.sinc((doppler - nu) * 0.08 * 0.6)[:, None] ** 2
        noise += 10 ** (db / 20) * along * across
    return {
        "map_db": (20 * np.log10(np.abs(noise)) - 80).astype(np.float32),
        "map_delay_s": delay,
        "map_doppler_hz": doppler,
        "baseline_s": np.float64(baseline_s(receiver, transmitter)),
        "round": np.int64(round_index),
    }


def constellation(rng: np.random.Generator, points: int = 3000) -> np.ndarray:
    levels = np.array([-3, -1, 1, 3]) / math.sqrt(10)
    sent = rng.choice(levels, points) + 1j * rng.choice(levels, points)
    return (sent + 0.06 * (rng.standard_normal(points) + 1j * rng.standard_normal(points))).astype(np.complex64)


def make_run(folder: Path, *, nodes: int = 2, rounds: int = 8, truth: bool = True, products: bool = True) -> Path:
    """Folder of a run as `isac run` would leave it, its recordings apart."""
    rng = np.random.default_rng(3)
    names = list(NODES)[:nodes]
    folder.mkdir(parents=True)
    (folder / "scenario.toml").write_text(scenario_text(names, rounds, truth=truth))
    detections, positions, targets = target_rows(names, rounds, rng)
    if not truth:
        for row in (*detections, *positions):
            row["target"] = None
            row.pop("error_m", None)
    links = list(permutations(names, 2))
    results = {
        "schema_version": 1,
        "environment": {
            "isac": "0.1.0",
            "python": "3.11.9",
            "packages": {"numpy": "2.4.6"},
            "machine": "x86_64",
            "seed": 7,
        },
        "links": link_rows(names, rounds, rng, truth=truth),
        "detections": detections,
        "positions": positions,
        "nodes": [
            {
                "node": name,
                "round": r,
                "reference": names[0],
                "offset_s": 0.0 if name == names[0] else -2.301234567891 - 5e-6 * r,
                "drift": 0.0 if name == names[0] else -2.02e-5,
                "covariance": [[4.9e-23, 0.0], [0.0, 2.9e-23]],
            }
            for name in names
            for r in range(rounds)
        ],
        "payload": [
            {
                "receiver": a,
                "transmitter": b,
                "round": r,
                "frames": 16,
                "frames_lost": int(r == 2 and a == names[0]),
                "bits": 16 * 64 * 700 * 4,
                "bit_errors": 0 if b == names[0] else 3,
                "evm_db": -21.4,
            }
            for a, b in links
            for r in range(rounds)
        ],
        "rounds": [{"round": r, "status": "complete", "nodes": names} for r in range(rounds)],
        "events": [{"round": 2, "node": names[0], "code": "samples-lost", "text": "a buffer of 8192 samples was lost"}],
        "losses": [{"node": names[0], "round": 2, "tick": 11_234_567, "samples": 8192}],
        "truth": {"targets": targets} if truth else None,
        "timing": {
            "acquisition": 3.1,
            "front": 1.7,
            "offsets": 4.4,
            "sensing": 2.2,
            "positions": 0.3,
            "recording": 0.9,
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    if products:
        arrays: dict[str, Any] = {"links": np.array([f"{a}<-{b}" for a, b in links])}
        for index, (a, b) in enumerate(links):
            kept = delay_doppler_map(a, b, rounds - 1, rng) | {"constellation": constellation(rng)}
            arrays |= {f"{key}_{index}": value for key, value in kept.items()}
        np.savez(folder / "products.npz", **arrays)
    return folder


def edit(folder: Path, change: Any) -> Path:
    """The run in ``folder`` with its results changed in place."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))
    return folder


def faultless(results: dict[str, Any]) -> None:
    results["losses"], results["events"] = [], []
    for row in results["payload"]:
        row["frames_lost"] = row["bit_errors"] = 0


@pytest.fixture(scope="session")
def synthetic() -> SimpleNamespace:
    """What the synthetic run is made of, for the tests to reckon with."""
    names = "C CARRIER RATE REFLECTORS SPREADS bistatic cyclist edit faultless make_run"
    return SimpleNamespace(**{name: globals()[name] for name in names.split()})


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "two-nodes-run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report written."""
    folder = make_run(tmp_path_factory.mktemp("report") / "run", rounds=5)
    write_report(folder)
    return folder
