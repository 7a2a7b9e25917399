"""What the joint slot of a round shows of the precoders' promises: users' SINR, and the target's position.

A user finds the slot by the stations' own slots before it, which left each station by a known number of samples
earlier, and compares what it hears with the symbols sent. Stations find each other's departure likewise, from the line
of sight of known length, and look for the target in all echoes together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState, FloatArray
from dsp.front import Tuning
from dsp.joint_reception import known_symbols_sinr, symbols_at
from dsp.moment import Moment
from dsp.network.echo_position import Hearing, Illumination, locate_by_echoes, position_bound
from dsp.paths import first_path
from testbed.antennas import antenna_m, antenna_spacing_m
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.coherence import expected_sinr
from testbed.joint_slot import joint_slot
from testbed.pairs import Departed
from testbed.planning.budget import echo_gain, noise_watts
from testbed.precoders import decoded, numbers
from testbed.results import SignallingRow
from testbed.scenario import Node, Reflector, Scenario, Signalling
from testbed.schedule import dsp_waveform, joint_offset_samples, joint_symbols, slot_offset_samples
from testbed.transmit_correction import Correction, applied

__all__ = ["Listening", "promises"]

_MOST_TURNS = 0.02
"""Turns that the carriers of two stations may part over the joint slot: beyond, echoes lose a hundredth."""
_AREA_SHARE = 0.5
"""The target is looked for in the box around all nodes, and beyond it by this share of its larger side."""


@dataclass(frozen=True)
class Listening:
    """What the nodes heard in one round."""

    captures: Mapping[str, Capture]
    samples: Mapping[str, NDArray[np.complex64]]
    """Of each node that listens to the joint slot, from its capture's first tick."""
    slots: Mapping[tuple[str, str], ChannelState]
    """Slots heard, by receiver and transmitter."""
    departed: Mapping[str, Departed]
    left: Mapping[str, Correction] = field(default_factory=dict)
    """Of the offset of each station that takes its own off what it sends, where the round tells."""

    def taken_off(self, station: str) -> Correction:
        """What ``station`` took off its joint slot."""
        capture = self.captures.get(station)
        return (None if capture is None else applied(capture)) or Correction(0.0, 0.0, 0.0)


def promises(index: int, heard: Listening, scenario: Scenario, calibration: Calibration) -> list[SignallingRow]:
    """Every promise of the precoders beside what round ``index`` showed, users first."""
    said = scenario.signalling
    if said is None:
        return []
    rows = [_served(number, name, index, heard, scenario) for number, name in enumerate(said.users)]
    if said.target:
        rows.append(_located(index, said, heard, scenario, calibration))
    return rows


def _served(number: int, name: str, index: int, heard: Listening, scenario: Scenario) -> SignallingRow:
    """SINR of one user."""
    said = scenario.signalling
    assert said is not None
    row = SignallingRow(round=index, quantity="sinr", subject=name, unit="1",
                        promised=decoded(said.precoders).sinr[number])  # fmt: skip
    slots = {station: heard.slots[name, station] for station in said.stations if (name, station) in heard.slots}
    if said.compensate:
        unknown = [one for one in said.stations if one not in heard.captures or applied(heard.captures[one]) is None]
        if unknown:
            row.reason = f"nothing was taken off what {unknown[0]} sends: no round before told its offset"
            return row
        # All stations send as the first one's slot comes.
        slots = {station: csi for station, csi in slots.items() if station == said.stations[0]}
        row.expected = expected_sinr(scenario, heard.left, name)
    if not slots or name not in heard.samples:
        row.reason = f"{name} heard no station's own slot, which tells when the joint one comes"
        return row
    capture = heard.captures[name]
    cfo_hz = float(np.mean([csi.cfo_reference_hz for csi in slots.values()]))
    start = min(_joint_start(csi, station, capture, scenario) for station, csi in slots.items())
    try:
        received = _symbols(heard, name, start, cfo_hz, scenario)
    except ValueError as error:
        row.reason = str(error)
        return row
    powers = (np.abs(numbers(said.precoders)[:, number]) ** 2).sum(axis=(0, 2))
    elements = joint_slot(scenario, index).elements[:, number]
    sending = powers > 1e-9 * powers.max()
    wanted = elements if len(elements) == 1 else elements[sending]
    measured = known_symbols_sinr(received[0], wanted)
    row.measured, row.standard_error, row.valid = measured.value, measured.standard_error, True
    return row


def _joint_start(csi: ChannelState, station: str, capture: Capture, scenario: Scenario) -> float:
    """Where the joint slot begins in the receiver's samples if it came as the station's own slot did."""
    rate = csi.reference.rate_hz
    first = Moment(capture.node, capture.stretches[0].first_tick, 0.0, rate)
    arrival = csi.reference.seconds_since(first) * float(rate)
    later = joint_offset_samples(scenario) - slot_offset_samples(scenario, scenario.index(station))
    return arrival + later / (1 + csi.cfo_reference_hz / float(csi.carrier_hz))


def _symbols(heard: Listening, name: str, start: float, cfo_hz: float, scenario: Scenario) -> NDArray[np.complex64]:
    capture = heard.captures[name]
    sender = next(heard.captures[station] for station in _said(scenario).stations if station in heard.captures)
    return symbols_at(
        heard.samples[name],
        dsp_waveform(scenario, rate_hz=sender.rate_hz, carrier_hz=sender.carrier_hz),
        start=start,
        cfo_hz=cfo_hz,
        symbols=joint_symbols(scenario),
        tuning=Tuning(capture.rate_hz, capture.carrier_hz),
    )


def _said(scenario: Scenario) -> Signalling:
    assert scenario.signalling is not None
    return scenario.signalling


def _located(
    index: int, said: Signalling, heard: Listening, scenario: Scenario, calibration: Calibration
) -> SignallingRow:
    """Position of the target by the echoes that all stations hear."""
    waveform, design = dsp_waveform(scenario), decoded(said.precoders)
    # The slot is a whole number of symbols; the bound goes with the inverse of its energy.
    share = design.interval_s * waveform.spacing_hz / joint_symbols(scenario)
    row = SignallingRow(round=index, quantity="position", subject=said.target, unit="m",
                        promised=design.position_rmse_m * share**0.5)  # fmt: skip
    nodes = [scenario.node[scenario.index(name)] for name in said.stations]
    hearings = []
    for number, node in enumerate(nodes):
        hearing = _hearing(number, node, nodes, heard, scenario, calibration)
        if isinstance(hearing, str):
            row.reason = hearing
            return row
        hearings.append(hearing)
    carrier = scenario.waveform.carrier_hz
    light = Illumination(
        sent=joint_slot(scenario, index).sent,
        antennas_m=np.stack([_line(node, node.transmit_antennas, carrier, transmits=True) for node in nodes]),
        carrier_hz=carrier,
        subcarrier_hz=waveform.subcarrier_hz,
    )
    target = next(one for one in scenario.scene.reflector if one.name == said.target)
    row.bound = _bound(hearings, light, nodes, target, scenario)
    found = locate_by_echoes(hearings, light, _area(scenario))
    row.position_m = [float(x) for x in found.position_m]
    row.measured = float(np.linalg.norm(found.position_m - np.array(target.position_m[:2])))
    row.stated = float(np.sqrt(np.trace(found.covariance_m2)))
    row.valid = True
    return row


def _bound(
    hearings: list[Hearing], light: Illumination, nodes: list[Node], target: Reflector, scenario: Scenario
) -> float:
    """Deviation of the target's position that the bound allows with the signals of the round.

    Source: docs/methods/signalling.md eq. 12.
    """
    place, carrier = np.array(target.position_m, dtype=float), light.carrier_hz
    powers = [[float(echo_gain(one, other, carrier, place, target.rcs_m2)) for other in nodes] for one in nodes]
    noise = [
        noise_watts(node, scenario) + _phase_noise_watts(number, hearing, light, nodes)
        for number, (node, hearing) in enumerate(zip(nodes, hearings, strict=True))
    ]
    return float(np.sqrt(np.trace(position_bound(hearings, light, place[:2], np.array(powers), np.array(noise)))))


def _phase_noise_watts(number: int, hearing: Hearing, light: Illumination, nodes: list[Node]) -> float:
    """What both ends' phase noise makes of the lines of sight; that of echoes is far below."""
    noise = 0.0
    for place, other in enumerate(nodes):
        if place == number:
            continue
        apart = np.linalg.norm(light.antennas_m[place] - hearing.antennas_m[0], axis=1)
        wavelength = SPEED_OF_LIGHT_MPS / light.carrier_hz
        gains = wavelength / (4 * np.pi * apart) * np.exp(-2j * np.pi * apart / wavelength)
        watts = float(np.mean(np.abs(np.einsum("a,alk->lk", gains, light.sent[place])) ** 2))
        ends_deg = np.array([other.front_end.phase_noise_deg, nodes[number].front_end.phase_noise_deg])
        noise += watts * float(np.sum(np.radians(ends_deg) ** 2))
    return noise


def _hearing(
    number: int, node: Node, nodes: list[Node], heard: Listening, scenario: Scenario, calibration: Calibration
) -> Hearing | str:
    """What one station received in the joint slot, or why it cannot be used."""
    name, departed = node.name, heard.departed.get(node.name)
    if name not in heard.samples or departed is None:
        return f"departure of {name} unknown"
    capture, waveform = heard.captures[name], dsp_waveform(scenario)
    rate, symbols = float(capture.rate_hz), joint_symbols(scenario)
    first = Moment(name, capture.stretches[0].first_tick, 0.0, capture.rate_hz)
    later = joint_offset_samples(scenario) - slot_offset_samples(scenario, scenario.index(name))
    start = departed.moment.seconds_since(first) * rate + later
    chains_s = calibration.one_way_s(name, name, time_stamped=departed.time_stamped)
    own = heard.taken_off(name)
    zero_s = np.full(len(nodes), chains_s - own.delay_s)
    for place, other in enumerate(nodes):
        if other is node:
            continue
        csi = heard.slots.get((name, other.name))
        if csi is None:
            return f"{name} did not hear {other.name}"
        parted_hz = csi.cfo_reference_hz - heard.taken_off(other.name).cfo_hz + own.cfo_hz
        turns = abs(parted_hz) * symbols * waveform.symbol_s
        if turns > _MOST_TURNS:
            return (
                f"carriers of {name} and {other.name} are {abs(parted_hz):.3g} Hz apart: the joint slot "
                f"takes stations that agree within {_MOST_TURNS / (symbols * waveform.symbol_s):.2g} Hz"
            )
        arrival = _joint_start(csi, other.name, capture, scenario) + first_path(csi.antenna(0)).delay_s * rate
        apart = np.linalg.norm(antenna_m(other, transmits=True) - antenna_m(node, transmits=False))
        zero_s[place] = (arrival - start) / rate - float(apart) / SPEED_OF_LIGHT_MPS
        zero_s[place] -= heard.taken_off(other.name).delay_s
    try:
        # What the station took off to send at the first one's frequency, it hears of the others.
        received = _symbols(heard, name, start, -own.cfo_hz, scenario)
    except ValueError as error:
        return str(error)
    leakage_s = calibration.nodes[name].leakage_s if name in calibration.nodes else 0.0
    antennas = _line(node, node.antennas, scenario.waveform.carrier_hz, transmits=False)
    return Hearing(number, received, antennas, zero_s, leakage_s)


def _line(node: Node, count: int, carrier_hz: float, *, transmits: bool) -> FloatArray:
    """Places of a node's antennas in the plane, shape (antenna, 2)."""
    heading = np.radians(node.heading_deg)
    left = antenna_spacing_m(node, carrier_hz) * np.array([-np.sin(heading), np.cos(heading)])
    return antenna_m(node, transmits=transmits)[:2] + np.arange(count)[:, None] * left


def _area(scenario: Scenario) -> tuple[FloatArray, FloatArray]:
    places = np.array([node.position_m[:2] for node in scenario.node], dtype=float)
    low, high = places.min(axis=0), places.max(axis=0)
    beyond = _AREA_SHARE * float((high - low).max())
    return low - beyond, high + beyond
