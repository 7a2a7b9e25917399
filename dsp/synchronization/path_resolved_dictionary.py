"""Static paths told apart by a sparse dictionary of delays, for bands too narrow to resolve them."""

from __future__ import annotations

from dsp.synchronization.path_resolved_alignment import Aligned
from dsp.synchronization.path_resolved_delay import StaticPaths, static_paths

__all__ = ["dictionary_paths"]

_CLOSEST_CELLS = 0.3
"""Separation below which two atoms' amplitudes oppose each other and no order can be trusted."""


def dictionary_paths(state: Aligned) -> StaticPaths:
    """Static paths by orthogonal matching pursuit on delays of an eighth of a cell, all refined off the grid.

    Closer than the bandwidth resolves, neighbours inflate each other's deviation, which the Fisher information
    of all paths jointly states. Source: methods section 3.3 (c).
    """
    known = state.static_weights > 0.0
    return static_paths(
        state.csi.subcarrier_hz[known],
        state.static[:, known],
        weights=state.static_weights[known],
        noise=state.csi.noise,
        closest_cells=_CLOSEST_CELLS,
    )
