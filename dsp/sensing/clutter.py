"""Removal of the static channel from the CSI of a slot."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["Clutter", "remove_static", "retained_share"]


@dataclass(frozen=True)
class Clutter:
    """Static channel that was removed, and what its removal costs."""

    static: ComplexArray
    """Weighted mean over the slot, shape (antenna, subcarrier)."""
    slot: ChannelState
    """From which it was removed."""

    @property
    def blanked_hz(self) -> float:
        """Movers with |Doppler| below this lose more than half of their energy with the static channel."""
        span = float(self.slot.symbol_s[-1] - self.slot.symbol_s[0])
        doppler = np.linspace(0.0, 3.0 / span, 601)
        kept = np.flatnonzero(retained_share(self.slot, doppler) >= 0.5)
        return float(doppler[kept[0]]) if kept.size else float(doppler[-1])


def remove_static(csi: ChannelState) -> tuple[ChannelState, Clutter]:
    """CSI without its static channel, and the static channel.

    Each subcarrier's zero-Doppler component is fitted over all symbols of all frames of the slot by weighted
    least squares and subtracted: static paths leave nothing, whatever their delays, and no window's side lobe of
    them remains. A mover keeps the share `retained_share` of its energy.

    Raises
    ------
    ValueError
        If the slot has fewer than three symbols: a mean of two leaves nothing of a mover either.
    """
    if csi.values.shape[1] < 3:
        raise ValueError("clutter removal needs three symbols or more")
    known = csi.weights.sum(axis=0)
    total = np.einsum("alk,lk->ak", csi.values, csi.weights)
    static = np.divide(total, known, out=np.zeros_like(total), where=known > 0)
    values = np.asarray(csi.values - static[:, None, :].astype(csi.values.dtype))
    return replace(csi, values=values), Clutter(static, csi)


def retained_share(csi: ChannelState, doppler_hz: FloatArray) -> FloatArray:
    """Share of a path's energy that survives the removal of the static channel, by Doppler, 0…1.

    1 − |Σ_l w_l·exp(j2πνt_l)|²/(Σ_l w_l)², with w_l the symbol's mean weight.
    """
    weight = csi.weights.mean(axis=1)
    time = csi.symbol_s - csi.symbol_s.mean()
    projection = np.exp(2j * np.pi * np.multiply.outer(doppler_hz, time)) @ weight
    return np.asarray(1.0 - np.abs(projection) ** 2 / float(weight.sum()) ** 2)
