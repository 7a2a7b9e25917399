"""Shared paths fitted to both directions of a link, amplitudes free in each.

A path of delay tau and Doppler nu, both at the epoch half-way between the slots, is in the forward direction (s = +1)
and in the reverse one (s = -1)

    amplitude_s · exp(-j2πf·d) · exp(+j2πt·n·(1 + f/fc)),  d = tau + s·(u + nu·g/(2fc)),  n = nu + s·v,

u and v the residual offsets and g the time from the forward slot to the reverse one, in which a mover changes its
delay. Amplitudes are solved for within (variable projection); derivation in docs/methods/structured.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.matched_product import TwoWayLink
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["SharedFit", "SharedPaths"]

_PADDING = 2
_MOST_ROWS = 2048
_CELLS_APART = 1.0
_RIVAL = 0.5
"""Part of the best match's correlation from which another match is followed too."""
_FLOOR = 5.0
"""Power of a map's element, in noise, below which it is taken for noise."""
_LARGEST_STEP = 0.4  # of a resolution cell: beyond, the model is not linear
_DAMPING = 1e-4
_RIDGE = 1e-9
_POWERS = (0, 0, 1)
"""Power of slow time in a path's value and in its derivatives after delay and Doppler."""


@dataclass(frozen=True)
class SharedFit:
    """Paths and offsets of greatest likelihood near where the fit started."""

    paths: FloatArray
    """Delay (s) and Doppler (Hz) at the epoch, shape (path, 2)."""
    to_s: FloatArray
    """Half the directions' difference in delay: one value, or one for each path where they are free."""
    cfo_hz: float
    amplitudes: ComplexArray
    """Shape (direction, path)."""
    significance: FloatArray
    """Power of each path's amplitude over its variance, other paths unknown; shape (direction, path)."""
    covariance: FloatArray
    """Inverse Fisher information of (to_s..., cfo_hz), paths and amplitudes unknown."""
    path_delay_std_s: FloatArray
    """Deviation of each path's delay."""
    gain: float
    """Log-likelihood over no paths at all."""
    unexplained: float
    """Log-likelihood that delays and Dopplers free in each direction would add, to second order."""
    freed: int
    """Parameters that this frees."""


@dataclass(frozen=True)
class _Normal:
    gain: float
    amplitudes: ComplexArray
    significance: FloatArray
    fisher: tuple[FloatArray, FloatArray]
    gradient: tuple[FloatArray, FloatArray]


class SharedPaths:
    """Likelihood of shared paths in a two-way link.

    Parameters
    ----------
    link : TwoWayLink
        Directions at common frequencies, any symbol times, subcarriers on one raster with gaps.
    gap_s : float
        Time from the forward slot to the reverse one.
    separate : bool
        Whether each path has its own difference in delay, as separate ports make it.
    """

    def __init__(self, link: TwoWayLink, *, gap_s: float = 0.0, separate: bool = False) -> None:
        self._f: NDArray[np.float64] = np.ascontiguousarray(link.subcarrier_hz, dtype=np.float64)
        self._t: NDArray[np.float64] = np.ascontiguousarray(link.symbol_s, dtype=np.float64)
        self._carrier_hz = link.carrier_hz
        self._bins = grid_steps(self._f).astype(np.int64)
        self._step_hz = float(np.min(np.diff(self._f)))
        with np.errstate(divide="ignore"):
            self._weights = [
                np.ascontiguousarray(1.0 / variance, dtype=np.float64)
                for variance in (link.forward_variance, link.reverse_variance)
            ]
        self._values = [np.asarray(values, dtype=np.complex128) for values in (link.forward, link.reverse)]
        self._data = [
            np.ascontiguousarray((values * weights)[None], dtype=np.complex128)
            for values, weights in zip(self._values, self._weights, strict=True)
        ]
        self._per_hz = 0.5 * gap_s / link.carrier_hz
        self._separate = separate
        width = float(np.ptp(self._f))
        spans = np.diff(np.sort(self._t))
        self.symbol_step_s = float(spans[spans > 0].min()) if np.any(spans > 0) else 1.0
        span = float(np.ptp(self._t)) + self.symbol_step_s
        self.cell = np.array([1.0 / width, 1.0 / span])
        """Resolution in delay and Doppler."""
        self._still = len(self._t) < 2
        slope = 1.0 / self._carrier_hz
        self._factors = np.array([1.0, -2j * pi * self.cell[0], 2j * pi * self.cell[1]])
        self._polynomials = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, slope]])
        self._grid()

    def start(self, candidates: int) -> list[tuple[float, float, float]]:
        """Offsets at which the directions' delay-Doppler maps match best, with their correlation.

        Logarithms are correlated, above a floor: amplitudes are free, so that what counts is where there are paths, not
        that the strongest of one direction meets the strongest of the other.
        """
        magnitudes = [
            np.log(np.maximum(np.abs(self._map(data[0])) ** 2 / (_FLOOR * weights.sum()), 1.0))
            for data, weights in zip(self._data, self._weights, strict=True)
        ]
        spectra = [fft.rfft2(magnitude - magnitude.mean()) for magnitude in magnitudes]
        values: FloatArray = fft.irfft2(spectra[0] * np.conj(spectra[1]), s=magnitudes[0].shape)
        rows, columns = values.shape
        found: list[tuple[float, float, float]] = []
        reach = [min(size // 2, round(2 * _PADDING * _CELLS_APART)) for size in (rows, columns)]
        for _ in range(candidates):
            row, column = (int(index) for index in np.unravel_index(int(np.argmax(values)), values.shape))
            score = float(values[row, column])
            if score <= 0.0 or (found and score < _RIVAL * found[0][2]):
                break
            shift_row = row - rows * (row >= (rows + 1) // 2)
            shift_column = column - columns * (column >= (columns + 1) // 2)
            found.append((0.5 * shift_column * self._delay_step_s, 0.5 * shift_row * self._doppler_step_hz, score))
            around = np.ix_(
                np.arange(row - reach[0], row + reach[0] + 1) % rows,
                np.arange(column - reach[1], column + reach[1] + 1) % columns,
            )
            values[around] = -np.inf
        return found

    def next_path(self, paths: FloatArray, to_s: FloatArray, cfo_hz: float) -> tuple[float, float, float]:
        """Delay and Doppler of one more path, where it explains most of both remainders, and how much it explains."""
        power: FloatArray = np.zeros((len(self._doppler_hz), len(self._delay_s)))
        common_s = float(to_s[0])
        for sign, data, weights in zip((1.0, -1.0), self._data, self._weights, strict=True):
            remainder = data[0]
            if len(paths):
                signals = self._signals(self._seen(paths, to_s, cfo_hz, sign))
                amplitudes = self._direction(signals, data, weights)[1]
                remainder = remainder - weights * np.tensordot(amplitudes, signals, axes=1)
            turned = remainder * np.exp(-2j * pi * sign * cfo_hz * self._t)[:, None]
            turned = turned * np.exp(2j * pi * sign * common_s * self._f)
            spectrum = self._map(turned)
            power += (spectrum.real**2 + spectrum.imag**2) / float(weights.sum())
        row, column = np.unravel_index(int(np.argmax(power)), power.shape)
        return float(self._delay_s[column]), float(self._doppler_hz[row]), float(power[row, column])

    def fit(self, paths: FloatArray, to_s: FloatArray, cfo_hz: float, *, iterations: int) -> SharedFit:
        """Joint greatest likelihood from a start, Gauss–Newton with Levenberg's damping."""
        scale = self._scale(len(paths))
        damping = _DAMPING
        state = self._normal(paths, to_s, cfo_hz)
        for _ in range(iterations):
            fisher, gradient = self._joint(state, len(paths))
            diagonal = np.maximum(np.diag(fisher), 1e-9 * np.diag(fisher).max())
            step = np.linalg.solve(fisher + np.diag(damping * diagonal), gradient)
            step *= min(1.0, _LARGEST_STEP / max(float(np.max(np.abs(step))), 1e-300))
            trial = self._stepped(paths, to_s, cfo_hz, step * scale)
            following = self._normal(*trial)
            if following.gain < state.gain - 1e-10 * abs(state.gain):
                damping = max(damping, 1e-3) * 10.0
                if damping > 1e5:
                    break
                continue
            gained = following.gain - state.gain
            (paths, to_s, cfo_hz), state = trial, following
            damping *= 0.1
            if gained < 1e-4:
                break
        return self._result(paths, to_s, cfo_hz, state)

    def information(self, paths: FloatArray, to_s: FloatArray, cfo_hz: float) -> SharedFit:
        """The fit's own figures at given parameters, amplitudes at their best: its bound where these are true."""
        return self._result(paths, to_s, cfo_hz, self._normal(paths, to_s, cfo_hz))

    def noise_ratio(self, fit: SharedFit) -> float:
        """Energy that the fit leaves over the noise stated."""
        left, count = 0.0, 0
        for sign, values, weights, amplitudes in zip(
            (1.0, -1.0), self._values, self._weights, fit.amplitudes, strict=True
        ):
            signals = self._signals(self._seen(fit.paths, fit.to_s, fit.cfo_hz, sign))
            remainder = values - np.tensordot(amplitudes, signals, axes=1)
            left += float(np.sum(weights * np.abs(remainder) ** 2))
            count += int(np.count_nonzero(weights)) - 2 * len(fit.paths)
        return left / max(count, 1)

    def _grid(self) -> None:
        span = float(np.ptp(self._t)) + self.symbol_step_s
        rows = 1 if self._still else min(_MOST_ROWS, max(2, round(_PADDING * span / self.symbol_step_s)))
        columns = fft.next_fast_len(_PADDING * int(self._bins[-1] + 1))
        self._doppler_step_hz = 1.0 / (_PADDING * span)
        self._doppler_hz = fft.fftfreq(rows) * rows * self._doppler_step_hz
        self._delay_step_s = 1.0 / (columns * self._step_hz)
        product = sum(np.sum(data[0][:, 1:] * np.conj(data[0][:, :-1])) for data in self._data)
        centre_s = -float(np.angle(product)) / (2.0 * pi * self._step_hz)
        delays = np.arange(columns) * self._delay_step_s
        self._delay_s = delays + np.rint((centre_s - delays) * self._step_hz) / self._step_hz
        self.cells = (int(self._bins[-1]) + 1) * max(1, round(rows / _PADDING))
        """Resolution cells that the search covers."""
        self._turns = np.exp(-2j * pi * np.outer(self._doppler_hz, self._t)).astype(np.complex64)

    def _map(self, values: ComplexArray) -> ComplexArray:
        """Correlation with a path at every Doppler and delay of the grid; migration left out."""
        padded = np.zeros((len(self._t), len(self._delay_s)), dtype=np.complex64)
        padded[:, self._bins] = values
        over_delay = fft.ifft(padded, axis=1, norm="forward", overwrite_x=True)
        result: ComplexArray = self._turns @ over_delay
        return result

    def _scale(self, count: int) -> FloatArray:
        offsets = count if self._separate else 1
        return np.concatenate([np.tile(self.cell, count), np.full(offsets, self.cell[0]), self.cell[1:]])

    def _stepped(
        self, paths: FloatArray, to_s: FloatArray, cfo_hz: float, step: FloatArray
    ) -> tuple[FloatArray, FloatArray, float]:
        count = 2 * len(paths)
        return paths + step[:count].reshape(-1, 2), to_s + step[count:-1], cfo_hz + float(step[-1])

    def _seen(self, paths: FloatArray, to_s: FloatArray, cfo_hz: float, sign: float) -> FloatArray:
        """Delay and Doppler of each path as one direction sees them, and no Doppler rate."""
        seen = np.zeros((len(paths), 3))
        seen[:, 0] = paths[:, 0] + sign * (to_s + self._per_hz * paths[:, 1])
        seen[:, 1] = paths[:, 1] + sign * cfo_hz
        return seen

    def _signals(self, seen: FloatArray) -> NDArray[np.complex128]:
        from dsp.kernels.path_model import _signals

        out = np.empty((len(seen), len(self._t), len(self._f)), np.complex128)
        _signals(
            np.ascontiguousarray(seen, dtype=np.float64),
            self._t,
            (float(self._f[0]), self._step_hz),
            self._bins,
            self._carrier_hz,
            out,
        )
        return out

    def _direction(
        self, signals: NDArray[np.complex128], data: NDArray[np.complex128], weights: NDArray[np.float64]
    ) -> tuple[float, ComplexArray, FloatArray, FloatArray, FloatArray]:
        """Gain, amplitudes, their significance, and Fisher information and gradient over (delay, Doppler) in cells."""
        from dsp.kernels.path_model import _data_moments, _pair_moments

        paths, symbols, _ = signals.shape
        moments = np.empty((paths, paths, symbols, 3), np.complex128)
        _pair_moments(signals, weights, self._f, moments)
        rows = np.empty((paths, 1, symbols, 2), np.complex128)
        _data_moments(signals, data, self._f, rows)
        powers = self._t ** np.arange(3)[:, None]
        pairs = np.einsum("jl,uvli->jiuv", powers, moments, optimize=True)
        sums = np.einsum("jl,uli->jiu", powers, rows[:, 0], optimize=True)
        gram = np.empty((3, paths, 3, paths), np.complex128)
        matched = np.empty((3, paths), np.complex128)
        for a in range(3):
            matched[a] = self._factors[a].conj() * (self._polynomials[a] @ sums[_POWERS[a]])
            for b in range(3):
                product = np.convolve(self._polynomials[a], self._polynomials[b])
                entry = np.tensordot(product, pairs[_POWERS[a] + _POWERS[b]], axes=1)
                gram[a, :, b, :] = self._factors[a].conj() * self._factors[b] * entry
        inner = gram[0, :, 0, :] + _RIDGE * np.diag(gram[0, :, 0, :].diagonal())
        outer = gram[0].reshape(paths, 3 * paths)[:, paths:]
        inverse = np.linalg.inv(inner)
        amplitudes = inverse @ matched[0]
        projected = gram[1:, :, 1:, :].reshape(2 * paths, 2 * paths) - outer.conj().T @ inverse @ outer
        left = matched[1:].ravel() - outer.conj().T @ amplitudes
        twice = np.tile(amplitudes, 2)
        fisher = 2.0 * (twice.conj()[:, None] * projected * twice).real
        gradient = 2.0 * (twice.conj() * left).real
        order = np.arange(2 * paths).reshape(2, paths).T.ravel()
        gain = float((matched[0].conj() @ amplitudes).real)
        significance = np.abs(amplitudes) ** 2 / np.maximum(inverse.diagonal().real, 1e-300)
        return gain, amplitudes, significance, fisher[np.ix_(order, order)], gradient[order]

    def _normal(self, paths: FloatArray, to_s: FloatArray, cfo_hz: float) -> _Normal:
        parts = [
            self._direction(self._signals(self._seen(paths, to_s, cfo_hz, sign)), data, weights)
            for sign, data, weights in zip((1.0, -1.0), self._data, self._weights, strict=True)
        ]
        return _Normal(
            gain=parts[0][0] + parts[1][0],
            amplitudes=np.stack([parts[0][1], parts[1][1]]),
            significance=np.stack([parts[0][2], parts[1][2]]),
            fisher=(parts[0][3], parts[1][3]),
            gradient=(parts[0][4], parts[1][4]),
        )

    def _jacobian(self, count: int, sign: float) -> FloatArray:
        """Derivatives of a direction's delays and Dopplers, in cells, by the joint parameters, in cells."""
        offsets = count if self._separate else 1
        jacobian = np.zeros((2 * count, 2 * count + offsets + 1))
        jacobian[:, : 2 * count] = np.eye(2 * count)
        for path in range(count):
            jacobian[2 * path, 2 * path + 1] = sign * self._per_hz * self.cell[1] / self.cell[0]
            jacobian[2 * path, 2 * count + (path if self._separate else 0)] = sign
            jacobian[2 * path + 1, -1] = sign
        return jacobian

    def _joint(self, state: _Normal, count: int) -> tuple[FloatArray, FloatArray]:
        size = 2 * count + (count if self._separate else 1) + 1
        fisher, gradient = np.zeros((size, size)), np.zeros(size)
        for sign, part, slope in zip((1.0, -1.0), state.fisher, state.gradient, strict=True):
            jacobian = self._jacobian(count, sign)
            fisher += jacobian.T @ part @ jacobian
            gradient += jacobian.T @ slope
        if self._still:  # one symbol tells no Doppler
            still = np.append(np.arange(1, 2 * count, 2), size - 1)
            fisher[still, :] = fisher[:, still] = 0.0
            fisher[still, still] = 1.0
            gradient[still] = 0.0
        return fisher, gradient

    def _result(self, paths: FloatArray, to_s: FloatArray, cfo_hz: float, state: _Normal) -> SharedFit:
        count = len(paths)
        fisher, _ = self._joint(state, count)
        scale = self._scale(count)
        covariance = np.linalg.pinv(fisher, rcond=1e-14, hermitian=True) * np.outer(scale, scale)
        unexplained = sum(
            0.5 * float(slope @ np.linalg.lstsq(part, slope, rcond=1e-10)[0])
            for part, slope in zip(state.fisher, state.gradient, strict=True)
        )
        return SharedFit(
            paths=paths,
            to_s=to_s,
            cfo_hz=cfo_hz,
            amplitudes=state.amplitudes,
            significance=state.significance,
            covariance=covariance[2 * count :, 2 * count :],
            path_delay_std_s=np.sqrt(np.maximum(np.diag(covariance)[: 2 * count : 2], 0.0)),
            gain=state.gain,
            unexplained=unexplained,
            freed=4 * count - len(fisher),
        )
