"""A channel as a sum of paths: delays and amplitudes by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
from scipy import fft

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["PathFit", "PathSum", "path_sum"]

_PADDING = 8
_NEWTON_STEPS = 40
_CANDIDATES = 3
_CLOSEST = 0.05  # of 1/B: a path nearer to the strongest cannot be told from it


def path_sum(csi: ChannelState, response: ComplexArray | None = None) -> tuple[PathSum, float]:
    """Fitter of the slot's mean channel on antenna 0, and the noise variance of one of its elements.

    A ``response`` common to all paths, shape (subcarrier,), is taken off.

    Raises
    ------
    ValueError
        If fewer than eight subcarriers are known.
    """
    weights = csi.weights.sum(axis=0)
    known = weights > 0.0
    if int(known.sum()) < 8:
        raise ValueError(f"need eight known subcarriers to fit paths, got {int(known.sum())}")
    channel = _mean_channel(csi)[known] / weights[known]
    mean = float(weights[known].mean())
    fit = PathSum(csi.subcarrier_hz[known], channel, weights[known] / mean)
    if response is not None:
        fit = fit.without(response[known])
    return fit, float(csi.noise[0]) / mean


@dataclass(frozen=True)
class PathFit:
    """Paths fitted to one channel."""

    delays_s: FloatArray
    """Shape (path,)."""
    amplitudes: ComplexArray
    """Of the paths at zero frequency of the subcarriers' axis, shape (path,)."""
    delay_std_s: FloatArray
    """From the inverse Fisher information of all paths jointly, the remainder taken for noise, shape (path,)."""
    remainder: ComplexArray
    """What the paths leave of the channel, times the root of each subcarrier's weight, shape (subcarrier,)."""
    length: float
    """Description length: half the deviance plus the cost of the parameters."""


class PathSum:
    """Sums of paths fitted to one channel by weighted least squares."""

    band_hz: float
    """From the first subcarrier to the last."""

    def __init__(
        self, subcarrier_hz: FloatArray, channel: ComplexArray, weights: FloatArray, terms: ComplexArray | None = None
    ) -> None:
        self._f = subcarrier_hz
        self._root = np.sqrt(weights)
        self._target = channel * self._root
        self._terms = np.zeros((len(subcarrier_hz), 0), np.complex128) if terms is None else terms
        self.band_hz = float(np.ptp(subcarrier_hz))
        self._spacing_hz = float(np.min(np.diff(subcarrier_hz)))

    @property
    def subcarrier_hz(self) -> FloatArray:
        """Frequencies of the channel."""
        return self._f

    def common(self, paths: PathFit, terms: ComplexArray) -> tuple[FloatArray, ComplexArray]:
        """Real coefficients of ``terms``, shape (subcarrier, term), by which all ``paths`` are multiplied beside one,
        by least squares; and what they leave."""
        model = self._root * (np.exp(-2j * pi * np.outer(self._f, paths.delays_s)) @ paths.amplitudes)
        columns = model[:, None] * terms
        rest = self._target - model
        coefficients: FloatArray = np.linalg.lstsq(_stacked(columns), _stacked(rest), rcond=None)[0]
        return coefficients, rest - columns @ coefficients

    def without(self, response: ComplexArray, terms: ComplexArray | None = None) -> PathSum:
        """Fitter of the channel divided by ``response``; ``terms``, if given, count as fitted to the same data."""
        weights = (self._root * np.abs(response)) ** 2
        return PathSum(self._f, self._target / (self._root * response), weights, terms)

    def strongest_delay(self) -> float:
        """Delay of the greatest correlation on a fine grid."""
        power, grid_s = self._correlation(self._target)
        return float(grid_s[int(np.argmax(power))])

    def next_delays(self, solution: PathFit) -> FloatArray:
        """Delays after the leakage at which one more path explains most of the remainder, the best few.

        The path is freed of what the present paths and their delays' derivatives can express: close to the
        leakage that is most of it, and the bare correlation would look elsewhere.
        """
        basis = np.linalg.qr(self._columns(solution.delays_s, solution.amplitudes, complex_slopes=True))[0]
        sums, grid_s = self._spectrum(np.column_stack([solution.remainder, basis]))
        leakage_s = float(solution.delays_s[0])
        inside = (grid_s > leakage_s + _CLOSEST / self.band_hz) & (grid_s < leakage_s + 0.25 / self._spacing_hz)
        order = np.argsort(grid_s[inside])
        grid_s, sums = grid_s[inside][order], sums[inside][order]
        total = float(np.sum(self._root**2))
        free = total - np.sum(np.abs(sums[:, 1:]) ** 2, axis=1)
        gain = np.where(free > 1e-7 * total, np.abs(sums[:, 0]) ** 2 / np.maximum(free, 1e-12 * total), 0.0)
        peaks = np.flatnonzero((gain >= np.roll(gain, 1)) & (gain >= np.roll(gain, -1)))
        freed = peaks[np.argsort(gain[peaks])[::-1][:_CANDIDATES]]
        bare = np.argmax(np.abs(sums[:, 0]))
        return np.unique(grid_s[np.append(freed, bare)])

    def plausible(self, solution: PathFit) -> bool:
        """Whether the first path is still the leakage: earliest, 10 dB above every other, and apart from it."""
        late = np.diff(np.sort(solution.delays_s)) > 0.5 * _CLOSEST / self.band_hz
        strong = np.abs(solution.amplitudes[1:]) < 0.3 * abs(solution.amplitudes[0])
        return bool(late.all() and strong.all() and solution.delays_s[0] == solution.delays_s.min())

    def refined(self, delays_s: FloatArray, steps: int = _NEWTON_STEPS) -> PathFit:
        """All delays and amplitudes together at their least squares near the given delays (Levenberg-Marquardt)."""
        reach = 0.25 / self.band_hz
        damping = 1e-3
        amplitudes, remainder = self._amplitudes(delays_s)
        energy = float(np.sum(np.abs(remainder) ** 2))
        for _ in range(steps):
            step = self._delay_step(delays_s, amplitudes, remainder, damping)
            trial_s = delays_s + np.clip(step, -reach, reach)
            trial_amplitudes, trial_remainder = self._amplitudes(trial_s)
            trial_energy = float(np.sum(np.abs(trial_remainder) ** 2))
            if trial_energy <= energy:
                delays_s, amplitudes, remainder = trial_s, trial_amplitudes, trial_remainder
                converged = energy - trial_energy < 1e-9 * energy
                energy, damping = trial_energy, 0.1 * damping
                if converged:
                    break
            else:
                damping *= 10.0
        return self._solution(delays_s, amplitudes, remainder)

    def _delay_step(
        self, delays_s: FloatArray, amplitudes: ComplexArray, remainder: ComplexArray, damping: float
    ) -> FloatArray:
        """Damped step of the delays with the amplitudes eliminated (variable projection, Kaufman's form)."""
        columns = _stacked(self._columns(delays_s, amplitudes))
        count = len(delays_s)
        basis = np.linalg.qr(columns[:, : 2 * count])[0]
        slopes = columns[:, 2 * count :]
        slopes = slopes - basis @ (basis.T @ slopes)
        scale = np.maximum(np.linalg.norm(slopes, axis=0), 1e-300)
        slopes = slopes / scale
        matrix = np.concatenate([slopes, np.sqrt(damping) * np.eye(count)])
        target = np.concatenate([_stacked(remainder), np.zeros(count)])
        step: FloatArray = np.linalg.lstsq(matrix, target, rcond=None)[0] / scale
        return step

    def _solution(self, delays_s: FloatArray, amplitudes: ComplexArray, remainder: ComplexArray) -> PathFit:
        count = len(delays_s)
        samples = 2 * len(self._f)
        energy = float(np.sum(np.abs(remainder) ** 2))
        columns = _stacked(self._columns(delays_s, amplitudes))
        if self._terms.size:
            common = (self._target - remainder)[:, None] * self._terms
            columns = np.concatenate([columns, _stacked(common)], axis=1)
        scale = np.linalg.norm(columns, axis=0)
        inverse = np.linalg.pinv(columns / scale, rcond=1e-12)
        parameters = 3 * count + self._terms.shape[1]
        variance = energy / (samples - parameters)
        deviation = np.sqrt(variance * np.sum(inverse**2, axis=1)) / scale
        length = 0.5 * samples * log(max(energy, 1e-300)) + 0.5 * parameters * log(samples)
        return PathFit(delays_s, amplitudes, deviation[2 * count : 3 * count], remainder, length)

    def _amplitudes(self, delays_s: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        paths = self._root[:, None] * np.exp(-2j * pi * np.outer(self._f, delays_s))
        amplitudes = np.linalg.lstsq(paths, self._target, rcond=None)[0]
        return amplitudes, self._target - paths @ amplitudes

    def _columns(self, delays_s: FloatArray, amplitudes: ComplexArray, *, complex_slopes: bool = False) -> ComplexArray:
        """Derivatives of the model: by each amplitude's two parts, and by each delay."""
        paths = self._root[:, None] * np.exp(-2j * pi * np.outer(self._f, delays_s))
        slopes = -2j * pi * self._f[:, None] * paths
        parts = [paths, slopes * self.band_hz**-1] if complex_slopes else [paths, 1j * paths, slopes * amplitudes]
        return np.concatenate(parts, axis=1)

    def _correlation(self, values: ComplexArray) -> tuple[FloatArray, FloatArray]:
        sums, grid_s = self._spectrum(values[:, None])
        power: FloatArray = np.abs(sums[:, 0]) ** 2
        return power, grid_s

    def other_delay(self, fitted: PathFit) -> float:
        """Delay, before or after the strongest path, at which the remainder correlates best."""
        power, grid_s = self._correlation(fitted.remainder)
        strongest_s = float(fitted.delays_s[int(np.argmax(np.abs(fitted.amplitudes)))])
        near = np.abs(grid_s - strongest_s) < 0.45 / self._spacing_hz
        return float(grid_s[int(np.argmax(np.where(near, power, 0.0)))])

    def _spectrum(self, values: ComplexArray) -> tuple[ComplexArray, FloatArray]:
        """Correlation of each column with a path at every delay of the grid."""
        steps = np.rint((self._f - self._f[0]) / self._spacing_hz).astype(np.intp)
        size = fft.next_fast_len(_PADDING * int(steps[-1] + 1))
        padded = np.zeros((size, values.shape[1]), dtype=np.complex128)
        padded[steps] = values * self._root[:, None]
        grid_s = fft.fftfreq(size, self._spacing_hz)
        sums = size * fft.ifft(padded, axis=0) * np.exp(2j * pi * self._f[0] * grid_s)[:, None]
        return sums, grid_s


def _mean_channel(csi: ChannelState) -> ComplexArray:
    """Weighted sum over symbols, each turned to the phase of the whole: slow phase noise must not dim it."""
    products = csi.weights * csi.values[0]
    turn = np.ones(len(products), dtype=np.complex128)
    for _ in range(2):
        total = (products * np.conj(turn)[:, None]).sum(axis=0)
        sums = products @ np.conj(total)
        turn = sums / np.maximum(np.abs(sums), 1e-300)
    mean: ComplexArray = (products * np.conj(turn)[:, None]).sum(axis=0)
    return mean


def _stacked(values: ComplexArray) -> FloatArray:
    stacked: FloatArray = np.concatenate([values.real, values.imag])
    return stacked
