"""Delays of the paths in a static channel, and where a node's own echo puts the scatterers."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf, log10, pi, sqrt

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
_MOVER_FALSE_ALARM = 1e-8
"""Per cell of the map of a node's own echoes."""
_LARGEST_COUNT = 16
_SWEEPS = 12
_TILTS = 2
"""Times that wave fronts are laid across the array."""
_LARGEST_STEP = 0.25
"""Of a resolution cell, in one step of the refinement."""
_CLOSEST = 0.6
"""Resolution cells below which two paths are one that the model splits."""
_REACH = 0.4
"""Round trips within which movers are looked for, as a part of the reciprocal subcarrier spacing."""
_BEFORE_CELLS = 1.5
"""What the leakage's own response may take before its arrival, in resolution cells."""
_WINDOW_STEPS = 8
_WINDOW_FLOOR = 1e-5
"""Singular value, of the greatest, down to which the leakage window's exponentials are projected out: 100 dB."""
_LEAST_NOISE = 0.1
"""Part of the antennas' noise power that is taken to be in any direction."""
_ABOVE_PRECURSORS = 2.0
"""Amplitude over the strongest path before the leakage, where nothing can be, that makes a path an echo."""
_SLOPE_OF_PATH = 0.4
"""Deviation of a delay, in resolution cells, that an unresolved path of unit amplitude and any phase causes."""


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
    remark: str = ""
    """What keeps the echo from showing more."""


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
    coherence: ComplexArray
    """Correlation of the noise from antenna to antenna, shape (antenna, antenna)."""
    floor: float = 0.0
    """Amplitude on the first antenna below which no path would have been found."""


def active_echo(
    csi: ChannelState,
    departure: Moment,
    *,
    spacing_m: float,
    least_delay_s: float,
    calibration: ComplexArray | None = None,
) -> ActiveEcho:
    """Scatterers from the CSI of a node's own transmission.

    The leakage is tens of decibels above every echo, arrives at each antenna at a time of its own, and has the front
    end's response for its shape. All that stands between 1.5 resolution cells before the departure and
    ``least_delay_s`` after it is therefore projected out on every antenna by itself, and the echoes are fitted to what
    is left (`static_paths`). What is found before the leakage can be no echo: it is what the projection has left of
    it, of which there will be as much behind. Echoes must rise 6 dB above it, and their deviations contain it.

    Parameters
    ----------
    csi : ChannelState
        Two antennas or more in a uniform line, receiver and transmitter the same node.
    departure : Moment
        When the slot left, on the same clock, less what the chains add: the CSI's delays count from it.
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
    node = csi.reference.clock
    cell_s = 1.0 / float(np.ptp(csi.subcarrier_hz))
    origin_s = csi.reference.seconds_since(departure)
    window = (-_BEFORE_CELLS * cell_s - origin_s, least_delay_s - origin_s)
    gate = (window[1], window[1] + _REACH / float(np.min(np.diff(csi.subcarrier_hz))))
    # The noise is mostly the leakage's phase noise, the same on all antennas: to count them as one.
    antennas = len(csi.values)
    rate = float(stats.gamma.sf(antennas * stats.expon.isf(_MOVER_FALSE_ALARM), antennas))
    scene = static_scene(csi, gate_s=gate, false_alarm_rate=rate)
    if not scene.valid:
        return ActiveEcho(node, (), f"{node} does not see its own echoes: {scene.reason}")
    found = static_paths(
        scene.values, scene.variance, scene.subcarrier_hz, carrier_hz=float(csi.carrier_hz), apart_from_s=window
    )
    size = np.sqrt(np.mean(np.abs(found.amplitudes) ** 2, axis=0))
    before = found.delay_s < window[0]
    left = float(np.max(size[before], initial=0.0))
    scatterers = []
    for index in np.flatnonzero((found.delay_s > window[1]) & (size > _ABOVE_PRECURSORS * left)):
        angle = bearing(
            found.amplitudes[:, index],
            found.amplitude_std,
            spacing_m=spacing_m,
            carrier_hz=float(csi.carrier_hz),
            calibration=calibration,
        )
        share = left / float(size[index])
        late, turned = _grown(found.amplitudes[:, index] / found.amplitude_std, found.coherence)
        scatterers.append(
            Scatterer(
                float(found.delay_s[index] + origin_s),
                hypot(late * float(found.delay_std_s[index]), _SLOPE_OF_PATH * share * cell_s),
                angle.sines,
                angle.sine_std * hypot(turned, left / (2.0**0.5 * float(np.mean(found.amplitude_std)))),
            )
        )
    return ActiveEcho(
        node, tuple(scatterers), _blindness(node, scene.values, max(found.floor, _ABOVE_PRECURSORS * left))
    )


def _grown(response: ComplexArray, coherence: ComplexArray) -> tuple[float, float]:
    """By how much deviations of delay and sine grow where the antennas' noise is not independent.

    A delay comes from the antennas' sum, a sine from their sum weighted with the distance from the array's centre;
    noise that arrives as a wave of its own, as the leakage's does, is in either as that wave resembles the path.
    """
    centre = float(np.arange(len(response)) @ np.abs(response) ** 2 / np.sum(np.abs(response) ** 2))
    lever = response * (np.arange(len(response)) - centre)
    late, turned = (
        sqrt(max(float(np.real(one.conj() @ coherence @ one)) / float(np.sum(np.abs(one) ** 2)), _LEAST_NOISE))
        for one in (response, lever)
    )
    return late, turned


def _blindness(node: str, values: ComplexArray, floor: float) -> str:
    """How far below its strongest path, the leakage, a node sees echoes."""
    strongest = float(np.sqrt(np.mean(np.abs(values[0]) ** 2)))
    below_db = 20.0 * log10(max(strongest, 1e-300) / floor) if floor > 0.0 else inf
    return f"{node} sees its own echoes down to {below_db:.0f} dB below its leakage"


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
    at another time, which between neighbouring paths is worth a tenth of a nanosecond: once the paths are found, the
    phase from antenna to antenna tells by how much, and all delays are refined again. They are those to the array's
    centre.

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
        trial = fit.refined(np.append(delays, start))
        if len(trial) > 1 and float(np.min(np.diff(np.sort(trial)))) < _CLOSEST * fit.cell_s:
            break
        delays = trial
    delays = np.sort(delays)
    if len(values) > 1 and len(delays):
        for _ in range(_TILTS):
            fit.tilt(fit.solved(delays)[0], carrier_hz)
            delays = fit.refined(delays)
    amplitudes, _ = fit.solved(delays)
    return StaticPaths(delays, fit.deviation(delays), amplitudes, fit.amplitude_std, fit.coherence(delays), fit.floor)


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
        self._late_s: FloatArray = np.zeros((1, 0))
        self._window = apart_from_s
        self._nuisance = None if apart_from_s is None else self._basis(*apart_from_s)
        self._data = self._apart((values / self._scale[:, None]).astype(np.complex128)[..., None])[..., 0]
        # beside leakage the noise is its phase noise, which all antennas share
        alike = 1 if apart_from_s is None else len(values)
        rate = _FALSE_ALARM / (_PADDING * len(self._f))
        self._threshold = 0.5 * alike * float(stats.chi2.isf(rate, 2 * len(values) // alike))
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

    def coherence(self, delays_s: FloatArray) -> ComplexArray:
        """Correlation of what the paths leave, from antenna to antenna."""
        _, left = self.solved(delays_s)
        covariance = left @ left.conj().T
        size = np.sqrt(np.real(np.diag(covariance)))
        return np.asarray(covariance / np.outer(size, size))

    def deviation(self, delays_s: FloatArray) -> FloatArray:
        """Standard deviation of each delay."""
        if not len(delays_s):
            return np.zeros(0)
        amplitudes, left = self.solved(delays_s)
        information, _ = self._normal(delays_s, amplitudes, left)
        return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))))

    def tilt(self, amplitudes: ComplexArray, carrier_hz: float) -> None:
        """Lay each path's wave front across the array as the phase from antenna to antenna says."""
        step = np.angle(np.sum(amplitudes[1:] * amplitudes[:-1].conj(), axis=0))
        place = np.arange(len(amplitudes)) - 0.5 * (len(amplitudes) - 1)
        self._late_s = -np.outer(place, step) / (2.0 * pi * carrier_hz)

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
        """Unit paths, shape (antenna, subcarrier, path); of one antenna where all are alike."""
        late_s = self._late_s if self._late_s.shape[1] == len(delays_s) else np.zeros((1, len(delays_s)))
        return np.asarray(np.exp(-2j * pi * self._f[:, None] * (delays_s + late_s)[:, None, :]))

    def _normal(
        self, delays_s: FloatArray, amplitudes: ComplexArray, left: ComplexArray
    ) -> tuple[FloatArray, FloatArray]:
        """Fisher information of the delays with amplitudes unknown, and the likelihood's gradient."""
        exponentials = self._exponentials(delays_s)
        slopes = self._apart(-2j * pi * self._f[:, None] * exponentials)
        basis = np.linalg.qr(self._apart(exponentials))[0]
        slopes = slopes - basis @ (basis.conj().swapaxes(1, 2) @ slopes)
        turn = np.exp(-2j * pi * self._centre_hz * delays_s)
        own = amplitudes / self._scale[:, None] * turn
        gram = slopes.conj().swapaxes(1, 2) @ slopes
        information = 2.0 * np.real(np.sum(own.conj()[:, :, None] * own[:, None, :] * gram, axis=0))
        inner = (slopes.conj().swapaxes(1, 2) @ left[..., None])[..., 0]
        gradient = 2.0 * np.real(np.sum(own.conj() * inner, axis=0))
        return np.asarray(information), np.asarray(gradient)
