"""Picture of what each node's converter sees: the spectra of itself, of the others and of silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, figure_style, new_figure, save

if TYPE_CHECKING:
    from testbed.calibrating.levels import NodeLevels

__all__ = ["write_levels_figure"]

_COLOURS = (BLUE, GREEN, ORANGE, PURPLE)


def write_levels_figure(nodes: Sequence[NodeLevels], path: Path) -> None:
    """Draw one panel for each node."""
    with figure_style():
        figure = new_figure(7.2, 2.6 * len(nodes))
        panels = figure.subplots(len(nodes), 1, squeeze=False, sharex=True)[:, 0]
        for axes, one in zip(panels, nodes, strict=True):
            others = [name for name in one.spectra if name not in ("silence", one.node)]
            colours = {"silence": GREY, one.node: VERMILLION} | dict(zip(others, _COLOURS * len(others), strict=False))
            for name, (frequency_hz, power_db) in one.spectra.items():
                label = {"silence": "silence", one.node: f"{name} (itself)"}.get(name, name)
                axes.plot(1e-6 * frequency_hz, power_db, color=colours[name], label=label, linewidth=1.0)
            axes.set_ylabel("Power per bin [dBFS]")
            axes.set_title(f"{one.node} hears")
            axes.legend(loc="upper right", ncols=2)
            top = max((float(power.max()) for _, power in one.spectra.values() if power.size), default=0.0)
            axes.set_ylim(top=top + 22)
        panels[-1].set_xlabel("Frequency from the carrier [MHz]")
    save(figure, path)
