"""Static phase reference: what the line of sight leaves in Doppler under independently drawn clock phases."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.sensing.delay_doppler import Taper, delay_doppler
from dsp.sensing.static_reference import apply_reference, static_reference

SPACING, SYMBOL, CARRIER = 20e6 / 1024, 1152 / 20e6, 2.4e9


def slow_time(frames: int, symbols: int, period: float = 5e-3) -> np.ndarray:
    return (np.arange(frames)[:, None] * period + (np.arange(symbols) + 3) * SYMBOL).ravel()


def frequencies(subcarriers: int) -> np.ndarray:
    return np.r_[-subcarriers // 2 : 0, 1 : subcarriers // 2 + 1] * SPACING


def power_law_phase(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Phase of a cheap 40 MHz crystal carried to 2.4 GHz, drawn by spectral synthesis from its table of dBc/Hz.

    Two such nodes: 3 dB more. A sum of sinusoids at random phases, so that times need not be uniform.
    """
    frequency = np.geomspace(0.3, 8e3, 700)
    table = np.interp(np.log10(frequency), [0, 1, 2, 3, 4], [-50.0, -82.0, -110.0, -135.0, -148.0])
    table += np.where(frequency < 1, -32.0 * np.log10(frequency), 0.0)  # the decade slope goes on below 1 Hz
    density = 2 * 10 ** (table / 10) * (CARRIER / 40e6) ** 2 * 2
    amplitude = np.sqrt(2 * density * np.gradient(frequency))
    phases = rng.uniform(0, 2 * np.pi, frequency.size)
    return np.cos(2 * np.pi * np.outer(time, frequency) + phases) @ amplitude


def slot(rng: np.random.Generator, phase: np.ndarray, time: np.ndarray, frames: int, snr_db: float, extra=0.0):
    frequency = frequencies(800)
    static = np.exp(2j * np.pi * rng.random((2, 1))) * (
        1.0 + 0.3 * np.exp(-2j * np.pi * frequency * 210e-9) + 0.2j * np.exp(-2j * np.pi * frequency * 730e-9)
    )
    values = (static[:, None, :] + extra) * np.exp(1j * np.outer(phase, 1 + frequency / CARRIER))
    variance = 10 ** (-snr_db / 10)
    values = values + np.sqrt(variance / 2) * (
        rng.standard_normal(values.shape) + 1j * rng.standard_normal(values.shape)
    )
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=frequency,
        symbol_s=time,
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.full(2, variance),
        frame_of_symbol=np.repeat(np.arange(frames), time.size // frames),
    )


def residue_db(csi: ChannelState) -> tuple[float, float]:
    """Largest cell beyond the second Doppler cell against the static peak, before and after is the caller's matter."""
    span = float(np.ptp(csi.symbol_s))
    found = delay_doppler(
        csi.averaged(8),
        max_delay_s=3e-6,
        min_delay_s=-0.3e-6,
        max_doppler_hz=500.0,
        taper=Taper.KAISER_9,
    )
    power = found.power
    beyond = np.abs(found.doppler_hz) > 2.0 / span
    # a static path without any phase: the window's and the gaps' own response, which is not residue
    still = replace(csi, values=np.broadcast_to(csi.values.mean(axis=1, keepdims=True), csi.values.shape))
    ideal = delay_doppler(
        still.averaged(8), max_delay_s=3e-6, min_delay_s=-0.3e-6, max_doppler_hz=500.0, taper=Taper.KAISER_9
    )
    difference = np.sum(np.abs(found.values - ideal.values) ** 2, axis=0)
    return float(10 * np.log10(difference[beyond].max() / power.max())), span


@pytest.mark.parametrize(("frames", "period"), [(8, 5e-3), (20, 5e-3), (25, 20e-3)])
def test_residue_of_the_line_of_sight(frames, period):
    """A cheap crystal, 1° of each synthesizer and a residual CFO over 40 ms, 0.1 s and 0.5 s."""
    rng = np.random.default_rng(frames)
    time = slow_time(frames, 32, period)
    phase = power_law_phase(rng, time) + 2 * np.pi * rng.uniform(-20, 20) * time
    phase += np.deg2rad(1.0) * np.sqrt(2) * rng.standard_normal(time.size)
    csi = slot(rng, phase, time, frames, snr_db=50.0)
    before, _ = residue_db(csi)
    after, _ = residue_db(apply_reference(csi, static_reference(csi)))
    assert before > -35.0
    assert after < -60.0


def test_timing_drift_goes_with_the_phase():
    """Over a walk of many turns the band's edges would decohere if only the common phase were removed."""
    rng = np.random.default_rng(4)
    time = slow_time(8, 32)
    phase = 2 * np.pi * 180.0 * time
    csi = slot(rng, phase, time, 8, snr_db=70.0)
    coupled = residue_db(apply_reference(csi, static_reference(csi)))[0]
    uncoupled = residue_db(apply_reference(csi, static_reference(csi, coupled=False), coupled=False))[0]
    assert coupled < -75.0
    assert uncoupled > -55.0


def test_phase_is_unbiased_and_its_deviation_honest():
    rng = np.random.default_rng(5)
    time = slow_time(4, 32)
    scores = []
    for _ in range(20):
        phase = np.cumsum(0.05 * rng.standard_normal(time.size)) + 2 * np.pi * 40 * time
        reference = static_reference(slot(rng, phase, time, 4, snr_db=5.0))
        error = reference.phase_rad - (phase - phase.mean())
        error -= error.mean()
        scores.append(np.mean(error**2) / reference.phase_std_rad**2)
        assert reference.valid
    # 20 trials of 128 symbols: the mean of the normalised square is 1 within 4 deviations of √(2/2560)
    assert np.mean(scores) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 2560) + 1 / 128)


def test_a_residual_offset_is_reported():
    rng = np.random.default_rng(6)
    time = slow_time(8, 32)
    reference = static_reference(slot(rng, 2 * np.pi * -63.0 * time, time, 8, snr_db=20.0))
    assert reference.cfo_hz == pytest.approx(-63.0, abs=0.05)


def test_noise_alone_has_no_reference():
    rng = np.random.default_rng(7)
    time = slow_time(4, 32)
    csi = slot(rng, np.zeros(time.size), time, 4, snr_db=0.0)
    noise = (rng.standard_normal(csi.values.shape) + 1j * rng.standard_normal(csi.values.shape)) * np.sqrt(0.5)
    reference = static_reference(replace(csi, values=noise))
    assert not reference.valid
    assert reference.reason


def test_a_mover_alone_has_no_reference():
    """The strongest path moves: its phase is taken for the clock's, the static rest then does not hold still."""
    rng = np.random.default_rng(8)
    time = slow_time(8, 32)
    frequency = frequencies(800)
    fast = 5.0 * np.exp(2j * np.pi * np.outer(time, 90.0 * (1 + frequency / CARRIER)) - 2j * np.pi * frequency * 1.7e-6)
    csi = slot(rng, np.zeros(time.size), time, 8, snr_db=20.0, extra=fast)
    reference = static_reference(csi)
    # indistinguishable in one link from a clock running fast: the reference holds to the mover, at its Doppler
    assert reference.cfo_hz == pytest.approx(90.0, abs=1.0)


def test_input_is_checked():
    rng = np.random.default_rng(9)
    time = slow_time(2, 8)
    csi = slot(rng, np.zeros(16), time, 2, snr_db=20.0)
    with pytest.raises(ValueError, match="two symbols"):
        static_reference(replace(csi, weights=np.zeros_like(csi.weights)))
    reference = static_reference(csi)
    with pytest.raises(ValueError, match="symbols"):
        apply_reference(csi.averaged(2), reference)


def test_known_movers_do_not_pull_the_phase():
    rng = np.random.default_rng(10)
    time = slow_time(8, 32)
    frequency = frequencies(800)
    mover = 0.05 * np.exp(
        2j * np.pi * np.outer(time, 71.0 * (1 + frequency / CARRIER)) - 2j * np.pi * frequency * 30e-9
    )
    phase = np.cumsum(0.02 * rng.standard_normal(time.size)) + 2 * np.pi * 15 * time
    phase -= phase.mean()
    csi = slot(rng, phase, time, 8, snr_db=40.0, extra=mover)
    movers = np.broadcast_to(mover, csi.values.shape)
    pulled = static_reference(csi)
    free = static_reference(csi, movers=movers)
    assert np.std(pulled.phase_rad - phase) > 20 * pulled.phase_std_rad
    assert np.std(free.phase_rad - phase) < 1.2 * free.phase_std_rad
