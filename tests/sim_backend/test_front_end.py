"""Front end: noise, phase noise, imbalance, offset, saturation, and that nothing depends on anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal, stats

from sim_backend import front_end
from sim_backend.kernels import _normals
from sim_backend.randomness import generator, key_words
from sim_backend.specification import FrontEndSpec

NEUTRAL = FrontEndSpec(
    noise_figure_db=None, phase_noise_deg=0.0, gain_imbalance_db=0.0, phase_imbalance_deg=0.0, dc_offset=0j
)


def _digitise(spec: FrontEndSpec, field: np.ndarray, *, noise: float = 0.0, scale: float = 1.0, label: str = "x"):
    return front_end.digitise(
        spec,
        field.real.astype(np.float32),
        field.imag.astype(np.float32),
        noise_power=noise,
        scale=scale,
        angle=np.zeros(field.size, dtype=np.float32),
        seed=1,
        labels=(label,),
    )


def _tone(samples: int, turns: float, amplitude: float) -> np.ndarray:
    return amplitude * np.exp(2j * np.pi * turns * np.arange(samples))


def test_neutral_front_end_rounds_to_half_a_count():
    field = _tone(6400, 0.01234, 0.7)
    counts = _digitise(NEUTRAL, field)
    error = counts - 2048 * np.stack([field.real, field.imag], axis=1)
    assert np.max(np.abs(error)) <= 0.5 + 1e-3
    assert np.var(error) == pytest.approx(1 / 12, rel=0.05)


def test_counts_saturate_at_the_converters_ends():
    counts = _digitise(NEUTRAL, _tone(640, 0.0123, 3.0))
    assert counts.max() == 2047
    assert counts.min() == -2048


def test_imbalance_makes_the_image_that_theory_says():
    spec = replace(NEUTRAL, bits=16, gain_imbalance_db=0.4, phase_imbalance_deg=3.0)
    turns = 100 / 6400
    spectrum = np.fft.fft(_digitise(spec, _tone(6400, turns, 0.7)) @ [1, 1j])
    ratio, skew = 10 ** (0.4 / 20), np.deg2rad(3.0)
    image = abs(ratio - np.exp(-1j * skew)) / abs(ratio + np.exp(1j * skew))
    measured = abs(spectrum[-100]) / abs(spectrum[100])
    assert measured == pytest.approx(image, rel=0.01)


def test_offset_is_a_share_of_full_scale():
    counts = _digitise(replace(NEUTRAL, dc_offset=0.01 - 0.02j), _tone(64_000, 0.01, 0.4))
    np.testing.assert_allclose(counts.mean(axis=0), [20.48, -40.96], atol=0.05)


def test_thermal_power_is_boltzmanns():
    spec = FrontEndSpec(noise_figure_db=5.0)
    assert 10 * np.log10(front_end.thermal_power(spec, 1.0) * 1e3) == pytest.approx(-174.0 + 5.0, abs=0.05)
    counts = _digitise(replace(NEUTRAL, bits=16), np.zeros(640_000, dtype=complex), noise=2e-4, scale=1.0) / 2**15
    assert np.sum(counts.var(axis=0)) == pytest.approx(2e-4, rel=0.01)


def test_normals_are_normal_and_independent():
    first, second, other = (np.empty((2, 512_000), dtype=np.float32) for _ in range(3))
    _normals(0, key_words(1, "a"), first[0], first[1])
    _normals(0, key_words(1, "a"), second[0], second[1])
    _normals(0, key_words(1, "b"), other[0], other[1])
    np.testing.assert_array_equal(first, second)
    for values in first:
        assert stats.kstest(values, "norm").pvalue > 1e-3
        assert abs(stats.kurtosis(values)) < 5 * np.sqrt(24 / values.size)
        assert 4.2 < np.abs(values).max() < 6.8
    columns = np.stack([first[0], first[1], first[0] ** 2, first[1] ** 2, other[0], other[1]])
    correlation = np.corrcoef(columns) - np.eye(6)
    assert np.max(np.abs(correlation)) < 5 / np.sqrt(512_000)
    spectrum = np.abs(np.fft.rfft(first[0] + 0.0)[1:]) ** 2 / first.shape[1]
    assert spectrum.max() < np.log(spectrum.size) + 8
    assert np.std([piece.mean() for piece in np.array_split(spectrum, 50)]) < 1.5 * np.sqrt(50 / spectrum.size)


def test_pairs_fill_the_plane_evenly_and_do_not_know_their_neighbours():
    # A pair comes from one counter: radius and angle must not know of each other, nor of the pairs before.
    real, imag = np.empty((2, 1 << 19), dtype=np.float32)
    _normals(0, key_words(4, "plane"), real, imag)
    chance = np.exp(-0.5 * (real.astype(float) ** 2 + imag.astype(float) ** 2))
    turn = np.angle(real + 1j * imag) / (2 * np.pi) + 0.5
    pieces = (chance * 32).astype(int).clip(0, 31), (turn * 32).astype(int).clip(0, 31)
    for first, second in [(0, 0), (1, 0), (7, 0), (0, 1), (0, 64), (4096, 0)]:
        counts = np.zeros((32, 32))
        np.add.at(counts, (pieces[0][: real.size - max(first, second)], pieces[1][max(first, second) :]), 1)
        assert stats.chisquare(counts.ravel()).pvalue > 1e-4
    product = np.fft.rfft((real + 1j * imag).real), np.fft.rfft(imag)
    for one in product:
        for other in product:
            lags = np.fft.irfft(one * other.conj())[1 : 1 << 18] / real.size
            assert np.abs(lags).max() < 6 / np.sqrt(real.size)


def test_normals_do_not_depend_on_the_blocks_they_are_made_in():
    whole, part = np.empty((2, 4096), dtype=np.float32), np.empty((2, 1024), dtype=np.float32)
    _normals(0, key_words(2, "a"), whole[0], whole[1])
    _normals(1024, key_words(2, "a"), part[0], part[1])
    np.testing.assert_array_equal(part, whole[:, 1024:2048])


@pytest.mark.parametrize(("rms_deg", "bandwidth_hz"), [(1.0, 50e3), (0.4, 200e3)])
def test_phase_noise_has_the_rms_and_the_loop_bandwidth_asked_for(rms_deg, bandwidth_hz):
    spec = replace(NEUTRAL, phase_noise_deg=rms_deg, phase_noise_bandwidth_hz=bandwidth_hz)
    rate = 20e6
    angle = front_end.phase_noise(spec, rate, 4_000_000, 3, "node", "receive").astype(float)
    assert np.rad2deg(angle.std()) == pytest.approx(rms_deg, rel=0.02)
    frequency, density = signal.welch(angle, rate, nperseg=1 << 14)
    expected = 2 * np.deg2rad(rms_deg) ** 2 / (np.pi * bandwidth_hz) / (1 + (frequency / bandwidth_hz) ** 2)
    band = (frequency > 5e3) & (frequency < 2e6)
    assert np.mean(10 * np.log10(density[band] / expected[band])) == pytest.approx(0.0, abs=0.2)


def test_phase_noise_of_purposes_is_independent():
    spec = replace(NEUTRAL, phase_noise_deg=1.0)
    one = front_end.phase_noise(spec, 20e6, 1_000_000, 3, "node", "receive")
    two = front_end.phase_noise(spec, 20e6, 1_000_000, 3, "node", "transmit")
    # About 1e6·2·pi·50e3/20e6 / 2 independent values.
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(7800)


def test_losses_take_whole_buffers_at_the_rate_asked_for():
    spec = replace(NEUTRAL, lost_buffer_probability=0.2, buffer_samples=100)
    kept, gaps = front_end.losses(spec, 100_050, 1, "x")
    assert kept is not None
    assert sum(gap.samples for gap in gaps) == np.count_nonzero(~kept)
    assert np.count_nonzero(~kept) / kept.size == pytest.approx(0.2, abs=0.05)
    assert all(0 <= gap.start <= np.count_nonzero(kept) for gap in gaps)
    assert front_end.losses(NEUTRAL, 1000, 1, "x") == (None, [])


def test_a_stretch_that_is_no_whole_number_of_blocks_is_refused():
    with pytest.raises(ValueError, match="whole number of blocks"):
        _digitise(NEUTRAL, np.zeros(63, dtype=complex))


def test_generators_differ_by_purpose_and_agree_by_name():
    assert generator(1, "a", 2).integers(1 << 60) == generator(1, "a", 2).integers(1 << 60)
    draws = {generator(*labels).integers(1 << 60) for labels in [(1, "a", 2), (1, "a", "2"), (2, "a", 2), (1, "a2")]}
    assert len(draws) == 4
