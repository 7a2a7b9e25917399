"""What one link can tell of a moving object that it must separate from all that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.sensing.angle import bearing
from dsp.sensing.detection import Search
from dsp.sensing.path_model import PathModel
from dsp.waveform import Waveform
from testbed.antennas import antenna_m, antenna_spacing_m, elements_m
from testbed.planning.budget import LinkBudget, way
from testbed.planning.offsets import slot_symbols_s
from testbed.scenario import Scenario
from testbed.schedule import dsp_waveform

__all__ = ["MoverBound", "mover_bound"]

_SUBCARRIERS = 128
"""Of these, evenly spread, each counts for its neighbours: the span, which tells delays, is the band's."""
_TURN = 0.05
"""Of a cycle that the mover may turn within symbols counted as one."""


@dataclass(frozen=True)
class MoverBound:
    """Deviations that noise leaves, all antennas together."""

    delay_std_s: float
    doppler_std_hz: float
    sine_std: float
    """Of the bearing's sine; infinite at one antenna."""


def mover_bound(
    scenario: Scenario, budget: LinkBudget, position_m: FloatArray, velocity_mps: FloatArray, rcs_m2: float
) -> MoverBound:
    """Bound of a mover's delay, Doppler and sine of bearing on one link over one slot.

    Inverse Fisher information with the static channel unknown on every subcarrier, every symbol's phase taken from
    the static channel, the mover's amplitudes and Doppler rate unknown: a mover that resembles the static channel in
    delay and bearing loses up to half of its power to the phase, one close to zero Doppler loses itself to the
    channel. Docs/methods/planning.md, "Positions".
    """
    carrier_hz = scenario.waveform.carrier_hz
    receiver, source = budget.receiver, antenna_m(budget.transmitter, transmits=True)
    elements = elements_m(receiver, carrier_hz)
    delay_s, doppler_hz = way((source, elements.mean(axis=0)), position_m, velocity_mps, carrier_hz)
    time_s, symbols = _instants(scenario, doppler_hz)
    frequency_hz, stands_for = _frequencies(dsp_waveform(scenario))
    level = sqrt(float(budget.echo_snr(scenario, position_m, rcs_m2)) / budget.snr)
    amplitudes = level * np.exp(-2j * np.pi * carrier_hz * _delays_s(elements, source, position_m))
    cycles = doppler_hz * time_s[:, None] * (1 + frequency_hz / carrier_hz)
    moving = np.exp(2j * np.pi * (cycles - frequency_hz * delay_s))
    static = None
    if scenario.sensing.remove_clutter:
        static = _static(scenario, budget, elements, source, frequency_hz)
        moving = moving - (symbols @ moving) / symbols.sum()
    observed = ChannelState(
        values=amplitudes[:, None, None] * moving,
        weights=np.outer(symbols, np.full(frequency_hz.size, stands_for)),
        subcarrier_hz=frequency_hz,
        symbol_s=time_s,
        reference=Moment(receiver.name, 0, 0.0, dsp_waveform(scenario).rate_hz),
        cfo_reference_hz=0.0,
        carrier_hz=dsp_waveform(scenario).carrier_hz,
        noise=np.full(len(elements), 1.0 / budget.snr),
        frame_of_symbol=np.zeros(time_s.size, dtype=np.int64),
    )
    model = PathModel(
        observed, static=static, referenced=static is not None, rate_std_hz_per_s=Search.doppler_rate_std_hz_per_s
    )
    fit = model.fit(np.array([[delay_s, doppler_hz, 0.0]]), iterations=0)
    sine_std = inf
    if receiver.antennas > 1:
        spacing_m = antenna_spacing_m(receiver, carrier_hz)
        seen = bearing(amplitudes, fit.amplitude_covariance[0], spacing_m=spacing_m, carrier_hz=carrier_hz)
        sine_std = seen.sine_std
    deviations = np.sqrt(np.diag(fit.covariance[0]))
    return MoverBound(float(deviations[0]), float(deviations[1]), sine_std)


def _instants(scenario: Scenario, doppler_hz: float) -> tuple[FloatArray, FloatArray]:
    """Mean times of runs of symbols within which the mover hardly turns, about their mean, and the runs' lengths."""
    times_s = slot_symbols_s(scenario).reshape(scenario.round.frames_per_slot, -1)
    turned = abs(doppler_hz) * float(np.ptp(times_s[0]))
    parts = min(times_s.shape[1], max(1, ceil(turned / _TURN)))
    runs = [run for frame in times_s for run in np.array_split(frame, parts)]
    mean_s = np.array([run.mean() for run in runs])
    symbols = np.array([float(run.size) for run in runs])
    return mean_s - float(symbols @ mean_s) / symbols.sum(), symbols


def _frequencies(waveform: Waveform) -> tuple[FloatArray, float]:
    """Subcarriers on one raster, and how many each stands for."""
    half = waveform.active_subcarriers // 2
    step = ceil(half / (_SUBCARRIERS // 2))
    side = np.arange(1, half // step + 1) * step * float(waveform.spacing_hz)
    return np.concatenate([-side[::-1], side]), waveform.active_subcarriers / (2 * side.size)


def _static(
    scenario: Scenario, budget: LinkBudget, elements: FloatArray, source: FloatArray, frequency_hz: FloatArray
) -> ComplexArray:
    """Channel of all that stands still, shape (antenna, subcarrier), the link's power being one."""
    places = {one.name: np.array(one.position_m, dtype=float) for one in scenario.scene.reflector}
    channel = np.zeros((len(elements), frequency_hz.size), np.complex128)
    for path in budget.paths:
        if not path.moving:
            delays_s = _delays_s(elements, source, places.get(path.name))
            turns = np.multiply.outer(delays_s, scenario.waveform.carrier_hz + frequency_hz)
            channel += sqrt(path.share) * np.exp(-2j * np.pi * turns)
    return channel


def _delays_s(elements: FloatArray, source: FloatArray, place: FloatArray | None) -> FloatArray:
    """From ``source`` to every element, by ``place`` if given."""
    return np.array([way((source, element), place, np.zeros(2), 1.0)[0] for element in elements])
