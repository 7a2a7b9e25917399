"""Mirrored pairs of exponentials fitted to cross-antenna products: where the movers are, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log10, pi

import numpy as np
from scipy import fft
from scipy.special import gammainccinv

from dsp.channel import ComplexArray, FloatArray
from dsp.sensing.angle import subspace_nulls
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["Fitted", "MirroredFit"]

_LARGEST_ORDER = 6
_FALSE_ALARM = 1e-3
_CLEAR_OF_REST = 2.0
"""Deviations that a Doppler must be from zero."""
_PADDING = 4
_NEWTON_STEPS = 10


@dataclass(frozen=True)
class Fitted:
    """One path against the line of sight, with its amplitudes on the products."""

    delay_s: float
    delay_std_s: float
    doppler_hz: float
    doppler_std_hz: float
    direct: ComplexArray
    mirrored: ComplexArray
    snr_db: float


class MirroredFit:
    """Mirrored pairs of exponentials in whitened products of shape (product, symbol, subcarrier)."""

    def __init__(self, products: ComplexArray, f: FloatArray, t: FloatArray, carrier_hz: float) -> None:
        self._products = products
        self._f, self._t = f, t
        self._stretch = 1.0 + f / carrier_hz  # a mover's delay changes within the slot
        self._delay_cell_s = 1.0 / float(np.ptp(f))
        self._doppler_cell_hz = 1.0 / float(np.ptp(t))

    def paths(self) -> list[Fitted]:
        """Paths that stand out of the noise, strongest first."""
        points: FloatArray = np.zeros((0, 2))
        for delay_s in self._music_delays():
            points = np.vstack([points, [delay_s, self._doppler_at(self._left(points), float(delay_s))]])
        points = self._significant(self._refined(points))
        while len(points) < _LARGEST_ORDER:
            more = self._significant(self._refined(np.vstack([points, self._strongest(self._left(points))])))
            if len(more) <= len(points):
                break
            points = more
        fitted = sorted(self._fitted(points), key=lambda path: -path.snr_db)
        # what cannot be told from rest was taken off with the mean: what is fitted there balances another path's fit
        fitted = [path for path in fitted if abs(path.doppler_hz) > _CLEAR_OF_REST * path.doppler_std_hz]
        return [path for number, path in enumerate(fitted) if not self._is_product(path, fitted[:number])]

    def direct(self, path: Fitted) -> ComplexArray:
        """Direct term of a fitted path, of unit amplitude, less its mean over time, shape (symbol, subcarrier)."""
        return _centred(self._turns(np.array([path.delay_s, path.doppler_hz])))

    def _is_product(self, path: Fitted, stronger: list[Fitted]) -> bool:
        """Whether a path stands where the product of two stronger movers with each other must."""
        for number, one in enumerate(stronger):
            for other in stronger[:number]:
                delay_s, doppler_hz = one.delay_s - other.delay_s, one.doppler_hz - other.doppler_hz
                if delay_s < 0.0:
                    delay_s, doppler_hz = -delay_s, -doppler_hz
                near = abs(path.delay_s - delay_s) < 0.5 * self._delay_cell_s
                if near and abs(path.doppler_hz - doppler_hz) < 0.5 * self._doppler_cell_hz:
                    return True
        return False

    def _music_delays(self) -> FloatArray:
        """Delays of the folded covariance's sources, number by minimum description length."""
        f = self._f
        order = np.argsort(f)
        spacing = float(np.min(np.diff(f)))
        upper = np.flatnonzero(f > 0.25 * spacing)
        mirror = order[np.clip(np.searchsorted(f[order], -f[upper] - 0.25 * spacing), 0, len(f) - 1)]
        paired = np.abs(f[mirror] + f[upper]) < 0.25 * spacing
        upper, mirror = upper[paired], mirror[paired]
        if len(upper) < 2 * _LARGEST_ORDER:
            return np.zeros(0)
        folded = (self._products[..., upper] + self._products[..., mirror]).reshape(-1, len(upper))
        covariance = folded.T @ folded.conj() / len(folded)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        count = _sources(eigenvalues[::-1], len(folded))
        if count == 0:
            return np.zeros(0)
        grid_s = np.arange(0.25, 0.5 / spacing / self._delay_cell_s, 1.0 / 16) * self._delay_cell_s
        steering = np.cos(2.0 * pi * np.outer(grid_s, f[upper]))
        norm = np.sum(steering**2, axis=1)
        null = subspace_nulls(vectors[None, :, -count:], steering.T)[0]
        spectrum = 1.0 / np.maximum(null, 1e-12 * norm) * norm
        peaks = np.flatnonzero((spectrum >= np.roll(spectrum, 1)) & (spectrum > np.roll(spectrum, -1)))
        found: FloatArray = grid_s[peaks[np.argsort(spectrum[peaks])[::-1][:count]]]
        return found

    def _doppler_at(self, left: ComplexArray, delay_s: float) -> float:
        """Signed Doppler of greatest power at a delay, direct and mirrored term together."""
        direct = left @ np.exp(2j * pi * self._f * delay_s)
        mirrored = np.conj(left) @ np.exp(2j * pi * self._f * delay_s)
        return self._doppler_peak(direct[..., None], mirrored[..., None])[0]

    def _doppler_peak(self, direct: ComplexArray, mirrored: ComplexArray) -> tuple[float, int]:
        """Doppler and column of the greatest power among series of shape (antenna, symbol, column)."""
        steps = grid_steps(self._t)
        spacing_s = float(np.min(np.diff(self._t)))
        size = fft.next_fast_len(_PADDING * int(steps[-1] + 1))
        power: FloatArray = np.zeros((size, direct.shape[-1]))
        for series in (direct, mirrored):
            for antenna in series:
                padded = np.zeros((size, direct.shape[-1]), dtype=np.complex128)
                padded[steps] = antenna
                power += np.abs(fft.fft(padded, axis=0)) ** 2
        row, column = divmod(int(np.argmax(power)), power.shape[1])
        return float(fft.fftfreq(size, spacing_s)[row]), column

    def _strongest(self, left: ComplexArray) -> FloatArray:
        """Delay and Doppler of the greatest mirrored power of the remainder."""
        spacing = float(np.min(np.diff(self._f)))
        grid_s = np.arange(0.25, 0.5 / spacing / self._delay_cell_s, 0.5) * self._delay_cell_s
        beams = np.exp(2j * pi * np.outer(self._f, grid_s))
        doppler_hz, column = self._doppler_peak(left @ beams, np.conj(left) @ beams)
        return np.array([[grid_s[column], doppler_hz]])

    def _turns(self, point: FloatArray) -> ComplexArray:
        """Direct exponential of one path, shape (symbol, subcarrier)."""
        turns: ComplexArray = np.exp(2j * pi * (np.outer(point[1] * self._t, self._stretch) - point[0] * self._f))
        return turns

    def _terms(self, points: FloatArray) -> ComplexArray:
        """Direct and mirrored exponential of each path less its mean over time, shape (2·path, element)."""
        return _mirrored([_centred(self._turns(point)) for point in points])

    def _amplitudes(self, terms: ComplexArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
        """Least-squares amplitudes (term, product), the terms' conjugates, what is left (product, element)."""
        target = self._products.reshape(len(self._products), -1)
        conjugate = terms.reshape(-1, 2, terms.shape[1])[:, ::-1].reshape(terms.shape)
        amplitudes = np.linalg.lstsq(conjugate @ terms.T, conjugate @ target.T, rcond=1e-10)[0]
        return amplitudes, conjugate, target - amplitudes.T @ terms

    def _left(self, points: FloatArray) -> ComplexArray:
        if len(points) == 0:
            return self._products
        return self._amplitudes(self._terms(points))[2].reshape(self._products.shape)

    def _normal(self, points: FloatArray) -> tuple[FloatArray, FloatArray, ComplexArray, ComplexArray]:
        """Normal matrix and right side in delays and Dopplers, amplitudes eliminated; amplitudes; remainder.

        Every slope is an element-wise derivative, or its conjugate for the mirrored term, times a product's
        amplitude, so that all inner products are those of derivatives with terms and with one another.
        """
        turned = [self._turns(point) for point in points]
        terms = _mirrored([_centred(one) for one in turned])
        amplitudes, conjugate, left = self._amplitudes(terms)
        by_delay = -2j * pi * self._delay_cell_s * self._f
        by_doppler = 2j * pi * self._doppler_cell_hz * np.outer(self._t, self._stretch)
        slopes = _mirrored([_centred(factor * one) for one in turned for factor in (by_delay, by_doppler)])
        turned_slopes = slopes.reshape(-1, 2, slopes.shape[1])[:, ::-1].reshape(slopes.shape)
        across = conjugate @ slopes.T
        projected = turned_slopes @ slopes.T
        projected -= across.conj().T @ np.linalg.lstsq(conjugate @ terms.T, across, rcond=1e-10)[0]
        size = 2 * len(points)
        mixed = np.zeros((2 * size, size, amplitudes.shape[1]), np.complex128)
        for parameter in range(size):
            mixed[2 * parameter, parameter] = amplitudes[2 * (parameter // 2)]
            mixed[2 * parameter + 1, parameter] = amplitudes[2 * (parameter // 2) + 1]
        matrix = np.einsum("ipa,ij,jqa->pq", mixed.conj(), projected, mixed, optimize=True).real
        right = np.einsum("ipa,ia->p", mixed.conj(), turned_slopes @ left.T).real
        return matrix, right, amplitudes, left

    def _refined(self, points: FloatArray) -> FloatArray:
        """Delays and Dopplers of least squares near the given ones, steps at most a quarter of a cell."""
        if len(points) == 0:
            return points
        cells = np.array([self._delay_cell_s, self._doppler_cell_hz])
        for _ in range(_NEWTON_STEPS):
            matrix, right, _, _ = self._normal(points)
            damping = 1e-6 * np.trace(matrix) / len(matrix)
            step = np.linalg.solve(matrix + damping * np.eye(len(matrix)), right)
            points = points + np.clip(step, -0.25, 0.25).reshape(-1, 2) * cells
            if np.max(np.abs(step)) < 1e-5:
                break
        turned = points[:, 0] < 0.0  # a mirrored term taken for the direct one
        upright: FloatArray = np.where(turned[:, None], -points, points)
        return upright

    def _significant(self, points: FloatArray) -> FloatArray:
        """Paths whose pair of terms explains more than noise does anywhere in the map.

        What the pair explains is the energy that would be left without it, the others fitted anew: its amplitudes in
        the inverse of their own covariance. Two paths in one cell, or one at rest, may be of any size and explain
        little.
        """
        if len(points) == 0:
            return points
        terms = self._terms(points)
        amplitudes, conjugate, left = self._amplitudes(terms)
        products = len(self._products)
        noise = float(np.mean(np.abs(left) ** 2))
        spread = np.linalg.pinv(conjugate @ terms.T, rcond=1e-10, hermitian=True)
        pairs = amplitudes.reshape(-1, 2, products)
        weights = np.linalg.inv([spread[2 * one : 2 * one + 2, 2 * one : 2 * one + 2] for one in range(len(points))])
        energy = np.einsum("pia,pij,pja->p", pairs.conj(), weights, pairs).real / noise
        # Energy of two complex cells a product, the greatest of a continuous search: of four times the map's cells.
        threshold = gammainccinv(2 * products, _FALSE_ALARM / (4.0 * left.shape[1]))
        apart = points[:, 0] > 0.2 * self._delay_cell_s
        significant: FloatArray = points[(energy > threshold) & apart]
        return significant

    def _fitted(self, points: FloatArray) -> list[Fitted]:
        if len(points) == 0:
            return []
        matrix, _, amplitudes, left = self._normal(points)
        noise = float(np.mean(np.abs(left) ** 2))
        deviation = np.sqrt(0.5 * noise * np.diag(np.linalg.pinv(matrix, hermitian=True))).reshape(-1, 2)
        return [
            Fitted(
                delay_s=float(delay_s),
                delay_std_s=float(deviation[path, 0]) * self._delay_cell_s,
                doppler_hz=float(doppler_hz),
                doppler_std_hz=float(deviation[path, 1]) * self._doppler_cell_hz,
                direct=amplitudes[2 * path],
                mirrored=amplitudes[2 * path + 1],
                snr_db=10.0 * log10(left.shape[1] * float(np.sum(np.abs(amplitudes[2 * path]) ** 2)) / noise),
            )
            for path, (delay_s, doppler_hz) in enumerate(points)
        ]


def _mirrored(direct: list[ComplexArray]) -> ComplexArray:
    """Each array and its conjugate in turn, shape (2·array, element)."""
    stacked = np.stack(direct).reshape(len(direct), -1)
    return np.stack([stacked, stacked.conj()], axis=1).reshape(2 * len(direct), -1)


def _centred(series: ComplexArray) -> ComplexArray:
    """Less the mean over symbols, shape (symbol, subcarrier)."""
    centred: ComplexArray = series - series.mean(axis=0)
    return centred


def _sources(eigenvalues: FloatArray, snapshots: int) -> int:
    """Number of sources of minimum description length; eigenvalues descending."""
    size = len(eigenvalues)
    lengths = []
    for count in range(_LARGEST_ORDER + 1):
        tail = np.maximum(eigenvalues[count:], 1e-300)
        ratio = float(np.mean(np.log(tail)) - np.log(np.mean(tail)))
        lengths.append(-snapshots * (size - count) * ratio + 0.5 * count * (2 * size - count) * log(snapshots))
    return int(np.argmin(lengths))
