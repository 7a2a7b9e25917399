"""Picture of an AD936x's FIR filters against their specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from testbed.report.style import BLUE, GREY, VERMILLION, figure_style, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from firmware_cfg.filters import Filter, FilterPair

__all__ = ["write_filter_figure"]

_POINTS = 6000
_FLOOR_DB = -120.0


def write_filter_figure(pair: FilterPair, path: Path) -> None:
    """Draw both directions' response, half-band stages included: all of it, and the pass band."""
    with figure_style():
        figure = new_figure(7.2, 6.0)
        whole, passed = figure.subplots(2, 1)
        for one, colour, line in ((pair.receive, BLUE, "-"), (pair.transmit, VERMILLION, "--")):
            _whole(whole, one, colour, line)
            _passed(passed, one, colour, line)
        wanted, chain = pair.receive.specification, pair.receive.chain
        mask = {"color": GREY, "linewidth": 1.2, "linestyle": ":"}
        half_mhz = 0.5e-6 * chain.fir_rate_hz
        whole.plot([1e-6 * wanted.stop_hz, half_mhz], [-wanted.attenuation_db] * 2, label="allowed", **mask)
        whole.set_ylim(_FLOOR_DB, 5)
        whole.set_xlim(0, 0.5e-6 * min(one.chain.converter_hz for one in (pair.receive, pair.transmit)))
        whole.set_title("Chain from converter to samples")
        for edge in (0.5 * wanted.ripple_db, -0.5 * wanted.ripple_db):
            passed.plot([0, 1e-6 * wanted.pass_hz], [edge] * 2, **mask)
        passed.set_xlim(0, 1.08e-6 * wanted.pass_hz)
        passed.set_ylim(-1.5 * wanted.ripple_db, 1.5 * wanted.ripple_db)
        passed.set_title("Pass band")
        for axes in (whole, passed):
            axes.set_xlabel("Frequency from the carrier [MHz]")
            axes.set_ylabel("Amplitude [dB]")
        whole.legend(loc="upper right")
    save(figure, path)


def _whole(axes: Axes, one: Filter, colour: str, line: str) -> None:
    frequency_hz = np.linspace(0.0, 0.5 * one.chain.converter_hz, _POINTS)
    level = np.maximum(one.amplitude(frequency_hz) / one.amplitude(np.zeros(1)), 10 ** (_FLOOR_DB / 20 - 1))
    axes.plot(
        1e-6 * frequency_hz, 20 * np.log10(level), color=colour, linestyle=line, label=one.chain.direction, lw=1.0
    )


def _passed(axes: Axes, one: Filter, colour: str, line: str) -> None:
    frequency_hz = np.linspace(0.0, 1.08 * one.specification.pass_hz, _POINTS)
    level = one.amplitude(frequency_hz)
    inside = level[frequency_hz <= one.specification.pass_hz]
    # Drawn about the middle of what the pass band spans, which is how ripple is judged.
    axes.plot(
        1e-6 * frequency_hz, 20 * np.log10(level / np.sqrt(inside.max() * inside.min())), color=colour, linestyle=line
    )
