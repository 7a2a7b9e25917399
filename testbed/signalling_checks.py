"""Rules of an experiment file on what stations send by precoders."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log10

import numpy as np

from testbed.precoders import PrecoderFile, decoded, numbers
from testbed.scenario import Node, Scenario, Signalling
from testbed.schedule import dsp_waveform, round_samples
from testbed.toml_words import number

__all__ = ["rules"]

_SPEED_OF_LIGHT_MPS = 299_792_458.0
_STEADY_S = 3e-3
"""Beyond its recording, from which a simulated round lasts as long as it was asked to."""


def rules(scenario: Scenario) -> Iterator[str]:
    """Sentences on the rules that are broken."""
    for node in scenario.node:
        if node.transmit_antennas > 1 and node.radio != "simulated":
            yield (
                f"node.transmit_antennas of {node.name!r} is {node.transmit_antennas}, but its radio is "
                f'"{node.radio}", which sends from one: use 1'
            )
    said = scenario.signalling
    if said is None:
        return
    try:
        design = decoded(said.precoders)
    except ValueError as error:
        yield f"signalling.precoders is no file of `isac signalling --out`: {error}"
        return
    yield from _names(scenario, said, design)
    yield from _radio(scenario, design)
    yield from _antennas(scenario, said)
    yield from _surroundings(scenario, said, design)
    yield from _compensation(scenario, said, design)


def _names(scenario: Scenario, said: Signalling, design: PrecoderFile) -> Iterator[str]:
    names = [node.name for node in scenario.node]
    stations, users = len(design.precoders[0][0]), len(design.sinr)
    for key, given, wanted in (("stations", said.stations, stations), ("users", said.users, users)):
        for index, name in enumerate(given):
            if name not in names:
                yield f"signalling.{key} names {name!r}, but no node is called so: there are {', '.join(names)}"
            if name in given[:index]:
                yield f"signalling.{key} names {name!r} twice: name each node once"
        if len(given) != wanted:
            yield f"signalling.{key} names {len(given)}, but the precoders are for {wanted}: name {wanted}"
    for name in said.users:
        if name in said.stations:
            yield f"signalling.users names {name!r}, which signalling.stations names too: a node is one of them"
    targets = {reflector.name: reflector for reflector in scenario.scene.reflector}
    if said.target and said.target not in targets:
        there = f"there are {', '.join(targets)}" if targets else "there is none"
        yield f"signalling.target is {said.target!r}, but no reflector is called so: {there}"
    elif said.target and any(targets[said.target].velocity_mps):
        yield (
            f"signalling.target is {said.target!r}, which moves, but the precoders' promise is for one that stands: "
            "leave its velocity out"
        )


def _radio(scenario: Scenario, design: PrecoderFile) -> Iterator[str]:
    waveform = scenario.waveform
    if abs(design.carrier_hz / waveform.carrier_hz - 1) > 1e-6:
        yield (
            f"waveform.carrier_hz is {number(waveform.carrier_hz)}, but signalling.precoders are for "
            f"{number(design.carrier_hz)}: give both the same"
        )
    occupied = waveform.active_subcarriers * waveform.sample_rate_hz / waveform.fft_size
    if abs(design.bandwidth_hz / occupied - 1) > 0.01:
        yield (
            f"waveform.active_subcarriers is {waveform.active_subcarriers} ({occupied / 1e6:g} MHz), but "
            f"signalling.precoders are for {design.bandwidth_hz / 1e6:g} MHz: give both the same"
        )
    if scenario.scene.snr_db is not None:
        yield (
            f"scene.snr_db is {scenario.scene.snr_db:g}, but what signalling.precoders promise is from the link "
            "budget: leave it out"
        )


def _antennas(scenario: Scenario, said: Signalling) -> Iterator[str]:
    precoders = numbers(said.precoders)
    strongest = float((np.abs(precoders) ** 2).sum(axis=1).mean(axis=0).max())
    crest = dsp_waveform(scenario).scale ** 2
    half = 0.5 * _SPEED_OF_LIGHT_MPS / scenario.waveform.carrier_hz
    for node in (scenario.node[scenario.index(name)] for name in said.stations):
        of = f"of {node.name!r}"
        if node.transmit_antennas != precoders.shape[3]:
            yield (
                f"node.transmit_antennas {of} is {node.transmit_antennas}, but signalling.precoders are for "
                f"{precoders.shape[3]} antennas a station: use {precoders.shape[3]}"
            )
        permitted = 1e-3 * 10 ** (node.tx_power_dbm / 10) * crest
        if strongest > permitted * 1.001:
            needed = 10 * log10(1e3 * strongest / crest)
            yield (
                f"node.tx_power_dbm {of} is {node.tx_power_dbm:g}, which leaves an antenna {1e3 * permitted:.3g} mW "
                f"below the {-10 * log10(crest):.1f} dB of OFDM's crest, but signalling.precoders send "
                f"{1e3 * strongest:.3g} mW: use {np.ceil(10 * needed) / 10:g} or more"
            )
        if node.transmit_antennas > 1 and abs(node.antenna_spacing_m / half - 1) > 0.01:
            yield (
                f"node.antenna_spacing_m {of} is {node.antenna_spacing_m:g}, but signalling.precoders are for half a "
                f"wavelength: use {half:.6g}, or leave it out"
            )


def _surroundings(scenario: Scenario, said: Signalling, design: PrecoderFile) -> Iterator[str]:
    listening: list[Node] = [scenario.node[scenario.index(name)] for name in (*said.users, *said.stations)]
    for node in listening:
        of = f"of {node.name!r}"
        if not node.in_ether:
            yield (
                f'node.radio {of} is "{node.radio}", but precoders are for simulated radios alone: use '
                '"simulated", or leave [signalling] out'
            )
        figure = node.front_end.noise_figure_db
        if figure != design.noise_figure_db:
            yield (
                f"node.front_end.noise_figure_db {of} is {figure}, but signalling.precoders promise for "
                f"{design.noise_figure_db:g}: give both the same"
            )
    if said.users and not scenario.scene.line_of_sight:
        yield (
            "scene.line_of_sight is false, but signalling.precoders serve users over the line of sight: leave it out"
        )
    if said.target and scenario.scene.leakage_db == "off":
        yield (
            'scene.leakage_db is "off", so that stations do not hear their own echoes, which the promise of '
            "signalling.precoders counts: give a number of decibels"
        )


def _compensation(scenario: Scenario, said: Signalling, design: PrecoderFile) -> Iterator[str]:
    if not said.compensate:
        return
    if design.mode != "coherent":
        yield (
            f'signalling.compensate is true, but signalling.precoders are "{design.mode}", without a phase: '
            "leave it out"
        )
    for node in (scenario.node[scenario.index(name)] for name in said.stations):
        if not node.front_end.common_phase or not node.front_end.time_stamps or node.port != "shared":
            yield (
                f"signalling.compensate is true, but {node.name!r} does not send and receive with one phase, by time "
                'stamps and through one port: give its front_end common_phase and time_stamps, and port = "shared"'
            )
    if scenario.round.start_spread_s:
        yield (
            f"round.start_spread_s is {scenario.round.start_spread_s:g}, but signalling.compensate needs recordings "
            "that begin together, so that a round tells when the next one's joint slot comes: use 0"
        )
    needed_s = round_samples(scenario) / scenario.waveform.sample_rate_hz + _STEADY_S
    if scenario.round.period_s < needed_s:
        yield (
            f"round.period_s is {scenario.round.period_s:g}, but signalling.compensate tells phases on over a period "
            f"that must be known: use {ceil(1e3 * needed_s) / 1e3:g} or more"
        )
