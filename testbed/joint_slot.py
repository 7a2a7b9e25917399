"""What stations send together by precoders: OFDM symbols of known random elements, the same at every node and replay.

Unless stations cooperate coherently, each sends symbols of its own in every stream. The slot has no preamble: the
nodes' own slots before it tell when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray
from dsp.waveform import Waveform, random_words, symbol_samples
from testbed.precoders import decoded, numbers
from testbed.scenario import Scenario
from testbed.schedule import dsp_waveform, joint_symbols
from testbed.transmit_correction import Correction

__all__ = ["JointBurst", "JointSlot", "joint_burst", "joint_slot"]

_SEQUENCE = 0x4A53


@dataclass(frozen=True)
class JointSlot:
    """Resource elements of one round's joint slot."""

    elements: NDArray[np.complex64]
    """Unit elements of each stream, shape (group, stream, symbol, subcarrier); the groups are the stations, or one
    for all that cooperate coherently."""
    sent: NDArray[np.complex64]
    """What each antenna sends, in roots of watts over the whole band, shape (station, antenna, symbol, subcarrier)."""


@dataclass(frozen=True)
class JointBurst:
    """What one station hands to its radio."""

    samples: NDArray[np.complex64]
    """Shape (antenna, sample), of full scale."""
    earlier: int
    """Samples by which it is to leave before its place in the schedule."""


@lru_cache(maxsize=2)
def joint_slot(scenario: Scenario, index: int) -> JointSlot:
    """Joint slot of round ``index``: of the first scrambling that keeps every antenna below full scale.

    Raises
    ------
    ValueError
        If none does.
    """
    said = scenario.signalling
    if said is None:
        raise ValueError("no station sends by precoders")
    waveform, precoders = dsp_waveform(scenario), numbers(said.precoders)
    middles = np.array(decoded(said.precoders).block_hz)
    block = np.argmin(np.abs(waveform.subcarrier_hz[:, None] - middles), axis=1)
    full_scale = [
        np.sqrt(1e-3 * 10 ** (scenario.node[scenario.index(name)].tx_power_dbm / 10)) for name in said.stations
    ]
    groups = 1 if decoded(said.precoders).mode == "coherent" else len(said.stations)
    for nonce in range(256):
        elements = _elements(scenario, waveform, (groups, precoders.shape[1], joint_symbols(scenario)), index, nonce)
        sent = np.stack(
            [
                np.einsum("ksa,slk->alk", precoders[block, :, station], elements[station % groups])
                for station in range(len(said.stations))
            ]
        ).astype(np.complex64)
        peak = max(
            float(np.abs(symbol_samples(waveform, antenna)).max()) / full
            for station, full in zip(sent, full_scale, strict=True)
            for antenna in station
        )
        if peak <= 1.0:
            return JointSlot(elements, sent)
    raise ValueError("no scrambling keeps the joint slot's peak below full scale")


def joint_burst(scenario: Scenario, node: int, index: int, correction: Correction | None = None) -> JointBurst | None:
    """Samples that node ``node`` sends in the joint slot of round ``index``; None if it sends none.

    A delay is taken off by whole samples and, on every subcarrier, by a phase; phase and frequency of the carrier from
    every sample. What then exceeds full scale between the samples that `joint_slot` looks at is clipped, as a
    converter does.
    """
    said = scenario.signalling
    name = scenario.node[node].name
    if said is None or name not in said.stations:
        return None
    waveform = dsp_waveform(scenario)
    sent = joint_slot(scenario, index).sent[said.stations.index(name)]
    full = np.sqrt(1e-3 * 10 ** (scenario.node[node].tx_power_dbm / 10))
    if correction is None:
        samples = np.stack([symbol_samples(waveform, antenna).ravel() / full for antenna in sent])
        return JointBurst(samples.astype(np.complex64), 0)
    rate_hz = float(waveform.rate_hz)
    earlier = round(correction.delay_s * rate_hz)
    rest_s = correction.delay_s - earlier / rate_hz
    sent = (sent * np.exp(2j * pi * waveform.subcarrier_hz * rest_s)).astype(np.complex64)
    samples = np.stack([symbol_samples(waveform, antenna).ravel() / full for antenna in sent])
    time_s = np.arange(samples.shape[1]) / rate_hz
    samples = samples * np.exp(-1j * (correction.phase_rad + 2 * pi * correction.cfo_hz * time_s))
    return JointBurst((samples / np.maximum(np.abs(samples), 1.0)).astype(np.complex64), earlier)


def _elements(
    scenario: Scenario, waveform: Waveform, shape: tuple[int, int, int], index: int, nonce: int
) -> ComplexArray:
    size = (*shape, waveform.active_subcarriers)
    words = random_words(int(np.prod(size)), _SEQUENCE, scenario.experiment.seed, index, nonce)
    quarter = (words >> np.uint64(62)).astype(np.int64).reshape(size)
    return np.asarray(np.exp(1j * (pi / 4 + pi / 2 * np.arange(4)))[quarter], np.complex64)
