"""Packets brought to one timing and one phase by what stands still in them, and the paths that move.

Every packet (symbol) l may have a timing offset and a phase of its own,

    X[a,l,k] = exp(j·phi_l - j2π·f_k·delta_l) · (S[a,k] + M[a,l,k]) + noise,

S the static channel, free on every antenna and subcarrier, M the moving paths on their exact model. All are found by
maximum likelihood, alternately: packets against S + M, S as the mean of what is aligned, M by detection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.sensing.detection import Detections, Search, detect
from dsp.sensing.path_model import unit_paths

__all__ = ["Aligned", "MoverBound", "aligned", "mover_bound", "with_movers"]

_PADDING = 4
_NEWTON_STEPS = 6
_TEMPLATE_PASSES = 3
_SEARCHED_PASSES = 2
_JOINT_PASSES = 40
_SETTLED = 0.03
"""Change of the packets' timing, in their deviations, below which the alternation has converged."""


@dataclass(frozen=True)
class Aligned:
    """A slot whose packets share one timing and phase."""

    csi: ChannelState
    """Aligned to the mean timing and phase of the packets."""
    timing_s: FloatArray
    """Timing offset of each packet against the mean, shape (symbol,)."""
    phase_rad: FloatArray
    """Phase of each packet, modulo 2π."""
    timing_std_s: float
    """Predicted deviation of one packet's timing."""
    phase_std_rad: float
    static: ComplexArray
    """Static channel, shape (antenna, subcarrier)."""
    static_weights: FloatArray
    """Its weights: noise variance is that of an element over this, shape (subcarrier,)."""
    coherence: float
    """Share of the received power in the static channel, noise subtracted."""


def aligned(csi: ChannelState) -> Aligned:
    """Packets aligned to the static channel: by the magnitude of their delay response, then coherently.

    The magnitude needs no phase and finds offsets of many resolution cells, up to half the inverse subcarrier
    spacing; the coherent stage maximises each packet's likelihood against the mean of all, over all cells once: at low
    SNR the magnitude takes some packets for others of their noise.
    """
    timing = _by_magnitude(csi)
    turned = _turned(csi, timing, np.zeros_like(timing))
    weighted = turned * np.sqrt(csi.weights)
    rows = np.moveaxis(weighted / np.sqrt(csi.noise)[:, None, None], 1, 0).reshape(len(timing), -1)
    _, vectors = np.linalg.eigh(rows @ rows.conj().T)
    phase = np.angle(vectors[:, -1])
    for number in range(_TEMPLATE_PASSES):
        static = _mean(csi, _turned(csi, timing, phase))
        if number < _SEARCHED_PASSES:
            timing = _by_template(csi, static, _turned(csi, timing, phase))
        timing, phase = _refined(csi, static[:, None, :], timing)
    return _finished(csi, timing, phase, None)


def with_movers(csi: ChannelState, start: Aligned, search: Search) -> tuple[Aligned, Detections]:
    """Slot aligned to static channel and movers jointly, and the movers found.

    A mover pulls the packets' timing and phase by what of it looks like either, which leaves images of it about
    every static path. So the strongest is taken into the template first, the packets aligned anew, and only then
    the next one looked for, when the images have gone.

    Raises
    ------
    ValueError
        From the detection: an empty gate, too few symbols.
    """
    state = start
    limit = 1
    found = detect(state.csi, replace(search, max_paths=limit))
    for _ in range(_JOINT_PASSES):
        if not len(found.parameters):
            break
        movers = moving(csi, found)
        timing, phase = _refined(csi, state.static[:, None, :] + movers, state.timing_s)
        change_s = float(np.sqrt(np.mean((timing - timing.mean() - state.timing_s) ** 2)))
        state = _finished(csi, timing, phase, movers)
        if change_s < _SETTLED * state.timing_std_s:
            if len(found.parameters) < limit or limit == search.max_paths:
                break
            limit += 1
        found = detect(state.csi, replace(search, max_paths=limit), initial=found.parameters)
    return state, found


@dataclass(frozen=True)
class MoverBound:
    """What noise and the packets' free timing and phase leave of the movers found."""

    delay_std_s: FloatArray
    doppler_std_hz: FloatArray
    sign_evidence: FloatArray
    """Log-likelihood by which each Doppler beats its negative, shape (path,)."""


def mover_bound(state: Aligned, found: Detections) -> MoverBound:
    """Deviations of the movers with every packet's timing and phase unknown, and the evidence for their signs.

    In one resolution cell with a single static path, free phases leave a mover only its magnitude, whose Doppler
    has no sign.
    """
    csi = state.csi
    project = _Nuisances(state)
    time = csi.symbol_s - csi.symbol_s.mean()
    f = csi.subcarrier_hz
    carrier_hz = float(csi.carrier_hz)
    mirrored = found.parameters * np.array([1.0, -1.0, -1.0])
    signals = unit_paths(found.parameters, time=time, frequency=f, carrier_hz=carrier_hz)
    opposite = unit_paths(mirrored, time=time, frequency=f, carrier_hz=carrier_hz)
    rate = 2j * np.pi * np.outer(time, 1.0 + f / carrier_hz)
    antennas, count = len(csi.noise), len(signals)
    span, band = float(np.ptp(time)), float(np.ptp(f))
    columns = []
    for path, signal in enumerate(signals):
        whole = found.path_amplitudes[:, path, None, None] * signal
        columns += [project(whole * (-2j * np.pi * f / band)), project(whole * rate / span)]
    free = [project(one) for signal in signals for one in _parts(signal, antennas)]
    matrix = np.stack(columns + free, axis=1)
    fisher = 2.0 * matrix.T @ matrix
    scale = np.sqrt(np.maximum(np.diag(fisher), 1e-300))
    inverse = np.linalg.pinv(fisher / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    deviation = np.sqrt(np.maximum(np.diag(inverse), 0.0)) / scale
    evidence = np.zeros(count)
    data = project(csi.values - state.static[:, None, :])
    parts = 2 * antennas
    basis = np.stack(free, axis=1)
    best = _explained(basis, data)
    for path in range(count):
        swapped = basis.copy()
        swapped[:, parts * path : parts * (path + 1)] = np.stack(
            [project(one) for one in _parts(opposite[path], antennas)], axis=1
        )
        evidence[path] = best - _explained(swapped, data)
    return MoverBound(deviation[0 : 2 * count : 2] / band, deviation[1 : 2 * count : 2] / span, evidence)


def _parts(signal: ComplexArray, antennas: int) -> list[ComplexArray]:
    """Signal on each antenna alone, real and imaginary amplitude."""
    parts = []
    for antenna in range(antennas):
        alone = np.zeros((antennas, *signal.shape), dtype=np.complex128)
        alone[antenna] = signal
        parts += [alone, 1j * alone]
    return parts


def _explained(basis: FloatArray, data: FloatArray) -> float:
    """Energy of the data that the columns explain."""
    solution = np.linalg.lstsq(basis.T @ basis, basis.T @ data, rcond=1e-9)[0]
    return float(solution @ (basis.T @ data))


class _Nuisances:
    """Projection across the static channel and across every packet's timing and phase, real, in units of noise."""

    def __init__(self, state: Aligned) -> None:
        self._weights = state.csi.weights
        self._noise = state.csi.noise
        known = state.static_weights
        self._share = np.divide(self._weights, known, out=np.zeros_like(self._weights), where=known > 0.0)
        f = state.csi.subcarrier_hz
        scaled = (f - f.mean()) / float(np.ptp(f))
        phase = 1j * state.static[:, None, :] * np.ones_like(self._weights)
        columns = np.stack([self._whitened(phase), self._whitened(phase * scaled)], axis=-1)
        self._basis = np.linalg.qr(columns)[0]

    def __call__(self, values: ComplexArray) -> FloatArray:
        """Values (antenna, symbol, subcarrier) projected and flattened."""
        varying = values - np.sum(values * self._share, axis=1, keepdims=True)
        rows = self._whitened(varying)
        onto = np.einsum("lnc,ln->lc", self._basis, rows)
        return np.asarray(rows - np.einsum("lnc,lc->ln", self._basis, onto)).ravel()

    def _whitened(self, values: ComplexArray) -> FloatArray:
        """Packets as real rows, shape (symbol, 2 · antenna · subcarrier)."""
        scaled = values * np.sqrt(self._weights) / np.sqrt(self._noise)[:, None, None]
        rows = np.moveaxis(scaled, 1, 0).reshape(values.shape[1], -1)
        return np.concatenate([rows.real, rows.imag], axis=1)


def moving(csi: ChannelState, found: Detections) -> ComplexArray:
    """Moving paths on the slot's symbols, shape (antenna, symbol, subcarrier)."""
    signal = unit_paths(
        found.parameters,
        time=csi.symbol_s - csi.symbol_s.mean(),
        frequency=csi.subcarrier_hz,
        carrier_hz=float(csi.carrier_hz),
    )
    return np.asarray((found.path_amplitudes @ signal.reshape(len(signal), -1)).reshape(-1, *signal.shape[1:]))


def _finished(csi: ChannelState, timing: FloatArray, phase: FloatArray, movers: ComplexArray | None) -> Aligned:
    """Alignment with its mean taken into the static channel, which is averaged anew."""
    timing = timing - timing.mean()
    phase = phase - np.angle(np.exp(1j * phase).sum())
    steady = _turned(csi, timing, phase)
    rest = steady if movers is None else steady - movers
    static = _mean(csi, rest)
    known = csi.weights.sum(axis=0)
    density = np.sum(np.abs(static) ** 2 / csi.noise[:, None], axis=0)
    per_packet = csi.weights @ density
    energy = max(float(known @ density) - float(np.count_nonzero(known)) * len(csi.noise), 1e-300)
    received = float(np.sum(np.abs(steady) ** 2 * csi.weights / csi.noise[:, None, None]))
    received -= float(len(csi.noise) * np.count_nonzero(csi.weights))
    f = csi.subcarrier_hz
    centre = float((known * density) @ f / max(float(known @ density), 1e-300))
    bend = 4.0 * np.pi**2 * float((known * density) @ (f - centre) ** 2) / len(timing)
    share = energy / max(float(known @ density), 1e-300)
    return Aligned(
        csi=replace(csi, values=steady),
        timing_s=timing,
        phase_rad=np.angle(np.exp(1j * phase)),
        timing_std_s=float(1.0 / np.sqrt(max(2.0 * bend * share, 1e-300))),
        phase_std_rad=float(1.0 / np.sqrt(max(2.0 * float(per_packet.mean()) * share, 1e-300))),
        static=static,
        static_weights=known,
        coherence=float(np.clip(energy / received, 0.0, 1.0)) if received > 0.0 else 0.0,
    )


def _turned(csi: ChannelState, timing: FloatArray, phase: FloatArray) -> ComplexArray:
    """Values with each packet's timing and phase taken out."""
    angle = 2.0 * np.pi * np.outer(timing, csi.subcarrier_hz) - phase[:, None]
    return np.asarray(csi.values * np.exp(1j * angle))


def _mean(csi: ChannelState, values: ComplexArray) -> ComplexArray:
    known = csi.weights.sum(axis=0)
    sums = np.einsum("alk,lk->ak", values, csi.weights)
    return np.asarray(np.divide(sums, known, out=np.zeros_like(sums), where=known > 0.0))


def _by_magnitude(csi: ChannelState) -> FloatArray:
    """Timing of each packet by correlating the power of its delay response, circularly, with the mean of all."""
    f = csi.subcarrier_hz
    spacing = float(np.min(np.diff(f)))
    bins, size = _delay_grid(f)
    padded = np.zeros((*csi.values.shape[:2], size), dtype=np.complex128)
    padded[:, :, bins] = csi.values * csi.weights
    response = np.sum(np.abs(np.fft.ifft(padded, axis=-1)) ** 2 / csi.noise[:, None, None], axis=0)
    spectrum = np.fft.rfft(response - response.mean(axis=1, keepdims=True), axis=-1)
    strongest = int(np.argmax(response.max(axis=1)))
    template = spectrum[strongest]
    turns = 2j * np.pi * np.arange(spectrum.shape[1]) / size
    shift = np.zeros(len(response))
    for _ in range(_TEMPLATE_PASSES):
        match = np.fft.irfft(spectrum * template.conj(), n=size, axis=-1)
        shift = np.argmax(match, axis=-1).astype(np.float64)
        template = np.mean(spectrum * np.exp(turns * shift[:, None]), axis=0)
    shift = np.where(shift > size / 2, shift - size, shift)
    return np.asarray(shift / (size * spacing))


def _by_template(csi: ChannelState, static: ComplexArray, turned: ComplexArray) -> FloatArray:
    """Timing of each packet at the greatest coherent match with the others' mean, over all delays.

    A packet's own part of the mean would match its noise as it was turned before.
    """
    f = csi.subcarrier_hz
    known = csi.weights.sum(axis=0)
    own = np.divide(csi.weights, known, out=np.zeros_like(csi.weights), where=known > 0.0)
    bins, size = _delay_grid(f)
    padded = np.zeros((len(csi.symbol_s), size), dtype=np.complex128)
    product = np.einsum("alk,alk,a->lk", csi.values, (static[:, None, :] - turned * own).conj(), 1.0 / csi.noise)
    padded[:, bins] = product * csi.weights
    shift = np.argmax(np.abs(np.fft.ifft(padded, axis=1)), axis=1).astype(np.float64)
    return np.asarray(np.where(shift > size / 2, shift - size, shift) / (size * float(np.min(np.diff(f)))))


def _delay_grid(subcarrier_hz: FloatArray) -> tuple[NDArray[np.int64], int]:
    """Place of each subcarrier on the raster, and the size of the padded transform to delays."""
    bins = np.rint((subcarrier_hz - subcarrier_hz[0]) / float(np.min(np.diff(subcarrier_hz)))).astype(np.int64)
    return bins, 1 << int(np.ceil(np.log2(_PADDING * (int(bins[-1]) + 1))))


def _refined(csi: ChannelState, template: ComplexArray, timing: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Timing and phase of each packet of greatest likelihood against a template (antenna, symbol or 1, subcarrier)."""
    f = csi.subcarrier_hz - csi.subcarrier_hz.mean()
    product = np.einsum(
        "alk,alk,a->lk", np.broadcast_to(template.conj(), csi.values.shape), csi.values, 1.0 / csi.noise
    )
    product = product * csi.weights
    omega = 2j * np.pi * f
    moments = np.stack([np.ones_like(omega), omega, omega**2], axis=1)
    reach = 0.5 / float(np.ptp(f))
    start, refined = timing, timing.copy()
    for _ in range(_NEWTON_STEPS):
        zeroth, first, second = ((product * np.exp(np.outer(refined, omega))) @ moments).T
        slope = 2.0 * np.real(zeroth.conj() * first)
        bend = 2.0 * (np.abs(first) ** 2 + np.real(zeroth.conj() * second))
        step = np.where(bend < 0.0, -slope / np.where(bend < 0.0, bend, -1.0), np.sign(slope) * 0.1 * reach)
        refined = np.clip(refined + np.clip(step, -0.5 * reach, 0.5 * reach), start - reach, start + reach)
    turned = product * np.exp(2j * np.pi * np.outer(refined, csi.subcarrier_hz))
    return np.asarray(refined), np.angle(turned.sum(axis=1))
