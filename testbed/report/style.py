"""How the report's figures look: colours, markers, sizes and the way quantities are written.

Colours are Okabe and Ito's, which remain distinct to colour-blind readers; no two methods share both colour and
marker, so a grey print keeps them apart too. Figures are made with matplotlib's object interface and its Agg
canvas: no global state, no window, the same bytes for the same run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LIGHT_SPEED",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "MethodStyle",
    "Unit",
    "figure_style",
    "label_above",
    "method_style",
    "metres",
    "new_figure",
    "quantity",
    "round_ticks",
    "save",
    "small_share",
    "unit_for",
]

LIGHT_SPEED = 299_792_458.0

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
INK = "#1C2430"

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "#8A94A3",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E9EE",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": "#5A6472",
    "ytick.color": "#5A6472",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "svg.hashsalt": "isac",
}
"""Settings under which every figure is made; nothing is taken from the user's own matplotlibrc."""

RESOLUTION_DPI = 170


def figure_style() -> AbstractContextManager[None]:
    """Context in which figures are made and saved: matplotlib's defaults under these settings, not the user's."""
    settings: Any = {**rcParamsDefault, **_RC}
    return rc_context(settings)


class MethodStyle(NamedTuple):
    """Colour and marker of one method, the same in every figure and every run."""

    colour: str
    marker: str


_METHODS: dict[str, MethodStyle] = {
    "reciprocity-mle": MethodStyle(BLUE, "o"),
    "reciprocity-mp": MethodStyle(VERMILLION, "s"),
    "reciprocity-structured": MethodStyle(GREEN, "D"),
    "spectral-cc": MethodStyle(GREY, "v"),
    "spectral-cc-interpolated": MethodStyle(ORANGE, "^"),
    "cacc": MethodStyle(PURPLE, "P"),
    "csi-ratio": MethodStyle(SKY, "X"),
    "csi-ratio-first-order": MethodStyle(SKY, "d"),
    "path-resolved": MethodStyle(BLACK, "h"),
    "path-resolved-angle": MethodStyle(BLACK, "<"),
    "path-resolved-dictionary": MethodStyle(BLACK, ">"),
    "fingerprint": MethodStyle(PURPLE, "p"),
    "cooperation": MethodStyle(VERMILLION, "H"),
    "cooperation-correlation": MethodStyle(SKY, "8"),
    "auto": MethodStyle(BLACK, "*"),
}


def method_style(method: str) -> MethodStyle:
    """Colour and marker of ``method``; a method unknown to this table is drawn in grey circles."""
    return _METHODS.get(method, MethodStyle(GREY, "o"))


class Unit(NamedTuple):
    """An SI prefix chosen for a set of values: plotted = value · scale."""

    scale: float
    name: str


_PREFIXES = (
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
    (1e-15, "f"),
)
_NO_BREAK = "\N{NARROW NO-BREAK SPACE}"


def unit_for(values: Iterable[float], base: str) -> Unit:
    """SI prefix that puts the largest magnitude of ``values`` between 1 and 1000.

    Seconds and metres never take a prefix above one: nobody reads kiloseconds.
    """
    magnitude = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    if magnitude == 0.0:
        return Unit(1.0, base)
    largest = 1.0 if base in {"s", "m"} else 1e9
    for size, prefix in _PREFIXES:
        if size <= largest and magnitude >= 0.9995 * size:
            return Unit(1.0 / size, prefix + base)
    return Unit(1e15, "f" + base)


def quantity(value: float | None, base: str, *, digits: int = 3) -> str:
    """``value`` with three significant digits and its unit, as "7.42 ps"; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    value = float(f"{value:.{digits - 1}e}")  # rounded first, so that 999.6 ps becomes 1.00 ns
    unit = unit_for([value], base)
    scaled = value * unit.scale
    if scaled == 0.0:
        return f"0{_NO_BREAK}{base}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(scaled)) + 1e-9))
    text = f"{scaled:.{min(decimals, digits)}f}".replace("-", "−")
    if float(text.replace("−", "-")) == 0.0:
        return f"0{_NO_BREAK}{base}"
    return f"{text}{_NO_BREAK}{unit.name}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def small_share(value: float) -> str:
    """A rate far below one, as "5.2 × 10⁻⁷"."""
    if value >= 0.01 or value <= 0:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}{_NO_BREAK}×{_NO_BREAK}10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def metres(value: float | None) -> str:
    """Length in metres with two decimals, in millimetres below a centimetre."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 0.01:
        return quantity(value, "m", digits=2)
    return f"{value:.2f}{_NO_BREAK}m".replace("-", "−")


def new_figure(width_in: float, height_in: float) -> Figure:
    """Figure on an Agg canvas with the layout solved when drawn; call inside `figure_style`."""
    # the default padding cuts the headings of axes of equal aspect
    figure = Figure(figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(h_pad=0.09))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG without the software's version in it, so that equal runs give equal bytes."""
    with figure_style():
        figure.savefig(path, dpi=RESOLUTION_DPI, format="png", metadata={"Software": None})


def label_above(axes: Axes, text: str) -> None:
    """Name and unit of the vertical axis, written level above it where it is read without turning the head."""
    axes.set_title(text, fontsize=9.0, fontweight="normal", loc="left", pad=7)


def round_ticks(axes: Axes, rounds: Iterable[int]) -> None:
    """Whole rounds on the horizontal axis, each one where they are few, with half a round of margin."""
    values = np.unique(np.asarray(list(rounds), dtype=int))
    if values.size == 0:
        return
    step = max(1, math.ceil((values[-1] - values[0] + 1) / 12))
    axes.set_xticks(np.arange(values[0], values[-1] + 1, step))
    axes.set_xlim(values[0] - 0.5, values[-1] + 0.5)
    axes.set_xlabel("Round")
