"""Delays of the paths in a static channel, and where a node's own echo puts the scatterers."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from scipy import fft, stats

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.sensing.angle import bearing
from dsp.synchronization.fingerprint_scene import static_scene
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["ActiveEcho", "Scatterer", "StaticPaths", "active_echo", "static_paths"]

_PADDING = 4
_FALSE_ALARM = 1e-3
"""Per channel, of a path found in noise."""
_LARGEST_COUNT = 16
_SWEEPS = 12
_LARGEST_STEP = 0.25
"""Of a resolution cell, in one step of the refinement."""
_CLOSEST = 0.6
"""Resolution cells below which two paths are one that the model splits."""


@dataclass(frozen=True)
class Scatterer:
    """One static scatterer as the active node's echo sees it."""

    delay_s: float
    """Round trip, from the node's antenna and back."""
    delay_std_s: float
    sines: tuple[float, ...]
    """Sine of the bearing at the active node and its grating repetitions; front and back have one sine."""
    sine_std: float


@dataclass(frozen=True)
class ActiveEcho:
    """Scatterers that a node located by its own echo, which has neither time nor frequency offset."""

    node: str
    """Active node; either end of the link."""
    scatterers: tuple[Scatterer, ...]


@dataclass(frozen=True)
class StaticPaths:
    """Paths of a static channel, by delay."""

    delay_s: FloatArray
    """Ascending, shape (path,)."""
    delay_std_s: FloatArray
    """From the joint inverse Fisher information, all amplitudes unknown."""
    amplitudes: ComplexArray
    """Shape (antenna, path)."""
    amplitude_std: FloatArray
    """Per real dimension, shape (antenna,)."""


def active_echo(
    csi: ChannelState,
    departure: Moment,
    *,
    spacing_m: float,
    least_delay_s: float,
    calibration: ComplexArray | None = None,
) -> ActiveEcho:
    """Scatterers from the CSI of a node's own transmission.

    Parameters
    ----------
    csi : ChannelState
        Two antennas or more in a uniform line, receiver and transmitter the same node.
    departure : Moment
        When the slot left, on the same clock.
    spacing_m : float
        Antenna spacing; first antenna to heading's right.
    least_delay_s : float
        Round trips shorter than this are leakage.
    calibration : complex array, shape (antenna,), optional
        Response of each antenna, as `dsp.sensing.angle.bearing` takes it.

    Raises
    ------
    ValueError
        If there is one antenna only, or the departure is on another clock.
    """
    if csi.values.shape[0] < 2:
        raise ValueError("an active echo needs two antennas or more to tell where its scatterers are")
    if departure.clock != csi.reference.clock:
        raise ValueError(f"an active echo departs and arrives on one clock, got {departure.clock}")
    scene = static_scene(csi)
    if not scene.valid:
        return ActiveEcho(csi.reference.clock, ())
    found = static_paths(scene.values, scene.variance, scene.subcarrier_hz)
    origin_s = csi.reference.seconds_since(departure)
    scatterers = []
    for index, delay_s in enumerate(found.delay_s + origin_s):
        if delay_s < least_delay_s:
            continue
        angle = bearing(
            found.amplitudes[:, index],
            found.amplitude_std,
            spacing_m=spacing_m,
            carrier_hz=float(csi.carrier_hz),
            calibration=calibration,
        )
        scatterers.append(Scatterer(float(delay_s), float(found.delay_std_s[index]), angle.sines, angle.sine_std))
    return ActiveEcho(csi.reference.clock, tuple(scatterers))


def static_paths(values: ComplexArray, variance: FloatArray, subcarrier_hz: FloatArray) -> StaticPaths:
    """Paths of a static channel by greedy search and joint maximum likelihood.

    Each next path is the delay of greatest likelihood ratio in what the paths so far leave, antennas added
    incoherently; then all delays are refined together by Gauss–Newton with the amplitudes solved for on every
    antenna. The search ends where the ratio no longer rises above noise, at one false path in a thousand channels.
    Paths closer than 0.6 of a resolution cell count as one.

    Parameters
    ----------
    values : complex array, shape (antenna, subcarrier)
    variance : float array, shape (antenna, subcarrier)
        Noise; infinite where unknown.
    subcarrier_hz : float array, shape (subcarrier,)
    """
    known = np.all(np.isfinite(variance), axis=0)
    fit = _Fit(values[:, known], variance[:, known], subcarrier_hz[known])
    delays: FloatArray = np.zeros(0)
    while len(delays) < _LARGEST_COUNT:
        start = fit.next_delay(delays)
        if start is None:
            break
        trial = fit.refined(np.append(delays, start))
        if len(trial) > 1 and float(np.min(np.diff(np.sort(trial)))) < _CLOSEST * fit.cell_s:
            break
        delays = trial
    delays = np.sort(delays)
    amplitudes, _ = fit.solved(delays)
    return StaticPaths(delays, fit.deviation(delays), amplitudes, fit.amplitude_std)


class _Fit:
    """Likelihood of paths in one channel, noise alike on all its subcarriers but not on its antennas."""

    def __init__(self, values: ComplexArray, variance: FloatArray, subcarrier_hz: FloatArray) -> None:
        noise = variance.mean(axis=1)
        self._scale = np.sqrt(noise)
        self._data = (values / self._scale[:, None]).astype(np.complex128)
        self._f = subcarrier_hz - float(subcarrier_hz.mean())
        self._centre_hz = float(subcarrier_hz.mean())
        self._steps = grid_steps(subcarrier_hz)
        self._spacing_hz = float(np.min(np.diff(subcarrier_hz)))
        self.cell_s = 1.0 / float(np.ptp(subcarrier_hz))
        self.amplitude_std: FloatArray = self._scale / np.sqrt(2.0 * len(subcarrier_hz))

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
        threshold = 0.5 * float(stats.chi2.isf(_FALSE_ALARM / (_PADDING * len(self._f)), 2 * len(left)))
        peak = int(np.argmax(power))
        return float(grid_s[peak]) if power[peak] > threshold else None

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

    def deviation(self, delays_s: FloatArray) -> FloatArray:
        """Standard deviation of each delay."""
        if not len(delays_s):
            return np.zeros(0)
        amplitudes, left = self.solved(delays_s)
        information, _ = self._normal(delays_s, amplitudes, left)
        return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))))

    def solved(self, delays_s: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        """Least-squares amplitudes, shape (antenna, path), phases at baseband zero; and whitened remainder."""
        if not len(delays_s):
            return np.zeros((len(self._data), 0), np.complex128), self._data
        columns = self._columns(delays_s)
        solution = np.linalg.lstsq(columns, self._data.T, rcond=None)[0]
        left = self._data - (columns @ solution).T
        turn = np.exp(2j * pi * self._centre_hz * delays_s)
        return (solution * turn[:, None]).T * self._scale[:, None], left

    def _columns(self, delays_s: FloatArray) -> ComplexArray:
        return np.asarray(np.exp(-2j * pi * np.outer(self._f, delays_s)))

    def _normal(
        self, delays_s: FloatArray, amplitudes: ComplexArray, left: ComplexArray
    ) -> tuple[FloatArray, FloatArray]:
        """Fisher information of the delays with amplitudes unknown, and the likelihood's gradient."""
        columns = self._columns(delays_s)
        slopes = -2j * pi * self._f[:, None] * columns
        basis = np.linalg.qr(columns)[0]
        slopes = slopes - basis @ (basis.conj().T @ slopes)
        turn = np.exp(-2j * pi * self._centre_hz * delays_s)
        own = amplitudes / self._scale[:, None] * turn
        gram = slopes.conj().T @ slopes
        information = 2.0 * np.real((own.conj().T @ own) * gram)
        gradient = 2.0 * np.real(np.sum(own.conj() * (left @ slopes.conj()), axis=0))
        return np.asarray(information), np.asarray(gradient)
