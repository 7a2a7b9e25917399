"""Two directions of one link brought together: what each method says of the two clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, pi
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.oscillator import PowerLaw, midpoint_wander_s, synthesizer_frequency_deviation_hz
from dsp.synchronization.base import Method, Need, Observation, Offset, Port
from dsp.synchronization.path_resolved import STATIC_PATH_DELAY
from dsp.synchronization.structured import LINE_OF_SIGHT, LineOfSight
from testbed.antennas import antenna_m
from testbed.calibration import Calibration
from testbed.methods import method
from testbed.scenario import Node, Scenario

__all__ = ["Departed", "Heard", "Observed", "estimates", "observed"]

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


@dataclass(frozen=True)
class Heard:
    """One direction of a link in one round."""

    receiver: Node
    transmitter: Node
    csi: ChannelState
    departed: Departed | None
    quiet: ChannelState | None = None
    """The same without the movers found; None where none were looked for."""


def _averaged(heard: Heard, *, standing: bool) -> ChannelState:
    """CSI averaged over runs of symbols short against any motion, which evens the weights out."""
    csi = heard.quiet if standing and heard.quiet is not None else heard.csi
    symbols = int((csi.frame_of_symbol == csi.frame_of_symbol[0]).sum())
    spacing_s = float(csi.symbol_s[1] - csi.symbol_s[0]) if symbols > 1 else _COHERENT_S
    run = max(1, min(int(_COHERENT_S / spacing_s), symbols // _LEAST_BLOCKS))
    return csi.averaged(run)


@dataclass(frozen=True)
class Observed:
    """What a pair observed of each other, as the methods receive it."""

    standing: Observation
    """Without the movers found: for methods that compare the two directions, which see a mover in different places."""
    whole: Observation
    """With everything that was heard: for methods that look at one direction, movers included."""


def observed(forward: Heard, reverse: Heard | None, scenario: Scenario, calibration: Calibration) -> Observed:
    """What the pair observed."""
    return Observed(
        _observation(forward, reverse, scenario, calibration, standing=True),
        _observation(forward, reverse, scenario, calibration, standing=False),
    )


def _observation(
    forward: Heard, reverse: Heard | None, scenario: Scenario, calibration: Calibration, *, standing: bool
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
    length_s = float(forward.csi.symbol_s[-1] - forward.csi.symbol_s[0])
    wander_s, wander_hz = _clock_noise((forward.receiver, forward.transmitter), separation_s, max(length_s, 1e-6))
    return Observation(
        forward=_averaged(forward, standing=standing),
        departure=None if departed is None else departed.moment,
        reverse=None if reverse is None else _averaged(reverse, standing=standing),
        reverse_departure=None if returned is None else returned.moment,
        port=port,
        chain_constant_s=constant_s,
        departure_std_s=departure_std_s,
        clock_std_s=wander_s,
        clock_std_hz=wander_hz,
        extras=_extras(forward, scenario),
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
    seen = pair.standing if Need.REVERSE_LINK in chosen.needs else pair.whole
    offset = _asked(chosen, seen)
    if seen.reverse is None:
        return offset, offset
    if Need.REVERSE_LINK in chosen.needs and offset.to_s is not None:
        return offset, _mirrored(offset, seen.reverse)
    return offset, _asked(chosen, seen.reversed())


def _asked(chosen: Method, seen: Observation) -> Offset:
    """The method's answer; an input that it lacks, or cannot use, makes the offset invalid."""
    try:
        return chosen.estimate(seen)
    except ValueError as error:
        return Offset(None, None, epoch=seen.forward.reference, valid=False, reason=str(error))


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


def _clock_noise(nodes: Sequence[Node], separation_s: float, length_s: float) -> tuple[float, float]:
    """Deviations that the nodes' oscillators add to the time offset and their synthesizers to the frequency."""
    wander_s = wander_hz = 0.0
    for node in nodes:
        law = node.clock.power_law
        power_law = PowerLaw(law.random_walk_fm, law.flicker_fm, law.white_fm, law.flicker_pm, law.white_pm)
        wander_s = hypot(wander_s, midpoint_wander_s(power_law, separation_s=separation_s, averaging_s=length_s))
        # Receiver's and transmitter's synthesizer in both directions, halved: each node counts half of two.
        deviation_hz = synthesizer_frequency_deviation_hz(
            node.front_end.phase_noise_deg * pi / 180,
            corner_hz=node.front_end.phase_noise_bandwidth_hz,
            length_s=length_s,
        )
        wander_hz = hypot(wander_hz, deviation_hz / 2**0.5)
    return wander_s, wander_hz
