"""Gains at which a node's leakage and the distant nodes both fit its converter, and the attenuator that is missing.

The receive gain follows the loudest that a node hears, mostly itself; the weakest is then to stand above what the
converter's own steps make. Where it does not, no gain helps: the leakage has to become quieter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, log10
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed import schedule
from testbed.calibrating.bench import Bench
from testbed.calibrating.front_ends import Level, level, slot_samples_of
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.pipeline import Pipeline
from testbed.scenario import Node, Scenario

__all__ = ["Hearing", "NodeLevels", "Search", "search"]

TARGET_DBFS = -12.0
"""Root mean square of the loudest signal: OFDM's peaks stay below full scale."""
_TOLERANCE_DB = 1.5
_CLIPPED = 1e-4
_ATTEMPTS = 5
_BACK_OFF_DB = 10.0
"""Step down where the converter clips, and its level says nothing."""
_WANTED_SNR_DB = 20.0
_ATTENUATORS_DB = (3, 6, 10, 20, 30, 40)
_QUANTISED_DB = 3.0
"""What the converter has to leave above the wanted SNR, for noise of its own size besides."""
_RECEIVE_RANGE_DB = {"usrp": (0.0, 76.0), "pluto": (0.0, 71.0)}
_TRANSMIT_RANGE_DB = {"usrp": (0.0, 89.75), "pluto": (-89.75, 0.0)}


@dataclass(frozen=True)
class Hearing:
    """One transmitter as one node hears it."""

    transmitter: str
    level: Level
    snr_db: float
    """Per resource element; of the node's own frames as well."""
    best_snr_db: float
    """What is left of an ideal receiver's, with the converter's steps at this level."""


@dataclass
class NodeLevels:
    """What a node's converter sees."""

    node: str
    floor_dbfs: float
    """Noise while nobody transmits."""
    steps_dbfs: float
    """Noise of the converter's steps."""
    heard: list[Hearing] = field(default_factory=list)
    spectra: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    """Frequency in hertz and density in decibels of full scale per bin, of each transmitter's slot and of silence."""

    @property
    def loudest(self) -> Hearing | None:
        """What sets the gain."""
        return max(self.heard, key=lambda one: one.level.dbfs, default=None)

    @property
    def own(self) -> Hearing | None:
        """The node's leakage."""
        return next((one for one in self.heard if one.transmitter == self.node), None)


@dataclass
class Search:
    """Where a search ended."""

    scenario: Scenario
    """The experiment with the gains found."""
    nodes: list[NodeLevels]
    changes: list[str]
    """Keys of the experiment file that were changed, with their values."""
    advice: list[str]
    """What no gain mends."""
    settled: bool


def search(scenario: Scenario, progress: Callable[[int, str], None]) -> Search:
    """Gains found by listening and turning, a few times over.

    Raises
    ------
    RunError
        If a radio is gone.
    """
    first = scenario
    at_stop: dict[str, str] = {}
    nodes: list[NodeLevels] = []
    for attempt in range(_ATTEMPTS):
        progress(attempt, f"attempt {attempt + 1}")
        nodes = _listened(scenario, attempt)
        turns = {one.node: _wanted_turn_db(one) for one in nodes}
        if all(abs(turn) <= _TOLERANCE_DB for turn in turns.values()):
            break
        turned, at_stop = _turned(scenario, turns)
        if turned == scenario:
            break
        scenario = turned
    settled = all(abs(_wanted_turn_db(one)) <= _TOLERANCE_DB for one in nodes)
    return Search(scenario, nodes, _changes(first, scenario), _advice(scenario, nodes, at_stop), settled)


def _listened(scenario: Scenario, index: int) -> list[NodeLevels]:
    """One round, looked at."""
    with Bench(scenario) as bench:
        bench.start()
        captures = bench.round(index)
    states = Pipeline(scenario, calibration=Calibration()).channels(index, captures)
    active, size = scenario.waveform.active_subcarriers, scenario.waveform.fft_size
    found = []
    for node in scenario.node:
        capture = captures[node.name]
        silence = _silence(scenario, capture)
        steps_dbfs = 10 * log10(2.0 / 12.0) - 20 * log10(capture.full_scale)
        one = NodeLevels(node.name, level(silence, capture.full_scale).dbfs, steps_dbfs)
        one.spectra["silence"] = _spectrum(silence, capture)
        for (receiver, transmitter), csi in states.items():
            if receiver == node.name:
                samples = slot_samples_of(scenario, capture, csi)
                heard = level(samples, capture.full_scale)
                best_db = heard.dbfs - steps_dbfs + 10 * log10(size / active)
                one.heard.append(Hearing(transmitter, heard, 10 * log10(max(csi.snr, 1e-10)), best_db))
                one.spectra[transmitter] = _spectrum(samples, capture)
        found.append(one)
    return found


def _wanted_turn_db(one: NodeLevels) -> float:
    """By how much the node's receive gain should rise."""
    loudest = one.loudest
    if loudest is None:
        return 0.0
    if loudest.level.clipped > _CLIPPED:
        return min(TARGET_DBFS - loudest.level.dbfs, -_BACK_OFF_DB)
    return TARGET_DBFS - loudest.level.dbfs


def _turned(scenario: Scenario, turns: Mapping[str, float]) -> tuple[Scenario, dict[str, str]]:
    """The experiment with receive gains turned, and transmit gains where receive gains stand at their stop."""
    nodes, at_stop = [], {}
    for node in scenario.node:
        turn = turns[node.name]
        changed, rest = _with_receive_turn(node, turn) if abs(turn) > _TOLERANCE_DB else (node, 0.0)
        if rest < -_TOLERANCE_DB:
            at_stop[node.name] = f"{-rest:.0f}"
            changed = _with_transmit_turn(changed, rest)
        nodes.append(changed)
    return msgspec.structs.replace(scenario, node=tuple(nodes)), at_stop


def _with_receive_turn(node: Node, turn_db: float) -> tuple[Node, float]:
    """The node with another receive gain, and what its range leaves of the turn."""
    if node.radio == "simulated":
        front = node.front_end
        if front.gain_db is not None:
            front = msgspec.structs.replace(front, gain_db=round(front.gain_db + turn_db, 1))
        else:
            front = msgspec.structs.replace(front, level_dbfs=round(front.level_dbfs + turn_db, 1))
        return msgspec.structs.replace(node, front_end=front), 0.0
    table = _table(node)
    low, high = _RECEIVE_RANGE_DB[node.radio]
    wanted = table.rx_gain_db + turn_db
    applied = float(round(min(max(wanted, low), high)))
    return _with_table(node, rx_gain_db=applied), 0.0 if low <= wanted <= high else wanted - applied


def _with_transmit_turn(node: Node, turn_db: float) -> Node:
    """The node with another transmit gain, within its range."""
    if node.radio == "usrp":
        low, high = _TRANSMIT_RANGE_DB[node.radio]
        return _with_table(node, tx_gain_db=float(round(min(max(_table(node).tx_gain_db + turn_db, low), high))))
    if node.radio == "pluto":
        low, high = _TRANSMIT_RANGE_DB[node.radio]
        gain = min(max(-_table(node).tx_attenuation_db + turn_db, low), high)
        return _with_table(node, tx_attenuation_db=round(-4 * gain) / 4)
    return msgspec.structs.replace(node, tx_power_dbm=round(node.tx_power_dbm + turn_db, 1))


def _table(node: Node) -> Any:
    table = node.usrp if node.radio == "usrp" else node.pluto
    if table is None:
        from testbed.scenario import Pluto, Usrp

        return Usrp() if node.radio == "usrp" else Pluto()
    return table


def _with_table(node: Node, **changes: float) -> Node:
    return msgspec.structs.replace(node, **{node.radio: msgspec.structs.replace(_table(node), **changes)})


def _changes(before: Scenario, after: Scenario) -> list[str]:
    """Keys that differ, as one writes them."""
    lines = []
    for old, new in zip(before.node, after.node, strict=True):
        for table in ("front_end", "usrp", "pluto"):
            one, other = getattr(old, table), getattr(new, table)
            if other is None or one == other:
                continue
            was = {} if one is None else msgspec.to_builtins(one)
            lines += [
                f"node.{table}.{key} of {new.name!r} = {value}"
                for key, value in msgspec.to_builtins(other).items()
                if was.get(key) != value
                and key in ("gain_db", "level_dbfs", "rx_gain_db", "tx_gain_db", "tx_attenuation_db")
            ]
        if old.tx_power_dbm != new.tx_power_dbm:
            lines.append(f"node.tx_power_dbm of {new.name!r} = {new.tx_power_dbm}")
    return lines


def _advice(scenario: Scenario, nodes: list[NodeLevels], at_stop: Mapping[str, str]) -> list[str]:
    """What is to be done where gains do not reach."""
    lines = []
    for one in nodes:
        loudest = one.loudest
        if loudest is None:
            lines.append(
                f"{one.node} hears nobody, itself included: check antennas and cables, and that others transmit"
            )
            continue
        too_loud = _wanted_turn_db(one)
        if loudest.level.clipped > _CLIPPED or (one.node in at_stop and too_loud < -_TOLERANCE_DB):
            missing = _attenuator(-too_loud)
            lines.append(
                f"{one.node}: {loudest.transmitter} is too loud by {-too_loud:.0f} dB at the least gain: put an "
                f"attenuator of {missing} dB before its receiver"
            )
        for other in (node.name for node in scenario.node if node.name != one.node):
            heard = next((each for each in one.heard if each.transmitter == other), None)
            if heard is None:
                lines.append(f"{one.node} does not hear {other}: raise its power, or bring them closer")
            elif heard.snr_db < _WANTED_SNR_DB:
                lines.append(_weak(one, heard))
    return lines


def _weak(one: NodeLevels, heard: Hearing) -> str:
    """Why a distant node is heard too weakly, and what mends it."""
    own, name = one.own, heard.transmitter
    said = "hardly" if heard.snr_db < 0 else f"at {heard.snr_db:.0f} dB"
    short = _WANTED_SNR_DB + _QUANTISED_DB - heard.best_snr_db
    if own is not None and own.level.dbfs > heard.level.dbfs and short > 0:
        apart = own.level.dbfs - heard.level.dbfs
        return (
            f"{one.node} hears {name} {said}: under its own leakage, {apart:.0f} dB louder, the converter leaves "
            f"{heard.best_snr_db:.0f} dB: quieten the leakage by {short:.0f} dB (antennas further apart, a shield, a "
            "circulator with a better match)"
        )
    return (
        f"{one.node} hears {name} {said}, noise being the limit: raise its power by "
        f"{_WANTED_SNR_DB - max(heard.snr_db, 0.0):.0f} dB or more, bring them closer, or send more symbols"
    )


def _attenuator(needed_db: float) -> int:
    """Smallest attenuator in the drawer that does."""
    return next((one for one in _ATTENUATORS_DB if one >= needed_db), ceil(needed_db / 10) * 10)


def _silence(scenario: Scenario, capture: Capture) -> NDArray[np.float32]:
    """Samples before the first slot, as shares of full scale: nobody transmits that early, whoever started late."""
    guard = schedule.slot_offset_samples(scenario, 0)
    margin = ceil(2 * scenario.round.start_spread_s * scenario.waveform.sample_rate_hz)
    count = max(guard - margin, guard // 8)
    samples: NDArray[np.float32] = capture.samples[:, :count].astype(np.float32) / np.float32(capture.full_scale)
    return samples


def _spectrum(samples: NDArray[np.float32], capture: Capture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Welch's estimate on the first antenna: frequency from the carrier, power per bin in decibels of full scale."""
    from scipy.signal import welch

    values = samples[0, :, 0].astype(np.float64) + 1j * samples[0, :, 1]
    if values.size < 16:
        return np.zeros(0), np.zeros(0)
    frequency, density = welch(
        values, fs=float(capture.rate_hz), nperseg=min(1024, values.size), return_onesided=False, scaling="spectrum"
    )
    order = np.argsort(frequency)
    return frequency[order], 10 * np.log10(np.maximum(density[order], 1e-30))
