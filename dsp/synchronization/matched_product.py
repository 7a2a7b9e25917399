"""The two directions of a link laid side by side: the common front of every offset-reciprocity method.

With residual offsets u = TO - TO_ref and v = CFO - CFO_ref, halves of the directions' differences, the matched
product of an element is

    P[l,k] = F·conj(R) = |H|² · exp(-j4π·f_k·u) · exp(+j4π·t_l·v·(1 + f_k/fc)) · constant phase.

Derived in docs/methods/reciprocity.md from the model of methods section 1; survey (Han, Meng, Wang, Masouros 2025)
equations 34 and 35 state the antisymmetry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, log10, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.phase_ramps import turned
from dsp.synchronization.base import Need, Observation, Offset, Port, require
from dsp.synchronization.common_frequencies import at_common_frequencies

__all__ = ["NO_COMMON_CHANNEL", "Residual", "TwoWayLink", "rises", "two_way_link", "two_way_offset"]

NO_COMMON_CHANNEL = "no channel common to the two directions rises above the noise"
_CELLS_TRIED = 4.0  # a continuous search reaches what four times the cells would
_FALSE_CELL = 1e-3
_ENOUGH_SYMBOLS = 8
_COLOURED = 2.0  # of white noise's power, in the delays that the resampling passes


@dataclass(frozen=True)
class TwoWayLink:
    """Both directions on common physical frequencies, symbols paired, each scaled to unit mean signal power."""

    forward: ComplexArray
    """CSI at receiver n of m, shape (symbol, subcarrier)."""
    reverse: ComplexArray
    """CSI at m of n, same shape."""
    forward_variance: FloatArray
    """Noise variance of each forward element (infinite where unknown)."""
    reverse_variance: FloatArray
    subcarrier_hz: FloatArray
    symbol_s: FloatArray
    """Symbol times about their weighted mean, where time offset and frequency offset decorrelate."""
    frame_of_symbol: NDArray[np.integer]
    carrier_hz: float
    snr: float
    """Power ratio of one element: harmonic mean of the directions', which is what the bound takes."""
    epoch: Moment
    """Receiver's clock at which the offsets belong."""
    to_reference_s: float | None
    """Time offset that the references alone state at the epoch; None if a departure is unknown."""
    cfo_reference_hz: float
    phase_reference_rad: float
    """Phase at the epoch that the removed frequency references carried."""

    @property
    def weights(self) -> FloatArray:
        """Inverse variance of the directions' difference, the likelihood's weight of each element's product."""
        weights: FloatArray = 1.0 / (self.forward_variance + self.reverse_variance)
        return weights

    @property
    def product(self) -> ComplexArray:
        """Weighted matched product, shape (symbol, subcarrier)."""
        return self.weights * self.forward * np.conj(self.reverse)

    def derotated(self, values: ComplexArray, to_s: float, cfo_hz: float) -> ComplexArray:
        """Product, or what has its shape, with residual offsets taken off: times exp(j4π·(u·f - v·t·(1 + f/fc)))."""
        angle = -4.0 * pi * cfo_hz * self.symbol_s
        return turned(values, angle, 4.0 * pi * to_s + angle / self.carrier_hz, self.subcarrier_hz)


@dataclass(frozen=True)
class Residual:
    """What an estimator found in the product, relative to the references."""

    to_s: float
    cfo_hz: float
    phase_rad: float
    """Half the product's phase at the epoch, known modulo π."""
    to_std_s: float
    cfo_std_hz: float
    phase_std_rad: float


def two_way_link(observation: Observation) -> TwoWayLink:
    """Two directions of one link, paired element by element.

    Frames heard in both directions are paired symbol by symbol. The transmitters' carriers differ by the CFO, so
    that the same subcarrier number means different physical frequencies in the two directions; both are first
    interpolated to the common ones (see `at_common_frequencies`), without which multipath makes the directions
    differ: 60 ps at a CFO of 120 kHz, 16 MHz of band and a -10 dB echo 0.3 µs late.

    The offsets belong to the middle of the two slots on the receiver's clock: half-way between the middle of its
    reception and the middle of its own departing slot. To that instant the antisymmetric half of the two
    readings refers without remainder, whatever the path's delay.

    Raises
    ------
    MissingInputError
        If there is no reverse link.
    ValueError
        If the two directions share no frame, carry different subcarriers, or hold no signal.
    """
    require(observation, frozenset({Need.REVERSE_LINK}))
    assert observation.reverse is not None
    forward, reverse = _paired(observation.forward.antenna(0), observation.reverse.antenna(0))
    snr_forward, snr_reverse = forward.snr, reverse.snr
    if min(snr_forward, snr_reverse) <= 0.0:
        raise ValueError("no signal above the noise in one of the directions")
    carrier_hz = float(forward.carrier_hz)
    cfo_reference_hz = 0.5 * (forward.cfo_reference_hz - reverse.cfo_reference_hz)
    aligned = (
        at_common_frequencies(forward, -0.5 * cfo_reference_hz),
        at_common_frequencies(reverse, 0.5 * cfo_reference_hz),
    )
    variances = []
    for state, snr in zip(aligned, (snr_forward, snr_reverse), strict=True):
        with np.errstate(divide="ignore"):
            variances.append(1.0 / (state.weights * snr))
    values = [
        state.values[0] / np.sqrt(snr * float(state.noise[0]))
        for state, snr in zip(aligned, (snr_forward, snr_reverse), strict=True)
    ]
    per_symbol = (1.0 / (variances[0] + variances[1])).sum(axis=1)
    if per_symbol.sum() <= 0.0:
        raise ValueError("the two directions know no element in common")
    middle_forward = float(np.average(forward.symbol_s, weights=per_symbol))
    middle_reverse = float(np.average(reverse.symbol_s, weights=per_symbol))
    # What the two references have in common, clocks aside, is the acquisition's error: a Doppler of the whole scene,
    # which would blur it over the slot and pass for travel between the slots. CFO²/fc: each counts seconds on its own
    # clock.
    common_hz = 0.5 * (forward.cfo_reference_hz + reverse.cfo_reference_hz - cfo_reference_hz**2 / carrier_hz)
    for number, (state, middle) in enumerate(((forward, middle_forward), (reverse, middle_reverse))):
        angle = 2.0 * pi * common_hz * (state.symbol_s - middle)
        values[number] = turned(values[number], angle, angle / carrier_hz, forward.subcarrier_hz)
    # The reverse symbols departed at these times on n's clock; m's clock, which timed them, ran cfo/carrier fast.
    middle_departed = middle_reverse * (1.0 - cfo_reference_hz / carrier_hz)
    epoch = forward.reference.shifted(middle_forward)
    if observation.reverse_departure is not None:
        epoch = epoch.midway(observation.reverse_departure.shifted(middle_departed))
    return TwoWayLink(
        forward=values[0],
        reverse=values[1],
        forward_variance=variances[0],
        reverse_variance=variances[1],
        subcarrier_hz=forward.subcarrier_hz,
        symbol_s=0.5 * (forward.symbol_s - middle_forward + reverse.symbol_s - middle_reverse),
        frame_of_symbol=forward.frame_of_symbol,
        carrier_hz=carrier_hz,
        snr=2.0 / (1.0 / snr_forward + 1.0 / snr_reverse),
        epoch=epoch,
        to_reference_s=_reference_offset(observation, middle_forward, middle_reverse),
        cfo_reference_hz=cfo_reference_hz,
        phase_reference_rad=pi
        * (forward.cfo_reference_hz * middle_forward - reverse.cfo_reference_hz * middle_reverse),
    )


def two_way_offset(
    link: TwoWayLink, residual: Residual, observation: Observation, *, reciprocal: bool = True
) -> Offset:
    """Offset made of the references and the residual found, its deviation widened by clock and departure.

    ``reciprocal`` states that the method relies on the same port in both directions: with separate ports its
    result is then invalid.
    """
    valid, reason = True, ""
    to_s: float | None = None
    to_std_s: float | None = None
    if link.to_reference_s is None:
        valid, reason = False, "departure unknown"
    else:
        to_s = link.to_reference_s + residual.to_s
        noise_s = observation.delay_std_s(residual.to_std_s)
        to_std_s = float(np.hypot(np.hypot(noise_s, observation.clock_std_s), observation.departure_std_s))
    if reciprocal and observation.port is Port.SEPARATE:
        valid, reason = False, "separate transmit and receive ports: the two directions do not see the same channel"
    return Offset(
        to_s=to_s,
        cfo_hz=link.cfo_reference_hz + residual.cfo_hz,
        epoch=link.epoch,
        to_std_s=to_std_s,
        cfo_std_hz=float(np.hypot(residual.cfo_std_hz, observation.clock_std_hz)),
        phase_rad=float((residual.phase_rad + link.phase_reference_rad) % pi),
        phase_std_rad=float(np.hypot(residual.phase_std_rad, observation.clock_std_rad)),
        snr_db=10.0 * log10(link.snr),
        valid=valid,
        reason=reason,
        details={
            "residual_to_s": residual.to_s,
            "residual_cfo_hz": residual.cfo_hz,
            "synthesizer_std_hz": observation.clock_std_hz,
            "phase_noise_std_s": residual.to_std_s * sqrt(2.0 * observation.phase_noise_share),
        },
    )


def rises(link: TwoWayLink, residual: Residual) -> bool:
    """Whether the matched product's sum at the offsets found is more than noise makes of some cell.

    Derotated, a channel that both directions share adds up over symbols; noise is as strong at every other frequency,
    however the resampling to common frequencies has coloured it over delay.
    """
    product = link.product
    power = np.abs(np.fft.fft(np.sum(link.derotated(product, residual.to_s, residual.cfo_hz), axis=1))) ** 2
    others = len(power) - 1
    level = float(power[1:].mean()) if others >= _ENOUGH_SYMBOLS else _COLOURED * float(np.sum(np.abs(product) ** 2))
    unsure = 1.0 + 2.0 / np.sqrt(max(others, _ENOUGH_SYMBOLS))
    return bool(power[0] > unsure * log(_CELLS_TRIED * product.size / _FALSE_CELL) * level)


def _paired(forward: ChannelState, reverse: ChannelState) -> tuple[ChannelState, ChannelState]:
    """Both directions cut to the symbols of frames that both heard, in the same order."""
    spacing = float(np.min(np.diff(forward.subcarrier_hz)))
    if forward.subcarrier_hz.shape != reverse.subcarrier_hz.shape or not np.allclose(
        forward.subcarrier_hz, reverse.subcarrier_hz, rtol=0.0, atol=1e-3 * spacing
    ):
        raise ValueError("the two directions carry different subcarriers")
    keep_forward: list[NDArray[np.intp]] = []
    keep_reverse: list[NDArray[np.intp]] = []
    for frame in np.intersect1d(forward.frame_of_symbol, reverse.frame_of_symbol):
        mine = np.flatnonzero(forward.frame_of_symbol == frame)
        theirs = np.flatnonzero(reverse.frame_of_symbol == frame)
        count = min(len(mine), len(theirs))
        keep_forward.append(mine[:count])
        keep_reverse.append(theirs[:count])
    if not keep_forward:
        raise ValueError("the two directions have no frame in common")
    return _symbols(forward, np.concatenate(keep_forward)), _symbols(reverse, np.concatenate(keep_reverse))


def _symbols(state: ChannelState, index: NDArray[np.intp]) -> ChannelState:
    if len(index) == len(state.symbol_s):
        return state
    return replace(
        state,
        values=state.values[:, index],
        weights=state.weights[index],
        symbol_s=state.symbol_s[index],
        frame_of_symbol=state.frame_of_symbol[index],
    )


def _reference_offset(observation: Observation, middle_forward: float, middle_reverse: float) -> float | None:
    forward, reverse = observation.forward, observation.reverse
    if observation.departure is None or observation.reverse_departure is None or reverse is None:
        return None
    ahead = forward.reference.seconds_since(observation.departure)
    back = reverse.reference.seconds_since(observation.reverse_departure)
    slope_ahead = -forward.cfo_reference_hz / float(forward.carrier_hz) * middle_forward
    slope_back = -reverse.cfo_reference_hz / float(reverse.carrier_hz) * middle_reverse
    return 0.5 * ((ahead - back) + (slope_ahead - slope_back)) - observation.chain_constant_s
