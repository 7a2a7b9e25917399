"""Rules that join several keys of an experiment file, and the defaults that depend on other keys.

A broken rule is a sentence, "KEY is VALUE (what that means), but …: use …", without the file's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import ceil, dist

import msgspec

from testbed import methods, signalling_checks
from testbed.radio_checks import rules
from testbed.scenario import Node, Reflector, Scenario
from testbed.schedule import dsp_waveform, latency_bound_s, run_s
from testbed.toml_words import number

__all__ = ["complaint", "resolved"]

_SPEED_OF_LIGHT_MPS = 299_792_458.0
_TIMING_UNCERTAINTY_SAMPLES = 3
"""What coarse timing may err, and what the band-limited pulse spreads, within the cyclic prefix."""
SIMULATED_CARRIER_HZ = (70e6, 6e9)
SIMULATED_RATE_HZ = (25e6 / 48, 61.44e6)
"""What the simulated device can do, as the AD936x."""
_USRP_LEAD_S = 0.05
"""What a host needs to tell a device, by network or USB, when to start."""
_CAPTURE_PPM = 60.0
_CAPTURE_HZ = 150e3


def complaint(scenario: Scenario, *, methods_here: bool = True) -> str | None:
    """Sentence on the first rule joining several keys that ``scenario`` breaks; None if it keeps all."""
    for rule in (
        _names,
        _methods_here if methods_here else _methods,
        _waveform,
        _fingerprint,
        _reach,
        _frame,
        _round,
        _nodes,
        rules,
        _clocks,
        _paths,
        signalling_checks.rules,
    ):
        for sentence in rule(scenario):
            return sentence
    return None


def resolved(scenario: Scenario) -> Scenario:
    """The same experiment with every default that depends on other keys written out."""
    half_wavelength = 0.5 * _SPEED_OF_LIGHT_MPS / scenario.waveform.carrier_hz
    nodes = tuple(
        msgspec.structs.replace(node, antenna_spacing_m=node.antenna_spacing_m or half_wavelength)
        for node in scenario.node
    )
    reflectors = tuple(
        msgspec.structs.replace(reflector, name=reflector.name or f"reflector-{number}")
        for number, reflector in enumerate(scenario.scene.reflector, start=1)
    )
    scene = msgspec.structs.replace(scenario.scene, reflector=reflectors)
    lead_s = scenario.round.start_lead_s
    if lead_s is None:
        lead_s = _USRP_LEAD_S if any(node.radio == "usrp" for node in nodes) else 0.0
    timing = msgspec.structs.replace(scenario.round, start_lead_s=lead_s)
    return msgspec.structs.replace(scenario, node=nodes, scene=scene, round=timing)


def _names(scenario: Scenario) -> Iterator[str]:
    names = [node.name for node in scenario.node]
    for index, name in enumerate(names):
        if name in names[:index]:
            first = names.index(name) + 1
            yield f"node.name is {name!r} for nodes {first} and {index + 1}, but must tell them apart: use two names"
    targets = [reflector.name for reflector in scenario.scene.reflector]
    for index, name in enumerate(targets):
        if name in targets[:index]:
            first = targets.index(name) + 1
            yield (
                f"scene.reflector.name is {name!r} for reflectors {first} and {index + 1}, but must tell them apart: "
                "use two names"
            )


def _methods_here(scenario: Scenario) -> Iterator[str]:
    for name in scenario.experiment.methods:
        wrong = methods.complaint(name)
        if wrong is not None:
            yield f"experiment.methods names {name!r}, {wrong}"
    yield from _methods(scenario)


def _methods(scenario: Scenario) -> Iterator[str]:
    names = scenario.experiment.methods
    for index, method in enumerate(names):
        if method in names[:index]:
            yield f"experiment.methods names {method!r} twice: name each method once"


def _fingerprint(scenario: Scenario) -> Iterator[str]:
    chosen, rounds = scenario.fingerprint.round, scenario.experiment.rounds
    if chosen is not None and scenario.fingerprint.file:
        yield f"fingerprint.round is {chosen}, but fingerprint.file is given, and none is taken: leave one of them out"
    if chosen is not None and chosen >= rounds:
        yield (
            f"fingerprint.round is {chosen}, but experiment.rounds is {rounds}, which are numbered from 0: "
            f"use {rounds - 1} or less"
        )


def _waveform(scenario: Scenario) -> Iterator[str]:
    waveform = scenario.waveform
    size, rate, active = waveform.fft_size, waveform.sample_rate_hz, waveform.active_subcarriers
    if size & (size - 1):
        yield f"waveform.fft_size is {size}, but must be a power of two from 64 to 8192"
    if rate > waveform.carrier_hz:
        yield (
            f"waveform.sample_rate_hz is {number(rate)} ({_frequency(rate)}), above the carrier of "
            f"{_frequency(waveform.carrier_hz)}: give both in hertz"
        )
    if active > size - 2:
        yield (
            f"waveform.active_subcarriers is {active} ({_frequency((active + 1) * rate / size)} wide), but the radio's "
            f"rate is {_frequency(rate)}, {size} subcarriers: use {int(0.8 * size) // 2 * 2} or less"
        )
    if active % 2:
        yield (
            f"waveform.active_subcarriers is {active}, but must be even, half on each side of the carrier: "
            f"use {active - 1}"
        )
    if waveform.cp_samples >= size:
        yield f"waveform.cp_samples is {waveform.cp_samples}, but must be less than waveform.fft_size = {size}"
    if waveform.pilot_spacing > active // 4:
        yield (
            f"waveform.pilot_spacing is {waveform.pilot_spacing}, which leaves fewer than four pilots in a symbol: "
            f"use {active // 4} or less"
        )


def _reach(scenario: Scenario) -> Iterator[str]:
    waveform = scenario.waveform
    simulated = [node.name for node in scenario.node if node.radio == "simulated"]
    for key, value, (low, high) in (
        ("carrier_hz", waveform.carrier_hz, SIMULATED_CARRIER_HZ),
        ("sample_rate_hz", waveform.sample_rate_hz, SIMULATED_RATE_HZ),
    ):
        if simulated and not low <= value <= high:
            yield (
                f"waveform.{key} is {number(value)} ({_frequency(value)}), but the simulated radio of "
                f"{simulated[0]!r} covers {_frequency(low)} to {_frequency(high)}: give hertz in that range"
            )


def _frame(scenario: Scenario) -> Iterator[str]:
    from dsp.payload import payload_bits

    try:
        payload_bits(dsp_waveform(scenario))
    except ValueError as error:
        reason = str(error).replace(": ", "; ")
        yield f"waveform.symbols is {scenario.waveform.symbols}, but {reason}: use more symbols or subcarriers"


def _round(scenario: Scenario) -> Iterator[str]:
    timing, rate = scenario.round, scenario.waveform.sample_rate_hz
    period = timing.frame_period_s * rate
    if abs(period - round(period)) > 1e-6:
        yield (
            f"round.frame_period_s is {number(timing.frame_period_s)} ({period:.6f} samples), but must be a whole "
            f"number of samples: use {round(period) / rate:.12g}"
        )
    frame = dsp_waveform(scenario).frame_samples
    if period < frame:
        yield (
            f"round.frame_period_s is {number(timing.frame_period_s)} ({1e3 * timing.frame_period_s:g} ms), but a "
            f"frame takes {1e3 * frame / rate:.3f} ms: use {number(ceil(1e4 * frame / rate) / 1e4)} or more"
        )
    spread = 2 * timing.start_spread_s + latency_bound_s(scenario)
    if timing.guard_s < spread:
        yield (
            f"round.guard_s is {number(timing.guard_s)} ({1e3 * timing.guard_s:g} ms), but the starts of two nodes "
            f"may lie {1e3 * spread:g} ms apart: use {number(spread)} or more"
        )


def _nodes(scenario: Scenario) -> Iterator[str]:
    wavelength = _SPEED_OF_LIGHT_MPS / scenario.waveform.carrier_hz
    for node in scenario.node:
        of = f"of {node.name!r}"
        offsets = any(node.tx_offset_m) or any(node.rx_offset_m)
        if node.port == "separate" and not offsets:
            yield f'node.port {of} is "separate", but tx_offset_m and rx_offset_m are both zero: give one of them'
        if node.port == "shared" and offsets:
            yield f'node.port {of} is "shared", but tx_offset_m or rx_offset_m is not zero: use "separate"'
        if node.radio not in ("pluto", "recorded") and node.pluto is not None:
            yield f'node.pluto {of} is given, but node.radio is "{node.radio}": use radio = "pluto", or leave it out'
        if node.radio not in ("usrp", "recorded") and node.usrp is not None:
            yield f'node.usrp {of} is given, but node.radio is "{node.radio}": use radio = "usrp", or leave it out'
        if node.antennas > 1 and node.antenna_spacing_m > 20 * wavelength:
            yield (
                f"node.antenna_spacing_m {of} is {node.antenna_spacing_m:g}, {node.antenna_spacing_m / wavelength:.0f} "
                f"wavelengths of {wavelength:.3g} m: give metres"
            )
    for one, other in combinations(scenario.node, 2):
        if _distance(one.position_m, other.position_m) < 1e-3:
            yield (
                f"node.position_m of {other.name!r} is {list(other.position_m)}, where {one.name!r} stands: "
                "give each node its own place"
            )


def _clocks(scenario: Scenario) -> Iterator[str]:
    carrier = scenario.waveform.carrier_hz
    bound = max(_CAPTURE_PPM, 1e6 * _CAPTURE_HZ / carrier)
    nodes = [node for node in scenario.node if node.in_ether]
    for one, other in combinations(nodes, 2):
        apart = abs(one.clock.offset_ppm - other.clock.offset_ppm)
        if apart > bound:
            yield (
                f"node.clock.offset_ppm of {other.name!r} is {other.clock.offset_ppm:g}, {apart:g} ppm "
                f"({_frequency(apart * 1e-6 * carrier)}) from {one.name!r}, but acquisition covers "
                f"±{bound:g} ppm: bring them closer"
            )


def _paths(scenario: Scenario) -> Iterator[str]:
    scene, waveform = scenario.scene, scenario.waveform
    nodes = [node for node in scenario.node if node.in_ether]
    for reflector in scene.reflector:
        for node in nodes:
            if _distance(reflector.position_m, node.position_m) < 1e-2:
                yield (
                    f"scene.reflector.position_m of {reflector.name!r} is {list(reflector.position_m)}, where "
                    f"{node.name!r} stands: move it away"
                )
    if len(nodes) > 1 and not scene.line_of_sight and not scene.reflector:
        yield (
            f"scene.line_of_sight is false and there is no [[scene.reflector]], so {nodes[1].name!r} cannot hear "
            f"{nodes[0].name!r}: allow one or give the other"
        )
    rate = waveform.sample_rate_hz
    for one, other in combinations(nodes, 2):
        delay = _largest_delay_s(one, other, scenario)
        needed = ceil(delay * rate) + _TIMING_UNCERTAINTY_SAMPLES
        if waveform.cp_samples < needed:
            yield (
                f"waveform.cp_samples is {waveform.cp_samples} ({1e6 * waveform.cp_samples / rate:.2f} µs at "
                f"{rate / 1e6:g} MS/s), but node {other.name!r} hears {one.name!r} over paths up to "
                f"{1e6 * delay:.2f} µs: use {-(-needed // 8) * 8} or more"
            )


def _largest_delay_s(one: Node, other: Node, scenario: Scenario) -> float:
    """Longest path between two nodes at the begin or the end of the run."""

    def over(reflector: Reflector, seconds: float) -> float:
        place = [
            x + seconds * v for x, v in zip(_padded(reflector.position_m), _padded(reflector.velocity_mps), strict=True)
        ]
        return _distance(one.position_m, place) + _distance(place, other.position_m)

    lengths = [_distance(one.position_m, other.position_m)] if scenario.scene.line_of_sight else []
    for reflector in scenario.scene.reflector:
        lengths += [over(reflector, 0.0), over(reflector, run_s(scenario))]
    return max(lengths, default=0.0) / _SPEED_OF_LIGHT_MPS


def _padded(vector: tuple[float, ...] | list[float]) -> tuple[float, float, float]:
    x, y, *z = vector
    return x, y, z[0] if z else 0.0


def _distance(one: tuple[float, ...] | list[float], other: tuple[float, ...] | list[float]) -> float:
    return dist(_padded(one), _padded(other))


def _frequency(hertz: float) -> str:
    for scale, unit in ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz")):
        if hertz >= scale:
            return f"{hertz / scale:g} {unit}"
    return f"{hertz:g} Hz"
