"""Our transforms against numpy's in double precision."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from dsp.fourier import _say_once, transformed


def error_db(found: np.ndarray, truth: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(found - truth) / np.linalg.norm(truth)))


@pytest.mark.parametrize("size", [64, 512, 1024, 8192])
@pytest.mark.parametrize("inverse", [False, True])
def test_rows_agree_with_double_precision(size, inverse):
    """Passes of every kind: radix 8 first, within and last, radix 4, either buffer at the end."""
    rng = np.random.default_rng(size)
    values = (rng.standard_normal((2, 3, size)) + 1j * rng.standard_normal((2, 3, size))).astype(np.complex64)
    wide = values.astype(complex)
    truth = np.fft.ifft(wide, norm="forward") if inverse else np.fft.fft(wide)
    found = transformed(values, inverse=inverse)
    assert found.dtype == np.complex64
    assert error_db(found, truth) < -135
    worst = np.abs(found - truth).max() / np.abs(truth).max()
    assert worst < 1e-6


def test_one_exponential_gives_one_line():
    size, cycles = 256, 37
    found = transformed(np.exp(2j * np.pi * cycles * np.arange(size) / size).astype(np.complex64))
    assert abs(found[cycles] - size) < 1e-4 * size
    assert np.delete(np.abs(found), cycles).max() < 1e-5 * size


def test_other_sizes_are_scipys_and_said_once(caplog):
    _say_once.cache_clear()
    values = np.random.default_rng(5).standard_normal((3, 600)).astype(np.complex64)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = transformed(values)
    assert error_db(found, np.fft.fft(values.astype(complex))) < -130
    assert [record.getMessage() for record in caplog.records if "600" in record.getMessage()] == [
        "transforms of 600 are scipy's: powers of two from 64 to 8192 take half the time"
    ]


def test_a_view_that_is_not_contiguous_is_transformed_as_it_looks():
    values = np.random.default_rng(6).standard_normal((128, 4)).astype(np.complex64)
    assert error_db(transformed(values.T), np.fft.fft(values.T.astype(complex))) < -135
