"""A node's own echoes: where it sees what stands about it, by hearing its own frames."""

from __future__ import annotations

import numpy as np

from dsp.synchronization.cooperation_paths import ActiveEcho, active_echo
from testbed.antennas import antenna_spacing_m
from testbed.calibration import Calibration
from testbed.pairs import Heard, averaged
from testbed.scenario import Node, Scenario

__all__ = ["better_echo", "own_echo"]

_LEAST_CELLS = 2.0
"""Resolution cells after the departure within which leakage, and what the front end makes of it, hides an echo."""


def own_echo(
    node: Node, own: Heard | None, scenario: Scenario, calibration: Calibration
) -> tuple[ActiveEcho | None, str]:
    """What ``node`` sees by its own echo, or None and why it can see nothing.

    Parameters
    ----------
    own : Heard, optional
        The node's own slot as it heard it itself; None if it did not.
    """
    if node.antennas < 2:
        return None, f"{node.name} has one antenna, which tells no bearing"
    if own is None:
        return None, f"{node.name} does not hear itself: no leakage, or a port switched away while it sends"
    if own.departed is None:
        return None, f"departure of {node.name} unknown"
    chains_s = calibration.one_way_s(node.name, node.name, time_stamped=own.departed.time_stamped)
    csi = averaged(own, standing=False)
    try:
        echo = active_echo(
            csi,
            own.departed.moment.shifted(chains_s),
            spacing_m=antenna_spacing_m(node, scenario.waveform.carrier_hz),
            least_delay_s=_LEAST_CELLS / float(np.ptp(csi.subcarrier_hz)),
        )
    except ValueError as error:
        return None, str(error)
    return echo, echo.remark


def better_echo(
    here: tuple[ActiveEcho | None, str], there: tuple[ActiveEcho | None, str]
) -> tuple[ActiveEcho | None, str]:
    """Of the echoes of a link's two ends the one that sees more scatterers, ``here`` if both see as many."""
    if here[0] is None and there[0] is None:
        return None, f"{here[1]}; {there[1]}"
    seen = [0 if echo is None else len(echo.scatterers) for echo, _ in (here, there)]
    if here[0] is None or seen[1] > seen[0]:
        return there
    return here
