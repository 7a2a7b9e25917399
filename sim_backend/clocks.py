"""One oscillator: offset, drift and power-law noise, as a clock that can be read and inverted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim_backend.randomness import generator

__all__ = ["PRESETS", "Clock", "PowerLaw"]

FloatArray = NDArray[np.float64]

GRID_HZ = 20_000
"""Noise is drawn on a grid of 50 µs; phase noise beyond 10 kHz belongs to the synthesizers."""
SEGMENT = 5_000
"""Grid steps of a segment (0.25 s); segments are filled in on demand."""
_STEP_S = 1.0 / GRID_HZ
_BATCH = 64
_CACHED_SEGMENTS = 64


@dataclass(frozen=True)
class PowerLaw:
    """Spectrum of an oscillator's fractional frequency: S_y(f) = sum of h_a·f^a, one-sided, a = -2 … 2."""

    h_minus2: float = 0.0
    """Random-walk frequency noise, Hz."""
    h_minus1: float = 0.0
    """Flicker frequency noise."""
    h_0: float = 0.0
    """White frequency noise, 1/Hz."""
    h_1: float = 0.0
    """Flicker phase noise, 1/Hz²."""
    h_2: float = 0.0
    """White phase noise, 1/Hz³."""

    def __post_init__(self) -> None:
        if min(self.coefficients) < 0 or not np.all(np.isfinite(self.coefficients)):
            raise ValueError(f"power-law coefficients must be finite and not negative, got {self.coefficients}")

    @property
    def coefficients(self) -> tuple[float, float, float, float, float]:
        """h_-2 … h_2."""
        return self.h_minus2, self.h_minus1, self.h_0, self.h_1, self.h_2

    @classmethod
    def from_phase_noise(
        cls,
        offset_hz: Sequence[float],
        level_dbc_hz: Sequence[float],
        *,
        carrier_hz: float,
        disciplined: bool = False,
    ) -> PowerLaw:
        """Non-negative coefficients nearest (in decibels' first order) to rows of a data sheet.

        The single-sideband level L and the spectrum are related by S_y(f) = 2·L(f)·f²/carrier². A disciplined
        oscillator has no random-walk term: its reference holds what the rows, from 1 Hz up, say nothing about.

        Raises
        ------
        ValueError
            If fewer than two rows are given.
        """
        from scipy.optimize import nnls

        frequency = np.asarray(offset_hz, dtype=float)
        if frequency.size < 2 or frequency.size != len(level_dbc_hz):
            raise ValueError("phase noise wants at least two rows of offset and level")
        target = 2.0 * 10.0 ** (np.asarray(level_dbc_hz, dtype=float) / 10.0) * (frequency / carrier_hz) ** 2
        columns = frequency[:, None] ** np.arange(-2, 3) / target[:, None]
        if disciplined:
            columns[:, 0] = 0.0
        scale = np.maximum(columns.max(axis=0), 1e-300)
        solution, _ = nnls(columns / scale, np.ones(frequency.size))
        return cls(*(float(value) for value in solution / scale))

    def spectrum(self, frequency_hz: FloatArray) -> FloatArray:
        """S_y at ``frequency_hz`` > 0, 1/Hz."""
        frequency = np.asarray(frequency_hz, dtype=float)
        terms = [h * frequency**power for h, power in zip(self.coefficients, range(-2, 3), strict=True)]
        return np.asarray(sum(terms), dtype=float)

    def phase_noise_dbc_hz(self, frequency_hz: FloatArray, *, carrier_hz: float) -> FloatArray:
        """Single-sideband phase noise at a carrier, dBc/Hz."""
        frequency = np.asarray(frequency_hz, dtype=float)
        return np.asarray(10 * np.log10(self.spectrum(frequency) * (carrier_hz / frequency) ** 2 / 2.0))

    def allan_deviation(self, tau_s: FloatArray, *, bandwidth_hz: float = GRID_HZ / 2) -> FloatArray:
        """Allan deviation that the spectrum implies, by integration up to ``bandwidth_hz``.

        sigma_y²(tau) = 2·∫ S_y(f)·sin⁴(π·tau·f)/(π·tau·f)² df  (IEEE Std 1139).
        """
        deviations = []
        for tau in np.atleast_1d(np.asarray(tau_s, dtype=float)):
            # Resolve every lobe of sin⁴ where it matters, then its mean 3/8 further out.
            turn = min(40.0 / tau, bandwidth_hz)
            low = np.linspace(1e-5 / tau, turn, 400_001)
            integrand = self.spectrum(low) * np.sin(np.pi * tau * low) ** 4 / (np.pi * tau * low) ** 2
            total = np.trapezoid(integrand, low)
            if turn < bandwidth_hz:
                high = np.geomspace(turn, bandwidth_hz, 20_001)
                total += np.trapezoid(self.spectrum(high) * 0.375 / (np.pi * tau * high) ** 2, high)
            deviations.append(np.sqrt(2.0 * total))
        return np.asarray(deviations)


_ROWS_HZ = (1.0, 10.0, 100.0, 1e3, 1e4)


@lru_cache(maxsize=1)
def _presets() -> dict[str, PowerLaw]:
    rows: dict[str, tuple[tuple[float, ...], float]] = {
        "tcxo": ((-65, -95, -120, -142, -152), 40e6),
        "cheap-tcxo": ((-50, -82, -110, -135, -148), 40e6),
        "ocxo": ((-85, -115, -138, -150, -155), 40e6),
        "gpsdo": ((-65, -102, -132, -148, -152), 10e6),  # B2x0's disciplined 10 MHz, UHD manual
    }
    return {
        name: PowerLaw.from_phase_noise(_ROWS_HZ, levels, carrier_hz=carrier, disciplined=name == "gpsdo")
        for name, (levels, carrier) in rows.items()
    }


PRESETS = ("tcxo", "cheap-tcxo", "ocxo", "gpsdo")
"""Names of typical oscillators, from phase noise at 1, 10, 100, 1k and 10k Hz as data sheets give it."""


def preset(name: str) -> PowerLaw:
    """Spectrum of a typical oscillator of `PRESETS`."""
    if name not in PRESETS:
        raise ValueError(f"unknown oscillator '{name}': one of {', '.join(PRESETS)}")
    return _presets()[name]


@lru_cache(maxsize=1)
def _flicker_bank() -> tuple[FloatArray, FloatArray]:
    """Poles and innovation variances of first-order processes on the grid that add up to S(f) = 1/f.

    Corners three quarters of a decade apart, and white noise, with weights fitted on the discrete spectrum (they
    come out positive): within 2 % up to 1 kHz and 12 % near the grid's own limit.
    """
    corners = 10.0 ** np.arange(-5.0, 3.3, 0.75)
    poles = np.concatenate([np.exp(-2 * np.pi * corners * _STEP_S), [0.0]])
    frequency = np.geomspace(1e-4, 0.4 * GRID_HZ, 400)
    angle = 2 * np.pi * frequency * _STEP_S
    response = 2 * _STEP_S / ((1 - poles) ** 2 + 4 * poles * np.sin(angle[:, None] / 2) ** 2)
    columns = response * frequency[:, None]
    scale = columns.max(axis=0)
    weights = np.linalg.lstsq(columns / scale, np.ones(frequency.size), rcond=None)[0]
    return poles, weights / scale


class _Bank:
    """First-order processes on the grid, with what is needed to fill a segment between its known ends.

    Conditioning uses Matheron's rule: an unconditioned path plus the covariance-weighted mismatch at its end is
    an exact draw of the path given the end.
    """

    def __init__(self, poles: FloatArray, variances: FloatArray, *, integrated: bool) -> None:
        keep = variances > 0
        self.poles = poles[keep]
        self.deviations = np.sqrt(variances[keep])
        self.integrated = integrated
        lag = np.arange(SEGMENT)
        impulse = self.poles[:, None] ** lag
        power = self.poles[:, None] ** (SEGMENT - np.arange(SEGMENT + 1))
        responses = [impulse]
        if integrated:
            running = _STEP_S * (np.cumsum(impulse, axis=1) - impulse)
            responses.append(running)
            gain = np.concatenate([running, running[:, -1:] + _STEP_S * impulse[:, -1:]], axis=1)
            self.end_integral = gain[:, -1]  # of a unit start value
            tail_integral = gain[:, ::-1]
        stacked = np.stack(responses, axis=-1) * self.deviations[:, None, None]
        outer = stacked[..., :, None] * stacked[..., None, :]
        covariance = np.concatenate([np.zeros_like(outer[:, :1]), np.cumsum(outer, axis=1)], axis=1)
        self.end_power = self.poles**SEGMENT
        end = covariance[:, -1]
        self.end_factor = np.linalg.cholesky(end) if len(self.poles) else end
        # Cov(state_i, state_end) = P_i · (A^(end-i))ᵀ, of which the output's row is kept.
        row = covariance[:, :, -1, :]
        if integrated:
            to_value = row[..., 0] * power
            to_integral = row[..., 0] * tail_integral + row[..., 1]
            cross = np.stack([to_value, to_integral], axis=-1)
        else:
            cross = row * power[..., None]
        self.correction = np.einsum("jia,jab->jib", cross, np.linalg.inv(end)) if len(self.poles) else cross

    def stationary(self, random: np.random.Generator) -> FloatArray:
        """Values at the start; a random walk starts at zero."""
        settled = self.poles < 1.0
        spread = np.where(settled, self.deviations / np.sqrt(np.where(settled, 1 - self.poles**2, 1.0)), 0.0)
        return np.asarray(spread * random.standard_normal(len(self.poles)))

    def advance(self, start: FloatArray, normals: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values at a segment's end, and their integrals over it."""
        noise = np.einsum("jab,jb->ja", self.end_factor, normals)
        value = self.end_power * start + noise[:, 0]
        integral = self.end_integral * start + noise[:, 1] if self.integrated else np.zeros_like(value)
        return value, integral

    def fill(self, start: FloatArray, end: FloatArray, integral: FloatArray, random: np.random.Generator) -> FloatArray:
        """Sum over the processes of the output at the segment's grid points, end left out."""
        from sim_backend.kernels import _first_order_paths

        innovations = random.standard_normal((len(self.poles), SEGMENT)) * self.deviations[:, None]
        total = np.zeros(SEGMENT)
        ends = np.zeros((len(self.poles), 2))
        _first_order_paths(self.poles, start, innovations, _STEP_S, self.integrated, total, ends)
        mismatch = np.stack([end - ends[:, 0], integral - ends[:, 1]], axis=1)
        if not self.integrated:
            mismatch = mismatch[:, :1]
        return np.asarray(total + np.einsum("jis,js->i", self.correction[:, :-1], mismatch))


@lru_cache(maxsize=16)
def _banks(law: PowerLaw) -> tuple[_Bank, _Bank]:
    """Frequency noise (integrated) and phase noise of a spectrum."""
    poles, weights = _flicker_bank()
    frequency = law.h_minus1 * weights
    frequency[-1] += law.h_0 / (2 * _STEP_S)
    phase = law.h_1 / (4 * np.pi**2) * weights
    phase[-1] += law.h_2 / (4 * np.pi**2) / (2 * _STEP_S)
    return (
        _Bank(np.append(poles, 1.0), np.append(frequency, 2 * np.pi**2 * _STEP_S * law.h_minus2), integrated=True),
        _Bank(poles, phase, integrated=False),
    )


class _Noise:
    """Time error of one realisation, x(t) in seconds, for any t ≥ 0 in any order of asking."""

    def __init__(self, law: PowerLaw, seed: int, name: str) -> None:
        self._frequency, self._phase = _banks(law)
        self._seed, self._name = seed, name
        start = generator(seed, name, "clock start")
        self._values = [self._frequency.stationary(start)]
        self._phases = [self._phase.stationary(start)]
        self._totals = [0.0]
        self._integrals: list[FloatArray] = []
        self._segments: dict[int, FloatArray] = {}

    def _extend(self, segments: int) -> None:
        """Draw the states at segment ends, in batches, until ``segments`` of them are known."""
        while len(self._integrals) < segments:
            batch = len(self._integrals) // _BATCH
            random = generator(self._seed, self._name, "clock ends", batch)
            frequency = random.standard_normal((_BATCH, len(self._frequency.poles), 2))
            phase = random.standard_normal((_BATCH, len(self._phase.poles), 1))
            for row in range(_BATCH):
                value, integral = self._frequency.advance(self._values[-1], frequency[row])
                self._values.append(value)
                self._integrals.append(integral)
                self._totals.append(self._totals[-1] + float(integral.sum()))
                self._phases.append(self._phase.advance(self._phases[-1], phase[row])[0])

    def _segment(self, index: int) -> FloatArray:
        if index not in self._segments:
            self._extend(index + 1)
            random = generator(self._seed, self._name, "clock", index)
            here, after = self._values[index], self._values[index + 1]
            values = self._totals[index] + self._frequency.fill(here, after, self._integrals[index], random)
            nothing = np.zeros(len(self._phase.poles))
            values += self._phase.fill(self._phases[index], self._phases[index + 1], nothing, random)
            if len(self._segments) >= _CACHED_SEGMENTS:
                del self._segments[next(iter(self._segments))]
            self._segments[index] = values
        return self._segments[index]

    def grid(self, first: int, count: int) -> FloatArray:
        """Grid values from index ``first``; before zero the value at zero holds."""
        if first < 0:
            known = self.grid(0, max(first + count, 1))
            return np.concatenate([np.full(min(-first, count), known[0]), known])[:count]
        last = first + count - 1
        pieces = [self._segment(index) for index in range(first // SEGMENT, last // SEGMENT + 1)]
        begin = first % SEGMENT
        return np.concatenate(pieces)[begin : begin + count]


class Clock:
    """A node's oscillator: s(t) = t + offset + ppm·t + drift·t²/2 + x(t), for true times t ≥ 0.

    The noise x is a cubic spline over its grid, hence twice continuously differentiable, and the same whenever
    and in whatever order it is asked for. Times are an exact rational anchor plus a small float, and the reading
    is an exact rational plus a small float, so that no second since the start costs a femtosecond.
    """

    def __init__(
        self,
        *,
        offset_ppm: float = 0.0,
        offset_s: float = 0.0,
        drift_ppm_per_s: float = 0.0,
        noise: PowerLaw | None = None,
        seed: int = 0,
        name: str = "clock",
    ) -> None:
        self.offset_s = Fraction(offset_s)
        self.rate_error = Fraction(offset_ppm) / 1_000_000
        self.drift_per_s = Fraction(drift_ppm_per_s) / 1_000_000
        if abs(self.rate_error) > Fraction(1, 1000):
            raise ValueError(f"a clock offset of {offset_ppm} ppm is not a clock; at most 1000 ppm")
        self._noise = _Noise(noise, seed, name) if noise is not None and any(noise.coefficients) else None

    def error_at(self, anchor: Fraction) -> Fraction:
        """Reading minus true time at ``anchor``, without the noise; exact."""
        return self.offset_s + self.rate_error * anchor + self.drift_per_s * anchor * anchor / 2

    def growth(self, anchor: Fraction, elapsed_s: FloatArray) -> FloatArray:
        """Reading minus true time at ``anchor + elapsed``, less `error_at` of the anchor; seconds."""
        elapsed = np.asarray(elapsed_s, dtype=float)
        rate = float(self.rate_error + self.drift_per_s * anchor)
        value = elapsed * (rate + 0.5 * float(self.drift_per_s) * elapsed)
        return value if self._noise is None else value + self._wander(anchor, elapsed)

    def _wander(self, anchor: Fraction, elapsed: FloatArray) -> FloatArray:
        from sim_backend.kernels import _spline

        assert self._noise is not None
        place = anchor * GRID_HZ
        whole = place.numerator // place.denominator
        position = np.ascontiguousarray(elapsed.ravel() * GRID_HZ + float(place - whole))
        first = int(np.floor(position.min())) - 3
        count = int(np.floor(position.max())) + 4 - first
        values = self._noise.grid(whole + first, count)
        # Coefficients whose cubic B-spline passes the values up to fourth order of the frequency.
        coefficients = np.empty_like(values)
        coefficients[1:-1] = (8.0 * values[1:-1] - values[:-2] - values[2:]) / 6.0
        coefficients[0], coefficients[-1] = values[0], values[-1]
        result = np.empty_like(position)
        _spline(coefficients, position - first, result)
        return result.reshape(elapsed.shape)

    def elapsed_at(self, anchor: Fraction, reading: FloatArray) -> FloatArray:
        """True time after ``anchor`` at which the clock has advanced by ``reading`` over its noiseless value there.

        The inverse of ``elapsed + growth(anchor, elapsed)``, by fixed point: each step gains four digits.
        """
        elapsed = np.asarray(reading, dtype=float)
        for _ in range(7):
            closer = reading - self.growth(anchor, elapsed)
            if np.array_equal(closer, elapsed):
                break
            elapsed = closer
        return np.asarray(elapsed)

    def reading(self, time: Fraction) -> Fraction:
        """What the clock reads at a true time, exact up to the noise's own double."""
        return time + self.error_at(time) + Fraction(float(self.growth(time, np.zeros(1))[0]))

    def time_at(self, reading: Fraction) -> Fraction:
        """True time at which the clock reads ``reading``.

        Raises
        ------
        ValueError
            If that is before the simulation's beginning.
        """
        guess = Fraction(float(reading - self.offset_s))
        for _ in range(6):
            missing = reading - self.reading(guess)
            # Beyond 1e-24 s digits are noise that would only lengthen the rational.
            guess = Fraction(round((guess + missing) * 2**80), 2**80)
            if abs(missing) < Fraction(1, 10**17):
                break
        if guess < 0:
            raise ValueError(f"the clock reads {float(reading):g} s only {-float(guess):g} s before the world begins")
        return guess
