"""Where simulated movers truly were, as each link sees them: geometry alone, from the scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray
from dsp.moment import Moment
from testbed.antennas import antenna_m, array_centre_m
from testbed.results import TargetTruth
from testbed.scenario import Reflector, Scenario
from testbed.targets import Echoes
from testbed.truth import ClockTruth

__all__ = ["TargetsSeen", "targets_seen"]

_GATE_CELLS = 1.0
"""A detection is a target's if it lies within this many resolution cells of it in delay and Doppler."""
_GATE_DEVIATIONS = 10.0
_GATE_M = 5.0


@dataclass(frozen=True)
class TargetsSeen:
    """True movers of one round; empty where nothing is known."""

    rows: tuple[TargetTruth, ...] = ()
    """One for each mover and link, at the link's own slot."""
    movers: dict[str, Reflector] = field(default_factory=dict)
    clocks: Mapping[str, ClockTruth] = field(default_factory=dict)
    line_of_sight_s: dict[tuple[str, str], float] = field(default_factory=dict)
    cell_s: float = 0.0
    cell_hz: float = 0.0

    def name_of(self, seen: Echoes, delay_s: float | None, doppler_hz: float, reference: str) -> str | None:
        """Mover within a resolution cell of a detection, by Doppler alone where its delay counts from
        nothing that geometry knows; None if none is."""
        link = (seen.heard.receiver.name, seen.heard.transmitter.name)
        origin = 0.0 if reference == "absolute" else self.line_of_sight_s.get(link, 0.0)
        best: tuple[float, str] | None = None
        for row in self.rows:
            if (row.receiver, row.transmitter) != link:
                continue
            apart = abs(doppler_hz - row.doppler_hz) / self.cell_hz
            if delay_s is not None and reference != "static-path":
                apart = max(apart, abs(delay_s + origin - row.delay_s) / self.cell_s)
            if apart < _GATE_CELLS and (best is None or apart < best[0]):
                best = (apart, row.name)
        return None if best is None else best[1]

    def nearest(
        self, position_m: FloatArray, covariance_m2: FloatArray, instant: Moment
    ) -> tuple[str | None, float | None]:
        """Mover whose position at ``instant`` this may be, and the distance to it."""
        best: tuple[float, str] | None = None
        if instant.clock not in self.clocks:
            return None, None
        when = self.clocks[instant.clock].true_time_of(instant)
        reach = max(_GATE_M, _GATE_DEVIATIONS * float(np.sqrt(np.trace(covariance_m2))))
        for name, mover in self.movers.items():
            true_m, _ = _state(mover, when.whole_s + when.fraction_s, position_m.size)
            distance = float(np.linalg.norm(position_m - true_m))
            if distance < reach and (best is None or distance < best[0]):
                best = (distance, name)
        return (None, None) if best is None else (best[1], best[0])


def targets_seen(
    index: int, found: Sequence[Echoes], scenario: Scenario, clocks: Mapping[str, ClockTruth]
) -> TargetsSeen:
    """True movers as the links of one round see them; nothing where the clocks' truth is not known."""
    movers = [
        (reflector.name or f"reflector-{number + 1}", reflector)
        for number, reflector in enumerate(scenario.scene.reflector)
        if any(reflector.velocity_mps)
    ]
    known = [seen for seen in found if seen.heard.receiver.name in clocks]
    if not movers or not known:
        return TargetsSeen()
    rows, sight = [], {}
    for seen in known:
        receiver, transmitter = seen.heard.receiver, seen.heard.transmitter
        when = clocks[receiver.name].true_time_of(seen.middle)
        time_s = when.whole_s + when.fraction_s
        source = antenna_m(transmitter, transmits=True)
        ends = (source, array_centre_m(receiver, scenario.waveform.carrier_hz))
        # the line of sight is judged at the first antenna, a mover by all of them together
        sight[receiver.name, transmitter.name] = (
            float(np.linalg.norm(source - antenna_m(receiver, transmits=False))) / SPEED_OF_LIGHT_MPS
        )
        for name, mover in movers:
            place, speed = _state(mover, time_s, ends[0].size)
            ways = [place - end for end in ends]
            lengths = [float(np.linalg.norm(way)) for way in ways]
            closing_mps = -sum(float(way @ speed) / length for way, length in zip(ways, lengths, strict=True))
            rows.append(
                TargetTruth(
                    round=index,
                    receiver=receiver.name,
                    transmitter=transmitter.name,
                    name=name,
                    delay_s=sum(lengths) / SPEED_OF_LIGHT_MPS,
                    doppler_hz=closing_mps / SPEED_OF_LIGHT_MPS * scenario.waveform.carrier_hz,
                    position_m=[float(x) for x in place],
                )
            )
    found_map = known[0].sensing.search.found
    return TargetsSeen(
        rows=tuple(rows),
        movers=dict(movers),
        clocks=clocks,
        line_of_sight_s=sight,
        cell_s=found_map.delay_cell_s,
        cell_hz=found_map.doppler_cell_hz,
    )


def _state(mover: Reflector, time_s: float, dimension: int) -> tuple[FloatArray, FloatArray]:
    """Position and velocity, padded or cut to ``dimension``."""
    place, speed = np.zeros(3), np.zeros(3)
    place[: len(mover.position_m)] = mover.position_m
    speed[: len(mover.velocity_mps)] = mover.velocity_mps
    return (place + speed * time_s)[:dimension], speed[:dimension]
