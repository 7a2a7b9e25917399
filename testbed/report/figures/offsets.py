"""Time and frequency offset of one link over the rounds, by each method, against truth and prediction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, SymmetricalLogLocator
from numpy.typing import NDArray

from testbed.report.figures import Drawing, LeftOut
from testbed.report.run_data import Row, RunData, epoch_seconds
from testbed.report.style import (
    BLACK,
    INK,
    Unit,
    label_above,
    method_style,
    new_figure,
    quantity,
    round_ticks,
    unit_for,
)
from testbed.report.summary import KEYS, Quantity, residuals

__all__ = ["draw"]

FloatArray = NDArray[np.float64]

_BANDS = ((2.0, "#E3EAF2"), (1.0, "#C3D3E4"))
_NAMES: dict[Quantity, tuple[str, str]] = {"to": ("Time offset", "s"), "cfo": ("Carrier frequency offset", "Hz")}


def _column(rows: list[Row], key: str) -> FloatArray:
    return np.array([np.nan if row.get(key) is None else row[key] for row in rows], dtype=np.float64)


def _rounds(rows: list[Row]) -> NDArray[np.int64]:
    return np.array([int(row["round"]) for row in rows], dtype=np.int64)


def _present(rows: list[Row], quantity_name: Quantity) -> bool:
    return bool(np.isfinite(_column(rows, KEYS[quantity_name][0])).any())


def _reference(table: dict[str, list[Row]], which: Quantity, preferred: str | None) -> str | None:
    """Method whose prediction is drawn as the band: the headline's, else the first that predicts."""
    able = [m for m, rows in table.items() if np.isfinite(_column(rows, KEYS[which][2])).any()]
    return preferred if preferred in able else next(iter(able), None)


def _dodge(methods: int, index: int) -> float:
    """Sideways shift in rounds that keeps coinciding markers apart."""
    return 0.0 if methods < 2 else 0.5 * (index / (methods - 1) - 0.5)


def _band(axes: Axes, rounds: NDArray[np.int64], std: FloatArray, unit: Unit) -> None:
    edges = np.concatenate([rounds - 0.5, rounds[-1:] + 0.5])
    for sigmas, colour in _BANDS:
        top = np.append(std, std[-1:]) * sigmas * unit.scale
        axes.fill_between(edges, -top, top, step="post", color=colour, linewidth=0, zorder=0)


def _markers(
    axes: Axes, rows: list[Row], y: FloatArray, std: FloatArray | None, method: str, shift: float, size: float
) -> None:
    """Filled where the method vouches for its estimate, hollow where it says itself that it is invalid."""
    style = method_style(method)
    valid = np.array([bool(row["valid"]) for row in rows], dtype=bool)
    x = _rounds(rows) + shift
    for mask, face in ((valid, style.colour), (~valid, "white")):
        if not np.isfinite(y[mask]).any():
            continue
        container = axes.errorbar(
            x[mask],
            y[mask],
            yerr=None if std is None else std[mask],
            fmt=style.marker,
            color=style.colour,
            markerfacecolor=face,
            markeredgecolor="white" if face == style.colour else style.colour,
            markeredgewidth=0.6 if face == style.colour else 1.2,
            markersize=size,
            elinewidth=1.0,
            zorder=3,
        )
        for bar in container[2]:  # on the axis' logarithmic part a bar is taller than it weighs
            bar.set_alpha(0.45)


def _at_epochs_of(reference: list[Row], rows: list[Row], carrier_hz: float) -> FloatArray:
    """Time offsets of ``rows`` carried by their own frequency offset to the epochs of ``reference`` in the same rounds.

    A method of one direction gives it at the middle of a slot, a two-way one midway between two slots.
    """
    epochs = {int(row["round"]): row.get("epoch") for row in reference}
    values = _column(rows, "to_s")
    for index, row in enumerate(rows):
        here, there = row.get("epoch"), epochs.get(int(row["round"]))
        if here and there and here["clock"] == there["clock"] and row.get("cfo_hz") is not None:
            values[index] -= row["cfo_hz"] / carrier_hz * epoch_seconds(there, here)
    return values


def _offset_panel(
    axes: Axes, table: dict[str, list[Row]], which: Quantity, reference: str, *, truth: bool, carrier_hz: float
) -> None:
    """What was estimated, as it moved over the rounds: drift in view, whole seconds taken off."""
    key, error_key, _ = KEYS[which]
    name, base = _NAMES[which]
    rows = table[reference]
    values = _column(rows, key)
    origin = float(values[np.isfinite(values)][0])
    std = _column(rows, KEYS[which][2])
    margin = 6 * float(np.nanmax(std)) if np.isfinite(std).any() else 0.0
    unit = unit_for([*(values[np.isfinite(values)] - origin), margin], base)
    many = len(rows) > 60
    for index, (method, method_rows) in reversed(list(enumerate(table.items()))):
        given = _at_epochs_of(rows, method_rows, carrier_hz) if which == "to" else _column(method_rows, key)
        y = (given - origin) * unit.scale
        _markers(axes, method_rows, y, None, method, 0.0, 3.2 if many else 5.0 + min(1.6, 9.0 / len(table)) * index)
    own = (values[np.isfinite(values)] - origin) * unit.scale
    room = max(0.2 * float(np.ptp(own)), margin * unit.scale)
    if room > 0:  # coarse methods must not squeeze the drift flat; where they lie is seen below
        axes.set_ylim(own.min() - room, own.max() + room)
    if truth:
        true = (values - _column(rows, error_key) - origin) * unit.scale
        axes.plot(
            _rounds(rows),
            true,
            color=BLACK,
            linewidth=1.2,
            marker="" if len(rows) > 1 else "_",
            markersize=22,
            zorder=2,
        )
    sign = "minus" if origin >= 0 else "plus"
    label_above(axes, f"{name} {sign} {quantity(abs(origin), base, digits=6)}, in {unit.name}")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelbottom=False)


def _error_scale(axes: Axes, errors: FloatArray, width: float) -> bool:
    """Linear axis where all methods are of one size, else linear around zero and logarithmic beyond; which it is."""
    largest = float(np.max(np.abs(errors)))
    if largest <= 8 * width:
        limit = 1.15 * max(largest, 2.2 * width)
        axes.set_ylim(-limit, limit)
        axes.yaxis.set_major_locator(MaxNLocator(7, symmetric=True))
        return False
    linear = 3 * width
    axes.set_yscale("symlog", linthresh=linear, linscale=1.6)
    decades = range(math.ceil(math.log10(linear * 1.3)), math.ceil(math.log10(largest)) + 1)
    step = 10 ** math.floor(math.log10(linear))
    inner = [m * step for m in (1, 2, 5) if m * step <= linear][-1]
    positive = [inner, *(10.0**d for d in decades)]
    axes.set_yticks([-t for t in reversed(positive)] + [0.0] + positive)
    axes.yaxis.set_minor_locator(SymmetricalLogLocator(base=10, linthresh=linear, subs=[2, 5]))
    axes.set_ylim(-largest * 1.8, largest * 1.8)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:+,.10g}".replace("-", "−").replace(",", " ") if v else "0")
    )
    for edge in (-linear, linear):
        axes.axhline(edge, color="#B5BDC9", linewidth=0.7, linestyle=(0, (2, 3)), zorder=1)
    return True


def _error_panel(axes: Axes, table: dict[str, list[Row]], which: Quantity, reference: str, *, truth: bool) -> bool:
    name, base = _NAMES[which]
    std_key = KEYS[which][2]
    errors = {m: residuals(rows, which, truth=truth) for m, rows in table.items()}
    pooled = np.concatenate(list(errors.values()))
    pooled = pooled[np.isfinite(pooled)]
    rows = table[reference]
    std = _column(rows, std_key)
    width = float(np.nanmedian(std)) if np.isfinite(std).any() else float(np.median(np.abs(pooled)))
    width = width or float(np.max(np.abs(pooled))) or 1.0  # errors all zero: any scale will do
    unit = unit_for([3 * width], base)
    if np.isfinite(std).any():
        _band(axes, _rounds(rows), std, unit)
    axes.axhline(0.0, color=BLACK, linewidth=1.2, zorder=2)
    many = len(rows) > 60
    for index, (method, method_rows) in enumerate(table.items()):
        own = _column(method_rows, std_key) * unit.scale
        shift, size = (0.0, 3.2) if many else (_dodge(len(table), index), 6.5)
        _markers(axes, method_rows, errors[method] * unit.scale, None if many else own, method, shift, size)
    broken = _error_scale(axes, pooled * unit.scale, width * unit.scale)
    what = "error" if truth else "off a straight line"
    label_above(axes, f"{name}, {what}, in {unit.name}")
    return broken


def _legend(methods: list[str], band: str | None, *, truth: bool, invalid: bool) -> list[Any]:
    handles: list[Any] = []
    for method in methods:
        style = method_style(method)
        handles.append(Line2D([], [], color=style.colour, marker=style.marker, linestyle="none", label=method))
    if invalid:
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                marker="o",
                markerfacecolor="white",
                linestyle="none",
                label="hollow: said to be invalid",
            )
        )
    handles.append(Line2D([], [], color=BLACK, label="truth" if truth else "fitted line"))
    if band:
        for sigmas, colour in reversed(_BANDS):
            handles.append(Patch(color=colour, label=f"±{sigmas:.0f}σ predicted for {band}"))
    return handles


def _left_out(run: RunData, link: str) -> str:
    rows = [row for m in run.methods for row in run.link_rows(link, m)]
    reasons = dict.fromkeys(str(row.get("reason") or "") for row in rows)
    said = "; ".join(r for r in reasons if r)
    return f"No method gave a clock offset on this link{': ' + said if said else ''}."


def draw(run: RunData, link: str, preferred: str | None) -> Drawing | LeftOut:
    """Offsets of ``link`` over the rounds (above) and their errors with the predicted deviation (below)."""
    title = f"Offsets of {link}"
    every = {m: run.link_rows(link, m) for m in run.methods}
    columns: list[tuple[Quantity, dict[str, list[Row]]]] = []
    for which in ("to", "cfo"):
        table = {m: rows for m, rows in every.items() if rows and _present(rows, which)}
        if any(np.isfinite(residuals(rows, which, truth=run.has_truth)).any() for rows in table.values()):
            columns.append((which, table))
    if not columns:
        return LeftOut(title, _left_out(run, link))
    figure = new_figure(10.0, 5.6)
    grid = figure.subplots(2, len(columns), squeeze=False, height_ratios=[1.0, 1.75], sharex=True)
    broken = False
    band: str | None = None
    for column, (which, table) in enumerate(columns):
        found = _reference(table, which, preferred)
        reference = found or next(iter(table))
        band = found if found and column == 0 else band
        carrier_hz = float(run.scenario.get("waveform", {}).get("carrier_hz") or math.inf)
        _offset_panel(grid[0][column], table, which, reference, truth=run.has_truth, carrier_hz=carrier_hz)
        broken |= _error_panel(grid[1][column], table, which, reference, truth=run.has_truth)
        round_ticks(grid[1][column], [int(r["round"]) for rows in table.values() for r in rows])
    shown = list(dict.fromkeys(m for _, table in columns for m in table))
    invalid = any(not row["valid"] for m in shown for row in every[m] if row.get("to_s") is not None)
    handles = _legend(shown, band, truth=run.has_truth, invalid=invalid)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return Drawing(f"offsets-{link.replace(' ← ', '-from-')}", title, figure, _caption(run, broken, band), _alt(link))


def _caption(run: RunData, broken: bool, band: str | None) -> str:
    parts = [
        "Above: the offset of the receiver's clock against the transmitter's as it moves from round to round; the "
        "markers of all methods should lie "
        + ("on the true line" if run.has_truth else "within one another")
        + "; coarse ones may lie beyond the frame. Epochs differ by method: all are carried to one by their own CFO.",
        "Below: the same less "
        + ("the truth" if run.has_truth else "a straight line fitted to each method's valid estimates")
        + ".",
    ]
    if band:
        parts.append(
            f"Each method's predicted ±1σ is drawn as a bar, that of {band} as bands: two thirds of its markers belong "
            "in the dark band and nineteen of twenty in the light one."
        )
    if not run.has_truth:
        parts.append("What the line leaves includes the wander of the clocks themselves.")
    if broken:
        parts.append("Beyond the dotted lines the error axis is logarithmic, so that coarse methods stay in view.")
    parts.append("Markers below are set side by side within a round for legibility only.")
    return " ".join(parts)


def _alt(link: str) -> str:
    return f"Time and carrier frequency offset of {link} over the rounds by each method, and their errors."
