"""Delay-Doppler magnitudes of the two directions of a link, correlated over one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, pi

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.channel import ComplexArray, FloatArray
from dsp.phase_ramps import turned
from dsp.synchronization.matched_product import TwoWayLink
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["PADDING", "CorrelatedMaps", "Correlation"]

PADDING = 4
_STATED_PADDING = 2
"""Of the maps that deviations are read from: two points a cell hold all of a map."""


@dataclass(frozen=True)
class Correlation:
    """Circular cross-correlation of the magnitudes, shape (Doppler, delay)."""

    values: FloatArray
    delay_step_s: float
    """Time offset for each column: half a step of the maps."""
    doppler_step_hz: float

    @property
    def cells(self) -> Correlation:
        """At whole cells alone."""
        steps = PADDING * self.delay_step_s, PADDING * self.doppler_step_hz
        return Correlation(self.values[::PADDING, ::PADDING], *steps)


class CorrelatedMaps:
    """Delay-Doppler magnitudes of both directions, frame by frame, over the elements that both know."""

    def __init__(self, link: TwoWayLink) -> None:
        self._link = link
        self._known = link.weights > 0.0
        self.blocks = frame_blocks(link.frame_of_symbol)
        """Symbols of each frame."""
        self._columns_of = grid_steps(link.subcarrier_hz)
        self._rows_of = [grid_steps(link.symbol_s[block]) for block in self.blocks]
        self._cells = int(max(steps[-1] for steps in self._rows_of) + 1), int(self._columns_of[-1] + 1)
        self._spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
        spacings_s = [float(np.min(np.diff(link.symbol_s[block]))) for block in self.blocks if len(block) > 1]
        self._spacing_s = min(spacings_s) if spacings_s else 1.0

    def correlation(self) -> Correlation:
        """Cross-correlation of the magnitudes, summed over frames."""
        rows, columns = shape = self._shape(PADDING)
        total: NDArray[np.complexfloating] = np.zeros((rows, columns // 2 + 1), dtype=np.complex64)
        for forward, reverse in self._pairs(0.0, 0.0):
            total += fft.rfft2(forward) * np.conj(fft.rfft2(reverse))
        values: FloatArray = fft.irfft2(total, s=shape)
        return Correlation(values, 0.5 / (columns * self._spacing_hz), 0.5 / (rows * self._spacing_s))

    def about(self, to_s: float, cfo_hz: float) -> tuple[FloatArray, FloatArray]:
        """Correlation about zero with these offsets taken off: three values over Doppler, three over delay."""
        found = np.zeros((2, 3))
        for forward, reverse in self._pairs(to_s, cfo_hz):
            for axis in (0, 1):
                found[axis] += [float(np.vdot(np.roll(forward, -step, axis), reverse)) for step in (-1, 0, 1)]
        return found[0], found[1]

    def deviations(self, to_s: float, cfo_hz: float) -> tuple[float, float]:
        """Deviations of time offset and CFO at which the aligned magnitudes correlate most.

        With m the common magnitude, its phase e, a slope m' and n the noise of either direction along e, the
        correlation's slope is 2·Σ m'·(n_R - n_F) + Σ (n_F'·n_R - n_F·n_R') and its curvature 4·Σ m'². The first sum's
        variance is that of white noise seen through m'·e, which is taken back to subcarriers and symbols, where alone
        there is noise; the second's follows from the spectrum of the magnitudes' difference, which is noise alone.
        Products of both directions stand for squares, so that noise does not add to them. (docs/methods/reciprocity.md,
        6b.)

        Infinite along an axis on which the magnitudes have no maximum.
        """
        link, (rows, columns) = self._link, self._shape(_STATED_PADDING)
        noise = np.where(self._known, link.forward_variance + link.reverse_variance, 0.0)
        frequency = 2.0 * pi * self._spacing_hz * columns * fft.fftfreq(columns)
        time = 2.0 * pi * self._spacing_s * rows * fft.fftfreq(rows)[:, None]
        curvature, crossed, both = np.zeros(2), np.zeros(2), np.zeros(2)
        for number, directions in enumerate(self._turned(to_s, cfo_hz)):
            block = self.blocks[number]
            symbol_s = link.symbol_s[block] - link.symbol_s[block].mean()
            # half a step aside: the nulls of a line at rest would else be points of the grid, where phases are noise
            aside = np.exp(1j * pi * (link.subcarrier_hz / (columns * self._spacing_hz)))
            aside = aside * np.exp(1j * pi * symbol_s / (rows * self._spacing_s))[:, None]
            ahead, back = (one * aside for one in directions)
            maps = [self._map(one, number, _STATED_PADDING) for one in (ahead, back)]
            spectrum = np.abs(fft.fft2(np.abs(maps[0]) - np.abs(maps[1]))) ** 4 / (2.0 * maps[0].size ** 2)
            phases = [np.exp(1j * np.angle(one)) for one in maps]
            axes = ((2j * pi * link.subcarrier_hz, frequency), (-2j * pi * symbol_s[:, None], time))
            for axis, (slope, lag) in enumerate(axes):
                slopes = [
                    (np.conj(phase) * self._map(slope * one, number, _STATED_PADDING)).real
                    for phase, one in zip(phases, (ahead, back), strict=True)
                ]
                seen = [self._elements(one * phase, number) for one, phase in zip(slopes, phases, strict=True)]
                product = seen[0] * np.conj(seen[1])
                product *= np.exp(-1j * np.angle(product.sum()))
                curvature[axis] += 4.0 * float(np.sum(slopes[0] * slopes[1]))
                crossed[axis] += 2.0 * float(np.sum(noise[block] * product.real))
                both[axis] += float(np.sum(lag**2 * spectrum))
        variance = np.maximum(crossed, 0.0) + both
        to_std_s, cfo_std_hz = (
            float(np.sqrt(one)) / bend if bend > 0.0 else inf for one, bend in zip(variance, curvature, strict=True)
        )
        return to_std_s, cfo_std_hz

    def _shape(self, padding: int) -> tuple[int, int]:
        return padding * self._cells[0], padding * self._cells[1]

    def _pairs(self, to_s: float, cfo_hz: float) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Forward and reverse magnitudes of each frame, offsets taken off."""
        for number, directions in enumerate(self._turned(to_s, cfo_hz)):
            forward, reverse = (np.abs(self._map(one, number, PADDING)) for one in directions)
            yield forward, reverse

    def _turned(self, to_s: float, cfo_hz: float) -> Iterator[tuple[ComplexArray, ComplexArray]]:
        """Forward and reverse elements of each frame, offsets taken off, half from either."""
        link = self._link
        angle = -2.0 * pi * cfo_hz * link.symbol_s
        slope = 2.0 * pi * to_s + angle / link.carrier_hz
        # resampled to common frequencies, one direction lacks the band's lower edge and the other its upper
        ahead = turned(np.where(self._known, link.forward, 0.0), angle, slope, link.subcarrier_hz)
        back = turned(np.where(self._known, link.reverse, 0.0), -angle, -slope, link.subcarrier_hz)
        for block in self.blocks:
            yield ahead[block], back[block]

    def _map(self, values: ComplexArray, number: int, padding: int) -> ComplexArray:
        """Delay-Doppler map of a frame's elements, holes of the grid bridged by their neighbours."""
        rows_of = self._rows_of[number]
        rows, columns = self._shape(padding)
        grid = np.zeros((int(rows_of[-1]) + 1, self._cells[1]), dtype=np.complex64)
        grid[np.ix_(rows_of, self._columns_of)] = values
        for hole in np.setdiff1d(np.arange(grid.shape[1]), self._columns_of):
            grid[:, hole] = 0.5 * (grid[:, hole - 1] + grid[:, hole + 1])
        spread: ComplexArray = fft.fft(fft.ifft(grid, n=columns, axis=1), n=rows, axis=0)
        return spread

    def _elements(self, values: ComplexArray, number: int) -> ComplexArray:
        """Adjoint of the map, holes left out: what each element would have to hold."""
        rows, columns = values.shape
        grid = fft.ifft(fft.fft(values, axis=1), axis=0) * (rows / columns)
        found: ComplexArray = grid[np.ix_(self._rows_of[number], self._columns_of)]
        return found
