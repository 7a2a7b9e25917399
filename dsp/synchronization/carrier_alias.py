"""Whether a carrier offset is one of its aliases, as the sampling offset that goes with it tells.

Symbols T apart show a carrier offset modulo 1/T, their product over both directions modulo 1/(2T). One crystal drives
sampling and carrier alike, so that the delay drifts by -CFO/fc: an alias leaves a drift of k/(T·fc), which over L
symbols comes to k·L/fc whatever their spacing. Derivation: docs/methods/conventions.md.
"""

from __future__ import annotations

from math import pi

import numpy as np

from dsp.channel import ChannelState, FloatArray
from dsp.synchronization.matched_product import Residual, TwoWayLink

__all__ = ["ALIASED", "drifting_alias", "one_way_alias", "two_way_alias"]

ALIASED = (
    "CFO aliased: the sampling offset is that of another carrier offset, beyond what the symbols' spacing tells apart"
)
_EVIDENCE = 8.0
"""Log-likelihood by which an alias must beat the offset found: odds of three thousand to one.

Times what noise in the channel fitted makes of it. An alias that costs the log-likelihood a at the truth loses a on
average, with a variance of 2a were the channel known; fitted to the same data it is noise times noise more,
(1 + excess)·2a, and the same difference is worth so much less. At -10 dB the matched product's factor is six."""
_REACH = 3
"""Aliases looked at on either side."""


def one_way_alias(csi: ChannelState, cfo_hz: float) -> int:
    """Number of the alias that the sampling offset calls for; zero where it is the offset itself, or cannot be told.

    Each alias' drift is taken off, and what of the slot is then one channel, at a free phase and amplitude in every
    symbol, is the likelihood: the greatest eigenvalue over the symbols.
    """
    known = csi.weights.sum(axis=0) > 0.0
    f = csi.subcarrier_hz[known]
    time: FloatArray = csi.symbol_s - csi.symbol_s.mean()
    if len(time) < 3:
        return 0
    spacing_s = float(np.min(np.diff(time)))
    carrier_hz = float(csi.carrier_hz)
    rows = csi.values[:, :, known] * np.sqrt(csi.weights[:, known])
    rows = rows / np.sqrt(np.maximum(csi.noise, np.finfo(float).tiny))[:, None, None]
    symbols, elements = len(time), rows.shape[0] * rows.shape[2]
    energies = []
    for number in range(-_REACH, _REACH + 1):
        drift = (cfo_hz - csi.cfo_reference_hz + number / spacing_s) / carrier_hz
        turned = np.moveaxis(rows * np.exp(-2j * pi * np.outer(drift * time, f)), 1, 0).reshape(symbols, -1)
        energies.append(float(np.linalg.eigvalsh(turned @ turned.conj().T)[-1]))
    # the eigenvalue of rank one in unit noise: power of the elements, and what noise adds along either side
    fitted = 1.0 / symbols + 1.0 / elements
    snr = max(energies) / (symbols * elements) - fitted
    return _chosen(np.array(energies), fitted / snr if snr > 0.0 else np.inf)


def two_way_alias(link: TwoWayLink, residual: Residual) -> int:
    """The same for the matched product, whose log-likelihood is twice its sum."""
    time = link.symbol_s
    if len(time) < 3:
        return 0
    spacing_s = float(np.min(np.diff(time)))
    step_hz = 0.5 / spacing_s
    turned = link.derotated(link.product, residual.to_s, residual.cfo_hz - _REACH * step_hz)
    onward = link.derotated(np.ones_like(turned), 0.0, step_hz)
    sums = []
    for _ in range(2 * _REACH + 1):
        sums.append(2.0 * abs(complex(np.sum(turned))))
        turned *= onward
    known = link.weights > 0.0
    weights = link.weights[known]
    noise = float(np.sum(weights**2 * link.forward_variance[known] * link.reverse_variance[known]))
    return _chosen(np.array(sums), noise / float(np.sum(weights)))  # the directions have unit power


def drifting_alias(
    timing_s: FloatArray, std_s: float, time_s: FloatArray, residual_hz: float, carrier_hz: float
) -> int:
    """The same from each packet's own timing, whose scatter about its slope is taken for its deviation if greater."""
    time = time_s - time_s.mean()
    spacing_s = float(np.min(np.diff(time)))
    timing = timing_s - timing_s.mean()
    slope = float(time @ timing / (time @ time))
    variance = max(float(np.sum((timing - slope * time) ** 2)) / max(len(time) - 2, 1), std_s**2)
    numbers = np.arange(-_REACH, _REACH + 1)
    drifts = -(residual_hz + numbers / spacing_s) / carrier_hz
    return _chosen(-0.5 * (slope - drifts) ** 2 * float(time @ time) / variance)


def _chosen(likelihoods: FloatArray, excess: float = 0.0) -> int:
    best = int(np.argmax(likelihoods))
    gained = float(likelihoods[best] - likelihoods[_REACH])
    return best - _REACH if gained > _EVIDENCE * (1.0 + excess) else 0
