"""Clocks of many nodes: pairs' offsets closed over the graph, and one clock tracked and predicted over rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from dsp.channel import FloatArray
from dsp.moment import Moment

__all__ = ["ClosedClocks", "NodeShare", "PairOffset", "close"]

_FALSE_REJECTION = 1e-3
_IDENTIFIED = 13.8
"""Chi-square by which leaving out one link must beat leaving out any other: 99.9 % of two degrees."""
_LEAST_OWN = 0.01
"""Part of a pair's variance that is taken to be its own at least."""
_PASSES = 4
"""Each gains the product of two clocks' rates, five digits or more."""


@dataclass(frozen=True)
class NodeShare:
    """Variances that one node adds to every pair it is in: what its transmitter sends is heard by all others."""

    offset_s2: float = 0.0
    drift: float = 0.0


@dataclass(frozen=True)
class PairOffset:
    """What one exchange says of two clocks: TO = s_receiver - s_transmitter, and how it grows."""

    receiver: str
    transmitter: str
    to_s: float
    to_std_s: float
    drift: float
    """Growth of the TO per second of the two clocks' mean: minus the CFO over the carrier."""
    drift_std: float
    epoch: Moment
    """On the receiver's clock."""
    receiver_share: NodeShare = NodeShare()
    """Part of the variances that the receiver brings into all its pairs alike."""
    transmitter_share: NodeShare = NodeShare()


@dataclass(frozen=True)
class ClosedClocks:
    """Every clock that links lead to, against the reference's: s_node = s_reference + offset + drift·(time - epoch)."""

    epoch: Moment
    """On the reference's clock, in whose seconds drifts and times count."""
    nodes: tuple[str, ...]
    """The reference first."""
    offsets_s: FloatArray
    """Shape (node,); the reference's is zero."""
    drifts: FloatArray
    covariance: FloatArray
    """Of offsets and then drifts, shape (2·node, 2·node); zero for the reference."""
    residuals_s: FloatArray
    """Closure residual of each pair's offset, shape (pair,): measured less closed, those left out included."""
    residual_std_s: FloatArray
    """Of the residuals; 0 for a link that nothing checks."""
    left_out: tuple[int, ...]
    """Pairs found to contradict the others."""
    chi2: float
    degrees: int
    """Of the pairs used; 0 where no loop closes."""
    reason: str = ""
    """What the reader should know: links left out, or a contradiction whose culprit cannot be told."""

    @property
    def consistent(self) -> bool:
        """Whether the pairs used agree as well as their deviations say."""
        return self.degrees == 0 or self.chi2 <= _quantile(self.degrees)

    def of(self, node: str, *, time_s: float = 0.0) -> tuple[float, float, FloatArray]:
        """Offset and drift of ``node`` ``time_s`` after the epoch, and their covariance, shape (2, 2).

        Of the measurement alone: what the oscillators wander meanwhile is the tracker's to add.

        Raises
        ------
        ValueError
            If no link leads to the node.
        """
        return self.between(node, self.nodes[0], time_s=time_s)

    def between(self, node: str, other: str, *, time_s: float = 0.0) -> tuple[float, float, FloatArray]:
        """The same of ``node`` against ``other``."""
        here, there = self._index(node), self._index(other)
        count = len(self.nodes)
        pick = np.zeros((2, 2 * count))
        for index, sign in ((here, 1.0), (there, -1.0)):
            pick[0, index] += sign
            pick[0, count + index] += sign * time_s
            pick[1, count + index] += sign
        state = pick @ np.concatenate([self.offsets_s, self.drifts])
        return float(state[0]), float(state[1]), np.asarray(pick @ self.covariance @ pick.T)

    def _index(self, node: str) -> int:
        if node not in self.nodes:
            raise ValueError(f"no link leads to {node!r}")
        return self.nodes.index(node)


def close(pairs: Sequence[PairOffset], epoch: Moment) -> ClosedClocks:
    """Offsets and drifts of all clocks against one, by weighted least squares on the graph of pairs.

    Each pair contributes its offset at its own epoch and its drift; a star is solved exactly, a mesh by the grounded
    Laplacian of its weights. Clocks of 50 ppm make second-order terms matter (50 ppm · 25 ppm · 50 ms is 60 ps):
    drifts, which pairs state per second of their own mean, and epochs, each on its receiver's clock, are brought to
    the reference's seconds with the solution of the pass before. Where the loops do not close within the deviations
    (chi-square, 99.9 %), the link without which they close best is left out and the rest closed again, as long as
    leaving out another would not do nearly as well.

    What a node brings into all its pairs alike (`NodeShare`) is, to every pair, an offset of its clock: it closes
    exactly and no number of pairs averages it. So pairs weigh by what is their own, and the nodes' shares join the
    covariance of the solution, the mean of what a node's pairs say of it.

    Parameters
    ----------
    pairs : sequence of PairOffset
        Independent but for their nodes' shares: one for each pair, not both directions of a two-way method, which say
        the same.
    epoch : Moment
        On the reference's clock.

    Returns
    -------
    ClosedClocks
        Of the nodes that links lead to from the reference. Variance between two nodes with pairs of σ² each: star σ²
        to the hub and 2σ² between leaves, full mesh of N nodes 2σ²/N.

    Raises
    ------
    ValueError
        If a deviation is not positive.

    Source: methods.md §3.6 "More than two nodes"; docs/methods/clocks.md.
    """
    if any(one.to_std_s <= 0 or one.drift_std <= 0 for one in pairs):
        raise ValueError("a pair's offset has no positive deviation")
    used = list(range(len(pairs)))
    left_out: list[int] = []
    reason = ""
    closed = _closed(pairs, used, epoch)
    while not closed.consistent:
        without = _each_left_out(pairs, used, epoch, closed)
        if not without or without[0][0].chi2 > closed.chi2 - _IDENTIFIED:
            reason = "loops do not close, and no single link explains it"
            break
        best, index = without[0]
        if len(without) > 1 and without[1][0].chi2 - best.chi2 < _IDENTIFIED:
            reason = "loops do not close, but which link is wrong cannot be told"
            break
        used.remove(index)
        left_out.append(index)
        closed = best
    if left_out:
        names = ", ".join(f"{pairs[index].receiver}-{pairs[index].transmitter}" for index in left_out)
        reason = "; ".join(filter(None, [f"left out, against all others: {names}", reason]))
    return replace(closed, left_out=tuple(left_out), reason=reason)


def _each_left_out(
    pairs: Sequence[PairOffset], used: Sequence[int], epoch: Moment, closed: ClosedClocks
) -> list[tuple[ClosedClocks, int]]:
    """The clocks closed without each link that can be spared, best first."""
    spared = [(_closed(pairs, [one for one in used if one != index], epoch), index) for index in used]
    whole = [one for one in spared if len(one[0].nodes) == len(closed.nodes)]
    return sorted(whole, key=lambda one: one[0].chi2)


def _quantile(degrees: int) -> float:
    from scipy.special import chdtri

    return float(chdtri(float(degrees), _FALSE_REJECTION))


def _spanned(pairs: Sequence[PairOffset], used: Sequence[int], reference: str) -> dict[str, tuple[float, float]]:
    """Rough offset and drift of every node that a chain of links leads to."""
    known = {reference: (0.0, 0.0)}
    waiting = [reference]
    for here in waiting:
        for index in used:
            one = pairs[index]
            for near, far, sign in ((one.transmitter, one.receiver, 1.0), (one.receiver, one.transmitter, -1.0)):
                if near == here and far not in known:
                    offset_s, drift = known[here]
                    known[far] = (offset_s + sign * one.to_s, drift + sign * one.drift)
                    waiting.append(far)
    return known


def _closed(pairs: Sequence[PairOffset], used: Sequence[int], epoch: Moment) -> ClosedClocks:
    """Weighted least squares with the pairs of index ``used``; residuals of all."""
    known = _spanned(pairs, used, epoch.clock)
    nodes = tuple(known)
    count = len(nodes)
    state = np.array([known[name][part] for part in range(2) for name in nodes])
    reached = [index for index in range(len(pairs)) if {pairs[index].receiver, pairs[index].transmitter} <= set(nodes)]
    chosen = np.array([index in used for index in reached], dtype=bool)
    free = [index for index in range(2 * count) if index % count]
    deviations = np.array([_own_deviations(pairs[index]) for index in reached]).reshape(-1, 2)
    covariance = np.zeros((2 * count, 2 * count))
    measured = [pairs[index] for index in reached]
    design, residuals = _equations(measured, nodes, state, epoch)
    for _ in range(_PASSES):
        if not free:
            break
        rows = (design / deviations[:, :, None])[chosen][..., free].reshape(-1, len(free))
        right = (residuals / deviations)[chosen].ravel()
        state[free] += np.linalg.lstsq(rows, right, rcond=None)[0]
        covariance[np.ix_(free, free)] = np.linalg.inv(rows.T @ rows)
        design, residuals = _equations(measured, nodes, state, epoch)
    spread = np.einsum("pi,ij,pj->p", design[:, 0], covariance, design[:, 0])
    residuals_s, residual_std_s = np.full(len(pairs), np.nan), np.zeros(len(pairs))
    residuals_s[reached] = residuals[:, 0]
    own = deviations[:, 0] ** 2
    # a pair that took part has drawn the solution to itself; one left out is judged by the others
    variance = np.where(chosen, own - spread, own + spread)
    residual_std_s[reached] = np.sqrt(np.where(variance > 1e-9 * own, variance, 0.0))
    against = np.eye(count)
    against[:, 0] -= 1.0
    for part, shares in enumerate(_shares([pairs[index] for index in used if index in reached], nodes).T):
        block = slice(part * count, (part + 1) * count)
        covariance[block, block] += (against * shares) @ against.T
    return ClosedClocks(
        epoch=epoch,
        nodes=nodes,
        offsets_s=state[:count],
        drifts=state[count:],
        covariance=covariance,
        residuals_s=residuals_s,
        residual_std_s=residual_std_s,
        left_out=(),
        chi2=float(np.sum((residuals / deviations)[chosen] ** 2)),
        degrees=2 * int(chosen.sum()) - len(free),
    )


def _own_deviations(pair: PairOffset) -> tuple[float, float]:
    """Deviations of offset and drift that no other pair shares."""
    shared = (pair.receiver_share, pair.transmitter_share)
    offset_s2 = pair.to_std_s**2 - sum(one.offset_s2 for one in shared)
    drift = pair.drift_std**2 - sum(one.drift for one in shared)
    return sqrt(max(offset_s2, _LEAST_OWN * pair.to_std_s**2)), sqrt(max(drift, _LEAST_OWN * pair.drift_std**2))


def _shares(pairs: Sequence[PairOffset], nodes: tuple[str, ...]) -> FloatArray:
    """Variances of offset and drift that each node brings into its pairs, their mean, shape (node, 2)."""
    said: dict[str, list[NodeShare]] = {name: [] for name in nodes}
    for pair in pairs:
        said[pair.receiver].append(pair.receiver_share)
        said[pair.transmitter].append(pair.transmitter_share)
    return np.array([
        np.mean([[one.offset_s2, one.drift] for one in said[name]] or [[0.0, 0.0]], axis=0) for name in nodes
    ])  # fmt: skip


def _equations(
    pairs: Sequence[PairOffset], nodes: tuple[str, ...], state: FloatArray, epoch: Moment
) -> tuple[FloatArray, FloatArray]:
    """Gradients of each pair's offset and drift, shape (pair, 2, 2·node), and measured less predicted, (pair, 2)."""
    count = len(nodes)
    design, residuals = np.zeros((len(pairs), 2, 2 * count)), np.zeros((len(pairs), 2))
    for row, one in enumerate(pairs):
        here, there = nodes.index(one.receiver), nodes.index(one.transmitter)
        offset_s, rate = state[here] - state[there], state[count + here] - state[count + there]
        # the reference's reading when the receiver's was the pair's epoch
        age_s = (one.epoch.seconds_since(epoch) - state[here]) / (1.0 + state[count + here])
        mean = 1.0 + 0.5 * (state[count + here] + state[count + there])
        design[row, 0, [here, there]] = 1.0, -1.0
        design[row, 0, [count + here, count + there]] = age_s, -age_s
        design[row, 1, [count + here, count + there]] = 1.0, -1.0
        residuals[row] = one.to_s - offset_s - rate * age_s, one.drift * mean - rate
    return design, residuals
