"""Delay-Doppler map against the defining double sum, in scale, axes and signs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.sensing.delay_doppler import Taper, block_symbols, delay_doppler

SPACING, SYMBOL, CARRIER = 20e6 / 1024, 1152 / 20e6, 2.4e9


def slot(values: np.ndarray, *, frames: int = 4, noise: float = 1.0, weights: np.ndarray | None = None) -> ChannelState:
    symbols, subcarriers = values.shape[1:]
    time = (np.arange(frames)[:, None] * 5e-3 + np.arange(symbols // frames) * 8 * SYMBOL).ravel()
    return ChannelState(
        values=values,
        weights=np.ones((symbols, subcarriers)) if weights is None else weights,
        subcarrier_hz=np.r_[-subcarriers // 2 : 0, 1 : subcarriers // 2 + 1] * SPACING,
        symbol_s=time + 0.3e-3,
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.full(values.shape[0], noise),
        frame_of_symbol=np.repeat(np.arange(frames), symbols // frames),
    )


def gaussian(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.sqrt(0.5) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


@pytest.mark.parametrize("taper", list(Taper))
def test_map_is_the_windowed_double_sum(taper):
    rng = np.random.default_rng(1)
    csi = slot(gaussian(rng, 2, 32, 60), weights=rng.uniform(0.5, 1.5, (32, 60)))
    found = delay_doppler(
        csi, max_delay_s=6e-6, min_delay_s=-1e-6, max_doppler_hz=300.0, taper=taper, delay_origin_s=5e-6
    )
    width = 61
    over_frequency = taper.at((np.r_[0:30, 31:61] + 0.5) / width - 0.5)
    time = csi.symbol_s - csi.symbol_s.mean()
    span = np.ptp(time) + 8 * SYMBOL
    over_time = taper.at((time - (time[0] + time[-1]) / 2) / span)
    ratios = []
    for _ in range(40):
        i, j = rng.integers(found.doppler_hz.size), rng.integers(found.delay_s.size)
        kernel = np.outer(
            over_time * np.exp(-2j * np.pi * found.doppler_hz[i] * time),
            over_frequency * np.exp(2j * np.pi * csi.subcarrier_hz * (found.delay_s[j] - 5e-6)),
        )
        ratios.append(found.values[:, i, j] / np.sum(csi.values * csi.weights * kernel, axis=(1, 2)))
    ratios = np.array(ratios)
    assert np.ptp(ratios.real) < 1e-9 * abs(ratios[0, 0])
    assert np.max(np.abs(ratios.imag)) < 1e-9 * abs(ratios[0, 0])


def test_noise_has_unit_power_in_every_cell():
    rng = np.random.default_rng(2)
    total = 0.0
    for _ in range(150):
        weights = rng.uniform(0.6, 1.4, (32, 100))
        csi = slot(gaussian(rng, 1, 32, 100) * np.sqrt(3.0 / weights), noise=3.0, weights=weights)
        total = total + delay_doppler(csi, max_delay_s=6e-6, max_doppler_hz=300.0).power
    mean = total / 150
    assert mean.mean() == pytest.approx(1.0, abs=0.02)
    assert mean.max() < 1.0 + 6.0 / np.sqrt(150)
    assert mean.min() > 1.0 - 6.0 / np.sqrt(150)


def test_a_path_peaks_where_it_is_with_the_conventions_signs():
    rng = np.random.default_rng(3)
    csi = slot(np.zeros((1, 64, 300), complex))
    frequency, time = csi.subcarrier_hz, csi.symbol_s
    for _ in range(10):
        delay, doppler = rng.uniform(0, 6e-6), rng.uniform(-300, 300)
        path = np.exp(-2j * np.pi * frequency * (delay - doppler / CARRIER * time[:, None]))
        path = path * np.exp(2j * np.pi * time[:, None] * doppler)
        found = delay_doppler(slot(path[None]), max_delay_s=6.4e-6, max_doppler_hz=400.0)
        row, column = np.unravel_index(np.argmax(found.power), found.power.shape)
        assert abs(found.delay_s[column] - delay) <= 0.51 * found.delay_cell_s / 3
        assert abs(found.doppler_hz[row] - doppler) <= 0.51 * found.doppler_cell_hz / 3


def test_gate_and_padding_shape_the_axes():
    found = delay_doppler(
        slot(np.zeros((1, 32, 100), complex)), max_delay_s=4e-6, min_delay_s=-0.5e-6, max_doppler_hz=250.0
    )
    assert found.delay_s[0] >= -0.5e-6
    assert found.delay_s[-1] <= 4e-6
    assert found.doppler_hz[0] == -found.doppler_hz[-1]
    assert abs(found.doppler_hz[-1]) <= 250.0
    # 101 subcarriers are transformed as 105 = 3·5·7
    assert found.delay_cell_s == pytest.approx(1 / (105 * SPACING), rel=1e-9)


def test_blocks_divide_the_frame_and_keep_the_doppler():
    rng = np.random.default_rng(4)
    values = gaussian(rng, 1, 128, 10)
    csi = ChannelState(
        values=values,
        weights=np.ones((128, 10)),
        subcarrier_hz=np.arange(10) * SPACING,
        symbol_s=(np.arange(2)[:, None] * 5e-3 + np.arange(64) * SYMBOL).ravel(),
        reference=Moment("a", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.ones(1),
        frame_of_symbol=np.repeat([0, 1], 64),
    )
    assert block_symbols(csi, 500.0) == 8
    assert block_symbols(csi, 1e6) == 1
    assert block_symbols(csi, 0.1) == 32  # three blocks or more, which removal of clutter needs
    with pytest.raises(ValueError, match="max_doppler_hz"):
        block_symbols(csi, 0.0)


def test_bad_input_is_refused():
    csi = slot(np.zeros((1, 32, 100), complex))
    with pytest.raises(ValueError, match="empty"):
        delay_doppler(csi, max_delay_s=0.0, max_doppler_hz=100.0)
    with pytest.raises(ValueError, match="empty"):
        delay_doppler(csi, max_delay_s=1e-6, max_doppler_hz=-1.0)
    csi.subcarrier_hz[3] += 0.3 * SPACING
    with pytest.raises(ValueError, match="raster"):
        delay_doppler(csi, max_delay_s=1e-6, max_doppler_hz=100.0)
