"""Paths of a static channel by greedy search and joint maximum likelihood, with the deviations of all they show."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from scipy import fft
from scipy.special import chdtri

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["StaticPaths", "static_paths"]

_PADDING = 4
_FALSE_ALARM = 1e-3
"""Per channel, of a path found in noise."""
_LARGEST_COUNT = 16
_SWEEPS = 12
_LARGEST_STEP = 0.25
"""Of a resolution cell, in one step of the refinement."""
_CLOSEST = 0.6
"""Resolution cells below which two paths are one that the model splits."""
_WINDOW_STEPS = 8
_WINDOW_FLOOR = 1e-5
"""Singular value, of the greatest, down to which the leakage window's exponentials are projected out: 100 dB."""
_LEAST_NOISE = 0.1
"""Part of the antennas' noise power that is taken to be in any direction."""


@dataclass(frozen=True)
class StaticPaths:
    """Paths of a static channel, by delay."""

    delay_s: FloatArray
    """Ascending, shape (path,)."""
    delay_std_s: FloatArray
    """Of the joint estimate, all amplitudes unknown, noise as alike from antenna to antenna as it was seen to be."""
    amplitudes: ComplexArray
    """Shape (antenna, path)."""
    amplitude_std: FloatArray
    """Per real dimension, of a path that stands alone, shape (antenna,)."""
    step_std_rad: FloatArray
    """Deviation of the phase from antenna to antenna, all delays and amplitudes unknown; infinite on one antenna."""
    floor: float = 0.0
    """Amplitude on the first antenna below which no path would have been found."""


def static_paths(
    values: ComplexArray,
    variance: FloatArray,
    subcarrier_hz: FloatArray,
    *,
    carrier_hz: float,
    apart_from_s: tuple[float, float] | None = None,
) -> StaticPaths:
    """Paths of a static channel by greedy search and joint maximum likelihood.

    Each next path is the delay of greatest likelihood ratio in what the paths so far leave, antennas added
    incoherently; then all delays are refined together by Gauss–Newton with the amplitudes solved for on every
    antenna. The search ends where the ratio no longer rises above noise, at one false path in a thousand channels.
    Paths closer than 0.6 of a resolution cell count as one. A wave that crosses the array arrives at every antenna
    at another time, which between neighbouring paths is worth a tenth of a nanosecond, and from 30 dB on leaves what
    looks like another path: the phase from antenna to antenna tells by how much, and the paths found are laid across
    the array and refined again before the next is looked for. Delays are those to the array's centre.

    Parameters
    ----------
    values : complex array, shape (antenna, subcarrier)
        The antennas stand in a uniform line, half a wavelength apart or less.
    variance : float array, shape (antenna, subcarrier)
        Noise; infinite where unknown.
    subcarrier_hz : float array, shape (subcarrier,)
    carrier_hz : float > 0
    apart_from_s : (float, float), optional
        Delays between which anything may stand, on each antenna another: projected out, and nothing is looked for
        there.
    """
    known = np.all(np.isfinite(variance), axis=0)
    fit = _Fit(values[:, known], variance[:, known], subcarrier_hz[known], apart_from_s)
    delays: FloatArray = np.zeros(0)
    while len(delays) < _LARGEST_COUNT:
        start = fit.next_delay(delays)
        if start is None:
            break
        laid = fit.late_s
        trial = fit.refined(np.append(delays, start))
        if len(values) > 1:
            fit.tilt(fit.solved(trial)[0], carrier_hz)
            trial = fit.refined(trial)
        if len(trial) > 1 and float(np.min(np.diff(np.sort(trial)))) < _CLOSEST * fit.cell_s:
            fit.late_s = laid
            break
        delays = trial
    amplitudes, _ = fit.solved(delays)
    delay_std_s, step_std_rad = fit.deviations(delays)
    order = np.argsort(delays)
    return StaticPaths(
        delays[order], delay_std_s[order], amplitudes[:, order], fit.amplitude_std, step_std_rad[order], fit.floor
    )


class _Fit:
    """Likelihood of paths in one channel, noise alike on all its subcarriers but not on its antennas."""

    def __init__(
        self,
        values: ComplexArray,
        variance: FloatArray,
        subcarrier_hz: FloatArray,
        apart_from_s: tuple[float, float] | None = None,
    ) -> None:
        noise = variance.mean(axis=1)
        self._scale = np.sqrt(noise)
        self._f = subcarrier_hz - float(subcarrier_hz.mean())
        self._centre_hz = float(subcarrier_hz.mean())
        self._steps = grid_steps(subcarrier_hz)
        self._spacing_hz = float(np.min(np.diff(subcarrier_hz)))
        self.cell_s = 1.0 / float(np.ptp(subcarrier_hz))
        self.amplitude_std: FloatArray = self._scale / np.sqrt(2.0 * len(subcarrier_hz))
        self.late_s: FloatArray = np.zeros((len(values), 0))
        """By how much each path laid across the array is late at each antenna, shape (antenna, path)."""
        self._window = apart_from_s
        self._nuisance = None if apart_from_s is None else self._basis(*apart_from_s)
        self._data = self._apart((values / self._scale[:, None]).astype(np.complex128)[..., None])[..., 0]
        # beside leakage the noise is its phase noise, which all antennas share
        alike = 1 if apart_from_s is None else len(values)
        rate = _FALSE_ALARM / (_PADDING * len(self._f))
        self._threshold = 0.5 * alike * float(chdtri(2 * len(values) // alike, rate))
        self.floor = float(self._scale[0]) * float(np.sqrt(self._threshold / len(values) / len(self._f)))

    def _basis(self, begin_s: float, end_s: float) -> ComplexArray:
        """Orthonormal columns that hold every path between two delays."""
        count = int(np.ceil((end_s - begin_s) / self.cell_s * _WINDOW_STEPS)) + 1
        left, sizes, _ = np.linalg.svd(self._exponentials(np.linspace(begin_s, end_s, count))[0], full_matrices=False)
        return np.asarray(left[:, sizes > _WINDOW_FLOOR * sizes[0]])

    def _apart(self, columns: ComplexArray) -> ComplexArray:
        """Columns, shape (…, subcarrier, column), less what lies in the window."""
        if self._nuisance is None:
            return columns
        return np.asarray(columns - self._nuisance @ (self._nuisance.conj().T @ columns))

    def next_delay(self, delays_s: FloatArray) -> float | None:
        """Delay of the strongest path not yet fitted; None if only noise is left."""
        _, left = self.solved(delays_s)
        size = fft.next_fast_len(_PADDING * int(self._steps[-1] + 1))
        padded = np.zeros((len(left), size), dtype=np.complex128)
        padded[:, self._steps] = left
        power = np.sum(np.abs(fft.ifft(padded, axis=1, norm="forward")) ** 2, axis=0) / len(self._f)
        grid_s = fft.fftfreq(size, self._spacing_hz)
        for delay_s in delays_s:  # what a fitted path leaves beside itself is no path
            apart = (grid_s - delay_s) * self._spacing_hz
            power[np.abs(apart - np.rint(apart)) < self.cell_s * self._spacing_hz] = 0.0
        if self._window is not None:
            power[(grid_s > self._window[0]) & (grid_s < self._window[1])] = 0.0
        peak = int(np.argmax(power))
        return float(grid_s[peak]) if power[peak] > self._threshold else None

    def refined(self, delays_s: FloatArray) -> FloatArray:
        """All delays at their joint maximum of likelihood."""
        for _ in range(_SWEEPS):
            amplitudes, left = self.solved(delays_s)
            information, gradient = self._normal(delays_s, amplitudes, left)
            step = np.linalg.solve(information, gradient)
            limit = _LARGEST_STEP * self.cell_s
            delays_s = delays_s + np.clip(step, -limit, limit)
            if np.all(np.abs(step) < 1e-3 / np.sqrt(np.diag(information))):
                break
        return delays_s

    def deviations(self, delays_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Deviation of each delay, and of each phase step from antenna to antenna.

        Noise that arrives as a wave of its own, as the leakage's does, is in either as that wave resembles the path. A
        delay's error turns the amplitudes of the paths beside it, on each antenna by what crosses it there.
        """
        if not len(delays_s):
            return np.zeros(0), np.zeros(0)
        amplitudes, left = self.solved(delays_s)
        own = self._own(delays_s, amplitudes)
        alike = self._alike(left)
        exponentials, slopes, across = self._columns(delays_s)
        inverse = np.linalg.inv(self._information(own, across))
        rows = own.conj()[:, :, None] * across.swapaxes(1, 2).conj()
        scores = 2.0 * np.real(np.einsum("auk,bvk,ab->uv", rows, rows.conj(), alike, optimize=True))
        delays_covariance = inverse @ scores @ inverse
        power = np.abs(own) ** 2
        antennas = np.arange(len(own), dtype=np.float64)[:, None]
        place = antennas - np.sum(antennas * power, axis=0) / np.sum(power, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            lever = own.conj() * place / np.sum(power * place**2, axis=0)
        inverses = np.linalg.pinv(exponentials)
        turned = np.imag(np.sum(lever[:, :, None] * (inverses @ slopes) * own[:, None, :], axis=0))
        rows = lever[:, :, None] * inverses
        noise = 0.5 * np.real(np.einsum("auk,buk,ab->u", rows, rows.conj(), alike, optimize=True))
        steps = np.sqrt(noise + np.sum((turned @ delays_covariance) * turned, axis=1))
        return np.asarray(np.sqrt(np.diag(delays_covariance))), np.where(np.isfinite(steps), steps, np.inf)

    def _alike(self, left: ComplexArray) -> ComplexArray:
        """Correlation, from antenna to antenna, of what the paths leave, shape (antenna, antenna)."""
        covariance = left @ left.conj().T
        size = np.sqrt(np.real(np.diag(covariance)))
        everywhere = np.eye(len(left))
        return np.asarray((1.0 - _LEAST_NOISE) * covariance / np.outer(size, size) + _LEAST_NOISE * everywhere)

    def tilt(self, amplitudes: ComplexArray, carrier_hz: float) -> None:
        """Lay each path's wave front across the array as the phase from antenna to antenna says."""
        step = np.angle(np.sum(amplitudes[1:] * amplitudes[:-1].conj(), axis=0))
        place = np.arange(len(amplitudes)) - 0.5 * (len(amplitudes) - 1)
        self.late_s = -np.outer(place, step) / (2.0 * pi * carrier_hz)

    def solved(self, delays_s: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        """Least-squares amplitudes, shape (antenna, path), phases at baseband zero; and whitened remainder."""
        if not len(delays_s):
            return np.zeros((len(self._data), 0), np.complex128), self._data
        basis, mixed = np.linalg.qr(self._apart(self._exponentials(delays_s)))
        inner = basis.conj().swapaxes(1, 2) @ self._data[..., None]
        solution = np.linalg.solve(mixed, inner)[..., 0]
        left = self._data - (basis @ inner)[..., 0]
        turn = np.exp(2j * pi * self._centre_hz * delays_s)
        return solution * turn * self._scale[:, None], left

    def _exponentials(self, delays_s: FloatArray) -> ComplexArray:
        """Unit paths, shape (antenna, subcarrier, path); of one antenna where none is laid across the array."""
        laid = self.late_s.shape[1]
        late_s = np.pad(self.late_s, ((0, 0), (0, len(delays_s) - laid))) if laid else np.zeros((1, len(delays_s)))
        return np.asarray(np.exp(-2j * pi * self._f[:, None] * (delays_s + late_s)[:, None, :]))

    def _columns(self, delays_s: FloatArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
        """Unit paths, their slopes over delay, and what of the slopes no path explains."""
        exponentials = self._exponentials(delays_s)
        slopes = self._apart(-2j * pi * self._f[:, None] * exponentials)
        exponentials = self._apart(exponentials)
        basis = np.linalg.qr(exponentials)[0]
        return exponentials, slopes, np.asarray(slopes - basis @ (basis.conj().swapaxes(1, 2) @ slopes))

    def _own(self, delays_s: FloatArray, amplitudes: ComplexArray) -> ComplexArray:
        """Whitened amplitudes of the unit paths, shape (antenna, path)."""
        turn = np.exp(-2j * pi * self._centre_hz * delays_s)
        return np.asarray(amplitudes / self._scale[:, None] * turn)

    @staticmethod
    def _information(own: ComplexArray, across: ComplexArray) -> FloatArray:
        """Fisher information of the delays, amplitudes unknown and noise independent from antenna to antenna."""
        gram = across.conj().swapaxes(1, 2) @ across
        return np.asarray(2.0 * np.real(np.sum(own.conj()[:, :, None] * own[:, None, :] * gram, axis=0)))

    def _normal(
        self, delays_s: FloatArray, amplitudes: ComplexArray, left: ComplexArray
    ) -> tuple[FloatArray, FloatArray]:
        """Fisher information of the delays with amplitudes unknown, and the likelihood's gradient."""
        _, _, across = self._columns(delays_s)
        own = self._own(delays_s, amplitudes)
        inner = (across.conj().swapaxes(1, 2) @ left[..., None])[..., 0]
        return self._information(own, across), np.asarray(2.0 * np.real(np.sum(own.conj() * inner, axis=0)))
