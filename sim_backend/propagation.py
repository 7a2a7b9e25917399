"""Band-limited propagation of samples along paths whose delay changes while they are heard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "DESIGN_BAND", "TAPS", "Source", "error_db", "propagate"]

FloatArray = NDArray[np.float64]

TAPS = 32
DESIGN_BAND = 0.82
"""Occupied share of the sample rate for which the interpolator is designed."""
BLOCK = 64
_DEGREE = 11
_PAD = 2 * (BLOCK + TAPS)
"""Silence around a source, more than any block that touches it can reach."""
_QUIET = 4 * (BLOCK + TAPS)
"""Zeros in a row after which a source counts as silent: more than two blocks and their filters reach."""


def _optimal_taps(fraction: FloatArray, band: float) -> FloatArray:
    """Taps of least mean square error over the band, shape (fraction, tap)."""
    tap = np.arange(TAPS)
    autocorrelation = np.sinc(band * (tap[:, None] - tap))
    wanted = np.sinc(band * (tap - (TAPS // 2 - 1) - fraction[:, None]))
    # The matrix is nearly singular beyond the band; a trace of white noise keeps the taps small there.
    autocorrelation += 1e-11 * np.eye(TAPS)
    return np.asarray(np.linalg.solve(autocorrelation, wanted.T).T)


@lru_cache(maxsize=1)
def _polynomials() -> FloatArray:
    """Taps as polynomials of the fraction, shape (degree + 1, tap), ascending powers.

    Fitted at Chebyshev points a little beyond [0, 1], where blocks that drift by a whole rate difference look.
    """
    nodes = 0.5 + 0.51 * np.cos(np.pi * (np.arange(4 * _DEGREE) + 0.5) / (4 * _DEGREE))
    taps = _optimal_taps(nodes, DESIGN_BAND)
    columns = []
    for k in range(TAPS):
        series = np.polynomial.chebyshev.Chebyshev.fit(nodes, taps[:, k], _DEGREE, domain=[-0.01, 1.01])
        columns.append(series.convert(kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]).coef)
    return np.ascontiguousarray(np.array(columns).T)


def error_db(occupied: float, *, fraction: float | None = None) -> float:
    """Error vector of the interpolator for a flat spectrum over ``occupied`` of the rate, decibels.

    The mean over all fractions, or the value at one. At most the design's 82 % it is far below what any converter
    resolves; beyond, the band's edge is attenuated, and this says by how much.

    Raises
    ------
    ValueError
        If ``occupied`` is not in (0, 1].
    """
    if not 0 < occupied <= 1:
        raise ValueError(f"occupied band must be a share of the rate in (0, 1], got {occupied}")
    fractions = np.linspace(0, 1, 33) if fraction is None else np.array([fraction])
    frequency = np.linspace(-occupied / 2, occupied / 2, 513)
    taps = fractions[:, None] ** np.arange(_DEGREE + 1) @ _polynomials()
    response = taps @ np.exp(2j * np.pi * np.outer(np.arange(TAPS) - (TAPS // 2 - 1), frequency))
    error = np.abs(response - np.exp(2j * np.pi * np.outer(fractions, frequency))) ** 2
    return float(10 * np.log10(np.mean(error)))


@dataclass(frozen=True)
class Source:
    """Transmitted samples, split, padded, and with their silences known."""

    real: NDArray[np.float32]
    imaginary: NDArray[np.float32]
    active: tuple[tuple[int, int], ...]
    """Runs [begin, end) of samples that are not silence."""

    @classmethod
    def of(cls, samples: NDArray[np.complex64], angle: NDArray[np.float32] | None = None) -> Source:
        """Source of complex samples, their phase optionally turned by ``angle`` radians.

        Raises
        ------
        ValueError
            If the samples are not a finite one-dimensional array.
        """
        values = np.asarray(samples, dtype=np.complex64)
        if values.ndim != 1 or not np.all(np.isfinite(values)):
            raise ValueError("samples to transmit must be a one-dimensional array of finite numbers")
        busy = np.flatnonzero(values)
        runs: list[tuple[int, int]] = []
        if busy.size:
            breaks = np.flatnonzero(np.diff(busy) > _QUIET)
            begins = busy[np.concatenate([[0], breaks + 1])]
            ends = busy[np.concatenate([breaks, [busy.size - 1]])] + 1
            runs = [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True)]
        if angle is not None:
            values = values.copy()
            for begin, end in runs:
                values[begin:end] *= np.cos(angle[begin:end]) + 1j * np.sin(angle[begin:end])
        real, imaginary = (np.zeros(values.size + 2 * _PAD, dtype=np.float32) for _ in range(2))
        real[_PAD : _PAD + values.size] = values.real
        imaginary[_PAD : _PAD + values.size] = values.imag
        return cls(real, imaginary, tuple(runs))


def propagate(
    source: Source,
    run: tuple[int, int],
    position: FloatArray,
    cycles: FloatArray,
    gain: complex,
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
) -> None:
    """Add to split output buffers what one path brings of one of the source's active runs.

    Runs are so far apart that no block hears two of them.

    Parameters
    ----------
    source : Source
    run : pair of int
        One of ``source.active``.
    position : float array, shape (block + 1,)
        Place in the source's samples that is heard at each block edge, every `BLOCK` output samples; increasing,
        linear between edges.
    cycles : float array, shape (block + 1,)
        Carrier phase at each edge, turns; linear between.
    gain : complex
    real, imaginary : float32 arrays, shape (block · BLOCK,)
        Added to in place.

    Raises
    ------
    ValueError
        If shapes disagree or a rate is off by more than one percent.
    """
    from sim_backend.kernels import _propagate

    if position.shape != cycles.shape or real.size != (position.size - 1) * BLOCK or imaginary.size != real.size:
        raise ValueError(f"{position.size} edges describe {(position.size - 1) * BLOCK} samples, got {real.size}")
    if np.any(np.abs(np.diff(position) / BLOCK - 1) > 0.01):
        raise ValueError("a path's rate must be within one percent of the receiver's")
    begin, end = run
    first = max(int(np.searchsorted(position, begin - TAPS, side="right")) - 1, 0)
    last = min(int(np.searchsorted(position, end + TAPS, side="left")), position.size - 1)
    if first < last:
        _propagate(
            source.real, source.imaginary, position + (_PAD - (TAPS // 2 - 1)), cycles,
            float(gain.real), float(gain.imag), _polynomials(), real, imaginary, first, last,
        )  # fmt: skip
