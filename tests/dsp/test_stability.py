"""Time deviation, against allantools and against series drawn from the spectra themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from dsp.oscillator import PowerLaw
from dsp.stability import averaging_factors, predicted_time_deviation, time_deviation, upper_limit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import allantools


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_published_time_deviation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum(rng.normal(size=200)) * 1e-12 + 5e-12 * rng.normal(size=200) + 3.0
    factors = averaging_factors(200)
    assert factors == [1, 2, 4, 8, 16, 32]
    _, known, _, _ = allantools.tdev(offsets, rate=10.0, data_type="phase", taus=np.array(factors) / 10.0)
    assert time_deviation(offsets, factors) == pytest.approx(known, rel=1e-6)


def test_constant_offset_and_frequency_do_not_count() -> None:
    offsets = 3.0 + 4e-6 * np.arange(64)
    assert time_deviation(offsets, [1, 4]).max() < 1e-15


def test_white_noise_falls_with_the_root() -> None:
    factors = [1, 4, 16]
    found = predicted_time_deviation([], factors, spacing_s=0.1, averaging_s=0.01, noise_s=8e-12)
    assert found == pytest.approx([8e-12, 4e-12, 2e-12])


def test_a_random_walk_is_predicted_as_it_walks() -> None:
    # White frequency noise of h0: independent steps of variance h0·τ0/2.
    rng = np.random.default_rng(5)
    spacing_s, h0, count = 0.2, 3e-22, 4096
    factors = [1, 2, 4, 8, 16]
    drawn = np.mean(
        [
            time_deviation(np.cumsum(rng.normal(size=count)) * np.sqrt(h0 * spacing_s / 2), factors) ** 2
            for _ in range(20)
        ],
        axis=0,
    )
    known = predicted_time_deviation(
        [PowerLaw(white_fm=h0)], factors, spacing_s=spacing_s, averaging_s=1e-3, noise_s=0.0
    )
    assert np.sqrt(drawn) == pytest.approx(known, rel=0.05)


def test_limits_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(9)
    count, factors = 60, averaging_factors(60)
    limit = upper_limit(count, factors, probability=0.99)
    over = np.mean(
        [time_deviation(rng.normal(size=count), factors) > limit / np.sqrt(factors) for _ in range(1500)], axis=0
    )
    assert (over < 0.02).all()


def test_a_series_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="no time deviation"):
        time_deviation(np.zeros(5), [2])
