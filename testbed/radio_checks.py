"""Rules of an experiment file on what the radios are, where they may transmit, and what they can do at all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from testbed.scenario import Node, Scenario
from testbed.toml_words import number

__all__ = ["band_hz", "real_nodes", "rules"]

_PLUTO_CARRIER_HZ = (70e6, 6e9)
_PLUTO_RATE_HZ = (25e6 / 48, 61.44e6)
_PLUTO_ANTENNAS = 2


def real_nodes(scenario: Scenario) -> list[Node]:
    """Nodes whose radios really transmit."""
    return [node for node in scenario.node if node.radio in ("pluto", "usrp") and not node.in_ether]


def band_hz(scenario: Scenario) -> tuple[float, float]:
    """Lowest and highest frequency of what the nodes transmit."""
    waveform = scenario.waveform
    half = 0.5 * (waveform.active_subcarriers + 1) * waveform.sample_rate_hz / waveform.fft_size
    return waveform.carrier_hz - half, waveform.carrier_hz + half


def rules(scenario: Scenario) -> Iterator[str]:
    """Sentences on the rules that are broken."""
    yield from _bands(scenario)
    yield from _company(scenario)
    yield from _devices(scenario)
    yield from _plutos(scenario)


def _bands(scenario: Scenario) -> Iterator[str]:
    bands = scenario.transmission.bands_hz
    for low, high in bands:
        if not 0 < low < high:
            yield (
                f"transmission.bands_hz has {number(low)} to {number(high)}, but a band goes from its lowest frequency "
                "to its highest: give both in hertz, in this order"
            )
    low, high = band_hz(scenario)
    if bands and not any(first <= low and high <= last for first, last in bands):
        permitted = ", ".join(f"{first / 1e6:.10g} to {last / 1e6:.10g} MHz" for first, last in bands)
        yield (
            f"waveform.carrier_hz is {number(scenario.waveform.carrier_hz)}, which occupies {low / 1e6:.3f} to "
            f"{high / 1e6:.3f} MHz, but transmission.bands_hz permits {permitted}: stay inside one of them"
        )


def _company(scenario: Scenario) -> Iterator[str]:
    ether, real = [node for node in scenario.node if node.in_ether], real_nodes(scenario)
    if ether and real:
        yield (
            f'node.radio of {real[0].name!r} is "{real[0].radio}", a real one, but {ether[0].name!r} is simulated, and '
            "neither hears the other: use real radios or simulated ones, or recordings of either"
        )


def _devices(scenario: Scenario) -> Iterator[str]:
    for one, other in combinations(real_nodes(scenario), 2):
        if one.radio == other.radio and _address(one) == _address(other):
            yield (
                f"node.{one.radio} of {one.name!r} and {other.name!r} is one device, {_address(one)}: "
                "give each node its own, by its address or its serial number"
            )


def _address(node: Node) -> str:
    """How the node names its device."""
    from testbed.scenario import Pluto, Usrp

    if node.radio == "usrp":
        return f'args = "{(node.usrp or Usrp()).args}"'
    pluto = node.pluto or Pluto()
    return f'uri = "{pluto.uri}"' if pluto.uri else f'serial = "{pluto.serial}"'


def _plutos(scenario: Scenario) -> Iterator[str]:
    waveform = scenario.waveform
    for node in scenario.node:
        if node.radio != "pluto":
            continue
        of = f"of {node.name!r}"
        if node.antennas > _PLUTO_ANTENNAS:
            yield f"node.antennas {of} is {node.antennas}, but a Pluto has one receiver, or two: use 2 or fewer"
        if node.pluto is not None and not node.pluto.uri and not node.pluto.serial:
            yield f"node.pluto.uri {of} is empty, and so is node.pluto.serial: give one of them"
        low, high = _PLUTO_RATE_HZ[0], _PLUTO_RATE_HZ[1] / node.antennas
        if not low <= waveform.sample_rate_hz <= high:
            yield (
                f"waveform.sample_rate_hz is {number(waveform.sample_rate_hz)}, but the Pluto {of} with "
                f"{node.antennas} antenna{'s' if node.antennas > 1 else ''} does {low / 1e6:.4g} to {high / 1e6:g} MS/s"
            )
        low, high = _PLUTO_CARRIER_HZ
        if not low <= waveform.carrier_hz <= high:
            yield (
                f"waveform.carrier_hz is {number(waveform.carrier_hz)}, but no Pluto covers more than "
                f"{low / 1e6:g} to {high / 1e6:g} MHz"
            )
        attenuation = 0.0 if node.pluto is None else node.pluto.tx_attenuation_db
        if attenuation % 0.25:
            yield (
                f"node.pluto.tx_attenuation_db {of} is {attenuation:g}, but goes in steps of 0.25: "
                f"use {round(4 * attenuation) / 4:g}"
            )
