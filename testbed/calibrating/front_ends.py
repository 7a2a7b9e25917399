"""What receivers do to samples: offset, imbalance, differences of antennas, levels and their linearity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import asin, degrees, log10, pi

import numpy as np
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState
from dsp.paths import first_path
from testbed.antennas import antenna_m, antenna_spacing_m
from testbed.calibration_records import AntennaResponse, Linearity
from testbed.capture import Capture
from testbed.scenario import Node, Scenario
from testbed.schedule import dsp_waveform, period_samples

__all__ = ["Level", "Receivers", "frame_samples_at", "image_db", "level", "linearity", "slot_samples_of"]

_LOWEST_DB = -300.0
_FEWEST_TURNS = 4.0
"""Turns of the carrier within a frame, over which what has a phase averages out."""


@dataclass(frozen=True)
class Level:
    """How loud something is in a receiver's converter."""

    dbfs: float
    """Root mean square below full scale, of the loudest antenna, its constant offset apart."""
    peak_dbfs: float
    """Largest branch value."""
    clipped: float
    """Share of samples in which a branch stands at its limit."""


def slot_samples_of(scenario: Scenario, capture: Capture, csi: ChannelState) -> NDArray[np.float32]:
    """Samples of the frames of one slot as shares of full scale, shape (antenna, sample, 2); lost ones left out."""
    period = period_samples(scenario)
    return frame_samples_at(
        scenario, capture, [csi.reference.tick + int(index) * period for index in np.unique(csi.frame_of_symbol)]
    )


def frame_samples_at(scenario: Scenario, capture: Capture, begins: Sequence[int]) -> NDArray[np.float32]:
    """The same of frames that begin at the ticks ``begins``."""
    frame = dsp_waveform(scenario).frame_samples
    pieces = []
    for stretch in capture.stretches:
        for begin in begins:
            low = max(begin, stretch.first_tick)
            high = min(begin + frame, stretch.first_tick + stretch.samples)
            if high > low:
                at = stretch.start + low - stretch.first_tick
                pieces.append(capture.samples[:, at : at + high - low])
    if not pieces:
        return np.zeros((capture.samples.shape[0], 0, 2), np.float32)
    return np.concatenate(pieces, axis=1).astype(np.float32) / np.float32(capture.full_scale)


def level(samples: NDArray[np.float32], full_scale: int) -> Level:
    """Level of ``samples`` as `slot_samples_of` gives them."""
    if not samples.size:
        return Level(_LOWEST_DB, _LOWEST_DB, 0.0)
    power = samples.astype(np.float64).var(axis=1).sum(axis=-1)
    loudest = samples[int(np.argmax(power))]
    limit = 1.0 - 1.5 / full_scale
    return Level(
        dbfs=_decibels(float(power.max())),
        peak_dbfs=2.0 * _decibels(float(np.abs(loudest).max())),
        clipped=float(np.mean(np.abs(loudest).max(axis=-1) >= limit)),
    )


class Receivers:
    """What the receivers of ``scenario`` do to samples, gathered from rounds.

    Offset and imbalance come from the samples alone: OFDM, and noise, have no mean and no preferred phase, so that
    the moments of the branches are those of a circle that the receiver has pressed out of shape. The transmitter's own
    imbalance turns with the frequency offset and averages out; the node's own frames are left out, for theirs stand
    still. Gain and phase against the first antenna are those of the earliest path, less the phase that the geometry
    gives it; over a ``cable`` with a splitter the geometry gives none.
    """

    def __init__(self, scenario: Scenario, *, cable: bool) -> None:
        self._scenario = scenario
        self._cable = cable
        self._moments: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
        self._ratios: dict[tuple[str, int], list[complex]] = {}
        self._turning: dict[tuple[str, int], list[bool]] = {}

    def take(self, captures: Mapping[str, Capture], states: Mapping[tuple[str, str], ChannelState]) -> None:
        """Add one round."""
        for (name, sender), csi in states.items():
            if name == sender:
                continue
            receiver, other = (self._scenario.node[self._scenario.index(one)] for one in (name, sender))
            samples = slot_samples_of(self._scenario, captures[name], csi)
            frame_s = dsp_waveform(self._scenario).frame_samples / self._scenario.waveform.sample_rate_hz
            turning = abs(csi.cfo_reference_hz) * frame_s >= _FEWEST_TURNS
            for antenna, ratio in enumerate(_ratios(csi)):
                expected = 0.0 if self._cable else _geometry_rad(receiver, other, antenna, float(csi.carrier_hz))
                self._moments.setdefault((name, antenna), []).append(_moments(samples[antenna]))
                self._ratios.setdefault((name, antenna), []).append(ratio * complex(np.exp(-1j * expected)))
                self._turning.setdefault((name, antenna), []).append(turning)

    def of(self, node: str) -> tuple[AntennaResponse, ...]:
        """Every antenna of ``node``; none where it heard no other node."""
        count = self._scenario.node[self._scenario.index(node)].antennas
        if (node, 0) not in self._moments:
            return ()
        return tuple(
            _response(self._moments[node, index], self._ratios[node, index], self._turning[node, index])
            for index in range(count)
        )

    def notes(self) -> list[str]:
        """What could not be measured, and why."""
        still = [node for (node, antenna), turning in self._turning.items() if antenna == 0 and not any(turning)]
        if not still:
            return []
        return [
            f"{', '.join(still)}: no imbalance measured: it takes nodes whose carriers differ, by clocks of their own"
        ]


def linearity(step_db: Sequence[float], level_dbfs: Sequence[float]) -> Linearity:
    """Straight line through the lower half of the steps, and how far the highest level stays behind it."""
    order = np.argsort(step_db)
    steps, levels = np.asarray(step_db)[order], np.asarray(level_dbfs)[order]
    half = max(2, len(steps) // 2)
    slope, origin = np.polyfit(steps[:half], levels[:half], 1)
    return Linearity(
        step_db=tuple(float(x) for x in steps),
        level_dbfs=tuple(float(x) for x in levels),
        slope=float(slope),
        compression_db=float(slope * steps[-1] + origin - levels[-1]),
    )


def image_db(gain_imbalance_db: float, phase_imbalance_deg: float) -> float:
    """Power of a tone's image against the tone, in decibels, that the imbalance of the branches makes."""
    ratio, skew = 10 ** (gain_imbalance_db / 20), np.deg2rad(phase_imbalance_deg)
    # In-phase ratio·Re and quadrature Im·cos + Re·sin, written as K1·z + K2·conj(z).
    direct = 0.5 * (ratio + np.cos(skew) + 1j * np.sin(skew))
    mirrored = 0.5 * (ratio - np.cos(skew) + 1j * np.sin(skew))
    return _decibels(float(abs(mirrored / direct) ** 2))


def _moments(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Means of the branches, then their variances and covariance."""
    values = samples.astype(np.float64)
    mean = values.mean(axis=0)
    centred = values - mean
    power = (centred**2).mean(axis=0)
    return np.array([*mean, *power, float((centred[:, 0] * centred[:, 1]).mean())])


def _ratios(csi: ChannelState) -> list[complex]:
    """Amplitude of the earliest path on each antenna over that on the first; a taper keeps other paths out."""
    delay_s = first_path(csi.antenna(0)).delay_s
    count = csi.subcarrier_hz.size
    steer = np.exp(2j * pi * csi.subcarrier_hz * delay_s) * np.hanning(count + 2)[1:-1]
    beams = np.einsum("alk,lk,k->al", csi.values, csi.weights, steer)
    power = float(np.sum(np.abs(beams[0]) ** 2))
    return [complex(np.vdot(beams[0], beam)) / power for beam in beams]


def _geometry_rad(receiver: Node, transmitter: Node, antenna: int, carrier_hz: float) -> float:
    """Phase of the line of sight at an antenna against the first one."""
    first, there = antenna_m(receiver, transmits=False), antenna_m(transmitter, transmits=True)
    heading = np.deg2rad(receiver.heading_deg)
    left = np.array([-np.sin(heading), np.cos(heading), 0.0])[: first.size]
    place = first + antenna * antenna_spacing_m(receiver, carrier_hz) * left
    longer = float(np.linalg.norm(there - place) - np.linalg.norm(there - first))
    return -2 * pi * carrier_hz / SPEED_OF_LIGHT_MPS * longer


def _response(
    moments: Sequence[NDArray[np.float64]], ratios: Sequence[complex], turning: Sequence[bool]
) -> AntennaResponse:
    dc_i, dc_q = np.mean(moments, axis=0)[:2]
    usable = [one for one, turns in zip(moments, turning, strict=True) if turns]
    power_i, power_q, across = np.mean(usable, axis=0)[2:] if usable else (1.0, 1.0, 0.0)
    values = np.array(ratios)
    mean = complex(values.mean())
    count = len(values)
    turned = values / mean if mean else values
    scatter = turned.std(ddof=1) / np.sqrt(count) if count > 1 else None
    gain_db = 10 * log10(power_i / power_q) if power_i > 0 and power_q > 0 else 0.0
    skew = degrees(asin(max(-1.0, min(1.0, across / np.sqrt(power_i * power_q))))) if power_i * power_q > 0 else 0.0
    return AntennaResponse(
        gain_db=float(2 * _decibels(abs(mean))),
        phase_deg=float(degrees(np.angle(mean))),
        gain_std_db=None if scatter is None else float(20 / np.log(10) * scatter),
        phase_std_deg=None if scatter is None else float(degrees(scatter)),
        dc=(float(dc_i), float(dc_q)),
        gain_imbalance_db=float(gain_db),
        phase_imbalance_deg=float(skew),
        image_db=image_db(float(gain_db), float(skew)) if usable else None,
    )


def _decibels(power: float) -> float:
    return 10 * log10(power) if power > 0 else _LOWEST_DB
