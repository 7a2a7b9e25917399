"""A design as a picture: where every station sends its power."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize

from dsp.network.sensing_information import steering
from testbed.planning.signalling import Signalling
from testbed.report.style import BLUE, INK, VERMILLION, figure_style, new_figure, save

__all__ = ["draw_signalling"]

_CELLS = 120
_RANGE_DB = 30.0


def draw_signalling(done: Signalling, path: Path) -> None:
    """Write the field of all stations over the plane as PNG: mean power density without what the ground would add."""
    geometry, users = done.geometry, np.array([user.position_m for user in done.said.user]).reshape(-1, 2)
    places = np.concatenate([geometry.stations_m, users, geometry.target_m[None]])
    middle, half = places.mean(axis=0), 0.6 * float(np.ptp(places, axis=0).max()) + 5.0
    axis = np.linspace(-half, half, _CELLS)
    x, y = np.meshgrid(middle[0] + axis, middle[1] + axis)
    power = np.zeros_like(x)
    for station, heading, precoders in zip(
        geometry.stations_m, geometry.headings_rad, done.design.precoders.transpose(1, 0, 2), strict=True
    ):
        distance = np.hypot(x - station[0], y - station[1])
        bearing = np.arctan2(y - station[1], x - station[0]) - heading
        vectors = np.stack([steering(float(b), geometry.antennas) for b in bearing.ravel()])
        lit = (np.abs(vectors.conj() @ precoders.T) ** 2).sum(axis=1).reshape(x.shape)
        power += lit / (4 * np.pi * np.maximum(distance, 1.0) ** 2)
    decibels = 10 * np.log10(power)
    top = float(np.quantile(decibels, 0.995))
    with figure_style():
        figure = new_figure(7.6, 6.4)
        axes = figure.subplots()
        image = axes.imshow(
            decibels, origin="lower", extent=(x.min(), x.max(), y.min(), y.max()), cmap="cividis",
            norm=Normalize(top - _RANGE_DB, top),
        )  # fmt: skip
        axes.plot(
            *geometry.stations_m.T, "^", color=VERMILLION, markersize=10, markeredgecolor="white", label="station"
        )
        if len(users):
            axes.plot(*users.T, "o", color="white", markersize=8, markeredgecolor=INK, label="user")
        axes.plot(*geometry.target_m, "*", color=BLUE, markersize=15, markeredgecolor="white", label="target")
        axes.grid(visible=False)
        axes.set_xlabel("x [m]")
        axes.set_ylabel("y [m]")
        axes.set_title(f"{done.said.design.name}: power density of all stations, powers added")
        figure.colorbar(image, ax=axes, label="Power density [dBW/m²]", extend="both")
        axes.legend(loc="upper right", frameon=True, facecolor="white", framealpha=0.85)
        save(figure, path)
