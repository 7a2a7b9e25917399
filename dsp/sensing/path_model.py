"""Exact model of moving paths in the CSI of a slot, and its joint maximum-likelihood fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["PathFit", "PathModel"]

_RATE_LIMIT = 4.0
"""Largest Doppler rate a step may reach, in its prior deviations."""


@dataclass(frozen=True)
class PathFit:
    """Paths fitted jointly to all antennas."""

    parameters: FloatArray
    """Delay (s), Doppler (Hz) and Doppler rate (Hz/s) at the slot's mean time, shape (path, 3)."""
    covariance: FloatArray
    """Inverse Fisher information, shape (path, 3, 3): all other paths, amplitudes and the static channel unknown."""
    amplitudes: ComplexArray
    """Shape (antenna, path); phase at the slot's mean time and baseband frequency zero."""
    energy: FloatArray
    """Σ weight·|model|² after removal of the static channel, shape (path,): SNR = |amplitude|²·energy/noise."""
    gain: float
    """Log-likelihood over no paths at all."""


class PathModel:
    """Columns of the paths' model for one slot, and the Gauss–Newton fit.

    A path of delay tau, Doppler nu and Doppler rate r at the mean symbol time contributes

        b · exp(−j2πf(tau − (nu/fc)t)) · exp(j2πnut) · exp(jπr(1+f/fc)t²),

    range migration included. Where the static channel was removed, so is the model's own mean over the slot, and
    the Fisher information knows it. Amplitudes are free on every antenna: no array geometry is assumed. Amplitudes
    are solved for within (variable projection), so that the search is over delay, Doppler and rate only. The rate
    has a zero-mean Gaussian prior: a weak path is not bent by noise, a strong one leaves no residue.
    """

    def __init__(self, csi: ChannelState, *, static_removed: bool, rate_std_hz_per_s: float) -> None:
        self._frequency = csi.subcarrier_hz
        self._time = csi.symbol_s - csi.symbol_s.mean()
        self._carrier = float(csi.carrier_hz)
        self._weights = csi.weights
        known = csi.weights.sum(axis=0)
        self._per_subcarrier = np.divide(1.0, known, out=np.zeros_like(known), where=known > 0)
        self._static_removed = static_removed
        self._noise = csi.noise
        self._rate_std = rate_std_hz_per_s
        antennas = csi.values.shape[0]
        self._data = (csi.values * csi.weights).reshape(antennas, -1).astype(np.complex128)
        span = float(self._time[-1] - self._time[0])
        width = float(self._frequency[-1] - self._frequency[0])
        self._unit = np.array([1.0 / width, 1.0 / span, 1.0 / span**2])

    def signal(self, parameters: FloatArray) -> ComplexArray:
        """Unit-amplitude model before removal of the static channel, shape (path, symbol, subcarrier)."""
        delay, doppler, rate = (column[:, None, None] for column in parameters.T)
        time, frequency = self._time[:, None], self._frequency
        envelope = np.exp(2j * np.pi * (time * (doppler + 0.5 * rate * time)))
        slope = np.exp(-2j * np.pi * frequency * delay)
        migration = np.exp(2j * np.pi * (frequency / self._carrier) * time * (doppler + 0.5 * rate * time))
        return np.asarray(envelope * slope * migration)

    def contribution(self, fit: PathFit) -> ComplexArray:
        """What the fitted paths add to the CSI, shape (antenna, symbol, subcarrier)."""
        signal = self.signal(fit.parameters)
        if self._static_removed:
            mean = np.einsum("plk,lk->pk", signal, self._weights) * self._per_subcarrier
            signal = signal - mean[:, None, :]
        return np.asarray(np.einsum("ap,plk->alk", fit.amplitudes, signal))

    def fit(self, start: FloatArray, *, iterations: int = 12) -> PathFit:
        """Joint maximum-likelihood fit from ``start`` (path, 3), Gauss–Newton with Levenberg's damping."""
        parameters = np.array(start, dtype=np.float64)
        state = self._evaluate(parameters)
        damping = 1e-6
        for _ in range(iterations):
            fisher, gradient = state[0], state[1]
            diagonal = np.diag(fisher).copy()
            step = np.linalg.solve(fisher + np.diag(damping * diagonal), gradient).reshape(-1, 3)
            # a step beyond half a resolution cell leaves the region where the model is linear
            step *= min(1.0, 0.5 / max(float(np.max(np.abs(step[:, :2]))), 1e-300))
            trial = parameters + step * self._unit
            trial[:, 2] = np.clip(trial[:, 2], -_RATE_LIMIT * self._rate_std, _RATE_LIMIT * self._rate_std)
            following = self._evaluate(trial)
            if following[4] < state[4] - 1e-9 * abs(state[4]):
                damping = max(damping, 1e-4) * 10.0
                if damping > 1e6:
                    break
                continue
            parameters, state = trial, following
            damping *= 0.1
            small = np.abs(step.ravel()) < 1e-3 / np.sqrt(np.maximum(diagonal, 1e-300))
            if np.all(small):
                break
        fisher, _, amplitudes, energy, gain = state
        covariance = np.linalg.inv(fisher)
        paths = len(parameters)
        blocks = covariance.reshape(paths, 3, paths, 3)[np.arange(paths), :, np.arange(paths), :]
        return PathFit(parameters, blocks * np.multiply.outer(self._unit, self._unit), amplitudes, energy, gain)

    def _evaluate(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray, ComplexArray, FloatArray, float]:
        """Fisher information and gradient in resolution cells, amplitudes, energies, log-likelihood gain."""
        paths = len(parameters)
        signal = self.signal(parameters)
        time, frequency = self._time[:, None], self._frequency
        stretch = 1.0 + frequency / self._carrier
        unit = self._unit
        columns = np.concatenate(
            [
                signal,
                signal * (-2j * np.pi * unit[0] * frequency),
                signal * (2j * np.pi * unit[1] * (time * stretch)),
                signal * (1j * np.pi * unit[2] * (time**2 * stretch)),
            ]
        )
        weighted = columns * self._weights
        flat = columns.reshape(4 * paths, -1).conj()
        gram = flat @ weighted.reshape(4 * paths, -1).T
        if self._static_removed:
            means = weighted.sum(axis=1)
            gram -= means.conj() @ (means * self._per_subcarrier).T
        matched = flat @ self._data.T
        inner = gram[:paths, :paths]
        inverse = np.linalg.inv(inner + 1e-9 * np.diag(np.diag(inner)))
        amplitudes = inverse @ matched[:paths]
        cross, square = gram[paths:, :paths], gram[paths:, paths:]
        projected = square - cross @ inverse @ cross.conj().T
        residual = matched[paths:] - cross @ amplitudes
        fisher = np.zeros((paths, 3, paths, 3))
        gradient = np.zeros((paths, 3))
        gain = 0.0
        for antenna, noise in enumerate(self._noise):
            gains = np.tile(amplitudes[:, antenna], 3)
            share = np.real(gains.conj()[:, None] * projected * gains) * (2.0 / noise)
            fisher += share.reshape(3, paths, 3, paths).transpose(1, 0, 3, 2)
            gradient += (np.real(gains.conj() * residual[:, antenna]) * (2.0 / noise)).reshape(3, paths).T
            gain += float(np.real(matched[:paths, antenna].conj() @ amplitudes[:, antenna])) / noise
        prior = (unit[2] / self._rate_std) ** 2
        information = fisher.reshape(3 * paths, 3 * paths)
        information[2::3, 2::3] += prior * np.eye(paths)
        rate = parameters[:, 2] / unit[2]
        gradient[:, 2] -= prior * rate
        gain -= 0.5 * prior * float(rate @ rate)
        # a path so weak that it carries no information must not make the matrix singular
        information += 1e-12 * np.trace(information) / (3 * paths) * np.eye(3 * paths)
        return information, gradient.ravel(), amplitudes.T, np.real(np.diag(inner)), gain
