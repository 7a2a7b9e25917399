"""Radios behind one contract, and the place where a driver is chosen."""

from __future__ import annotations

from testbed.errors import UserError
from testbed.radio.base import Radio
from testbed.scenario import Node

__all__ = ["check_driver", "open_radio"]


def check_driver(node: Node) -> None:
    """Raise `UserError` if this release has no driver for the radio that ``node`` names."""
    if node.radio != "simulated":
        raise UserError(
            f'node.radio of {node.name!r} is "{node.radio}", but this release drives only "simulated" radios: '
            "use that, or replay a recording"
        )


def open_radio(node: Node, *, ether: str) -> Radio:
    """Driver of the radio that ``node`` names; ``ether`` is where a simulated one finds its surroundings.

    Raises
    ------
    UserError
        If this release has no driver for it.
    RadioError
        If the device does not answer.
    """
    check_driver(node)
    from testbed.radio.simulated import SimulatedRadio

    return SimulatedRadio(node.name, ether)
