"""The static scene as one slot shows it: what stays when carrier offset, phase wander and movers are taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, inf, log10, pi

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.phase_ramps import turned
from dsp.sensing.detection import Detection, Search
from dsp.sensing.path_model import unit_paths
from dsp.sensing.slot import SlotSensing, sense
from dsp.synchronization.base import Offset
from dsp.synchronization.carrier_alias import ALIASED, one_way_alias
from dsp.synchronization.slow_mover import slow_mover_doubt_hz
from dsp.synchronization.symbol_grid import phase_frequency

__all__ = ["StaticScene", "derotated", "scene_offset", "static_scene"]

_FALSE_ALARM_RATE = 1e-8
"""Per cell of the map: a path found in noise once in a few hundred slots."""
_PADDING = 2
_HALF_WINDOW = 0.22
"""Delays searched about the mean one, as a part of the reciprocal subcarrier spacing."""
_WEAKEST_RAD = 0.25
"""Deviation of one symbol's phase to which weak symbols are averaged before phases are referred."""
_FEWEST_SYMBOLS = 6
_MOVER_SHARE = 0.5
_SHARED_DOPPLER_SHARE = 0.05


@dataclass(frozen=True)
class StaticScene:
    """Static channel of one slot on its first antenna, and what moved in it."""

    values: ComplexArray
    """Static channel at the slot's mean symbol time, shape (antenna, subcarrier); zero where unknown."""
    variance: FloatArray
    """Noise variance of each value, infinite where unknown, shape (antenna, subcarrier)."""
    subcarrier_hz: FloatArray
    middle_s: float
    """Mean symbol time after the CSI's reference, to which delays belong."""
    to_reference_slope_s: float
    """What the drift of the removed reference adds to the time offset at the middle: -CFO_ref/fc · middle."""
    cfo_hz: float
    """Carrier frequency offset, removed reference included: static scatterers have no Doppler."""
    cfo_std_hz: float
    movers: tuple[Detection, ...]
    """Moving paths; residual delays at the middle."""
    valid: bool
    reason: str

    @property
    def snr(self) -> float:
        """Static power over noise of one subcarrier's mean on the first antenna."""
        known = np.isfinite(self.variance[0])
        noise = float(np.mean(self.variance[0][known]))
        return max(float(np.mean(np.abs(self.values[0][known]) ** 2)) / noise - 1.0, 0.0)


def derotated(csi: ChannelState, cfo_hz: float) -> ChannelState:
    """CSI with ``cfo_hz`` more taken off as its reference, the timing drift that goes with it included."""
    angle = -2.0 * pi * cfo_hz * csi.symbol_s
    values = turned(csi.values, angle, angle / float(csi.carrier_hz), csi.subcarrier_hz)
    return replace(csi, values=values, cfo_reference_hz=csi.cfo_reference_hz + cfo_hz)


def scene_offset(csi: ChannelState, scene: StaticScene, *, clock_std_hz: float) -> Offset:
    """Carrier offset of a scene, without a time offset, invalid; with a reason where nothing more can be said of it.

    Parameters
    ----------
    csi : ChannelState
        Whose scene it is.
    scene : StaticScene
    clock_std_hz : float
        Deviation that the clocks' wander adds to the carrier offset's.
    """
    reason = scene.reason if not scene.valid else ALIASED if one_way_alias(csi, scene.cfo_hz) else ""
    return Offset(
        to_s=None,
        cfo_hz=scene.cfo_hz,
        cfo_std_hz=hypot(scene.cfo_std_hz, clock_std_hz),
        epoch=csi.reference.shifted(scene.middle_s),
        snr_db=10.0 * log10(max(csi.snr, 1e-12)),
        valid=False,
        reason=reason,
    )


def static_scene(
    csi: ChannelState, *, gate_s: tuple[float, float] | None = None, false_alarm_rate: float = _FALSE_ALARM_RATE
) -> StaticScene:
    """Static channel, carrier offset and movers of a slot, jointly by maximum likelihood.

    Each symbol's phase is referred to the static channel, movers are found and fitted together with it
    (`dsp.sensing.slot.sense`), and the static channel is the mean over symbols of what the movers leave: their
    Doppler side lobes, which at 20 dB would pull delays by more than noise does, are gone. The carrier offset is
    the slope of the phases; clock wander and phase noise within the slot go with them.

    Symbols too weak to carry a phase are averaged first, which needs a carrier offset already taken off to well
    below the reciprocal slot length (`derotated`).

    Invalid where no static channel carries a reference, where what moves is nearly as strong as what stands, and
    where several paths share a Doppler other than the strongest path's, so that it is not clear which of the two
    stands still.

    Parameters
    ----------
    csi : ChannelState
    gate_s : (float, float), optional
        Residual delays between which movers are looked for; by default about the mean delay.
    false_alarm_rate : float
        Of a mover, per cell of the map, with noise independent from antenna to antenna.

    Raises
    ------
    ValueError
        If there are fewer than three symbols, or no element is known.
    """
    csi = _strong_enough(replace(csi, values=csi.values.astype(np.complex64)))
    same = np.diff(csi.frame_of_symbol) == 0
    spacing_s = float(np.median(np.diff(csi.symbol_s)[same])) if same.any() else float(np.min(np.diff(csi.symbol_s)))
    span_s = max(float(np.ptp(csi.symbol_s)), spacing_s)
    half_s = _HALF_WINDOW / float(np.min(np.diff(csi.subcarrier_hz)))
    centre_s = _mean_delay(csi)
    first_s, last_s = gate_s or (centre_s - half_s, centre_s + half_s)
    search = Search(
        min_delay_s=first_s,
        max_delay_s=last_s,
        max_doppler_hz=max(0.5 / spacing_s - 0.5 / span_s, 0.25 / spacing_s),
        false_alarm_rate=false_alarm_rate,
        delay_padding=_PADDING,
        doppler_padding=_PADDING,
    )
    seen = sense(csi, search)
    steady, middle_s = seen.csi, float(csi.symbol_s.mean())
    left = _without_movers(seen)
    residual_hz, slips, sure = _slope(seen.reference.phase_rad, csi.symbol_s - middle_s, spacing_s)
    if slips.any():
        # A cycle slipped in unwrapping is no phase, but the reference took its timing of 1/fc off with it.
        drift = np.exp(2j * pi * np.outer(slips, csi.subcarrier_hz / float(csi.carrier_hz)))
        left = left * drift
    known = steady.weights.sum(axis=0)
    sums = np.einsum("alk,lk->ak", left, steady.weights)
    with np.errstate(divide="ignore"):
        variance = steady.noise[:, None] / known
    time = csi.symbol_s - csi.symbol_s.mean()
    spread = float(np.sqrt(time @ time))
    values = np.divide(sums, known, out=np.zeros_like(sums), where=known > 0)
    slow_hz = slow_mover_doubt_hz(left, steady.weights, steady.noise, time, csi.subcarrier_hz)
    reason = seen.reference.reason or _unclear(seen, values, span_s)
    if not reason and not sure:
        reason = "the frames are too far apart to tell their phase's slope from one a frame rate away"
    return StaticScene(
        values=values,
        variance=variance,
        subcarrier_hz=csi.subcarrier_hz,
        middle_s=middle_s,
        to_reference_slope_s=-csi.cfo_reference_hz / float(csi.carrier_hz) * middle_s,
        cfo_hz=csi.cfo_reference_hz + residual_hz,
        cfo_std_hz=hypot(seen.reference.phase_std_rad / (2.0 * pi * spread), slow_hz) if spread > 0.0 else inf,
        movers=seen.detections,
        valid=not reason,
        reason=reason,
    )


def _without_movers(seen: SlotSensing) -> ComplexArray:
    """Referenced CSI of a slot less every path that moves, shape (antenna, symbol, subcarrier)."""
    steady = seen.csi
    if not len(seen.search.parameters):
        return steady.values
    paths = unit_paths(
        seen.search.parameters,
        time=steady.symbol_s - float(steady.symbol_s.mean()),
        frequency=steady.subcarrier_hz,
        carrier_hz=float(steady.carrier_hz),
    )
    moving = seen.search.path_amplitudes @ paths.reshape(len(paths), -1)
    return np.asarray(steady.values - moving.reshape(steady.values.shape))


def _slope(phase: FloatArray, time: FloatArray, spacing_s: float) -> tuple[float, FloatArray, bool]:
    """Frequency of greatest coherence of the phases, whole cycles by which each strays from its straight line, and
    whether the frequency is the only one.

    The slope of unwrapped phases is that of least variance, unless a weak path let the unwrapping slip.
    """
    slope, sure = phase_frequency(phase, time, spacing_s)
    strayed = phase - 2.0 * pi * slope * time
    cycles = np.rint((strayed - np.median(strayed)) / (2.0 * pi))
    return slope, cycles, sure


def _unclear(seen: SlotSensing, static: ComplexArray, span_s: float) -> str:
    """Why it is not clear what stands still; empty if it is."""
    held = float(np.mean(np.abs(static[0]) ** 2))
    power = np.array([abs(path.amplitudes[0]) ** 2 for path in seen.detections])
    if power.sum() > _MOVER_SHARE * held:
        return "a mover dominates: what moves is nearly as strong as what stands still"
    for index, path in enumerate(seen.detections):
        apart = np.array([abs(path.doppler_hz - other.doppler_hz) for other in seen.detections])
        near = apart < np.array([4.0 * other.doppler_std_hz + 0.05 / span_s for other in seen.detections])
        if np.count_nonzero(near) > 1 and power[near].sum() > _SHARED_DOPPLER_SHARE * held and near[index]:
            return "several paths share a Doppler other than the strongest's: not clear which of them stand still"
    return ""


def _strong_enough(csi: ChannelState) -> ChannelState:
    """Symbols averaged until one carries a phase, if that leaves enough of them."""
    per_symbol = csi.snr * float(np.count_nonzero(csi.weights)) / len(csi.weights)
    deviation = 1.0 / np.sqrt(2.0 * max(per_symbol, 1e-12))
    run = int(np.ceil((deviation / _WEAKEST_RAD) ** 2))
    shortest = int(np.min(np.unique(csi.frame_of_symbol, return_counts=True)[1]))
    run = min(run, shortest, len(csi.symbol_s) // _FEWEST_SYMBOLS)
    return csi.averaged(run) if run > 1 else csi


def _mean_delay(csi: ChannelState) -> float:
    """Power-weighted mean delay, from the phase between neighbouring subcarriers."""
    steps = np.diff(csi.subcarrier_hz)
    next_door = steps < 1.5 * steps.min()
    weights = np.sqrt(csi.weights[:, 1:] * csi.weights[:, :-1])
    lag = np.sum((weights * csi.values[:, :, 1:] * np.conj(csi.values[:, :, :-1]))[:, :, next_door])
    return float(-np.angle(lag) / (2.0 * pi * steps.min()))
