"""Two directions of one link brought together: what each method says of the two clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property, partial
from math import hypot, pi
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.dispersion import Dispersion
from dsp.moment import Moment
from dsp.oscillator import (
    PowerLaw,
    midpoint_wander_s,
    synthesizer_disturbance,
    synthesizer_frequency_deviation_hz,
    synthesizer_phase_deviation_rad,
)
from dsp.paths import FirstPath, first_path
from dsp.synchronization.base import Method, MissingInputError, Need, Observation, Offset, Port
from dsp.synchronization.path_resolved import STATIC_PATH_DELAY
from dsp.synchronization.structured import LINE_OF_SIGHT, LineOfSight
from testbed.antennas import antenna_m
from testbed.calibration import Calibration
from testbed.methods import method
from testbed.scenario import Node, Scenario

__all__ = [
    "ClockNoise",
    "Departed",
    "Heard",
    "Inputs",
    "Observed",
    "averaged",
    "averaged_symbols",
    "clock_noise",
    "disturbance",
    "estimates",
    "observed",
    "unnumbered",
]

_COHERENT_S = 0.5e-3
"""Symbols are averaged over at most this before products are formed: a path keeps its power up to ±1 kHz."""
_LEAST_BLOCKS = 8
"""Blocks that a frame keeps, so that its frequency can be fitted."""


@dataclass(frozen=True)
class Departed:
    """When a slot left, on its transmitter's clock."""

    moment: Moment
    std_s: float
    time_stamped: bool
    """By the device's time stamp, which leaves the transmit chain out; else by leakage."""
    dispersion: Dispersion | None = None
    """What the node's filters do beside delaying, as its leakage shows it."""


@dataclass(frozen=True)
class Heard:
    """One direction of a link in one round."""

    receiver: Node
    transmitter: Node
    csi: ChannelState
    departed: Departed | None
    quiet: ChannelState | None = None
    """The same without the movers found; None where none were looked for."""
    response: ComplexArray | None = None
    """What the filters of both nodes do to all paths alike, as their leakages show it, at the CSI's subcarriers."""

    def first_path(self) -> FirstPath:
        """Earliest path, freed of the filters' response."""
        return first_path(self.csi.antenna(0), self.response)


def averaged(heard: Heard, *, standing: bool) -> ChannelState:
    """CSI averaged over runs of symbols short against any motion, which evens the weights out."""
    csi = heard.quiet if standing and heard.quiet is not None else heard.csi
    symbols = int((csi.frame_of_symbol == csi.frame_of_symbol[0]).sum())
    spacing_s = float(csi.symbol_s[1] - csi.symbol_s[0]) if symbols > 1 else _COHERENT_S
    return csi.averaged(averaged_symbols(symbols, spacing_s))


def averaged_symbols(symbols: int, spacing_s: float) -> int:
    """Symbols that `averaged` takes together, of frames of ``symbols`` so far apart."""
    return max(1, min(int(_COHERENT_S / spacing_s), symbols // _LEAST_BLOCKS))


@dataclass(frozen=True)
class Inputs:
    """What single families need beside the CSI of one direction of a link."""

    given: Mapping[Need, Any] = field(default_factory=dict)
    lacking: Mapping[Need, str] = field(default_factory=dict)
    """Why an input is not given, in words."""


@dataclass(frozen=True)
class Observed:
    """What a pair observed of each other, as the methods receive it."""

    standing: Observation
    """Without the movers found: for methods that compare the two directions, which see a mover in different places."""
    one_way: tuple[Callable[[], Observation], Callable[[], Observation] | None]
    """What makes `forward` and `backward`, once a method asks for them."""
    lacking: tuple[Mapping[Need, str], Mapping[Need, str]] = ({}, {})
    """Why either direction lacks an input."""

    @cached_property
    def forward(self) -> Observation:
        """With everything that was heard: for methods that look at one direction, movers included. What the chains add
        is in its departure, so that reception less departure is the delay from antenna to antenna."""
        return self.one_way[0]()

    @cached_property
    def backward(self) -> Observation | None:
        """The same of the other direction."""
        return None if self.one_way[1] is None else self.one_way[1]()


def observed(
    forward: Heard,
    reverse: Heard | None,
    scenario: Scenario,
    calibration: Calibration,
    inputs: tuple[Inputs, Inputs] = (Inputs(), Inputs()),
) -> Observed:
    """What the pair observed; ``inputs`` are those of ``forward`` and of ``reverse``."""
    there, back = inputs
    return Observed(
        _observation(forward, reverse, scenario, calibration, there, standing=True),
        (
            partial(_one_way, forward, reverse, scenario, calibration, there),
            None if reverse is None else partial(_one_way, reverse, forward, scenario, calibration, back),
        ),
        (there.lacking, back.lacking),
    )


def _one_way(
    forward: Heard, reverse: Heard | None, scenario: Scenario, calibration: Calibration, inputs: Inputs
) -> Observation:
    """Observation for methods of one direction."""
    seen = _observation(forward, reverse, scenario, calibration, inputs, standing=False)
    # one slot alone: no wander between two, but both synthesizers once instead of the mean of twice both
    share = _phase_noise_share(scenario, forward, None)
    seen = replace(seen, clock_std_s=0.0, clock_std_hz=seen.clock_std_hz * 2.0**0.5, phase_noise_share=share)
    departed = forward.departed
    if departed is None:
        return seen
    chains_s = calibration.one_way_s(
        forward.receiver.name, forward.transmitter.name, time_stamped=departed.time_stamped
    )
    return replace(
        seen,
        departure=departed.moment.shifted(chains_s),
        departure_std_s=max(seen.departure_std_s, 0.5 * departed.std_s),
    )


def _on_mean_clock(offset: Offset, carrier_hz: float) -> Offset:
    """The offset with its CFO counted per second of both clocks' mean, where one direction counts on the receiver's."""
    if offset.cfo_hz is None:
        return offset
    return replace(offset, cfo_hz=offset.cfo_hz / (1.0 + 0.5 * offset.cfo_hz / carrier_hz))


def _observation(
    forward: Heard,
    reverse: Heard | None,
    scenario: Scenario,
    calibration: Calibration,
    inputs: Inputs,
    *,
    standing: bool,
) -> Observation:
    port = Port.SHARED
    if "separate" in (forward.receiver.port, forward.transmitter.port):
        port = Port.SEPARATE
    constant_s = departure_std_s = separation_s = 0.0
    departed, returned = forward.departed, None if reverse is None else reverse.departed
    if departed is not None and returned is not None:
        there = calibration.one_way_s(
            forward.receiver.name, forward.transmitter.name, time_stamped=departed.time_stamped
        )
        back = calibration.one_way_s(
            forward.transmitter.name, forward.receiver.name, time_stamped=returned.time_stamped
        )
        constant_s = 0.5 * (there - back)
        departure_std_s = 0.5 * hypot(departed.std_s, returned.std_s)
        separation_s = abs(forward.csi.reference.seconds_since(returned.moment))
    noise = clock_noise(
        forward.csi.symbol_s, float(forward.csi.carrier_hz), (forward.receiver, forward.transmitter), separation_s
    )
    return Observation(
        forward=_evened(forward, calibration, standing=standing),
        departure=None if departed is None else departed.moment,
        reverse=None if reverse is None else _evened(reverse, calibration, standing=standing),
        reverse_departure=None if returned is None else returned.moment,
        port=port,
        chain_constant_s=constant_s,
        departure_std_s=departure_std_s,
        clock_std_s=noise.wander_s,
        clock_std_hz=noise.frequency_hz,
        clock_std_rad=noise.phase_rad,
        phase_noise_share=_phase_noise_share(scenario, forward, reverse),
        oscillators=difference((forward.receiver, forward.transmitter)),
        separation_s=separation_s,
        extras=_extras(forward, scenario) | dict(inputs.given),
    )


def _evened(heard: Heard, calibration: Calibration, *, standing: bool) -> ChannelState:
    """Averaged CSI of a direction, without what the nodes' chains differ by over frequency."""
    return calibration.evened(heard.receiver.name, heard.transmitter.name, averaged(heard, standing=standing))


def _phase_noise_share(scenario: Scenario, forward: Heard, reverse: Heard | None) -> float:
    """Part of the noise heard, of both directions if ``reverse`` is given, that the synthesizers scatter."""
    scattered = disturbance(scenario, forward.receiver) + disturbance(scenario, forward.transmitter)
    heard = [forward] if reverse is None else [forward, reverse]
    noise = float(np.mean([1.0 / max(one.csi.snr, 1e-12) for one in heard]))
    return min(scattered / noise, 1.0)


def disturbance(scenario: Scenario, node: Node) -> float:
    """Power, relative to the signal, that one of a node's synthesizers scatters between subcarriers."""
    return synthesizer_disturbance(
        node.front_end.phase_noise_deg * pi / 180,
        corner_hz=node.front_end.phase_noise_bandwidth_hz,
        length_s=scenario.waveform.fft_size / scenario.waveform.sample_rate_hz,
    )


def _extras(forward: Heard, scenario: Scenario) -> dict[str, Any]:
    """What the experiment knows of the link besides: the surveyed length of the direct path, where there is one."""
    if not scenario.scene.line_of_sight:
        return {}
    there, back = (
        float(np.linalg.norm(antenna_m(source, transmits=True) - antenna_m(sink, transmits=False))) / SPEED_OF_LIGHT_MPS
        for source, sink in ((forward.transmitter, forward.receiver), (forward.receiver, forward.transmitter))
    )
    return {STATIC_PATH_DELAY: there, LINE_OF_SIGHT: LineOfSight(there, back)}


def estimates(name: str, pair: Observed) -> tuple[Offset, Offset]:
    """What the method called ``name`` says of the pair, both ways; one that needs both directions is asked once."""
    chosen = method(name)
    if Need.REVERSE_LINK in chosen.needs:
        offset = _asked(chosen, pair.standing, pair.lacking[0])
        if pair.standing.reverse is None:
            return offset, offset
        if offset.to_s is not None:
            return offset, _mirrored(offset, pair.standing.reverse)
        return offset, _asked(chosen, pair.standing.reversed(), pair.lacking[1])
    offset = _asked(chosen, pair.forward, pair.lacking[0])
    return offset, offset if pair.backward is None else _asked(chosen, pair.backward, pair.lacking[1])


def _asked(chosen: Method, seen: Observation, lacking: Mapping[Need, str]) -> Offset:
    """The method's answer; an input that it lacks, or cannot use, makes the offset invalid."""
    try:
        offset = chosen.estimate(seen)
    except MissingInputError as error:
        reason = ": ".join(filter(None, [str(error), lacking.get(error.need, "")]))
        return Offset(None, None, epoch=seen.forward.reference, valid=False, reason=reason)
    except ValueError as error:
        return Offset(None, None, epoch=seen.forward.reference, valid=False, reason=str(error))
    if Need.REVERSE_LINK not in chosen.needs:
        offset = _on_mean_clock(offset, float(seen.forward.carrier_hz))
    if offset.details.get("reference") == "relative":
        # The change since a fingerprint is no clock offset: nothing downstream may take it for one.
        change = {"to_change_s": offset.to_s, "to_change_std_s": offset.to_std_s}
        return replace(offset, to_s=None, to_std_s=None, details=offset.details | change)
    return offset


def _mirrored(offset: Offset, reverse: ChannelState) -> Offset:
    """The same two-way offset of the other direction: the opposite, at the same instant on the other clock."""
    assert offset.to_s is not None
    anchor = reverse.reference
    return replace(
        offset,
        to_s=-offset.to_s,
        cfo_hz=None if offset.cfo_hz is None else -offset.cfo_hz,
        phase_rad=None if offset.phase_rad is None else -offset.phase_rad % pi,
        epoch=anchor.shifted(offset.epoch.seconds_since(anchor) - offset.to_s),
    )


def unnumbered(offset: Offset, receiver: str, transmitter: str) -> Offset:
    """The offset made invalid because frames of a slot were not found, and any of its frames may be the first."""
    if not offset.valid:
        return offset
    reason = (
        f"{receiver} found fewer frames of {transmitter} than were sent, and nothing tells which: the time offset may "
        "be whole frame periods off"
    )
    return replace(offset, valid=False, reason=reason)


def power_law(node: Node) -> PowerLaw:
    """Noise model of a node's oscillator."""
    law = node.clock.power_law
    return PowerLaw(law.random_walk_fm, law.flicker_fm, law.white_fm, law.flicker_pm, law.white_pm)


def difference(nodes: Sequence[Node]) -> PowerLaw:
    """Noise model of two independent clocks' difference."""
    return PowerLaw(*(sum(terms) for terms in zip(*(astuple(power_law(node)) for node in nodes), strict=True)))


@dataclass(frozen=True)
class ClockNoise:
    """Deviations that the nodes' oscillators and synthesizers add to a two-way offset."""

    wander_s: float
    frequency_hz: float
    phase_rad: float


def clock_noise(symbol_s: FloatArray, carrier_hz: float, nodes: Sequence[Node], separation_s: float) -> ClockNoise:
    """What the oscillators add to the time offset, and the synthesizers to frequency and phase, over a slot.

    ``symbol_s`` are the slot's symbol times, ascending; ``separation_s`` is from one direction's slot to the other's.
    """
    spacing_s = float(np.min(np.diff(symbol_s))) if len(symbol_s) > 1 else 1e-6
    length_s = float(symbol_s[-1] - symbol_s[0]) + spacing_s
    # Synthesizer noise is quick against a frame: gaps between frames are so much less to average it over.
    duty = len(symbol_s) * spacing_s / length_s
    wander_s = frequency_hz = phase_rad = 0.0
    for node in nodes:
        wander_s = hypot(wander_s, midpoint_wander_s(power_law(node), separation_s=separation_s, averaging_s=length_s))
        rms_rad, corner_hz = node.front_end.phase_noise_deg * pi / 180, node.front_end.phase_noise_bandwidth_hz
        # Receiver's and transmitter's synthesizer in both directions, halved: each node counts half of two.
        share = (2.0 * duty) ** -0.5
        frequency_hz = hypot(
            frequency_hz,
            share * synthesizer_frequency_deviation_hz(rms_rad, corner_hz=corner_hz, length_s=length_s),
        )
        phase_rad = hypot(
            phase_rad, share * synthesizer_phase_deviation_rad(rms_rad, corner_hz=corner_hz, length_s=length_s)
        )
    return ClockNoise(wander_s, frequency_hz, hypot(phase_rad, 2.0 * pi * carrier_hz * wander_s))
