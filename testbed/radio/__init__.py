"""Radios behind one contract, and the place where a driver is chosen."""

from __future__ import annotations

from testbed.errors import UserError
from testbed.radio.base import Radio
from testbed.scenario import Node, Usrp

__all__ = ["check_driver", "open_radio"]


def check_driver(node: Node) -> None:
    """Raise `UserError` if this release has no driver for the radio that ``node`` names."""
    if node.radio not in ("simulated", "usrp"):
        raise UserError(
            f'node.radio of {node.name!r} is "{node.radio}", but this release drives only "simulated" radios and '
            '"usrp": use one of these, or replay a recording'
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
    if node.radio == "usrp":
        options = node.usrp or Usrp()
        if options.simulated:
            from testbed.radio.simulated_usrp import SimulatedUsrp

            return SimulatedUsrp(node.name, options, ether)
        from testbed.radio.usrp import UsrpRadio

        return UsrpRadio(node.name, options)
    from testbed.radio.simulated import SimulatedRadio

    return SimulatedRadio(node.name, ether)
