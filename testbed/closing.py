"""Clocks of one round's nodes, closed over all pairs that a two-way method measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import hypot

import numpy as np

from dsp.clocks import ClosedClocks, NodeShare, PairOffset, close
from dsp.moment import Moment
from dsp.oscillator import PowerLaw, extrapolation_wander_s
from dsp.synchronization.base import Need, Offset
from testbed.methods import method
from testbed.pairs import disturbance
from testbed.results import ClosureRow
from testbed.scenario import Scenario
from testbed.targets import Echoes

__all__ = ["Closed", "Found", "Offsets", "closed_round"]

Found = Mapping[tuple[str, str], Echoes]
"""What was heard, by receiver and transmitter."""
Offsets = Mapping[tuple[str, str, str], Offset]
"""By receiver, transmitter and method."""


@dataclass(frozen=True)
class Closed:
    """One round's clocks."""

    heard: tuple[str, ...]
    """Nodes that a link leads to, in the scenario's order; the first is the round's reference."""
    clocks: ClosedClocks | None
    """None where no valid two-way offset leads to the reference."""
    rows: list[ClosureRow]


@dataclass(frozen=True)
class _Pair:
    offset: PairOffset
    method: str
    separation_s: float
    averaging_s: float


def closed_round(
    index: int, scenario: Scenario, found: Found, offsets: Offsets, laws: Mapping[str, PowerLaw]
) -> Closed | None:
    """Clocks of every node that was heard in round ``index``, against the first of them; None if nothing was.

    Each pair counts once, with the first of the scenario's two-way methods that is valid on it; in a star only pairs
    with the scenario's first node do. Carried from its own epoch to the round's, a pair's offset also errs by what
    the two oscillators of spectra ``laws`` wander meanwhile.
    """
    heard = tuple(node.name for node in scenario.node if any(node.name in link for link in found))
    if not heard:
        return None
    reference, hub = heard[0], scenario.node[0].name
    two_way = [name for name in scenario.experiment.methods if Need.REVERSE_LINK in method(name).needs]
    pairs = [
        pair
        for here, there in combinations(heard, 2)
        if (scenario.round.closing == "mesh" or hub in (here, there))
        and (pair := _pair(here, there, two_way, found, offsets, scenario)) is not None
    ]
    at_home = [one.offset.epoch for one in pairs if one.offset.receiver == reference]
    if not at_home:
        return Closed(heard, None, [])
    epoch = _middle(at_home)
    carried = [_carried(pair, pairs, epoch, laws) for pair in pairs]
    closed = close(carried, epoch)
    return Closed(heard, closed, [_row(index, number, pairs, closed) for number in range(len(pairs))])


def _pair(
    here: str, there: str, methods: Sequence[str], found: Found, offsets: Offsets, scenario: Scenario
) -> _Pair | None:
    """What the first valid of ``methods`` says of the pair, ``here`` as the receiver."""
    for name in methods:
        said = offsets.get((here, there, name))
        if said is None or not said.valid or said.to_s is None or said.cfo_hz is None:
            continue
        if not said.to_std_s or not said.cfo_std_hz:
            continue
        csi = found[here, there].heard.csi
        carrier_hz = float(csi.carrier_hz)
        middle = csi.reference.shifted(float(np.mean(csi.symbol_s)))
        shares = _shares((here, there), carrier_hz, said, scenario)
        return _Pair(
            PairOffset(
                here,
                there,
                said.to_s,
                said.to_std_s,
                -said.cfo_hz / carrier_hz,
                said.cfo_std_hz / carrier_hz,
                said.epoch,
                *shares,
            ),
            name,
            separation_s=2.0 * abs(middle.seconds_since(said.epoch)),
            averaging_s=max(float(np.ptp(csi.symbol_s)), 1e-6),
        )
    return None


def _shares(names: tuple[str, str], carrier_hz: float, said: Offset, scenario: Scenario) -> tuple[NodeShare, NodeShare]:
    """What receiver and transmitter bring into all their pairs alike: the phase noise of what they send.

    Of the four synthesizers in a two-way exchange two send, one of each node, and two receive, whose noise while this
    other node sends is nobody else's.
    """
    scattered = [disturbance(scenario, scenario.node[scenario.index(name)]) for name in names]
    shared_s2 = 0.5 * float(said.details.get("phase_noise_std_s", 0.0)) ** 2
    shared_drift = 0.5 * (float(said.details.get("synthesizer_std_hz", 0.0)) / carrier_hz) ** 2
    receiver, transmitter = (
        NodeShare(shared_s2 * part, shared_drift * part) for part in np.array(scattered) / max(sum(scattered), 1e-300)
    )
    return receiver, transmitter


def _carried(pair: _Pair, pairs: Sequence[_Pair], epoch: Moment, laws: Mapping[str, PowerLaw]) -> PairOffset:
    """The pair's offset with the deviation that it has at the round's epoch."""
    one = pair.offset
    ahead_s = 0.0
    if one.receiver != epoch.clock:  # its receiver's reading is brought to the reference's by what that pair said
        home = [
            p.offset.to_s for p in pairs if (p.offset.receiver, p.offset.transmitter) == (epoch.clock, one.receiver)
        ]
        if not home:
            return one
        ahead_s = home[0]
    step_s = one.epoch.seconds_since(epoch) + ahead_s
    wander = [
        extrapolation_wander_s(laws[name], step_s=step_s, separation_s=pair.separation_s, averaging_s=pair.averaging_s)
        for name in (one.receiver, one.transmitter)
    ]
    return replace(one, to_std_s=hypot(one.to_std_s, *wander))


def _middle(moments: Sequence[Moment]) -> Moment:
    """Mean of moments on one clock."""
    return moments[0].shifted(float(np.mean([one.seconds_since(moments[0]) for one in moments])))


def _row(index: int, number: int, pairs: Sequence[_Pair], closed: ClosedClocks) -> ClosureRow:
    one, residual, deviation = pairs[number].offset, closed.residuals_s[number], closed.residual_std_s[number]
    out = number in closed.left_out
    row = ClosureRow(
        round=index,
        receiver=one.receiver,
        transmitter=one.transmitter,
        method=pairs[number].method,
        to_std_s=one.to_std_s,
        left_out=out,
    )
    if not np.isfinite(residual):
        row.reason = f"no link leads from {closed.nodes[0]} to this pair"
    elif deviation == 0.0:
        row.residual_s, row.reason = 0.0, "no other link checks this one"
    else:
        row.residual_s, row.residual_std_s = float(residual), float(deviation)
        if out:
            row.reason = f"left out: {abs(residual) / deviation:.1f} deviations from what the others say"
    return row
