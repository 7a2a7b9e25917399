"""Captures to frames, channel state, clock offsets, echoes and positions: one consumer for all sources.

Live radios, recordings and simulation hand the same captures to the same `Pipeline`; nothing here can tell them
apart. Rounds come in order; what one round leaves to the next is the transmit-receive latency of each stream.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray
from dsp.dispersion import mean_response
from dsp.front import PayloadResult, Tuning, channel_state
from dsp.synchronization.base import Offset
from dsp.waveform import frame
from testbed import rows
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.clock_tracks import ClockTracks
from testbed.coherence import Coherence
from testbed.departures import Departures
from testbed.errors import UserError
from testbed.family_inputs import FamilyInputs, fingerprints_of
from testbed.fingerprints import Fingerprints
from testbed.pairs import Departed, Heard, estimates, observed, unnumbered
from testbed.phase_tracks import PhaseTracks
from testbed.products import Products
from testbed.promises import Listening, promises
from testbed.results import EventRow, LossRow, Results, RoundRow, Truth, losses_of
from testbed.scenario import Node, Scenario
from testbed.schedule import dsp_waveform, period_samples
from testbed.slots import Slot, baseband, find_slots, from_first_frame
from testbed.target_truth import targets_seen
from testbed.targets import Echoes, absolute_origin_s, echoes
from testbed.transmit_correction import Correction

if TYPE_CHECKING:
    from testbed.run_folder import Run

__all__ = ["Hearing", "Pipeline", "RoundAtWork", "slot_csi"]

_FRAME_FALSE_ALARM_RATE = 1e-6
"""Expected number of frames found in a recording that holds none."""


@dataclass
class Hearing:
    """One slot as one node heard it."""

    slot: Slot
    csi: ChannelState
    payload: tuple[PayloadResult, ...]
    constellation: ComplexArray


@dataclass
class RoundAtWork:
    """Everything of one round while it is worked on."""

    captures: Mapping[str, Capture]
    hearings: dict[tuple[str, str], Hearing] = field(default_factory=dict)
    """By receiver and transmitter; a node's own leakage under its name twice."""
    departed: dict[str, Departed] = field(default_factory=dict)
    samples: dict[str, NDArray[np.complex64]] = field(default_factory=dict)
    """Of each node, where the round has a joint slot to be looked at after the others."""


class Pipeline:
    """Results of a run, round by round.

    Parameters
    ----------
    scenario : Scenario
        What was transmitted, and by which methods it is looked at.
    calibration : Calibration, optional
        Constants of the chains; by default those of the simulated nodes, and none for others.
    fingerprints : Fingerprints, optional
        What the method `fingerprint` compares with; by default what the scenario says of it.

    Raises
    ------
    UserError
        If the scenario names a file of fingerprints that is none.
    """

    _clock = staticmethod(time.perf_counter)

    def __init__(
        self,
        scenario: Scenario,
        *,
        calibration: Calibration | None = None,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self._scenario = scenario
        self._calibration = Calibration.simulated(scenario) if calibration is None else calibration
        self._departures = Departures(scenario, self._calibration)
        self.fingerprints = fingerprints_of(scenario) if fingerprints is None else fingerprints
        self._inputs = FamilyInputs(scenario, self._calibration, self.fingerprints)
        self._tracks = ClockTracks(scenario)
        self._phases = PhaseTracks()
        self._coherence = Coherence(scenario)
        self._results = Results(environment={})
        self._products = Products()
        self._timing: dict[str, float] = {}

    def process(self, index: int, captures: Mapping[str, Capture]) -> None:
        """Take one round's captures, by node, and add what they yield to the results."""
        missing = [node.name for node in self._scenario.node if node.name not in captures]
        self._results.rounds.append(
            RoundRow(
                round=index,
                status="complete" if not missing else "partial" if captures else "failed",
                nodes=[node.name for node in self._scenario.node if node.name in captures],
                reason=f"no capture of {', '.join(missing)}" if missing else "",
            )
        )
        self._results.events += [rows.event(index, *text) for text in self._calibration.meet(captures)]
        for capture in captures.values():
            self._results.losses += losses_of(capture)
            self._results.events += rows.events(capture)
        current = RoundAtWork(captures)
        for node in self._present(captures):
            self._hear(node, index, current)
        with self._timed("departures"):
            self._depart(index, current)
        heard = self._sense(current)
        offsets = self._synchronize(index, heard, current)
        if self._scenario.signalling is not None:
            with self._timed("joint slot"):
                self._keep_promises(index, current, offsets)
        with self._timed("clocks"):
            tracked = self._tracks.take(index, heard, offsets, captures)
        self._results.nodes += tracked.nodes
        self._results.closures += tracked.closures
        self._results.events += tracked.events
        self._locate(index, heard, offsets, current)

    def drop(self, row: RoundRow, event: EventRow, losses: Sequence[LossRow]) -> None:
        """Take note of a round that came, live, when there was no time for it."""
        self._results.rounds.append(row)
        self._results.events.append(event)
        self._results.losses += losses

    def finish(self, environment: Mapping[str, object], events: Sequence[EventRow] = ()) -> Results:
        """Results of all rounds taken so far; ``events`` are what the run itself has to say."""
        self._results.environment = dict(environment)
        self._results.events = [*events, *self._results.events]
        self._results.timing = {stage: round(seconds, 3) for stage, seconds in self._timing.items()}
        return self._results

    @property
    def results(self) -> Results:
        """What was found so far."""
        return self._results

    @property
    def stages_s(self) -> Mapping[str, float]:
        """Seconds of each stage so far."""
        return self._timing

    @property
    def products(self) -> Products:
        """Arrays for the pictures, of the last round that has them."""
        return self._products

    def channel(self, index: int, captures: Mapping[str, Capture], receiver: str, transmitter: str) -> ChannelState:
        """CSI of one link in one round.

        Raises
        ------
        UserError
            If the link was not heard in that round.
        """
        current = RoundAtWork(captures)
        self._calibration.meet(captures)
        node = self._scenario.node[self._scenario.index(receiver)]
        self._scenario.index(transmitter)
        if receiver in captures:
            self._hear(node, index, current)
        if (receiver, transmitter) not in current.hearings:
            raise UserError(f"round {index}: {receiver!r} did not hear {transmitter!r}")
        return current.hearings[receiver, transmitter].csi

    def channels(self, index: int, captures: Mapping[str, Capture]) -> dict[tuple[str, str], ChannelState]:
        """CSI of every link heard in one round, by receiver and transmitter; a node's leakage under its name twice."""
        current = RoundAtWork(captures)
        for node in self._present(captures):
            self._hear(node, index, current)
        return {link: hearing.csi for link, hearing in current.hearings.items()}

    def _present(self, captures: Mapping[str, Capture]) -> list[Node]:
        return [node for node in self._scenario.node if node.name in captures]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = self._clock()
        yield
        self._timing[stage] = self._timing.get(stage, 0.0) + self._clock() - begin

    def _hear(self, node: Node, index: int, current: RoundAtWork) -> None:
        """Every slot in one node's capture: found, brought to CSI, decoded."""
        capture, scenario = current.captures[node.name], self._scenario
        period = period_samples(scenario)
        own = dsp_waveform(scenario, rate_hz=capture.rate_hz, carrier_hz=capture.carrier_hz)
        with self._timed("acquisition"):
            samples = self._calibration.corrected(node.name, baseband(capture))
            if scenario.signalling is not None:
                current.samples[node.name] = samples
            slots = find_slots(
                capture,
                samples,
                own,
                identities=range(len(scenario.node)),
                frames_per_slot=scenario.round.frames_per_slot,
                period_samples=period,
                false_alarm_rate=_FRAME_FALSE_ALARM_RATE,
            )
        with self._timed("channel state"):
            for identity, slot in slots.items():
                transmitter = scenario.node[identity].name
                sender = current.captures.get(transmitter, capture)
                result = channel_state(
                    samples,
                    dsp_waveform(scenario, rate_hz=sender.rate_hz, carrier_hz=sender.carrier_hz),
                    clock=node.name,
                    first_tick=capture.stretches[0].first_tick,
                    starts=slot.starts,
                    period_samples=period,
                    cfo_hz=slot.cfo_hz,
                    identity=identity,
                    tuning=Tuning(capture.rate_hz, capture.carrier_hz),
                )
                csi = from_first_frame(result.csi, slot.frames[0], period / float(sender.rate_hz))
                current.hearings[node.name, transmitter] = Hearing(slot, csi, result.payload, result.equalised)
        for transmitting in scenario.node:
            if transmitting.name != node.name and transmitting.name in current.captures:
                hearing = current.hearings.get((node.name, transmitting.name))
                self._results.payload.append(
                    rows.payload(
                        node.name,
                        transmitting.name,
                        index,
                        scenario.round.frames_per_slot,
                        () if hearing is None else hearing.payload,
                        self._sent(transmitting, index),
                    )
                )

    def _sent(self, node: Node, index: int) -> NDArray[np.uint8]:
        """Payload that ``node`` sends in round ``index``."""
        identity = self._scenario.index(node.name)
        return frame(
            dsp_waveform(self._scenario), identity=identity, round_index=index, seed=self._scenario.experiment.seed
        ).payload

    def _depart(self, index: int, current: RoundAtWork) -> None:
        """When each node's slot left on its own clock."""
        for node in self._present(current.captures):
            own = current.hearings.get((node.name, node.name))
            departed, events = self._departures.of(node, current.captures[node.name], None if own is None else own.csi)
            self._results.events += [rows.event(index, node.name, *text) for text in events]
            if departed is not None:
                current.departed[node.name] = departed

    def corrections(self, index: int) -> dict[str, Correction]:
        """What each station is to take off the joint slot of round ``index``, by the rounds processed."""
        return self._coherence.corrections(index)

    def _keep_promises(self, index: int, current: RoundAtWork, offsets: rows.Offsets) -> None:
        """What the joint slot shows of the precoders' promises."""
        slots = {link: hearing.csi for link, hearing in current.hearings.items()}
        left = self._coherence.take(index, current.captures, current.departed, slots, offsets)
        heard = Listening(current.captures, current.samples, slots, current.departed, left)
        told = promises(index, heard, self._scenario, self._calibration)
        self._results.signalling = [*(self._results.signalling or []), *told]

    def _sense(self, current: RoundAtWork) -> dict[tuple[str, str], Echoes]:
        """What moves on every link that was heard, by receiver and transmitter."""
        found = {}
        with self._timed("sensing"):
            present = self._present(current.captures)
            for receiver, transmitter in itertools.permutations(present, 2):
                hearing = current.hearings.get((receiver.name, transmitter.name))
                if hearing is not None:
                    there, here = (current.departed.get(one.name) for one in (transmitter, receiver))
                    chains = [None if one is None else one.dispersion for one in (there, here)]
                    response = mean_response(chains[0], chains[1], hearing.csi.subcarrier_hz)
                    heard = Heard(receiver, transmitter, hearing.csi, there, response=response)
                    found[receiver.name, transmitter.name] = echoes(heard, self._scenario)
        return found

    def _synchronize(self, index: int, found: Mapping[tuple[str, str], Echoes], current: RoundAtWork) -> rows.Offsets:
        """Every method on every pair, both ways, on what stands."""
        offsets: rows.Offsets = {}
        clocks = rows.clocks(current.captures)
        methods = self._scenario.experiment.methods
        inputs = self._inputs.round(index, self._own(current))
        with self._timed("synchronization"):
            for here, there in itertools.combinations(self._present(current.captures), 2):
                if (here.name, there.name) not in found:
                    here, there = there, here
                ways = ((here.name, there.name), (there.name, here.name))
                forward, reverse = (None if way not in found else found[way].standing() for way in ways)
                if forward is not None:
                    given = (inputs.of(*ways[0]), inputs.of(*ways[1]))
                    seen = observed(forward, reverse, self._scenario, self._calibration, given)
                    unsure = [way for way in ways if way in found and current.hearings[way].slot.ambiguous]
                    for name in methods:
                        pair = estimates(name, seen)
                        if unsure:
                            pair = unnumbered(pair[0], *unsure[0]), unnumbered(pair[1], *unsure[0])
                        baseline = self._baseline(forward, reverse, pair)
                        told = []
                        for way, heard, offset in zip(ways, (forward, reverse), pair, strict=True):
                            if heard is not None:
                                offsets[*way, name] = offset
                                told.append(rows.link(heard, index, name, offset, baseline, clocks))
                        if len(told) == 2:
                            both = told[0], told[1]
                            self._results.events += self._phases.take(forward, pair[0], both, current.captures)
                        self._results.links += told
                    inputs.learn(*ways[0], seen)
                for way in ways:
                    if way not in found:
                        self._results.links += [rows.unheard(*way, index, name) for name in methods]
        return offsets

    def _baseline(
        self, forward: Heard, reverse: Heard | None, pair: tuple[Offset, Offset]
    ) -> tuple[float, float] | None:
        """Length and deviation of the earliest path, in metres."""
        return rows.baseline(forward, reverse, pair, self._calibration)

    def _own(self, current: RoundAtWork) -> dict[str, Heard]:
        """Each node's slot as it heard it itself, where it did."""
        own = {}
        for node in self._present(current.captures):
            hearing = current.hearings.get((node.name, node.name))
            if hearing is not None:
                own[node.name] = Heard(node, node, hearing.csi, current.departed.get(node.name))
        return own

    def _locate(
        self, index: int, found: Mapping[tuple[str, str], Echoes], offsets: rows.Offsets, current: RoundAtWork
    ) -> None:
        """Detections made absolute by each method's offset, and where the targets are."""
        links = list(found.values())
        with self._timed("localization"):
            truth = targets_seen(index, links, self._scenario, rows.clocks(current.captures))
            if truth.rows:
                self._results.truth = self._results.truth or Truth()
                self._results.truth.targets += truth.rows
            for name in self._scenario.experiment.methods if links else ():
                detections, positions = rows.targets(
                    index, name, links, offsets, self._scenario, self._calibration, truth
                )
                self._results.detections += detections
                self._results.positions += positions
        for seen in links:
            self._picture(index, seen, current, offsets)

    def _picture(self, index: int, seen: Echoes, current: RoundAtWork, offsets: rows.Offsets) -> None:
        """Keep what the report shows of a link: delays absolute by the first method that makes them so."""
        receiver, transmitter = seen.heard.receiver.name, seen.heard.transmitter.name
        candidates = [
            absolute_origin_s(seen.heard, offsets[receiver, transmitter, name], seen.middle_s, self._calibration)
            for name in self._scenario.experiment.methods
        ]
        origin_s = next((origin for origin in candidates if origin is not None), None)
        sight_s = seen.heard.first_path().delay_s
        self._products.add(
            index,
            f"{receiver}<-{transmitter}",
            current.hearings[receiver, transmitter].constellation,
            seen.sensing.search.found,
            origin_s or 0.0,
            sight_s + (origin_s or 0.0),
            absolute=origin_s is not None,
        )


def slot_csi(run: Run, receiver: str, transmitter: str, index: int) -> ChannelState:
    """CSI of one link in one round of a finished run, recomputed from its recordings."""
    calibration = Calibration.of_run(run.path, run.scenario)
    return Pipeline(run.scenario, calibration=calibration, fingerprints=Fingerprints()).channel(
        index, run.recordings.captures(index), receiver, transmitter
    )
