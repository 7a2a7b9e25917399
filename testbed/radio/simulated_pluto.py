"""Simulated Plutos on the network: what the command line asks for, made of the simulator's parts.

The one module beside `testbed.radio.simulated` that knows the simulator. A Pluto that it starts is reached like a real
one, by its address: no driver imports this.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim_backend.pluto.cable import Cable
from sim_backend.pluto.device import MODELS, Pluto
from sim_backend.pluto.engine import CLOCKS
from sim_backend.pluto.server import PlutoServer
from sim_backend.specification import FrontEndSpec
from testbed.errors import UserError

__all__ = ["CLOCK_NAMES", "MODEL_NAMES", "Looped", "serve_looped"]

MODEL_NAMES = tuple(MODELS)
CLOCK_NAMES = CLOCKS
IDEAL = FrontEndSpec(
    noise_figure_db=None, phase_noise_deg=0.0, gain_imbalance_db=0.0, phase_imbalance_deg=0.0, dc_offset=0j
)
"""A front end whose only imperfections are its converters' bits."""


@dataclass(frozen=True)
class Looped:
    """A Pluto by itself, its transmitter wired to its receiver."""

    model: str = "1r1t"
    clock: str = "virtual"
    attenuation_db: float = 30.0
    ideal: bool = False
    """No noise, no phase noise, no imbalance, no offset: the converters' bits only."""
    seed: int = 0


def serve_looped(what: Looped, *, host: str = "127.0.0.1", port: int = 0) -> PlutoServer:
    """Server of a Pluto by itself, running.

    Raises
    ------
    UserError
        If the port cannot be had.
    """
    front = IDEAL if what.ideal else FrontEndSpec()
    cable = Cable(MODELS[what.model], front, attenuation_db=what.attenuation_db, seed=what.seed)
    pluto = Pluto(what.model, cable, clock=what.clock, seed=what.seed)
    return _listening(pluto, host, port)


def _listening(pluto: Pluto, host: str, port: int) -> PlutoServer:
    try:
        return PlutoServer(pluto, host=host, port=port)
    except OSError as error:
        raise UserError(f"--port {port} at {host} cannot be had: {error.strerror or error}: choose another") from None
