"""Detection and refinement against dense Fisher information, ghosts, close pairs and pulled references."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.sensing.detection import Detection, Search, detect
from dsp.sensing.path_model import PathModel, unit_paths
from dsp.sensing.slot import sense, with_origin

SPACING, SYMBOL, CARRIER = 20e6 / 1024, 1152 / 20e6, 2.4e9
# 3e4 cells a map and some hundred maps: at this rate a false alarm in any of them is improbable
SEARCH = Search(max_delay_s=6.4e-6, min_delay_s=-0.3e-6, max_doppler_hz=500.0, false_alarm_rate=1e-9)


def slot(paths, *, rng=None, noise=1e-2, subcarriers=200, frames=8, blocks=8, step=8, antennas=2) -> ChannelState:
    """Paths (amplitude or one per antenna, delay at time 0, Doppler, Doppler rate) exactly as the conventions say."""
    frequency = np.r_[-subcarriers // 2 : 0, 1 : subcarriers // 2 + 1] * SPACING * (800 / subcarriers)
    time = (np.arange(frames)[:, None] * 5e-3 + np.arange(blocks) * step * SYMBOL).ravel()
    middle = time.mean()
    values = np.zeros((antennas, time.size, subcarriers), complex)
    for amplitude, delay, doppler, rate in paths:
        moved = time[:, None] - middle
        cycles = doppler * moved + 0.5 * rate * moved**2
        path = np.exp(-2j * np.pi * frequency * (delay - cycles / CARRIER)) * np.exp(2j * np.pi * cycles)
        values += np.broadcast_to(np.atleast_1d(amplitude), (antennas,))[:, None, None] * path
    if rng is not None:
        values += np.sqrt(noise / 2) * (rng.standard_normal(values.shape) + 1j * rng.standard_normal(values.shape))
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=frequency,
        symbol_s=time,
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.full(antennas, noise),
        frame_of_symbol=np.repeat(np.arange(frames), blocks),
    )


def dense_bound(csi: ChannelState, amplitude, delay, doppler, rate_std) -> np.ndarray:
    """Deviations of delay and Doppler with amplitude per antenna, Doppler rate and static channel unknown.

    Real Jacobian by finite differences, static channel projected out as a free complex constant per subcarrier.
    """
    scale = np.array([1e-9, 1.0, 10.0])

    def model(parameters, gains):
        moved = csi.symbol_s[:, None] - csi.symbol_s.mean()
        cycles = parameters[1] * moved + 0.5 * parameters[2] * moved**2
        path = np.exp(-2j * np.pi * csi.subcarrier_hz * (parameters[0] - cycles / CARRIER) + 2j * np.pi * cycles)
        path = path - path.mean(axis=0)
        return (gains[:, None, None] * path).ravel()

    start = np.array([delay, doppler, 0.0])
    columns = []
    for index in range(3):
        change = np.zeros(3)
        change[index] = 1e-3 * scale[index]
        columns.append((model(start + change, amplitude) - model(start - change, amplitude)) / 2e-3)
    for antenna in range(amplitude.size):
        unit = np.zeros(amplitude.size, complex)
        unit[antenna] = 1.0
        columns += [model(start, unit), model(start, 1j * unit)]
    jacobian = np.array(columns).T / np.sqrt(csi.noise[0])
    fisher = 2 * np.real(jacobian.conj().T @ jacobian)
    fisher[2, 2] += (scale[2] / rate_std) ** 2
    return np.sqrt(np.diag(np.linalg.inv(fisher))[:2]) * scale[:2]


def nearest(found: tuple[Detection, ...], delay: float, doppler: float) -> Detection:
    return min(found, key=lambda one: abs(one.delay_s - delay) / 62e-9 + abs(one.doppler_hz - doppler) / 25)


def test_unit_paths_are_the_conventions_formula():
    rng = np.random.default_rng(1)
    frequency = np.r_[-40:0, 1:41] * SPACING
    time = np.sort(rng.uniform(-0.02, 0.02, 30))
    delay, doppler, rate = 1.234e-6, -321.0, 77.0
    expected = np.exp(
        -2j * np.pi * frequency * delay
        + 2j * np.pi * (doppler * time + 0.5 * rate * time**2)[:, None] * (1 + frequency / CARRIER)
    )
    got = unit_paths(np.array([[delay, doppler, rate]]), time=time, frequency=frequency, carrier_hz=CARRIER)
    assert np.max(np.abs(got[0] - expected)) < 1e-10


def test_refinement_reaches_the_bound_and_its_deviation_is_honest():
    rng = np.random.default_rng(2)
    errors, bounds, stated = [], [], []
    for _ in range(60):
        delay, doppler = rng.uniform(0.1e-6, 5e-6), rng.uniform(60, 450) * rng.choice([-1, 1])
        amplitude = 10 ** (-rng.uniform(28, 36) / 20) * np.exp(2j * np.pi * rng.random(2))
        csi = slot([(1.0, 0.0, 0.0, 0.0), (amplitude, delay, doppler, 0.0)], rng=rng)
        (found,) = detect(csi, SEARCH, referenced=False).paths
        errors.append([found.delay_s - delay, found.doppler_hz - doppler])
        bounds.append(dense_bound(csi, amplitude, delay, doppler, SEARCH.doppler_rate_std_hz_per_s))
        stated.append([found.delay_std_s, found.doppler_std_hz])
    ratio = np.sqrt(np.mean((np.array(errors) / np.array(bounds)) ** 2, axis=0))
    # 60 trials: standard error of the ratio 0.09
    assert np.all(ratio < 1.1 + 0.1)
    assert np.all(ratio > 0.8)
    # the stated deviation is the bound at the estimated amplitude
    np.testing.assert_allclose(np.mean(np.array(stated) / np.array(bounds), axis=0), 1.0, atol=0.05)


def test_grating_lobes_and_side_lobes_of_a_strong_mover_are_no_targets():
    rng = np.random.default_rng(3)
    for _ in range(12):
        delay, doppler = rng.uniform(0.2e-6, 5e-6), rng.uniform(60, 400) * rng.choice([-1, 1])
        strong = 10 ** (-5 / 20) * np.exp(2j * np.pi * rng.random(2))
        csi = slot([(1.0, 0.0, 0.0, 0.0), (strong, delay, doppler, rng.uniform(-60, 60))], rng=rng)
        found = detect(csi, SEARCH, referenced=False).paths
        assert len(found) == 1
        assert found[0].snr_db > 45


def test_a_weak_mover_beside_a_strong_one_is_found():
    """The weak one stands on the strong one's first grating lobe, 25 dB lower."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(20):
        delay, doppler = rng.uniform(0.2e-6, 5e-6), rng.uniform(-280, -60)
        strong = 10 ** (-10 / 20) * np.exp(2j * np.pi * rng.random(2))
        weak = 10 ** (-35 / 20) * np.exp(2j * np.pi * rng.random(2))
        csi = slot([(strong, delay, doppler, 0.0), (weak, delay + 20e-9, doppler + 200.0, 0.0)], rng=rng)
        found = detect(csi, SEARCH, referenced=False).paths
        assert len(found) <= 2
        one = nearest(found, delay + 20e-9, doppler + 200.0)
        hits += abs(one.doppler_hz - doppler - 200.0) < 5 * one.doppler_std_hz
    assert hits >= 19


def test_two_movers_one_cell_apart_are_two():
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(20):
        delay, doppler = rng.uniform(0.2e-6, 5e-6), rng.uniform(60, 400)
        gains = 10 ** (-20 / 20) * np.exp(2j * np.pi * rng.random((2, 2)))
        other = (delay + 75e-9, doppler + 15.0)
        csi = slot([(gains[0], delay, doppler, 0.0), (gains[1], *other, 0.0)], rng=rng)
        found = detect(csi, SEARCH, referenced=False).paths
        assert len(found) == 2
        for place in ((delay, doppler), other):
            one = nearest(found, *place)
            scores.append((one.delay_s - place[0]) / one.delay_std_s)
            scores.append((one.doppler_hz - place[1]) / one.doppler_std_hz)
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=4 * np.sqrt(2 / len(scores)))


@pytest.mark.parametrize("delay", [25e-9, 70e-9, 900e-9])
def test_referencing_to_a_pulled_phase_leaves_no_mirror(delay):
    """A −25 dB mover near the line of sight under a wandering clock: one target, unbiased, no image at −Doppler."""
    rng = np.random.default_rng(6)
    scores = []
    for _ in range(6):
        doppler = rng.uniform(60, 220) * rng.choice([-1, 1])
        gain = 10 ** (-25 / 20) * np.exp(2j * np.pi * rng.random(2))
        paths = [(1.0, 0.0, 0.0, 0.0), (0.3j, 210e-9, 0.0, 0.0), (gain, delay, doppler, 0.0)]
        csi = slot(paths, rng=rng, blocks=32, step=2)
        phase = 2 * np.pi * rng.uniform(-25, 25) * csi.symbol_s + np.cumsum(
            0.02 * rng.standard_normal(csi.symbol_s.size)
        )
        phase += 0.025 * rng.standard_normal(csi.symbol_s.size)
        phase -= phase.mean()
        csi = replace(csi, values=csi.values * np.exp(1j * np.outer(phase, 1 + csi.subcarrier_hz / CARRIER)))
        found = sense(csi, SEARCH)
        assert found.reference.valid
        assert len(found.detections) == 1
        (one,) = found.detections
        scores.append((one.delay_s - delay) / one.delay_std_s)
        scores.append((one.doppler_hz - doppler) / one.doppler_std_hz)
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=4 * np.sqrt(2 / len(scores)))


def test_a_turning_mover_leaves_no_residue():
    rng = np.random.default_rng(7)
    csi = slot([(0.5, 1.3e-6, 140.0, 90.0)], rng=rng)
    found = detect(csi, SEARCH, referenced=False).paths
    assert len(found) == 1
    assert found[0].doppler_rate_hz_per_s == pytest.approx(90.0, abs=10.0)


def test_static_paths_are_found_when_clutter_stays():
    rng = np.random.default_rng(8)
    csi = slot([(1.0, 40e-9, 0.0, 0.0), (0.05, 1.1e-6, 0.0, 0.0)], rng=rng)
    found = detect(csi, replace(SEARCH, remove_clutter=False))
    assert found.clutter is None
    assert [round(one.delay_s * 1e9) for one in found.paths] == [40, 1100]
    assert not detect(csi, SEARCH, referenced=False).paths


def test_origin_makes_delays_absolute_and_can_be_changed():
    rng = np.random.default_rng(9)
    csi = slot([(1.0, 0.0, 0.0, 0.0), (0.05, 1.1e-6, 100.0, 0.0)], rng=rng, blocks=16, step=4)
    found = sense(csi, SEARCH, delay_origin_s=133e-9)
    assert found.detections[0].delay_s == pytest.approx(1.233e-6, abs=2e-9)
    assert with_origin(found, 0.0)[0].delay_s == pytest.approx(1.1e-6, abs=2e-9)
    assert found.detections[0].time_s == pytest.approx(csi.symbol_s.mean())


def test_noise_alone_shows_nothing():
    rng = np.random.default_rng(10)
    assert not any(detect(slot([], rng=rng), SEARCH, referenced=False).paths for _ in range(10))


def test_fit_falls_back_to_the_same_point_from_off_grid_starts():
    rng = np.random.default_rng(11)
    csi = slot([(0.2, 1.3e-6, 140.0, 0.0)], rng=rng)
    model = PathModel(csi, static=None, referenced=False, rate_std_hz_per_s=50.0)
    ends = [
        model.fit(np.array([[1.3e-6 + rng.uniform(-15e-9, 15e-9), 140.0 + rng.uniform(-6, 6), 0.0]])).parameters[0]
        for _ in range(8)
    ]
    spread = np.ptp(ends, axis=0)
    assert spread[0] < 2e-12
    assert spread[1] < 1e-3


def wandering(csi: ChannelState, rng: np.random.Generator) -> ChannelState:
    phase = 2 * np.pi * rng.uniform(-25, 25) * csi.symbol_s + np.cumsum(0.02 * rng.standard_normal(csi.symbol_s.size))
    phase -= phase.mean()
    return replace(csi, values=csi.values * np.exp(1j * np.outer(phase, 1 + csi.subcarrier_hz / CARRIER)))


def scene(rng: np.random.Generator, *, noise: float, level_db: float = -38.0) -> ChannelState:
    gain = 10 ** (level_db / 20) * np.exp(2j * np.pi * rng.random(2))
    paths = [(1.0, 0.0, 0.0, 0.0), (0.2j, 120e-9, 0.0, 0.0), (gain, 90e-9, 61.0, 0.0)]
    return slot(paths, rng=rng, noise=noise, blocks=32, step=2)


def test_products_of_a_very_strong_mover_vanish_with_the_second_reference():
    """At 60 dB an element the pulled phase leaves the mover's second harmonic well above the noise."""
    csi = wandering(scene(np.random.default_rng(12), noise=1e-6, level_db=-30.0), np.random.default_rng(13))
    assert len(sense(csi, SEARCH, passes=1).detections) > 1
    (one,) = sense(csi, SEARCH).detections
    assert one.doppler_hz == pytest.approx(61.0, abs=0.02)
    assert one.delay_s == pytest.approx(90e-9, abs=0.05e-9)


def test_clutter_left_in_is_found_with_the_mover_and_nothing_else():
    csi = wandering(scene(np.random.default_rng(14), noise=1e-2), np.random.default_rng(15))
    found = sense(csi, replace(SEARCH, remove_clutter=False)).detections
    assert len(found) == 3
    np.testing.assert_allclose(sorted(one.delay_s for one in found), [0.0, 90e-9, 120e-9], atol=3e-9)


@pytest.mark.parametrize("kind", ["pilots", "constellation", "frames lost", "one antenna"])
def test_uneven_weights_and_lost_frames(kind):
    rng = np.random.default_rng(16)
    scores = []
    for _ in range(8):
        csi = scene(rng, noise=1e-9)
        weights = np.ones(csi.weights.shape)
        if kind == "pilots":
            weights = 1.0 * ((np.arange(256)[:, None] + np.arange(200)) % 8 == 0)
        elif kind == "constellation":
            weights = rng.choice([0.2, 1.0, 1.8], weights.shape)
        spread = np.sqrt(0.005 / np.maximum(weights, 1e-3))
        draws = rng.standard_normal((2, *csi.values.shape))
        values = (csi.values + spread * (draws[0] + 1j * draws[1])) * (weights > 0)
        csi = replace(csi, values=values, weights=weights, noise=np.full(2, 0.01))
        if kind == "frames lost":
            kept = np.isin(csi.frame_of_symbol, [0, 1, 3, 4, 7])
            csi = replace(
                csi,
                values=values[:, kept],
                weights=weights[kept],
                symbol_s=csi.symbol_s[kept],
                frame_of_symbol=csi.frame_of_symbol[kept],
            )
        if kind == "one antenna":
            csi = csi.antenna(0)
        (one,) = sense(wandering(csi, rng), replace(SEARCH, min_delay_s=-50e-9)).detections
        # the path's delay is stated at the slot's mean symbol time, which lost frames move
        moved = one.time_s - (np.arange(8)[:, None] * 5e-3 + np.arange(32) * 2 * SYMBOL).mean()
        scores.append((one.delay_s - 90e-9 + 61.0 / CARRIER * moved) / one.delay_std_s)
        scores.append((one.doppler_hz - 61.0) / one.doppler_std_hz)
    assert np.mean(np.square(scores)) < 1.0 + 4 * np.sqrt(2 / len(scores))
