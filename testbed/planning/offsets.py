"""Clock offsets that a method can reach on a pair of nodes, part by part, and whether it applies at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import hypot, inf, sqrt

import numpy as np

from dsp.bounds.link import delay_std_s, doppler_std_hz, two_way_bound
from dsp.channel import FloatArray
from dsp.waveform import Waveform
from testbed.pairs import clock_noise, disturbance
from testbed.planning.budget import LinkBudget
from testbed.scenario import Node, Scenario
from testbed.schedule import dsp_waveform, slot_offset_samples

__all__ = ["PlannedOffset", "best", "planned_offsets", "slot_symbols_s", "subcarriers_hz"]

_COHERENT_S = 0.5e-3
_LEAST_BLOCKS = 8
"""Symbols are averaged before two directions are multiplied as the pipeline does it."""
_LOW_SNR_LOSS = 0.07
"""Growth of the aligned correlation's variance over the bound's, times the SNR, as measured on multipath."""
_PENCIL = 1.13
"""Deviation of the matrix pencil over that of maximum likelihood, as measured on multipath."""


@dataclass(frozen=True)
class PlannedOffset:
    """What one method can say of one pair's clocks."""

    receiver: str
    transmitter: str
    method: str
    reason: str = ""
    """Why it does not apply, gives no clock offset, or has no bound; or what the reader should know."""
    to_std_s: float | None = None
    cfo_std_hz: float | None = None
    noise_s: float | None = None
    """Part of ``to_std_s`` that noise makes: what more power or more symbols lower."""
    clock_s: float | None = None
    """Part that the clocks' wander between the two slots makes."""

    @property
    def applies(self) -> bool:
        """Whether it gives a clock offset here."""
        return self.to_std_s is not None


def subcarriers_hz(waveform: Waveform) -> FloatArray:
    """Occupied subcarriers, ascending, the carrier's own left out."""
    half = waveform.active_subcarriers // 2
    return np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)]) * float(waveform.spacing_hz)


def slot_symbols_s(scenario: Scenario) -> FloatArray:
    """Times of a slot's symbols, all frames, in seconds."""
    waveform = scenario.waveform
    symbol_s = (waveform.fft_size + waveform.cp_samples) / waveform.sample_rate_hz
    frames = np.arange(scenario.round.frames_per_slot) * scenario.round.frame_period_s
    return np.asarray((frames[:, None] + symbol_s * np.arange(waveform.symbols)).ravel())


def planned_offsets(
    scenario: Scenario, budgets: Mapping[tuple[str, str], LinkBudget], methods: tuple[str, ...]
) -> list[PlannedOffset]:
    """What each of ``methods`` can reach on each pair, first node as the receiver."""
    found = []
    for one, other in combinations(scenario.node, 2):
        pair = budgets[one.name, other.name], budgets[other.name, one.name]
        found += [_planned(scenario, pair, method) for method in methods]
    return found


def best(offsets: list[PlannedOffset], pair: tuple[str, str]) -> PlannedOffset | None:
    """Most accurate of the methods that apply to a pair, named either way."""
    mine = [one for one in offsets if {one.receiver, one.transmitter} == set(pair) and one.applies]
    return min(mine, key=lambda one: one.to_std_s or inf, default=None)


def _planned(scenario: Scenario, pair: tuple[LinkBudget, LinkBudget], method: str) -> PlannedOffset:
    receiver, transmitter = pair[0].receiver, pair[0].transmitter
    head = PlannedOffset(receiver.name, transmitter.name, method)
    separate = "separate" in (receiver.port, transmitter.port)
    if not all(budget.path_count for budget in pair):
        return replace(head, reason="the nodes do not hear each other")
    match method:
        case "reciprocity-mle" | "reciprocity-mp" | "spectral-cc-interpolated" if separate:
            return replace(head, reason="transmit and receive ports are separate: use reciprocity-structured")
        case "reciprocity-mle" | "reciprocity-mp" | "reciprocity-structured" | "spectral-cc-interpolated" | "auto":
            return _two_way(scenario, pair, method, head)
        case "spectral-cc":
            return replace(head, reason="on a grid: no bound; see the bench r-a")
        case "path-resolved" | "path-resolved-angle" | "path-resolved-dictionary":
            return _one_way(scenario, pair[0], method, head)
        case "fingerprint":
            return _fingerprint(scenario, pair[0], head)
        case "cacc" | "csi-ratio" | "csi-ratio-first-order":
            few = receiver.antennas < 2
            return replace(head, reason="needs a second antenna" if few else "gives no clock offset")
    return replace(head, reason="no bound is planned for this method")


def _two_way(
    scenario: Scenario, pair: tuple[LinkBudget, LinkBudget], method: str, head: PlannedOffset
) -> PlannedOffset:
    """Bound of both directions of what stands still, clock wander and synthesizers in quadrature."""
    waveform, times = dsp_waveform(scenario), slot_symbols_s(scenario)
    ratios = [budget.snr * budget.static_share for budget in pair]
    if min(ratios) <= 0:
        return replace(head, reason="no static path")
    snr = 2.0 / sum(1.0 / ratio for ratio in ratios)
    symbol_s = (waveform.fft_size + waveform.cp_samples) / float(waveform.rate_hz)
    run = max(1, min(int(_COHERENT_S / symbol_s), waveform.symbols // _LEAST_BLOCKS))
    bound = two_way_bound(subcarriers_hz(waveform), times, snr, carrier_hz=float(waveform.carrier_hz))
    own = {"reciprocity-structured": 1.0, "spectral-cc-interpolated": sqrt(1.0 + _LOW_SNR_LOSS / snr)}
    factor = own.get(method, sqrt(1.0 + 0.5 / (snr * run)))
    # what synthesizers scatter counts twice in a delay
    scattered = sum(disturbance(scenario, node) for node in (pair[0].receiver, pair[0].transmitter))
    twice = sqrt(1.0 + min(scattered * snr, 1.0))
    noise_s = bound.to_std_s * factor * twice * (_PENCIL if method == "reciprocity-mp" else 1.0)
    noise_hz = bound.cfo_std_hz * factor * (_PENCIL if method == "reciprocity-mp" else 1.0)
    clock_s, clock_hz = _clocks(scenario, (pair[0].receiver, pair[0].transmitter), times)
    note = "takes the best of the two-way methods" if method == "auto" else ""
    return replace(
        head, reason=note, to_std_s=hypot(noise_s, clock_s), cfo_std_hz=hypot(noise_hz, clock_hz),
        noise_s=noise_s, clock_s=clock_s,
    )  # fmt: skip


def _clocks(scenario: Scenario, nodes: tuple[Node, Node], times: FloatArray) -> tuple[float, float]:
    """Deviations that oscillators add to the time offset, and synthesizers to the frequency offset."""
    separation_s = 0.0
    if scenario.round.duplex == "half":
        begins = [slot_offset_samples(scenario, scenario.index(node.name)) for node in nodes]
        separation_s = abs(begins[0] - begins[1]) / scenario.waveform.sample_rate_hz
    noise = clock_noise(times, scenario.waveform.carrier_hz, nodes, separation_s)
    return noise.wander_s, noise.frequency_hz


def _one_way(scenario: Scenario, budget: LinkBudget, method: str, head: PlannedOffset) -> PlannedOffset:
    if method == "path-resolved-angle" and budget.receiver.antennas < 2:
        return replace(head, reason="needs a second antenna")
    sight = budget.path("line of sight")
    reference = sight if sight is not None else next((path for path in budget.paths if not path.moving), None)
    if reference is None:
        return replace(head, reason="no static path")
    if sight is None:
        return replace(head, reason="relative to a static path of unknown length: no line of sight")
    waveform, times = dsp_waveform(scenario), slot_symbols_s(scenario)
    snr = budget.snr * reference.share
    return replace(
        head,
        reason="by the surveyed baseline, from one direction",
        to_std_s=delay_std_s(waveform.active_subcarriers, float(waveform.spacing_hz), times.size, snr),
        cfo_std_hz=_slope_std_hz(waveform, times, snr),
    )


def _fingerprint(scenario: Scenario, budget: LinkBudget, head: PlannedOffset) -> PlannedOffset:
    waveform, times = dsp_waveform(scenario), slot_symbols_s(scenario)
    snr = budget.snr * budget.static_share
    if snr <= 0:
        return replace(head, reason="no static path")
    single = delay_std_s(waveform.active_subcarriers, float(waveform.spacing_hz), times.size, snr)
    return replace(
        head,
        reason="relative to the fingerprint's round, which is as noisy",
        to_std_s=sqrt(2.0) * single,
        cfo_std_hz=_slope_std_hz(waveform, times, snr),
    )


def _slope_std_hz(waveform: Waveform, times: FloatArray, snr: float) -> float:
    """Bound on a frequency from one direction, whatever the gaps between frames."""
    if times.size < 2:
        return inf
    even = doppler_std_hz(waveform.active_subcarriers, times.size, 1.0, snr)
    return even * sqrt(times.size * (times.size**2 - 1) / 12 / float(np.sum((times - times.mean()) ** 2)))
