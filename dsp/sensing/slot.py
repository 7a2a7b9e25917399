"""One slot from CSI to detections: reference, average, clear, map, detect."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray
from dsp.sensing.delay_doppler import block_symbols
from dsp.sensing.detection import Detection, Detections, Search, detect
from dsp.sensing.path_model import unit_paths
from dsp.sensing.static_reference import StaticReference, apply_reference, rotated, static_reference

__all__ = ["SlotSensing", "sense", "with_origin", "without_movers"]

_STRONG = 1e-3
"""Power against the strongest mover's, above which a path takes part in the second phase reference."""


@dataclass(frozen=True)
class SlotSensing:
    """What one slot shows."""

    detections: tuple[Detection, ...]
    search: Detections
    """Maps, decision, clutter, cancelled paths."""
    reference: StaticReference
    csi: ChannelState
    """Referenced to the static path and averaged over blocks: what was searched."""
    max_doppler_hz: float
    """Of the search."""
    referenced: bool
    """Whether phases were referred to the static channel."""
    coupled: bool


def sense(
    csi: ChannelState,
    search: Search,
    *,
    delay_origin_s: float = 0.0,
    coupled: bool = True,
    reference: bool = True,
    passes: int = 2,
) -> SlotSensing:
    """Moving paths of one slot, from its CSI as the front hands it on.

    Phases are referred to the static channel, symbols averaged over `block_symbols`, the static channel removed
    if asked, and paths detected. A mover that shares delay and angle with the static channel pulls its phase and
    so leaves a mirror image at minus its Doppler. To first order the model of `PathModel` contains that; what is
    left, of second order, goes by making the paths found part of the phase reference and searching again,
    ``passes`` times in all at most.

    Parameters
    ----------
    csi : ChannelState
        Symbols not averaged, offsets' reference removed.
    search : Search
    delay_origin_s : float
        Reference-to-absolute delay at the slot's mean symbol time.
    coupled : bool
        False for radios whose converters do not share the LO's oscillator.
    reference : bool
        False leaves the slow-time phase as it is (no static path; a clock that needs none).
    passes : int ≥ 1

    Raises
    ------
    ValueError
        As `static_reference` and `detect`.
    """
    held = static_reference(csi, coupled=coupled)
    use = reference and held.valid
    steady = apply_reference(csi, held, coupled=coupled) if use else csi
    symbols = block_symbols(csi, search.max_doppler_hz)
    blocks = steady.averaged(symbols)
    movers_only = replace(search, remove_clutter=search.remove_clutter or use)
    found = detect(blocks, movers_only, delay_origin_s=delay_origin_s, referenced=use)
    for _ in range(passes - 1):
        if not use or not found.paths:
            break
        strong = _strong(found)
        movers = _movers(csi, found, strong, symbols)
        following = static_reference(csi, movers=movers, coupled=coupled, first=held.first_rad)
        if not following.valid:
            break
        change = float(np.sqrt(np.mean((following.phase_rad - held.phase_rad) ** 2)))
        held = following
        if change < 0.1 * held.phase_std_rad:
            break
        blocks = apply_reference(csi, held, coupled=coupled).averaged(symbols)
        found = detect(blocks, movers_only, delay_origin_s=delay_origin_s, initial=found.parameters[strong])
    if movers_only != search:
        found = detect(blocks, search, delay_origin_s=delay_origin_s, referenced=use)
    return SlotSensing(found.paths, found, held, blocks, search.max_doppler_hz, use, coupled)


def without_movers(csi: ChannelState, found: SlotSensing) -> ChannelState:
    """The slot's CSI with the paths that `sense` found in it taken off: what stands, in the phases it was heard with.

    A mover is elsewhere when the other direction of its link is sounded, and would pull a two-way offset.
    """
    if not found.search.paths:
        return csi
    every = np.ones(len(found.search.parameters), dtype=bool)
    movers = _movers(csi, found.search, every, block_symbols(csi, found.max_doppler_hz))
    if found.referenced:
        movers = rotated(movers, csi, -found.reference.phase_rad, coupled=found.coupled)
    return replace(csi, values=(csi.values - movers).astype(csi.values.dtype))


def _strong(found: Detections) -> NDArray[np.bool_]:
    """Paths that pull the phase to second order; products of two of them, still in the first search, are weaker."""
    power = np.sum(np.abs(found.path_amplitudes) ** 2, axis=0)
    return np.asarray(power >= _STRONG * power.max())


def _movers(csi: ChannelState, found: Detections, strong: NDArray[np.bool_], symbols: int) -> ComplexArray:
    """Strong paths found, on the slot's own symbols."""
    signal = unit_paths(
        found.parameters[strong],
        time=csi.symbol_s - found.paths[0].time_s,
        frequency=csi.subcarrier_hz,
        carrier_hz=float(csi.carrier_hz),
    )
    # averaging over blocks has weakened the amplitudes
    angle = np.pi * found.parameters[strong, 1] * _symbol_spacing_s(csi)
    loss = np.sinc(symbols * angle / np.pi) / np.sinc(angle / np.pi)
    movers = (found.path_amplitudes[:, strong] / loss) @ signal.reshape(len(signal), -1)
    return np.asarray(movers.reshape(-1, *signal.shape[1:]).astype(csi.values.dtype))


def _symbol_spacing_s(csi: ChannelState) -> float:
    """Time between neighbouring symbols of a frame."""
    return float(np.median(np.diff(csi.symbol_s)))


def with_origin(found: SlotSensing, delay_origin_s: float) -> tuple[Detection, ...]:
    """The same detections under another delay origin, e.g. another method's clock offset."""
    return tuple(
        replace(detection, delay_s=detection.residual_delay_s + delay_origin_s) for detection in found.detections
    )
