"""Chains of radios as their data sheets have them: receive over transmit filters of simulated Plutos.

What a manufacturer states is what a simulated radio has, as its stated delays are; of a real one, whose corners are
off by percents, only a calibration tells.
"""

from __future__ import annotations

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.chain_response import ChainResponse
from testbed.scenario import Node, Scenario
from testbed.schedule import dsp_waveform

__all__ = ["nominal_response"]

_CORNERS = {"receive": (1.4, 2.5), "transmit": (1.6, 5.0)}
"""AD936x (Analog Devices UG-570): Butterworth low pass of third order and single pole, over half the RF bandwidth."""
_DELAY_BAND = 0.8
"""Of the sample rate: the chain's stated delay is the filters' over this part of it."""


def nominal_response(scenario: Scenario, node: Node) -> ChainResponse | None:
    """Receive over transmit chain of a simulated Pluto at the experiment's rate and bandwidth; None of other radios.

    The half-band stages' and the FIR filter's share is left out: below 1e-3 with the library's filter, which is the
    same in both directions.
    """
    if node.radio != "pluto" or node.pluto is None or not node.pluto.simulated:
        return None
    rate_hz = scenario.waveform.sample_rate_hz
    inner_hz = np.linspace(-0.5, 0.5, 1025) * _DELAY_BAND * rate_hz
    active_hz = dsp_waveform(scenario).subcarrier_hz
    received, sent = (
        _without_delay(path, node.pluto.bandwidth_at(rate_hz), inner_hz, active_hz) for path in ("receive", "transmit")
    )
    return ChainResponse.of(active_hz, received / sent)


def _without_delay(path: str, bandwidth_hz: float, inner_hz: FloatArray, wanted_hz: FloatArray) -> ComplexArray:
    """Response at ``wanted_hz``, its delay by least squares over ``inner_hz`` taken off, power counting as weight."""
    inner, wanted = (_response(_CORNERS[path], bandwidth_hz, at) for at in (inner_hz, wanted_hz))
    weight = np.abs(inner) ** 2
    slope = np.sum(weight * inner_hz * np.unwrap(np.angle(inner))) / np.sum(weight * inner_hz**2)
    return np.asarray(wanted * np.exp(-1j * slope * wanted_hz))


def _response(corners: tuple[float, float], bandwidth_hz: float, frequency_hz: FloatArray) -> ComplexArray:
    butterworth, pole = (2j * frequency_hz / (corner * bandwidth_hz) for corner in corners)
    return np.asarray(1.0 / ((1.0 + butterworth) * (1.0 + butterworth + butterworth**2) * (1.0 + pole)))
