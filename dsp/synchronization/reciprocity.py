"""Offset reciprocity on the matched product: maximum likelihood and matrix pencil."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse.linalg import eigsh

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.matched_product import Residual, TwoWayLink, two_way_link, two_way_offset
from dsp.synchronization.reciprocity_check import judged
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["ReciprocityMLE", "ReciprocityPencil", "likelihood_residual", "pencil_residual"]

_PADDING = 4  # by two, 4 to 8 % of the trials end in a wrong cell at every SNR
_TIE = 0.85  # of the greatest power: what the padded grid may lose between its points
_FRINGE_PADDING = 32  # short frames far apart make fringes nearly alike: the grid must not decide between them
_COUPLING_SMALL_RAD = 1e-2
_COUPLING_FLOOR_RAD = 1e-5  # phase below which the product of frequency and time is left out of the rotation
_NEWTON_STEPS = 30
_PENCIL_ROUNDS = 3
_PENCIL_INFLATION = 1.06  # of one pole and a pencil of a third on an even envelope, as that of the symbols is

_NEEDS = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})


@dataclass(frozen=True)
class ReciprocityMLE:
    """Two-way offset by maximum likelihood for an unknown channel common to both directions.

    Maximises |Σ w·P·exp(+j4πf·u)·exp(-j4πt·v(1 + f/fc))| over the matched product P: coarsely on a four times
    padded delay-Doppler grid, then by Newton's method in both offsets. Exact for any number of paths, because
    the scene's phases cancel in P.

    The deviation stated is the bound for the channel seen, times the product's factor √(1 + 1/(2·SNR)).
    Invalid where a departure is unknown, where the ports are separate, or where the two directions differ by
    more than noise in a way that cannot be modelled (`judged`).

    Source: methods section 3.6, the project's derivation; survey equations 34 and 35.
    """

    name: str = "reciprocity-mle"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter.

        Raises
        ------
        MissingInputError
            If there is no reverse link.
        ValueError
            If the directions share no frame or subcarrier, or hold no signal.
        """
        require(observation, self.needs)
        link = two_way_link(observation)
        residual = likelihood_residual(link)
        return judged(two_way_offset(link, residual, observation), link, residual, observation, correct=True)


@dataclass(frozen=True)
class ReciprocityPencil:
    """Two-way offset by a one-pole matrix pencil on the derotated matched product.

    The product is summed over symbols after removal of the frequency offset found so far; its Hankel matrix has a
    real envelope times one exponential, whose pole is the dominant singular vector's shift. Then the same
    over symbols, and so on for three rounds. The pencil is a third of the samples, where one pole has the
    least variance: 1.06 times the bound in deviation, against 1.15 at a half.

    Source: methods section 3.6 (SOE-MP, derotated); Hua and Sarkar 1990 for the pencil's variance.
    """

    name: str = "reciprocity-mp"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `ReciprocityMLE.estimate`."""
        require(observation, self.needs)
        link = two_way_link(observation)
        residual = pencil_residual(link)
        return judged(two_way_offset(link, residual, observation), link, residual, observation)


def likelihood_residual(link: TwoWayLink) -> Residual:
    """Residual offsets of greatest likelihood, with the deviation the bound gives for the channel seen."""
    product = link.product
    to_s, cfo_hz = _coarse(product, link)
    to_s, cfo_hz = _newton(product, link, to_s, cfo_hz)
    return _with_deviation(product, link, to_s, cfo_hz, inflation=1.0)


def pencil_residual(link: TwoWayLink) -> Residual:
    """Residual offsets by alternating one-pole pencils over subcarriers and symbols."""
    product = link.product
    to_s, cfo_hz = _coarse(product, link)
    steps = grid_steps(link.subcarrier_hz)
    spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
    blocks = frame_blocks(link.frame_of_symbol)
    for _ in range(_PENCIL_ROUNDS):
        over_symbols = _rotated(product, link, to_s, cfo_hz).sum(axis=0)
        to_s -= _pole_angle([_filled(over_symbols, steps)]) / (4.0 * pi * spacing_hz)
        over_subcarriers = _rotated(product, link, to_s, cfo_hz).sum(axis=1)
        cfo_hz += _symbol_pole(over_subcarriers, link.symbol_s, blocks)
    residual = _with_deviation(product, link, to_s, cfo_hz, inflation=_PENCIL_INFLATION)
    envelope = np.abs(_rotated(product, link, to_s, cfo_hz).sum(axis=0))
    variance = envelope + _noise_power(link).sum(axis=0)
    angle_std = _pole_angle_std(envelope, variance, steps)
    return replace(residual, to_std_s=max(residual.to_std_s, angle_std / (4.0 * pi * spacing_hz)))


def _rotated(product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float) -> ComplexArray:
    """Product with the given offsets taken off."""
    over_frequency = np.exp(4j * pi * to_s * link.subcarrier_hz)
    over_time = np.exp(-4j * pi * cfo_hz * link.symbol_s)
    rotated: ComplexArray = product * over_time[:, None] * over_frequency
    slope = -4.0 * pi * cfo_hz / link.carrier_hz
    largest = abs(slope) * np.abs(link.symbol_s).max() * np.abs(link.subcarrier_hz).max()
    if largest > _COUPLING_SMALL_RAD:
        rotated *= np.exp(1j * slope * np.outer(link.symbol_s, link.subcarrier_hz))
    elif largest > _COUPLING_FLOOR_RAD:  # second order suffices, to 2e-7
        turn = slope * np.outer(link.symbol_s, link.subcarrier_hz)
        rotated *= (1.0 - 0.5 * turn**2) + 1j * turn
    return rotated


def _coarse(product: ComplexArray, link: TwoWayLink) -> tuple[float, float]:
    """Cell of the padded grid with the greatest power, frames added incoherently, then frames joined coherently."""
    steps = grid_steps(link.subcarrier_hz)
    spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
    columns = fft.next_fast_len(_PADDING * int(steps[-1] + 1))
    blocks = frame_blocks(link.frame_of_symbol)
    symbol_steps = [grid_steps(link.symbol_s[block]) for block in blocks]
    rows = fft.next_fast_len(_PADDING * int(max(step[-1] for step in symbol_steps) + 1))
    single = min(len(block) for block in blocks) < 2
    spacing_s = 1.0 if single else float(min(np.min(np.diff(link.symbol_s[block])) for block in blocks))
    power: FloatArray = np.zeros((rows, columns), dtype=np.float32)
    for block, symbol_step in zip(blocks, symbol_steps, strict=True):
        padded = np.zeros((int(symbol_step[-1]) + 1, columns), dtype=np.complex64)
        padded[np.ix_(symbol_step, steps)] = product[block]
        spectrum = fft.fft(fft.ifft(padded, axis=1, overwrite_x=True), n=rows, axis=0)
        power += spectrum.real**2 + spectrum.imag**2
    # Staggered pilots repeat the peak at offsets far from the references: of equal peaks the nearest is meant.
    row, column = np.nonzero(power >= _TIE * power.max())
    row, column = row - rows * (row >= (rows + 1) // 2), column - columns * (column >= (columns + 1) // 2)
    nearest = int(np.argmin((row / rows) ** 2 + (column / columns) ** 2))
    to_s = float(column[nearest]) / (2.0 * columns * spacing_hz)
    cfo_hz = float(row[nearest]) / (2.0 * rows * spacing_s)
    if len(blocks) > 1:
        cell_s, cell_hz = 0.5 / (columns * spacing_hz), 0.5 / (rows * spacing_s)
        to_s, cfo_hz = _frames_joined(product, link, to_s, cfo_hz, cell_s, cell_hz)
    return to_s, cfo_hz


def _frames_joined(
    product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float, cell_s: float, cell_hz: float
) -> tuple[float, float]:
    """Greatest coherent sum over all frames about a cell that one frame's resolution found."""
    span_s = float(np.ptp(link.symbol_s))
    reach_hz = 4.0 * cell_hz
    count = 2 * int(np.ceil(reach_hz * 2.0 * _FRINGE_PADDING * span_s)) + 1
    trial_hz = np.linspace(-reach_hz, reach_hz, count)
    turns = np.exp(-4j * pi * np.outer(trial_hz, link.symbol_s))
    best = (-1.0, to_s, cfo_hz)
    for shift in (-1.0, 0.0, 1.0):
        sums = np.abs(turns @ _rotated(product, link, to_s + shift * cell_s, cfo_hz).sum(axis=1))
        peak = int(np.argmax(sums))
        best = max(best, (float(sums[peak]), to_s + shift * cell_s, cfo_hz + float(trial_hz[peak])))
    return best[1], best[2]


def _moments(rotated: ComplexArray, link: TwoWayLink) -> tuple[complex, ComplexArray, ComplexArray]:
    """Sum of the rotated product, and its first and second moments in the two derivatives of the phase."""
    f, t = link.subcarrier_hz, link.symbol_s
    stretch = 1.0 + f / link.carrier_hz
    powers = np.stack([np.ones_like(t), t, t * t]) @ rotated
    first = np.array([4.0 * pi * (powers[0] @ f), -4.0 * pi * (powers[1] @ stretch)])
    cross = -16.0 * pi**2 * (powers[1] @ (f * stretch))
    second = np.array([[16.0 * pi**2 * (powers[0] @ f**2), cross], [cross, 16.0 * pi**2 * (powers[2] @ stretch**2)]])
    return complex(powers[0].sum()), first, second


def _newton(product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float) -> tuple[float, float]:
    """Local maximum of the coherent sum's magnitude; a step that would lower it is halved."""
    point = np.array([to_s, cfo_hz])
    if float(np.ptp(link.symbol_s)) == 0.0:
        point[1] = 0.0
    total, first, second = _moments(_rotated(product, link, *point), link)
    for _ in range(_NEWTON_STEPS):
        information, gradient = _curvature(total, first, second)
        scale = np.sqrt(np.maximum(np.diag(np.abs(information)), 1e-300))
        scaled = information / np.outer(scale, scale)
        eigenvalues, eigenvectors = np.linalg.eigh(scaled)
        step = eigenvectors @ ((eigenvectors.T @ (gradient / scale)) / np.maximum(np.abs(eigenvalues), 1e-9)) / scale
        for _ in range(30):
            trial = _moments(_rotated(product, link, *(point + step)), link)
            if abs(trial[0]) >= abs(total):
                break
            step = 0.5 * step
        else:
            break
        point = point + step
        total, first, second = trial
        if np.all(np.abs(step) * scale < 1e-9 * np.sqrt(abs(total))):
            break
    return float(point[0]), float(point[1])


def _curvature(total: complex, first: ComplexArray, second: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """Negative Hessian and gradient of |sum|: the phase common to all elements is eliminated by it."""
    turn = np.conj(total) / abs(total)
    mean = (first * turn).real
    information = (second * turn).real - np.outer(mean, mean) / abs(total)
    return information, -(first * turn).imag


def _with_deviation(
    product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float, *, inflation: float
) -> Residual:
    """Residual with the deviation that noise gives it: J⁻¹VJ⁻¹, V the score's variance with noise times noise."""
    rotated = _rotated(product, link, to_s, cfo_hz)
    total, first, second = _moments(rotated, link)
    information, _ = _curvature(total, first, second)
    noise_total, noise_first, noise_second = _moments(_noise_power(link).astype(np.complex128), link)
    noise_mean = noise_first.real / max(abs(noise_total), 1e-300)
    mean = (first * np.conj(total) / abs(total)).real / abs(total)
    shift = mean - noise_mean
    noise_information = noise_second.real - abs(noise_total) * np.outer(noise_mean, noise_mean)
    noise_information = noise_information + abs(noise_total) * np.outer(shift, shift)
    moving = np.array([True, float(np.ptp(link.symbol_s)) > 0.0])
    deviation = np.zeros(2)
    inverse = np.linalg.inv(information[np.ix_(moving, moving)])
    spread = (information + noise_information)[np.ix_(moving, moving)]
    deviation[moving] = np.sqrt(np.maximum(np.diag(inverse @ spread @ inverse) / 2.0, 0.0))
    phase_variance = (abs(total) + abs(noise_total)) / (2.0 * abs(total) ** 2)
    return Residual(
        to_s=to_s,
        cfo_hz=cfo_hz,
        phase_rad=0.5 * float(np.angle(total)),
        to_std_s=inflation * float(deviation[0]),
        cfo_std_hz=inflation * float(deviation[1]),
        phase_std_rad=0.5 * float(np.sqrt(phase_variance)),
    )


def _noise_power(link: TwoWayLink) -> FloatArray:
    """Variance of each element of the weighted product that noise times noise makes."""
    with np.errstate(invalid="ignore"):
        noise = link.forward_variance * link.reverse_variance * link.weights**2
    return np.where(np.isfinite(noise), noise, 0.0)


def _filled(samples: ComplexArray, steps: NDArray[np.intp]) -> ComplexArray:
    """Samples on their uniform grid; holes bridged in a straight line, for which the derotation has made them slow."""
    grid = np.arange(steps[-1] + 1)
    if len(grid) == len(samples):
        return samples
    filled: ComplexArray = np.interp(grid, steps, samples.real) + 1j * np.interp(grid, steps, samples.imag)
    return filled


def _pole_angle(runs: list[ComplexArray]) -> float:
    """Angle per step of the one pole common to all uniform runs of samples."""
    columns = max(2, min(len(run) for run in runs) // 3 + 1)
    hankel = np.concatenate([np.lib.stride_tricks.sliding_window_view(run, columns) for run in runs])
    vector = np.conj(_dominant(hankel.conj().T @ hankel)[1])
    return float(np.angle(np.vdot(vector[:-1], vector[1:])))


def _dominant(gram: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Greatest eigenvalue of a Hermitian matrix, and its eigenvector."""
    scale = max(float(np.trace(gram).real), 1e-300)
    if len(gram) < 12:
        levels, vectors = np.linalg.eigh(gram / scale)
    else:
        levels, vectors = eigsh(gram / scale, k=1, v0=np.ones(len(gram), dtype=gram.dtype), tol=1e-10)
    return scale * float(levels[-1]), vectors[:, -1]


def _pole_angle_std(envelope: FloatArray, variance: FloatArray, steps: NDArray[np.intp]) -> float:
    """Deviation of `_pole_angle` for a real envelope in noise of that variance, to first order.

    A disturbance n turns the dominant singular vector u of the Hankel matrix X by (λ₁ - XᵀX)⁺(nᵀX + Xᵀn)u, and the
    pole by its part along u's difference between neighbours: a linear form of n's imaginary part. Where fringes of
    multipath hollow the envelope this exceeds the bound by far more than on an even one.
    """
    filled = _filled(envelope.astype(np.complex128), steps).real
    columns = max(2, len(filled) // 3 + 1)
    hankel = np.lib.stride_tricks.sliding_window_view(filled, columns)
    gram = hankel.T @ hankel
    level, dominant = _dominant(gram)
    beside = np.concatenate([[0.0], dominant[:-1]]) - np.concatenate([dominant[1:], [0.0]])
    # what is added along u makes the difference regular, and takes no part: beside is across u
    regular = level * (np.eye(columns) + np.outer(dominant, dominant)) - gram
    turn = np.linalg.solve(regular, beside - dominant * float(dominant @ beside))
    form = np.convolve(hankel @ turn, dominant) - np.convolve(hankel @ dominant, turn)
    form /= float(dominant[:-1] @ dominant[1:])
    kept = form[steps]
    holes = np.setdiff1d(np.arange(len(filled)), steps)
    after = np.searchsorted(steps, holes)
    share = (holes - steps[after - 1]) / (steps[after] - steps[after - 1])
    np.add.at(kept, after - 1, (1.0 - share) * form[holes])
    np.add.at(kept, after, share * form[holes])
    return float(np.sqrt(0.5 * np.sum(kept**2 * variance)))


def _symbol_pole(samples: ComplexArray, symbol_s: FloatArray, blocks: list[NDArray[np.intp]]) -> float:
    """Frequency offset left in the samples: the pole within frames, then the phase slope between frames."""
    if len(samples) < 2:
        return 0.0
    spacing_s = float(np.min(np.diff(symbol_s)))
    runs = [_filled(samples[block], grid_steps(symbol_s[block])) for block in blocks]
    cfo_hz = _pole_angle(runs) / (4.0 * pi * spacing_s)
    if len(blocks) == 1:
        return cfo_hz
    turned = samples * np.exp(-4j * pi * cfo_hz * symbol_s)
    sums = np.array([turned[block].sum() for block in blocks])
    times = np.array([symbol_s[block].mean() for block in blocks])
    phases = np.unwrap(np.angle(sums))
    weights = np.abs(sums)
    centred = times - np.average(times, weights=weights)
    slope = np.sum(weights * centred * phases) / np.sum(weights * centred**2)
    return cfo_hz + float(slope) / (4.0 * pi)
