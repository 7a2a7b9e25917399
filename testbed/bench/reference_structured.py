"""Reference R-A with amplitudes that are not reciprocal, and ports that are separate (methods 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import partial
from math import inf, pi, sqrt
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.link import product_factor, two_way_to_std_s
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.synchronization.auto import chosen, coherence
from dsp.synchronization.base import Observation, Offset, Port
from dsp.synchronization.matched_product import two_way_link
from dsp.synchronization.reciprocity import ReciprocityMLE
from dsp.synchronization.spectral_correlation import SpectralCorrelationInterpolated
from dsp.synchronization.structured import (
    LINE_OF_SIGHT,
    LineOfSight,
    ReciprocityStructured,
    structure,
    structured_offset,
)
from dsp.synchronization.structured_fit import SharedPaths
from testbed.bench.rows import BenchRow, bias_row, rmse_row, share_row
from testbed.bench.tally import Tally

__all__ = [
    "REFERENCE_A", "WIDE", "Amplitudes", "Numerology", "Trial", "auto_points", "auto_rows", "draw", "points", "rows",
    "separate_draw", "separate_points", "wide_points",
]  # fmt: skip

PATHS = 5
_STRUCTURED = ReciprocityStructured()
_OUTLIER = 6.0  # bounds: beyond, an error is a wrong alignment or path, not noise
_CARRIER_HZ = Fraction(28_000_000_000)


class Amplitudes(StrEnum):
    """How the directions' path amplitudes relate."""

    RECIPROCAL = "reciprocal"
    PHASES = "phases"
    """Alike in magnitude, phases independent."""
    INDEPENDENT = "independent"
    """Drawn anew for the reverse direction."""


@dataclass(frozen=True)
class Numerology:
    """Resource grid."""

    subcarriers: int
    symbols: int
    spacing_hz: float
    symbol_s: float

    @property
    def frequencies_hz(self) -> FloatArray:
        """Subcarriers about their middle, ascending, shape (subcarrier,)."""
        frequencies: FloatArray = (np.arange(self.subcarriers) - (self.subcarriers - 1) / 2) * self.spacing_hz
        return frequencies

    @property
    def times_s(self) -> FloatArray:
        """Symbols about their middle, shape (symbol,)."""
        times: FloatArray = (np.arange(self.symbols) - (self.symbols - 1) / 2) * self.symbol_s
        return times


REFERENCE_A = Numerology(256, 64, 120e3, 8.92e-6)
WIDE = Numerology(1024, 64, 120e3, 8.92e-6)
"""122.88 MHz."""


@dataclass(frozen=True)
class Trial:
    """One draw."""

    observation: Observation
    to_s: float
    cfo_hz: float
    bound_s: float
    """√CRB of the time offset for the paths drawn, from the structured model's Fisher information at the truth."""


def draw(
    generator: np.random.Generator,
    snr_db: float,
    amplitudes: Amplitudes,
    numerology: Numerology = REFERENCE_A,
    *,
    delays_s: tuple[float, float] = (0.1e-6, 1.5e-6),
    bound: bool = True,
) -> Trial:
    """Five paths as in reference R-A: gains complex Gaussian scaled to unit power, ``delays_s`` apart, ±4 kHz.

    Time offset ±100 ns and CFO ±3 kHz, uniform, at the frame's middle; both directions at one time. Without ``bound``
    the trial's is infinite: the Fisher information takes longer than the draw.
    """
    gains = np.empty((2, PATHS), np.complex128)
    gains[0] = _unit_gains(generator)
    gains[1] = gains[0]
    if amplitudes is Amplitudes.PHASES:
        gains[1] = gains[0] * np.exp(2j * pi * generator.uniform(size=PATHS))
    elif amplitudes is Amplitudes.INDEPENDENT:
        gains[1] = _unit_gains(generator)
    paths = np.column_stack([generator.uniform(*delays_s, PATHS), generator.uniform(-4e3, 4e3, PATHS)])
    to_s = float(generator.uniform(-100e-9, 100e-9))
    cfo_hz = float(generator.uniform(-3e3, 3e3))
    differences_s = np.full(PATHS, to_s)
    observation = _observed(generator, gains, paths, differences_s, cfo_hz, snr_db, numerology)
    if not bound:
        return Trial(observation, to_s, cfo_hz, inf)
    truth = SharedPaths(two_way_link(observation)).information(paths, np.array([to_s]), cfo_hz)
    return Trial(observation, to_s, cfo_hz, sqrt(float(truth.covariance[0, 0])))


def separate_draw(generator: np.random.Generator, snr_db: float) -> Trial:
    """Line of sight and five reflectors between nodes whose transmit and receive ports stand 1 to 10 cm apart.

    Two dimensions: nodes 20 to 60 m apart, reflectors within 60 m that lengthen the path by 10 m or more (a
    resolution cell) and 10 m apart from one another's; amplitudes by path length, reflectors at -3 to -12 dB,
    phases free in each direction; all at rest.
    """
    near = np.zeros(2)
    far = np.array([generator.uniform(20.0, 60.0), 0.0])
    transmit, receive = [], []
    for node in (near, far):
        turn = generator.uniform(0.0, 2.0 * pi)
        half = 0.5 * generator.uniform(0.01, 0.1) * np.array([np.cos(turn), np.sin(turn)])
        transmit.append(node + half)
        receive.append(node - half)
    reflectors: list[ComplexArray | FloatArray] = []
    lengths = [float(far[0])]
    while len(reflectors) < PATHS:
        point = generator.uniform(-60.0, 60.0, 2) + 0.5 * far
        length = float(np.linalg.norm(point - near) + np.linalg.norm(point - far))
        if min(abs(length - other) for other in lengths) > _APART_M:
            reflectors.append(point)
            lengths.append(length)
    delays_s = np.array(
        [
            [_path_m(transmit[far_end], receive[1 - far_end], point) for point in (None, *reflectors)]
            for far_end in (1, 0)
        ]
    ) / SPEED_OF_LIGHT_MPS  # fmt: skip
    levels = np.concatenate([[1.0], 10.0 ** (-generator.uniform(3.0, 12.0, PATHS) / 20.0)])
    levels = levels / np.linalg.norm(levels)
    gains = levels * np.exp(2j * pi * generator.uniform(size=(2, PATHS + 1)))
    to_s = float(generator.uniform(-100e-9, 100e-9))
    cfo_hz = float(generator.uniform(-3e3, 3e3))
    paths = np.column_stack([delays_s.mean(axis=0), np.zeros(PATHS + 1)])
    differences_s = to_s + 0.5 * (delays_s[0] - delays_s[1])
    sight = LineOfSight(float(delays_s[0, 0]), float(delays_s[1, 0]))
    observation = _observed(
        generator, gains, paths, differences_s, cfo_hz, snr_db, REFERENCE_A,
        port=Port.SEPARATE, extras={LINE_OF_SIGHT: sight},
    )  # fmt: skip
    model = SharedPaths(two_way_link(observation), separate=True)
    truth = model.information(paths, differences_s, cfo_hz)
    return Trial(observation, to_s, cfo_hz, sqrt(float(truth.covariance[0, 0])))


_APART_M = 10.0


def points(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """Structured least squares where amplitudes are not reciprocal: a piece of work for each kind and SNR."""
    kinds = [(kind, snr_db) for kind in (Amplitudes.PHASES, Amplitudes.INDEPENDENT) for snr_db in (-10.0, 0.0, 20.0)]
    return [partial(_point, trials, [seed, number], kind, snr_db) for number, (kind, snr_db) in enumerate(kinds)]


def wide_points(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """122.88 MHz: likelihood with reciprocal amplitudes, structured with phases that are not."""
    return [partial(_wide_point, trials, [seed, 100 + number], snr_db) for number, snr_db in enumerate((0.0, 10.0))]


def separate_points(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """Structured least squares where transmit and receive ports stand apart."""
    return [
        partial(_separate_point, trials, [seed, 200 + number], snr_db)
        for number, snr_db in enumerate((0.0, 10.0, 20.0))
    ]


def auto_points(
    trials: int, seed: int, snr_db: Sequence[float] = (-10.0, 0.0, 10.0, 20.0, 30.0)
) -> list[partial[list[BenchRow]]]:
    """`auto` beside the methods it chooses among: a piece of work for each kind and SNR."""
    return [
        partial(_auto_point, trials, [seed, 300 + number], kind, level_db)
        for kind in (Amplitudes.RECIPROCAL, Amplitudes.PHASES)
        for number, level_db in enumerate(snr_db)
    ]


def rows(trials: int, seed: int) -> list[BenchRow]:
    """Structured least squares where amplitudes are not reciprocal, in a wide band, and with separate ports."""
    every = points(trials, seed) + wide_points(trials, seed) + separate_points(trials, seed)
    return [row for point in every for row in point()]


def auto_rows(trials: int, seed: int, snr_db: Sequence[float] = (-10.0, 0.0, 10.0, 20.0, 30.0)) -> list[BenchRow]:
    """`auto` beside the methods it chooses among, on the same draws; its bound is the best of them."""
    return [row for point in auto_points(trials, seed, snr_db) for row in point()]


def _point(trials: int, seed: list[int], kind: Amplitudes, snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    tally = Tally("structured", _STRUCTURED.name, {"amplitudes": str(kind), "snr_db": snr_db}, outlier=_OUTLIER)
    for _ in range(trials):
        trial = draw(generator, snr_db, kind)
        tally.offset(tally.run(_STRUCTURED, trial.observation), (trial.to_s, trial.bound_s))
    return tally.rows()


def _wide_point(trials: int, seed: list[int], snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    snr = 10.0 ** (snr_db / 10.0)
    flat_s = two_way_to_std_s(WIDE.subcarriers, WIDE.spacing_hz, WIDE.symbols, snr) * product_factor(snr)
    kinds = ((ReciprocityMLE(), Amplitudes.RECIPROCAL), (_STRUCTURED, Amplitudes.PHASES))
    made = []
    for method, kind in kinds:
        tally = Tally("wide-band", method.name, {"amplitudes": str(kind), "snr_db": snr_db}, outlier=_OUTLIER)
        for _ in range(trials):
            trial = draw(generator, snr_db, kind, WIDE)
            bound_s = trial.bound_s if method is _STRUCTURED else flat_s
            tally.offset(tally.run(method, trial.observation), (trial.to_s, bound_s))
        made += tally.rows()
    return made


def _separate_point(trials: int, seed: list[int], snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    tally = Tally("separate-ports", _STRUCTURED.name, {"snr_db": snr_db}, outlier=_OUTLIER)
    for _ in range(trials):
        trial = separate_draw(generator, snr_db)
        tally.offset(tally.run(_STRUCTURED, trial.observation), (trial.to_s, trial.bound_s))
    return tally.rows()


def _auto_point(trials: int, seed: list[int], kind: Amplitudes, snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    errors: dict[str, list[float]] = {}
    valid: dict[str, int] = {}
    for _ in range(trials):
        trial = draw(generator, snr_db, kind)
        for name, offset in _all(trial.observation).items():
            if offset is not None and offset.to_s is not None:
                errors.setdefault(name, []).append(offset.to_s - trial.to_s)
                valid[name] = valid.get(name, 0) + offset.valid
    best_s = min(float(np.sqrt(np.mean(np.square(each)))) for name, each in errors.items() if name != "auto")
    found = []
    for name, each in errors.items():
        row = rmse_row("auto", name, "to_rmse", "s", each, best_s)
        bias = bias_row("auto", name, "to_bias", "s", each)
        share = share_row("auto", name, "valid_share", valid[name], trials, 0.98)
        for made in (row, bias, share):
            made.parameters = {"amplitudes": str(kind), "snr_db": snr_db}
        found += [row, bias, share]
    return found


def _all(observation: Observation) -> dict[str, Offset | None]:
    """Every method's result, work that they share done once."""
    link = two_way_link(observation)
    found = structure(observation, link)
    structured = structured_offset(observation, link, found)
    likelihood = ReciprocityMLE().estimate(observation)
    correlation = SpectralCorrelationInterpolated().estimate(observation)
    low = (likelihood.snr_db or 0.0) < -8.0 and not structured.valid
    return {
        ReciprocityStructured().name: structured,
        ReciprocityMLE().name: likelihood,
        SpectralCorrelationInterpolated().name: correlation,
        "auto": chosen(structured, found, likelihood, correlation if low else None, coherence(link, likelihood)),
    }


def _observed(
    generator: np.random.Generator,
    gains: ComplexArray,
    paths: FloatArray,
    differences_s: FloatArray,
    cfo_hz: float,
    snr_db: float,
    numerology: Numerology,
    *,
    port: Port = Port.SHARED,
    extras: dict[str, Any] | None = None,
) -> Observation:
    """Both directions of the model of docs/methods/structured.md, evaluated as written, in noise."""
    f, t = numerology.frequencies_hz, numerology.times_s
    noise = 10.0 ** (-snr_db / 10.0)
    rate_hz = Fraction(numerology.subcarriers * round(numerology.spacing_hz))
    states = []
    for clock, sign, amplitudes in (("n", 1.0, gains[0]), ("m", -1.0, gains[1])):
        values = np.zeros((t.size, f.size), np.complex128)
        for (delay_s, doppler_hz), difference_s, amplitude in zip(paths, differences_s, amplitudes, strict=True):
            turns = (doppler_hz + sign * cfo_hz) * np.outer(t, 1.0 + f / float(_CARRIER_HZ))
            values += amplitude * np.exp(2j * pi * (turns - f * (delay_s + sign * difference_s)))
        scatter = generator.normal(size=(*values.shape, 2)).view(np.complex128)[..., 0]
        values += sqrt(noise / 2.0) * scatter
        states.append(
            ChannelState(
                values=values[None],
                weights=np.ones(values.shape),
                subcarrier_hz=f,
                symbol_s=t,
                reference=Moment(clock, 0, 0.0, rate_hz),
                cfo_reference_hz=0.0,
                carrier_hz=_CARRIER_HZ,
                noise=np.array([noise]),
                frame_of_symbol=np.zeros(t.size, dtype=np.intp),
            )
        )
    return Observation(
        forward=states[0],
        departure=Moment("m", 0, 0.0, rate_hz),
        reverse=states[1],
        reverse_departure=Moment("n", 0, 0.0, rate_hz),
        port=port,
        extras=extras or {},
    )


def _unit_gains(generator: np.random.Generator) -> ComplexArray:
    gains: ComplexArray = generator.normal(size=PATHS) + 1j * generator.normal(size=PATHS)
    scaled: ComplexArray = gains / np.linalg.norm(gains)
    return scaled


def _path_m(start: FloatArray, end: FloatArray, point: Any) -> float:
    if point is None:
        return float(np.linalg.norm(end - start))
    return float(np.linalg.norm(point - start) + np.linalg.norm(end - point))
