"""Whether the two directions saw the same channel, and what to do where they did not quite.

Once the offsets are taken off, the directions' difference is noise if the channel is reciprocal. A scatterer that
moved between the slots, and too slowly for its Doppler to be resolved within them, leaves a path of its own in the
difference: it would pull the time offset by 300 ps at -20 dB in 16 MHz. Such paths are found one by one with a
likelihood-ratio test and fitted jointly with the time offset, whose deviation grows by what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi

import numpy as np
from scipy import fft

from dsp.channel import ComplexArray, FloatArray
from dsp.oscillator import phase_power
from dsp.synchronization.base import Observation, Offset
from dsp.synchronization.carrier_alias import ALIASED, two_way_alias
from dsp.synchronization.matched_product import NO_COMMON_CHANNEL, Residual, TwoWayLink, rises
from dsp.synchronization.slow_mover import turning_doubt_hz
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["NOT_RECIPROCAL", "NonReciprocal", "frequency_doubt_hz", "judged", "non_reciprocal_paths"]

NOT_RECIPROCAL = "the two directions do not see the same channel: paths not reciprocal or moved between the slots"

_FALSE_ALARM = 0.01  # per link; a path found in noise costs a little deviation, not the estimate
_LARGEST_COUNT = 6
_LARGEST_POWER = 0.1  # of the channel's: beyond, the linear fit about the common channel has no ground
_STATIC = 0.9
_NOISE_TOLERANCE = 1.5  # of the stated noise; below it, the median's own scatter
_PADDING = 4
_FEWEST_SYMBOLS = 12
_SLOW_SIGNIFICANCE = 20.0  # of six degrees of freedom: exceeded by noise in one of 200
_WANDER_SIGNIFICANCE = 5.3  # of its mean: two degrees of freedom, one cycle's, have nearly all; one of 200
_MODEL_GROWTH = 1.4  # of the deviation with a path fitted: one that turns while it is averaged is not quite a path
_SLOPE_OF_PATH = 0.15  # deviation of a slope, in cells, that a unit path at the worst distance and any phase causes


@dataclass(frozen=True)
class NonReciprocal:
    """Paths that one direction saw otherwise than the other, and their weight on the time offset."""

    delays_s: FloatArray
    """Delay of each path in the aligned channel's own delay origin."""
    amplitudes: ComplexArray
    """Difference of the directions, relative to the root mean square of the channel."""
    to_correction_s: float
    """What the joint fit adds to the time offset."""
    deviation_factor: float
    """Growth of the time offset's deviation by the paths fitted with it."""
    noise_ratio: float
    """Noise seen over noise stated."""
    plain_std_s: float
    """Deviation of the averaged channel's fit without paths."""
    static_part: float
    """Power that the average over the slot keeps."""
    exhausted: bool
    """More paths than can be fitted."""

    @property
    def power(self) -> float:
        """Of the paths, of the channel's."""
        return float(np.sum(np.abs(self.amplitudes) ** 2))

    @property
    def reciprocal(self) -> bool:
        """Whether the directions see one channel, but for weak paths that the fit takes in."""
        return not self.exhausted and self.power <= _LARGEST_POWER


def judged(
    offset: Offset, link: TwoWayLink, residual: Residual, observation: Observation, *, correct: bool = False
) -> Offset:
    """Offset with its reciprocity tested: deviations widened, or invalid with the reason.

    With ``correct`` the time offset is replaced by the joint fit's where the channel stands still over the slot;
    otherwise its deviation takes in the difference.
    """
    if not offset.valid or offset.to_s is None or offset.to_std_s is None or offset.cfo_std_hz is None:
        return offset
    if not rises(link, residual):
        return replace(offset, valid=False, reason=NO_COMMON_CHANNEL)
    if two_way_alias(link, residual):
        return replace(offset, valid=False, reason=ALIASED)
    seen = non_reciprocal_paths(link, residual)
    power = seen.power
    details = offset.details | {"non_reciprocal_paths": len(seen.delays_s), "non_reciprocal_power": power}
    if not seen.reciprocal:
        return replace(offset, valid=False, reason=NOT_RECIPROCAL, details=details)
    reasons = []
    growth = np.sqrt(seen.noise_ratio) if seen.noise_ratio > _NOISE_TOLERANCE else 1.0
    if growth > 1.0:
        reasons.append("more noise than stated: deviations widened")
    to_s = offset.to_s
    to_extra_s = residual.to_std_s * np.sqrt(growth**2 - 1.0)
    cfo_extra_hz = residual.cfo_std_hz * np.sqrt(growth**2 - 1.0)
    cfo_extra_hz = float(np.hypot(cfo_extra_hz, frequency_doubt_hz(link, residual, seen, observation)))
    if len(seen.delays_s):
        reasons.append("a path changed between the slots: deviations widened")
        joint_s = _MODEL_GROWTH * growth * max(residual.to_std_s, seen.plain_std_s) * seen.deviation_factor
        to_extra_s = np.sqrt(max(joint_s**2 - residual.to_std_s**2, 0.0))
        if not correct or seen.static_part < _STATIC:
            to_extra_s = np.hypot(to_extra_s, seen.to_correction_s)
    # A channel that keeps its power in the slot's average is better fitted there: what moves has gone from it. One
    # that loses it is not, and a path found by chance must not throw away what the product knows.
    if correct and seen.static_part >= _STATIC:
        to_s += seen.to_correction_s
    return replace(
        offset,
        to_s=to_s,
        to_std_s=float(np.hypot(offset.to_std_s, to_extra_s)),
        cfo_std_hz=float(np.hypot(offset.cfo_std_hz, cfo_extra_hz)),
        reason="; ".join(reasons),
        details=details,
    )


def frequency_doubt_hz(link: TwoWayLink, residual: Residual, seen: NonReciprocal, observation: Observation) -> float:
    """What slow undulations of the common phase, and paths that turned or changed, add to the frequency's deviation."""
    doubt_hz = float(np.hypot(_slow_phase_deviation(link, residual, observation), _turning_deviation(link, residual)))
    if not len(seen.delays_s):
        return doubt_hz
    span_s = float(np.ptp(link.symbol_s)) * len(link.symbol_s) / max(len(link.symbol_s) - 1, 1)
    return float(np.hypot(doubt_hz, _SLOPE_OF_PATH * np.sqrt(seen.power) / max(span_s, 1e-12)))


def non_reciprocal_paths(link: TwoWayLink, residual: Residual) -> NonReciprocal:
    """Paths in the difference of the aligned directions, averaged over the slot.

    Average, because what matters to the time offset is what stays in the sum over symbols: a path whose
    Doppler the slot resolves has gone from both. The common phase is taken off each frame first.

    The difference is modelled as complex gain times h, time offset times -j4πf·h, and paths exp(-j2πf·tau);
    each next path is the delay of greatest likelihood ratio given the model so far, at a false-alarm rate of one
    percent per link against the noise found as the median over delays.
    """
    to_s = residual.to_s
    delays: list[float] = []
    correction_s = 0.0
    noise_ratio = 1.0
    exhausted = False
    difference = _difference(link, residual, to_s)
    plain_variance = _Fit(difference, []).to_variance
    while True:
        fit = _Fit(difference, delays)
        statistic, grid_s = fit.likelihood_ratio()
        noise_ratio = float(np.median(statistic)) / (2.0 * log(2.0))
        threshold = 2.0 * log(len(statistic) / _PADDING * 2.0 / _FALSE_ALARM) * max(noise_ratio, 1.0)
        if float(statistic.max()) < threshold:
            break
        if len(delays) == _LARGEST_COUNT:
            exhausted = True
            break
        delays.append(fit.refined(float(grid_s[int(np.argmax(statistic))])))
        for number in range(len(delays)) if len(delays) > 1 else ():
            others = delays[:number] + delays[number + 1 :]
            delays[number] = _Fit(difference, others).refined(delays[number])
        correction_s += _Fit(difference, delays).to_correction_s
        difference = _difference(link, residual, residual.to_s + correction_s)
    fit = _Fit(difference, delays)
    correction_s += fit.to_correction_s
    return NonReciprocal(
        delays_s=np.array(delays),
        amplitudes=fit.amplitudes,
        to_correction_s=correction_s,
        deviation_factor=float(np.sqrt(max(fit.to_variance / plain_variance, 1.0))),
        noise_ratio=noise_ratio,
        plain_std_s=float(np.sqrt(plain_variance)),
        static_part=float(np.mean(np.abs(difference.channel) ** 2 - 0.5 / difference.information)),
        exhausted=exhausted,
    )


@dataclass(frozen=True)
class _Difference:
    values: ComplexArray
    """Forward minus reverse, averaged over symbols, shape (subcarrier,)."""
    channel: ComplexArray
    information: FloatArray
    """Inverse noise variance of each value, times two: that of its real and imaginary part."""
    subcarrier_hz: FloatArray
    steps: np.ndarray[tuple[int], np.dtype[np.intp]]
    window_s: tuple[float, float]


def _difference(link: TwoWayLink, residual: Residual, to_s: float) -> _Difference:
    weights = link.weights
    f = link.subcarrier_hz
    aligned = link.derotated(link.forward, to_s, residual.cfo_hz)
    for block in frame_blocks(link.frame_of_symbol):  # slow phase wander between frames must not dim the average
        aligned[block] *= np.exp(-1j * np.angle(np.sum((weights * aligned * np.conj(link.reverse))[block])))
    sums = weights.sum(axis=0)
    known = sums > 0.0
    difference = np.sum(weights * (aligned - link.reverse), axis=0)[known] / sums[known]
    channel = 0.5 * np.sum(weights * (aligned + link.reverse), axis=0)[known] / sums[known]
    frequencies = f[known]
    spacing = float(np.min(np.diff(frequencies)))
    lag = np.angle(np.sum(channel[1:] * np.conj(channel[:-1])))
    centre_s, half_s = -lag / (2.0 * pi * spacing), 0.22 / spacing
    return _Difference(
        values=difference,
        channel=channel,
        information=2.0 * sums[known],
        subcarrier_hz=frequencies,
        steps=grid_steps(frequencies),
        window_s=(centre_s - half_s, centre_s + half_s),
    )


def _slow_phase_deviation(link: TwoWayLink, residual: Residual, observation: Observation) -> float:
    """Deviation of the frequency offset that slow undulations of the common phase, as seen, would cause.

    A mover that the slot resolves poorly, or phase noise, bends the phase over the slot in ways that a slope
    partly takes up. The power at one to three cycles per slot, beyond that of the quicker ones, tells how much. Of
    that the clocks' own wander is no error: it bends the offset itself, whose slope over the slot is what is asked
    for. In a slot of many frames it is the greater part.
    """
    t = link.symbol_s
    if len(t) < _FEWEST_SYMBOLS:
        return 0.0
    sums = np.sum(link.derotated(link.product, residual.to_s, residual.cfo_hz), axis=1)
    phase = np.angle(sums * np.conj(sums.sum()))
    span_s = float(np.ptp(t)) * len(t) / (len(t) - 1)
    cycles = 2.0 * pi * np.outer(t / span_s, [1.0, 2.0, 3.0])
    columns = np.column_stack([np.ones_like(t), t / span_s, np.cos(cycles), np.sin(cycles)])
    basis = np.linalg.qr(columns)[0]
    slow = basis[:, 2:].T @ phase
    quick = phase - basis @ (basis.T @ phase)
    noise = float(np.sum(quick**2)) / (len(t) - columns.shape[1])
    clocks = phase_power(
        observation.oscillators,
        basis[:, 2:],
        t,
        carrier_hz=link.carrier_hz,
        separation_s=observation.separation_s,
    )
    limit = _SLOW_SIGNIFICANCE * noise + _WANDER_SIGNIFICANCE * clocks
    excess = max(float(np.sum(slow**2)) - limit, 0.0)
    return _SLOPE_OF_PATH * float(np.sqrt(2.0 * excess / len(t))) / span_s


def _turning_deviation(link: TwoWayLink, residual: Residual) -> float:
    """Deviation of the frequency offset by paths that turn within the slot otherwise in one direction than the other.

    What a slow mover adds to the path whose cell it is in turns that path in each direction by another amount; the
    offset takes half the difference, by the path's share of the power.
    """
    weights, t = link.weights, link.symbol_s
    if len(frame_blocks(link.frame_of_symbol)) > 1 or len(t) < _FEWEST_SYMBOLS:
        return 0.0  # over many frames the clocks' own wander turns more
    aligned = link.derotated(link.forward, residual.to_s, residual.cfo_hz)
    aligned *= np.exp(-1j * np.angle(np.sum(weights * aligned * np.conj(link.reverse))))
    sums = weights.sum(axis=0)
    known = sums > 0.0
    weights, time = weights[:, known], t - t.mean()
    apart, channel = (aligned - link.reverse)[:, known], 0.5 * (aligned + link.reverse)[:, known]
    scene = np.sum(weights * channel, axis=0) / sums[known]
    moment = np.sum(weights * time[:, None] * (apart - np.sum(weights * apart, axis=0) / sums[known]), axis=0)
    spread = np.sum(weights * time[:, None] ** 2, axis=0)
    power = float(np.count_nonzero(known))  # the directions are scaled to unit power
    return 0.5 * turning_doubt_hz(
        scene[None], moment[None], spread, link.subcarrier_hz[known], power=power, longest_s=float(np.ptp(t))
    )


class _Fit:
    """Weighted least squares of the difference on gain, time offset and the paths found so far."""

    def __init__(self, difference: _Difference, delays_s: list[float]) -> None:
        self._difference = difference
        f, h = difference.subcarrier_hz, difference.channel
        columns = [h, 1j * h, -4j * pi * f * h]
        for delay_s in delays_s:
            path = np.exp(-2j * pi * f * delay_s)
            columns += [path, 1j * path]
        root = np.sqrt(difference.information)
        matrix = _stacked(np.stack(columns, axis=1) * root[:, None])
        scale = np.linalg.norm(matrix, axis=0)
        basis, triangle = np.linalg.qr(matrix / scale)
        target = _stacked(difference.values * root)
        coordinates = basis.T @ target
        solution = np.linalg.solve(triangle, coordinates) / scale
        inverse = np.linalg.inv(triangle)
        self.to_correction_s = float(solution[2])
        self.to_variance = float(np.sum(inverse[2] ** 2)) / float(scale[2]) ** 2
        level = float(np.sqrt(np.mean(np.abs(h) ** 2)))
        self.amplitudes: ComplexArray = (solution[3::2] + 1j * solution[4::2]) / level
        half = len(f)
        left = target - basis @ coordinates
        self._left = left[:half] + 1j * left[half:]
        self._basis = basis[:half] + 1j * basis[half:]
        self._root = root

    def likelihood_ratio(self) -> tuple[FloatArray, FloatArray]:
        """Twice the log-likelihood gained by one more path, over a grid of delays in the window."""
        difference = self._difference
        spacing = float(np.min(np.diff(difference.subcarrier_hz)))
        size = fft.next_fast_len(_PADDING * int(difference.steps[-1] + 1))
        padded = np.zeros((size, 1 + self._basis.shape[1]), dtype=np.complex128)
        padded[difference.steps] = np.column_stack([self._left, self._basis]) * self._root[:, None]
        grid_s = fft.fftfreq(size, spacing)
        centre_s = 0.5 * sum(difference.window_s)
        grid_s = grid_s + np.rint((centre_s - grid_s) * spacing) / spacing
        inside = (grid_s >= difference.window_s[0]) & (grid_s <= difference.window_s[1])
        grid_s = grid_s[inside]
        sums = size * fft.ifft(padded, axis=0)[inside]
        sums *= np.exp(2j * pi * difference.subcarrier_hz[0] * grid_s)[:, None]
        return self._gain(sums), grid_s

    def refined(self, delay_s: float) -> float:
        """Delay of greatest likelihood ratio near the given one, to a part in 128 of 1/B."""
        f = self._difference.subcarrier_hz
        cell_s = 1.0 / float(np.ptp(f))
        columns = np.column_stack([self._left, self._basis]) * self._root[:, None]
        for reach in (0.25, 1 / 32):
            trials = delay_s + np.linspace(-reach, reach, 17) * cell_s
            sums = np.exp(2j * pi * np.outer(trials, f)) @ columns
            delay_s = float(trials[int(np.argmax(self._gain(sums)))])
        return delay_s

    def _gain(self, sums: ComplexArray) -> FloatArray:
        """Energy of the remainder that a path explains beyond the present model; sums over (delay, column)."""
        left, onto = sums[:, 0], sums[:, 1:]
        total = float(np.sum(self._difference.information))
        real = total - np.sum(onto.real**2, axis=1)
        imaginary = total - np.sum(onto.imag**2, axis=1)
        mixed = -np.sum(onto.real * onto.imag, axis=1)
        determinant = real * imaginary - mixed**2
        energy = imaginary * left.real**2 - 2.0 * mixed * left.real * left.imag + real * left.imag**2
        usable = determinant > 1e-9 * total**2
        gain: FloatArray = np.divide(energy, determinant, out=np.zeros_like(energy), where=usable)
        return gain


def _stacked(values: ComplexArray) -> FloatArray:
    stacked: FloatArray = np.concatenate([values.real, values.imag])
    return stacked
