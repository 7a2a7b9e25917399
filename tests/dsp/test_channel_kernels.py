"""Single passes over channel state, against numpy in double precision."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.frame import FrameReader
from dsp.moment import Moment
from dsp.phase_ramps import turned
from dsp.sensing.cross_antenna import mean_product
from dsp.sensing.static_reference import rotated


def error_db(found: np.ndarray, truth: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(found - truth) / np.linalg.norm(truth)))


def values_of(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.mark.parametrize("symbols", [1, 37, 256])
def test_mean_product(symbols):
    values = values_of(np.random.default_rng(symbols), (3, symbols, 101))
    wide = values.astype(complex)
    truth = np.mean(wide[1:] * wide[0].conj(), axis=1)
    assert error_db(mean_product(values), truth) < -120


@pytest.mark.parametrize("turns", [0.3, 500.0])
def test_rotated_by_a_phase_that_grows_with_frequency(turns):
    """Also after a walk of many turns, with a gap at zero frequency; -130 dB, as single precision rounds."""
    rng = np.random.default_rng(7)
    bins = np.concatenate([np.arange(-400, 0), np.arange(1, 401)])
    values = values_of(rng, (2, 9, bins.size))
    csi = ChannelState(
        values=values,
        weights=np.ones((9, bins.size)),
        subcarrier_hz=20e6 / 1024 * bins,
        symbol_s=np.arange(9) * 1e-4,
        reference=Moment.at("clock", 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.ones(2),
        frame_of_symbol=np.zeros(9, np.intp),
    )
    phase = 2 * np.pi * turns * rng.standard_normal(9)
    truth = values * np.exp(-1j * np.outer(phase, 1 + csi.subcarrier_hz / 2.4e9))
    found = rotated(values, csi, phase, coupled=True)
    assert found.dtype == np.complex64
    assert error_db(found, truth) < -130


@pytest.mark.parametrize(("precision", "limit_db"), [(np.complex64, -130), (np.complex128, -240)])
def test_turned_by_phases_linear_in_frequency(precision, limit_db):
    rng = np.random.default_rng(9)
    frequency = 20e6 / 1024 * np.concatenate([np.arange(-500, -20), np.arange(31, 480)])
    values = values_of(rng, (7, frequency.size)).astype(precision)
    angle, slope = 100 * rng.standard_normal(7), 3e-6 * rng.standard_normal(7)
    found = turned(values, angle, slope, frequency)
    assert found.dtype == precision
    assert error_db(found, values * np.exp(1j * (angle[:, None] + np.outer(slope, frequency)))) < limit_db


def test_windows_are_the_samples_turned_back():
    rng = np.random.default_rng(8)
    size, prefix, symbols, cfo = 64, 8, 6, 3.3e-3
    reference = np.ones((symbols, 40), np.complex64)
    reader = FrameReader(size, size + prefix, reference, np.arange(-20, 20))
    counts = rng.integers(-2048, 2048, (2, 600, 2), dtype=np.int16)
    out = np.empty((2, symbols, size), np.complex64)
    reader.windows(counts, start=11.0, cfo_cycles=cfo, out=out)
    samples = (counts[..., 0] + 1j * counts[..., 1]) * np.exp(-2j * np.pi * cfo * np.arange(600))
    truth = np.stack([samples[:, 11 + 72 * s : 11 + 72 * s + size] for s in range(symbols)], axis=1)
    assert error_db(out, truth) < -120
