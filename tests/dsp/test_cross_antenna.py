"""Packets with random timing, phase and turns, made here from paths; the module must find what was put in."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.sensing.cross_antenna import (
    circular_std_rad,
    coherence,
    common_phase,
    cross_product,
    csi_ratio,
    packet_phase,
    packet_timing,
    resolve_turns,
    unwrapped_timing,
)

TONES_HZ = np.r_[-28:-1:2, -1, 1:28:2, 28] * 312_500.0
"""The uneven grid of an Intel 5300 at 20 MHz."""


def channel(rng: np.random.Generator, antennas: int, streams: int = 1, tones: np.ndarray = TONES_HZ) -> np.ndarray:
    """Static multipath, shape (stream, antenna, subcarrier)."""
    delays = np.r_[0.0, rng.uniform(20e-9, 120e-9, 4)]
    gains = rng.normal(size=(streams, antennas, 5)) + 1j * rng.normal(size=(streams, antennas, 5))
    gains *= np.array([2.5, 0.5, 0.4, 0.3, 0.2])
    return np.einsum("sap,pk->sak", gains, np.exp(-2j * np.pi * np.outer(delays, tones)))


def capture(
    rng: np.random.Generator, still: np.ndarray, timing_s: np.ndarray, snr_db: float, tones: np.ndarray = TONES_HZ
) -> tuple[np.ndarray, np.ndarray]:
    """Packets of the static channel with timing, a uniform phase each, and noise; and the phases."""
    phase = rng.uniform(-np.pi, np.pi, len(timing_s))
    offset = np.exp(1j * phase[:, None] - 2j * np.pi * timing_s[:, None] * tones)
    clean = still[:, :, None, :] * offset
    sigma = np.sqrt(np.mean(np.abs(still) ** 2) / 10 ** (snr_db / 10) / 2)
    return clean + sigma * (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)), phase


@pytest.mark.parametrize(("snr_db", "antennas"), [(5.0, 3), (15.0, 3), (30.0, 1)])
def test_timing_reaches_its_bound(snr_db: float, antennas: int) -> None:
    rng = np.random.default_rng(11)
    still = channel(rng, antennas)
    truth = 200e-9 + 9e-9 * rng.normal(size=300)
    values, _ = capture(rng, still, truth, snr_db)
    error = packet_timing(values, TONES_HZ) - truth
    # Delay of a known channel with free phase per antenna: the energy's spread over frequency about its centroid.
    energy = np.abs(still[0]) ** 2
    centroid = (energy * TONES_HZ).sum(axis=1, keepdims=True) / energy.sum(axis=1, keepdims=True)
    spread = np.sum(energy * (TONES_HZ - centroid) ** 2)
    noise = np.mean(np.abs(still) ** 2) / 10 ** (snr_db / 10)
    bound = np.sqrt(noise / (2 * (2 * np.pi) ** 2 * spread))
    assert 0.85 * bound < error.std() < 1.2 * bound


def test_timing_ignores_turns_absent_antennas_and_silence() -> None:
    rng = np.random.default_rng(12)
    truth = 50e-9 + 9e-9 * rng.normal(size=200)
    values, _ = capture(rng, channel(rng, 3, streams=2), truth, 20.0)
    values *= np.exp(0.5j * np.pi * rng.integers(0, 4, (2, 3, 200, 1)))
    values[:, 1, 20:60] = 0
    values[:, :, 7] = 0
    timing = packet_timing(values, TONES_HZ)
    assert np.isnan(timing[7])
    heard = np.arange(200) != 7
    assert np.std(timing[heard] - truth[heard]) < 1.5e-9


def test_timing_of_a_single_path_is_absolute_and_of_the_documented_sign() -> None:
    rng = np.random.default_rng(13)
    truth = rng.uniform(-300e-9, 700e-9) + 5e-9 * rng.normal(size=50)
    values, _ = capture(rng, np.ones((1, 1, TONES_HZ.size), dtype=complex), truth, 60.0)
    assert np.allclose(packet_timing(values, TONES_HZ), truth, atol=0.2e-9)
    assert np.allclose(unwrapped_timing(values[0, 0], TONES_HZ), truth, atol=0.2e-9)


def test_common_phase_is_that_at_the_carrier() -> None:
    rng = np.random.default_rng(14)
    truth = 200e-9 + 9e-9 * rng.normal(size=400)
    values, phase = capture(rng, np.ones((1, 1, TONES_HZ.size), dtype=complex), truth, 30.0)
    found = common_phase(values[0, 0], TONES_HZ, packet_timing(values, TONES_HZ))
    assert np.std(np.angle(np.exp(1j * (found - phase)))) < 0.02


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("share", [0.75, 0.1, 0.01])
def test_turns_are_found_and_resolved_while_the_scene_moves(order: int, share: float) -> None:
    rng = np.random.default_rng(100 * order + int(100 * share))
    packets = 400
    values, _ = capture(rng, channel(rng, 2, streams=2), 9e-9 * rng.normal(size=packets), 18.0)
    # A slow swing of the phase between the antennas, wider than a turn of order four.
    values[:, 1] *= np.exp(1.2j * np.sin(2 * np.pi * np.arange(packets) / 150))[:, None]
    turned = rng.uniform(size=packets) < share
    turns = np.where(turned, rng.integers(1, order, packets), 0)
    values[:, 1] *= np.exp(2j * np.pi * turns / order)[:, None]
    found = resolve_turns(cross_product(values, 1, 0))
    assert found.order == order
    assert np.unique((found.turns - turns) % order).size == 1
    assert found.evidence > np.log(100)


@pytest.mark.parametrize("snr_db", [-8.0, 0.0, 10.0, 30.0])
def test_no_turns_are_seen_where_there_are_none(snr_db: float) -> None:
    wrong = 0
    for seed in range(25):
        rng = np.random.default_rng(1000 + seed)
        values, _ = capture(rng, channel(rng, 2), 9e-9 * rng.normal(size=200), snr_db)
        values[:, 1] *= np.exp(0.7j * np.sin(2 * np.pi * np.arange(200) / 60 + seed))[:, None]
        glitches = rng.uniform(size=200) < 0.05
        values[:, 1, glitches] *= np.exp(1j * rng.uniform(-np.pi, np.pi, np.count_nonzero(glitches)))[:, None]
        wrong += resolve_turns(cross_product(values, 1, 0)).order != 1
    assert wrong <= 1


def test_turns_skip_packets_that_lack_an_antenna() -> None:
    rng = np.random.default_rng(15)
    values, _ = capture(rng, channel(rng, 2), np.zeros(120), 25.0)
    turns = rng.integers(0, 4, 120)
    values[:, 1] *= np.exp(0.5j * np.pi * turns)[:, None]
    values[:, 0, 30:45] = 0
    found = resolve_turns(cross_product(values, 1, 0))
    heard = np.r_[0:30, 45:120]
    assert found.order == 4
    assert not found.turns[30:45].any()
    assert np.unique((found.turns - turns)[heard] % 4).size == 1


def test_turns_need_three_packets() -> None:
    assert resolve_turns(np.ones((1, 2, 30), dtype=complex)).order == 1
    assert resolve_turns(np.zeros((1, 50, 30), dtype=complex)).order == 1


def test_ratio_and_product_cancel_what_antennas_share_and_mark_zeros() -> None:
    rng = np.random.default_rng(16)
    still = channel(rng, 2)
    values, _ = capture(rng, still, 9e-9 * rng.normal(size=60), 80.0)
    values[0, 0, 5, 3] = 0
    values[0, 1, 6, 4] = 0
    ratio = csi_ratio(values, 1, 0)
    missing = np.isnan(ratio)
    assert missing.sum() == 2
    assert missing[0, 5, 3]
    assert missing[0, 6, 4]
    assert np.allclose(np.where(missing, 0, ratio - still[0, 1] / still[0, 0]), 0, atol=5e-3)
    product = cross_product(values, 1, 0)
    assert coherence(packet_phase(values[0, 0])) < 0.4
    assert circular_std_rad(packet_phase(product)) < 1e-2


def test_streams_are_brought_into_phase_before_they_are_added() -> None:
    rng = np.random.default_rng(17)
    product = np.exp(1j * 0.01 * rng.normal(size=(2, 100, 8)))
    product[1] *= -1
    assert coherence(packet_phase(product)) > 0.999


def test_coherence_of_uniform_and_constant_phase() -> None:
    rng = np.random.default_rng(18)
    assert coherence(rng.uniform(-np.pi, np.pi, 100_000)) < 0.01
    assert coherence(np.array([0.3, np.nan, 0.3])) == pytest.approx(1.0)
    assert coherence(np.array([np.nan])) == 0.0
    assert circular_std_rad(0.2 * rng.normal(size=50_000)) == pytest.approx(0.2, rel=0.02)
