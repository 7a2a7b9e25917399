"""Picture of a WiFi CSI capture: offsets before, and what CSI ratio and CACC leave after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dsp.channel import FloatArray
from dsp.sensing.cross_antenna import coherence
from testbed.csi_analysis import CsiSummary, Pair
from testbed.report.style import BLACK, BLUE, GREY, INK, ORANGE, VERMILLION, figure_style, label_above, new_figure, save

__all__ = ["draw"]

_TURNS = {2: "half", 4: "quarter"}


def draw(summary: CsiSummary, title: str, path: Path) -> None:
    """Write the picture of ``summary`` to ``path`` as PNG; rows that do not apply are left out."""
    pair = summary.best
    moving = summary.motion is not None and summary.motion.waveform.size > 0
    rows = 2 + 2 * (pair is not None) + moving
    time = summary.capture.time_s
    with figure_style():
        figure = new_figure(9.0, 1.9 * rows + 0.5)
        axes = [figure.add_subplot(rows, 1, 1 + row) for row in range(rows)]
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        _timing(axes[0], summary, time, pair)
        _phase(axes[1], time, summary.common_phase_rad, "Common phase of rx0 in each packet, before (rad)", GREY)
        if pair is not None:
            _before(axes[2], time, pair)
            _after(axes[3], time, pair)
        if moving:
            _motion(axes[-1], summary)
        for axis in axes[:-1]:
            axis.sharex(axes[-1])
            axis.tick_params(labelbottom=False)
        axes[-1].set_xlabel("Time after the first packet (s)")
        axes[-1].set_xlim(*(max(float(time[-1]), 1e-6) * edge for edge in (-0.01, 1.01)))
    save(figure, path)


def _size(count: int) -> float:
    """Marker size that keeps thousands of packets apart and hundreds visible."""
    return float(np.clip(40.0 / np.sqrt(max(count, 1)), 0.8, 3.0))


def _timing(axis: Axes, summary: CsiSummary, time: FloatArray, pair: Pair | None) -> None:
    size = _size(len(time))
    before = 1e9 * (summary.timing_s - np.nanmean(summary.timing_s))
    label_above(axis, "Timing offset of each packet about its mean (ns)")
    axis.plot(time, before, "o", ms=size, color=GREY, label=f"before: std {np.nanstd(before):.1f} ns")
    if pair is not None:
        name = f"rx{pair.antenna}/rx{pair.reference}"
        for timing, marker, colour, method in (
            (pair.ratio_timing_s, "s", ORANGE, "CSI ratio"),
            (pair.timing_s, "^", BLUE, "CACC"),
        ):
            left = 1e9 * (timing - np.nanmean(timing))
            label = f"after {method} {name}: std {np.nanstd(left):.2f} ns"
            axis.plot(time, left, marker, ms=size, color=colour, label=label)
    _legend(axis)


def _phase(axis: Axes, time: FloatArray, phase: FloatArray, label: str, colour: str) -> None:
    label_above(axis, f"{label}; |mean exp(jφ)| = {coherence(phase):.3f}")
    axis.plot(time, phase, "o", ms=_size(len(time)), color=colour)
    _turn_axis(axis)


def _before(axis: Axes, time: FloatArray, pair: Pair) -> None:
    name = f"rx{pair.antenna}/rx{pair.reference}"
    label = f"Phase across antennas {name} as reported (rad)"
    if pair.order > 1:
        label += f", {_TURNS[pair.order]}-turn jumps in {pair.turned} packets"
    _phase(axis, time, pair.phase_before_rad, label, VERMILLION)


def _after(axis: Axes, time: FloatArray, pair: Pair) -> None:
    size = _size(len(time))
    label_above(axis, "Phase across antennas after" + (", jumps taken back (rad)" if pair.order > 1 else " (rad)"))
    for phase, marker, colour, method in (
        (pair.ratio_phase_rad, "s", ORANGE, "CSI ratio"),
        (pair.phase_rad, "^", BLUE, "CACC"),
    ):
        mean = np.angle(np.nanmean(np.exp(1j * phase)))
        shown = mean + np.angle(np.exp(1j * (phase - mean)))
        label = f"{method}: |mean exp(jφ)| = {coherence(phase):.3f}"
        axis.plot(time, shown, marker, ms=size, color=colour, label=label)
    _legend(axis)


def _motion(axis: Axes, summary: CsiSummary) -> None:
    motion = summary.motion
    assert motion is not None
    label = "Common component of the CSI ratios (no unit)"
    if motion.rate_per_min is not None:
        label += f": {motion.rate_per_min:.1f} a minute, maxima marked"
    else:
        label += f": {motion.reason}"
    label_above(axis, label)
    axis.plot(motion.time_s, motion.waveform, "-", color=BLACK, lw=1.2)
    for maximum in motion.maxima_s:
        axis.axvline(maximum, color=VERMILLION, ls="--", lw=1.0)


def _turn_axis(axis: Axes) -> None:
    axis.set_ylim(-np.pi - 0.2, np.pi + 0.2)
    axis.set_yticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi], ["−π", "−π/2", "0", "π/2", "π"])


def _legend(axis: Axes) -> None:
    legend = axis.legend(loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=3, handletextpad=0.2)
    for handle in legend.get_lines():
        handle.set_markersize(5.0)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.25 * (high - low))
