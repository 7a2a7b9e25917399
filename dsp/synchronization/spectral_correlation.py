"""Spectral cross-correlation: the two directions' delay-Doppler magnitudes, shifted over one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import hypot, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.bounds.link import two_way_bound
from dsp.channel import ComplexArray, FloatArray
from dsp.phase_ramps import turned
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.carrier_alias import ALIASED, two_way_alias
from dsp.synchronization.matched_product import (
    NO_COMMON_CHANNEL,
    Residual,
    TwoWayLink,
    rises,
    two_way_link,
    two_way_offset,
)
from dsp.synchronization.reciprocity import likelihood_residual
from dsp.synchronization.reciprocity_check import NOT_RECIPROCAL, frequency_doubt_hz, non_reciprocal, widened_by
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["SpectralCorrelation", "SpectralCorrelationInterpolated"]

_NEEDS = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})
_PADDING = 4
_PEAK_SIGMAS = 5.8
"""Largest of 16,000 normal deviations in a thousand."""
_ENOUGH_ROWS = 8
_DISAGREEMENT = 5.0  # deviations
_ROUNDS = 12
_CLOSE = 0.1
"""Of a deviation: an alignment that moves by less is the last."""
_LOW_SNR_LOSS = 0.07
"""Growth of the variance over the bound's, times the SNR, measured on reference R-A at -10 dB."""


@dataclass(frozen=True)
class SpectralCorrelation:
    """Two-way offset to a whole cell of the delay-Doppler grid, by correlating the directions' magnitudes.

    The offsets shift the forward delay-Doppler map one way and the reverse one the other; the circular
    cross-correlation of the two magnitudes peaks at twice the offsets. Cells are 1/(2B) and 1/(2·duration)
    wide: of an offset anywhere in a cell the error deviates by 0.144/B, of one that acquisition has brought to the
    cell's middle by far less. Magnitudes are taken on a grid four times finer, of whose correlation every fourth
    value counts: on the cells' own grid each direction's map is rounded, and a lone line's errors add to √2 of a
    cell's. The deviation stated is the distance to the aligned correlation's peak, with that one's deviation.
    Frames of a slot are correlated one by one and added.

    The common baseline of the literature, against which the others are measured. Source: methods section 3.6.
    """

    name: str = "spectral-cc"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `ReciprocityMLE.estimate`."""
        require(observation, self.needs)
        link = two_way_link(observation)
        residual, stands_out = _on_grid(link, observation.clock_std_hz)
        return _judged(two_way_offset(link, residual, observation), observation, link, residual, stands_out)


@dataclass(frozen=True)
class SpectralCorrelationInterpolated:
    """Two-way offset at which the two directions' delay-Doppler magnitudes lie over one another.

    The peak of the correlation on a grid four times finer, and a parabola through it, come near. Both directions are
    then turned by half of what was found and correlated again about zero, until they no longer move: magnitudes are not
    band-limited, so that maps sampled at different places differ by a part of 0.003 of a cell, while of aligned ones
    the samples are the same whatever the channel. Each direction is integrated over the whole frame before the
    magnitude is taken, so that it degrades more slowly at low SNR than the matched product.

    Source: methods section 3.6.
    """

    name: str = "spectral-cc-interpolated"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `ReciprocityMLE.estimate`."""
        require(observation, self.needs)
        link = two_way_link(observation)
        residual, stands_out = _interpolated(link, observation.clock_std_hz)
        return _judged(two_way_offset(link, residual, observation), observation, link, residual, stands_out)


def _judged(offset: Offset, observation: Observation, link: TwoWayLink, residual: Residual, stands_out: bool) -> Offset:
    """Offset with its assumptions tested: a peak above the noise, and directions that see the same channel.

    The test of reciprocity is that of the likelihood method, at its own offsets. Where the matched product does not
    rise above the noise there is none, and the peak has to stand out by itself.
    """
    if not offset.valid or offset.to_std_s is None:
        return offset
    likely = likelihood_residual(link)
    if not rises(link, likely):
        return offset if stands_out else replace(offset, valid=False, reason=NO_COMMON_CHANNEL)
    if two_way_alias(link, likely):
        return replace(offset, valid=False, reason=ALIASED)
    apart = (
        (residual.to_s - likely.to_s) / np.hypot(residual.to_std_s, likely.to_std_s),
        (residual.cfo_hz - likely.cfo_hz) / np.hypot(residual.cfo_std_hz, likely.cfo_std_hz),
    )
    if np.max(np.abs(apart)) > _DISAGREEMENT:
        return replace(offset, valid=False, reason="correlation and matched product peak in different places")
    seen = non_reciprocal(link, likely)
    found = seen.likelier
    if not seen.reciprocal:
        return replace(offset, valid=False, reason=NOT_RECIPROCAL)
    widened = replace(
        offset,
        cfo_std_hz=float(np.hypot(offset.cfo_std_hz or 0.0, frequency_doubt_hz(link, likely, found, observation))),
    )
    if not len(found.delays_s) and not found.smooth_power:
        return widened
    apart_s = residual.to_s - likely.to_s - found.to_correction_s
    joint_s = likely.to_std_s * found.deviation_factor
    return replace(
        widened,
        to_std_s=float(np.linalg.norm([offset.to_std_s, joint_s, apart_s, seen.to_doubt_s])),
        reason=widened_by(found),
    )


@dataclass(frozen=True)
class _Correlation:
    values: FloatArray
    delay_step_s: float
    doppler_step_hz: float

    @property
    def cells(self) -> _Correlation:
        """At whole cells alone."""
        steps = _PADDING * self.delay_step_s, _PADDING * self.doppler_step_hz
        return _Correlation(self.values[::_PADDING, ::_PADDING], *steps)


@dataclass(frozen=True)
class _Place:
    """Where the correlation peaks, in seconds and hertz, and its deviations."""

    to_s: float
    cfo_hz: float
    to_std_s: float
    cfo_std_hz: float


def _on_grid(link: TwoWayLink, clock_std_hz: float) -> tuple[Residual, bool]:
    """Residual, and whether the peak stands out of the noise."""
    maps = _Maps(link)
    fine = maps.correlation()
    correlation = fine.cells
    row, column = _peak(correlation.values)
    to_s, cfo_hz = _offsets(correlation, float(row), float(column))
    between = _aligned(link, maps, fine, clock_std_hz)
    place = _Place(
        to_s,
        cfo_hz,
        to_std_s=hypot(between.to_std_s, to_s - between.to_s),
        cfo_std_hz=hypot(between.cfo_std_hz, cfo_hz - between.cfo_hz),
    )
    residual = _residual(link, place)
    return residual, _stands_out(link, residual, correlation, row, column, padding=1)


def _interpolated(link: TwoWayLink, clock_std_hz: float) -> tuple[Residual, bool]:
    maps = _Maps(link)
    correlation = maps.correlation()
    row, column = _peak(correlation.values)
    residual = _residual(link, _aligned(link, maps, correlation, clock_std_hz))
    return residual, _stands_out(link, residual, correlation, row, column, padding=_PADDING)


def _stands_out(
    link: TwoWayLink, residual: Residual, correlation: _Correlation, row: int, column: int, *, padding: int
) -> bool:
    """Whether the peak stands out of the same delay's other Doppler cells, where noise is alike.

    Over delay it is not: the resampling to common frequencies takes some delays' noise away, in both directions.
    """
    over_doppler = np.roll(correlation.values[:, column], -row)
    others = over_doppler[2 * padding : len(over_doppler) - 2 * padding + 1 : padding]
    if len(others) < _ENOUGH_ROWS:
        return rises(link, residual)
    unsure = 1.0 + 2.0 / sqrt(len(others))
    return bool(over_doppler[0] - others.mean() > unsure * _PEAK_SIGMAS * others.std())


def _aligned(link: TwoWayLink, maps: _Maps, correlation: _Correlation, clock_std_hz: float) -> _Place:
    """Peak of the correlation of maps that are sampled alike, and its deviations."""
    values = correlation.values
    row, column = _peak(values)
    rows, columns = ((place + np.arange(-1, 2)) % size for place, size in zip((row, column), values.shape, strict=True))
    off = _parabola_peak(values[rows, column]), _parabola_peak(values[row, columns])
    to_s, cfo_hz = _offsets(correlation, row + off[0], column + off[1])
    # Frames are correlated one by one: what their common phase says of the frequency is not used, against noise and
    # the synthesizers' alike; two_way_offset adds the latter as one fit over the whole slot has it.
    within_s = np.concatenate([link.symbol_s[b] - link.symbol_s[b].mean() for b in maps.blocks])
    bound = two_way_bound(link.subcarrier_hz, within_s, link.snr)
    growth = bound.cfo_std_hz / two_way_bound(link.subcarrier_hz, link.symbol_s, link.snr).cfo_std_hz
    apart_hz = clock_std_hz * sqrt(max(growth**2 - 1.0, 0.0)) if np.isfinite(growth) else 0.0
    loss = sqrt(1.0 + _LOW_SNR_LOSS / link.snr)
    for _ in range(_ROUNDS):
        over_rows, over_columns = maps.about(to_s, cfo_hz)
        more_s = _parabola_peak(over_columns) * correlation.delay_step_s
        more_hz = _parabola_peak(over_rows) * correlation.doppler_step_hz
        to_s, cfo_hz = to_s + more_s, cfo_hz + more_hz
        if abs(more_s) < _CLOSE * bound.to_std_s and abs(more_hz) < _CLOSE * bound.cfo_std_hz:
            break
    return _Place(to_s, cfo_hz, loss * bound.to_std_s, hypot(loss * bound.cfo_std_hz, apart_hz))


def _peak(values: FloatArray) -> tuple[int, int]:
    """Row and column of the greatest value."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def _offsets(correlation: _Correlation, row: float, column: float) -> tuple[float, float]:
    """Offsets in seconds and hertz at a place of the circular correlation."""
    rows, columns = correlation.values.shape
    to_s = (column - columns * (column >= columns / 2)) * correlation.delay_step_s
    cfo_hz = (row - rows * (row >= rows / 2)) * correlation.doppler_step_hz
    return to_s, cfo_hz


def _residual(link: TwoWayLink, place: _Place) -> Residual:
    turned = link.product * np.exp(4j * np.pi * place.to_s * link.subcarrier_hz)
    total = complex((turned * np.exp(-4j * np.pi * place.cfo_hz * link.symbol_s)[:, None]).sum())
    return Residual(
        to_s=place.to_s,
        cfo_hz=place.cfo_hz,
        phase_rad=0.5 * float(np.angle(total)),
        to_std_s=place.to_std_s,
        cfo_std_hz=place.cfo_std_hz,
        phase_std_rad=float(np.pi / sqrt(12.0)),
    )


class _Maps:
    """Delay-Doppler magnitudes of both directions, frame by frame, over the elements that both know."""

    def __init__(self, link: TwoWayLink) -> None:
        self._link = link
        self._known = link.weights > 0.0
        self.blocks = frame_blocks(link.frame_of_symbol)
        self._columns_of = grid_steps(link.subcarrier_hz)
        self._rows_of = [grid_steps(link.symbol_s[block]) for block in self.blocks]
        self._shape = (
            _PADDING * int(max(steps[-1] for steps in self._rows_of) + 1),
            _PADDING * int(self._columns_of[-1] + 1),
        )

    def correlation(self) -> _Correlation:
        """Cross-correlation of the magnitudes, summed over frames; index in steps of half a step's offset."""
        link, (rows, columns) = self._link, self._shape
        spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
        spacings_s = [float(np.min(np.diff(link.symbol_s[block]))) for block in self.blocks if len(block) > 1]
        total: NDArray[np.complexfloating] = np.zeros((rows, columns // 2 + 1), dtype=np.complex64)
        for forward, reverse in self._pairs(0.0, 0.0):
            total += fft.rfft2(forward) * np.conj(fft.rfft2(reverse))
        values: FloatArray = fft.irfft2(total, s=self._shape)
        return _Correlation(
            values, 0.5 / (columns * spacing_hz), 0.5 / (rows * (min(spacings_s) if spacings_s else 1.0))
        )

    def about(self, to_s: float, cfo_hz: float) -> tuple[FloatArray, FloatArray]:
        """Correlation about zero with these offsets taken off: three values over Doppler, three over delay."""
        found = np.zeros((2, 3))
        for forward, reverse in self._pairs(to_s, cfo_hz):
            for axis in (0, 1):
                found[axis] += [float(np.vdot(np.roll(forward, -step, axis), reverse)) for step in (-1, 0, 1)]
        return found[0], found[1]

    def _pairs(self, to_s: float, cfo_hz: float) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Forward and reverse magnitudes of each frame, offsets taken off, half from either."""
        link = self._link
        angle = -2.0 * pi * cfo_hz * link.symbol_s
        slope = 2.0 * pi * to_s + angle / link.carrier_hz
        # resampled to common frequencies, one direction lacks the band's lower edge and the other its upper
        ahead = turned(np.where(self._known, link.forward, 0.0), angle, slope, link.subcarrier_hz)
        back = turned(np.where(self._known, link.reverse, 0.0), -angle, -slope, link.subcarrier_hz)
        for block, steps in zip(self.blocks, self._rows_of, strict=True):
            forward, reverse = (_magnitude(one[block], steps, self._columns_of, *self._shape) for one in (ahead, back))
            yield forward, reverse


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
