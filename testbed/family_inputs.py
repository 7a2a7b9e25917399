"""What single families of methods need beside the CSI of a link: fingerprints, own echoes, positions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from dsp.synchronization.base import Need, Offset
from dsp.synchronization.cooperation_paths import ActiveEcho
from testbed.calibration import Calibration
from testbed.fingerprints import Fingerprints, load_fingerprints
from testbed.methods import method
from testbed.own_echoes import better_echo, own_echo
from testbed.pairs import Heard, Inputs, Observed, estimates
from testbed.scenario import Scenario
from testbed.targets import station

__all__ = ["FamilyInputs", "RoundInputs", "fingerprints_of"]

_ANCHORS = {"auto": "offset reciprocity", "path-resolved": "the surveyed line of sight"}
"""Methods asked for the time offset at a fingerprint's epoch, in this order, and what it then comes from. They are
asked whatever the experiment names, so that a replay by other methods finds the same fingerprint."""


def fingerprints_of(scenario: Scenario) -> Fingerprints:
    """Fingerprints that the scenario names, or none yet.

    Raises
    ------
    UserError
        If the file named is not one of fingerprints.
    """
    wanted, name = scenario.fingerprint, scenario.experiment.name
    return load_fingerprints(Path(wanted.file)) if wanted.file else Fingerprints(name, wanted.round)


class FamilyInputs:
    """Inputs of the scenario's methods, round by round.

    Parameters
    ----------
    scenario : Scenario
    calibration : Calibration
    fingerprints : Fingerprints
        Those given or, as the rounds pass, those taken.
    """

    def __init__(self, scenario: Scenario, calibration: Calibration, fingerprints: Fingerprints) -> None:
        self.scenario = scenario
        self.calibration = calibration
        self.fingerprints = fingerprints
        self.stations = {node.name: station(node, scenario.waveform.carrier_hz) for node in scenario.node}

    @cached_property
    def needs(self) -> frozenset[Need]:
        """Everything that any of the scenario's methods needs."""
        return frozenset[Need]().union(*(method(name).needs for name in self.scenario.experiment.methods))

    def round(self, index: int, own: Mapping[str, Heard]) -> RoundInputs:
        """Inputs of round ``index``; ``own`` is each node's slot as it heard it itself, where it did."""
        return RoundInputs(self, index, own)


class RoundInputs:
    """Inputs of one round, made when first asked for and only if a method needs them."""

    def __init__(self, run: FamilyInputs, index: int, own: Mapping[str, Heard]) -> None:
        self._run = run
        self._index = index
        self._own = own
        self._echoes: dict[str, tuple[ActiveEcho | None, str]] = {}

    def of(self, receiver: str, transmitter: str) -> Inputs:
        """Inputs of one direction of a link."""
        given: dict[Need, Any] = {Need.KNOWN_POSITIONS: self._run.stations}
        lacking: dict[Need, str] = {}
        if Need.FINGERPRINT in self._run.needs:
            fingerprint = self._run.fingerprints.of(receiver, transmitter)
            if fingerprint is None:
                lacking[Need.FINGERPRINT] = self._run.fingerprints.lacking(receiver, transmitter, self._index)
            else:
                given[Need.FINGERPRINT] = fingerprint
        if Need.ACTIVE_ECHO in self._run.needs:
            echo, why = better_echo(self._echo(receiver), self._echo(transmitter))
            if echo is None:
                lacking[Need.ACTIVE_ECHO] = why
            else:
                given[Need.ACTIVE_ECHO] = echo
        return Inputs(given, lacking)

    def learn(self, receiver: str, transmitter: str, seen: Observed) -> None:
        """Take the fingerprints of both directions from this round, where they are to come from it."""
        if Need.FINGERPRINT not in self._run.needs:
            return
        kept, index = self._run.fingerprints, self._index
        ways = ((receiver, transmitter, seen.forward), (transmitter, receiver, seen.backward))
        wanted = [kept.wanted(*way[:2], index) and way[2] is not None for way in ways]
        if not any(wanted):
            return
        for number, (_, there, observation) in enumerate(ways):
            if wanted[number] and observation is not None:
                kept.take(index, observation, there, _known(seen, number), wander_s=seen.standing.clock_std_s)

    def _echo(self, name: str) -> tuple[ActiveEcho | None, str]:
        if name not in self._echoes:
            node = self._run.scenario.node[self._run.scenario.index(name)]
            self._echoes[name] = own_echo(node, self._own.get(name), self._run.scenario, self._run.calibration)
        return self._echoes[name]


def _known(seen: Observed, direction: int) -> tuple[Offset, str] | None:
    """Time offset of one direction of the pair by the first method that gives it, and what it comes from."""
    for name, origin in _ANCHORS.items():
        offset = estimates(name, seen)[direction]
        if offset.valid and offset.to_s is not None:
            return offset, f"{origin} ({name})"
    return None
