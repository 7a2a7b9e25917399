"""Stations that cooperate coherently without a common clock: the offsets of a round are taken off the next joint slot.

Each round's own slots tell, by a two-way method, how every station's clock and carrier stand against those of the first
one. What they will be at the next joint slot follows from the frequency; the station takes it off what it sends, and
the next round's slots tell what was left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.network.cooperation import sinr_over_band
from dsp.paths import first_path
from dsp.synchronization.base import Offset
from testbed.antennas import antenna_m, elements_m
from testbed.capture import Capture
from testbed.pairs import Departed
from testbed.planning.budget import noise_watts
from testbed.precoders import decoded, numbers
from testbed.scenario import Scenario
from testbed.schedule import dsp_waveform, joint_offset_samples, round_period_s, slot_offset_samples
from testbed.transmit_correction import Correction, applied

__all__ = ["Coherence", "expected_sinr"]


@dataclass(frozen=True)
class _Known:
    """Offset of one station's joint slot, as the slots of one round tell it."""

    round: int
    offset: Correction


class Coherence:
    """Offsets of the stations' joint slots, round by round.

    The phase of a two-way exchange is known modulo π; which half turn it is the direct path tells, whose length the
    experiment states: to a quarter of a wavelength, as the precoders take it too. Source: docs/methods/signalling.md
    eq. 13.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._newest: dict[str, _Known] = {}

    def take(
        self,
        index: int,
        captures: Mapping[str, Capture],
        departed: Mapping[str, Departed],
        slots: Mapping[tuple[str, str], ChannelState],
        offsets: Mapping[tuple[str, str, str], Offset],
    ) -> dict[str, Correction]:
        """What round ``index`` shows to have been left of each station's offset after what it took off.

        Stations that took nothing off, or whose offset the round does not tell, are missing.
        """
        said = self._scenario.signalling
        if said is None or not said.compensate or said.stations[0] not in departed:
            return {}
        left = {}
        for name in said.stations:
            offset = self._offset(name, captures, departed, slots, offsets)
            if offset is None:
                continue
            self._newest[name] = _Known(index, offset)
            taken = applied(captures[name])
            if taken is not None:
                left[name] = Correction(
                    offset.delay_s - taken.delay_s, offset.phase_rad - taken.phase_rad, offset.cfo_hz - taken.cfo_hz
                )
        return left

    def corrections(self, index: int) -> dict[str, Correction]:
        """What each station is to take off the joint slot of round ``index``, told on from the newest round."""
        carrier_hz, period_s = self._scenario.waveform.carrier_hz, round_period_s(self._scenario)
        found = {}
        for name, known in self._newest.items():
            elapsed_s = (index - known.round) * period_s
            found[name] = Correction(
                known.offset.delay_s - known.offset.cfo_hz / carrier_hz * elapsed_s,
                known.offset.phase_rad + 2 * pi * known.offset.cfo_hz * elapsed_s,
                known.offset.cfo_hz,
            )
        return found

    def _offset(
        self,
        name: str,
        captures: Mapping[str, Capture],
        departed: Mapping[str, Departed],
        slots: Mapping[tuple[str, str], ChannelState],
        offsets: Mapping[tuple[str, str, str], Offset],
    ) -> Correction | None:
        """How the joint slot of ``name`` stands against the first station's; None if the round does not tell."""
        said = self._scenario.signalling
        assert said is not None
        first = said.stations[0]
        if name == first:
            return Correction(0.0, 0.0, 0.0)
        if name not in departed or (first, name) not in slots:
            return None
        told = (offsets.get((first, name, method)) for method in self._scenario.experiment.methods)
        offset = next((one for one in told if one is not None and _usable(one)), None)
        if offset is None:
            return None
        assert offset.to_s is not None
        assert offset.cfo_hz is not None
        csi = slots[first, name]
        begin = self._begin(first, captures[first], departed[first])
        elapsed_s = begin.seconds_since(offset.epoch)
        to_s = offset.to_s - offset.cfo_hz / float(csi.carrier_hz) * elapsed_s
        delay_s = self._begin(name, captures[name], departed[name]).seconds_since(begin) + to_s
        phase_rad = self._whole_phase(name, csi, offset) + 2 * pi * offset.cfo_hz * elapsed_s
        return Correction(delay_s, phase_rad, offset.cfo_hz)

    def _begin(self, name: str, capture: Capture, departed: Departed) -> Moment:
        """When the joint slot would begin on the node's clock with nothing taken off."""
        slot = slot_offset_samples(self._scenario, self._scenario.index(name))
        return departed.moment.shifted((joint_offset_samples(self._scenario) - slot) / float(capture.rate_hz))

    def _whole_phase(self, name: str, csi: ChannelState, offset: Offset) -> float:
        """Phase of ``name`` ahead of the first station at the offset's epoch, its half turn told by the direct path."""
        said = self._scenario.signalling
        assert said is not None
        assert offset.cfo_hz is not None
        assert offset.phase_rad is not None
        here, there = (self._scenario.node[self._scenario.index(node)] for node in (said.stations[0], name))
        apart_m = float(np.linalg.norm(antenna_m(there, transmits=True) - antenna_m(here, transmits=False)))
        path = first_path(csi.antenna(0))
        response = np.einsum(
            "lk,lk,k->l", csi.values[0], csi.weights, np.exp(2j * pi * csi.subcarrier_hz * path.delay_s)
        )
        turning = np.exp(-2j * pi * (offset.cfo_hz - csi.cfo_reference_hz) * csi.symbol_s)
        seen_rad = float(np.angle(np.sum(response * turning)))
        seen_rad += 2 * pi * float(csi.carrier_hz) * apart_m / SPEED_OF_LIGHT_MPS
        seen_rad += 2 * pi * offset.cfo_hz * offset.epoch.seconds_since(csi.reference)
        return offset.phase_rad + pi * round((seen_rad - offset.phase_rad) / pi)


def expected_sinr(scenario: Scenario, left: Mapping[str, Correction], user: str) -> float | None:
    """SINR that the precoders give ``user`` with what was ``left`` of the stations' offsets; None unless all are known.

    In free space from antenna to antenna and against thermal noise, as the design promises it, on every subcarrier.
    Source: docs/methods/signalling.md eq. 14.
    """
    said = scenario.signalling
    assert said is not None
    if any(name not in left for name in said.stations):
        return None
    waveform, carrier_hz = dsp_waveform(scenario), scenario.waveform.carrier_hz
    node = scenario.node[scenario.index(user)]
    stations = [scenario.node[scenario.index(name)] for name in said.stations]
    place = antenna_m(node, transmits=False)
    places = np.stack([elements_m(one, carrier_hz, transmits=True) for one in stations])
    distance = np.linalg.norm(place - places, axis=2)
    wavelength = SPEED_OF_LIGHT_MPS / carrier_hz
    turns = distance / SPEED_OF_LIGHT_MPS * (carrier_hz + waveform.subcarrier_hz[:, None, None])
    precoders = numbers(said.precoders)
    middles = np.array(decoded(said.precoders).block_hz)
    block = np.argmin(np.abs(waveform.subcarrier_hz[:, None] - middles), axis=1)
    ratio = sinr_over_band(
        wavelength / (4 * pi * distance) * np.exp(2j * pi * turns),
        precoders[block],
        noise_watts(node, scenario),
        stream=said.users.index(user),
        offset_hz=waveform.subcarrier_hz,
        delay_s=np.array([left[name].delay_s for name in said.stations]),
        phase_rad=np.array([left[name].phase_rad for name in said.stations]),
    )
    return float(ratio)


def _usable(offset: Offset) -> bool:
    return offset.valid and None not in (offset.to_s, offset.cfo_hz, offset.phase_rad)
