"""Delays of the paths in a static channel, and where a node's own echo puts the scatterers."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf, log, log10, pi, sqrt

import numpy as np
from scipy.special import gammaincc

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState, ComplexArray
from dsp.moment import Moment
from dsp.sensing.angle import bearing
from dsp.synchronization.cooperation_fit import static_paths
from dsp.synchronization.fingerprint_scene import static_scene

__all__ = ["ActiveEcho", "Scatterer", "active_echo"]

_MOVER_FALSE_ALARM = 1e-8
"""Per cell of the map of a node's own echoes."""
_REACH = 0.4
"""Round trips within which movers are looked for, as a part of the reciprocal subcarrier spacing."""
_BEFORE_CELLS = 1.5
"""What the leakage's own response may take before its arrival, in resolution cells."""
_ABOVE_PRECURSORS = 2.0
"""Amplitude over the strongest path before the leakage, where nothing can be, that makes a path an echo."""
_SLOPE_OF_PATH = 0.4
"""Deviation of a delay, in resolution cells, that an unresolved path of unit amplitude and any phase causes."""


@dataclass(frozen=True)
class Scatterer:
    """One static scatterer as the active node's echo sees it."""

    delay_s: float
    """Round trip, from the node's antenna and back."""
    delay_std_s: float
    sines: tuple[float, ...]
    """Sine of the bearing at the active node and its grating repetitions; front and back have one sine."""
    sine_std: float


@dataclass(frozen=True)
class ActiveEcho:
    """Scatterers that a node located by its own echo, which has neither time nor frequency offset."""

    node: str
    """Active node; either end of the link."""
    scatterers: tuple[Scatterer, ...]
    remark: str = ""
    """What keeps the echo from showing more."""


def active_echo(
    csi: ChannelState,
    departure: Moment,
    *,
    spacing_m: float,
    least_delay_s: float,
    calibration: ComplexArray | None = None,
) -> ActiveEcho:
    """Scatterers from the CSI of a node's own transmission.

    The leakage is tens of decibels above every echo, arrives at each antenna at a time of its own, and has the front
    end's response for its shape. All that stands between 1.5 resolution cells before the departure and
    ``least_delay_s`` after it is therefore projected out on every antenna by itself, and the echoes are fitted to what
    is left (`static_paths`). What is found before the leakage can be no echo: it is what the projection has left of
    it, of which there will be as much behind. Echoes must rise 6 dB above it, and their deviations contain it.

    Parameters
    ----------
    csi : ChannelState
        Two antennas or more in a uniform line, receiver and transmitter the same node.
    departure : Moment
        When the slot left, on the same clock, less what the chains add: the CSI's delays count from it.
    spacing_m : float
        Antenna spacing; first antenna to heading's right.
    least_delay_s : float
        Round trips shorter than this are leakage.
    calibration : complex array, shape (antenna,), optional
        Response of each antenna, as `dsp.sensing.angle.bearing` takes it.

    Raises
    ------
    ValueError
        If there is one antenna only, or the departure is on another clock.
    """
    if csi.values.shape[0] < 2:
        raise ValueError("an active echo needs two antennas or more to tell where its scatterers are")
    if departure.clock != csi.reference.clock:
        raise ValueError(f"an active echo departs and arrives on one clock, got {departure.clock}")
    node = csi.reference.clock
    cell_s = 1.0 / float(np.ptp(csi.subcarrier_hz))
    origin_s = csi.reference.seconds_since(departure)
    window = (-_BEFORE_CELLS * cell_s - origin_s, least_delay_s - origin_s)
    gate = (window[1], window[1] + _REACH / float(np.min(np.diff(csi.subcarrier_hz))))
    # The noise is mostly the leakage's phase noise, the same on all antennas: to count them as one.
    antennas = len(csi.values)
    rate = float(gammaincc(antennas, -antennas * log(_MOVER_FALSE_ALARM)))
    scene = static_scene(csi, gate_s=gate, false_alarm_rate=rate)
    if not scene.valid:
        return ActiveEcho(node, (), f"{node} does not see its own echoes: {scene.reason}")
    found = static_paths(
        scene.values, scene.variance, scene.subcarrier_hz, carrier_hz=float(csi.carrier_hz), apart_from_s=window
    )
    size = np.sqrt(np.mean(np.abs(found.amplitudes) ** 2, axis=0))
    before = found.delay_s < window[0]
    left = float(np.max(size[before], initial=0.0))
    per_step = SPEED_OF_LIGHT_MPS / (2.0 * pi * float(csi.carrier_hz) * spacing_m)
    scatterers = []
    for index in np.flatnonzero((found.delay_s > window[1]) & (size > _ABOVE_PRECURSORS * left)):
        angle = bearing(
            found.amplitudes[:, index],
            found.amplitude_std,
            spacing_m=spacing_m,
            carrier_hz=float(csi.carrier_hz),
            calibration=calibration,
        )
        share = left / float(size[index])
        leaked = angle.sine_std * left / (sqrt(2.0) * float(np.mean(found.amplitude_std)))
        scatterers.append(
            Scatterer(
                float(found.delay_s[index] + origin_s),
                hypot(float(found.delay_std_s[index]), _SLOPE_OF_PATH * share * cell_s),
                angle.sines,
                hypot(per_step * float(found.step_std_rad[index]), leaked),
            )
        )
    return ActiveEcho(
        node, tuple(scatterers), _blindness(node, scene.values, max(found.floor, _ABOVE_PRECURSORS * left))
    )


def _blindness(node: str, values: ComplexArray, floor: float) -> str:
    """How far below its strongest path, the leakage, a node sees echoes."""
    strongest = float(np.sqrt(np.mean(np.abs(values[0]) ** 2)))
    below_db = 20.0 * log10(max(strongest, 1e-300) / floor) if floor > 0.0 else inf
    return f"{node} sees its own echoes down to {below_db:.0f} dB below its leakage"
