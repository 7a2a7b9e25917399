"""Who transmits when: the arithmetic of a round, in samples of a node's own clock.

Every node records the whole round. Sample 0 is the recording's first; the recordings of the nodes begin within
± `Round.start_spread_s` of each other, and nobody knows by how much.

    half duplex    guard | slot of node 0 | guard | slot of node 1 | guard | …
    full duplex    guard | slots of all nodes at once | guard

A slot is frames_per_slot times frame_period long, its last frame's pause included. Where stations send by precoders,
one joint slot and a guard follow: symbols without preamble, which all of them send at once.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

from testbed.scenario import Scenario

if TYPE_CHECKING:
    from dsp.waveform import Waveform

__all__ = [
    "LATENCY_BOUND_S",
    "dsp_waveform",
    "frame_offsets_samples",
    "joint_offset_samples",
    "joint_symbols",
    "latency_bound_s",
    "nominal_carrier_hz",
    "nominal_rate_hz",
    "period_samples",
    "recording_bytes",
    "round_period_s",
    "round_samples",
    "run_s",
    "slot_offset_samples",
    "slot_samples",
]

LATENCY_BOUND_S = 1e-3
"""How long after its command a transmission may begin on a simulated device without timed transmission."""


def nominal_rate_hz(scenario: Scenario) -> Fraction:
    """Sample rate asked for, exact; radios state the one they applied."""
    return Fraction(scenario.waveform.sample_rate_hz).limit_denominator(1_000_000)


def nominal_carrier_hz(scenario: Scenario) -> Fraction:
    """Carrier asked for, exact; radios state the one they applied."""
    return Fraction(scenario.waveform.carrier_hz).limit_denominator(1_000_000)


def dsp_waveform(
    scenario: Scenario, *, rate_hz: Fraction | None = None, carrier_hz: Fraction | None = None
) -> Waveform:
    """Numerology of the frames, at the nominal rate and carrier or at those that a radio applied."""
    from dsp.waveform import Modulation, Waveform

    waveform = scenario.waveform
    return Waveform(
        fft_size=waveform.fft_size,
        cp_samples=waveform.cp_samples,
        active_subcarriers=waveform.active_subcarriers,
        symbols=waveform.symbols,
        modulation=Modulation(waveform.modulation),
        pilot_spacing=waveform.pilot_spacing,
        rate_hz=nominal_rate_hz(scenario) if rate_hz is None else rate_hz,
        carrier_hz=nominal_carrier_hz(scenario) if carrier_hz is None else carrier_hz,
    )


def period_samples(scenario: Scenario) -> int:
    """From one frame's first sample to the next one's."""
    return round(scenario.round.frame_period_s * scenario.waveform.sample_rate_hz)


def slot_samples(scenario: Scenario) -> int:
    """Length of a slot."""
    return scenario.round.frames_per_slot * period_samples(scenario)


def slot_offset_samples(scenario: Scenario, node: int) -> int:
    """Where the slot of the node with index ``node`` begins in that node's own recording."""
    guard = _guard_samples(scenario)
    before = node if scenario.round.duplex == "half" else 0
    return guard + before * (slot_samples(scenario) + guard)


def frame_offsets_samples(scenario: Scenario, node: int) -> list[int]:
    """Where each frame of a node's slot begins in that node's own recording."""
    begin, period = slot_offset_samples(scenario, node), period_samples(scenario)
    return [begin + frame * period for frame in range(scenario.round.frames_per_slot)]


def joint_symbols(scenario: Scenario) -> int:
    """OFDM symbols of the joint slot: the interval that the precoders are designed for; 0 where there are none."""
    if scenario.signalling is None:
        return 0
    from testbed.precoders import decoded

    waveform = scenario.waveform
    interval_s = decoded(scenario.signalling.precoders).interval_s
    return max(round(interval_s * waveform.sample_rate_hz / waveform.fft_size), 1)


def joint_offset_samples(scenario: Scenario) -> int:
    """Where the joint slot begins in every node's own recording."""
    last = len(scenario.node) - 1 if scenario.round.duplex == "half" else 0
    return slot_offset_samples(scenario, last) + slot_samples(scenario) + _guard_samples(scenario)


def round_samples(scenario: Scenario) -> int:
    """Length of every node's recording of one round."""
    end = joint_offset_samples(scenario)
    symbols = joint_symbols(scenario)
    if symbols:
        end += symbols * (scenario.waveform.fft_size + scenario.waveform.cp_samples) + _guard_samples(scenario)
    return end


def round_period_s(scenario: Scenario) -> float:
    """From one round's begin to the next one's: as asked, or the recording and the uncertainty of its start."""
    shortest = round_samples(scenario) / scenario.waveform.sample_rate_hz + 2 * scenario.round.start_spread_s
    return max(scenario.round.period_s, shortest + latency_bound_s(scenario))


def latency_bound_s(scenario: Scenario) -> float:
    """How long after its command a transmission may begin on any of the devices."""
    lags = [node.pluto.receive_lag_s for node in scenario.node if node.pluto is not None and not node.in_ether]
    return max([LATENCY_BOUND_S, *(2 * lag for lag in lags)])


def run_s(scenario: Scenario) -> float:
    """Length of the whole run in the radios' time."""
    return scenario.experiment.rounds * round_period_s(scenario)


def recording_bytes(scenario: Scenario) -> int:
    """What the run's recordings take on disk: two 16-bit numbers a sample and antenna."""
    antennas = sum(node.antennas for node in scenario.node)
    return 4 * antennas * round_samples(scenario) * scenario.experiment.rounds


def _guard_samples(scenario: Scenario) -> int:
    return ceil(scenario.round.guard_s * scenario.waveform.sample_rate_hz)
