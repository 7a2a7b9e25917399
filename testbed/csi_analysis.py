"""What a WiFi CSI capture shows: its offsets, what is left of them across antennas, motion, angle, and clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray
from dsp.sensing.angle import covariance, music
from dsp.sensing.cross_antenna import (
    Turns,
    circular_std_rad,
    coherence,
    common_phase,
    cross_product,
    csi_ratio,
    packet_phase,
    packet_timing,
    resolve_turns,
    unwrapped_timing,
)
from dsp.sensing.packet_clock import ClockRate, compare_clocks
from dsp.sensing.periodic_motion import PeriodicMotion, band_ratio, periodic_motion
from testbed.errors import UserError
from testbed.formats.wifi_csi import CsiCapture

__all__ = [
    "Arrival",
    "ClockComparison",
    "CsiSummary",
    "Pair",
    "angle_of_arrival",
    "clock_comparison",
    "figures",
    "summarize",
]

_TURN_NAMES = {1: "none", 2: "half turn", 4: "quarter turn"}
_RATIO_GROUPS = 6


@dataclass(frozen=True)
class Pair:
    """Two antennas of one capture: what was common to both has cancelled."""

    antenna: int
    reference: int
    order: int
    """Order of the turns between the two: 1 none, 2 half, 4 quarter."""
    turned: int
    """Packets whose turn was taken back."""
    doubtful: int
    phase_before_rad: FloatArray
    """Phase of the conjugate product per packet, turns still in it."""
    phase_rad: FloatArray
    """The same with the turns taken back."""
    ratio_phase_rad: FloatArray
    """Phase of the CSI ratio per packet, turns taken back."""
    timing_s: FloatArray
    """Timing left in the conjugate product (CACC)."""
    ratio_timing_s: FloatArray
    """Timing left in the CSI ratio."""
    blind: int
    """Elements without a ratio, because one of the two is exactly zero."""


@dataclass(frozen=True)
class CsiSummary:
    """Everything that `isac csi` prints and draws of one capture."""

    capture: CsiCapture
    timing_s: FloatArray
    timing_unwrapped_s: FloatArray
    common_phase_rad: FloatArray
    pairs: tuple[Pair, ...]
    values: ComplexArray
    """The capture's CSI with the turns taken back."""
    motion: PeriodicMotion | None

    @property
    def order(self) -> int:
        """Order of the turns in the capture as a whole."""
        return max((pair.order for pair in self.pairs), default=1)

    @property
    def best(self) -> Pair | None:
        """The pair with the steadiest phase."""
        return max(self.pairs, key=lambda pair: coherence(pair.phase_rad), default=None)


@dataclass(frozen=True)
class Arrival:
    """Angle of arrival after calibration."""

    bearing_rad: float
    bearing_std_rad: float
    """Of the packets: blocks of packets against each other."""
    calibration_std_rad: float | None
    """What the disagreement of the calibration files adds; None with one file."""
    offsets_rad: FloatArray
    """Calibrated phase of each antenna against the one before it."""
    note: str


@dataclass(frozen=True)
class ClockComparison:
    """The other capture's clock against this one's."""

    rate: ClockRate
    amplitude_correlation: float | None
    """Correlation of what changes in the amplitudes of paired packets: near 1 if the channel is reciprocal."""
    shifted_correlation: float | None
    """The same with the pairing shifted by half the record, as a check."""


def summarize(capture: CsiCapture) -> CsiSummary:
    """Offsets of a capture, and what is left of them across each pair of antennas."""
    values, frequency = capture.values, capture.subcarrier_hz
    timing = packet_timing(values, frequency)
    strongest = values[0, 0]
    resolved, turns = _resolved(values)
    pairs = tuple(
        _pair(values, resolved, turns, antenna, reference, frequency)
        for antenna in range(values.shape[1])
        for reference in range(antenna)
        if np.any(cross_product(values, antenna, reference))
    )
    motion = None
    if pairs:
        ratios = np.vstack(
            [band_ratio(resolved[:, p.antenna], resolved[:, p.reference], groups=_RATIO_GROUPS) for p in pairs]
        )
        motion = periodic_motion(ratios, capture.time_s)
    return CsiSummary(
        capture=capture,
        timing_s=timing,
        timing_unwrapped_s=unwrapped_timing(strongest, frequency),
        common_phase_rad=common_phase(strongest, frequency, timing),
        pairs=pairs,
        values=resolved,
        motion=motion,
    )


def _resolved(values: ComplexArray) -> tuple[ComplexArray, list[Turns]]:
    """CSI with the turns of each antenna against the steadiest reference taken back, and those turns."""
    antennas = values.shape[1]
    power = np.sum(np.abs(values) ** 2, axis=(0, 2, 3)) * np.any(values != 0, axis=(0, 3)).mean(axis=1)
    reference = int(power.argmax())
    resolved = values.copy()
    turns = []
    for antenna in range(antennas):
        found = resolve_turns(cross_product(values, antenna, reference)) if antenna != reference else None
        if found is None:
            found = Turns(1, np.zeros(values.shape[2], dtype=np.int64), 0.0, 0)
        resolved[:, antenna] = found.untwist(values[:, antenna])
        turns.append(found)
    return resolved, turns


def _pair(
    values: ComplexArray,
    resolved: ComplexArray,
    turns: list[Turns],
    antenna: int,
    reference: int,
    frequency: FloatArray,
) -> Pair:
    one, two = turns[antenna], turns[reference]
    order = max(one.order, two.order)
    relative = (one.turns * (order // one.order) - two.turns * (order // two.order)) % order
    product = cross_product(resolved, antenna, reference)
    ratio = csi_ratio(resolved, antenna, reference)
    both = np.any(product != 0, axis=(0, 2))
    # Only the phase of the ratio is looked at here, so that faded elements do not outshout the others.
    there = np.isfinite(ratio)
    direction = np.divide(ratio, np.abs(ratio), out=np.zeros_like(ratio), where=there)
    return Pair(
        antenna=antenna,
        reference=reference,
        order=order if np.any(relative) else 1,
        turned=int(np.count_nonzero(relative[both])),
        doubtful=one.doubtful + two.doubtful,
        phase_before_rad=packet_phase(cross_product(values, antenna, reference)),
        phase_rad=packet_phase(product),
        ratio_phase_rad=packet_phase(direction),
        timing_s=packet_timing(product[:, None], frequency),
        ratio_timing_s=packet_timing(direction[:, None], frequency),
        blind=int(np.count_nonzero(~there[:, both])),
    )


def angle_of_arrival(
    summary: CsiSummary,
    calibrations: list[CsiCapture],
    *,
    spacing_m: float | None = None,
    carrier_hz: float | None = None,
) -> Arrival:
    """Angle of arrival by MUSIC at a uniform array whose receive chains were calibrated with a source at broadside.

    Without a spacing the antennas are taken half a wavelength apart, for which no carrier is needed.

    Raises
    ------
    UserError
        If a capture has one antenna, the antenna counts differ, or a spacing is given without a carrier.
    """
    antennas = summary.values.shape[1]
    if antennas < 2:
        raise UserError("an angle of arrival needs two receive antennas; the capture has one")
    if any(other.values.shape[1] != antennas for other in calibrations):
        raise UserError(f"the capture has {antennas} antennas, a calibration file has another number")
    wavelengths = 0.5
    if spacing_m is not None:
        carrier = carrier_hz or summary.capture.carrier_hz
        if carrier is None:
            raise UserError("--antenna-spacing-m needs --carrier-hz: this kind of file does not say its channel")
        wavelengths = spacing_m * carrier / SPEED_OF_LIGHT_MPS
    resolved = [_resolved(other.values) for other in calibrations]
    steps = np.array([_antenna_steps(values) for values, _ in resolved])
    offsets = np.angle(np.exp(1j * steps).mean(axis=0))
    chain = np.exp(1j * np.concatenate([[0.0], np.cumsum(offsets)]))
    snapshots = summary.values.transpose(2, 0, 3, 1) * chain.conj()
    # Half a wavelength apart the spectrum is periodic without a seam at endfire; the true spacing scales its sine.
    positions = 0.5 * np.arange(antennas)

    def bearing(packets: ComplexArray) -> float:
        (sine,) = music(covariance(packets.reshape(-1, antennas)), positions, SPEED_OF_LIGHT_MPS)
        return float(np.arcsin(np.clip(0.5 * sine / wavelengths, -1.0, 1.0)))

    angle = bearing(snapshots)
    blocks = [bearing(block) for block in np.array_split(snapshots, min(10, len(snapshots))) if len(block)]
    spread = float(np.std(blocks) / math.sqrt(len(blocks)))
    calibration_std = None
    if len(calibrations) > 1:
        scatter = float(np.sqrt(np.mean(np.angle(np.exp(1j * (steps - offsets))) ** 2)))
        calibration_std = scatter / (2 * np.pi * wavelengths * max(math.cos(angle), 1e-3))
    note = ""
    if max([summary.order, *(found.order for _, turns in resolved for found in turns)]) > 1:
        note = "turns between the antennas were found: their common part is unknown, and the angle with it"
    elif wavelengths > 0.5:
        note = "antennas more than half a wavelength apart: the angle is one of several that fit"
    return Arrival(angle, spread, calibration_std, offsets, note)


def _antenna_steps(values: ComplexArray) -> FloatArray:
    """Mean phase of each antenna against the one before it, radians."""
    return np.angle([np.sum(values[:, a] * values[:, a - 1].conj()) for a in range(1, values.shape[1])])


def clock_comparison(own: CsiCapture, other: CsiCapture) -> ClockComparison:
    """Rate of the other capture's clock against this one's, from packets that coincide, and amplitude reciprocity."""
    rate = compare_clocks(own.time_s, other.time_s)
    pairs = rate.pairs
    if len(pairs) < 2 or own.values.shape[3] != other.values.shape[3]:
        return ClockComparison(rate, None, None)
    own_change, other_change = (
        _change(np.abs(capture.values[0, 0, pairs[:, side]]).astype(float)) for side, capture in enumerate((own, other))
    )
    shifted = np.roll(other_change, len(pairs) // 2, axis=0)
    return ClockComparison(rate, _correlation(own_change, other_change), _correlation(own_change, shifted))


def _change(amplitude: FloatArray) -> FloatArray:
    """Each packet's amplitudes over subcarriers, of unit power, less their mean over packets."""
    size = np.linalg.norm(amplitude, axis=1, keepdims=True)
    shape = amplitude / np.where(size > 0, size, 1.0)
    return np.asarray(shape - shape.mean(axis=0))


def _correlation(one: FloatArray, two: FloatArray) -> float | None:
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(np.sum(one * two) / size) if size > 0 else None


def figures(
    summary: CsiSummary, arrival: Arrival | None = None, clock: ClockComparison | None = None
) -> dict[str, Any]:
    """The printed figures as a JSON document: SI units, null where one does not apply."""
    capture = summary.capture
    intervals = np.diff(capture.time_s)
    document: dict[str, Any] = {
        "kind": capture.kind,
        "packets": int(capture.values.shape[2]),
        "antennas": int(capture.values.shape[1]),
        "streams": int(capture.values.shape[0]),
        "subcarriers": int(capture.values.shape[3]),
        "carrier_hz": capture.carrier_hz,
        "duration_s": float(capture.time_s[-1]),
        "median_interval_s": float(np.median(intervals)) if intervals.size else None,
        "longest_gap_s": float(intervals.max()) if intervals.size else None,
        "missing_packets": capture.missing_packets,
        "notes": list(capture.notes),
        "timing_offset_mean_s": _finite(np.nanmean(summary.timing_s)),
        "timing_offset_std_s": _finite(np.nanstd(summary.timing_s)),
        "timing_offset_std_unwrapped_s": _spread(summary.timing_unwrapped_s),
        "common_phase_coherence": coherence(summary.common_phase_rad),
        "ambiguity": _TURN_NAMES[summary.order],
        "pairs": [_pair_figures(pair) for pair in summary.pairs],
        "best_pair": f"rx{summary.best.antenna}/rx{summary.best.reference}" if summary.best else None,
        "cross_antenna_coherence": coherence(summary.best.phase_rad) if summary.best else None,
        "motion": _motion_figures(summary.motion),
    }
    if arrival is not None:
        document["angle_of_arrival_rad"] = arrival.bearing_rad
        document["angle_of_arrival_deg"] = math.degrees(arrival.bearing_rad)
        document["angle_of_arrival_std_rad"] = arrival.bearing_std_rad
        document["angle_of_arrival_calibration_std_rad"] = arrival.calibration_std_rad
        document["antenna_offsets_rad"] = [float(offset) for offset in arrival.offsets_rad]
        document["angle_of_arrival_note"] = arrival.note
    if clock is not None:
        document["clock_rate_ppm"] = clock.rate.rate_ppm
        document["clock_rate_std_ppm"] = clock.rate.rate_std_ppm
        document["clock_jitter_s"] = clock.rate.jitter_s
        document["clock_pairs"] = len(clock.rate.pairs)
        document["clock_reason"] = clock.rate.reason
        document["amplitude_correlation"] = clock.amplitude_correlation
        document["amplitude_correlation_shifted"] = clock.shifted_correlation
    return document


def _pair_figures(pair: Pair) -> dict[str, Any]:
    return {
        "pair": f"rx{pair.antenna}/rx{pair.reference}",
        "ambiguity": _TURN_NAMES[pair.order],
        "turned_packets": pair.turned,
        "doubtful_packets": pair.doubtful,
        "coherence_before": coherence(pair.phase_before_rad),
        "coherence": coherence(pair.phase_rad),
        "phase_std_rad": _finite(circular_std_rad(pair.phase_rad)),
        "ratio_coherence": coherence(pair.ratio_phase_rad),
        "ratio_phase_std_rad": _finite(circular_std_rad(pair.ratio_phase_rad)),
        "timing_std_s": _spread(pair.timing_s),
        "ratio_timing_std_s": _spread(pair.ratio_timing_s),
        "elements_without_ratio": pair.blind,
    }


def _motion_figures(motion: PeriodicMotion | None) -> dict[str, Any] | None:
    if motion is None:
        return None
    return {
        "rate_per_min": motion.rate_per_min,
        "rate_std_per_min": motion.rate_std_per_min,
        "maxima_s": list(motion.maxima_s),
        "explained": motion.explained,
        "reason": motion.reason,
        "method": "first principal component of the log CSI ratios; least-squares fit of a period and its harmonic",
    }


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spread(values: FloatArray) -> float | None:
    """Standard deviation of the finite values, None if there are none."""
    good = values[np.isfinite(values)]
    return float(good.std()) if good.size else None
