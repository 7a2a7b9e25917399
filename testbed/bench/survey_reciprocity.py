"""The survey's Fig. 7: the offsets that two nodes see of each other, frame by frame, are one another's negatives."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from dsp.bounds.fingerprint import fingerprint_to_std_s
from dsp.bounds.link import doppler_std_hz, product_factor, two_way_cfo_std_hz, two_way_to_std_s
from dsp.channel import ChannelState, FloatArray
from dsp.moment import Moment
from dsp.synchronization.base import Method, Need, Observation
from dsp.synchronization.fingerprint import FingerprintMethod, take_fingerprint
from dsp.synchronization.registry import METHODS
from testbed.bench.rows import BenchRow
from testbed.bench.tally import Tally

__all__ = ["picture_7", "points_7"]

SUBCARRIERS = 256
SPACING_HZ = 120e3
SYMBOLS = 64
SYMBOL_S = 0.25e-3
STATIC_PATHS = 6
TARGET_DB = -10.0
CARRIER_HZ = Fraction(28_000_000_000)
SNR_DB = (0.0, 10.0, 20.0)
FRAMES = 4
"""Of one scene in a trial, after the one from which either node takes its fingerprint."""
_PICTURE_FRAMES = 24
_TWO_WAY = ("reciprocity-mle", "reciprocity-mp", "spectral-cc")
_RATE_HZ = Fraction(round(SPACING_HZ) * SUBCARRIERS)


@dataclass(frozen=True)
class _Frame:
    """Both directions at one time."""

    forward: ChannelState
    reverse: ChannelState
    to_s: float
    cfo_hz: float


def points_7(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SNR."""
    return [partial(_point, trials, [seed, 7, number], level) for number, level in enumerate(SNR_DB)]


def picture_7(path: Path, seed: int) -> None:
    """Write offsets over frames: node 1's view of node 2, node 2's of node 1, and their sum."""
    from testbed.report.style import BLUE, GREEN, GREY, VERMILLION, figure_style, label_above, new_figure, save

    generator = np.random.default_rng([seed, 7])
    scene = _Scene(generator, 10.0)
    seen = _one_way(scene.frame(generator), [scene.frame(generator) for _ in range(_PICTURE_FRAMES)])
    units = (("Time offset (ns)", 1e9, "Sum of both (ps)", 1e12), ("CFO (Hz)", 1.0, "Sum of both (Hz)", 1.0))
    with figure_style():
        figure = new_figure(9.2, 6.4)
        for column, (name, scale, sum_name, sum_scale) in enumerate(units):
            values = np.array([[there[column], back[column]] for there, back, _ in seen])
            true = np.array([(frame.to_s, frame.cfo_hz)[column] for _, _, frame in seen])
            number = np.arange(1, len(values) + 1)
            axes = figure.add_subplot(2, 2, 1 + column)
            axes.plot(number, true * scale, color=GREY, linewidth=3.0, alpha=0.5, label="true")
            axes.plot(number, -true * scale, color=GREY, linewidth=3.0, alpha=0.5)
            sides = ((BLUE, "o", "node 1 of node 2"), (VERMILLION, "s", "node 2 of node 1"))
            for series, (colour, marker, label) in zip(values.T, sides, strict=True):
                axes.plot(number, series * scale, marker, color=colour, markersize=4.5, label=label)
            label_above(axes, name)
            axes.set_ylim(top=1.35 * float(np.max(np.abs(true))) * scale)
            axes.legend(loc="upper center", ncols=3)
            axes = figure.add_subplot(2, 2, 3 + column)
            axes.axhline(0.0, color=GREY, linewidth=1.0)
            axes.plot(number, values.sum(axis=1) * sum_scale, "D", color=GREEN, markersize=4.5)
            label_above(axes, sum_name)
            axes.set_xlabel("Frame")
        figure.suptitle(
            "Survey Fig. 7: offsets that two nodes see of each other",
            fontsize=10.5,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
        save(figure, path)


class _Scene:
    """Static paths that both nodes see, and offsets and a target new in every frame."""

    def __init__(self, generator: np.random.Generator, snr_db: float) -> None:
        gains = generator.normal(size=STATIC_PATHS) + 1j * generator.normal(size=STATIC_PATHS)
        delays_s = generator.uniform(0.1e-6, 1.5e-6, STATIC_PATHS)
        self._f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * SPACING_HZ
        self._t = (np.arange(SYMBOLS) - (SYMBOLS - 1) / 2) * SYMBOL_S
        self._static = np.exp(-2j * pi * np.outer(self._f, delays_s)) @ (gains / np.linalg.norm(gains))
        self._noise = 10.0 ** (-snr_db / 10.0)
        self._frames = 0

    def frame(self, generator: np.random.Generator) -> _Frame:
        """Both directions at once: time offset ±100 ns, CFO ±400 Hz, target at -10 dB, 0.1 to 1.9 kHz."""
        stretch = 1.0 + self._f / float(CARRIER_HZ)
        to_s, cfo_hz = float(generator.uniform(-100e-9, 100e-9)), float(generator.uniform(-400.0, 400.0))
        delay_s = generator.uniform(0.2e-6, 1.5e-6)
        doppler_hz = generator.choice([-1.0, 1.0]) * generator.uniform(100.0, 1900.0)
        turns = np.outer(self._t * doppler_hz, stretch) - delay_s * self._f
        scene = self._static + sqrt(10.0 ** (TARGET_DB / 10.0)) * np.exp(2j * pi * (turns + generator.random()))
        offset = np.exp(2j * pi * (np.outer(self._t * cfo_hz, stretch) - to_s * self._f))
        self._frames += 1
        states = [
            self._state(generator, scene * turn, clock) for clock, turn in (("n", offset), ("m", np.conj(offset)))
        ]
        return _Frame(states[0], states[1], to_s, cfo_hz)

    def _state(self, generator: np.random.Generator, values: Any, clock: str) -> ChannelState:
        scatter = generator.normal(size=(*values.shape, 2)).view(np.complex128)[..., 0]
        return ChannelState(
            values=(values + sqrt(self._noise / 2.0) * scatter)[None],
            weights=np.ones(values.shape),
            subcarrier_hz=self._f,
            symbol_s=self._t,
            reference=Moment(clock, self._frames * 1_000_000, 0.0, _RATE_HZ),
            cfo_reference_hz=0.0,
            carrier_hz=CARRIER_HZ,
            noise=np.array([self._noise]),
            frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
        )


def _one_way(first: _Frame, frames: list[_Frame]) -> list[tuple[tuple[float, float], tuple[float, float], _Frame]]:
    """Offsets that each node finds alone, by its fingerprint of the first frame; frames it refuses are left out."""
    prints = [
        take_fingerprint(state, _departure(state, other), transmitter=other, to_s=to_s)
        for state, other, to_s in ((first.forward, "m", first.to_s), (first.reverse, "n", -first.to_s))
    ]
    found = []
    for frame in frames:
        pair = []
        for state, other, fingerprint in ((frame.forward, "m", prints[0]), (frame.reverse, "n", prints[1])):
            seen = Observation(state, _departure(state, other), extras={Need.FINGERPRINT: fingerprint})
            offset = FingerprintMethod().estimate(seen)
            if offset.valid and offset.to_s is not None and offset.cfo_hz is not None:
                pair.append((offset.to_s, offset.cfo_hz))
        if len(pair) == 2:
            found.append((pair[0], pair[1], frame))
    return found


def _departure(state: ChannelState, clock: str) -> Moment:
    return Moment(clock, state.reference.tick, 0.0, _RATE_HZ)


def _point(trials: int, seed: list[int], snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    snr = 10.0 ** (snr_db / 10.0)
    size = SUBCARRIERS, SPACING_HZ, SYMBOLS
    one_way = fingerprint_to_std_s(*size, snr), doppler_std_hz(SUBCARRIERS, SYMBOLS, SYMBOL_S, snr)
    two_way = two_way_to_std_s(*size, snr), two_way_cfo_std_hz(SUBCARRIERS, SYMBOLS, SYMBOL_S, snr)
    factor = product_factor(snr)
    parameters = {"snr_db": snr_db}
    names = ("fingerprint, 1 of 2", "fingerprint, 2 of 1", "sum of both")
    alone = {name: Tally("survey-7", name, parameters) for name in names}
    together = {name: Tally("survey-7", name, parameters) for name in _TWO_WAY}
    for _ in range(trials):
        scene = _Scene(generator, snr_db)
        first = scene.frame(generator)
        frames = [scene.frame(generator) for _ in range(FRAMES)]
        try:
            seen = _one_way(first, frames)
        except ValueError:  # a scene too faded for a fingerprint
            seen = []
        for there, back, frame in seen:
            true: FloatArray = np.array([frame.to_s, frame.cfo_hz])
            errors = (np.array(there) - true, np.array(back) + true, np.array(there) + np.array(back))
            for name, error, widening in zip(names, errors, (1.0, 1.0, sqrt(2.0)), strict=True):
                alone[name].add("to", float(error[0]), widening * one_way[0])
                alone[name].add("cfo", float(error[1]), widening * one_way[1])
        for name in names:
            for number in range(FRAMES):
                alone[name].count(None, valid=number < len(seen))
        for frame in frames:
            for name, tally in together.items():
                _two_way(METHODS[name], tally, frame, (two_way[0] * factor, two_way[1] * factor))
    return [row for tally in (*alone.values(), *together.values()) for row in tally.rows()]


def _two_way(method: Method, tally: Tally, frame: _Frame, bounds: tuple[float, float]) -> None:
    observation = Observation(
        forward=frame.forward,
        departure=_departure(frame.forward, "m"),
        reverse=frame.reverse,
        reverse_departure=_departure(frame.reverse, "n"),
    )
    tally.offset(tally.run(method, observation), (frame.to_s, bounds[0]), (frame.cfo_hz, bounds[1]))
