"""Radios behind one contract, and the place where a driver is chosen."""

from __future__ import annotations

import shutil

from testbed.errors import UserError
from testbed.radio.base import Radio
from testbed.scenario import Node, Pluto, Scenario, Usrp

__all__ = ["check_driver", "open_radio"]


def check_driver(node: Node) -> None:
    """Raise `UserError` if this release has no driver for the radio that ``node`` names, or not its interpreter."""
    if node.radio == "recorded":
        raise UserError(
            f'node.radio of {node.name!r} is "recorded", which no driver runs: use "simulated", "pluto" or "usrp", or '
            "replay the recording"
        )
    python = node.usrp.python if node.usrp is not None and node.agent != "remote" else ""
    if python and shutil.which(python) is None:
        raise UserError(
            f'node.usrp.python of {node.name!r} is "{python}", which is no program of this machine: name the '
            "interpreter that has uhd"
        )


def open_radio(scenario: Scenario, node: Node, *, ether: str) -> Radio:
    """Driver of the radio that ``node`` of ``scenario`` names; a simulated one finds its surroundings at ``ether``.

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
    if node.radio == "pluto":
        table = node.pluto or Pluto()
        if table.simulated:
            from testbed.radio.simulated_pluto_node import SimulatedPluto

            return SimulatedPluto(scenario, node, ether)
        from testbed.radio.pluto import PlutoRadio

        return PlutoRadio(node.name, table)
    from testbed.radio.simulated import SimulatedRadio

    return SimulatedRadio(node.name, ether)
