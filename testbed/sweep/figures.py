"""Pictures of a sweep: one a metric, a panel for each key that varies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from testbed.report.style import BLACK, GREY, figure_style, method_style, new_figure, save, unit_for

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["draw_metrics"]

_MOST_TICKS = 12
"""A key with more different values is shown as a cloud, pooled over bins."""
_BINS = 8
_MOST_PANELS = 6
_NAMES = {
    "to_rmse": "Time offset RMSE",
    "cfo_rmse": "Carrier frequency offset RMSE",
    "to_normalized_error": "Time offset error over stated deviation",
    "cfo_normalized_error": "Frequency offset error over stated deviation",
    "range_rmse": "Bistatic range RMSE",
    "velocity_rmse": "Bistatic velocity RMSE",
    "position_rmse": "Position RMSE",
    "valid_share": "Share of valid estimates",
    "found_share": "Share of rounds in which the target was found",
    "bit_error_rate": "Bit error rate",
}
"""Metrics worth a picture, and what their axes say."""

Floats = NDArray[np.float64]


def draw_metrics(table: pa.Table, keys: Sequence[str], folder: Path) -> list[Path]:
    """Paths of one PNG a metric, drawn from a sweep's ``table`` over the varied ``keys``.

    At each value of a key, seeds and the other keys are pooled: root mean square errors as such, shares as means, by
    their trials, with standard errors as bars; dashed, what the bound predicts, pooled likewise.
    """
    columns = {name: np.array(table.column(name).to_pylist(), dtype=object) for name in table.column_names}
    shown = [key for key in keys if len({str(value) for value in columns[key]}) > 1][:_MOST_PANELS] or ["seed"]
    paths = []
    folder.mkdir(exist_ok=True)
    with figure_style():
        for metric, title in _NAMES.items():
            rows = np.array([a == metric and b is not None for a, b in zip(columns["metric"], columns["value"])])  # noqa: B905
            if rows.any():
                path = folder / f"{metric}.png"
                _draw({name: column[rows] for name, column in columns.items()}, shown, title, path)
                paths.append(path)
    return paths


def _draw(columns: dict[str, Any], keys: Sequence[str], title: str, path: Path) -> None:
    across = min(len(keys), 2)
    figure = new_figure(5.4 * across + 1.4, 3.4 * ceil(len(keys) / across) + 0.5)
    panels = figure.subplots(ceil(len(keys) / across), across, squeeze=False, sharey=True)
    values = columns["value"].astype(float)
    unit = unit_for(values, columns["unit"][0]) if columns["unit"][0] != "1" else None
    scale = 1.0 if unit is None else unit.scale
    positive = values[values > 0]
    wide = positive.size == values.size and positive.max() > 20 * positive.min()
    root = path.stem.endswith("_rmse") or path.stem.endswith("_error")
    for axes, key in zip(panels.flat, keys, strict=False):
        places, labels = _places(columns[key])
        for number, (name, rows) in enumerate(_series(columns)):
            style = method_style(name)
            points = _Points(places[rows], scale * values[rows], columns["trials"][rows], root)
            _line(axes, points, style.colour, style.marker, name, number)
            bounds = np.array([np.nan if x is None else x for x in columns["bound"][rows]], dtype=float)
            if np.isfinite(bounds).any() and "normalized" not in path.stem:
                x, middle, _ = _pooled(_Points(places[rows], scale * bounds, columns["trials"][rows], root))
                axes.plot(x, middle, "--", color=style.colour, linewidth=1.0, alpha=0.8)
        axes.set_xlabel(key)
        if labels is not None:
            axes.set_xticks(range(len(labels)), labels)
        if wide:
            axes.set_yscale("log")
    for axes in list(panels.flat)[len(keys) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(title if unit is None else f"{title} [{unit.name}]")
    handles, names = panels.flat[0].get_legend_handles_labels()
    if np.any([x is not None for x in columns["bound"]]) and "normalized" not in path.stem:
        handles += panels.flat[0].plot([], [], "--", color=BLACK, linewidth=1.0)
        names.append("what the bound predicts")
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    save(figure, path)


def _series(columns: dict[str, Any]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name in dict.fromkeys(columns["method"]):
        yield name or "all links", columns["method"] == name


def _places(values: NDArray[Any]) -> tuple[Floats, list[str] | None]:
    """Where values stand on the axis: numbers at themselves, words and lists side by side."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values.astype(float), None
    words = list(dict.fromkeys(str(value) for value in values))
    return np.array([words.index(str(value)) for value in values], dtype=float), words


@dataclass(frozen=True)
class _Points:
    """One method's figures: where they stand, what they are, how many trials each has."""

    x: Floats
    y: Floats
    trials: NDArray[Any]
    root: bool
    """Pooled as root mean square, else as mean."""


def _line(axes: Axes, points: _Points, colour: str, marker: str, name: str, number: int) -> None:
    if len(np.unique(points.x)) > _MOST_TICKS:
        cloud = colour if colour != BLACK else GREY
        axes.plot(points.x, points.y, marker, color=cloud, markersize=3, alpha=0.35, linestyle="none")
    where, middle, error = _pooled(points)
    step = 0.006 * (np.ptp(where) or 1.0)  # bars side by side, not on one another
    axes.errorbar(
        where + step * number,
        middle,
        yerr=error,
        color=colour,
        marker=marker,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1.0,
        capsize=2.0,
        label=name,
    )


def _pooled(points: _Points) -> tuple[Floats, Floats, Floats]:
    """Places, pooled figures and their standard errors: at each value, or over bins where the values are many."""
    finite = np.isfinite(points.y)
    x, y = points.x[finite], points.y[finite]
    weights = np.array([trials or 1 for trials in points.trials[finite]], dtype=float)
    values = np.unique(x)
    if len(values) <= _MOST_TICKS:
        groups = [np.flatnonzero(x == value) for value in values]
    else:
        groups = np.array_split(np.argsort(x), _BINS)
    found = []
    for group in groups:
        trials = weights[group].sum()
        mean = float(np.average(y[group] ** 2 if points.root else y[group], weights=weights[group]))
        value = mean**0.5 if points.root else mean
        error = value / (2 * trials) ** 0.5 if points.root else (max(value * (1 - value), 0.0) / trials) ** 0.5
        found.append((float(np.mean(x[group])), value, error))
    where, middle, errors = (np.array(column) for column in zip(*found, strict=True))
    return where, middle, errors
