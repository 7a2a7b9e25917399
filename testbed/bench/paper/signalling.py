"""What precoding over the band and of every symbol gains: position error and power over the SINR that users ask for."""

from __future__ import annotations

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import Cooperation
from dsp.network.design import Demand, design_precoders
from dsp.network.sensing_information import Geometry, information_terms
from dsp.network.spectral_design import Spectrum, design_over_band, spectral_terms
from dsp.network.symbol_level import constructive_vectors
from testbed.bench.paper.figure import Compared, Curve, Panel, PaperFigure
from testbed.planning.signalling import block_middles_hz

__all__ = ["least_power_of_blocks", "over_band", "symbol_gain"]

_BAND_HZ = 20e6
_POWER = 0.25
_NOISE = 1e-7
_ECHO_SNR = 1e3
_MOST_STEPS = 3000


def _scene(seed: int, users: int, blocks: int) -> tuple[Geometry, ComplexArray]:
    """Three stations of four antennas about a target, and users of Rayleigh channels 60 dB down over the blocks."""
    rng = np.random.default_rng([seed, 0x5196])
    turn = 2 * np.pi * (np.arange(3) + rng.uniform(0.2, 0.8, 3)) / 3
    places = 100 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    geometry = Geometry(places, turn + np.pi, 4, rng.uniform(-30, 30, 2), 3.5e9, _BAND_HZ)
    parts = rng.standard_normal((2, users, 3, 4)) * 1e-3 / np.sqrt(2)
    delay = rng.uniform(0, 2e-7, (users, 3, 1))
    offset = block_middles_hz(_BAND_HZ, blocks)[:, None, None, None]
    return geometry, (parts[0] + 1j * parts[1]) * np.exp(2j * np.pi * offset * delay)


def _demand(channels: ComplexArray, sinr_db: float, mode: Cooperation) -> Demand:
    return Demand(channels, 0.1 * _NOISE, np.full(len(channels), 10 ** (sinr_db / 10)), _POWER, mode)


def over_band(trials: int, seed: int) -> PaperFigure:
    """Survey section IV, per-subcarrier designs: optimal, orthogonal and beamforming alone, and one for the band."""
    blocks, demands_db = 6, np.array([0.0, 8.0, 16.0])
    middles = block_middles_hz(_BAND_HZ, blocks)
    ways = ("one precoder for the band", *(spectrum.value for spectrum in Spectrum))
    errors = np.zeros((len(ways), demands_db.size, trials))
    for trial in range(trials):
        geometry, channels = _scene(seed + trial, 2, blocks)
        terms = spectral_terms(geometry, np.full((3, 3), _ECHO_SNR), middles)
        flat = information_terms(geometry, np.full((3, 3), _ECHO_SNR))
        for column, demand_db in enumerate(demands_db):
            # Powers of the stations add, so that one precoder serves the whole band as well.
            demand = _demand(channels[0], demand_db, Cooperation.NON_COHERENT)
            errors[0, column, trial] = design_precoders(geometry, flat, demand).crlb_m2
            for row, spectrum in enumerate(Spectrum, start=1):
                errors[row, column, trial] = design_over_band(geometry, terms, channels, demand, spectrum).crlb_m2
    rmse = np.sqrt(errors.mean(axis=2))
    # Over what: one precoder over the optimum, and turns.
    gains = [(ways[0], np.sqrt(errors[0] / errors[1])), (ways[2], np.sqrt(errors[2] / errors[1]))]
    return PaperFigure(
        "spectrum",
        "Position error of precoders that differ over the band",
        (Panel("SINR demanded by each user [dB]", "Position error √CRLB [m]",
               tuple(Curve(way, demands_db, row, points=way == Spectrum.BEAMFORMING.value)
                     for way, row in zip(ways, rmse, strict=True)), y_log=False),),
        tuple(
            Compared(f"{name} over optimal at {demand_db:g} dB", "", float(gain[column].mean()), "×", trials=trials,
                     standard_error=float(gain[column].std(ddof=1) / np.sqrt(trials)) if trials > 1 else None)
            for name, gain in gains for column, demand_db in enumerate(demands_db)
        ),
        {"scene": "three stations of four antennas 100 m about a target, two users, Rayleigh channels over 200 ns",
         "blocks": f"{blocks} of 20 MHz",
         "users": "non-coherent joint transmission"},
    )  # fmt: skip


def symbol_gain(trials: int, seed: int) -> PaperFigure:
    """Survey section IV, symbol-level precoding: power that users' QPSK takes, beside the least of any precoders."""
    demands_db, symbols, antennas = np.array([0.0, 5.0, 10.0, 15.0, 20.0]), 64, 12
    panels, compared = [], []
    for users in (8, 12):
        power = np.zeros((2, demands_db.size, trials))
        for trial in range(trials):
            rng = np.random.default_rng([seed, trial, users, 0x51])
            parts = rng.standard_normal((2, users, antennas)) * 1e-3 / np.sqrt(2)
            channels = parts[0] + 1j * parts[1]
            sent = np.exp(1j * (np.pi / 4 + np.pi / 2 * rng.integers(4, size=(symbols, users))))
            for column, demand in enumerate(10 ** (demands_db / 10)):
                asked = np.full(users, demand)
                vectors = constructive_vectors(channels, sent, asked, _NOISE)
                power[0, column, trial] = least_power_of_blocks(channels, asked, _NOISE)
                power[1, column, trial] = np.mean(np.sum(np.abs(vectors) ** 2, axis=1))
        decibels = 10 * np.log10(power)
        panels.append(
            Panel("SINR demanded by each user [dB]", "Mean transmit power [dBW]",
                  (Curve("least of any precoders", demands_db, decibels[0].mean(axis=1)),
                   Curve("every symbol by itself", demands_db, decibels[1].mean(axis=1))),
                  f"{users} users, {antennas} antennas", y_log=False)
        )  # fmt: skip
        gain = decibels[0] - decibels[1]
        compared += [
            Compared(f"gain at {demand_db:g} dB, {users} users", "", float(one.mean()), "dB",
                     trials=trials, standard_error=float(one.std() / np.sqrt(trials)))
            for demand_db, one in zip(demands_db, gain, strict=True)
        ]  # fmt: skip
    return PaperFigure(
        "symbol-level",
        "Power by symbol-level precoding",
        tuple(panels),
        tuple(compared),
        {"scene": f"{antennas} antennas with common phase, Rayleigh channels 60 dB down, noise {_NOISE:g} W, QPSK",
         "SINR of a symbol": "distance beyond its thresholds over the noise: interference counts where it harms",
         "reference": "least power of linear precoders by uplink-downlink duality"},
    )  # fmt: skip


def least_power_of_blocks(channels: ComplexArray, asked: FloatArray, noise: float) -> float:
    """Least total power of linear precoders that give every user its SINR, symbols unknown.

    The fixed point of the dual uplink, λ_u = 1/((1 + 1/Γ_u)·h_uᴴS⁻¹h_u), S = I + Σ λ·h·hᴴ, whose powers sum to the
    downlink's; channels in deviations of the noise.

    Source: Wiesel, Eldar and Shamai, IEEE Trans. Signal Process. 54(1), 2006.
    """
    scaled = channels / np.sqrt(noise)
    powers = np.ones(len(scaled))
    for _ in range(_MOST_STEPS):
        total = np.eye(scaled.shape[1]) + np.einsum("u,ua,ub->ab", powers, scaled, scaled.conj())
        seen = np.einsum("ua,ua->u", scaled.conj(), np.linalg.solve(total, scaled.T).T).real
        following = 1 / ((1 + 1 / asked) * seen)
        if np.max(np.abs(following / powers - 1)) < 1e-9:
            break
        powers = following
    return float(following.sum())
