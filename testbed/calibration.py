"""Constants of the chains that no over-the-air exchange can see."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from testbed.scenario import Scenario

__all__ = ["Calibration", "ChainDelays"]


@dataclass(frozen=True)
class ChainDelays:
    """Delays of one node between its sample counter and its antenna, in seconds."""

    transmit_s: float = 0.0
    receive_s: float = 0.0
    leakage_s: float = 0.0
    """From the transmit chain's end to the receive chain's begin, by the leakage."""


@dataclass(frozen=True)
class Calibration:
    """Chain delays of the nodes; a node that is not listed counts as having none, and its fraction as unknown.

    A departure known by time stamp leaves the transmit chain out; one known by leakage contains the transmit chain,
    the leakage and the receive chain. What is left in the apparent delay from m to n is R_n + T_m with a time stamp,
    R_n - l_m - R_m with leakage (docs/methods/reciprocity.md).
    """

    nodes: dict[str, ChainDelays] = field(default_factory=dict)

    @classmethod
    def simulated(cls, scenario: Scenario) -> Calibration:
        """What the scenario says of its simulated nodes."""
        return cls(
            {
                node.name: ChainDelays(
                    node.front_end.transmit_delay_s, node.front_end.receive_delay_s, node.front_end.leakage_delay_s
                )
                for node in scenario.node
                if node.in_ether
            }
        )

    def leakage_fraction(self, node: str, rate_hz: Fraction) -> float | None:
        """Fraction of a sample by which the leakage arrives after a whole number of samples; None if not calibrated."""
        delays = self.nodes.get(node)
        if delays is None:
            return None
        return float((delays.transmit_s + delays.receive_s + delays.leakage_s) * float(rate_hz)) % 1.0

    def one_way_s(self, receiver: str, transmitter: str, *, time_stamped: bool) -> float:
        """What the chains add to the apparent delay from ``transmitter`` to ``receiver``."""
        here, there = self.nodes.get(receiver, ChainDelays()), self.nodes.get(transmitter, ChainDelays())
        departure = there.transmit_s if time_stamped else -there.leakage_s - there.receive_s
        return here.receive_s + departure
