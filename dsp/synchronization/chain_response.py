"""Receive chains over transmit chains, as functions of frequency: what makes two directions of one channel differ.

With q_n = R_n/T_n of every node, receive over transmit chain, the CSI at n of m holds R_n·T_m, and that at m of n
R_m·T_n. Divided by √(q_n/q_m) and by √(q_m/q_n) both hold √(R_n·T_n·R_m·T_m), and reciprocity is restored
(docs/methods/reciprocity.md eq. 12, 15).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre

from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.synchronization.base import Observation
from dsp.synchronization.direction_difference import DirectionDifference
from dsp.synchronization.matched_product import two_way_link
from dsp.synchronization.reciprocity import likelihood_residual

__all__ = ["RATIO_ORDER", "ChainRatio", "ChainResponse", "evened", "measured_ratio"]

RATIO_ORDER = 8
"""Of the polynomials by which a ratio is described: beyond it an AD936x's analog filters leave 2e-5."""


@dataclass(frozen=True)
class ChainResponse:
    """Logarithm of a node's q, but for a constant: Legendre series of frequency over the band, from order 1."""

    edge_hz: float
    """The series' argument is frequency over this, and held beyond ±1."""
    gain: tuple[float, ...] = ()
    """Real part, nepers."""
    phase_rad: tuple[float, ...] = ()

    def root(self, frequency_hz: FloatArray) -> ComplexArray:
        """√q at frequencies from the carrier, of their shape."""
        place = np.clip(frequency_hz / self.edge_hz, -1.0, 1.0)
        gain, phase = (legendre.legval(place, [0.0, *series]) for series in (self.gain, self.phase_rad))
        return np.asarray(np.exp(0.5 * (gain + 1j * phase)))

    @classmethod
    def of(cls, frequency_hz: FloatArray, q: ComplexArray, *, order: int = RATIO_ORDER) -> ChainResponse:
        """Series of least squares for ``q`` at these frequencies, every one counting alike."""
        edge_hz = float(np.max(np.abs(frequency_hz)))
        place = frequency_hz / edge_hz
        gain = legendre.legfit(place, np.log(np.abs(q)), order)
        phase = legendre.legfit(place, np.unwrap(np.angle(q)), order)
        return cls(edge_hz, tuple(map(float, gain[1:])), tuple(map(float, phase[1:])))


@dataclass(frozen=True)
class ChainRatio:
    """Logarithm of q_n/q_m that one exchange shows, as a complex Legendre series from order 1, with its deviations.

    The phase's order 1 is zero by definition: it is a delay, which the time offset holds.
    """

    edge_hz: float
    series: ComplexArray
    std: FloatArray
    """Of the real and of the imaginary part alike, shape (order,)."""


def measured_ratio(observation: Observation) -> ChainRatio:
    """Ratio of the chains that a two-way observation of a scene at rest shows.

    With the offsets of greatest likelihood taken off, F and R differ by F - R = 2·h·tanh(½ ln E), h their mean: the
    logarithm is read off to third order, 2e-5 for half a decibel, and fitted with weights |h|² by Legendre polynomials
    up to `RATIO_ORDER`. A path that changed between the slots is not told from the chains.

    Raises
    ------
    MissingInputError
        If there is no reverse link.
    ValueError
        If the directions have nothing in common, or hold no signal.
    """
    link = two_way_link(observation)
    residual = likelihood_residual(link)
    difference = DirectionDifference.of(link, residual, residual.to_s)
    edge_hz = float(np.max(np.abs(difference.subcarrier_hz)))
    polynomials = legendre.legvander(difference.subcarrier_hz / edge_hz, RATIO_ORDER)
    root = np.sqrt(difference.information)
    design = polynomials * (np.abs(difference.channel) * root)[:, None]
    inverse = np.linalg.pinv(design)
    turned = difference.values * np.conj(difference.channel) / np.abs(difference.channel)
    series = (inverse @ (turned * root))[1:]
    series[0] = series[0].real
    return ChainRatio(edge_hz, series, np.asarray(np.linalg.norm(inverse, axis=1)[1:]))


def evened(csi: ChannelState, receiver: ChainResponse | None, transmitter: ChainResponse | None) -> ChannelState:
    """CSI divided by √(q_n/q_m), n the receiver and m the transmitter; None for a response unknown, or none."""
    ratio = np.ones(len(csi.subcarrier_hz), np.complex128)
    if receiver is not None:
        ratio /= receiver.root(csi.subcarrier_hz)
    if transmitter is not None:
        ratio *= transmitter.root(csi.subcarrier_hz)
    return csi if receiver is None and transmitter is None else replace(csi, values=csi.values * ratio)
