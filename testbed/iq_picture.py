"""Picture of what `isac iq` measured: offsets of each packet, or the drift of a cell's frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from testbed.report.style import BLUE, GREY, INK, ORANGE, VERMILLION, figure_style, label_above, new_figure, save

__all__ = ["draw"]


def draw(document: dict[str, Any], title: str, path: Path) -> None:
    """Write the picture of the figures of `testbed.iq_analysis.figures` to ``path`` as PNG."""
    with figure_style():
        figure = new_figure(9.0, 4.6)
        axes = figure.subplots(2, 1, sharex=True)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        if document["standard"] == "wifi":
            _wifi(axes, document)
        else:
            _lte(axes, document)
    save(figure, path)


def _wifi(axes: Any, document: dict[str, Any]) -> None:
    packets = document["packet"]
    time = 1e3 * np.array([packet["start_s"] for packet in packets])
    label_above(axes[0], "Carrier frequency offset of each packet, long training field (kHz)")
    axes[0].plot(time, [1e-3 * packet["cfo_hz"] for packet in packets], "o", ms=4, color=BLUE)
    axes[0].axhline(1e-3 * document["cfo_hz"], color=GREY, lw=1.0, ls="--")
    label_above(axes[1], "Signal-to-noise ratio per subcarrier (dB): circles 802.11a/g, squares 802.11n")
    for name, marker, colour in (("802.11a/g", "o", BLUE), ("802.11n", "s", ORANGE)):
        chosen = [packet["format"] == name for packet in packets]
        snr = np.array([packet["snr_db"] for packet in packets])
        axes[1].plot(time[chosen], snr[chosen], marker, ms=4, color=colour)
    axes[1].set_xlabel("Start of the packet (ms)")


def _lte(axes: Any, document: dict[str, Any]) -> None:
    timing = np.array(document["timing_s"])
    time = 5e-3 * np.arange(len(timing))
    slope = 1e-6 * document["sfo_ppm"]
    rest = timing - slope * time
    rest -= np.median(rest)
    words = f"Timing of each primary sequence against 5 ms on the receiver's clock (ns): {document['sfo_ppm']:+.2f} ppm"
    label_above(axes[0], words)
    axes[0].plot(1e3 * time, 1e9 * timing, "o", ms=4, color=BLUE)
    axes[0].plot(1e3 * time, 1e9 * (slope * time + np.median(timing - slope * time)), "-", color=GREY, lw=1.0)
    label_above(axes[1], "The same about the line (ns)")
    axes[1].plot(1e3 * time, 1e9 * rest, "o", ms=4, color=VERMILLION)
    axes[1].set_xlabel("Time after the first half frame (ms)")
