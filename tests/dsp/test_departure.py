"""Leakage arrival among echoes, and the one latency of a stream."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import butter, freqs

from dsp.channel import ChannelState, ComplexArray
from dsp.departure import latency, leakage_arrival
from dsp.dispersion import mean_response
from dsp.moment import Moment
from dsp.paths import first_path

RATE_HZ = Fraction(20_000_000)
SUBCARRIER_HZ = 20e6 / 1024 * np.concatenate([np.arange(-400, 0), np.arange(1, 401)])
REFERENCE = Moment("n", 123_456, 0.25, RATE_HZ)


def own_frames(
    generator: np.random.Generator, echoes: list[tuple[float, float]], *, snr_db: float = 60.0, symbols: int = 16
) -> tuple[ChannelState, float]:
    """Leakage at a random residual delay with echoes (dB, seconds after it); SNR per element of 128 symbols."""
    delay_s = generator.uniform(-30e-9, 30e-9)
    channel = np.exp(-2j * np.pi * SUBCARRIER_HZ * delay_s)
    for level_db, late_s in echoes:
        gain = 10 ** (level_db / 20) * np.exp(2j * np.pi * generator.uniform())
        channel = channel + gain * np.exp(-2j * np.pi * SUBCARRIER_HZ * (delay_s + late_s))
    noise = 10 ** (-snr_db / 10) * symbols / 128
    shape = (symbols, len(SUBCARRIER_HZ))
    jitter = np.exp(0.01j * generator.normal(size=(symbols, 1)))
    values = channel * jitter * np.exp(1j) + np.sqrt(noise / 2) * (
        generator.normal(size=shape) + 1j * generator.normal(size=shape)
    )
    state = ChannelState(
        values=values[None],
        weights=np.ones(shape),
        subcarrier_hz=SUBCARRIER_HZ,
        symbol_s=np.arange(symbols) * 57.6e-6,
        reference=REFERENCE,
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.array([noise]),
        frame_of_symbol=np.zeros(symbols, dtype=np.intp),
    )
    return state, delay_s


def single_path_delay_s(state: ChannelState) -> float:
    """What one path alone would be fitted at: the phase slope of greatest correlation."""
    trials = np.linspace(-31e-9, 31e-9, 3101)
    mean = state.values[0].mean(axis=0)
    return float(trials[np.argmax(np.abs(np.exp(2j * np.pi * np.outer(trials, SUBCARRIER_HZ)) @ mean))])


def test_one_echo_does_not_bias_the_leakage() -> None:
    generator = np.random.default_rng(1)
    errors, stated, single = [], [], []
    for _ in range(4):
        state, delay_s = own_frames(generator, [(-40.0, generator.uniform(20e-9, 67e-9))])
        arrival = leakage_arrival(state)
        errors.append(arrival.moment.seconds_since(REFERENCE) - delay_s)
        stated.append(arrival.std_s)
        single.append(single_path_delay_s(state) - delay_s)
        assert arrival.echoes >= 1
    assert np.max(np.abs(errors)) < 2e-12
    assert 0.2 < np.mean(np.square(errors) / np.square(stated)) < 2.5
    assert np.sqrt(np.mean(np.square(single))) > 50e-12  # the bias that is avoided is there


def test_several_echoes_do_not_bias_the_leakage() -> None:
    generator = np.random.default_rng(2)
    for _ in range(2):
        echoes = [(generator.uniform(-60, -40), generator.uniform(20e-9, 600e-9)) for _ in range(3)]
        state, delay_s = own_frames(generator, echoes)
        arrival = leakage_arrival(state)
        error_s = arrival.moment.seconds_since(REFERENCE) - delay_s
        assert abs(error_s) < max(2e-12, 4 * arrival.std_s)
        assert arrival.std_s < 5e-12


def test_leakage_alone_reaches_its_bound() -> None:
    generator = np.random.default_rng(3)
    for _ in range(10):
        state, delay_s = own_frames(generator, [])
        arrival = leakage_arrival(state)
        assert arrival.echoes == 0
        assert abs(arrival.moment.seconds_since(REFERENCE) - delay_s) < 4 * arrival.std_s
        assert arrival.std_s < 0.15e-12


def test_an_unresolvable_echo_widens_the_deviation() -> None:
    state, _ = own_frames(np.random.default_rng(4), [(-40.0, 5e-9)])
    clear, _ = own_frames(np.random.default_rng(4), [(-40.0, 50e-9)])
    assert leakage_arrival(state).std_s > 3 * leakage_arrival(clear).std_s


def low_passes() -> ComplexArray:
    """Response of analog low passes as a transceiver has them for 18 MHz of bandwidth, by scipy, without the slope of
    its phase over the band."""
    response = np.ones(SUBCARRIER_HZ.size, np.complex128)
    for cubic, single in ((1.4, 2.5), (1.6, 5.0)):
        for order, ratio in ((3, cubic), (1, single)):
            numerator, denominator = butter(order, 2 * np.pi * ratio * 9e6, analog=True)
            response *= freqs(numerator, denominator, 2 * np.pi * SUBCARRIER_HZ)[1]
    phase, weight = np.unwrap(np.angle(response)), np.abs(response) ** 2
    slope = np.sum(weight * SUBCARRIER_HZ * phase) / np.sum(weight * SUBCARRIER_HZ**2)
    return response * np.exp(-1j * slope * SUBCARRIER_HZ)


def dispersed(state: ChannelState) -> ChannelState:
    return replace(state, values=state.values * low_passes())


def test_filters_are_not_taken_for_echoes() -> None:
    generator = np.random.default_rng(6)
    for echoes in ([], [(-40.0, 600e-9)]):
        state, delay_s = own_frames(generator, echoes, snr_db=45.0)
        arrival = leakage_arrival(dispersed(state))
        assert arrival.echoes >= len(echoes)
        # What the delay of a dispersive chain is depends on how one weighs the band: 21 ps between two ways here.
        assert arrival.moment.seconds_since(REFERENCE) - delay_s == pytest.approx(0.0, abs=25e-12)
        assert arrival.std_s < 5e-12
        assert arrival.dispersion is not None
        ratio = arrival.dispersion.at(SUBCARRIER_HZ) / low_passes()
        assert np.abs(ratio / ratio.mean() - 1.0).max() < 5e-3
        assert leakage_arrival(state).dispersion is None
    # What is not alike on both sides of the carrier is no filter's, and keeps the deviation wide.
    state, _ = own_frames(generator, [(-30.0, 4e-9)])
    assert leakage_arrival(dispersed(state)).std_s > 20e-12


def test_the_leakages_filters_are_taken_off_a_distant_path() -> None:
    """Left in they make a path 50 ns before the first, of which a range of metres would come."""
    generator = np.random.default_rng(7)
    own = leakage_arrival(dispersed(own_frames(generator, [])[0])).dispersion
    errors, without_s = [], []
    for _ in range(2):
        state, delay_s = own_frames(generator, [(-10.0, 180e-9)], snr_db=11.0)
        response = mean_response(own, own, SUBCARRIER_HZ)
        found = first_path(dispersed(state), response)
        errors.append((found.delay_s - delay_s) / found.std_s)
        assert found.std_s < 30e-12
        assert abs(found.delay_s - delay_s) < 120e-12
        without_s.append(abs(first_path(dispersed(state)).delay_s - delay_s))
    assert np.sqrt(np.mean(np.square(errors))) < 3.0
    assert max(without_s) > 10e-9
    assert mean_response(None, None, SUBCARRIER_HZ) is None
    half = mean_response(own, None, SUBCARRIER_HZ)
    assert half is not None
    assert half**2 == pytest.approx(response)


def test_too_few_subcarriers_are_refused() -> None:
    state, _ = own_frames(np.random.default_rng(5), [])
    weights = np.zeros_like(state.weights)
    weights[:, :5] = 1.0
    with pytest.raises(ValueError, match="eight known subcarriers"):
        leakage_arrival(ChannelState(**{**vars(state), "weights": weights}))


def arrivals(delays: list[float]) -> tuple[list[Moment], list[int]]:
    ticks = [10_000_000_000 + 160_000 * number for number in range(len(delays))]
    return [Moment.at("n", delay, RATE_HZ, tick=tick) for tick, delay in zip(ticks, delays, strict=True)], ticks


def test_latency_is_whole_samples_where_the_leakage_agrees() -> None:
    found = latency(*arrivals([37.00005, 36.9999, 37.0001]), None)
    assert (found.samples, found.fraction) == (37, 0.0)
    assert found.note.startswith("whole samples")


def test_latency_takes_the_calibrated_fraction_and_the_leakage_whole_samples() -> None:
    found = latency(*arrivals([37.49, 37.52, 37.50]), 0.4987)
    assert (found.samples, found.fraction, found.std_s) == (37, 0.4987, 0.0)
    found = latency(*arrivals([-2.98, -3.02]), 0.98)
    assert found.samples + found.fraction == pytest.approx(-3.02)


def test_latency_without_calibration_says_that_the_fraction_is_measured() -> None:
    moments, ticks = arrivals([37.3001, 37.2999, 37.3])
    found = latency(moments, [Moment("n", tick, 0.0, RATE_HZ) for tick in ticks], None)
    assert found.samples == 37
    assert found.fraction == pytest.approx(0.3, abs=1e-4)
    assert found.std_s == pytest.approx(1e-4 / 20e6 / np.sqrt(3), rel=0.01)
    assert "not calibrated" in found.note


def test_latency_that_changes_within_a_stream_is_said() -> None:
    found = latency(*arrivals([37.0, 37.0, 41.0]), None)
    assert "changed within the stream" in found.note
    assert found.std_s > 50e-9


def test_latency_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        latency([], [], None)
