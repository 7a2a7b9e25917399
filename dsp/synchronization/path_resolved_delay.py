"""Static paths told apart by their delays: matched filter and successive cancellation, all refined jointly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ComplexArray, FloatArray

__all__ = ["StaticPaths", "static_paths"]

_PADDING = 8
_LARGEST_ORDER = 24
_FALSE_ALARM = 1e-3
"""Per channel and order, of one more path."""
_STEPS = 12


@dataclass(frozen=True)
class StaticPaths:
    """Paths that make up a static channel, by falling power."""

    delays_s: FloatArray
    delay_std_s: FloatArray
    """From the Fisher information of all paths jointly."""
    amplitudes: ComplexArray
    """Shape (antenna, path)."""
    unresolved: bool
    """A significant part of the channel about the strongest path fits none at the separation asked for."""
    noise_ratio: float
    """Energy left over that of the noise."""

    @property
    def power(self) -> FloatArray:
        """Sum over antennas of each path's power."""
        return np.asarray(np.sum(np.abs(self.amplitudes) ** 2, axis=0))

    def distance_s(self, index: int) -> float:
        """Distance in delay from one path to the nearest other; infinite if it is alone."""
        others = np.delete(self.delays_s, index)
        return float(np.min(np.abs(others - self.delays_s[index]))) if others.size else float("inf")


def static_paths(
    subcarrier_hz: FloatArray,
    channel: ComplexArray,
    *,
    weights: FloatArray,
    noise: FloatArray,
    closest_cells: float,
    stretch: FloatArray | None = None,
) -> StaticPaths:
    """Paths of one channel, one after the other where most of the remainder is, until it is noise.

    After each addition all delays are refined together by Gauss–Newton, amplitudes eliminated. One more path is
    accepted at a false-alarm rate of a thousandth over all delays.

    Parameters
    ----------
    subcarrier_hz : float array, shape (subcarrier,)
        Ascending, on one raster, gaps allowed.
    channel : complex array, shape (antenna, subcarrier)
        Amplitudes are free on every antenna.
    weights, noise : float arrays, shapes (subcarrier,) and (antenna,)
        The noise variance of a value is noise/weight; weights above zero.
    closest_cells : float > 0
        Least separation of two paths in resolution cells 1/bandwidth: one for delays that the bandwidth resolves,
        less for a sparse dictionary.
    stretch : float array, shape (antenna,), optional
        Factor of the frequencies on each antenna, near one. The same fit finds directions, antennas in the
        subcarriers' place, and a direction's phase from antenna to antenna is the more the higher the frequency.
    """
    from scipy.stats import gamma

    fit = _Channel(subcarrier_hz, channel, weights, noise, stretch)
    threshold = float(gamma.isf(_FALSE_ALARM / (2.0 * len(subcarrier_hz)), len(channel)))
    closest_s = closest_cells / fit.band_hz
    delays = fit.refined(np.array([fit.grid_s[int(np.argmax(fit.gain(np.zeros(0))))]]))
    order = min(_LARGEST_ORDER, len(subcarrier_hz) - 1)
    unresolved = False
    while True:
        gain = fit.gain(delays)
        apart = fit.apart(delays)
        significant = gain > threshold
        if not np.any(significant & (apart >= closest_s)) or len(delays) >= order:
            break
        start = fit.grid_s[int(np.argmax(np.where(apart >= closest_s, gain, 0.0)))]
        trial = fit.refined(np.append(delays, start))
        if np.min(np.diff(np.sort(trial)), initial=np.inf) < 0.7 * closest_s:
            trial = fit.refined(np.append(delays, start), steps=0)
            if np.min(np.diff(np.sort(trial)), initial=np.inf) < 0.7 * closest_s:
                break
            delays = trial
            unresolved = True
            break
        delays = trial
    amplitudes, remainder = fit.amplitudes(delays)
    falling = np.argsort(-np.sum(np.abs(amplitudes) ** 2, axis=0))
    strongest = delays[falling[0]]
    # what is left about the strongest path, out to where a neighbour would still bend its phase
    near = np.abs(fit.wrapped(fit.grid_s - strongest)) < max(1.0 / fit.band_hz, closest_s)
    unresolved = unresolved or bool(np.any(fit.gain(delays)[near] > threshold))
    freedom = max(channel.size - len(delays) * (len(channel) + 0.5), 1.0)
    return StaticPaths(
        delays_s=delays[falling],
        delay_std_s=fit.deviations(delays, amplitudes)[falling],
        amplitudes=amplitudes[:, falling],
        unresolved=unresolved,
        noise_ratio=float(np.sum(np.abs(remainder) ** 2)) / freedom,
    )


class _Channel:
    """Channel scaled to unit noise, and sums of paths fitted to it."""

    def __init__(
        self,
        subcarrier_hz: FloatArray,
        channel: ComplexArray,
        weights: FloatArray,
        noise: FloatArray,
        stretch: FloatArray | None,
    ) -> None:
        self._f = subcarrier_hz
        self._root = np.sqrt(weights)
        self._deviation = np.sqrt(noise)
        self._target = channel * self._root / self._deviation[:, None]
        self._scales = np.ones(1) if stretch is None else stretch
        self.band_hz = float(np.ptp(subcarrier_hz)) * len(subcarrier_hz) / (len(subcarrier_hz) - 1)
        self._spacing_hz = float(np.min(np.diff(subcarrier_hz)))
        self._bins = np.rint((subcarrier_hz - subcarrier_hz[0]) / self._spacing_hz).astype(np.int64)
        self._size = 1 << int(np.ceil(np.log2(_PADDING * (int(self._bins[-1]) + 1))))
        self.grid_s: FloatArray = np.fft.fftfreq(self._size, self._spacing_hz)

    def wrapped(self, delay_s: FloatArray) -> FloatArray:
        """Delay differences within half the period of the subcarrier raster."""
        period = 1.0 / self._spacing_hz
        return np.asarray(delay_s - period * np.rint(delay_s / period))

    def apart(self, delays_s: FloatArray) -> FloatArray:
        """Distance of each grid delay from the nearest path."""
        return np.asarray(np.min(np.abs(self.wrapped(self.grid_s[:, None] - delays_s)), axis=1))

    def gain(self, delays_s: FloatArray) -> FloatArray:
        """Energy that one more path at each grid delay explains, in units of the noise: Gamma(antennas) by chance."""
        remainder = self.amplitudes(delays_s)[1] if len(delays_s) else self._target
        padded = np.zeros((len(remainder), self._size), dtype=np.complex128)
        padded[:, self._bins] = remainder * self._root
        sums = np.fft.ifft(padded, axis=1, norm="forward")
        return np.asarray(np.sum(np.abs(sums) ** 2, axis=0) / float(np.sum(self._root**2)))

    def amplitudes(self, delays_s: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        """Least-squares amplitudes (antenna, path), and what they leave in units of noise (antenna, subcarrier)."""
        columns = self._columns(delays_s)
        solved = (np.linalg.pinv(columns, rcond=1e-10) @ self._target[..., None])[..., 0]
        left = self._target - (columns @ solved[..., None])[..., 0]
        return np.asarray(solved * self._deviation[:, None]), np.asarray(left)

    def _columns(self, delays_s: FloatArray) -> ComplexArray:
        """Paths of unit amplitude, shape (antenna, subcarrier, path); of one antenna where all see the same."""
        turns = self._scales[:, None, None] * np.outer(self._f, delays_s)
        return np.asarray(np.exp(-2j * np.pi * turns) * self._root[:, None])

    def refined(self, delays_s: FloatArray, steps: int = _STEPS) -> FloatArray:
        """All delays at their joint least squares near the given ones (Levenberg–Marquardt)."""
        reach = 0.25 / self.band_hz
        damping = 1e-3
        amplitudes, rest = self.amplitudes(delays_s)
        energy = float(np.sum(np.abs(rest) ** 2))
        for _ in range(steps):
            fisher, gradient = self._normal(delays_s, amplitudes, rest)
            step = np.linalg.solve(fisher + damping * np.diag(np.diag(fisher)), gradient)
            trial = delays_s + np.clip(step, -reach, reach)
            trial_amplitudes, trial_rest = self.amplitudes(trial)
            trial_energy = float(np.sum(np.abs(trial_rest) ** 2))
            if trial_energy > energy:
                damping *= 10.0
                continue
            settled = energy - trial_energy < 1e-4
            delays_s, amplitudes, rest = trial, trial_amplitudes, trial_rest
            energy, damping = trial_energy, 0.1 * damping
            if settled:
                break
        return delays_s

    def deviations(self, delays_s: FloatArray, amplitudes: ComplexArray) -> FloatArray:
        """Deviations of the delays, all amplitudes unknown."""
        fisher, _ = self._normal(delays_s, amplitudes, np.zeros_like(self._target))
        return np.asarray(np.sqrt(np.maximum(np.diag(np.linalg.pinv(2.0 * fisher, hermitian=True)), 0.0)))

    def _normal(
        self, delays_s: FloatArray, amplitudes: ComplexArray, rest: ComplexArray
    ) -> tuple[FloatArray, FloatArray]:
        """Normal equations of the delays with the amplitudes projected out."""
        columns = self._columns(delays_s)
        scaled = amplitudes / self._deviation[:, None]
        slopes = -2j * np.pi * self._scales[:, None, None] * self._f[:, None] * columns
        basis = np.linalg.qr(columns)[0]
        slopes = slopes - basis @ (basis.conj().swapaxes(1, 2) @ slopes)
        turned = slopes.conj().swapaxes(1, 2)
        fisher = np.sum((turned @ slopes) * (scaled.conj()[:, :, None] * scaled[:, None, :]), axis=0).real
        gradient = np.sum(scaled.conj() * (turned @ rest[..., None])[..., 0], axis=0).real
        count = len(delays_s)
        return fisher + 1e-12 * np.trace(fisher) / count * np.eye(count), gradient
