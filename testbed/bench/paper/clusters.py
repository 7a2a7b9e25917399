"""Area spectral efficiency of both services, by how large the clusters may be in which stations spare each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsp.network.metrics import area_spectral_efficiency, ergodic_rate_of, place_draws
from dsp.network.nulling import SpectralEfficiencies, allocations, best_allocation, spectral_efficiencies
from testbed.bench.paper.figure import Compared, Curve, Panel, PaperFigure

__all__ = ["efficiency_region"]

_ANTENNAS = 8
_TARGETS = 2
_EXPONENT = 4.0
_ECHO = 0.01
_THRESHOLDS = (1, 2, 4)


def efficiency_region(trials: int, seed: int) -> PaperFigure:
    """A Fig. 4(a): region of communication's and sensing's area spectral efficiency, by the largest cluster allowed."""
    rng = np.random.default_rng([seed, 0xA4A])
    curves, compared = [], []
    for size in _THRESHOLDS:
        found = _efficiencies(_TARGETS, size, _ECHO)
        edge = _boundary(found)
        label = f"clusters up to {size}"
        curves.append(Curve(label, found.communication[edge], found.sensing[edge]))
        shown = edge[np.unique(np.linspace(0, edge.size - 1, 5).round().astype(int))]
        drawn, errors = [], []
        for index in shown:
            load = found.loads[index]
            places = place_draws(
                rng, trials, load, _ANTENNAS, exponent=_EXPONENT, echo=_ECHO / np.pi ** (_EXPONENT / 2)
            )
            user = area_spectral_efficiency(ergodic_rate_of(places.user_sir), load.users)
            target = area_spectral_efficiency(ergodic_rate_of(places.target_sir), load.targets)
            drawn.append((user.value, target.value))
            errors.append((user.standard_error, target.standard_error))
        points, error = np.array(drawn), np.array(errors)
        curves.append(Curve(label, points[:, 0], points[:, 1], simulated=True, error=error[:, 1]))
        for column, (what, way) in enumerate((("communication", found.communication), ("sensing", found.sensing))):
            off = np.abs(way[shown] / points[:, column] - 1)
            worst = int(np.argmax(off))
            remark = "the integral lets interferers stand anywhere" if what == "sensing" else ""
            compared.append(
                Compared(f"integral against draws, {what}, {label}: worst", "not stated",
                         100 * float(off[worst]), "%", remark, trials=trials,
                         standard_error=100 * float(error[worst, column] / points[worst, column]))
            )  # fmt: skip
        best = found.loads[best_allocation(found, 0.0)]
        compared += [
            Compared(f"most for sensing, {label}", "not stated", float(found.sensing.max()), "bit/s/Hz × λ",
                     f"K {best.users}, L {best.user_cluster}, J {best.targets}, Q {best.sensing_cluster}"),
            Compared(f"user cluster at the most for communication, {label}", "1: no nulling",
                     float(found.loads[best_allocation(found, 1.0)].user_cluster),
                     remark="stated where the model comes from: Meng and others 2024, IEEE TWC 23 (12)", goal=1.0),
        ]  # fmt: skip
    compared += _sensitivity()
    return PaperFigure(
        "a-4a",
        "Area spectral efficiency by cluster size",
        (Panel("Communication [bit/s/Hz per station]", "Sensing [bit/s/Hz per station]", tuple(curves), y_log=False),),
        tuple(compared),
        {"lines": "join loads of whole numbers, between which stations may share time",
         "antennas": f"{_ANTENNAS} a station; path loss α = {_EXPONENT:g} a leg; Rayleigh fading, no noise",
         "threshold": "bounds both clusters, L of a user and Q of a target",
         "targets": f"{_TARGETS} a station at most: unlimited, those spared by nobody (Q = 1) cost no antennas and all "
                    "nulling ends",
         "echo": f"ε = {_ECHO:g}: the power of an echo from one station spacing, 1/√(πλ), over a station's there",
         "sensing's gain": "own users know the sensing waveforms, which need not spare them"},
    )  # fmt: skip


def _efficiencies(targets: int, size: int, echo: float) -> SpectralEfficiencies:
    loads = allocations(_ANTENNAS, targets=targets, user_clusters=size, sensing_clusters=size)
    return spectral_efficiencies(loads, _ANTENNAS, _EXPONENT, echo)


def _boundary(found: SpectralEfficiencies) -> NDArray[np.intp]:
    """Loads that no other beats in both services, from the least communication to the most."""
    order = np.lexsort((-found.sensing, -found.communication))
    best = np.maximum.accumulate(found.sensing[order])
    keep = np.r_[True, best[1:] > best[:-1]]
    return np.asarray(order[keep][::-1])


def _sensitivity() -> list[Compared]:
    rows = []
    for echo in (1e-3, 1e-2, 1e-1):
        gain = _efficiencies(_TARGETS, 4, echo).sensing.max() / _efficiencies(_TARGETS, 1, echo).sensing.max()
        rows.append(
            Compared(
                f"sensitivity: most for sensing, clusters up to 4 over 1, ε = {echo:g}", "not stated", float(gain), "×"
            )
        )
    for targets in (1, _ANTENNAS):
        gain = _efficiencies(targets, 4, _ECHO).sensing.max() / _efficiencies(targets, 1, _ECHO).sensing.max()
        rows.append(Compared(f"sensitivity: the same, targets up to {targets}", "not stated", float(gain), "×"))
    return rows
