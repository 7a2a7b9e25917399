"""Clocks of one round's nodes, closed over all pairs that a two-way method measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from dsp.clocks import ClosedClocks, PairOffset, close
from dsp.moment import Moment
from dsp.synchronization.base import Need, Offset
from testbed.methods import method
from testbed.results import Epoch, NodeRow
from testbed.scenario import Scenario
from testbed.targets import Echoes

__all__ = ["node_rows"]


def node_rows(
    index: int,
    scenario: Scenario,
    found: Mapping[tuple[str, str], Echoes],
    offsets: Mapping[tuple[str, str, str], Offset],
) -> list[NodeRow]:
    """Offset and drift of every node that was heard in round ``index``, against the first of them in the scenario.

    Each pair counts once, with the first of the scenario's two-way methods that is valid on it.
    """
    heard = [node.name for node in scenario.node if any(node.name in link for link in found)]
    if not heard:
        return []
    reference = heard[0]
    two_way = [name for name in scenario.experiment.methods if Need.REVERSE_LINK in method(name).needs]
    pairs: list[PairOffset] = []
    for here, there in combinations(heard, 2):
        pair = _pair(here, there, two_way, found, offsets)
        if pair is not None:
            pairs.append(pair)
    at_home = [one.epoch for one in pairs if one.receiver == reference]
    if not at_home:
        return [
            NodeRow(node=name, round=index, reference=reference, reason=f"no valid two-way offset of {reference}")
            for name in heard
        ]
    closed = close(pairs, _middle(at_home))
    return [_row(name, index, closed) for name in heard]


def _pair(
    here: str,
    there: str,
    methods: Sequence[str],
    found: Mapping[tuple[str, str], Echoes],
    offsets: Mapping[tuple[str, str, str], Offset],
) -> PairOffset | None:
    """What the first valid of ``methods`` says of the pair, ``here`` as the receiver."""
    for name in methods:
        said = offsets.get((here, there, name))
        if said is None or not said.valid or said.to_s is None or said.cfo_hz is None:
            continue
        if not said.to_std_s or not said.cfo_std_hz:
            continue
        carrier_hz = float(found[here, there].heard.csi.carrier_hz)
        return PairOffset(
            here, there, said.to_s, said.to_std_s, -said.cfo_hz / carrier_hz, said.cfo_std_hz / carrier_hz, said.epoch
        )
    return None


def _middle(moments: Sequence[Moment]) -> Moment:
    """Mean of moments on one clock."""
    return moments[0].shifted(float(np.mean([one.seconds_since(moments[0]) for one in moments])))


def _row(name: str, index: int, closed: ClosedClocks) -> NodeRow:
    reference = closed.nodes[0]
    row = NodeRow(node=name, round=index, reference=reference, epoch=Epoch.of(closed.epoch), reason=closed.reason)
    if name not in closed.nodes:
        row.reason = "; ".join(filter(None, [f"no valid two-way offset leads to {reference}", closed.reason]))
        return row
    row.offset_s, row.drift, covariance = closed.of(name)
    row.covariance = [[float(x) for x in line] for line in covariance]
    return row
