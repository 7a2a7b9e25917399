"""Offset reciprocity on the matched product: maximum likelihood and matrix pencil."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh

from dsp.channel import ComplexArray, FloatArray
from dsp.matrix_pencil import dominant_vectors
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.matched_product import Residual, TwoWayLink, two_way_link, two_way_offset
from dsp.synchronization.product_grid import greatest_cell
from dsp.synchronization.reciprocity_check import judged
from dsp.synchronization.symbol_grid import frame_blocks, grid_steps

__all__ = ["ReciprocityMLE", "ReciprocityPencil", "greatest_likelihood", "likelihood_residual", "pencil_residual"]

_FRINGE_PADDING = 32  # short frames far apart make fringes nearly alike: the grid must not decide between them
_MOST_TERMS = 20  # of a series that takes the place of exponentials: up to 3 rad
_NEARBY_RAD = 0.6  # phase at the band's edge within which Newton's method moves from a quarter of a cell
_NEWTON_STEPS = 30
_LONG_RUN = 256  # samples from which on the Hankel matrix is not formed
_POLE_SETTLED = 1e-16  # of the vector's square that a round of iteration may still move
_PENCIL_ROUNDS = 3
_FINISHING_ROUNDS = 2  # what moves couples the two offsets a little

_NEEDS = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})


@dataclass(frozen=True)
class ReciprocityMLE:
    """Two-way offset by maximum likelihood for an unknown channel common to both directions.

    Maximises |Σ w·P·exp(+j4πf·u)·exp(-j4πt·v(1 + f/fc))| over the matched product P: coarsely about the peaks of a
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
    least variance.

    A pole counts every sample of the singular vector alike, whatever its power: on the fringes of few strong paths it
    has 1.3 to 1.5 times the bound. Each decoupled series is therefore finished by one weighted least-squares step of
    its phase about the pole found, by which any estimate that is near enough becomes one of the bound's variance.

    Source: methods section 3.6 (SOE-MP, derotated); Hua and Sarkar 1990 for the pencil, Le Cam 1956 for the step;
    docs/methods/reciprocity.md eq. 6.
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
    to_s, cfo_hz = greatest_likelihood(product, link)
    return _with_deviation(product, link, to_s, cfo_hz)


def greatest_likelihood(product: ComplexArray, link: TwoWayLink) -> tuple[float, float]:
    """Residual time and frequency offset at which the weighted product's coherent sum is greatest."""
    return _newton(product, link, *_coarse(product, link))


def pencil_residual(link: TwoWayLink) -> Residual:
    """Residual offsets by alternating one-pole pencils over subcarriers and symbols."""
    product = link.product
    to_s, cfo_hz = _coarse(product, link)
    steps = grid_steps(link.subcarrier_hz)
    spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
    blocks = frame_blocks(link.frame_of_symbol)
    for _ in range(_PENCIL_ROUNDS):
        over_symbols = link.derotated(product, to_s, cfo_hz).sum(axis=0)
        to_s -= _pole_angle([_filled(over_symbols, steps)]) / (4.0 * pi * spacing_hz)
        over_subcarriers = _symbol_sums(product, link, to_s, cfo_hz)
        cfo_hz += _symbol_pole(over_subcarriers, link.symbol_s, blocks)
    for _ in range(_FINISHING_ROUNDS):
        to_s += _slope_left(link.derotated(product, to_s, cfo_hz).sum(axis=0), link.subcarrier_hz)
        cfo_hz -= _slope_left(_symbol_sums(product, link, to_s, cfo_hz), link.symbol_s)
    return _with_deviation(product, link, to_s, cfo_hz)


def _slope_left(samples: ComplexArray, axis: FloatArray) -> float:
    """Time or frequency offset left in a decoupled series: its phase's slope over ``axis``, weighted by its samples.

    Near the maximum, Newton's step of |Σ g·exp(+j4π·axis·u)|; none where its phase is not slow, nor further
    than a quarter of a cell.
    """
    total = complex(samples.sum())
    span = float(np.ptp(axis))
    if total == 0.0 or span == 0.0:
        return 0.0
    in_phase = samples * (np.conj(total) / abs(total))
    centred = axis - float(np.sum(in_phase.real * axis)) / abs(total)
    bend = 4.0 * pi * float(np.sum(in_phase.real * centred**2))
    slope = -float(np.sum(in_phase.imag * centred)) / bend if bend > 0.0 else 0.0
    return float(np.clip(slope, -0.125 / span, 0.125 / span))


def _coarse(product: ComplexArray, link: TwoWayLink) -> tuple[float, float]:
    """Place of the greatest power, frames added incoherently, then frames joined coherently."""
    spacing_hz = float(np.min(np.diff(link.subcarrier_hz)))
    blocks = frame_blocks(link.frame_of_symbol)
    symbol_steps = [grid_steps(link.symbol_s[block]) for block in blocks]
    single = min(len(block) for block in blocks) < 2
    spacing_s = 1.0 if single else float(min(np.min(np.diff(link.symbol_s[block])) for block in blocks))
    parts = [product] if len(blocks) == 1 else [product[block] for block in blocks]
    place, cell = greatest_cell(parts, symbol_steps, grid_steps(link.subcarrier_hz))
    to_s, cfo_hz = place[1] / (2.0 * spacing_hz), place[0] / (2.0 * spacing_s)
    if len(blocks) > 1:
        cell_s, cell_hz = cell[1] / (2.0 * spacing_hz), cell[0] / (2.0 * spacing_s)
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
        sums = np.abs(turns @ _symbol_sums(product, link, to_s + shift * cell_s, cfo_hz))
        peak = int(np.argmax(sums))
        best = max(best, (float(sums[peak]), to_s + shift * cell_s, cfo_hz + float(trial_hz[peak])))
    return best[1], best[2]


class _Expansion:
    """Sums Σ_k R·f^i of every symbol near one time offset, R the product derotated, without making R.

    The phase that a time offset a little off, and the product of frequency offset, frequency and time, add to a
    symbol's elements is linear in frequency. Its exponential expands into powers of f, to 1e-9: all of them come from
    one product of matrices, and every point nearby from their sums alone. Where the phase is not small, R is made.
    """

    def __init__(self, product: NDArray[Any], link: TwoWayLink, to_s: float, cfo_hz: float, *, orders: int) -> None:
        f = link.subcarrier_hz
        self._product, self._link, self._about_s, self._orders = product, link, to_s, orders
        self._reach = max(float(np.abs(f).max()), 1e-300)
        turn = float(np.abs(self._turn(to_s, cfo_hz)).max())
        terms = _terms(turn + _NEARBY_RAD) if orders > 1 else _terms(turn)
        self._terms = _MOST_TERMS if terms is None else terms
        powers = (f / self._reach)[:, None] ** np.arange(orders + self._terms)
        self._sums = product @ (np.exp(4j * pi * to_s * f)[:, None] * powers)

    def _turn(self, to_s: float, cfo_hz: float) -> FloatArray:
        """Phase at the band's edge by which a symbol departs from what was summed, shape (symbol, 1)."""
        slope = 4.0 * pi * (to_s - self._about_s - cfo_hz / self._link.carrier_hz * self._link.symbol_s)
        return np.asarray(self._reach * slope[:, None])

    def at(self, to_s: float, cfo_hz: float) -> ComplexArray:
        """Sums at two offsets, shape (symbol, order)."""
        f, t, orders = self._link.subcarrier_hz, self._link.symbol_s, self._orders
        turn = self._turn(to_s, cfo_hz)
        terms = _terms(float(np.abs(turn).max()))
        if terms is None or terms > self._terms:
            return np.asarray(self._link.derotated(self._product, to_s, cfo_hz) @ f[:, None] ** np.arange(orders))
        found, factor = self._sums[:, :orders], np.ones(turn.shape, np.complex128)
        for term in range(1, terms + 1):
            factor = factor * (1j * turn / term)
            found = found + factor * self._sums[:, term : term + orders]
        return np.asarray(np.exp(-4j * pi * cfo_hz * t)[:, None] * found * self._reach ** np.arange(orders))


def _symbol_sums(product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float) -> ComplexArray:
    """Sum over subcarriers of the product with the given offsets taken off."""
    return _Expansion(product, link, to_s, cfo_hz, orders=1).at(to_s, cfo_hz)[:, 0]


def _terms(largest_rad: float) -> int | None:
    """Terms of the exponential series after which less than 1e-9 is missing; None if they are more than pay."""
    missing = largest_rad
    for terms in range(_MOST_TERMS + 1):
        if missing < 1e-9:
            return terms
        missing *= largest_rad / (terms + 2)
    return None


def _moments(sums: ComplexArray, link: TwoWayLink) -> tuple[complex, ComplexArray, ComplexArray]:
    """Sum of the rotated product, and its first and second moments in the two derivatives of the phase.

    ``sums`` are an `_Expansion`'s of three orders.
    """
    t, fc = link.symbol_s, link.carrier_hz
    s = np.stack([np.ones_like(t), t, t * t]) @ sums
    first = np.array([4.0 * pi * s[0, 1], -4.0 * pi * (s[1, 0] + s[1, 1] / fc)])
    cross = -16.0 * pi**2 * (s[1, 1] + s[1, 2] / fc)
    twice = s[2, 0] + 2.0 * s[2, 1] / fc + s[2, 2] / fc**2
    return complex(s[0, 0]), first, np.array([[16.0 * pi**2 * s[0, 2], cross], [cross, 16.0 * pi**2 * twice]])


def _newton(product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float) -> tuple[float, float]:
    """Local maximum of the coherent sum's magnitude; a step that would lower it is halved."""
    point = np.array([to_s, cfo_hz])
    if float(np.ptp(link.symbol_s)) == 0.0:
        point[1] = 0.0
    near = _Expansion(product, link, to_s, float(point[1]), orders=3)
    total, first, second = _moments(near.at(to_s, float(point[1])), link)
    for _ in range(_NEWTON_STEPS):
        information, gradient = _curvature(total, first, second)
        scale = np.sqrt(np.maximum(np.diag(np.abs(information)), 1e-300))
        scaled = information / np.outer(scale, scale)
        eigenvalues, eigenvectors = np.linalg.eigh(scaled)
        step = eigenvectors @ ((eigenvectors.T @ (gradient / scale)) / np.maximum(np.abs(eigenvalues), 1e-9)) / scale
        for _ in range(30):
            there = point + step
            trial = _moments(near.at(float(there[0]), float(there[1])), link)
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


def _with_deviation(product: ComplexArray, link: TwoWayLink, to_s: float, cfo_hz: float) -> Residual:
    """Residual with the deviation that noise gives it: J⁻¹VJ⁻¹, V the score's variance with noise times noise."""
    total, first, second = _moments(_Expansion(product, link, to_s, cfo_hz, orders=3).at(to_s, cfo_hz), link)
    information, _ = _curvature(total, first, second)
    noise_total, noise_first, noise_second = _moments(
        _Expansion(_noise_power(link), link, 0.0, 0.0, orders=3).at(0.0, 0.0), link
    )
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
        to_std_s=float(deviation[0]),
        cfo_std_hz=float(deviation[1]),
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
    if len(runs) == 1 and len(runs[0]) >= _LONG_RUN:
        vector = np.conj(dominant_vectors(runs[0].astype(np.complex128), columns, count=1, settled=_POLE_SETTLED)[:, 0])
        return float(np.angle(np.vdot(vector[:-1], vector[1:])))
    hankel = np.concatenate([np.lib.stride_tricks.sliding_window_view(run, columns) for run in runs])
    vector = np.conj(_dominant(hankel.conj().T @ hankel))
    return float(np.angle(np.vdot(vector[:-1], vector[1:])))


def _dominant(gram: NDArray[Any]) -> NDArray[Any]:
    """Eigenvector of the greatest eigenvalue of a Hermitian matrix."""
    scale = max(float(np.trace(gram).real), 1e-300)
    if len(gram) < 12:
        return np.asarray(np.linalg.eigh(gram / scale)[1][:, -1])
    return np.asarray(eigsh(gram / scale, k=1, v0=np.ones(len(gram), dtype=gram.dtype), tol=1e-10)[1][:, 0])


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
