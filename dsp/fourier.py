"""Fourier transforms in single precision: our own where the size has a kernel, scipy's otherwise."""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["transformed"]


def transformed(values: NDArray[np.complex64], *, inverse: bool = False) -> NDArray[np.complex64]:
    """Unscaled transform over the last axis, one thread, complex64.

    Sizes that are powers of two from 64 to 8192 take half the time of scipy's or less, and round as little: -138 dB.
    Others are scipy's, which is said once for each size.

    Parameters
    ----------
    values : complex64 array, shape (..., n)
    inverse : bool
        Sign +j in the exponent.

    Source: docs/decisions/0013-own-fourier-transform.md.
    """
    from dsp.kernels.fourier import SIZES, rows, twiddles

    size = values.shape[-1]
    if size not in SIZES:
        from scipy import fft

        _say_once(size)
        found = fft.ifft(values, norm="forward", workers=1) if inverse else fft.fft(values, workers=1)
        return np.asarray(found, np.complex64)
    flat = np.ascontiguousarray(values, np.complex64).reshape(-1, size)
    out = np.empty_like(flat)
    rows(size)(flat, inverse, *twiddles(size), out)
    return out.reshape(values.shape)


@lru_cache(maxsize=64)
def _say_once(size: int) -> None:
    logging.getLogger(__name__).warning(
        "transforms of %d are scipy's: powers of two from 64 to 8192 take half the time", size
    )
