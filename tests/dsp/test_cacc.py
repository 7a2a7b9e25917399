"""Movers against the line of sight from cross-antenna products, with clocks that jump at every symbol."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Observation
from dsp.synchronization.cacc import CrossAntennaCorrelation, cross_antenna_paths

SPEED_OF_LIGHT_MPS = 299_792_458.0
CARRIER_HZ = 28e9
F_HZ = (np.arange(97) - 48) * 480e3
T_S = np.arange(64) * 0.25e-3
ANTENNA_M = np.arange(4) * SPEED_OF_LIGHT_MPS / CARRIER_HZ / 2


def scene(
    generator: np.random.Generator,
    *,
    delays_s: list[float],
    dopplers_hz: list[float],
    angles_rad: list[float],
    levels_db: list[float],
    snr_db: float,
    carrier_hz: float = CARRIER_HZ,
) -> ChannelState:
    """Paths on four antennas half a wavelength apart; time offset within ±30 ns and phase anew in every symbol."""
    gains = 10 ** (np.array(levels_db) / 20) * np.exp(2j * np.pi * generator.uniform(size=len(levels_db)))
    early_s = np.outer(np.arange(4), np.sin(angles_rad)) / (2.0 * carrier_hz)
    array = np.exp(2j * np.pi * early_s[:, :, None] * (carrier_hz + F_HZ))
    turns = np.outer(T_S - T_S.mean(), dopplers_hz)[:, :, None] * (1.0 + F_HZ / carrier_hz)
    time = np.exp(2j * np.pi * turns)
    frequency = np.exp(-2j * np.pi * np.outer(delays_s, F_HZ))
    values = np.einsum("u,auk,luk,uk->alk", gains, array, time, frequency)
    jumps_s = generator.uniform(-30e-9, 30e-9, len(T_S))
    values *= np.exp(2j * np.pi * (generator.uniform(size=(len(T_S), 1)) - np.outer(jumps_s, F_HZ)))
    noise = 10 ** (-snr_db / 10)
    values += np.sqrt(noise / 2) * (generator.normal(size=values.shape) + 1j * generator.normal(size=values.shape))
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=F_HZ,
        symbol_s=T_S,
        reference=Moment("n", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(carrier_hz),
        noise=np.full(4, noise),
        frame_of_symbol=np.zeros(len(T_S), dtype=np.intp),
    )


def test_two_movers_are_found_with_the_sign_of_their_doppler() -> None:
    generator = np.random.default_rng(1)
    errors, scaled = [], []
    for _ in range(8):
        delays = [50e-9, *(np.array([150e-9, 320e-9]) + generator.uniform(-10e-9, 10e-9, 2))]
        dopplers = [0.0, *(np.array([310.0, -480.0]) + generator.uniform(-30, 30, 2))]
        angles = list(generator.uniform(-1.0, 1.0, 3))
        state = scene(
            generator,
            delays_s=delays,
            dopplers_hz=dopplers,
            angles_rad=angles,
            levels_db=[0.0, -10.0, -10.0],
            snr_db=10.0,
        )
        sensing = cross_antenna_paths(state, antenna_m=ANTENNA_M)
        assert sensing.valid, sensing.reason
        assert len(sensing.paths) == 2
        for path, delay_s, doppler_hz, angle in zip(
            sorted(sensing.paths, key=lambda found: found.delay_s), delays[1:], dopplers[1:], angles[1:], strict=True
        ):
            errors.append((path.delay_s - delay_s + delays[0], path.doppler_hz - doppler_hz, path.angle_rad - angle))
            scaled.append((errors[-1][0] / path.delay_std_s, errors[-1][1] / path.doppler_std_hz))
    rmse = np.sqrt(np.mean(np.square(errors), axis=0))
    # Reference of methods 3.2 at 10 dB, 128 symbols: 0.16 ns and 0.2 Hz; here half the symbols: √2 and √8 of it.
    assert rmse[0] < 0.16e-9 * np.sqrt(2)
    assert rmse[1] < 0.2 * np.sqrt(8)
    assert np.rad2deg(rmse[2]) < 1.0
    # Chi-square of 16 over 16 within 99.9 %, the deviations taken a little wide for the common noise.
    assert np.all(np.mean(np.square(scaled), axis=0) < 2.5)
    assert np.all(np.mean(np.square(scaled), axis=0) > 0.15)


def test_a_still_scene_has_no_movers() -> None:
    generator = np.random.default_rng(2)
    for _ in range(10):
        state = scene(
            generator,
            delays_s=[50e-9, 120e-9],
            dopplers_hz=[0.0, 0.0],
            angles_rad=[0.2, -0.5],
            levels_db=[0.0, -15.0],
            snr_db=10.0,
        )
        sensing = cross_antenna_paths(state)
        assert sensing.valid
        assert sensing.paths == ()


def test_missing_line_of_sight_is_recognised() -> None:
    generator = np.random.default_rng(3)
    invalid = 0
    for _ in range(8):
        delays = list(generator.uniform(50e-9, 1.0e-6, 5))
        state = scene(
            generator,
            delays_s=delays,
            dopplers_hz=[0.0, 0.0, 0.0, 310.0, -480.0],
            angles_rad=list(generator.uniform(-1, 1, 5)),
            levels_db=[0.0, -1.0, -2.0, -10.0, -10.0],
            snr_db=20.0,
        )
        sensing = cross_antenna_paths(state)
        invalid += not sensing.valid
        assert sensing.valid or "no line of sight" in sensing.reason
    assert invalid == 8


def test_line_of_sight_intact_is_not_rejected() -> None:
    generator = np.random.default_rng(4)
    for _ in range(8):
        state = scene(
            generator,
            delays_s=[50e-9, 120e-9, 170e-9],
            dopplers_hz=[0.0, 0.0, 200.0],
            angles_rad=[0.2, -0.5, 0.7],
            levels_db=[0.0, -12.0, -15.0],
            snr_db=float(generator.uniform(0.0, 30.0)),
        )
        assert cross_antenna_paths(state).valid


def test_method_gives_no_offset_and_says_why() -> None:
    state = scene(
        np.random.default_rng(5),
        delays_s=[50e-9, 150e-9],
        dopplers_hz=[0.0, 250.0],
        angles_rad=[0.0, 0.5],
        levels_db=[0.0, -12.0],
        snr_db=20.0,
    )
    offset = CrossAntennaCorrelation().estimate(Observation(forward=state, departure=None))
    assert offset.to_s is None
    assert offset.cfo_hz is None
    assert offset.valid
    assert "no" in offset.reason
    assert len(offset.details["sensing"].paths) == 1
    with pytest.raises(MissingInputError, match="a second antenna"):
        CrossAntennaCorrelation().estimate(Observation(forward=state.antenna(0), departure=None))


def test_too_little_is_refused() -> None:
    state = scene(
        np.random.default_rng(6), delays_s=[0.0], dopplers_hz=[0.0], angles_rad=[0.0], levels_db=[0.0], snr_db=20.0
    )
    with pytest.raises(ValueError, match="two antennas"):
        cross_antenna_paths(state.antenna(0))


def test_what_a_static_echo_makes_of_a_mover_is_no_path() -> None:
    """An echo 11 dB down and two movers that share a Doppler: the product of mover and echo goes, the second stays."""
    generator = np.random.default_rng(9)
    for echo_s, second in ((60e-9, True), (240e-9, False)):  # the product mirrored, where the echo is later
        delays = [50e-9, 50e-9 + echo_s, 200e-9, 410e-9]
        levels = [0.0, -11.0, -8.0, -18.0]
        used = [0, 1, 2, 3] if second else [0, 1, 2]
        state = scene(
            generator,
            delays_s=[delays[one] for one in used],
            dopplers_hz=[(0.0, 0.0, 310.0, 310.0)[one] for one in used],
            angles_rad=list(generator.uniform(-1.0, 1.0, len(used))),
            levels_db=[levels[one] for one in used],
            snr_db=20.0,
        )
        sensing = cross_antenna_paths(state)
        assert sensing.valid, sensing.reason
        found = sorted(path.delay_s for path in sensing.paths)
        assert found == pytest.approx([150e-9, 360e-9] if second else [150e-9], abs=2e-9)


def test_delays_are_those_at_the_first_antenna() -> None:
    """Wave fronts that cross four antennas at 2.4 GHz: 0.3 ns to their middle."""
    generator = np.random.default_rng(10)
    for sine in (0.9, -0.9):
        state = scene(
            generator,
            delays_s=[50e-9, 200e-9],
            dopplers_hz=[0.0, 310.0],
            angles_rad=[np.arcsin(-0.8 * sine), np.arcsin(sine)],
            levels_db=[0.0, -10.0],
            snr_db=30.0,
            carrier_hz=2.4e9,
        )
        (path,) = cross_antenna_paths(state).paths
        assert abs(path.delay_s - 150e-9) < 5.0 * path.delay_std_s < 0.1e-9
