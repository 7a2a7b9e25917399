"""Band-limited propagation of samples along paths whose delay changes while they are heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "DESIGN_BAND", "REACH", "Source", "error_db", "propagate"]

FloatArray = NDArray[np.float64]

BLOCK = 128
DESIGN_BAND = 0.94
"""Occupied share of the sample rate for which the interpolator is designed."""
REACH = 52
"""Samples of the source on either side that a heard sample depends on."""
_HALF_TAPS = 96
_QUARTER_TAPS = 12
_TAPS = 6
_DEGREE = 7
_TILE = 128
_PAD = 2 * _TILE
"""Silence around a source, more than any block that touches it can reach."""
_QUIET = 2 * (BLOCK + REACH)
"""Zeros in a row after which a source counts as silent: more than two blocks and their filters reach."""


def _least_squares(taps: int, band: float, places: FloatArray, noise: float) -> FloatArray:
    """Taps of least mean square error over ``band`` of the rate for values at ``places`` (in taps), (place, tap)."""
    tap = np.arange(taps)
    autocorrelation = np.sinc(band * (tap[:, None] - tap))
    # The matrix is nearly singular beyond the band; a trace of white noise keeps the taps small there.
    autocorrelation += noise * np.eye(taps)
    wanted = np.sinc(band * (tap - places[:, None]))
    return np.asarray(np.linalg.solve(autocorrelation, wanted.T).T)


@lru_cache(maxsize=1)
def _filters() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Taps for the value half a sample on, for half of half a sample on, and polynomials of the rest.

    The source is first filled in to four values a sample, by the long filter once for all paths; a path then needs
    six taps: an even number, whose error hardly moves the delay. They are polynomials of the place between two
    quarter samples, shape (tap, degree + 1), ascending powers, of minus half to half a step from their middle.
    """
    half = _least_squares(_HALF_TAPS, DESIGN_BAND, np.array([_HALF_TAPS / 2 - 0.5]), 1e-11)[0]
    # Closer than the whole band from here on: what lies at its edge is little, and these filters are short.
    quarter = _least_squares(_QUARTER_TAPS, 0.45, np.array([_QUARTER_TAPS / 2 - 0.5]), 1e-12)[0]
    nodes = 0.51 * np.cos(np.pi * (np.arange(4 * _DEGREE) + 0.5) / (4 * _DEGREE))
    taps = _least_squares(_TAPS, 0.22, _TAPS / 2 - 0.5 + nodes, 1e-13)
    series = [
        np.polynomial.chebyshev.Chebyshev.fit(nodes, taps[:, k], _DEGREE, domain=[-0.51, 0.51]) for k in range(_TAPS)
    ]
    powers = [one.convert(kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]).coef for one in series]
    return half, quarter, np.array(powers)


def error_db(occupied: float, *, fraction: float | None = None) -> float:
    """Error vector of the interpolator for a flat spectrum over ``occupied`` of the rate, decibels.

    The mean over all fractions, or the value at one. Up to `DESIGN_BAND` it is far below what any converter
    resolves; beyond, the band's edge is attenuated, and this says by how much.

    Raises
    ------
    ValueError
        If ``occupied`` is not in (0, 1].
    """
    if not 0 < occupied <= 1:
        raise ValueError(f"occupied band must be a share of the rate in (0, 1], got {occupied}")
    fractions = np.linspace(0, 1, 65) if fraction is None else np.array([fraction])
    frequency = occupied * ((np.arange(2048) + 0.5) / 2048 - 0.5)
    half, quarter, polynomials = _filters()

    def ahead(places: NDArray[Any]) -> NDArray[np.complex128]:
        return np.asarray(np.exp(2j * np.pi * np.outer(places, frequency)))

    middle = half @ ahead(np.arange(_HALF_TAPS) - (_HALF_TAPS // 2 - 1))
    known = {0: np.ones_like(middle), 2: middle}
    for place in (1, 3):
        halves = place // 2 + np.arange(_QUARTER_TAPS) - (_QUARTER_TAPS // 2 - 1)
        known[place] = quarter @ (ahead(halves // 2) * np.where((halves % 2 == 0)[:, None], 1.0, middle))
    whole = np.floor(4 * fractions).astype(int)
    taps = (4 * fractions - whole - 0.5)[:, None] ** np.arange(_DEGREE + 1) @ polynomials.T
    error = -ahead(fractions)
    for k in range(_TAPS):
        steps = whole + k - (_TAPS // 2 - 1)
        values = np.array([known[step % 4] for step in steps])
        error += taps[:, k, None] * values * ahead(steps // 4)
    return float(10 * np.log10(np.mean(np.abs(error) ** 2)))


@dataclass(frozen=True)
class Source:
    """Transmitted samples, filled in, padded, and with their silences known."""

    phases: NDArray[np.float32]
    """Samples and the values a quarter, a half and three quarters after each, shape (quarter, 2, sample)."""
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
        from sim_backend.path_kernels import _fill_in, _split

        values = np.ascontiguousarray(samples, dtype=np.complex64)
        if values.ndim != 1:
            raise ValueError("samples to transmit must be a one-dimensional array of finite numbers")
        half, quarter, _ = _filters()
        # Zeros are written where nothing else will be: a whole array of them takes as long as what fills it.
        phases = np.empty((4, 2, -(-values.size // _TILE) * _TILE + 2 * _PAD), dtype=np.float32)
        inside = slice(_PAD, _PAD + values.size)
        phases[0, :, : inside.start] = phases[0, :, inside.stop :] = 0.0
        runs = np.empty((values.size // _QUIET + 2, 2), dtype=np.int64)
        turned = np.empty(0, dtype=np.float32) if angle is None else angle
        count = _split(values, turned, _QUIET, runs, phases[0, 0, inside], phases[0, 1, inside])
        if count < 0:
            raise ValueError("samples to transmit must be a one-dimensional array of finite numbers")
        # Whole tiles from a fixed raster: neighbours' common ones come out the same.
        tiles = [
            ((_PAD + int(begin) - REACH) // _TILE * _TILE, -(-(_PAD + int(end) + REACH) // _TILE) * _TILE)
            for begin, end in runs[:count]
        ]
        for (_, last), (first, _) in zip([(0, 0), *tiles], [*tiles, (phases.shape[2], 0)], strict=True):
            phases[1:, :, last:first] = 0.0
        taps = half.astype(np.float32), quarter.astype(np.float32)
        for first, last in tiles:
            for part in range(2):
                _fill_in(*taps, phases, part, first, last)
        return cls(phases, tuple((int(begin), int(end)) for begin, end in runs[:count]))


def propagate(
    source: Source,
    run: tuple[int, int],
    position: FloatArray,
    cycles: FloatArray,
    gains: Sequence[complex],
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
) -> None:
    """Add to split output buffers what paths bring of one of the source's active runs.

    Runs are so far apart that no block hears two of them.

    Parameters
    ----------
    source : Source
    run : pair of int
        One of ``source.active``.
    position : float array, shape (path, block + 1)
        Place in the source's samples that is heard over each path at each block edge, every `BLOCK` output samples;
        increasing, linear between edges.
    cycles : float array, shape (path, block + 1)
        Carrier phase at each edge, turns; linear between.
    gains : complex, one for each path
    real, imaginary : float32 arrays, shape (block · BLOCK,)
        Added to in place.

    Raises
    ------
    ValueError
        If shapes disagree or a rate is off by more than one percent.
    """
    from sim_backend.path_kernels import _propagate

    if position.shape != cycles.shape or position.shape[0] != len(gains):
        raise ValueError(f"{len(gains)} paths have places {position.shape} and phases {cycles.shape}")
    edges = position.shape[1]
    if real.size != (edges - 1) * BLOCK or imaginary.size != real.size:
        raise ValueError(f"{edges} edges describe {(edges - 1) * BLOCK} samples, got {real.size}")
    steps = position[:, 1:] - position[:, :-1]
    if steps.size and (steps.min() < 0.99 * BLOCK or steps.max() > 1.01 * BLOCK):
        raise ValueError("a path's rate must be within one percent of the receiver's")
    begin, end = run
    blocks = np.empty((len(gains), 2), dtype=np.int64)
    for path, places in enumerate(position):
        blocks[path, 0] = max(int(places.searchsorted(begin - REACH, side="right")) - 1, 0)
        blocks[path, 1] = min(int(places.searchsorted(end + REACH, side="left")), edges - 1)
    if np.any(blocks[:, 0] < blocks[:, 1]):
        _propagate(
            source.phases, _PAD, position, cycles, np.asarray(gains, dtype=np.complex128), blocks, _polynomials(),
            real, imaginary,
        )  # fmt: skip


@lru_cache(maxsize=1)
def _polynomials() -> NDArray[np.float32]:
    return np.ascontiguousarray(_filters()[2], dtype=np.float32)
