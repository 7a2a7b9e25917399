"""CFAR: thresholds against closed forms and exact quadratic forms, rates by counting, loss against theory."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, ndimage, optimize, stats

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.sensing.cfar import (
    Training,
    cfar,
    detection_probability,
    threshold_factor,
    training_efficiency,
    training_means,
)
from dsp.sensing.clutter import remove_static
from dsp.sensing.delay_doppler import DelayDopplerMap, Taper, delay_doppler
from dsp.sensing.static_reference import apply_reference, static_reference

SPACING, SYMBOL = 20e6 / 1024, 1152 / 20e6
CARRIER = Fraction(2_400_000_000)


def slot(values: np.ndarray, time: np.ndarray, frames: int, noise: float) -> ChannelState:
    bins = np.r_[-values.shape[2] // 2 : 0, 1 : values.shape[2] // 2 + 1]
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=bins * SPACING,
        symbol_s=time,
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER,
        noise=np.full(values.shape[0], noise),
        frame_of_symbol=np.repeat(np.arange(frames), values.shape[1] // frames),
    )


def block_times() -> np.ndarray:
    """Eight frames every 5 ms of eight blocks of eight symbols: the demo's slow time."""
    return (np.arange(8)[:, None] * 5e-3 + np.arange(8) * 8 * SYMBOL).ravel()


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    pair = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return pair[0] + 1j * pair[1]


def shipped_map(csi: ChannelState, *, static_removed: bool = True, taper: Taper = Taper.KAISER_2) -> DelayDopplerMap:
    return delay_doppler(
        csi,
        max_delay_s=6.4e-6,
        min_delay_s=-0.3e-6,
        max_doppler_hz=500.0,
        static_removed=static_removed,
        taper=taper,
    )


def test_threshold_of_one_look_is_the_closed_form():
    for cells, rate in ((16, 1e-3), (50.5, 1e-6), (300, 1e-9)):
        assert threshold_factor(cells, rate) == pytest.approx(cells * (rate ** (-1 / cells) - 1), rel=1e-9)


def test_threshold_of_several_looks_by_integration_over_the_training_mean():
    cells, looks, rate = 40, 3, 1e-5
    factor = float(threshold_factor(cells, rate, looks=looks))
    tail, _ = integrate.quad(
        lambda y: stats.gamma.sf(factor * y, looks) * stats.gamma.pdf(y, cells * looks, scale=1 / cells), 0, 20
    )
    assert tail == pytest.approx(rate, rel=1e-4)


def test_detection_probability_by_integration_and_closed_form():
    cells, rate, snr = 60.0, 1e-4, 9.0
    factor = float(threshold_factor(cells, rate))
    assert detection_probability(snr, cells, rate, swerling=1) == pytest.approx(
        (1 + factor / (cells * (1 + snr))) ** -cells, rel=1e-12
    )
    steady, _ = integrate.quad(
        lambda y: stats.ncx2.sf(2 * factor * y, 2, 2 * snr) * stats.gamma.pdf(y, cells, scale=1 / cells), 0.2, 3
    )
    assert detection_probability(snr, cells, rate) == pytest.approx(steady, rel=1e-5)
    rng = np.random.default_rng(3)
    power = rng.exponential(size=400_000)
    both = np.abs(np.sqrt(snr * power) + noise(rng, (2, power.size))) ** 2
    training = rng.gamma(2 * cells, 1 / cells, power.size)
    found = np.mean(both.sum(axis=0) > float(threshold_factor(cells, rate, looks=2)) * training)
    assert detection_probability(snr, cells, rate, looks=2, swerling=1) == pytest.approx(found, abs=4e-3)


def test_training_means_equal_plain_loops():
    rng = np.random.default_rng(1)
    found = shipped_map(slot(noise(rng, (1, 64, 100)), block_times(), 8, 1.0), static_removed=False)
    region = Training(guard=(1, 2), reach=(3, 4))
    hidden = rng.random(found.power.shape) > 0.1
    result = cfar(found, false_alarm_rate=1e-2, training=region, candidates=hidden)
    rows, columns = found.power.shape
    for _ in range(200):
        i, j = int(rng.integers(rows)), int(rng.integers(columns))
        cells = [
            found.power[i + 3 * a, j + 3 * b]
            for a in range(-3, 4)
            for b in range(-4, 5)
            if (abs(a) > 1 or abs(b) > 2)
            and 0 <= i + 3 * a < rows
            and 0 <= j + 3 * b < columns
            and hidden[i + 3 * a, j + 3 * b]
        ]
        assert result.noise[i, j] == pytest.approx(np.mean(cells), rel=1e-9)
        expected = hidden[i, j] and len(cells) >= 8
        assert result.tested[i, j] == expected
        if expected:
            factor = threshold_factor(len(cells) * result.efficiency, 1e-2)
            assert result.threshold[i, j] == pytest.approx(float(factor) * np.mean(cells), rel=1e-9)


@pytest.mark.parametrize("taper", [Taper.RECTANGULAR, Taper.KAISER_2])
@pytest.mark.parametrize("rate", [1e-3, 1e-6])
def test_rate_is_exact_for_correlated_cells(taper, rate):
    """P(|x0|² > α·mean) of jointly Gaussian cells is Π1/(1+|λ|/λ0) over the eigenvalues of its quadratic form."""
    csi = slot(np.zeros((1, 64, 300), complex), block_times(), 8, 1.0)
    found = shipped_map(csi, static_removed=False, taper=taper)
    region = Training()
    offsets = [
        (a, b)
        for a in range(-7, 8)
        for b in range(-7, 8)
        if abs(a) > region.guard[0] or abs(b) > region.guard[1] or (a, b) == (0, 0)
    ]
    order = sorted(offsets, key=lambda cell: cell != (0, 0))
    doppler = np.array([a for a, _ in order]) * found.doppler_cell_hz
    delay = np.array([b for _, b in order]) * found.delay_cell_s
    slow = np.exp(2j * np.pi * np.outer(doppler, csi.symbol_s)) * np.sqrt(found.slow_weights)
    fast = np.exp(2j * np.pi * np.outer(delay, csi.subcarrier_hz)) * np.sqrt(found.delay_weights)
    correlation = (slow @ slow.conj().T) * (fast @ fast.conj().T)
    correlation /= correlation[0, 0].real
    cells = len(order) - 1
    factor = float(threshold_factor(cells * training_efficiency(found, region), rate))
    weights = np.diag(np.r_[1.0, np.full(cells, -factor / cells)])
    eigenvalues = np.linalg.eigvals(correlation @ weights).real
    exact = np.prod(1.0 / (1.0 - eigenvalues[eigenvalues < 0] / eigenvalues.max()))
    assert exact == pytest.approx(rate, rel=0.1)


def counted(maps: list[DelayDopplerMap], rate: float) -> tuple[float, float]:
    """Ratio of alarms to the rate set, and its standard error over maps."""
    ratios = []
    for found in maps:
        result = cfar(found, false_alarm_rate=rate)
        ratios.append(result.alarms / np.count_nonzero(result.tested) / rate)
    return float(np.mean(ratios)), float(np.std(ratios) / np.sqrt(len(ratios)))


def test_false_alarms_of_noise():
    rng = np.random.default_rng(7)
    maps = [shipped_map(remove_static(slot(noise(rng, (2, 64, 800)), block_times(), 8, 1.0))[0]) for _ in range(40)]
    ratio, error = counted(maps, 1e-3)
    assert error < 0.07
    assert ratio == pytest.approx(1.0, abs=0.2)


def test_false_alarms_beside_line_of_sight_and_clock_residue():
    """Line of sight 76 dB above a cell's noise, a wandering clock, 1° of synthesizer noise: the rate must hold."""
    rng = np.random.default_rng(8)
    time = (np.arange(8)[:, None] * 5e-3 + np.arange(64) * SYMBOL).ravel()
    bins = np.r_[-400:0, 1:401]
    maps = []
    for _ in range(16):
        delays = np.array([0.0, rng.uniform(50e-9, 300e-9), 1.3e-6])
        gains = np.array([1.0, 0.3, 0.1])
        static = (gains * np.exp(2j * np.pi * rng.random((2, 3)))) @ np.exp(
            -2j * np.pi * np.outer(delays, bins * SPACING)
        )
        walk = np.cumsum(rng.standard_normal(512)) * 0.02 + np.deg2rad(1.4) * rng.standard_normal(512)
        phase = walk + 2 * np.pi * rng.uniform(-30, 30) * time
        rotation = np.exp(1j * np.outer(phase, 1 + bins * SPACING / float(CARRIER))).astype(np.complex64)
        values = static[:, None, :].astype(np.complex64) * rotation + np.float32(0.1) * noise(rng, (2, 512, 800))
        csi = slot(values, time, 8, 0.01)
        maps.append(shipped_map(remove_static(apply_reference(csi, static_reference(csi)).averaged(8))[0]))
    ratio, error = counted(maps, 1e-3)
    assert error < 0.1
    assert ratio == pytest.approx(1.0, abs=0.2)


def test_detection_within_one_decibel_of_theory():
    """Off-grid targets, window and straddling included, against CA-CFAR theory at the matched filter's full SNR."""
    rng = np.random.default_rng(9)
    rate, trials = 1e-4, 120
    needed = optimize.brentq(lambda snr: float(detection_probability(snr, 200, rate, looks=2)) - 0.5, 1, 100)
    time = block_times()
    frequency = np.r_[-200:0, 1:201] * SPACING
    hits = 0
    for _ in range(trials):
        doppler = rng.uniform(60, 440) * rng.choice([-1, 1])
        delay = rng.uniform(0.2e-6, 6e-6)
        amplitude = np.sqrt(needed * 10**0.1 / (64 * 400))
        target = np.outer(np.exp(2j * np.pi * doppler * time), np.exp(-2j * np.pi * frequency * delay))
        phases = np.exp(2j * np.pi * rng.random((2, 1, 1)))
        csi = slot(noise(rng, (2, 64, 400)) + amplitude * phases * target, time, 8, 1.0)
        found = shipped_map(remove_static(csi)[0])
        near = (np.abs(found.doppler_hz - doppler) < 0.6 * found.doppler_cell_hz)[:, None] & (
            np.abs(found.delay_s - delay) < 0.6 * found.delay_cell_s
        )
        hits += bool((cfar(found, false_alarm_rate=rate).exceeds & near).any())
    # at one decibel more than theory needs for one half
    assert hits / trials > 0.5 - 0.02


def test_blanked_dopplers_are_not_tested():
    rng = np.random.default_rng(2)
    found = shipped_map(remove_static(slot(noise(rng, (1, 64, 100)), block_times(), 8, 1.0))[0])
    result = cfar(found, false_alarm_rate=1e-2)
    assert not result.tested[found.doppler_hz == 0.0].any()
    assert result.tested[np.abs(found.doppler_hz) > 1.5 * found.doppler_cell_hz].all()


@pytest.mark.parametrize("rate", [0.0, 1.0, -1e-3])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match="false_alarm_rate"):
        threshold_factor(10, rate)


def test_a_training_region_inside_the_guard_is_refused():
    rng = np.random.default_rng(2)
    found = shipped_map(slot(noise(rng, (1, 64, 100)), block_times(), 8, 1.0), static_removed=False)
    with pytest.raises(ValueError, match="beyond the guard"):
        cfar(found, false_alarm_rate=1e-3, training=Training(guard=(2, 2), reach=(2, 2)))
    with pytest.raises(ValueError, match="Swerling"):
        detection_probability(1.0, 10, 1e-3, swerling=3)
    assert replace(found).doppler_cell_hz == pytest.approx(1 / (time_span(found)), rel=1e-9)


def time_span(found: DelayDopplerMap) -> float:
    return float(found.time_s[-1] - found.time_s[0]) + 8 * SYMBOL


@pytest.mark.parametrize("stride", [1, 3])
def test_decisions_beside_a_cell_90_db_up_are_those_of_direct_sums(stride):
    """What running sums keep of a loud cell that has passed must change no decision behind it."""
    rng = np.random.default_rng(stride)
    power = rng.exponential(size=(60, 90))
    power[20, 30] = 1e9
    usable = rng.random(power.shape) > 0.05
    region = Training(guard=(1, 2), reach=(4, 5))
    mean, number = training_means(power, usable, (stride, stride), region)
    inside = np.zeros((8 * stride + 1, 10 * stride + 1))
    inside[::stride, ::stride] = 1.0
    inside[3 * stride : 5 * stride + 1, 3 * stride : 7 * stride + 1] = 0.0
    cells = ndimage.convolve(usable.astype(float), inside, mode="constant")
    total = ndimage.convolve(np.where(usable, power, 0.0), inside, mode="constant")
    assert np.array_equal(number, np.rint(cells))
    assert np.allclose(mean, total / cells, rtol=1e-6)
    for factor in (3.0, 6.0, 12.0):
        assert np.array_equal(power > factor * mean, power > factor * total / cells)
