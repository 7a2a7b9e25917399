"""Every figure that `isac bench paper` can make."""

from __future__ import annotations

from collections.abc import Callable

from testbed.bench.paper import clusters, communication, localization, signalling
from testbed.bench.paper.figure import PaperFigure

__all__ = ["FIGURES"]

FIGURES: dict[str, tuple[int, Callable[[int, int], PaperFigure]]] = {
    "a-4a": (10_000, clusters.efficiency_region),
    "a-4b": (20_000, localization.crlb_density),
    "b-2": (200_000, localization.gdop_stations),
    "b-3": (50_000, localization.crlb_stations),
    "b-5": (200_000, communication.antennas_per_station),
    "b-6": (1, communication.best_share),
    "b-7": (1, communication.boundary),
    "scaling": (20_000, localization.scaling),
    "spectrum": (6, signalling.over_band),
    "symbol-level": (12, signalling.symbol_gain),
}
"""Random networks by default, and what makes the figure of them and a seed."""
