"""Moving objects on every link, and where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import atan2, hypot, radians

import numpy as np

from dsp.channel import FloatArray
from dsp.localization import LinkMeasurement, Position, Station, associate
from dsp.moment import Moment
from dsp.sensing.angle import Angle, bearing
from dsp.sensing.detection import Detection, Search
from dsp.sensing.slot import SlotSensing, sense, without_movers
from dsp.synchronization.base import Offset
from testbed.antennas import antenna_m, antenna_spacing_m, array_centre_m
from testbed.calibration import Calibration
from testbed.pairs import Heard
from testbed.scenario import Node, Scenario

__all__ = [
    "Echoes",
    "MovingTarget",
    "absolute_origin_s",
    "echoes",
    "max_doppler_hz",
    "mirror_resolved",
    "positions",
    "slot_times",
    "station",
]


@dataclass(frozen=True)
class Echoes:
    """What moved on one link in one round."""

    heard: Heard
    sensing: SlotSensing
    angles: tuple[Angle | None, ...]
    """One for each path detected; None with a single antenna."""
    middle: Moment
    """Receiver's clock at the slot's mean symbol time, to which delays and angles belong."""
    middle_s: float
    """The same, seconds after the CSI's reference."""

    def standing(self) -> Heard:
        """The link without what moves, for the methods that compare its two directions."""
        return replace(self.heard, quiet=without_movers(self.heard.csi, self.sensing))


@dataclass(frozen=True)
class MovingTarget:
    """Target located from the echoes of all links."""

    position: Position
    links: tuple[tuple[int, int], ...]
    """(index into the echoes, index of the detection) of its members."""


def echoes(heard: Heard, scenario: Scenario) -> Echoes:
    """Moving paths of one link, strongest first."""
    csi, waveform = heard.csi, scenario.waveform
    search = Search(
        min_delay_s=-1.0 / waveform.sample_rate_hz,
        max_delay_s=waveform.cp_samples / waveform.sample_rate_hz,
        max_doppler_hz=max_doppler_hz(scenario),
        false_alarm_rate=scenario.sensing.false_alarm_rate,
        remove_clutter=scenario.sensing.remove_clutter,
    )
    found = sense(csi, search)
    middle_s = float(found.csi.symbol_s.mean())
    return Echoes(
        heard=heard,
        sensing=found,
        angles=tuple(_angle(path, heard.receiver, scenario, float(csi.carrier_hz)) for path in found.detections),
        middle=csi.reference.shifted(middle_s),
        middle_s=middle_s,
    )


def absolute_origin_s(heard: Heard, offset: Offset, middle_s: float, calibration: Calibration) -> float | None:
    """What turns a residual delay at ``middle_s`` after the CSI's reference into the absolute delay of a path.

    None where the departure or the time offset is not known.
    """
    departed, csi = heard.departed, heard.csi
    if departed is None or offset.to_s is None or offset.cfo_hz is None or not offset.valid:
        return None
    carrier_hz = float(csi.carrier_hz)
    apparent_s = csi.reference.seconds_since(departed.moment) - csi.cfo_reference_hz / carrier_hz * middle_s
    age_s = csi.reference.shifted(middle_s).seconds_since(offset.epoch)
    time_offset_s = offset.to_s - offset.cfo_hz / carrier_hz * age_s
    chains_s = calibration.one_way_s(heard.receiver.name, heard.transmitter.name, time_stamped=departed.time_stamped)
    return apparent_s - time_offset_s - chains_s


def station(node: Node, carrier_hz: float) -> Station:
    """Node as geometry."""
    return Station(
        node.name,
        array_centre_m(node, carrier_hz),
        radians(node.heading_deg),
        transmit_m=antenna_m(node, transmits=True),
    )


def slot_times(
    found: Sequence[Echoes], offsets: Mapping[tuple[str, str, str], Offset], method: str
) -> tuple[list[float | None], Moment]:
    """Time of each link's slot after their mean, and that mean, on the clock of the first link's receiver.

    None where the offsets that ``method`` found do not lead from a receiver's clock to that one.
    """
    home, anchor = found[0].heard.receiver.name, found[0].middle
    times: list[float | None] = []
    for seen in found:
        chain = _chain(seen.heard.receiver.name, home, offsets, method)
        if chain is None:
            times.append(None)
            continue
        ahead_s = 0.0
        for offset in chain:
            age_s = seen.middle.seconds_since(offset.epoch) - ahead_s
            slope = (offset.cfo_hz or 0.0) / float(seen.heard.csi.carrier_hz)
            ahead_s += (offset.to_s or 0.0) - slope * age_s
        times.append(seen.middle.seconds_since(anchor) - ahead_s)
    mean_s = float(np.mean([time_s for time_s in times if time_s is not None]))
    return [None if time_s is None else time_s - mean_s for time_s in times], anchor.shifted(mean_s)


def _chain(
    start: str, end: str, offsets: Mapping[tuple[str, str, str], Offset], method: str
) -> tuple[Offset, ...] | None:
    """Fewest time offsets that lead from one clock to another."""
    known: dict[str, tuple[Offset, ...]] = {start: ()}
    waiting = [start]
    for here in waiting:
        if here == end:
            return known[here]
        for (receiver, transmitter, name), offset in offsets.items():
            if receiver == here and name == method and transmitter not in known and offset.to_s is not None:
                known[transmitter] = (*known[here], offset)
                waiting.append(transmitter)
    return None


def positions(
    found: Sequence[Echoes],
    origins_s: Sequence[float | None],
    to_std_s: Sequence[float],
    times_s: Sequence[float | None],
    scenario: Scenario,
) -> list[MovingTarget]:
    """Targets located by maximum likelihood from the echoes of all links, at one common instant.

    Parameters
    ----------
    found : sequence of Echoes
        One for each link.
    origins_s : sequence of float or None
        What makes each link's residual delays absolute; a link without one is left out.
    to_std_s : sequence of float
        Deviation of each link's time offset, which is in every absolute delay: one error, with opposite signs, in the
        two directions of a pair.
    times_s : sequence of float or None
        Time of each link's slot after the common instant; a link without one is left out.
    scenario : Scenario
        Where the nodes stand.
    """
    measurements: list[LinkMeasurement] = []
    members: list[tuple[int, int]] = []
    for index, (link, origin_s, deviation_s, time_s) in enumerate(
        zip(found, origins_s, to_std_s, times_s, strict=True)
    ):
        if origin_s is None or time_s is None:
            continue
        departed_std_s = 0.0 if link.heard.departed is None else link.heard.departed.std_s
        for number, (path, angle) in enumerate(zip(link.sensing.detections, link.angles, strict=True)):
            measurements.append(
                LinkMeasurement(
                    receiver=link.heard.receiver.name,
                    transmitter=link.heard.transmitter.name,
                    delay_s=path.residual_delay_s + origin_s,
                    delay_std_s=hypot(path.delay_std_s, departed_std_s),
                    sines=() if angle is None else angle.sines,
                    sine_std=0.0 if angle is None else angle.sine_std,
                    doppler_hz=path.doppler_hz,
                    doppler_std_hz=path.doppler_std_hz,
                    carrier_hz=float(link.heard.csi.carrier_hz),
                    time_s=time_s,
                    offset_std_s=deviation_s,
                )
            )
            members.append((index, number))
    stations = {node.name: station(node, scenario.waveform.carrier_hz) for node in scenario.node}
    return [
        MovingTarget(position, tuple(members[index] for index in position.members))
        for position in associate(measurements, stations)
    ]


def mirror_resolved(angle: Angle, receiver: Station, position_m: FloatArray) -> float:
    """The one of an arrival's bearings that points at ``position_m``."""
    way = position_m[:2] - receiver.position_m[:2]
    true = atan2(way[1], way[0]) - receiver.heading_rad
    return min(angle.bearings_rad, key=lambda bearing_rad: abs(np.angle(np.exp(1j * (bearing_rad - true)))))


def max_doppler_hz(scenario: Scenario) -> float:
    """Doppler span without ambiguity: half the frames' rate; of a lone frame an eighth of its symbols'."""
    if scenario.round.frames_per_slot > 1:
        return 0.5 / scenario.round.frame_period_s
    waveform = scenario.waveform
    return 0.125 * waveform.sample_rate_hz / (waveform.fft_size + waveform.cp_samples)


def _angle(path: Detection, receiver: Node, scenario: Scenario, carrier_hz: float) -> Angle | None:
    if receiver.antennas < 2:
        return None
    return bearing(
        path.amplitudes,
        path.amplitude_covariance,
        spacing_m=antenna_spacing_m(receiver, scenario.waveform.carrier_hz),
        carrier_hz=carrier_hz,
    )
