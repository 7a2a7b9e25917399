"""When a node's own frames left it: the arrival of its leakage, and the one latency of a stream.

A node hears its own frames through leakage, 30 to 60 dB above anything else, together with echoes of the scene
40 dB and more below. A transmit-receive latency is one constant per stream start (methods section 3.6): whole
samples from the leakage, the fraction from calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
from scipy import fft

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment

__all__ = ["Arrival", "Latency", "latency", "leakage_arrival"]

_LARGEST_ORDER = 12
_PADDING = 8
_NEWTON_STEPS = 40
_TRIAL_STEPS = 10
_CANDIDATES = 3
_LOOK_AHEAD = 1
_NOISE_TOLERANCE = 1.5
_SLOPE_OF_PATH = 0.4  # deviation of the delay, in 1/B, that an unresolved path of unit amplitude and any phase causes
_CLOSEST = 0.05  # of 1/B: an echo nearer to the leakage cannot be told from it
_AGREEMENT_S = 20e-12
_AGREEMENT_STDS = 3.0


@dataclass(frozen=True)
class Arrival:
    """Arrival of the leakage on the node's own clock."""

    moment: Moment
    """Reading at which the slot's first sample arrived over the leakage path."""
    std_s: float
    """Deviation from noise, with every echo's delay and amplitude unknown."""
    echoes: int
    """Echoes found beside the leakage."""


@dataclass(frozen=True)
class Latency:
    """Time from a node's commanded departure to its arrival over the leakage, on its own clock."""

    samples: int
    fraction: float
    """Part of a sample to be added, -0.5 to 0.5."""
    std_s: float
    note: str
    """Where the fraction comes from, and what casts doubt on it."""


def leakage_arrival(csi: ChannelState) -> Arrival:
    """Arrival of the leakage in CSI of a node's own frames, free of the bias that echoes give it.

    The slot's mean channel is fitted by a sum of paths, amplitudes and delays free: the strongest first, then one
    echo at a time where the remainder is best explained, all delays refined together by Gauss-Newton steps after
    each. The number of echoes is the one of minimum description length, noise level unknown. A single path
    fitted instead is off by up to 265 ps with one echo at -40 dB, 20 to 67 ns late, in 16 MHz.

    What is left above the stated noise is taken for echoes that could not be resolved, and widens the deviation.
    Echoes are looked for after the leakage only, up to a quarter of the reciprocal subcarrier spacing.

    Parameters
    ----------
    csi : ChannelState
        The node's own frames; antenna 0 is used.

    Raises
    ------
    ValueError
        If fewer than eight subcarriers are known.
    """
    weights = csi.weights.sum(axis=0)
    known = weights > 0.0
    if int(known.sum()) < 8:
        raise ValueError(f"need eight known subcarriers to fit the leakage, got {int(known.sum())}")
    channel = _mean_channel(csi)[known] / weights[known]
    fit = _Paths(csi.subcarrier_hz[known], channel, weights[known] / weights[known].mean())
    best = _fewest_paths(fit)
    noise = float(csi.noise[0]) / float(weights[known].mean())
    excess = float(np.mean(np.abs(best.remainder) ** 2)) / noise
    unresolved_s = 0.0
    if excess > _NOISE_TOLERANCE:
        part = np.sqrt((excess - 1.0) * noise) / abs(best.amplitudes[0])
        unresolved_s = _SLOPE_OF_PATH * float(part) / float(np.ptp(csi.subcarrier_hz[known]))
    return Arrival(
        moment=csi.reference.shifted(float(best.delays_s[0])),
        std_s=float(np.hypot(best.delay_std_s[0], unresolved_s)),
        echoes=len(best.delays_s) - 1,
    )


def latency(
    arrivals: Sequence[Moment],
    commanded: Sequence[Moment | int],
    calibrated_fraction: float | None,
    *,
    std_s: float = 0.0,
) -> Latency:
    """One latency for a stream: whole samples from the leakage, the fraction from calibration.

    Without calibration the fraction is zero where the leakage agrees with a whole sample, because a node's
    converters share a clock; otherwise it is the measured one, and the note says so.

    Parameters
    ----------
    arrivals, commanded : sequences of equal length
        Leakage arrivals and the departures commanded, as moments or ticks of the same clock.
    calibrated_fraction : float or None
        Part of a sample known from calibration.
    std_s : float
        Deviation of one arrival, used where a single one leaves no scatter to be seen.

    Raises
    ------
    ValueError
        If the sequences are empty or of unequal length.
    """
    if not arrivals or len(arrivals) != len(commanded):
        raise ValueError(f"need as many departures as arrivals, at least one; got {len(commanded)} and {len(arrivals)}")
    whole, part = [], []
    for arrival, command in zip(arrivals, commanded, strict=True):
        tick, fraction = (command, 0.0) if isinstance(command, int) else (command.tick, command.fraction)
        whole.append(arrival.tick - tick)
        part.append(arrival.fraction - fraction)
    origin = sorted(whole)[len(whole) // 2]
    delays = np.array([number - origin for number in whole], dtype=np.float64) + np.array(part)
    rate_hz = float(arrivals[0].rate_hz)
    middle = float(np.median(delays))
    scatter_s = float(np.std(delays, ddof=1)) / rate_hz if len(delays) > 1 else 0.0
    mean_std_s = max(scatter_s, std_s) / np.sqrt(len(delays))
    doubts = "" if np.all(np.abs(delays - middle) < 0.5) else "; latency changed within the stream"
    if calibrated_fraction is not None:
        samples = origin + round(middle - calibrated_fraction)
        return Latency(samples, calibrated_fraction, scatter_s if doubts else 0.0, "fraction from calibration" + doubts)
    nearest = round(middle)
    measured = float(np.mean(delays)) - nearest
    tolerance_s = max(_AGREEMENT_STDS * mean_std_s, _AGREEMENT_S)
    if abs(measured) / rate_hz <= tolerance_s and not doubts:
        return Latency(origin + nearest, 0.0, 0.0, "whole samples: the converters share a clock")
    note = "fraction measured from the leakage, not calibrated: scene echoes may bias it"
    return Latency(origin + nearest, measured, scatter_s if doubts else float(mean_std_s), note + doubts)


def _fewest_paths(fit: _Paths) -> _Solution:
    """Fit of minimum description length; an addition that does not pay at once gets two more to do so."""
    best = current = fit.refined(np.array([fit.strongest_delay()]))
    idle = 0
    while idle <= _LOOK_AHEAD and len(current.delays_s) < _LARGEST_ORDER:
        trials = [
            fit.refined(np.append(current.delays_s, delay_s), _TRIAL_STEPS) for delay_s in fit.next_delays(current)
        ]
        trials = [trial for trial in trials if fit.plausible(trial)]
        if not trials:
            break
        current = fit.refined(min(trials, key=lambda solution: solution.length).delays_s)
        if not fit.plausible(current):
            break
        idle = 0 if current.length < best.length else idle + 1
        best = min(best, current, key=lambda solution: solution.length)
    return best


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


@dataclass(frozen=True)
class _Solution:
    delays_s: FloatArray
    amplitudes: ComplexArray
    delay_std_s: FloatArray
    remainder: ComplexArray
    length: float
    """Description length: half the deviance plus the cost of the parameters."""


class _Paths:
    """Sums of paths fitted to one channel by weighted least squares."""

    def __init__(self, subcarrier_hz: FloatArray, channel: ComplexArray, weights: FloatArray) -> None:
        self._f = subcarrier_hz
        self._root = np.sqrt(weights)
        self._target = channel * self._root
        self._band_hz = float(np.ptp(subcarrier_hz))
        self._spacing_hz = float(np.min(np.diff(subcarrier_hz)))

    def strongest_delay(self) -> float:
        """Delay of the greatest correlation on a fine grid."""
        power, grid_s = self._correlation(self._target)
        return float(grid_s[int(np.argmax(power))])

    def next_delays(self, solution: _Solution) -> FloatArray:
        """Delays after the leakage at which one more path explains most of the remainder, the best few.

        The path is freed of what the present paths and their delays' derivatives can express: close to the
        leakage that is most of it, and the bare correlation would look elsewhere.
        """
        basis = np.linalg.qr(self._columns(solution.delays_s, solution.amplitudes, complex_slopes=True))[0]
        sums, grid_s = self._spectrum(np.column_stack([solution.remainder, basis]))
        leakage_s = float(solution.delays_s[0])
        inside = (grid_s > leakage_s + _CLOSEST / self._band_hz) & (grid_s < leakage_s + 0.25 / self._spacing_hz)
        order = np.argsort(grid_s[inside])
        grid_s, sums = grid_s[inside][order], sums[inside][order]
        total = float(np.sum(self._root**2))
        free = total - np.sum(np.abs(sums[:, 1:]) ** 2, axis=1)
        gain = np.where(free > 1e-7 * total, np.abs(sums[:, 0]) ** 2 / np.maximum(free, 1e-12 * total), 0.0)
        peaks = np.flatnonzero((gain >= np.roll(gain, 1)) & (gain >= np.roll(gain, -1)))
        freed = peaks[np.argsort(gain[peaks])[::-1][:_CANDIDATES]]
        bare = np.argmax(np.abs(sums[:, 0]))
        return np.unique(grid_s[np.append(freed, bare)])

    def plausible(self, solution: _Solution) -> bool:
        """Whether the first path is still the leakage: earliest, 10 dB above every other, and apart from it."""
        late = np.diff(np.sort(solution.delays_s)) > 0.5 * _CLOSEST / self._band_hz
        strong = np.abs(solution.amplitudes[1:]) < 0.3 * abs(solution.amplitudes[0])
        return bool(late.all() and strong.all() and solution.delays_s[0] == solution.delays_s.min())

    def refined(self, delays_s: FloatArray, steps: int = _NEWTON_STEPS) -> _Solution:
        """All delays and amplitudes together at their least squares near the given delays (Levenberg-Marquardt)."""
        reach = 0.25 / self._band_hz
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

    def _solution(self, delays_s: FloatArray, amplitudes: ComplexArray, remainder: ComplexArray) -> _Solution:
        count = len(delays_s)
        samples = 2 * len(self._f)
        energy = float(np.sum(np.abs(remainder) ** 2))
        columns = _stacked(self._columns(delays_s, amplitudes))
        scale = np.linalg.norm(columns, axis=0)
        inverse = np.linalg.pinv(columns / scale, rcond=1e-12)
        variance = energy / (samples - 3 * count)
        deviation = np.sqrt(variance * np.sum(inverse**2, axis=1)) / scale
        length = 0.5 * samples * log(max(energy, 1e-300)) + 0.5 * 3 * count * log(samples)
        return _Solution(delays_s, amplitudes, deviation[2 * count :], remainder, length)

    def _amplitudes(self, delays_s: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        paths = self._root[:, None] * np.exp(-2j * pi * np.outer(self._f, delays_s))
        amplitudes = np.linalg.lstsq(paths, self._target, rcond=None)[0]
        return amplitudes, self._target - paths @ amplitudes

    def _columns(self, delays_s: FloatArray, amplitudes: ComplexArray, *, complex_slopes: bool = False) -> ComplexArray:
        """Derivatives of the model: by each amplitude's two parts, and by each delay."""
        paths = self._root[:, None] * np.exp(-2j * pi * np.outer(self._f, delays_s))
        slopes = -2j * pi * self._f[:, None] * paths
        parts = [paths, slopes * self._band_hz**-1] if complex_slopes else [paths, 1j * paths, slopes * amplitudes]
        return np.concatenate(parts, axis=1)

    def _correlation(self, values: ComplexArray) -> tuple[FloatArray, FloatArray]:
        sums, grid_s = self._spectrum(values[:, None])
        power: FloatArray = np.abs(sums[:, 0]) ** 2
        return power, grid_s

    def _spectrum(self, values: ComplexArray) -> tuple[ComplexArray, FloatArray]:
        """Correlation of each column with a path at every delay of the grid."""
        steps = np.rint((self._f - self._f[0]) / self._spacing_hz).astype(np.intp)
        size = fft.next_fast_len(_PADDING * int(steps[-1] + 1))
        padded = np.zeros((size, values.shape[1]), dtype=np.complex128)
        padded[steps] = values * self._root[:, None]
        grid_s = fft.fftfreq(size, self._spacing_hz)
        sums = size * fft.ifft(padded, axis=0) * np.exp(2j * pi * self._f[0] * grid_s)[:, None]
        return sums, grid_s


def _stacked(values: ComplexArray) -> FloatArray:
    stacked: FloatArray = np.concatenate([values.real, values.imag])
    return stacked
