"""When each node's slots left, by the device's time stamp or by the node hearing itself."""

from __future__ import annotations

from dataclasses import dataclass

from dsp.channel import ChannelState
from dsp.departure import Latency, latency, leakage_arrival
from dsp.dispersion import Dispersion
from dsp.moment import Moment
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.pairs import Departed
from testbed.scenario import Node, Scenario
from testbed.schedule import slot_offset_samples

__all__ = ["Departures"]


@dataclass(frozen=True)
class _Stream:
    """What is known of one stream's latency: constant from its start to its end."""

    number: int
    latency: Latency
    dispersion: Dispersion | None


class Departures:
    """Departures of the nodes' slots, round by round.

    A node's converters share one clock, so what lies between the sample it commands and the sample at which it
    hears itself is one constant per stream start. It is measured in the stream's first round and kept: measured anew
    in each round, the scene's own echoes would bias it differently each time. A later round that contradicts it by
    whole samples says that the stream was started anew unnoticed.
    """

    def __init__(self, scenario: Scenario, calibration: Calibration) -> None:
        self._scenario = scenario
        self._calibration = calibration
        self._streams: dict[str, _Stream] = {}

    def of(
        self, node: Node, capture: Capture, own: ChannelState | None
    ) -> tuple[Departed | None, list[tuple[str, str]]]:
        """Departure of the node's slot in one round, if it is known, and what there is to say: (code, text) pairs.

        Parameters
        ----------
        own : ChannelState, optional
            CSI of the node's own frames as it heard them itself.
        """
        stamped = next((one for one in capture.departures if one.frame == 0), None)
        if stamped is not None:
            return Departed(Moment(node.name, stamped.tick, stamped.fraction, capture.rate_hz), 0.0, True), []
        if own is None:
            return None, []
        commanded = self._commanded(node, capture)
        said: list[tuple[str, str]] = []
        known = self._streams.get(node.name)
        if known is not None and known.number == capture.stream:
            behind_s = own.reference.seconds_since(
                Moment(node.name, commanded, known.latency.fraction, capture.rate_hz)
            )
            whole = round(behind_s * float(capture.rate_hz))
            if abs(whole - known.latency.samples) > 1:
                text = f"latency went from {known.latency.samples} to {whole} samples within a stream: measured anew"
                said.append(("latency-jumped", text))
                known = None
        if known is None or known.number != capture.stream:
            arrival = leakage_arrival(own)
            calibrated = self._calibration.leakage_fraction(node.name, capture.rate_hz)
            found = latency([arrival.moment], [commanded], calibrated, std_s=arrival.std_s)
            known = self._streams[node.name] = _Stream(capture.stream, found, arrival.dispersion)
            if calibrated is None:
                said.append(("latency-uncalibrated", found.note))
        return _departed(node, capture, commanded, known), said

    def held(self, node: Node, capture: Capture) -> Departed | None:
        """Departure of the node's slot as the stream's latency, or a time stamp, says it: without hearing it."""
        stamped = next((one for one in capture.departures if one.frame == 0), None)
        if stamped is not None:
            return self.of(node, capture, None)[0]
        known = self._streams.get(node.name)
        if known is None or known.number != capture.stream:
            return None
        return _departed(node, capture, self._commanded(node, capture), known)

    def _commanded(self, node: Node, capture: Capture) -> int:
        return capture.stretches[0].first_tick + slot_offset_samples(self._scenario, self._scenario.index(node.name))


def _departed(node: Node, capture: Capture, commanded: int, stream: _Stream) -> Departed:
    latency = stream.latency
    moment = Moment(node.name, commanded + latency.samples, 0.0, capture.rate_hz)
    moment = moment.shifted(latency.fraction / float(capture.rate_hz))
    return Departed(moment, latency.std_s, False, stream.dispersion)
