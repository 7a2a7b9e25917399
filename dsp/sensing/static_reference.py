"""Slow-time phase of a slot referred to its static paths, so that a long Doppler integration stays coherent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.fourier import transformed
from dsp.phase_ramps import turned

__all__ = ["StaticReference", "apply_reference", "rotated", "static_reference"]

_COHERENT_FLOOR = 0.5
"""Share of the strongest path's power that must stay in one static path: below it, phases follow noise or a mover."""

_WEAKEST_RAD = 0.3
"""Deviation of a symbol's phase beyond which alignment starts to follow noise: noise alone aligned reaches 0.4."""


@dataclass(frozen=True)
class StaticReference:
    """Common phase of every symbol against the slot's static channel."""

    phase_rad: FloatArray
    """Unwrapped phase of each symbol, mean zero over the slot, shape (symbol,)."""
    phase_std_rad: float
    """Predicted deviation of one symbol's phase: 1/√(2·SNR summed over subcarriers and antennas)."""
    cfo_hz: float
    """Mean slope of the phase: residual carrier frequency offset against the static paths."""
    coherence: float
    """Share of the received power that the static channel explains after referencing, noise subtracted, 0…1."""
    valid: bool
    reason: str
    """Why invalid: no static channel that could carry a reference."""
    first_rad: FloatArray | None = None
    """Phase of the strongest path, with which the search began."""


def static_reference(
    csi: ChannelState,
    *,
    movers: ComplexArray | None = None,
    coupled: bool = True,
    passes: int = 3,
    first: FloatArray | None = None,
) -> StaticReference:
    """Phase of each symbol against the static channel, by maximum likelihood over antennas and subcarriers.

    The strongest path gives a first phase per symbol; unwrapped about its own mean slope it aligns the symbols;
    their weighted mean over the slot is the static channel S, and the phase is then refined as the angle of the
    matched sum ⟨S, H_l⟩, alternately with S. One oscillator drives LO and converters, so the phase φ moves
    subcarrier f by φ·(1 + f/fc): the timing drift is removed with the phase and needs no estimate of its own.

    A mover that correlates with the static channel by c pulls the phase, and referencing then mirrors a share
    c²/2 of it to the negative Doppler; ``movers``, found in a first pass, are subtracted before S and added to
    it in the matched sum, which removes the pull.

    Parameters
    ----------
    csi : ChannelState
        One slot, symbols not yet averaged.
    movers : complex array, shape (antenna, symbol, subcarrier), optional
        Moving paths in the frame that the returned reference makes (no phase walk).
    coupled : bool
        False where the converters do not share the LO's oscillator: the phase is then common to all subcarriers.
    passes : int ≥ 1
        Alternations between static channel and phase.
    first : float array, shape (symbol,), optional
        What an earlier reference of the same CSI began with.

    Returns
    -------
    StaticReference
        Zero-mean phase: the residual delays of referenced CSI belong to the mean symbol time of the slot.

    Raises
    ------
    ValueError
        If there are fewer than two symbols or no known element.

    Source: methods.md §3.6 "Phase" and §3.3 (conjugate phase of the static path); mirror term derived here.
    """
    if csi.values.shape[1] < 2 or not np.any(csi.weights > 0):
        raise ValueError("a static reference needs two symbols and known elements")
    phase = _first_phase(csi) if first is None else first
    first, phase = phase, phase - phase.mean()  # the frame that the movers were found in
    aligned = rotated(csi.values, csi, phase, coupled=coupled)
    weighted = aligned * csi.weights
    correction, static = _alternated(weighted, csi, movers, passes)
    phase = phase + correction
    coherence, deviation = _quality(aligned, weighted, static, csi)
    time = csi.symbol_s - csi.symbol_s.mean()
    slope = float(time @ phase / (time @ time)) / (2.0 * np.pi)
    reason = ""
    if deviation > _WEAKEST_RAD:
        reason = f"the static paths are too weak to carry a phase (deviation {deviation:.2g} rad a symbol)"
    elif coherence < _COHERENT_FLOOR:
        reason = f"only {coherence:.0%} of the received power keeps one phase over the slot: no static reference"
    return StaticReference(phase - phase.mean(), deviation, slope, coherence, not reason, reason, first)


def _alternated(
    weighted: ComplexArray, csi: ChannelState, movers: ComplexArray | None, passes: int
) -> tuple[FloatArray, ComplexArray]:
    """What the symbols' phases still lack, mean zero, and the static channel (antenna, subcarrier) that says so.

    ``weighted`` is the aligned CSI times its weights.
    """
    inverse_noise = _inverse_noise(csi)
    known = csi.weights.sum(axis=0)
    per_subcarrier = np.divide(1.0, known, out=np.zeros_like(known), where=known > 0)
    correction = np.zeros(weighted.shape[1])
    if movers is not None:
        moving = np.einsum("alk,lk->ak", movers, csi.weights)
        pulled = np.einsum("alk,alk,a->l", movers.conj(), weighted, inverse_noise)
    static = np.zeros((weighted.shape[0], weighted.shape[2]), weighted.dtype)
    for _ in range(passes):
        turned = np.exp(-1j * correction)
        total = np.matmul(turned.astype(weighted.dtype), weighted)
        if movers is not None:
            total = total - moving
        static = total * per_subcarrier
        # conj(template)·weighted summed over subcarriers and antennas, the static part by one product of matrices
        scaled = static.conj() * inverse_noise[:, None]
        matched = np.sum(np.matmul(weighted, scaled[:, :, None])[..., 0], axis=0)
        if movers is not None:
            matched = matched + pulled
        correction = correction + np.angle(matched * turned)
        correction -= correction.mean()
    return correction, static


def _quality(
    aligned: ComplexArray, weighted: ComplexArray, static: ComplexArray, csi: ChannelState
) -> tuple[float, float]:
    """Share of the received power that the static channel explains, and the deviation of one symbol's phase."""
    inverse_noise, known = _inverse_noise(csi), csi.weights.sum(axis=0)
    energy = float(np.einsum("ak,k,a->", np.abs(static) ** 2, known, inverse_noise))
    energy = max(energy - aligned.shape[0] * np.count_nonzero(known), 0.0)  # what noise alone puts into the mean
    power = weighted.real * aligned.real + weighted.imag * aligned.imag
    received = float(power.sum(axis=(1, 2), dtype=np.float64) @ inverse_noise)
    received -= float(aligned.shape[0] * np.count_nonzero(csi.weights))
    coherence = float(np.clip(energy / max(received, 1e-300), 0.0, 1.0)) if received > 0 else 0.0
    return coherence, float(np.sqrt(aligned.shape[1] / (2.0 * max(energy, 1e-300))))


def _inverse_noise(csi: ChannelState) -> FloatArray:
    return np.asarray(1.0 / np.maximum(csi.noise, np.finfo(float).tiny))


def apply_reference(csi: ChannelState, reference: StaticReference, *, coupled: bool = True) -> ChannelState:
    """CSI with the slow-time phase of ``reference`` and the timing drift that goes with it removed.

    Raises
    ------
    ValueError
        If the reference has another number of symbols.
    """
    if reference.phase_rad.shape != csi.symbol_s.shape:
        raise ValueError(f"reference has {reference.phase_rad.size} symbols, the CSI {csi.symbol_s.size}")
    return replace(csi, values=rotated(csi.values, csi, reference.phase_rad, coupled=coupled))


def rotated(values: ComplexArray, csi: ChannelState, phase: FloatArray, *, coupled: bool) -> ComplexArray:
    """``values`` on the symbols and subcarriers of ``csi``, each symbol turned back by ``phase``."""
    if not coupled:
        angle = phase[:, None]
        single = values.dtype == np.complex64
        return np.asarray(values * (np.exp(-1j * angle.astype(np.float32)) if single else np.exp(-1j * angle)))
    return turned(values, -phase, -phase / float(csi.carrier_hz), csi.subcarrier_hz)


def _first_phase(csi: ChannelState) -> FloatArray:
    """Phase of the strongest path in every symbol, unwrapped about the mean slope within frames."""
    frequency, time = csi.subcarrier_hz, csi.symbol_s
    spacing = float(np.min(np.diff(frequency)))
    bins = np.rint((frequency - frequency[0]) / spacing).astype(np.int64)
    size = 1 << int(np.ceil(np.log2(2 * (int(bins[-1]) + 1))))
    padded = np.zeros((*csi.values.shape[:2], size), np.complex64)
    padded[:, :, bins] = csi.values * csi.weights
    response = transformed(padded, inverse=True)
    strongest = int(np.argmax(np.sum(np.abs(response) ** 2, axis=(0, 1))))
    path = response[:, :, strongest].astype(np.complex128)
    _, vectors = np.linalg.eigh(path @ path.conj().T)
    series = vectors[:, -1].conj() @ path
    # the gaps between frames are too long to unwrap across without the slope, which neighbours within frames give
    neighbours = np.diff(csi.frame_of_symbol) == 0
    steps = (series[1:] * series[:-1].conj())[neighbours] if neighbours.any() else series[1:] * series[:-1].conj()
    interval = np.diff(time)[neighbours] if neighbours.any() else np.diff(time)
    slope = float(np.angle(steps.sum())) / float(np.median(interval))
    straight = slope * (time - time.mean())
    return np.asarray(straight + np.unwrap(np.angle(series * np.exp(-1j * straight))))
