"""Exact model of moving paths in the CSI of a slot, and its joint maximum-likelihood fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["PathFit", "PathModel", "unit_paths"]

_RATE_LIMIT = 4.0
"""Largest Doppler rate a step may reach, in its prior deviations."""
_POWERS = (0, 0, 1, 2)
"""Power of slow time in a path's value and in its derivatives after delay, Doppler and Doppler rate."""


@dataclass(frozen=True)
class PathFit:
    """Paths fitted jointly to all antennas."""

    parameters: FloatArray
    """Delay (s), Doppler (Hz) and Doppler rate (Hz/s) at the slot's mean time, shape (path, 3)."""
    covariance: FloatArray
    """Inverse Fisher information, shape (path, 3, 3): all other paths, amplitudes, the static channel and the
    symbols' common phases unknown."""
    amplitudes: ComplexArray
    """Shape (antenna, path); phase at the slot's mean time and baseband frequency zero."""
    amplitude_covariance: FloatArray
    """Of the amplitudes' real and imaginary parts, shape (path, antenna, 2, antenna, 2), with what the covariance
    above leaves unknown."""
    energy: FloatArray
    """Σ weight·|model|² after removal of the static channel, shape (path,): SNR = |amplitude|²·energy/noise."""
    gain: float
    """Log-likelihood over no paths at all."""


@dataclass(frozen=True)
class _Normal:
    """Normal equations at one set of parameters, in resolution cells."""

    fisher: FloatArray
    """Of the parameters, amplitudes solved for."""
    amplitude_fisher: FloatArray
    """Of the amplitudes' real and imaginary parts, parameters known; ordered (path, antenna, real | imaginary)."""
    follows: FloatArray
    """What the amplitudes change by with the parameters, shape (amplitude part, parameter)."""
    gradient: FloatArray
    amplitudes: ComplexArray
    energy: FloatArray
    gain: float


def unit_paths(
    parameters: FloatArray, *, time: FloatArray, frequency: FloatArray, carrier_hz: float
) -> NDArray[np.complex128]:
    """Unit-amplitude paths, shape (path, symbol, subcarrier), from delay, Doppler, Doppler rate (path, 3) at time 0.

    exp(−j2πfτ)·exp(j2π(1 + f/fc)(νt + ½rt²)): Doppler is the delay changing, for carrier and envelope alike.
    Subcarriers on one raster, gaps allowed.
    """
    from dsp.kernels.path_model import _signals

    step = float(np.min(np.diff(frequency)))
    bins = np.rint((frequency - frequency[0]) / step).astype(np.int64)
    out = np.empty((len(parameters), time.size, frequency.size), np.complex128)
    exact = np.ascontiguousarray(parameters, dtype=np.float64), np.ascontiguousarray(time, dtype=np.float64)
    _signals(*exact, (float(frequency[0]), step), bins, carrier_hz, out)
    return out


class PathModel:
    """Model of the paths in one slot, and its Gauss–Newton fit.

    A path of delay tau, Doppler nu and Doppler rate r at the mean symbol time contributes

        b · exp(−j2πf·tau) · exp(j2π(1 + f/fc)(nu·t + ½r·t²)),

    range migration included. Two nuisances are projected out of data and model alike, so that the fit is the
    joint maximum likelihood with them: the static channel, free on every subcarrier, where ``static`` is given;
    and the common phase of every symbol about it, which referencing to the static path sets to zero — a mover
    that correlates with the static channel is bent by that, leaving mirror images at minus its Doppler, and the
    projected model is bent in the same way. Amplitudes are free on every antenna: no array geometry is assumed.
    They are solved for within (variable projection); the search is over delay, Doppler and rate only. The rate
    has a zero-mean Gaussian prior: a weak path is not bent by noise, a strong one leaves no residue.

    Parameters
    ----------
    csi : ChannelState
        Averaged over blocks, static channel removed if ``static`` is given.
    static : complex array, shape (antenna, subcarrier), optional
        The static channel that was removed.
    referenced : bool
        Whether phases were referred to the static channel.
    rate_std_hz_per_s : float > 0
        Prior deviation of the Doppler rate.
    """

    def __init__(
        self, csi: ChannelState, *, static: ComplexArray | None, referenced: bool, rate_std_hz_per_s: float
    ) -> None:
        self._frequency: NDArray[np.float64] = np.ascontiguousarray(csi.subcarrier_hz, dtype=np.float64)
        self._time: NDArray[np.float64] = np.ascontiguousarray(csi.symbol_s - csi.symbol_s.mean(), dtype=np.float64)
        self._carrier = float(csi.carrier_hz)
        self._weights: NDArray[np.float64] = np.ascontiguousarray(csi.weights, dtype=np.float64)
        known = csi.weights.sum(axis=0)
        self._per_subcarrier = np.divide(1.0, known, out=np.zeros_like(known), where=known > 0)
        self._static_removed = static is not None
        self._noise = csi.noise
        self._rate_std = rate_std_hz_per_s
        self._bearer = static.astype(np.complex128) if static is not None and referenced else None
        if self._bearer is not None:
            energy = np.einsum("ak,lk,a->l", np.abs(self._bearer) ** 2, self._weights, 1.0 / self._noise)
            if float(energy.min()) <= 0.0:
                self._bearer = None
            self._bearer_energy = energy
        self.values = self._straightened(csi.values.astype(np.complex128))
        data = self.values * self._weights
        if self._bearer is not None:
            data = np.concatenate([data, self._bearer[:, None, :] * self._weights])
        self._data: NDArray[np.complex128] = np.ascontiguousarray(data, dtype=np.complex128)
        span = float(self._time[-1] - self._time[0])
        width = float(self._frequency[-1] - self._frequency[0])
        self._unit = np.array([1.0 / width, 1.0 / span, 1.0 / span**2])
        # polynomial over frequency of a path's value and derivatives, beside their powers of slow time
        self._factors = np.array([1.0, -2j * np.pi / width, 2j * np.pi / span, 1j * np.pi / span**2])
        slope = 1.0 / self._carrier
        self._polynomials = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, slope], [1.0, slope]])
        pairing = np.zeros((4, 4, 5, 3), np.complex128)
        for a in range(4):
            for b in range(4):
                product = np.convolve(self._polynomials[a], self._polynomials[b])
                pairing[a, b, _POWERS[a] + _POWERS[b]] = self._factors[a].conj() * self._factors[b] * product
        self._pairing = pairing.reshape(16, 15)

    def contribution(self, fit: PathFit) -> ComplexArray:
        """What the fitted paths add to `values`, shape (antenna, symbol, subcarrier)."""
        signal = self._signals(fit.parameters)
        if self._static_removed:
            mean = np.einsum("plk,lk->pk", signal, self._weights) * self._per_subcarrier
            signal = signal - mean[:, None, :]
        total = (fit.amplitudes @ signal.reshape(len(signal), -1)).reshape(-1, *signal.shape[1:])
        return self._straightened(total)

    def fit(self, start: FloatArray, *, iterations: int = 10) -> PathFit:
        """Joint maximum-likelihood fit from ``start`` (path, 3), Gauss–Newton with Levenberg's damping."""
        parameters = np.array(start, dtype=np.float64)
        state = self._normal(parameters)
        damping = 1e-6
        for _ in range(iterations):
            diagonal = np.diag(state.fisher).copy()
            step = np.linalg.solve(state.fisher + np.diag(damping * diagonal), state.gradient).reshape(-1, 3)
            # a step beyond half a resolution cell leaves the region where the model is linear
            step *= min(1.0, 0.5 / max(float(np.max(np.abs(step[:, :2]))), 1e-300))
            trial = parameters + step * self._unit
            trial[:, 2] = np.clip(trial[:, 2], -_RATE_LIMIT * self._rate_std, _RATE_LIMIT * self._rate_std)
            following = self._normal(trial)
            if following.gain < state.gain - 1e-10 * abs(state.gain):
                damping = max(damping, 1e-4) * 10.0
                if damping > 1e6:
                    break
                continue
            parameters, state = trial, following
            damping *= 0.1
            if np.all(np.abs(step.ravel()) < 0.01 / np.sqrt(np.maximum(diagonal, 1e-300))):
                break
        covariance = np.linalg.inv(state.fisher)
        paths = len(parameters)
        blocks = covariance.reshape(paths, 3, paths, 3)[np.arange(paths), :, np.arange(paths), :]
        scaled = blocks * np.multiply.outer(self._unit, self._unit)
        amplitude = np.linalg.inv(state.amplitude_fisher) + state.follows @ covariance @ state.follows.T
        parts = amplitude.reshape(paths, 2 * self._noise.size, paths, -1)[np.arange(paths), :, np.arange(paths), :]
        spread = parts.reshape(paths, self._noise.size, 2, self._noise.size, 2)
        return PathFit(parameters, scaled, state.amplitudes, spread, state.energy, state.gain)

    def _signals(self, parameters: FloatArray) -> NDArray[np.complex128]:
        return unit_paths(parameters, time=self._time, frequency=self._frequency, carrier_hz=self._carrier)

    def _straightened(self, values: ComplexArray) -> ComplexArray:
        """Values without the part that a common phase per symbol of the static channel would make."""
        if self._bearer is None:
            return values
        scaled = self._bearer.conj() / self._noise[:, None]
        phase = np.sum(np.matmul(values * self._weights, scaled[:, :, None])[..., 0], axis=0).imag
        phase = self._varying(phase / self._bearer_energy)
        return np.asarray(values - 1j * self._bearer[:, None, :] * phase[:, None])

    def _varying(self, phase: FloatArray) -> FloatArray:
        """Phase less its mean, which belongs to the static channel."""
        return np.asarray(phase - (phase @ self._bearer_energy / self._bearer_energy.sum())[..., None])

    def _products(self, parameters: FloatArray) -> tuple[ComplexArray, ComplexArray, ComplexArray | None]:
        """Gram matrix of values and derivatives (4·path)², their products with the data (4·path, antenna), and with
        the static channel of every symbol (4·path, antenna, symbol)."""
        from dsp.kernels.path_model import _data_moments, _pair_moments, _slow_means

        signal = self._signals(parameters)
        paths, symbols, subcarriers = signal.shape
        moments = np.empty((paths, paths, symbols, 3), np.complex128)
        _pair_moments(signal, self._weights, self._frequency, moments)
        powers = self._time ** np.arange(5)[:, None]
        pairs = np.matmul(powers, moments).reshape(paths * paths, 15)  # by power of time, then of frequency
        gram = (self._pairing @ pairs.T).reshape(4, 4, paths, paths).transpose(0, 2, 1, 3).copy()
        if self._static_removed:
            means = np.zeros((paths, 3, subcarriers), np.complex128)
            _slow_means(signal, self._weights, self._time, means)
            shapes = self._polynomials @ np.array([np.ones(subcarriers), self._frequency])
            columns = self._factors[:, None, None] * shapes[:, None, :] * means[:, _POWERS, :].transpose(1, 0, 2)
            flat = columns.reshape(4 * paths, subcarriers)
            gram -= ((flat.conj() * self._per_subcarrier) @ flat.T).reshape(gram.shape)
        rows = np.empty((paths, len(self._data), symbols, 2), np.complex128)
        _data_moments(signal, self._data, self._frequency, rows)
        each = np.tensordot(self._factors.conj()[:, None] * self._polynomials, rows, axes=(1, 3))
        each *= powers[list(_POWERS)][:, None, None, :]
        each = each.reshape(4 * paths, len(self._data), symbols)
        antennas = self._noise.size
        bearer = each[:, antennas:] if self._bearer is not None else None
        return gram.reshape(4 * paths, 4 * paths), each[:, :antennas].sum(axis=-1), bearer

    def _normal(self, parameters: FloatArray) -> _Normal:
        """Normal equations: real and imaginary amplitudes on every antenna solved for, parameters left."""
        paths, antennas = len(parameters), self._noise.size
        gram, matched, bearer = self._products(parameters)
        # real form, ordered (column, antenna, real | imaginary): the common phase couples antennas
        blocks = np.zeros((4 * paths, antennas, 2, 4 * paths, antennas, 2))
        for antenna, noise in enumerate(self._noise):
            blocks[:, antenna, 0, :, antenna, 0] = gram.real / noise
            blocks[:, antenna, 1, :, antenna, 1] = gram.real / noise
            blocks[:, antenna, 0, :, antenna, 1] = -gram.imag / noise
            blocks[:, antenna, 1, :, antenna, 0] = gram.imag / noise
        size = 8 * paths * antennas
        total: FloatArray = blocks.reshape(size, size)
        if bearer is not None:
            turned = np.stack([-bearer.imag, bearer.real], axis=2) / self._noise[:, None, None]
            phase = self._varying(turned.reshape(size, -1) / self._bearer_energy)
            total = total - (phase * self._bearer_energy) @ phase.T
        right = (np.stack([matched.real, matched.imag], axis=-1) / self._noise[:, None]).ravel()
        split = size // 4
        inner = total[:split, :split]
        inner = inner + 1e-9 * np.diag(np.diag(inner))
        solved = np.linalg.solve(inner, np.column_stack([right[:split], total[:split, split:]]))
        amplitude = solved[:, 0]
        parts = amplitude.reshape(paths, antennas, 2)
        blend = np.zeros((3, paths, antennas, 2, paths, 3))
        for kind in range(3):
            for path in range(paths):
                blend[kind, path, :, :, path, kind] = parts[path]
        mixing = blend.reshape(3 * split, 3 * paths)
        projected = total[split:, split:] - total[split:, :split] @ solved[:, 1:]
        fisher = 2.0 * mixing.T @ projected @ mixing
        gradient = 2.0 * mixing.T @ (right[split:] - total[split:, :split] @ amplitude)
        prior = (self._unit[2] / self._rate_std) ** 2
        rate = parameters[:, 2] / self._unit[2]
        fisher[2::3, 2::3] += prior * np.eye(paths)
        gradient[2::3] -= prior * rate
        gain = float(right[:split] @ amplitude) - 0.5 * prior * float(rate @ rate)
        # a path so weak that it carries no information must not make the matrix singular
        fisher = fisher + 1e-12 * np.trace(fisher) / (3 * paths) * np.eye(3 * paths)
        amplitudes = np.asarray(parts[..., 0] + 1j * parts[..., 1]).T
        energy = np.real(np.diag(gram))[:paths]
        return _Normal(fisher, 2.0 * inner, solved[:, 1:] @ mixing, gradient, amplitudes, energy, gain)
