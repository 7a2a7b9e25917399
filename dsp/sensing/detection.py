"""Detection of moving paths: CFAR, off-grid refinement and exact cancellation in turn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.sensing.cfar import CfarResult, Training, cfar, threshold_factor
from dsp.sensing.clutter import Clutter, remove_static
from dsp.sensing.delay_doppler import DelayDopplerMap, Taper, delay_doppler
from dsp.sensing.path_model import PathFit, PathModel

__all__ = ["Detection", "Detections", "Search", "detect"]

_RESIDUE_DB = 20.0
"""A peak within one cell of a path this much stronger is what its model left, not a second target."""

_BLIND_CELLS = 0.25
"""Doppler in resolution cells below which the static channel's removal takes four fifths of a path's energy and more:
what is fitted there trades against the static channel without limit."""


@dataclass(frozen=True)
class Search:
    """Where and how to look for moving paths."""

    max_delay_s: float
    """Upper end of the delay gate against the CSI's reference; the cyclic prefix at most."""
    max_doppler_hz: float
    false_alarm_rate: float = 1e-6
    """Per cell of the map."""
    min_delay_s: float = 0.0
    remove_clutter: bool = True
    delay_padding: int = 3
    doppler_padding: int = 3
    taper: Taper = Taper.KAISER_2
    training: Training = field(default_factory=Training)
    max_paths: int = 16
    doppler_rate_std_hz_per_s: float = 50.0
    """Prior deviation of a path's Doppler rate: 2v²/(R·wavelength), 50 Hz/s for 10 m/s at 30 m and 2.4 GHz."""


@dataclass(frozen=True)
class Detection:
    """One path, refined off the grid."""

    delay_s: float
    """At ``time_s``; absolute path delay where the origin was given."""
    doppler_hz: float
    delay_std_s: float
    """From the inverse Fisher information of all paths jointly."""
    doppler_std_hz: float
    snr_db: float
    """Of the path after integration over the slot, per antenna, mean over antennas."""
    amplitudes: ComplexArray
    """Per antenna, phases at ``time_s``, shape (antenna,)."""
    amplitude_covariance: FloatArray
    """Of the amplitudes' real and imaginary parts, shape (antenna, 2, antenna, 2): antennas' errors go together where
    the symbols' phase was taken from a static channel that the path resembles."""
    time_s: float
    """Mean symbol time of the slot, seconds after the CSI's reference, to which the figures belong."""
    doppler_rate_hz_per_s: float
    residual_delay_s: float
    """Delay without the origin."""


@dataclass(frozen=True)
class Detections:
    """What a slot's search found."""

    paths: tuple[Detection, ...]
    """Strongest first."""
    cleaned: ChannelState
    """What was searched: static channel removed if asked, the pull of the phase reference with it."""
    search: Search
    delay_origin_s: float
    residual: DelayDopplerMap
    """Map after cancellation of all paths."""
    decision: CfarResult
    """CFAR of the residual map."""
    clutter: Clutter | None
    contribution: ComplexArray
    """All paths' share of the averaged CSI, shape (antenna, symbol, subcarrier)."""
    parameters: FloatArray
    """Residual delay, Doppler, Doppler rate of every cancelled path, unreported residue included, shape (path, 3)."""
    path_amplitudes: ComplexArray
    """Shape (antenna, path), for `PathModel`."""

    @cached_property
    def found(self) -> DelayDopplerMap:
        """Map before any cancellation, static channel removed if asked."""
        return _map(self.cleaned, self.search, self.delay_origin_s)


def detect(
    csi: ChannelState,
    search: Search,
    *,
    delay_origin_s: float = 0.0,
    referenced: bool = True,
    initial: FloatArray | None = None,
) -> Detections:
    """Moving paths of one slot, strongest first, each cancelled before the next is looked for.

    The strongest cell above its CFAR threshold starts a path; all paths found so far are refined jointly on the
    exact model and subtracted from the CSI of every antenna; the map of what remains is searched again. Side
    lobes, and the grating lobes that gaps between frames leave, go with the path that made them. A peak within a
    cell of a path more than 20 dB stronger is cancelled as its residue and not reported. At the end paths whose
    power, others subtracted, no longer passes the threshold are dropped.

    Parameters
    ----------
    csi : ChannelState
        Referenced to the static path (`static_reference`), averaged over `block_symbols`.
    search : Search
    delay_origin_s : float
        Added to residual delays to make them absolute.
    referenced : bool
        Whether the symbols' common phase was referred to the static channel: the model then knows what that does
        to a mover.
    initial : float array, shape (path, 3), optional
        Paths to start from: residual delay, Doppler, Doppler rate, from an earlier search of the same slot.

    Raises
    ------
    ValueError
        From the map, the clutter removal or CFAR: an empty gate, too few symbols, no probability.
    """
    clutter = None
    cleaned = csi
    if search.remove_clutter:
        cleaned, clutter = remove_static(csi)
    model = PathModel(
        cleaned,
        static=None if clutter is None else clutter.static,
        referenced=referenced,
        rate_std_hz_per_s=search.doppler_rate_std_hz_per_s,
    )
    cleaned = replace(cleaned, values=model.values.astype(csi.values.dtype))
    fit = model.fit(initial) if initial is not None and len(initial) else None
    fit, contribution, current, decision = _in_turn(model, fit, cleaned, search, delay_origin_s)
    kept = None if fit is None else _pruned(model, fit, csi.noise, decision.efficiency, search)
    if kept is not fit:
        contribution = np.zeros_like(csi.values) if kept is None else model.contribution(kept)
    if kept is None and fit is not None:
        current = _map(cleaned, search, delay_origin_s)
    return Detections(
        paths=() if kept is None else _report(kept, csi, current, delay_origin_s),
        cleaned=cleaned,
        search=search,
        delay_origin_s=delay_origin_s,
        residual=current,
        decision=decision,
        clutter=clutter,
        contribution=contribution,
        parameters=np.zeros((0, 3)) if kept is None else kept.parameters,
        path_amplitudes=np.zeros((len(csi.values), 0), complex) if kept is None else kept.amplitudes,
    )


def _in_turn(
    model: PathModel, fit: PathFit | None, cleaned: ChannelState, search: Search, delay_origin_s: float
) -> tuple[PathFit | None, ComplexArray, DelayDopplerMap, CfarResult]:
    """Fit of all paths found, each cancelled before the next is looked for, starting from those of ``fit``; what they
    contribute, the map of what they leave, and its decision."""
    contribution = np.zeros_like(cleaned.values) if fit is None else model.contribution(fit)
    current = _map(_without(cleaned, contribution), search, delay_origin_s)
    allowed = np.ones(current.values.shape[1:], dtype=bool)
    if search.remove_clutter:
        allowed[np.abs(current.doppler_hz) < _BLIND_CELLS * current.doppler_cell_hz] = False
    while True:
        decision = cfar(current, false_alarm_rate=search.false_alarm_rate, training=search.training, candidates=allowed)
        if not decision.exceeds.any() or (fit is not None and len(fit.parameters) >= search.max_paths):
            return fit, contribution, current, decision
        row, column = np.unravel_index(int(np.argmax(np.where(decision.exceeds, current.power, 0.0))), allowed.shape)
        peak = np.array([[current.delay_s[column] - delay_origin_s, current.doppler_hz[row], 0.0]])
        start = peak if fit is None else np.concatenate([fit.parameters, peak])
        trial = model.fit(start)
        if _strayed(trial.parameters, start, current, search):
            _close(allowed, int(row), int(column), current)
            continue
        fit = trial
        contribution = model.contribution(fit)
        current = _map(_without(cleaned, contribution), search, delay_origin_s)


def _map(csi: ChannelState, search: Search, origin: float) -> DelayDopplerMap:
    return delay_doppler(
        csi,
        max_delay_s=search.max_delay_s,
        min_delay_s=search.min_delay_s,
        max_doppler_hz=search.max_doppler_hz,
        delay_origin_s=origin,
        delay_padding=search.delay_padding,
        doppler_padding=search.doppler_padding,
        taper=search.taper,
        static_removed=search.remove_clutter,
    )


def _without(csi: ChannelState, contribution: ComplexArray) -> ChannelState:
    return replace(csi, values=(csi.values - contribution).astype(csi.values.dtype))


def _strayed(parameters: FloatArray, start: FloatArray, found: DelayDopplerMap, search: Search) -> bool:
    """Whether the newest path left the cell that started it, or any path the gate."""
    cell = np.array([found.delay_cell_s, found.doppler_cell_hz])
    moved = np.abs(parameters[-1, :2] - start[-1, :2]) / cell
    outside = (
        (parameters[:, 0] < search.min_delay_s - cell[0])
        | (parameters[:, 0] > search.max_delay_s + cell[0])
        | (np.abs(parameters[:, 1]) > search.max_doppler_hz + cell[1])
    )
    if search.remove_clutter:
        outside |= np.abs(parameters[:, 1]) < _BLIND_CELLS * cell[1]
    return bool(np.any(moved > 1.5) or np.any(outside))


def _close(allowed: NDArray[np.bool_], row: int, column: int, found: DelayDopplerMap) -> None:
    """Take the resolution cell around a peak that no path explains out of the search."""
    rows, columns = found.doppler_padding, found.delay_padding
    allowed[max(row - rows, 0) : row + rows + 1, max(column - columns, 0) : column + columns + 1] = False


def _pruned(model: PathModel, fit: PathFit, noise: FloatArray, efficiency: float, search: Search) -> PathFit | None:
    """Fit without the paths that fell below the threshold once the others were subtracted."""
    training = (2 * search.training.reach[0] + 1) * (2 * search.training.reach[1] + 1)
    threshold = float(threshold_factor(efficiency * training, search.false_alarm_rate, looks=len(noise)))
    while True:
        power = np.sum(np.abs(fit.amplitudes) ** 2 / noise[:, None], axis=0) * fit.energy
        weakest = int(np.argmin(power))
        if power[weakest] >= threshold:
            return fit
        if len(fit.parameters) == 1:
            return None
        fit = model.fit(np.delete(fit.parameters, weakest, axis=0))


def _report(fit: PathFit, csi: ChannelState, found: DelayDopplerMap, origin: float) -> tuple[Detection, ...]:
    snr = np.mean(np.abs(fit.amplitudes) ** 2 / csi.noise[:, None], axis=0) * fit.energy
    cell = np.array([found.delay_cell_s, found.doppler_cell_hz])
    reported: list[int] = []
    for index in np.argsort(-snr):
        apart = np.abs(fit.parameters[reported, :2] - fit.parameters[index, :2]) / cell
        stronger = snr[reported] > snr[index] * 10 ** (_RESIDUE_DB / 10)
        if not np.any(np.all(apart < 1.0, axis=-1) & stronger):
            reported.append(int(index))
    time = float(csi.symbol_s.mean())
    return tuple(
        Detection(
            delay_s=float(fit.parameters[index, 0]) + origin,
            doppler_hz=float(fit.parameters[index, 1]),
            delay_std_s=float(np.sqrt(fit.covariance[index, 0, 0])),
            doppler_std_hz=float(np.sqrt(fit.covariance[index, 1, 1])),
            snr_db=float(10.0 * np.log10(snr[index])),
            amplitudes=fit.amplitudes[:, index],
            amplitude_covariance=fit.amplitude_covariance[index],
            time_s=time,
            doppler_rate_hz_per_s=float(fit.parameters[index, 2]),
            residual_delay_s=float(fit.parameters[index, 0]),
        )
        for index in reported
    )
