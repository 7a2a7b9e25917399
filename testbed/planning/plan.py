"""The plan of an experiment: links, offsets, positions, and what each further step would buy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt

import msgspec
import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray
from dsp.target_model import LinkMeasurement, TargetModel
from testbed.planning.budget import LinkBudget, link_budgets
from testbed.planning.mover_bound import mover_bound
from testbed.planning.offsets import PlannedOffset, best, planned_offsets, slot_symbols_s
from testbed.planning.positions import PositionMap, position_map
from testbed.scenario import Reflector, Scenario
from testbed.scenario_checks import complaint
from testbed.schedule import dsp_waveform, slot_offset_samples
from testbed.targets import station

__all__ = ["Lever", "Plan", "PlannedTarget", "make_plan", "target_error_m"]

_CELLS = 60
_MARGIN = 0.5
"""Of the layout's width, that the map shows around it."""


@dataclass(frozen=True)
class PlannedTarget:
    """A moving reflector of the scenario, as each link and all together will see it."""

    name: str
    snr_db: Mapping[tuple[str, str], float]
    """After integration over the slot, per antenna."""
    range_std_m: Mapping[tuple[str, str], float]
    """Bistatic range, noise alone."""
    velocity_std_mps: Mapping[tuple[str, str], float]
    position_std_m: Mapping[str, float]
    """Root-mean-square position error by method; infinite where the links leave a direction open."""
    remarks: tuple[str, ...]
    """Why it will be hard to see."""


@dataclass(frozen=True)
class Lever:
    """A change, and what it buys."""

    change: str
    to_std_s: float | None
    position_std_m: float | None
    """Of the first moving target, or the map's median."""


@dataclass(frozen=True)
class Plan:
    """Everything that follows from an experiment file before it is run."""

    scenario: Scenario
    budgets: Mapping[tuple[str, str], LinkBudget]
    offsets: tuple[PlannedOffset, ...]
    targets: tuple[PlannedTarget, ...]
    map: PositionMap
    """For a target of one square metre, synchronized by each pair's best method."""
    levers: tuple[Lever, ...]

    def offset(self, pair: tuple[str, str], method: str) -> PlannedOffset:
        """What ``method`` can reach on a pair, named either way."""
        return next(
            one for one in self.offsets if {one.receiver, one.transmitter} == set(pair) and one.method == method
        )

    def extent_m(self) -> tuple[float, float, float, float]:
        """Bounds of the map: left, right, bottom, top."""
        x, y = self.map.place_m[..., 0], self.map.place_m[..., 1]
        return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def make_plan(scenario: Scenario) -> Plan:
    """Plan of ``scenario``: deterministic, in well under the time of a round."""
    budgets = link_budgets(scenario)
    offsets = planned_offsets(scenario, budgets, scenario.experiment.methods)
    return Plan(
        scenario=scenario,
        budgets=budgets,
        offsets=tuple(offsets),
        targets=tuple(_target(scenario, budgets, offsets, one) for one in _movers(scenario)),
        map=position_map(scenario, budgets, _best(scenario, offsets), _grid(scenario)),
        levers=_levers(scenario),
    )


def target_error_m(
    scenario: Scenario,
    budgets: Mapping[tuple[str, str], LinkBudget],
    to_std_s: Mapping[tuple[str, str], float],
    reflector: Reflector,
    *,
    at_s: float = 0.0,
) -> float:
    """Root-mean-square position error of a moving reflector at the mean of a round's slots, its velocity unknown.

    Information of every link's delay, Doppler and sine at its own slot, as the estimator has them, with the pairs'
    offset errors; ``at_s`` after the run's begin. Infinite where a direction is left open.
    """
    carrier_hz = scenario.waveform.carrier_hz
    velocity = np.array(reflector.velocity_mps, dtype=float)
    place = np.array(reflector.position_m, dtype=float)
    size = min(place.size, velocity.size)
    place[:size] += velocity[:size] * at_s
    begins = {node.name: slot_offset_samples(scenario, scenario.index(node.name)) for node in scenario.node}
    middle = np.mean([begins[transmitter] for _, transmitter in budgets])
    measurements = []
    for (receiver, transmitter), budget in budgets.items():
        bound = mover_bound(scenario, budget, place, velocity, reflector.rcs_m2)
        seen = np.isfinite(bound.sine_std)
        measurements.append(
            LinkMeasurement(
                receiver=receiver,
                transmitter=transmitter,
                delay_s=0.0,
                delay_std_s=bound.delay_std_s,
                sines=(0.0,) if seen else (),
                sine_std=bound.sine_std if seen else 0.0,
                doppler_hz=0.0,
                doppler_std_hz=bound.doppler_std_hz,
                carrier_hz=carrier_hz,
                time_s=float(begins[transmitter] - middle) / scenario.waveform.sample_rate_hz,
                offset_std_s=to_std_s.get((receiver, transmitter), to_std_s.get((transmitter, receiver), 0.0)),
            )
        )
    stations = {node.name: station(node, carrier_hz) for node in scenario.node}
    model = TargetModel(measurements, stations)
    state = np.zeros(2 * model.dimension)
    dimension = model.dimension
    state[: min(dimension, place.size)] = place[:dimension]
    state[dimension : dimension + min(dimension, velocity.size)] = velocity[:dimension]
    information = model.information(state)
    if np.linalg.cond(information[:dimension, :dimension]) > 1e14:
        return float("inf")
    return sqrt(float(np.trace(np.linalg.inv(information)[:dimension, :dimension])))


def _movers(scenario: Scenario) -> list[Reflector]:
    return [one for one in scenario.scene.reflector if any(one.velocity_mps)]


def _best(scenario: Scenario, offsets: list[PlannedOffset]) -> dict[tuple[str, str], float]:
    """Deviation of each pair's best method; a thousandth of a second, nothing known, where none applies."""
    found: dict[tuple[str, str], float] = {}
    for one in offsets:
        pair = one.receiver, one.transmitter
        chosen = best(offsets, pair)
        found[pair] = 1e-3 if chosen is None or chosen.to_std_s is None else chosen.to_std_s
    return found


def _by_method(offsets: list[PlannedOffset], method: str) -> dict[tuple[str, str], float]:
    return {
        (one.receiver, one.transmitter): one.to_std_s
        for one in offsets
        if one.method == method and one.to_std_s is not None
    }


def _target(
    scenario: Scenario, budgets: Mapping[tuple[str, str], LinkBudget], offsets: list[PlannedOffset], one: Reflector
) -> PlannedTarget:
    waveform, times = dsp_waveform(scenario), slot_symbols_s(scenario)
    bandwidth_hz = waveform.active_subcarriers * float(waveform.spacing_hz)
    place, velocity = np.array(one.position_m, dtype=float), np.array(one.velocity_mps, dtype=float)
    snr_db, range_std, velocity_std, remarks = {}, {}, {}, []
    interval_s = float(np.ptp(times)) * times.size / max(times.size - 1, 1)
    for link, budget in budgets.items():
        path = budget.path(one.name)
        assert path is not None
        bound = mover_bound(scenario, budget, place, velocity, one.rcs_m2)
        snr_db[link] = 10 * np.log10(budget.snr * path.share * times.size * waveform.active_subcarriers)
        range_std[link] = SPEED_OF_LIGHT_MPS * bound.delay_std_s
        velocity_std[link] = SPEED_OF_LIGHT_MPS / scenario.waveform.carrier_hz * bound.doppler_std_hz
        where = f"{link[0]} ← {link[1]}"
        if abs(path.doppler_hz) * interval_s < 1:
            remarks.append(f"{where}: Doppler {path.doppler_hz:.1f} Hz within the cell of what stands still")
        if path.delay_s - budget.baseline_m / SPEED_OF_LIGHT_MPS < 1 / bandwidth_hz:
            remarks.append(f"{where}: hidden by the direct path in range, told from it by Doppler alone")
        if path.delay_s - budget.baseline_m / SPEED_OF_LIGHT_MPS > waveform.cp_samples / float(waveform.rate_hz):
            remarks.append(f"{where}: later than the cyclic prefix")
        if scenario.round.frames_per_slot > 1 and abs(path.doppler_hz) > 0.5 / scenario.round.frame_period_s:
            remarks.append(f"{where}: Doppler {path.doppler_hz:.0f} Hz beyond half the frame rate: ambiguous")
    position = {}
    for method in scenario.experiment.methods:
        deviations = _by_method(offsets, method)
        if deviations:
            position[method] = target_error_m(scenario, budgets, deviations, one)
    return PlannedTarget(one.name, snr_db, range_std, velocity_std, position, tuple(remarks))


def _grid(scenario: Scenario) -> FloatArray:
    """Places of the map: the layout with its reflectors, and a margin around it."""
    places = [node.position_m[:2] for node in scenario.node] + [one.position_m[:2] for one in scenario.scene.reflector]
    low, high = np.min(places, axis=0), np.max(places, axis=0)
    middle, half = 0.5 * (low + high), 0.5 * float(np.max(high - low)) * (1 + _MARGIN) + 1.0
    axis = np.linspace(-half, half, _CELLS)
    # half a cell off the middle, where nodes and their baselines like to lie
    x, y = np.meshgrid(middle[0] + axis, middle[1] + axis)
    return np.stack([x, y], axis=-1)


def _levers(scenario: Scenario) -> tuple[Lever, ...]:
    """What one change at a time would buy, the one that buys most first after the experiment as it is."""
    changes: dict[str, Callable[[Scenario], Scenario]] = {
        "3 dB more power": lambda s: _louder(s, 3.0),
        "3 dB less power": lambda s: _louder(s, -3.0),
        "twice the frames in a slot": lambda s: _with(
            s, round=msgspec.structs.replace(s.round, frames_per_slot=2 * s.round.frames_per_slot)
        ),
        "twice the rate and band": _wider,
        "20 dB less leakage": lambda s: (
            s
            if isinstance(s.scene.leakage_db, str)
            else _with(s, scene=msgspec.structs.replace(s.scene, leakage_db=s.scene.leakage_db - 20))
        ),
        "oven oscillators": lambda s: _with(
            s,
            node=tuple(
                msgspec.structs.replace(node, clock=msgspec.structs.replace(node.clock, profile="ocxo"))
                for node in s.node
            ),
        ),
        "twice the antennas": lambda s: _with(
            s, node=tuple(msgspec.structs.replace(node, antennas=min(4, 2 * node.antennas)) for node in s.node)
        ),
    }
    base = _lever("as it is", scenario)
    found = [
        _lever(name, changed)
        for name, change in changes.items()
        if (changed := change(scenario)) != scenario and complaint(changed) is None
    ]
    found.sort(key=lambda one: (one.to_std_s or float("inf"), one.position_std_m or float("inf")))
    return (base, *found)


def _lever(name: str, scenario: Scenario) -> Lever:
    budgets = link_budgets(scenario)
    offsets = planned_offsets(scenario, budgets, scenario.experiment.methods)
    deviations = _best(scenario, offsets)
    worst = max(deviations.values(), default=None)
    movers = _movers(scenario)
    if movers:
        error = target_error_m(scenario, budgets, deviations, movers[0])
    else:
        errors = position_map(scenario, budgets, deviations, _grid(scenario)).centralised_m["hybrid"]
        error = float(np.median(errors))
    return Lever(name, None if worst is None or worst >= 1e-3 else worst, error if np.isfinite(error) else None)


def _with(scenario: Scenario, **tables: object) -> Scenario:
    return msgspec.structs.replace(scenario, **tables)


def _louder(scenario: Scenario, decibels: float) -> Scenario:
    if scenario.scene.snr_db is not None:
        return _with(scenario, scene=msgspec.structs.replace(scenario.scene, snr_db=scenario.scene.snr_db + decibels))
    return _with(
        scenario,
        node=tuple(msgspec.structs.replace(node, tx_power_dbm=node.tx_power_dbm + decibels) for node in scenario.node),
    )


def _wider(scenario: Scenario) -> Scenario:
    """Twice the rate with twice the points: the same symbols, twice the subcarriers; the power stays."""
    waveform = scenario.waveform
    wider = msgspec.structs.replace(
        waveform,
        sample_rate_hz=2 * waveform.sample_rate_hz,
        fft_size=2 * waveform.fft_size,
        cp_samples=2 * waveform.cp_samples,
        active_subcarriers=2 * waveform.active_subcarriers,
    )
    return _with(scenario, waveform=wider)
