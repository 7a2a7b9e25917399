"""Chains that differ over frequency, and paths that changed beside the line of sight: which it was, and its weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from dsp.channel import ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.synchronization.direction_difference import SMOOTH_TERMS, DirectionDifference, smooth_gain
from dsp.synchronization.matched_product import TwoWayLink
from dsp.synchronization.reciprocity import likelihood_residual
from dsp.synchronization.reciprocity_check import NonReciprocal, non_reciprocal

SUBCARRIER_HZ = (np.arange(400) - 199.5) * 39_062.5
SYMBOLS = 4


def low_pass(corner: float) -> ComplexArray:
    """Analog Butterworth low pass of third order, its corner over the band's edge; without its phase's slope."""
    edge = 2 * np.pi * float(SUBCARRIER_HZ.max())
    passed = signal.freqs(*signal.butter(3, corner * edge, analog=True), 2 * np.pi * SUBCARRIER_HZ)[1]
    slope = np.polyfit(SUBCARRIER_HZ, np.unwrap(np.angle(passed)), 1)[0]
    return np.asarray(passed * np.exp(-1j * slope * SUBCARRIER_HZ))


def path(gain: complex, delay_s: float) -> ComplexArray:
    return np.asarray(gain * np.exp(-2j * np.pi * SUBCARRIER_HZ * delay_s))


def link(rng: np.random.Generator, forward: ComplexArray, reverse: ComplexArray, snr_db: float) -> TwoWayLink:
    """Two clocks that agree see these channels in noise, each of unit power on the average."""
    variance = 10 ** (-snr_db / 10)
    seen = []
    for channel in (forward, reverse):
        noise = rng.normal(size=(SYMBOLS, len(channel), 2)).view(complex)[..., 0] * np.sqrt(variance / 2)
        seen.append(channel / np.sqrt(np.mean(np.abs(channel) ** 2)) + noise)
    spread: FloatArray = np.full(seen[0].shape, variance)
    return TwoWayLink(
        *seen, spread, spread, SUBCARRIER_HZ, np.arange(SYMBOLS) * 1e-4, np.zeros(SYMBOLS, np.intp), 2.4e9,
        1 / variance, Moment("n", 0, 0.0, Fraction(20_000_000)), 0.0, 0.0, 0.0,
    )  # fmt: skip


def judged(one: TwoWayLink) -> tuple[NonReciprocal, float, float]:
    """What is found; the time offset, which is none, with its stated deviation."""
    residual = likelihood_residual(one)
    seen = non_reciprocal(one, residual)
    return seen, residual.to_s + seen.likelier.to_correction_s, float(np.hypot(seen.likelier.to_std_s, seen.to_doubt_s))


def echoes(rng: np.random.Generator) -> ComplexArray:
    gains = rng.normal(size=(3, 2)).view(complex)[:, 0] * [1.0, 0.3, 0.1]
    return path(gains[0], 0.0) + path(gains[1], rng.uniform(0.1e-6, 1e-6)) + path(gains[2], rng.uniform(0.1e-6, 1e-6))


def test_in_multipath_chains_that_differ_are_told_from_paths_and_fitted() -> None:
    rng = np.random.default_rng(1)
    difference = np.log(low_pass(1.4) / low_pass(1.6))
    errors, by_paths, deviations = [], [], []
    for _ in range(8):
        channel = echoes(rng)
        seen, to_s, std_s = judged(link(rng, channel * low_pass(1.4), channel * low_pass(1.6), snr_db=32.0))
        assert seen.reciprocal
        assert seen.likelier is seen.chains
        assert seen.likelier.smooth_power == pytest.approx(float(np.var(difference)), rel=0.3)
        errors.append(to_s)
        by_paths.append(seen.paths.to_correction_s)
        deviations.append(std_s)
    assert np.sqrt(np.mean(np.square(np.array(errors) / deviations))) < 1.6
    assert np.median(deviations) < 20e-12
    assert np.median(np.abs(by_paths)) > 100e-12  # what the chains do to a fit that knows paths only


def test_a_path_changed_in_the_line_of_sights_own_cell_is_never_taken_for_chains_without_doubt() -> None:
    rng = np.random.default_rng(2)
    for _ in range(8):
        turns = np.exp(2j * np.pi * rng.random(2))
        delay_s = rng.uniform(0.2, 0.9) / np.ptp(SUBCARRIER_HZ)
        forward, reverse = (path(1.0, 0.0) + path(0.1 * turn, delay_s) for turn in turns)
        seen, to_s, std_s = judged(link(rng, forward, reverse, snr_db=25.0))
        assert not seen.reciprocal or abs(to_s) < 5.0 * std_s


def test_noise_shows_no_smooth_terms() -> None:
    rng = np.random.default_rng(3)
    gains = []
    for _ in range(40):
        channel = echoes(rng)
        one = link(rng, channel, channel, snr_db=20.0)
        residual = likelihood_residual(one)
        gains.append(smooth_gain(DirectionDifference.of(one, residual, residual.to_s)))
    # Chi-squared: mean and variance of 40; the median that stands for the noise scatters by a few per cent itself.
    assert np.mean(gains) == pytest.approx(SMOOTH_TERMS, abs=4 * np.sqrt(2 * SMOOTH_TERMS / 40))
    assert np.mean(np.array(gains) > 24.3) < 0.05
