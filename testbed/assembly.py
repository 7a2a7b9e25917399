"""A capture put together from the messages that bring it, believing none of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from testbed import schedule
from testbed.capture import Capture, Departure, Stretch
from testbed.protocol import Captured, Chunk, ProtocolError
from testbed.scenario import Scenario

__all__ = ["Assembly"]


class Assembly:
    """One node's recording of one round on its way.

    Raises
    ------
    ProtocolError
        If the header promises what the experiment does not allow.
    """

    def __init__(self, header: Captured, scenario: Scenario, node: int) -> None:
        self.header = header
        self._node = scenario.node[node]
        limit = schedule.round_samples(scenario)
        if header.antennas != self._node.antennas or header.samples > limit:
            raise ProtocolError(
                f"a capture of {header.antennas} antennas and {header.samples} samples, "
                f"where {self._node.antennas} and at most {limit} are due"
            )
        end = 0
        for stretch in header.stretches:
            if stretch.start != end or stretch.samples < 1:
                raise ProtocolError("stretches that do not follow one another")
            end += stretch.samples
        if end != header.samples:
            raise ProtocolError(f"stretches of {end} samples in a capture of {header.samples}")
        self._samples = np.empty((header.antennas, header.samples, 2), np.int16)
        self._bytes = self._samples.data.cast("B") if self._samples.size else memoryview(b"")
        self._filled = 0

    @property
    def complete(self) -> bool:
        """Whether every byte is there."""
        return self._filled == len(self._bytes)

    def take(self, chunk: Chunk, data: memoryview) -> None:
        """Put the next bytes in their place.

        Raises
        ------
        ProtocolError
            If they are not the next ones.
        """
        end = chunk.offset + len(data)
        if chunk.offset != self._filled or end > len(self._bytes):
            raise ProtocolError(f"bytes {chunk.offset} to {end} where {self._filled} was next of {len(self._bytes)}")
        self._bytes[chunk.offset : end] = data.cast("B")
        self._filled = end

    def capture(self) -> Capture:
        """The whole recording."""
        header = self.header
        return Capture(
            node=self._node.name,
            round=header.round,
            samples=self._samples,
            full_scale=header.full_scale,
            rate_hz=Fraction(header.rate_hz),
            carrier_hz=Fraction(header.carrier_hz),
            stretches=tuple(Stretch(row.start, row.samples, row.first_tick) for row in header.stretches),
            stream=header.stream,
            departures=tuple(Departure(row.frame, row.tick, row.fraction) for row in header.departures),
            settings=header.settings,
            truth=header.truth,
            events=header.events,
        )
