"""Arrays behind the report's pictures, of the last round in which each link was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray
from dsp.sensing.delay_doppler import DelayDopplerMap

__all__ = ["Products"]

_MOST_POINTS = 4000


class Products:
    """Constellations and delay-Doppler maps by link; a later round replaces an earlier one."""

    def __init__(self) -> None:
        self._links: dict[str, dict[str, NDArray[Any]]] = {}

    def add(
        self,
        index: int,
        link: str,
        constellation: ComplexArray,
        found: DelayDopplerMap,
        origin_s: float,
        baseline_s: float,
        *,
        absolute: bool,
    ) -> None:
        """Keep one link's pictures of round ``index``.

        Parameters
        ----------
        link : str
            "receiver<-transmitter".
        constellation : complex array
            Equalised payload.
        found : DelayDopplerMap
            With residual delays.
        origin_s, baseline_s : float
            What makes those delays absolute, and the delay of the line of sight.
        absolute : bool
            Whether any method gave that; else delays count from the CSI's own reference.
        """
        points = constellation.ravel()
        kept = points[:: max(1, -(-points.size // _MOST_POINTS))].astype(np.complex64)
        self._links[link] = {
            "constellation": kept,
            "map_db": (10 * np.log10(np.maximum(found.power, 1e-12))).astype(np.float32),
            "map_delay_s": found.delay_s + origin_s,
            "map_doppler_hz": found.doppler_hz,
            "baseline_s": np.array(baseline_s),
            "round": np.array(index),
            "absolute": np.array(absolute),
        }

    def save(self, path: Path) -> None:
        """Write all links to the .npz file ``path``."""
        names = sorted(self._links)
        arrays: dict[str, NDArray[Any]] = {"links": np.array(names)}
        for index, name in enumerate(names):
            arrays |= {f"{key}_{index}": value for key, value in self._links[name].items()}
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
