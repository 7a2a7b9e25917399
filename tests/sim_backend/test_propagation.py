"""Propagation against the exact value of a band-limited periodic signal, by a non-uniform FFT."""

from __future__ import annotations

import finufft
import numpy as np
import pytest

from sim_backend.propagation import BLOCK, DESIGN_BAND, Source, error_db, propagate

PERIOD = 4096
RATE_HZ = 20e6
CARRIER_HZ = 2.4e9
_GUARD = 256


def _periodic(random: np.random.Generator, occupied: float, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Random spectrum over ``occupied`` of the rate, and the signal's samples from -_GUARD on."""
    spectrum = np.zeros(PERIOD, dtype=complex)
    index = np.arange(-PERIOD // 2, PERIOD // 2)
    inside = np.abs(index) < occupied * PERIOD / 2
    spectrum[inside] = np.exp(2j * np.pi * random.uniform(size=inside.sum())) / np.sqrt(inside.sum())
    one = np.fft.ifft(np.fft.ifftshift(spectrum)) * PERIOD
    return spectrum, one[(np.arange(samples) - _GUARD) % PERIOD]


def _exact(spectrum: np.ndarray, position: np.ndarray) -> np.ndarray:
    angle = np.ascontiguousarray(np.mod(2 * np.pi * position / PERIOD, 2 * np.pi))
    return np.asarray(finufft.nufft1d2(angle, np.ascontiguousarray(spectrum), eps=1e-13, isign=1, nthreads=1))


def _heard(random: np.random.Generator, occupied: float, rate_difference: float) -> tuple[np.ndarray, ...]:
    """Heard samples, exact ones, and the exact ones' derivative over the delay in seconds."""
    blocks = 200
    spectrum, samples = _periodic(random, occupied, blocks * BLOCK + 2 * _GUARD + 1000)
    peak = np.abs(samples).max()
    start = random.uniform(_GUARD, _GUARD + 300)
    edges = np.arange(blocks + 1) * BLOCK
    doppler = -rate_difference * CARRIER_HZ / RATE_HZ
    cycles = random.uniform() - doppler * edges
    real, imaginary = (np.zeros(blocks * BLOCK, dtype=np.float32) for _ in range(2))
    source = Source.of((samples / peak).astype(np.complex64))
    places = start + edges * (1 + rate_difference)
    propagate(source, source.active[0], places[None], cycles[None], [0.6 - 0.8j], real, imaginary)
    index = np.arange(blocks * BLOCK)
    position = start + index * (1 + rate_difference) - _GUARD
    rotor = (0.6 - 0.8j) * np.exp(2j * np.pi * (cycles[0] - doppler * index)) / peak
    frequency = np.arange(-PERIOD // 2, PERIOD // 2) / PERIOD * RATE_HZ
    slope = _exact(spectrum * (-2j * np.pi * frequency), position) * rotor
    return real + 1j * imaginary, _exact(spectrum, position) * rotor, slope


@pytest.mark.parametrize("rate_difference", [0.0, 1e-6, 50e-6, -50e-6, 100e-6])
def test_error_vector_and_delay_are_exact_at_80_percent(rate_difference):
    random = np.random.default_rng(11)
    for _ in range(12):
        heard, exact, slope = _heard(random, 0.8, rate_difference)
        error = heard - exact
        evm_db = 10 * np.log10(np.sum(np.abs(error) ** 2) / np.sum(np.abs(exact) ** 2))
        delay_s = np.real(np.vdot(slope, error)) / np.sum(np.abs(slope) ** 2)
        assert evm_db < -80
        assert abs(delay_s) < 0.02e-12


@pytest.mark.parametrize(("occupied", "evm_limit_db", "delay_limit_s"), [(0.3, -95, 0.05e-12), (0.94, -80, 0.1e-12)])
def test_other_bands_are_exact_too(occupied, evm_limit_db, delay_limit_s):
    random = np.random.default_rng(12)
    for _ in range(12):
        heard, exact, slope = _heard(random, occupied, random.uniform(-30e-6, 30e-6))
        error = heard - exact
        assert 10 * np.log10(np.sum(np.abs(error) ** 2) / np.sum(np.abs(exact) ** 2)) < evm_limit_db
        assert abs(np.real(np.vdot(slope, error)) / np.sum(np.abs(slope) ** 2)) < delay_limit_s


def test_delay_error_does_not_depend_on_the_place_within_the_recording():
    random = np.random.default_rng(5)
    heard, exact, slope = _heard(random, 0.8, 50e-6)
    for piece in np.array_split(np.arange(heard.size), 40):
        error = heard[piece] - exact[piece]
        assert abs(np.real(np.vdot(slope[piece], error)) / np.sum(np.abs(slope[piece]) ** 2)) < 0.1e-12


@pytest.mark.parametrize("occupied", [0.5, 0.88, DESIGN_BAND, 0.96, 0.98])
def test_stated_error_is_the_measured_one(occupied):
    random = np.random.default_rng(3)
    measured = []
    for _ in range(12):
        heard, exact, _ = _heard(random, occupied, 37e-6)
        measured.append(np.sum(np.abs(heard - exact) ** 2) / np.sum(np.abs(exact) ** 2))
    measured_db = 10 * np.log10(np.mean(measured))
    stated_db = error_db(occupied)
    if stated_db > -80:
        assert measured_db == pytest.approx(stated_db, abs=1.5)
    else:
        assert measured_db < -80


def test_runs_between_silences_add_up_to_the_whole():
    random = np.random.default_rng(8)
    _, samples = _periodic(random, 0.7, 6000)
    samples[1500:2500] = 0
    samples[2500:2600] *= 1e-3
    samples[3000:3030] = 0
    samples[4200:4700] = 0
    edges = np.arange(90) * BLOCK
    position, cycles = (edges * (1 - 30e-6) - 31.3)[None], (edges * 1e-3)[None]
    total = np.zeros((2, 89 * BLOCK), dtype=np.float32)
    source = Source.of(samples.astype(np.complex64))
    assert len(source.active) == 3
    for run in source.active:
        propagate(source, run, position, cycles, [1.0], total[0], total[1])
    whole = np.zeros_like(total)
    propagate(Source(source.phases, ()), (0, 6000), position, cycles, [1.0], whole[0], whole[1])
    np.testing.assert_array_equal(total, whole)


def test_paths_together_are_the_sum_of_each_and_turns_of_any_size_are_exact():
    random = np.random.default_rng(9)
    _, samples = _periodic(random, 0.8, 8000)
    source = Source.of(samples.astype(np.complex64))
    edges = np.arange(50) * BLOCK
    position = random.uniform(-200, 2000, (5, 1)) + edges * (1 + random.uniform(-5e-5, 5e-5, (5, 1)))
    advance = np.array([0.0, 3.3e-6, -0.0131, 0.4999, -7.25])[:, None]
    cycles = 1e5 * random.uniform(size=(5, 1)) + advance * edges
    gains = random.standard_normal(5) + 1j * random.standard_normal(5)
    still, turning = (np.zeros((2, 49 * BLOCK), dtype=np.float32) for _ in range(2))
    propagate(source, source.active[0], position, cycles, gains, *turning)
    expected = np.zeros(49 * BLOCK, dtype=complex)
    for path in range(5):
        still[:] = 0.0
        own = slice(path, path + 1)
        propagate(source, source.active[0], position[own], 0 * cycles[own], [1.0], *still)
        turns = cycles[path, 0] + advance[path] * np.arange(49 * BLOCK)
        expected += gains[path] * (still[0] + 1j * still[1]) * np.exp(2j * np.pi * turns)
    error = turning[0] + 1j * turning[1] - expected
    assert 10 * np.log10(np.sum(np.abs(error) ** 2) / np.sum(np.abs(expected) ** 2)) < -120


def test_phase_given_to_a_source_turns_its_samples():
    random = np.random.default_rng(10)
    _, samples = _periodic(random, 0.8, 3001)
    angle = random.uniform(-40, 40, 3001).astype(np.float32)
    turned, plain = (
        Source.of(samples.astype(np.complex64), angle),
        Source.of((samples * np.exp(1j * angle)).astype("c8")),
    )
    assert np.max(np.abs(turned.phases - plain.phases)) < 3e-5 * np.abs(samples).max()


def test_nonsense_is_refused():
    source = Source.of(np.ones(100, dtype=np.complex64))
    out = np.zeros(BLOCK, dtype=np.float32)
    with pytest.raises(ValueError, match="edges describe"):
        propagate(source, (0, 100), BLOCK * np.arange(3.0)[None], np.zeros((1, 3)), [1.0], out, out.copy())
    with pytest.raises(ValueError, match="one percent"):
        propagate(source, (0, 100), BLOCK * 1.1 * np.arange(2.0)[None], np.zeros((1, 2)), [1.0], out, out.copy())
    with pytest.raises(ValueError, match="finite"):
        Source.of(np.array([1.0, np.nan], dtype=np.complex64))
    with pytest.raises(ValueError, match="share of the rate"):
        error_db(1.2)
