"""Where a target can be located, and how well: by delays, angles or both, fused centrally or node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import radians

import numpy as np
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.link import delay_std_s
from dsp.bounds.localization import delay_gradient, sine_gradient
from dsp.channel import FloatArray
from testbed.antennas import antenna_m, array_centre_m
from testbed.planning.budget import LinkBudget, sine_std
from testbed.planning.offsets import slot_symbols_s
from testbed.scenario import Scenario
from testbed.schedule import dsp_waveform

__all__ = ["PositionMap", "position_map"]


@dataclass(frozen=True)
class PositionMap:
    """Root-mean-square position errors that the bound allows, over places of shape (...)."""

    place_m: FloatArray
    """Shape (..., 2)."""
    centralised_m: Mapping[str, FloatArray]
    """All links at once, the clock offsets' errors known to be opposite in the two directions of a pair."""
    decentralised_m: Mapping[str, FloatArray]
    """Each node by the links that it hears, the plain mean of their positions."""
    gdop: FloatArray
    """Position error by delays of equal deviation σ over c·σ: geometry alone."""
    hidden: NDArray[np.bool_]
    """On some link nearer to the direct path than its range resolution: told from it by Doppler alone."""
    beyond: NDArray[np.bool_]
    """On some link later than the cyclic prefix holds."""


def position_map(
    scenario: Scenario,
    budgets: Mapping[tuple[str, str], LinkBudget],
    to_std_s: Mapping[tuple[str, str], float],
    place_m: FloatArray,
    *,
    rcs_m2: float = 1.0,
) -> PositionMap:
    """Bounds for a target of ``rcs_m2`` at each of ``place_m``, shape (..., 2), in the nodes' plane.

    Every link gives the delay of the target's path and, with two antennas or more, its bearing, at the deviations of
    a resolved path in the slot's noise; ``to_std_s`` by (receiver, transmitter), either way round, adds to each
    pair's delays one error of opposite signs. The target's motion within the round is taken as known from its
    Doppler. Source: docs/methods/planning.md eq. 3 and eq. 4.
    """
    waveform = dsp_waveform(scenario)
    elements = slot_symbols_s(scenario).size
    names = [node.name for node in scenario.node]
    shape = place_m.shape[:-1]
    hidden, beyond = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    delays: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
    angles = {name: np.zeros((*shape, 2, 2)) for name in names}
    for (receiver, transmitter), budget in budgets.items():
        snr = budget.echo_snr(scenario, place_m, rcs_m2)
        source, sink = (
            antenna_m(budget.transmitter, transmits=True)[:2],
            array_centre_m(budget.receiver, scenario.waveform.carrier_hz)[:2],
        )
        gradient = delay_gradient(place_m, source, sink)
        unit = delay_std_s(waveform.active_subcarriers, float(waveform.spacing_hz), elements, 1.0)
        delays[receiver, transmitter] = gradient, unit / np.sqrt(snr * budget.receiver.antennas)
        cell = snr * elements * waveform.active_subcarriers
        axis = np.array([-np.sin(radians(budget.receiver.heading_deg)), np.cos(radians(budget.receiver.heading_deg))])
        deviation = sine_std(budget.receiver, scenario.waveform.carrier_hz, cell)
        angles[receiver] = angles[receiver] + _outer(sine_gradient(place_m, sink, axis) / deviation[..., None])
        excess_s = (
            np.linalg.norm(place_m - source, axis=-1) + np.linalg.norm(place_m - sink, axis=-1)
        ) / SPEED_OF_LIGHT_MPS - budget.baseline_m / SPEED_OF_LIGHT_MPS
        bandwidth_hz = waveform.active_subcarriers * float(waveform.spacing_hz)
        hidden |= excess_s < 1 / bandwidth_hz
        beyond |= excess_s > waveform.cp_samples / float(waveform.rate_hz)
    central = _together(names, delays, to_std_s, shape)
    total = sum(angles.values(), np.zeros((*shape, 2, 2)))
    nothing = {name: np.zeros((*shape, 2, 2)) for name in names}
    equal = {link: (gradient, np.ones(shape)) for link, (gradient, _) in delays.items()}
    return PositionMap(
        place_m=place_m,
        centralised_m={"delay": _error(central), "angle": _error(total), "hybrid": _error(central + total)},
        decentralised_m={
            "delay": _alone(names, delays, to_std_s, nothing),
            "angle": _alone(names, {}, {}, angles),
            "hybrid": _alone(names, delays, to_std_s, angles),
        },
        gdop=_error(_together(names, equal, {}, shape)) / SPEED_OF_LIGHT_MPS,
        hidden=hidden,
        beyond=beyond,
    )


Delays = Mapping[tuple[str, str], tuple[FloatArray, FloatArray]]
"""Gradient and deviation of each link's delay, by receiver and transmitter."""


def _offset(to_std_s: Mapping[tuple[str, str], float], one: str, other: str) -> float:
    return to_std_s.get((one, other), to_std_s.get((other, one), 0.0))


def _together(
    names: list[str], delays: Delays, to_std_s: Mapping[tuple[str, str], float], shape: tuple[int, ...]
) -> FloatArray:
    """Information of all delays at once.

    A pair's two delays have the covariance diag(σ²) + σ_TO²·(1, −1)ᵀ(1, −1), inverted in closed form.
    """
    total = np.zeros((*shape, 2, 2))
    for one, other in combinations(names, 2):
        offset = _offset(to_std_s, one, other)
        (g, s), (h, t) = delays[one, other], delays[other, one]
        a, b = (x[..., None, None] for x in (s**2 + offset**2, t**2 + offset**2))
        cross = g[..., :, None] * h[..., None, :]
        both = offset**2 * (cross + np.swapaxes(cross, -1, -2))
        total = total + (b * _outer(g) + a * _outer(h) + both) / (a * b - offset**4)
    return total


def _alone(
    names: list[str], delays: Delays, to_std_s: Mapping[tuple[str, str], float], angles: Mapping[str, FloatArray]
) -> FloatArray:
    """Root-mean-square error of the plain mean of what the nodes find, each from what it hears.

    Each node's estimate is linear in the errors of its links, and so is the mean; a pair's offset error stands in
    both nodes' with opposite signs. Infinite where one node cannot tell a position.
    """
    inverses, open_anywhere = {}, np.zeros(next(iter(angles.values())).shape[:-2], dtype=bool)
    for name in names:
        own = angles[name]
        for (receiver, transmitter), (gradient, deviation) in delays.items():
            if receiver == name:
                variance = deviation**2 + _offset(to_std_s, receiver, transmitter) ** 2
                own = own + _outer(gradient) / variance[..., None, None]
        inverses[name], singular = _inverted(own)
        inverses[name] = np.where(singular[..., None, None], 0.0, inverses[name])
        open_anywhere |= singular
    spread: FloatArray = np.sum([inverses[name] @ angles[name] @ inverses[name] for name in names], axis=0)
    for one, other in combinations(names, 2) if delays else ():
        offset, pulls = _offset(to_std_s, one, other), []
        for link in ((one, other), (other, one)):
            gradient, deviation = delays[link]
            variance = (deviation**2 + offset**2)[..., None]
            pull = np.einsum("...ab,...b->...a", inverses[link[0]], gradient / variance)
            spread = spread + _outer(pull) * deviation[..., None, None] ** 2
            pulls.append(pull)
        spread = spread + offset**2 * _outer(pulls[0] - pulls[1])
    trace = np.trace(spread, axis1=-2, axis2=-1)
    return np.asarray(np.where(open_anywhere, np.inf, np.sqrt(trace) / len(names)))


def _outer(gradient: FloatArray) -> FloatArray:
    return np.asarray(gradient[..., :, None] * gradient[..., None, :])


def _inverted(information: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Inverses of 2 × 2 matrices, and which had none."""
    xx, yy, xy = information[..., 0, 0], information[..., 1, 1], information[..., 0, 1]
    determinant = xx * yy - xy**2
    singular = determinant <= 1e-12 * (xx + yy) ** 2
    adjugate = np.stack([yy, -xy, -xy, xx], axis=-1).reshape(*xx.shape, 2, 2)
    return adjugate / np.where(singular, 1.0, determinant)[..., None, None], singular


def _error(information: FloatArray) -> FloatArray:
    """√tr F⁻¹ of 2 × 2 matrices; infinite where they are singular."""
    inverse, singular = _inverted(information)
    trace = inverse[..., 0, 0] + inverse[..., 1, 1]
    return np.asarray(np.where(singular, np.inf, np.sqrt(np.where(singular, 1.0, trace))))
