"""Offsets from the fingerprint spectrum: a later frame matched against the static scene as it looked before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, pi

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Need, Observation, Offset, require
from dsp.synchronization.common_frequencies import at_common_frequencies
from dsp.synchronization.direction_difference import DirectionDifference, explained
from dsp.synchronization.fingerprint_record import Fingerprint, change_of_reference_s
from dsp.synchronization.fingerprint_scene import StaticScene, derotated, scene_offset, static_scene
from dsp.synchronization.matched_product import TwoWayLink
from dsp.synchronization.reciprocity import likelihood_residual
from dsp.synchronization.symbol_grid import grid_steps

__all__ = [
    "FingerprintMatch",
    "FingerprintMethod",
    "FingerprintSpectrum",
    "correlated_rows",
    "fingerprint_spectrum",
    "take_fingerprint",
]

_PADDING = 2
_SIGNIFICANCE = 25.0
"""Power of the match over its noise; noise alone reaches it in 1e-6 of all spectra of 1e5 cells."""
_LEAST_SIMILARITY = 0.9
_LARGEST_CHANGE = 0.1
"""Power of the paths that changed, of the scene's: beyond it the linear joint fit has no ground."""
_NOISE_TOLERANCE = 1.5
_MODEL_GROWTH = 1.4
_WEAKEST_SNR = 2.0
"""Static power over noise of one subcarrier's mean below which no fingerprint is taken."""


@dataclass(frozen=True)
class FingerprintSpectrum:
    """Correlation of a slot's delay-Doppler map with a fingerprint, over delay and Doppler shift."""

    values: FloatArray
    """One where the scene is the fingerprint's and has kept its power; shape (doppler, delay)."""
    delay_s: FloatArray
    """Apparent delay of the scene against the fingerprint, ascending, shape (delay,)."""
    doppler_hz: FloatArray
    """Residual carrier frequency offset, ascending, shape (doppler,)."""


@dataclass(frozen=True)
class FingerprintMatch:
    """How a static scene stands against the fingerprint."""

    shift_s: float
    """Delay by which the scene appears later than in the fingerprint."""
    std_s: float
    similarity: float
    """Coherence of scene and fingerprint once aligned, noise subtracted: one for the same scene."""
    changed_paths: int
    changed_power: float
    """Power of the paths that changed, of the scene's."""
    significance: float
    noise_ratio: float
    exhausted: bool


def take_fingerprint(
    csi: ChannelState,
    departure: Moment | None,
    *,
    transmitter: str,
    to_s: float | None = None,
    to_std_s: float = 0.0,
) -> Fingerprint:
    """Fingerprint of the static scene that one slot shows on its first antenna.

    The survey's fingerprint is the zero-Doppler row of the slot's delay-Doppler map; this is its transform over
    frequency, with carrier offset, phase wander and movers' side lobes taken out first (`static_scene`).

    Parameters
    ----------
    csi : ChannelState
        Receiver's CSI of ``transmitter``.
    departure : Moment or None
        Transmitter's clock when the slot left: without it the fingerprint gives carrier offsets only.
    transmitter : str
        Name of the node that sent.
    to_s : float, optional
        Time offset at the slot's mean symbol time, if it is known (by reciprocity, or a surveyed baseline with line
        of sight): offsets found with this fingerprint are then absolute.
    to_std_s : float
        Its deviation.

    Raises
    ------
    ValueError
        If the slot shows no static scene: none that carries a phase, a mover that dominates, or too much noise.

    Source: survey (Han, Meng, Wang, Masouros 2025) equation 33; docs/methods/fingerprint.md.
    """
    scene = static_scene(csi.antenna(0))
    if not scene.valid:
        raise ValueError(f"no fingerprint: {scene.reason}")
    if scene.snr < _WEAKEST_SNR:
        raise ValueError("no fingerprint: the static scene does not rise above the noise")
    known = np.isfinite(scene.variance[0])
    return Fingerprint(
        values=scene.values[0][known],
        variance=scene.variance[0][known],
        subcarrier_hz=scene.subcarrier_hz[known],
        reference=csi.reference,
        departure=departure,
        transmitter=transmitter,
        epoch=csi.reference.shifted(scene.middle_s),
        to_slope_s=scene.to_reference_slope_s,
        cfo_reference_hz=csi.cfo_reference_hz,
        cfo_hz=scene.cfo_hz,
        carrier_hz=csi.carrier_hz,
        to_s=to_s,
        to_std_s=to_std_s,
    )


def fingerprint_spectrum(
    csi: ChannelState, fingerprint: Fingerprint, *, padding: int = _PADDING
) -> FingerprintSpectrum:
    """Spectrum |Σ_p Ξ[i, q+p]·β*[p]| / |β|² of survey equation 33, row by row with the FFT.

    Ξ is the slot's delay-Doppler map, β the fingerprint's delay profile. Circular correlation over delay is the
    transform of Ξ's row times conj(β) over frequency. Gaps between frames and subcarriers stay empty. The
    survey counts in cells, {Δf/F_R, Δt/T_R} = {i, q}; here the axes carry hertz and seconds.

    Parameters
    ----------
    csi : ChannelState
        First antenna is used.
    fingerprint : Fingerprint
        Subcarriers that the two share are compared.
    padding : int ≥ 1
        Cells of the spectrum per resolution cell, in both axes.

    Raises
    ------
    ValueError
        If fingerprint and CSI share fewer than three subcarriers.
    """
    mine, theirs = _shared(csi.subcarrier_hz, fingerprint.subcarrier_hz)
    frequency = csi.subcarrier_hz[mine]
    spacing_hz = float(np.min(np.diff(frequency)))
    steps = grid_steps(frequency)
    time = csi.symbol_s - csi.symbol_s.mean()
    same = np.diff(csi.frame_of_symbol) == 0
    spacing_s = float(np.median(np.diff(time)[same])) if same.any() else float(np.min(np.diff(time)))
    step_hz = 1.0 / (padding * (float(np.ptp(time)) + spacing_s))
    count = int(np.ceil(0.5 / (spacing_s * step_hz)))
    doppler = step_hz * np.arange(-count, count)
    weighted = csi.values[0][:, mine] * csi.weights[:, mine]
    kernel = np.exp(-2j * pi * np.outer(doppler, time)).astype(weighted.dtype)
    size = _transform_size(padding * int(steps[-1] + 1))
    scale = float(csi.weights[:, mine].mean()) * len(time) * float(np.sum(np.abs(fingerprint.values[theirs]) ** 2))
    spectrum = correlated_rows(kernel @ weighted, np.conj(fingerprint.values[theirs]), steps, size) / scale
    return FingerprintSpectrum(
        values=fft.fftshift(spectrum, axes=1),
        delay_s=fft.fftshift(fft.fftfreq(size, spacing_hz)),
        doppler_hz=doppler,
    )


def correlated_rows(
    rows: ComplexArray, factor: ComplexArray, steps: NDArray[np.intp], size: int
) -> NDArray[np.floating]:
    """Modulus of the circular correlation of every row with a profile, by the FFT over frequency, unscaled.

    Powers of two from 64 to 8192 are transformed by our own kernel in single precision, -125 dB; others by scipy.

    Parameters
    ----------
    rows : complex array, shape (row, subcarrier)
    factor : complex array, shape (subcarrier,)
        Conjugate of the profile's transform.
    steps : int array, shape (subcarrier,)
        Ascending places of the subcarriers on the raster of ``size``; what lies between stays empty.
    size : int

    Returns
    -------
    float array, shape (row, size)
    """
    from dsp.kernels.fingerprint import correlation
    from dsp.kernels.fourier import SIZES, twiddles

    if size not in SIZES:
        padded = np.zeros((len(rows), size), dtype=np.complex128)
        padded[:, steps] = rows * factor
        return np.asarray(np.abs(fft.ifft(padded, axis=1, norm="forward", overwrite_x=True)))
    edges = np.concatenate([[0], np.flatnonzero(np.diff(steps) != 1) + 1])
    runs = np.stack([edges, steps[edges], np.diff(np.concatenate([edges, [len(steps)]]))], axis=1).astype(np.int64)
    out = np.empty((len(rows), size), np.float32)
    given: NDArray[np.complex64] = np.ascontiguousarray(rows, np.complex64)
    correlation(size)(given, factor.astype(np.complex64), runs, *twiddles(size), out)
    return out


def _transform_size(least: int) -> int:
    """Next power of two, where our own kernel goes so far."""
    size = max(64, 1 << (least - 1).bit_length())
    return size if size <= 8192 else int(fft.next_fast_len(least))


@dataclass(frozen=True)
class FingerprintMethod:
    """Offset from the fingerprint spectrum, refined off the grid in both axes by maximum likelihood.

    The peak of `fingerprint_spectrum` gives the Doppler row and with it which scatterers stand still; carrier
    offset, phases and movers are then fitted jointly (`static_scene`), and the delay between two noisy views of
    one unknown channel follows by maximum likelihood. Paths that changed since are looked for by a
    likelihood-ratio test and, if weak, fitted jointly with the delay.

    The carrier offset is absolute wherever scatterers stand still. The time offset is the CHANGE since the
    fingerprint's epoch, unless the offset at that epoch is part of the fingerprint: ``reason`` and
    ``details["reference"]`` ("relative" or "absolute") say which. `Need.FINGERPRINT` among the observation's extras
    is one `Fingerprint`, or a sequence of which that of the observed link is taken.

    All paths displaced alike, as by a node that was moved in line of sight alone, cannot be told from a clock offset.

    Source: survey equation 33; likelihood, joint fit and deviation: docs/methods/fingerprint.md.
    """

    name: str = "fingerprint"
    needs: frozenset[Need] = frozenset({Need.FINGERPRINT})

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter.

        Raises
        ------
        MissingInputError
            If there is no fingerprint of this link.
        ValueError
            If the slot has fewer than three symbols, or shares fewer than three subcarriers with the fingerprint.
        """
        require(observation, self.needs)
        csi = observation.forward.antenna(0)
        fingerprint = _of_link(observation)
        spectrum = fingerprint_spectrum(csi, fingerprint)
        row = int(np.argmax(spectrum.values.max(axis=1)))
        scene = static_scene(derotated(csi, float(spectrum.doppler_hz[row])))
        blank = scene_offset(csi, scene, clock_std_hz=observation.clock_std_hz)
        if blank.reason:
            return blank
        epoch = blank.epoch
        match = _matched(scene, csi, fingerprint)
        age_s = None if fingerprint.taken else epoch.seconds_since(fingerprint.epoch)
        details = {
            "age_s": age_s,
            "similarity": match.similarity,
            "shift_s": match.shift_s,
            "changed_paths": match.changed_paths,
            "changed_power": match.changed_power,
            "cfo_change_hz": scene.cfo_hz - fingerprint.cfo_hz,
            "reference": "relative" if fingerprint.to_s is None else "absolute",
            "movers": tuple(replace(path, delay_s=path.residual_delay_s - match.shift_s) for path in scene.movers),
        }
        blank = replace(blank, details=details)
        reason = _objection(match)
        if reason:
            return replace(blank, reason=f"{reason}; fingerprint {_when(fingerprint, age_s)}")
        if observation.departure is None or fingerprint.departure is None:
            return replace(blank, reason="departure unknown")
        change_s = change_of_reference_s(csi.reference, observation.departure, fingerprint)
        # The slopes carry both references to the mean symbol times, where the shift belongs.
        change_s += scene.to_reference_slope_s - fingerprint.to_slope_s + match.shift_s
        std_s = hypot(observation.delay_std_s(match.std_s), 2.0 * observation.departure_std_s, fingerprint.to_std_s)
        return replace(
            blank,
            to_s=change_s + (fingerprint.to_s or 0.0),
            to_std_s=std_s,
            valid=True,
            reason=_remark(fingerprint, age_s, match),
        )


def _of_link(observation: Observation) -> Fingerprint:
    """Fingerprint of the forward link, by the names of its clocks."""
    given = observation.extras[Need.FINGERPRINT]
    candidates: Sequence[Fingerprint] = [given] if isinstance(given, Fingerprint) else given
    for fingerprint in candidates:
        receiver = fingerprint.reference.clock == observation.forward.reference.clock
        departure = observation.departure
        if receiver and (departure is None or departure.clock == fingerprint.transmitter):
            return fingerprint
    raise MissingInputError(Need.FINGERPRINT)


def _shared(mine_hz: FloatArray, theirs_hz: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the subcarriers that both have."""
    spacing = float(np.min(np.diff(mine_hz)))
    _, mine, theirs = np.intersect1d(
        np.rint(mine_hz / (1e-3 * spacing)), np.rint(theirs_hz / (1e-3 * spacing)), return_indices=True
    )
    if len(mine) < 3:
        raise ValueError("fingerprint and frame share fewer than three subcarriers")
    return mine, theirs


def _matched(scene: StaticScene, csi: ChannelState, fingerprint: Fingerprint) -> FingerprintMatch:
    """Scene against fingerprint at common physical frequencies."""
    mine, theirs = _shared(scene.subcarrier_hz, fingerprint.subcarrier_hz)
    known = np.isfinite(scene.variance[0][mine])
    mine, theirs = mine[known], theirs[known]
    values, variance = scene.values[0][mine], scene.variance[0][mine]
    frequency = scene.subcarrier_hz[mine]
    plain = _match(values, variance, fingerprint, theirs, frequency)
    moved_hz = csi.cfo_reference_hz - fingerprint.cfo_reference_hz
    if moved_hz == 0.0:
        return plain
    # The transmitter's subcarriers moved if its oscillator did, and did not if the receiver's did: half is the
    # mean of the two, and what the half makes is the doubt.
    single = ChannelState(
        values=values[None, None],
        weights=np.ones((1, len(mine))),
        subcarrier_hz=frequency,
        symbol_s=np.zeros(1),
        reference=csi.reference,
        cfo_reference_hz=0.0,
        carrier_hz=csi.carrier_hz,
        noise=np.ones(1),
        frame_of_symbol=np.zeros(1, dtype=np.intp),
    )
    common = at_common_frequencies(single, -0.5 * moved_hz)
    inside = common.weights[0] > 0.0
    match = _match(common.values[0, 0][inside], variance[inside], fingerprint, theirs[inside], frequency[inside])
    return replace(match, std_s=hypot(match.std_s, match.shift_s - plain.shift_s))


def _match(
    values: ComplexArray, variance: FloatArray, fingerprint: Fingerprint, theirs: NDArray[np.intp], hz: FloatArray
) -> FingerprintMatch:
    """Delay of one noisy view of a channel against another.

    Two views of an unknown channel are what the two directions of a reciprocal link are: their product, its likelihood
    and the test for paths that differ are those of `dsp.synchronization.reciprocity`, where the offset counts twice.
    """
    before, before_variance = fingerprint.values[theirs], fingerprint.variance[theirs]
    powers = [
        max(float(np.mean(np.abs(view) ** 2 - noise)), 1e-3 * float(np.mean(noise)))
        for view, noise in ((values, variance), (before, before_variance))
    ]
    link = TwoWayLink(
        forward=(values / np.sqrt(powers[0]))[None],
        reverse=(before / np.sqrt(powers[1]))[None],
        forward_variance=(variance / powers[0])[None],
        reverse_variance=(before_variance / powers[1])[None],
        subcarrier_hz=hz,
        symbol_s=np.zeros(1),
        frame_of_symbol=np.zeros(1, dtype=np.intp),
        carrier_hz=float(fingerprint.carrier_hz),
        snr=1.0,
        epoch=fingerprint.epoch,
        to_reference_s=0.0,
        cfo_reference_hz=0.0,
        phase_reference_rad=0.0,
    )
    residual = likelihood_residual(link)
    # Both views came through the same chains: only paths can differ.
    difference = DirectionDifference.of(link, residual, residual.to_s)
    seen = explained(difference, link, residual, smooth=False)
    growth = np.sqrt(seen.noise_ratio) if seen.noise_ratio > _NOISE_TOLERANCE else 1.0
    std_s = growth * residual.to_std_s
    if len(seen.delays_s):
        std_s = _MODEL_GROWTH * growth * max(residual.to_std_s, seen.plain_std_s) * seen.deviation_factor
    turned = np.exp(4j * pi * hz * (residual.to_s + seen.to_correction_s)) * values
    inner = float(np.abs(np.vdot(before, turned)) ** 2)
    noise = float(np.sum(variance * np.abs(before) ** 2))
    crossed = float(np.sum(before_variance * np.abs(values) ** 2 - variance * before_variance)) + noise
    similarity = (inner - crossed) / (len(hz) ** 2 * powers[0] * powers[1])
    return FingerprintMatch(
        shift_s=2.0 * (residual.to_s + seen.to_correction_s),
        std_s=2.0 * float(std_s),
        similarity=float(np.clip(similarity, 0.0, 1.0)),
        changed_paths=len(seen.delays_s),
        changed_power=seen.power,
        significance=inner / noise,
        noise_ratio=seen.noise_ratio,
        exhausted=seen.exhausted,
    )


def _objection(match: FingerprintMatch) -> str:
    """Why the match gives no offset; empty if it does."""
    if match.significance < _SIGNIFICANCE:
        return "the fingerprint's scene does not rise above the noise"
    if match.exhausted or match.changed_power > _LARGEST_CHANGE or match.similarity < _LEAST_SIMILARITY:
        return f"the scene changed since the fingerprint: similarity {match.similarity:.2f}"
    return ""


def _when(fingerprint: Fingerprint, age_s: float | None) -> str:
    return f"taken {fingerprint.taken}" if age_s is None else f"taken {age_s:.3g} s before"


def _remark(fingerprint: Fingerprint, age_s: float | None, match: FingerprintMatch) -> str:
    """What the reader should know of a valid offset."""
    when = _when(fingerprint, age_s)
    if fingerprint.to_s is None:
        remark = f"time offset relative to the fingerprint {when}, whose own is not known"
    else:
        known = f"known from {fingerprint.to_origin}" if fingerprint.to_origin else "known"
        remark = f"absolute by a fingerprint {when}, whose time offset is {known}"
    remark += f"; scene similarity {match.similarity:.3f}"
    if match.changed_paths:
        remark += "; a path changed since the fingerprint: deviation widened"
    if match.noise_ratio > _NOISE_TOLERANCE:
        remark += "; more noise than stated: deviation widened"
    return remark
