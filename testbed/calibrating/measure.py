"""One session of calibration: every constant of every radio of an experiment, and the records that keep them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.calibrating.bench import Bench
from testbed.calibrating.chain_shapes import chain_shapes
from testbed.calibrating.chains import (
    Exchange,
    NodeConstants,
    StartLatency,
    chain_constants,
    exchanges,
    mean_fraction,
    start_latency,
)
from testbed.calibrating.front_ends import Receivers, level, linearity, slot_samples_of
from testbed.calibration import Calibration, ChainDelays, balanced
from testbed.calibration_records import (
    AntennaResponse,
    ChainConstants,
    ChainShape,
    Linearity,
    Record,
    gains_of,
    serial_of,
    temperature_of,
)
from testbed.capture import Capture
from testbed.errors import RunError, UserError
from testbed.pipeline import Pipeline
from testbed.results import LinkRow
from testbed.scenario import Scenario

__all__ = ["STEPS_DB", "Session", "Wishes", "measure"]

STEPS_DB = (-24.0, -18.0, -12.0, -6.0, -3.0, 0.0)
"""Levels at which linearity is measured, against full scale of the transmitter."""
_FEWEST_STEPS = 3
"""Of these, without which there is no line."""


@dataclass(frozen=True)
class Wishes:
    """What is to be measured, and what it is measured against."""

    starts: int = 4
    """Stream starts over which latency and its fraction are taken."""
    rounds: int = 8
    """Rounds over which all else is."""
    common_clock: bool = False
    """The devices share a clock and, where they stamp times, their counters agree."""
    cable: bool = False
    """A splitter feeds all antennas of a node alike: geometry gives them no phase."""
    path_s: float | None = None
    """Delay of the cable between the nodes; the line of sight's if not given."""
    steps: bool = True
    """Measure linearity."""


@dataclass
class Session:
    """What a session found."""

    records: list[Record]
    exchanges: list[Exchange]
    reference: str
    latencies: dict[str, list[StartLatency]]
    notes: list[str] = field(default_factory=list)


def measure(scenario: Scenario, wishes: Wishes, progress: Callable[[int, str], None]) -> Session:
    """Session over the radios of ``scenario``; ``progress`` is told of each round.

    Raises
    ------
    RunError
        If a radio is gone, or no node hears another.
    UserError
        If the radios cannot be compared as was wished.
    """
    scenario = _with_one_method(scenario)
    names = [node.name for node in scenario.node]
    receivers = Receivers(scenario, cable=wishes.cable)
    with Bench(scenario) as bench:
        latencies, shapes = _starts(scenario, bench, receivers, wishes.starts, progress)
        fractions = {name: mean_fraction(found) for name, found in latencies.items() if found}
        first, rows = _rounds(scenario, bench, receivers, wishes, fractions, shapes, progress)
        lines = _steps(scenario, bench, wishes, progress) if wishes.steps else {}
    reference = _reference(scenario, first, common_clock=wishes.common_clock)
    stamped = {name: bool(first[name].departures) for name in names}
    # Counters on one clock may still be latched a sample apart, anew with each stream: that is no constant.
    wrap_s = 1.0 / scenario.waveform.sample_rate_hz if reference == "common clock" else None
    found = exchanges(scenario, rows, reference=reference, path_s=wishes.path_s, wrap_s=wrap_s)
    if not found:
        reasons = sorted({row.reason for row in rows if not row.valid})
        raise RunError(f"no pair exchanged frames both ways: {'; '.join(reasons)[:300] or 'nobody heard anybody'}")
    asymmetry, common = chain_constants(names, found)
    states = Pipeline(scenario, calibration=Calibration()).channels(wishes.starts, first)
    measured = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    records = []
    for name in names:
        own = states.get((name, name))
        capture, fraction = first[name], None if stamped[name] else fractions.get(name)
        chain = ChainConstants(
            departure="time-stamp" if stamped[name] else "leakage",
            fraction=None if fraction is None else fraction[0],
            fraction_std=None if fraction is None else fraction[1],
            starts=len(latencies[name]),
            latency_samples=tuple(round(one.samples - (fraction or (0.0,))[0]) for one in latencies[name]),
            asymmetry_s=_value(asymmetry.get(name)),
            asymmetry_std_s=_deviation(asymmetry.get(name)),
            common_s=_value(common.get(name)),
            common_std_s=_deviation(common.get(name)),
        )
        record = _record(scenario, capture, measured, reference, chain)
        records.append(
            msgspec.structs.replace(
                record,
                antenna=receivers.of(name),
                shape=shapes.get(name),
                leakage_dbfs=None
                if own is None
                else level(slot_samples_of(scenario, capture, own), capture.full_scale).dbfs,
                linearity=lines.get(name),
            )
        )
    notes = receivers.notes()
    if reference == "none":
        notes.append(
            "nothing tells how the clocks truly stand to each other: no chain constant; give the devices a common "
            "clock, and --common-clock"
        )
    return Session(records, found, reference, latencies, notes)


def _with_one_method(scenario: Scenario) -> Scenario:
    separate = any(node.port == "separate" for node in scenario.node)
    methods = ("reciprocity-structured",) if separate else ("reciprocity-mle",)
    return msgspec.structs.replace(scenario, experiment=msgspec.structs.replace(scenario.experiment, methods=methods))


def _starts(
    scenario: Scenario, bench: Bench, receivers: Receivers, starts: int, progress: Callable[[int, str], None]
) -> tuple[dict[str, list[StartLatency]], dict[str, ChainShape]]:
    """Latency of every node in each of so many streams, none of a node that does not hear itself; and the shapes of
    their chains."""
    raw = Pipeline(scenario, calibration=Calibration())
    rounds = []
    for index in range(starts):
        progress(index, f"stream {index + 1}")
        bench.start()
        captures = bench.round(index)
        receivers.take(captures, raw.channels(index, captures))
        rounds.append(captures)
    found: dict[str, list[StartLatency]] = {node.name: [] for node in scenario.node}
    corrected = Pipeline(scenario, calibration=_Partly(scenario, receivers, {}, {}))
    seen = []
    for index, captures in enumerate(rounds):
        states = corrected.channels(index, captures)
        seen.append(states)
        for node in scenario.node:
            own = states.get((node.name, node.name))
            if own is not None:
                found[node.name].append(start_latency(scenario, node.name, captures[node.name], own))
    return found, chain_shapes([node.name for node in scenario.node], seen)


def _rounds(
    scenario: Scenario,
    bench: Bench,
    receivers: Receivers,
    wishes: Wishes,
    fractions: Mapping[str, tuple[float, float]],
    shapes: Mapping[str, ChainShape],
    progress: Callable[[int, str], None],
) -> tuple[Mapping[str, Capture], list[LinkRow]]:
    """Captures of the first round, and what was found in all, with each node's fraction, its chains' shape, and no
    other constant."""
    pipeline = Pipeline(scenario, calibration=_Partly(scenario, receivers, fractions, shapes))
    first: Mapping[str, Capture] = {}
    for index in range(wishes.starts, wishes.starts + wishes.rounds):
        progress(index, f"round {index - wishes.starts + 1}")
        captures = bench.round(index)
        pipeline.process(index, captures)
        receivers.take(captures, pipeline.channels(index, captures))
        first = first or captures
    return first, pipeline.finish({}).links


class _Partly(Calibration):
    """Knows where within a sample each node hears itself, its receivers' imbalance and its chains' shape, but adds to
    no delay.

    Imbalance comes first: its image is another channel than the one that the two directions share.
    """

    def __init__(
        self,
        scenario: Scenario,
        receivers: Receivers,
        fractions: Mapping[str, tuple[float, float]],
        shapes: Mapping[str, ChainShape],
    ) -> None:
        rate_hz = float(scenario.waveform.sample_rate_hz)
        super().__init__(
            {name: ChainDelays(transmit_s=value / rate_hz) for name, (value, _) in fractions.items()},
            shapes={name: shape.response() for name, shape in shapes.items()},
        )
        self._imbalance = {
            node.name: tuple(
                AntennaResponse(
                    gain_imbalance_db=antenna.gain_imbalance_db, phase_imbalance_deg=antenna.phase_imbalance_deg
                )
                for antenna in receivers.of(node.name)
            )
            for node in scenario.node
        }

    def corrected(self, node: str, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Samples of a node with the imbalance of its branches taken off."""
        return balanced(samples, self._imbalance[node])

    def one_way_s(self, receiver: str, transmitter: str, *, time_stamped: bool) -> float:
        """Zero: the chains' constants are what is measured."""
        return 0.0


def _steps(
    scenario: Scenario, bench: Bench, wishes: Wishes, progress: Callable[[int, str], None]
) -> dict[str, Linearity]:
    """Level of every node's leakage over what it transmits, at the steps in which it heard itself.

    Its frames are looked for in every round: a device without time stamps begins its counter anew with each.
    """
    finder = Pipeline(scenario, calibration=Calibration())
    levels: dict[str, dict[float, float]] = {node.name: {} for node in scenario.node}
    for index, step_db in enumerate(STEPS_DB, start=wishes.starts + wishes.rounds):
        progress(index, f"{step_db:g} dB")
        captures = bench.round(index, {node.name: 10 ** (step_db / 20) for node in scenario.node})
        for (name, sender), own in finder.channels(index, captures).items():
            if name == sender:
                samples = slot_samples_of(scenario, captures[name], own)
                levels[name][step_db] = level(samples, captures[name].full_scale).dbfs
    return {
        name: linearity(list(found), list(found.values()))
        for name, found in levels.items()
        if len(found) >= _FEWEST_STEPS
    }


def _reference(scenario: Scenario, captures: Mapping[str, Capture], *, common_clock: bool) -> str:
    if common_clock:
        if any(node.clock.offset_ppm or node.clock.offset_s for node in scenario.node if node.in_ether):
            raise UserError("--common-clock: the simulated nodes have clocks of their own: set their offsets to zero")
        return "common clock"
    return "simulated truth" if all(one.truth is not None for one in captures.values()) else "none"


def _record(scenario: Scenario, capture: Capture, measured: str, reference: str, chain: ChainConstants) -> Record:
    settings = capture.settings or {}
    return Record(
        serial=serial_of(capture),
        radio=scenario.node[scenario.index(capture.node)].radio,
        measured=measured,
        session=f"{scenario.experiment.name}-{measured}",
        reference=reference,
        carrier_hz=float(capture.carrier_hz),
        rate_hz=float(capture.rate_hz),
        gains=gains_of(settings),
        temperature_c=temperature_of(settings),
        firmware=str(settings.get("firmware", "")),
        chain=chain,
    )


def _value(found: NodeConstants | None) -> float | None:
    return None if found is None else found.value_s


def _deviation(found: NodeConstants | None) -> float | None:
    return None if found is None else found.std_s
