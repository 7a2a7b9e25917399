"""Constants of the chains that no over-the-air exchange can see, and corrections of the receivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import cos, radians, sin
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState
from dsp.synchronization.chain_response import ChainResponse, evened
from testbed.calibration_records import (
    AntennaResponse,
    ChainConstants,
    Record,
    load_records,
    matching,
    save_record,
    serial_of_node,
    stated_shape,
    stranger,
)
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.scenario import Scenario

__all__ = ["CALIBRATION_NAME", "Calibration", "ChainDelays", "balanced"]

CALIBRATION_NAME = "calibration"
"""Folder within a run's, with the files that the run was given."""


@dataclass(frozen=True)
class ChainDelays:
    """Delays of one node between its sample counter and its antenna, in seconds."""

    transmit_s: float = 0.0
    receive_s: float = 0.0
    leakage_s: float = 0.0
    """From the transmit chain's end to the receive chain's begin, by the leakage."""


class Calibration:
    """Chain delays of the nodes; a node that is not listed counts as having none, and its fraction as unknown.

    A departure known by time stamp leaves the transmit chain out; one known by leakage contains the transmit chain,
    the leakage and the receive chain. What is left in the apparent delay from m to n is R_n + T_m with a time stamp,
    R_n - l_m - R_m with leakage (docs/methods/reciprocity.md).

    Parameters
    ----------
    nodes : mapping, optional
        Delays that are known beforehand.
    records : sequence of `Record`, optional
        Calibrations on file, newest first; `meet` chooses among them for the devices that captures come from. None
        is not an empty sequence: with no files asked for, nothing is said of a device that has none.
    shapes : mapping, optional
        Receive over transmit chains of the nodes, as far as they are known beforehand.
    as_stated : bool
        Take the shape of a simulated device's chains from what it states with its captures.
    """

    def __init__(
        self,
        nodes: Mapping[str, ChainDelays] | None = None,
        records: Sequence[Record] | None = None,
        shapes: Mapping[str, ChainResponse] | None = None,
        as_stated: bool = False,
    ) -> None:
        self.nodes = dict(nodes or {})
        self._as_stated = as_stated
        self._shapes = dict(shapes or {})
        self._records = records
        self._used: dict[str, Record] = {}
        self._said: set[tuple[str, str]] = set()

    @classmethod
    def simulated(cls, scenario: Scenario) -> Calibration:
        """What the scenario says of its simulated nodes, and they of their own filters."""
        return cls(
            {
                node.name: ChainDelays(
                    node.front_end.transmit_delay_s, node.front_end.receive_delay_s, node.front_end.leakage_delay_s
                )
                for node in scenario.node
                if node.in_ether
            },
            as_stated=True,
        )

    @classmethod
    def on_file(cls, folder: Path) -> Calibration:
        """Calibrations in ``folder``, and nothing that a scenario says.

        Raises
        ------
        UserError
            If it is no folder, holds no calibration, or a file in it is none.
        """
        records = load_records(folder)
        if not records:
            raise UserError(f"--calibration is {folder}, which holds none: measure one with `isac calibrate`")
        return cls(records=records)

    @classmethod
    def of_run(cls, folder: Path, scenario: Scenario) -> Calibration:
        """What the run in ``folder`` was given: its files, or what the scenario says if there are none."""
        own = folder / CALIBRATION_NAME
        return cls(records=load_records(own)) if own.is_dir() else cls.simulated(scenario)

    def save(self, folder: Path) -> None:
        """Keep the files beside a run in ``folder``, so that a replay has them; nothing if none were asked for."""
        if self._records is None:
            return
        own = folder / CALIBRATION_NAME
        own.mkdir(exist_ok=True)
        for record in self._records:
            save_record(record, own)

    def refuse_strangers(self, serials: Mapping[str, str]) -> None:
        """Raise `UserError` if files were asked for and a device, by node, has none: they are of other devices."""
        for node, serial in serials.items():
            device = serial or serial_of_node(node)
            if self._records is not None and all(record.serial != device for record in self._records):
                raise UserError(f"--calibration for {node!r}: {stranger(self._records, device)}, or leave it out")

    def meet(self, captures: Mapping[str, Capture]) -> list[tuple[str, str, str]]:
        """(node, code, text) of what is new to say, the files that hold for one round's devices being taken up."""
        if self._records is None:
            if self._as_stated:
                stated = {node: stated_shape(capture) for node, capture in captures.items()}
                self._shapes |= {node: shape.response() for node, shape in stated.items() if shape is not None}
            return []
        said = []
        for node, capture in captures.items():
            found = matching(self._records, capture)
            if isinstance(found, str):
                self._used.pop(node, None)
                said.append((node, "calibration-missing", found))
            else:
                self._used[node] = found
                if found.chain is not None and found.chain.asymmetry_s is None:
                    text = "its calibration has no chain constant: time offsets keep an unknown one"
                    said.append((node, "calibration-partial", text))
        sessions = {record.session for record in self._used.values() if _asymmetry(record) is not None}
        if len(sessions) > 1:
            first, *others = sorted(self._used)
            text = (
                f"{first} and {others[0]} were calibrated in different sessions, which share no reference: their chain "
                "constant is not applied; calibrate them together"
            )
            said.append((first, "calibration-sessions", text))
        self.nodes = {
            node: _delays(record.chain, record.rate_hz, comparable=len(sessions) <= 1)
            for node, record in self._used.items()
            if record.chain is not None
        }
        self._shapes = {
            node: record.shape.response()
            for node, record in self._used.items()
            if record.shape is not None and len(sessions) <= 1
        }
        new = [one for one in said if (one[0], one[2]) not in self._said]
        self._said |= {(node, text) for node, _, text in new}
        return new

    def corrected(self, node: str, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Samples of ``node``, shape (antenna, sample), without imbalance and with its antennas made alike.

        The array given is changed in place.
        """
        record = self._used.get(node)
        return samples if record is None else balanced(samples, record.antenna)

    def branches(self, node: str, antennas: int) -> NDArray[np.float64]:
        """What `corrected` does to samples, by antenna: shares of the two input branches in the two output branches,
        shape (antenna, 2, 2)."""
        unit = np.tile(np.array([1.0, 1.0j], np.complex64), (antennas, 1))
        made = self.corrected(node, unit)
        return np.stack([made.real, made.imag], axis=1).astype(np.float64)

    def evened(self, receiver: str, transmitter: str, csi: ChannelState) -> ChannelState:
        """CSI of a link as if both nodes' chains were alike over frequency, as far as is known how they differ."""
        return evened(csi, self._shapes.get(receiver), self._shapes.get(transmitter))

    def leakage_fraction(self, node: str, rate_hz: Fraction) -> float | None:
        """Fraction of a sample by which the leakage arrives after a whole number of samples; None if not calibrated."""
        delays = self.nodes.get(node)
        record = self._used.get(node)
        if delays is None or (record is not None and record.chain is not None and record.chain.fraction is None):
            return None
        return float((delays.transmit_s + delays.receive_s + delays.leakage_s) * float(rate_hz)) % 1.0

    def one_way_s(self, receiver: str, transmitter: str, *, time_stamped: bool) -> float:
        """What the chains add to the apparent delay from ``transmitter`` to ``receiver``."""
        here, there = self.nodes.get(receiver, ChainDelays()), self.nodes.get(transmitter, ChainDelays())
        departure = there.transmit_s if time_stamped else -there.leakage_s - there.receive_s
        return here.receive_s + departure


def _asymmetry(record: Record) -> float | None:
    return None if record.chain is None else record.chain.asymmetry_s


def _delays(chain: ChainConstants, rate_hz: float, *, comparable: bool) -> ChainDelays:
    """Delays that have the measured sums: which share each has, no exchange tells, and none needs."""
    asymmetry = (chain.asymmetry_s or 0.0) if comparable else 0.0
    common = chain.common_s or 0.0
    if chain.departure == "time-stamp":
        return ChainDelays(transmit_s=0.5 * common - asymmetry, receive_s=0.5 * common + asymmetry)
    leakage, receive = -common, asymmetry + 0.5 * common
    return ChainDelays((chain.fraction or 0.0) / rate_hz - receive - leakage, receive, leakage)


def balanced(samples: NDArray[np.complex64], antennas: Sequence[AntennaResponse]) -> NDArray[np.complex64]:
    """``samples`` of shape (antenna, sample), changed in place: imbalance undone, antennas made alike."""
    for line, antenna in zip(samples, antennas, strict=False):
        _correct(line, antenna)
    return samples


def _correct(samples: NDArray[np.complex64], antenna: AntennaResponse) -> None:
    """Undo the imbalance of one receiver's branches, then its gain and phase against the first antenna."""
    skew = radians(antenna.phase_imbalance_deg)
    if antenna.gain_imbalance_db or skew:
        samples.real *= np.float32(10 ** (-antenna.gain_imbalance_db / 20))
        samples.imag -= np.float32(sin(skew)) * samples.real
        samples.imag *= np.float32(1 / cos(skew))
    if antenna.gain_db or antenna.phase_deg:
        samples *= np.complex64(10 ** (-antenna.gain_db / 20) * np.exp(-1j * radians(antenna.phase_deg)))
