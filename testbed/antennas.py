"""Where a node's antennas are."""

from __future__ import annotations

from math import radians

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray
from testbed.scenario import Node

__all__ = ["antenna_m", "antenna_spacing_m", "array_centre_m", "elements_m"]


def antenna_m(node: Node, *, transmits: bool) -> FloatArray:
    """Where the first antenna is that transmits, or receives."""
    offset = node.tx_offset_m if transmits else node.rx_offset_m
    here = np.array(node.position_m, dtype=float)
    if node.port == "shared":
        return here
    heading = radians(node.heading_deg)
    forward, left = offset[0], offset[1]
    turned = np.array(
        [
            np.cos(heading) * forward - np.sin(heading) * left,
            np.sin(heading) * forward + np.cos(heading) * left,
            offset[2] if len(offset) > 2 else 0.0,
        ]
    )
    place: FloatArray = here + turned[: here.size]
    return place


def elements_m(node: Node, carrier_hz: float, *, transmits: bool = False) -> FloatArray:
    """Where every receiving, or transmitting, antenna is, shape (antenna, coordinate): from the first to heading's
    left."""
    first = antenna_m(node, transmits=transmits)
    count = node.transmit_antennas if transmits else node.antennas
    heading = radians(node.heading_deg)
    left = np.array([-np.sin(heading), np.cos(heading), 0.0])[: first.size]
    return np.asarray(first + np.arange(count)[:, None] * antenna_spacing_m(node, carrier_hz) * left)


def array_centre_m(node: Node, carrier_hz: float) -> FloatArray:
    """Middle of the receiving antennas: where bearings are seen from, and where a path's delay, common to all, ends."""
    return np.asarray(elements_m(node, carrier_hz).mean(axis=0))


def antenna_spacing_m(node: Node, carrier_hz: float) -> float:
    """Distance between neighbouring antennas; half a wavelength where the scenario leaves it open."""
    return node.antenna_spacing_m or 0.5 * SPEED_OF_LIGHT_MPS / carrier_hz
