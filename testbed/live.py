"""Rounds from the side that acquires to the pipeline, live: bounded in memory, and never waiting.

Whoever acquires must not be held up, since a radio's samples do not wait. So each round is offered to a ring of a few
places; where the processing is so far behind that none is free, the round is dropped whole. It is counted, and it
stands in the results with its event, in its place among the others. Half a round is never processed.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.background import Background
from testbed.capture import Capture
from testbed.results import EventRow, LossRow, RoundRow, losses_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEPTH", "LiveRounds", "LiveTally", "Processing"]

DEPTH = 3
"""Rounds held at once by default: one being processed, one ready after it, one to ride out a slow moment."""


class Processing(Protocol):
    """What works on rounds: `testbed.pipeline.Pipeline`."""

    def process(self, index: int, captures: Mapping[str, Capture], /) -> None:
        """Take one round's captures."""

    def drop(self, row: RoundRow, event: EventRow, losses: Sequence[LossRow], /) -> None:
        """Take note of a round that is not processed."""


@dataclass(frozen=True)
class LiveTally:
    """What became of the rounds offered."""

    offered: int
    processed: int
    dropped: int
    latency_median_s: float | None
    """From a round's last sample to its results; null where none was processed."""
    latency_worst_s: float | None


@dataclass
class _Waiting:
    """A round on its way, or what is left of one that was dropped."""

    index: int
    captures: Mapping[str, Capture] | None
    ended_s: float
    dropped: tuple[RoundRow, EventRow, list[LossRow]] | None = None


class LiveRounds:
    """A ring of rounds between the thread that acquires and one that processes, in order.

    Parameters
    ----------
    processing : Processing
        Works on the rounds, in a thread of its own; nobody else may touch it before `finish`.
    depth : int ≥ 1
        Rounds held at most, the one being processed included: what bounds memory, and latency to ``depth`` times
        that of one round's processing.

    Raises
    ------
    ValueError
        If ``depth`` is less than one.
    """

    def __init__(self, processing: Processing, *, depth: int = DEPTH) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}: at least one round must have a place")
        self._processing = processing
        self._depth = depth
        self._lock = threading.Lock()
        self._held = self._offered = self._dropped = 0
        self._latencies_s: list[float] = []
        self._background = Background(self._work)

    def offer(self, index: int, captures: Mapping[str, Capture], *, ended_s: float | None = None) -> bool:
        """Whether the round found a place; returns at once either way.

        Parameters
        ----------
        index : int
        captures : mapping
            By node; belongs to the pipeline from here on.
        ended_s : float, optional
            When the round's last sample came, on `time.monotonic`; now if not given.

        Raises
        ------
        Exception
            What the processing raised, if it did: no further round is processed then.
        """
        self._background.check()
        ended = time.monotonic() if ended_s is None else ended_s
        with self._lock:
            self._offered += 1
            room = self._held < self._depth
            if room:
                self._held += 1
            else:
                self._dropped += 1
        if room:
            self._background.put(_Waiting(index, captures, ended))
        else:
            self._background.put(_Waiting(index, None, ended, self._refusal(index, captures)))
        return room

    def finish(self, patience_s: float | None = None) -> bool:
        """Whether processing is at rest; ``patience_s`` None waits for every round held (see `Background.finish`).

        Raises
        ------
        Exception
            What the processing raised.
        """
        return self._background.finish(patience_s)

    @property
    def tally(self) -> LiveTally:
        """What became of the rounds so far."""
        with self._lock:
            latencies = list(self._latencies_s)
            offered, dropped = self._offered, self._dropped
        return LiveTally(
            offered,
            len(latencies),
            dropped,
            statistics.median(latencies) if latencies else None,
            max(latencies, default=None),
        )

    def _refusal(self, index: int, captures: Mapping[str, Capture]) -> tuple[RoundRow, EventRow, list[LossRow]]:
        """What the results say of a round for which there is no place; without its samples."""
        reason = f"processing was behind by {self._depth} round{'s' if self._depth > 1 else ''}: dropped whole"
        row = RoundRow(round=index, status="dropped", nodes=list(captures), reason=reason)
        event = EventRow(round=index, code="round-dropped", text=f"round {index} was not processed: {reason}")
        return row, event, [loss for capture in captures.values() for loss in losses_of(capture)]

    def _work(self, waiting: _Waiting) -> None:
        if waiting.dropped is not None:
            self._processing.drop(*waiting.dropped)
            return
        captures, waiting.captures = waiting.captures, None  # or the queue's reader would hold them while it idles
        if captures is None:
            raise AssertionError("a round with neither captures nor the reason for it")
        self._processing.process(waiting.index, captures)
        del captures
        with self._lock:
            self._held -= 1
            self._latencies_s.append(time.monotonic() - waiting.ended_s)
