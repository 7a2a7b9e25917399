"""CSI ratio: Doppler against drawn truth and the bounds, and every assumption broken once."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.bounds.csi_ratio import circle_snr, first_order_doppler_std_hz, moebius_doppler_std_hz
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Need, Observation
from dsp.synchronization.csi_ratio import CsiRatio, CsiRatioFirstOrder

SYMBOL, NOISE = 1e-3, 1e-3
METHODS = [CsiRatio(), CsiRatioFirstOrder()]


def scene(rng, *, static, movers, symbols=128, noise=NOISE, weights=None, phases=True, timing_s=0.0):
    """Observation of static (antenna, subcarrier) and movers [(amplitudes, Doppler)], free phase in every symbol."""
    antennas, subcarriers = static.shape
    time = np.arange(symbols) * SYMBOL
    frequency = (np.arange(subcarriers) - (subcarriers - 1) / 2) * 312.5e3
    values = np.repeat(static[:, None, :], symbols, axis=1).astype(complex)
    for amplitude, doppler in movers:
        values += amplitude[:, None, :] * np.exp(2j * np.pi * doppler * np.outer(time, 1 + frequency / 2.4e9))
    if phases:
        values *= np.exp(2j * np.pi * rng.random(symbols))[:, None]
    values *= np.exp(-2j * np.pi * np.outer(timing_s * rng.standard_normal(symbols), frequency))
    weights = np.ones((symbols, subcarriers)) if weights is None else weights
    spread = np.sqrt(noise / 2 / weights)
    values += spread * (rng.standard_normal(values.shape) + 1j * rng.standard_normal(values.shape))
    csi = ChannelState(
        values=values,
        weights=weights,
        subcarrier_hz=frequency,
        symbol_s=time,
        reference=Moment("n", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.full(antennas, noise),
        frame_of_symbol=np.zeros(symbols, dtype=int),
    )
    return Observation(forward=csi, departure=None)


def gains(rng, antennas=2, subcarriers=1):
    return np.exp(2j * np.pi * rng.random((antennas, subcarriers)))


CONTRAST = float(np.arccos(0.7))


def pair(rng, level_db, *, contrast=CONTRAST, subcarriers=1):
    static = gains(rng, 2, subcarriers)
    moving = 10 ** (level_db / 20) * static * np.exp(2j * np.pi * rng.random(subcarriers))
    moving[1] *= np.exp(1j * contrast)
    return static, moving


def doppler_of(rng):
    return rng.choice([-1.0, 1.0]) * rng.uniform(20.0, 400.0)


@pytest.mark.parametrize(("method", "level_db", "goal"), [(0, -20, 1.1), (1, -20, 1.1), (0, -6, 1.3)])
def test_doppler_stays_at_its_bound_with_an_honest_deviation(method, level_db, goal):
    rng = np.random.default_rng(1)
    ratio, normalised = [], []
    for _ in range(60):
        static, moving = pair(rng, level_db)
        doppler = doppler_of(rng)
        offset = METHODS[method].estimate(scene(rng, static=static, movers=[(moving, doppler)]))
        assert offset.valid, offset.reason
        bound = first_order_doppler_std_hz(128, SYMBOL, circle_snr(static[:, 0], moving[:, 0], NOISE))
        error = offset.details["doppler_hz"] - doppler
        ratio.append(error / bound)
        normalised.append(error / offset.details["doppler_std_hz"])
    slack = 1 + 2 / np.sqrt(2 * len(ratio))
    assert np.sqrt(np.mean(np.square(ratio))) < goal * slack
    assert abs(np.mean(np.square(normalised)) - 1) < 3 * np.sqrt(2 / len(ratio))


def test_the_first_order_is_biased_where_the_exact_fit_is_not():
    rng = np.random.default_rng(2)
    static, moving = pair(rng, -8)
    errors = {method.name: [] for method in METHODS}
    for _ in range(40):
        doppler = doppler_of(rng)
        seen = scene(rng, static=static, movers=[(moving, doppler)], noise=1e-4)
        for method in METHODS:
            offset = method.estimate(seen)
            errors[method.name].append(offset.details["doppler_hz"] - doppler)
            assert offset.valid is (method.name == "csi-ratio")
    exact, first = (np.sqrt(np.mean(np.square(found))) for found in errors.values())
    assert first > 1.5 * exact


def test_the_exact_bound_meets_the_first_order_for_a_weak_mover_only():
    rng = np.random.default_rng(3)
    time = np.arange(128) * SYMBOL
    for level_db, near in ((-40, 0.01), (-3, None)):
        static, moving = pair(rng, level_db)
        first = first_order_doppler_std_hz(128, SYMBOL, circle_snr(static[:, 0], moving[:, 0], NOISE))
        exact = moebius_doppler_std_hz(123.4, static, moving, symbol_s=time, noise=NOISE)
        if near is not None:
            assert abs(exact / first - 1) < near
        else:
            assert abs(exact / first - 1) > 0.05
    assert moebius_doppler_std_hz(50.0, static, 0.3 * static, symbol_s=time, noise=NOISE) > 1e3 * first


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("antennas", [2, 4])
def test_offsets_common_to_the_antennas_cancel(method, antennas):
    rng = np.random.default_rng(4)
    subcarriers = 12
    static, moving = gains(rng, antennas, subcarriers), 0.1 * gains(rng, antennas, subcarriers)
    weights = rng.choice([0.2, 1.0, 1.8], (128, subcarriers))
    for doppler in (-217.3, 141.9):
        offset = method.estimate(scene(rng, static=static, movers=[(moving, doppler)], weights=weights, timing_s=30e-9))
        assert offset.valid, offset.reason
        assert offset.to_s is None
        assert offset.cfo_hz is None
        assert "no clock offset" in offset.reason
        assert abs(offset.details["doppler_hz"] - doppler) < 4.5 * offset.details["doppler_std_hz"]
        assert offset.details["doppler_std_hz"] < 0.2


def test_common_phase_and_gain_change_nothing():
    rng = np.random.default_rng(5)
    static, moving = pair(rng, -10, subcarriers=4)
    seen = scene(rng, static=static, movers=[(moving, 88.8)])
    turned = replace(seen.forward, values=seen.forward.values * 3j, noise=seen.forward.noise * 9)
    first, second = (CsiRatio().estimate(replace(seen, forward=one)).details for one in (seen.forward, turned))
    assert abs(first["doppler_hz"] - second["doppler_hz"]) < 1e-3 * first["doppler_std_hz"]


def test_a_fade_in_one_antenna_is_no_pole():
    rng = np.random.default_rng(6)
    static, moving = gains(rng), 0.3 * gains(rng)
    static[1] *= 0.3  # antenna 1 passes close to zero in every turn
    errors = []
    for _ in range(20):
        offset = CsiRatio().estimate(scene(rng, static=static, movers=[(moving, 77.7)], noise=1e-3))
        assert offset.valid, offset.reason
        errors.append((offset.details["doppler_hz"] - 77.7) / offset.details["doppler_std_hz"])
    assert np.sqrt(np.mean(np.square(errors))) < 1.5


@pytest.mark.parametrize("method", METHODS)
def test_one_antenna_is_named(method):
    rng = np.random.default_rng(7)
    seen = scene(rng, static=gains(rng, 1), movers=[])
    with pytest.raises(MissingInputError) as caught:
        method.estimate(seen)
    assert caught.value.need is Need.SECOND_ANTENNA


def broken(rng, kind):
    static, moving = pair(rng, -10)
    doppler = doppler_of(rng)
    match kind:
        case "blind":
            return scene(rng, static=static, movers=[(0.3 * static * np.exp(1j), doppler)])
        case "still":
            return scene(rng, static=static, movers=[])
        case "deaf":
            silent = np.array([[1.0], [0.0]])
            return scene(rng, static=static * silent, movers=[(moving * silent, doppler)])
        case "no static":
            return scene(rng, static=static, movers=[(pair(rng, 0)[1], doppler)])
        case "several":
            other = 10 ** (rng.uniform(-13, -9) / 20) * gains(rng)
            return scene(rng, static=static, movers=[(moving, doppler), (other, doppler_of(rng))])
        case "slow":
            return scene(rng, static=static, movers=[(moving, rng.uniform(-6, 6))])
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("blind", "blind"),
        ("still", "no moving path"),
        ("deaf", "antenna 1 hears nothing"),
        ("no static", "static path"),
        ("slow", ""),
    ],
)
def test_a_broken_assumption_is_said(kind, word):
    rng = np.random.default_rng(8)
    invalid = 0
    for _ in range(40):
        offset = CsiRatio().estimate(broken(rng, kind))
        invalid += not offset.valid
        assert offset.valid or word in offset.reason
    assert invalid >= 39


def test_several_movers_are_not_a_circle():
    rng = np.random.default_rng(9)
    said = 0
    for _ in range(40):
        said += "several moving paths" in CsiRatio().estimate(broken(rng, "several")).reason
    assert said >= 36  # two that share a Doppler cell, or one that is blind, are one circle


def test_too_few_symbols_are_refused():
    rng = np.random.default_rng(10)
    with pytest.raises(ValueError, match="8 symbols"):
        CsiRatio().estimate(scene(rng, static=gains(rng), movers=[], symbols=5))
