"""Spectral cross-correlation: the two directions' delay-Doppler magnitudes, shifted over one another."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.bounds.link import two_way_bound
from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.matched_product import Residual, TwoWayLink, two_way_link, two_way_offset
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["SpectralCorrelation", "SpectralCorrelationInterpolated"]

_NEEDS = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})
_PADDING = 4
_FLOOR_BANDS = 0.0028
"""Self-noise of the interpolated correlation as a part of 1/B: magnitudes are not band-limited, and the parabola is
not their peak; measured over dense multipath (reference R-A, 20 and 30 dB)."""


@dataclass(frozen=True)
class SpectralCorrelation:
    """Two-way offset to a whole cell of the delay-Doppler grid, by correlating the directions' magnitudes.

    The offsets shift the forward delay-Doppler map one way and the reverse one the other; the circular
    cross-correlation of the two magnitudes peaks at twice the offsets. Cells are 1/(2B) and 1/(2·duration)
    wide, so the deviation is 0.144/B. Frames of a slot are correlated one by one and added.

    The common baseline of the literature, against which the others are measured. Source: methods section 3.6.
    """

    name: str = "spectral-cc"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `ReciprocityMLE.estimate`."""
        require(observation, self.needs)
        link = two_way_link(observation)
        return two_way_offset(link, _on_grid(link), observation)


@dataclass(frozen=True)
class SpectralCorrelationInterpolated:
    """Two-way offset by the same correlation on a grid four times finer, and a parabola through its peak.

    Each direction is integrated over the whole frame before the magnitude is taken, so it degrades more
    slowly below -8 dB than the matched product; at high SNR its own noise keeps it at about 0.003/B.

    Source: methods section 3.6.
    """

    name: str = "spectral-cc-interpolated"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `ReciprocityMLE.estimate`."""
        require(observation, self.needs)
        link = two_way_link(observation)
        return two_way_offset(link, _interpolated(link), observation)


@dataclass(frozen=True)
class _Correlation:
    values: FloatArray
    delay_step_s: float
    doppler_step_hz: float


def _on_grid(link: TwoWayLink) -> Residual:
    correlation = _correlation(link, padding=1)
    row, column = np.unravel_index(int(np.argmax(correlation.values)), correlation.values.shape)
    return _residual(
        link,
        correlation,
        float(row),
        float(column),
        to_std_s=correlation.delay_step_s / sqrt(12.0),
        cfo_std_hz=correlation.doppler_step_hz / sqrt(12.0),
    )


def _interpolated(link: TwoWayLink) -> Residual:
    correlation = _correlation(link, padding=_PADDING)
    values = correlation.values
    row, column = (int(index) for index in np.unravel_index(int(np.argmax(values)), values.shape))
    rows, columns = values.shape
    over_rows = values[[(row - 1) % rows, row, (row + 1) % rows], column]
    over_columns = values[row, [(column - 1) % columns, column, (column + 1) % columns]]
    to_std_s, cfo_std_hz = _deviation(link, correlation)
    return _residual(
        link,
        correlation,
        row + _parabola_peak(over_rows),
        column + _parabola_peak(over_columns),
        to_std_s=to_std_s,
        cfo_std_hz=cfo_std_hz,
    )


def _residual(
    link: TwoWayLink, correlation: _Correlation, row: float, column: float, *, to_std_s: float, cfo_std_hz: float
) -> Residual:
    rows, columns = correlation.values.shape
    to_s = (column - columns * (column >= columns / 2)) * correlation.delay_step_s
    cfo_hz = (row - rows * (row >= rows / 2)) * correlation.doppler_step_hz
    turned = link.product * np.exp(4j * np.pi * to_s * link.subcarrier_hz)
    total = complex((turned * np.exp(-4j * np.pi * cfo_hz * link.symbol_s)[:, None]).sum())
    return Residual(
        to_s=to_s,
        cfo_hz=cfo_hz,
        phase_rad=0.5 * float(np.angle(total)),
        to_std_s=to_std_s,
        cfo_std_hz=cfo_std_hz,
        phase_std_rad=float(np.pi / sqrt(12.0)),
    )


def _correlation(link: TwoWayLink, *, padding: int) -> _Correlation:
    """Cross-correlation of delay-Doppler magnitudes, summed over frames; index in steps of half a cell's offset."""
    columns_of = grid_steps(link.subcarrier_hz)
    spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
    columns = padding * int(columns_of[-1] + 1)
    blocks = frame_blocks(link.frame_of_symbol)
    rows_of = [grid_steps(link.symbol_s[block]) for block in blocks]
    rows = padding * int(max(steps[-1] for steps in rows_of) + 1)
    duration_s = [float(np.min(np.diff(link.symbol_s[block]))) for block in blocks if len(block) > 1]
    spacing_s = min(duration_s) if duration_s else 1.0
    total: NDArray[np.complexfloating] = np.zeros((rows, columns // 2 + 1), dtype=np.complex64)
    for block, steps in zip(blocks, rows_of, strict=True):
        forward = fft.rfft2(_magnitude(link.forward[block], steps, columns_of, rows, columns))
        reverse = fft.rfft2(_magnitude(link.reverse[block], steps, columns_of, rows, columns))
        total += forward * np.conj(reverse)
    values: FloatArray = fft.irfft2(total, s=(rows, columns))
    return _Correlation(values, 0.5 / (columns * spacing_hz), 0.5 / (rows * spacing_s))


def _magnitude(
    values: ComplexArray, rows_of: NDArray[np.intp], columns_of: NDArray[np.intp], rows: int, columns: int
) -> FloatArray:
    """Magnitude of the delay-Doppler map, holes of the grid bridged by their neighbours."""
    grid = np.zeros((int(rows_of[-1]) + 1, int(columns_of[-1]) + 1), dtype=np.complex64)
    grid[np.ix_(rows_of, columns_of)] = values
    for hole in np.setdiff1d(np.arange(grid.shape[1]), columns_of):
        grid[:, hole] = 0.5 * (grid[:, hole - 1] + grid[:, hole + 1])
    magnitude: FloatArray = np.abs(fft.fft(fft.ifft(grid, n=columns, axis=1), n=rows, axis=0))
    return magnitude


def _parabola_peak(three: FloatArray) -> float:
    """Abscissa of the parabola through three equidistant values, the middle one the greatest."""
    before, peak, after = (float(value) for value in three)
    curvature = before - 2.0 * peak + after
    return 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0


def _deviation(link: TwoWayLink, correlation: _Correlation) -> tuple[float, float]:
    """Bound without the product's factor, widened by a quarter, and the correlation's own noise."""
    bound = two_way_bound(link.subcarrier_hz, link.symbol_s, link.snr)
    delay_cell_s = _PADDING * correlation.delay_step_s
    doppler_cell_hz = _PADDING * correlation.doppler_step_hz
    return (
        float(np.hypot(_EFFICIENCY * bound.to_std_s, 2.0 * _FLOOR_BANDS * delay_cell_s)),
        float(np.hypot(_EFFICIENCY * bound.cfo_std_hz, 2.0 * _FLOOR_BANDS * doppler_cell_hz)),
    )


_EFFICIENCY = 1.3
"""Deviation over the bound at low SNR, measured on reference R-A at -10 dB."""
