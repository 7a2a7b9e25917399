"""Spectral cross-correlation: the two directions' delay-Doppler magnitudes, shifted over one another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, sqrt

import numpy as np

from dsp.bounds.link import two_way_bound
from dsp.channel import FloatArray
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.carrier_alias import ALIASED, two_way_alias
from dsp.synchronization.correlated_maps import PADDING, CorrelatedMaps, Correlation
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

__all__ = ["SpectralCorrelation", "SpectralCorrelationInterpolated"]

_NEEDS = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})
_PEAK_SIGMAS = 5.8
"""Largest of 16,000 normal deviations in a thousand."""
_ENOUGH_ROWS = 8
_DISAGREEMENT = 5.0  # deviations
_ROUNDS = 12
_CLOSE = 0.1
"""Of a deviation: an alignment that moves by less is the last."""


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
class _Place:
    """Where the correlation peaks, in seconds and hertz, and its deviations."""

    to_s: float
    cfo_hz: float
    to_std_s: float
    cfo_std_hz: float


def _on_grid(link: TwoWayLink, clock_std_hz: float) -> tuple[Residual, bool]:
    """Residual, and whether the peak stands out of the noise."""
    maps = CorrelatedMaps(link)
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
    maps = CorrelatedMaps(link)
    correlation = maps.correlation()
    row, column = _peak(correlation.values)
    residual = _residual(link, _aligned(link, maps, correlation, clock_std_hz))
    return residual, _stands_out(link, residual, correlation, row, column, padding=PADDING)


def _stands_out(
    link: TwoWayLink, residual: Residual, correlation: Correlation, row: int, column: int, *, padding: int
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


def _aligned(link: TwoWayLink, maps: CorrelatedMaps, correlation: Correlation, clock_std_hz: float) -> _Place:
    """Peak of the correlation of maps that are sampled alike, and its deviations."""
    values = correlation.values
    row, column = _peak(values)
    rows, columns = ((place + np.arange(-1, 2)) % size for place, size in zip((row, column), values.shape, strict=True))
    off = _parabola_peak(values[rows, column]), _parabola_peak(values[row, columns])
    to_s, cfo_hz = _offsets(correlation, row + off[0], column + off[1])
    within_s = np.concatenate([link.symbol_s[b] - link.symbol_s[b].mean() for b in maps.blocks])
    whole, within = (two_way_bound(link.subcarrier_hz, time, link.snr) for time in (link.symbol_s, within_s))
    for _ in range(_ROUNDS):
        over_rows, over_columns = maps.about(to_s, cfo_hz)
        more_s = _parabola_peak(over_columns) * correlation.delay_step_s
        more_hz = _parabola_peak(over_rows) * correlation.doppler_step_hz
        to_s, cfo_hz = to_s + more_s, cfo_hz + more_hz
        if abs(more_s) < _CLOSE * within.to_std_s and abs(more_hz) < _CLOSE * within.cfo_std_hz:
            break
    to_std_s, cfo_std_hz = maps.deviations(to_s, cfo_hz)
    # Frames are correlated one by one: what their common phase says of the frequency is not used, against noise and
    # the synthesizers' alike; two_way_offset adds the latter as one fit over the whole slot has it.
    growth = within.cfo_std_hz / whole.cfo_std_hz
    apart_hz = clock_std_hz * sqrt(max(growth**2 - 1.0, 0.0)) if np.isfinite(growth) else 0.0
    return _Place(to_s, cfo_hz, to_std_s, hypot(cfo_std_hz, apart_hz))


def _peak(values: FloatArray) -> tuple[int, int]:
    """Row and column of the greatest value."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def _offsets(correlation: Correlation, row: float, column: float) -> tuple[float, float]:
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


def _parabola_peak(three: FloatArray) -> float:
    """Abscissa of the parabola through three equidistant values, the middle one the greatest."""
    before, peak, after = (float(value) for value in three)
    curvature = before - 2.0 * peak + after
    return 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0
