"""Setting C: random experiments from IQ through the whole chain, judged against the bounds.

20 MS/s, 1024 points, 800 subcarriers, 128 symbols, 2.4 GHz, 20 dB, shared ports, static reflectors, clocks uniform
over ±25 ppm each; places, fractions and starts random. Each trial is a world of its own: one round through simulated
radios and the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

import numpy as np
import tomli_w

from testbed.results import LinkRow
from testbed.scenario import Scenario, loads

__all__ = ["VARIANTS", "Trial", "Variant", "run_trial"]

_CARRIER_HZ = 2.4e9
_WAVELENGTH_M = 299_792_458.0 / _CARRIER_HZ


@dataclass(frozen=True)
class Variant:
    """One row of the table of figures."""

    name: str
    duplex: str = "full"
    modulation: str = "qpsk"
    noise: bool = False
    """Oscillators' and synthesizers' noise, leakage at +40 dB, departures by leakage."""
    mover: str = ""
    """"resolved": two Doppler cells off or more; "unresolved": within one."""
    snr_db: float = 20.0
    rate_hz: float = 20e6
    symbols: int = 128
    profile: str = "tcxo"
    """Oscillators', where there is noise."""
    phase_noise_deg: float = 1.0
    """Of either synthesizer, where there is noise."""
    switched: bool = False
    """One port that a switch gives to transmitter and receiver in turn: no leakage, departures by time stamp."""

    @property
    def frame_s(self) -> float:
        """Duration of the symbols."""
        return self.symbols * 1152 / self.rate_hz


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("c-both-ways"),
        Variant("c-64qam", modulation="64qam"),
        Variant("c-half-duplex", duplex="half", noise=True),
        Variant("c-mover-resolved", duplex="half", noise=True, mover="resolved"),
        Variant("c-mover-unresolved", duplex="half", noise=True, mover="unresolved"),
        Variant("c-fraction", snr_db=60.0),
        Variant(
            "half-duplex-40mhz",
            duplex="half",
            noise=True,
            snr_db=30.0,
            rate_hz=40e6,
            symbols=256,
            profile="ocxo",
            phase_noise_deg=0.5,
            switched=True,
        ),
    )
}


@dataclass(frozen=True)
class Trial:
    """What one round gave, by method."""

    rows: tuple[LinkRow, ...]
    """Of one direction: the other one is its mirror."""
    fraction: float
    """Fraction of a sample in the true time offset."""


def run_trial(variant: Variant, seed: int, methods: tuple[str, ...]) -> Trial:
    """One random experiment of ``variant`` through simulated radios and the pipeline."""
    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline

    scenario = _scenario(variant, seed, methods)
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    links = pipeline.finish({}).links
    rows = tuple(row for row in links if row.receiver == "a")
    known = [row.to_s - row.to_error_s for row in rows if row.to_s is not None and row.to_error_s is not None]
    true_s = known[0] if known else 0.0
    return Trial(rows, true_s * variant.rate_hz % 1.0)


def _scenario(variant: Variant, seed: int, methods: tuple[str, ...]) -> Scenario:
    rng = np.random.default_rng([seed, 0xC])
    half = 0.5 * rng.uniform(8.0, 40.0)
    turn = rng.uniform(0, 2 * pi)
    ends = [(sign * half * cos(turn), sign * half * sin(turn)) for sign in (-1.0, 1.0)]
    reflectors: list[dict[str, Any]] = [
        {"position_m": rng.uniform(-60, 60, 2).tolist(), "rcs_m2": float(10 ** rng.uniform(0.5, 2.0))} for _ in range(5)
    ]
    if variant.mover:
        reflectors.append(_mover(rng, ends, resolved=variant.mover == "resolved", cell_hz=1.0 / variant.frame_s))
    front: dict[str, Any] = {"time_stamps": not variant.noise or variant.switched}
    if variant.noise:
        front |= {"phase_noise_deg": variant.phase_noise_deg}
        front |= {"transmit_delay_s": rng.uniform(5e-9, 50e-9), "receive_delay_s": rng.uniform(5e-9, 50e-9)}
    else:
        front |= {"phase_noise_deg": 0.0}
    nodes = [
        {
            "name": name,
            "position_m": list(place),
            "clock": {
                "offset_ppm": rng.uniform(-25, 25),
                "offset_s": rng.uniform(-20, 20),
                "profile": variant.profile if variant.noise else "ideal",
            },
            "front_end": dict(front) | _own_delays(rng, variant),
        }
        for name, place in zip("ab", ends, strict=True)
    ]
    return loads(
        tomli_w.dumps({
            "experiment": {"name": variant.name, "seed": seed, "rounds": 1, "methods": list(methods)},
            "waveform": {
                "carrier_hz": _CARRIER_HZ, "sample_rate_hz": variant.rate_hz, "fft_size": 1024, "cp_samples": 128,
                "active_subcarriers": 800, "symbols": variant.symbols, "modulation": variant.modulation,
            },
            "round": {"duplex": variant.duplex, "frames_per_slot": 1, "frame_period_s": 8e-3},
            "node": nodes,
            "scene": {
                "snr_db": variant.snr_db,
                "leakage_db": 40.0 if variant.noise and not variant.switched else "off",
                "reflector": reflectors,
            },
        }),
        source=variant.name,
    )  # fmt: skip


def _own_delays(rng: np.random.Generator, variant: Variant) -> dict[str, Any]:
    if not variant.noise:
        return {}
    return {"transmit_delay_s": rng.uniform(5e-9, 50e-9), "receive_delay_s": rng.uniform(5e-9, 50e-9)}


def _mover(
    rng: np.random.Generator, ends: list[tuple[float, float]], *, resolved: bool, cell_hz: float
) -> dict[str, Any]:
    """A reflector whose path length changes by the Doppler asked for, and whose echo is 20 dB down or more."""
    place = rng.uniform(-40, 40, 2)
    ways = [place - np.asarray(end) for end in ends]
    legs = [float(np.linalg.norm(way)) for way in ways]
    gradient = sum(way / leg for way, leg in zip(ways, legs, strict=True))
    cells = rng.uniform(2.0, 6.0) if resolved else rng.uniform(0.05, 0.9)
    doppler_hz = float(rng.choice([-1.0, 1.0])) * cells * cell_hz
    velocity = -doppler_hz * _WAVELENGTH_M * gradient / float(gradient @ gradient)
    # Echo over line of sight: σ·d²/(4π·r1²·r2²); at -20 to -30 dB of it.
    baseline = float(np.linalg.norm(np.subtract(ends[0], ends[1])))
    level = 10 ** (rng.uniform(-3.0, -2.0))
    return {
        "position_m": place.tolist(),
        "velocity_mps": velocity.tolist(),
        "rcs_m2": level * 4 * pi * (legs[0] * legs[1] / baseline) ** 2,
    }
