"""Channel state information as every method receives it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dsp.moment import Moment

__all__ = ["ChannelState", "ComplexArray", "FloatArray"]

ComplexArray = NDArray[np.complexfloating]
FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class ChannelState:
    """CSI of one receiver over one slot of one transmitter, referred to the receiver's clock.

    One path of delay tau and Doppler nu, heard at time offset TO and carrier frequency offset CFO, is

        b · exp(-j2π·f_k·(tau - (nu/fc)·t_l + TO(t_l) - TO_ref(t_l))) · exp(+j2π·t_l·(nu + CFO - CFO_ref)),

    where the reference (subscript ref) was found by acquisition and removed exactly, by resampling.
    ``TO_ref(0)`` is ``reference`` minus the departure of the frame on the transmitter's clock, and its slope is
    ``-CFO_ref/fc``: estimators return reference plus residual. Frames of one slot share one reference, so their
    symbols stand in one array on one time axis, with gaps where the slot has gaps.
    """

    values: ComplexArray
    """Received over transmitted, shape (antenna, symbol, subcarrier)."""
    weights: FloatArray
    """|X|² of the known symbols, shape (symbol, subcarrier), mean one over known elements; zero where unknown."""
    subcarrier_hz: FloatArray
    """Baseband frequency of each subcarrier, ascending, shape (subcarrier,)."""
    symbol_s: FloatArray
    """Centre of each symbol's transform window, seconds after ``reference`` on the receiver's clock; (symbol,)."""
    reference: Moment
    """Receiver's clock reading at which the slot's first sample would arrive with zero residual delay."""
    cfo_reference_hz: float
    """Carrier frequency offset removed; the sampling offset removed with it is -cfo_reference/carrier."""
    carrier_hz: Fraction
    """Carrier that the receiver applied."""
    noise: FloatArray
    """Noise variance of an element of unit weight, shape (antenna,); an element of weight w has noise/w."""
    frame_of_symbol: NDArray[np.integer]
    """Frame within the slot to which each symbol belongs, shape (symbol,)."""

    @property
    def snr(self) -> float:
        """Signal to noise of one resource element of unit weight on the first antenna, as a power ratio."""
        power = float(np.sum(self.weights * np.abs(self.values[0]) ** 2) / max(float(np.sum(self.weights)), 1e-300))
        excess = power / float(self.noise[0]) - float(np.count_nonzero(self.weights) / np.sum(self.weights))
        return max(excess, 0.0)

    def antenna(self, index: int) -> ChannelState:
        """The same slot seen by one antenna."""
        return replace(self, values=self.values[index : index + 1], noise=self.noise[index : index + 1])

    def averaged(self, symbols: int) -> ChannelState:
        """Weighted means over runs of ``symbols`` consecutive symbols of a frame.

        Evens out the weights |X|² of the constellation and raises the SNR before any product is formed; a path
        keeps its power while its residual frequency stays well below 1/(symbols · symbol spacing).
        Runs never cross a frame's end; a shorter rest of a frame is dropped.
        """
        if symbols == 1:
            return self
        runs = [
            run[: len(run) // symbols * symbols].reshape(-1, symbols)
            for run in (np.flatnonzero(self.frame_of_symbol == frame) for frame in np.unique(self.frame_of_symbol))
        ]
        index = np.concatenate(runs)
        weights = self.weights[index].sum(axis=1)
        sums = np.einsum("alsk,lsk->alk", self.values[:, index], self.weights[index])
        known = weights > 0
        values = np.divide(sums, weights, out=np.zeros_like(sums), where=known)
        scale = float(weights[known].mean()) if known.any() else 1.0
        return replace(
            self,
            values=values,
            weights=weights / scale,
            symbol_s=self.symbol_s[index].mean(axis=1),
            noise=self.noise / scale,
            frame_of_symbol=self.frame_of_symbol[index[:, 0]],
        )
