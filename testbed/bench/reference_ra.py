"""Reference scenario R-A: two-way time offset under dense multipath, by every reciprocity method (methods 3.6)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import pi, sqrt

import numpy as np

from dsp.bounds.link import grid_std, product_factor, two_way_cfo_std_hz, two_way_to_std_s
from dsp.channel import ChannelState, ComplexArray
from dsp.moment import Moment
from dsp.synchronization.base import Method, Need, Observation, Offset
from dsp.synchronization.registry import METHODS
from testbed.bench.rows import BenchRow
from testbed.bench.tally import Tally

__all__ = ["REFERENCE_PS", "SNR_DB", "ReferenceRow", "draw", "points", "run"]

SUBCARRIERS = 256
SYMBOLS = 64
SPACING_HZ = 120e3
SYMBOL_S = 8.92e-6
PATHS = 5
CARRIER_HZ = Fraction(28_000_000_000)
"""Not stated by the reference; it enters only through the sampling offset that goes with the carrier's."""

SNR_DB = (-10.0, 0.0, 10.0, 20.0, 30.0)
REFERENCE_PS = {
    "reciprocity-mle": (571.0, 86.3, 23.7, 7.2, 2.5),
    "reciprocity-mp": (651.0, 102.0, 26.8, 7.6, 2.8),
    "spectral-cc": (5100.0, 5080.0, 5010.0, 4950.0, 4720.0),
    "spectral-cc-interpolated": (288.0, 113.0, 131.0, 84.0, 93.0),
}
"""Time offset RMSE of the reference, picoseconds, by method and `SNR_DB`."""

_LOST_S = 0.5 / (SUBCARRIERS * SPACING_HZ)  # a neighbouring lobe of the product stands this far away or more
_ON_THEIR_OWN = {"reciprocity-structured", "auto"}
_RATE_HZ = Fraction(SUBCARRIERS * 120_000)


@dataclass(frozen=True)
class ReferenceRow:
    """One cell of the table."""

    snr_db: float
    method: str
    to_rmse_s: float
    standard_error_s: float
    to_bias_s: float
    bound_s: float
    """√CRB with the product's factor; the grid's deviation for the method that stays on it."""
    ratio: float
    channel_ratio: float
    """RMSE over the root mean square of the deviations stated, which are the bounds of the channels drawn: some draws
    fade over the whole frame, and their bound is above that of their mean power."""
    nees: float
    """Mean of squared error over squared stated deviation; one if the deviation is honest."""
    cfo_rmse_hz: float
    trials: int
    outliers: int
    """Trials that ended in a wrong cell."""
    refused: int = 0
    """Trials in which a user's method gave no valid offset."""


def draw(generator: np.random.Generator, snr_db: float) -> tuple[Observation, float, float]:
    """Observation of both directions at one time, with its true time offset in seconds and CFO in hertz.

    Five paths with complex Gaussian gains scaled to unit power in each trial, delays 0.1 to 1.5 µs, Dopplers
    ±4 kHz, time offset ±100 ns, CFO ±3 kHz, all uniform; the offsets hold at the frame's middle.
    """
    gains = generator.normal(size=PATHS) + 1j * generator.normal(size=PATHS)
    gains /= np.linalg.norm(gains)
    delays_s = generator.uniform(0.1e-6, 1.5e-6, PATHS)
    dopplers_hz = generator.uniform(-4e3, 4e3, PATHS)
    to_s = float(generator.uniform(-100e-9, 100e-9))
    cfo_hz = float(generator.uniform(-3e3, 3e3))
    f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * SPACING_HZ
    t = (np.arange(SYMBOLS) - (SYMBOLS - 1) / 2) * SYMBOL_S
    noise = 10.0 ** (-snr_db / 10.0)
    scene = (np.exp(2j * pi * np.outer(t, dopplers_hz)) * gains) @ np.exp(-2j * pi * np.outer(delays_s, f))
    migration = np.outer(t, f) * (cfo_hz / float(CARRIER_HZ))
    offset = np.exp(2j * pi * (cfo_hz * t[:, None] - to_s * f + migration))
    states = []
    for clock, turn in (("n", offset), ("m", np.conj(offset))):
        values = scene * turn
        values += sqrt(noise / 2) * _complex_normal(generator, values.shape)
        states.append(
            ChannelState(
                values=values[None],
                weights=np.ones((SYMBOLS, SUBCARRIERS)),
                subcarrier_hz=f,
                symbol_s=t,
                reference=Moment(clock, 0, 0.0, _RATE_HZ),
                cfo_reference_hz=0.0,
                carrier_hz=CARRIER_HZ,
                noise=np.array([noise]),
                frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
            )
        )
    observation = Observation(
        forward=states[0],
        departure=Moment("m", 0, 0.0, _RATE_HZ),
        reverse=states[1],
        reverse_departure=Moment("n", 0, 0.0, _RATE_HZ),
    )
    return observation, to_s, cfo_hz


def run(
    trials: int,
    *,
    seed: int,
    snr_db: Sequence[float] = SNR_DB,
    methods: Sequence[str] = tuple(REFERENCE_PS),
    users: Mapping[str, Method] | None = None,
) -> list[ReferenceRow]:
    """Rows of the table, one for each SNR and method, every method, ``users``' too, on the same draws."""
    rows = []
    asked = {name: METHODS[name] for name in methods} | dict(users or {})
    for number, level_db in enumerate(snr_db):
        generator = np.random.default_rng([seed, number])
        errors: dict[str, list[tuple[float, float, float]]] = {name: [] for name in asked}
        for _ in range(trials):
            observation, to_s, cfo_hz = draw(generator, level_db)
            for name, method in asked.items():
                offset = _asked(method, observation)
                if offset is None or offset.to_s is None or offset.to_std_s is None:
                    if name in METHODS:
                        raise RuntimeError(f"{name} gave no offset on reference R-A")
                    continue
                found_hz = np.nan if offset.cfo_hz is None else offset.cfo_hz
                errors[name].append((offset.to_s - to_s, found_hz - cfo_hz, offset.to_std_s))
        rows += [_row(level_db, name, np.array(errors[name]), trials) for name in asked if errors[name]]
    return rows


def points(
    trials: int,
    seed: int,
    *,
    snr_db: Sequence[float] = SNR_DB,
    methods: Sequence[str] | None = None,
    scenario: str = "r-a",
) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SNR; without ``methods`` every one that a reverse link suffices, users' too."""
    asked = None if methods is None else tuple(methods)
    return [partial(_point, scenario, trials, [seed, number], level, asked) for number, level in enumerate(snr_db)]


def _point(scenario: str, trials: int, seed: list[int], snr_db: float, asked: tuple[str, ...] | None) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    methods = _two_way() if asked is None else {name: METHODS[name] for name in asked}
    snr = 10.0 ** (snr_db / 10.0)
    factor = product_factor(snr)
    cfo_bound_hz = two_way_cfo_std_hz(SUBCARRIERS, SYMBOLS, SYMBOL_S, snr) * factor
    flat_s = two_way_to_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, snr) * factor
    grid = grid_std(0.5 / (SUBCARRIERS * SPACING_HZ)), grid_std(0.5 / (SYMBOLS * SYMBOL_S))
    bounds = {name: grid if name == "spectral-cc" else (flat_s, cfo_bound_hz) for name in methods}
    tallies = {
        name: Tally(scenario, name, {"snr_db": snr_db}, outlier=_LOST_S / bounds[name][0], outlier_goal=1e-3)
        for name in methods
    }
    for _ in range(trials):
        observation, to_s, cfo_hz = draw(generator, snr_db)
        for name, method in methods.items():
            tally, bound = tallies[name], bounds[name]
            tally.offset(tally.run(method, observation), (to_s, bound[0]), (cfo_hz, bound[1]))
    return [row for tally in tallies.values() for row in tally.rows()]


def _two_way() -> dict[str, Method]:
    """Methods that need no more than two antennas that hear each other; those that fit paths have a bench `auto`."""
    from testbed.methods import usable_with

    inputs = frozenset({Need.REVERSE_LINK, Need.RECIPROCAL_PORTS})
    found = {
        name: method for name, method in METHODS.items() if method.needs <= inputs and name not in _ON_THEIR_OWN
    }  # fmt: skip
    found = {name: method for name, method in found.items() if Need.REVERSE_LINK in method.needs}
    usable, broken = usable_with(inputs)
    for line in broken:
        print(f"isac: {line}", file=sys.stderr)
    return found | usable


def _asked(method: Method, observation: Observation) -> Offset | None:
    """The method's valid offset; None where a user's refused or failed."""
    try:
        offset = method.estimate(observation)
    except ValueError:
        if method.name in METHODS:
            raise
        return None
    return offset if offset.valid or method.name in METHODS else None


def _row(
    snr_db: float, name: str, errors: np.ndarray[tuple[int, int], np.dtype[np.float64]], asked: int
) -> ReferenceRow:
    snr = 10.0 ** (snr_db / 10.0)
    bound_s = two_way_to_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, snr) * product_factor(snr)
    if name == "spectral-cc":
        bound_s = grid_std(0.5 / (SUBCARRIERS * SPACING_HZ))
    squares = errors[:, 0] ** 2
    rmse_s = float(np.sqrt(squares.mean()))
    trials = len(squares)
    spread_s = float(np.std(squares, ddof=1)) / sqrt(trials) / (2.0 * rmse_s) if trials > 1 else rmse_s
    return ReferenceRow(
        snr_db=snr_db,
        method=name,
        to_rmse_s=rmse_s,
        standard_error_s=spread_s,
        to_bias_s=float(errors[:, 0].mean()),
        bound_s=bound_s,
        ratio=rmse_s / bound_s,
        channel_ratio=rmse_s / float(np.sqrt(np.mean(errors[:, 2] ** 2))),
        nees=float(np.mean(squares / errors[:, 2] ** 2)),
        cfo_rmse_hz=float(np.sqrt(np.mean(errors[:, 1] ** 2))),
        trials=trials,
        outliers=int(np.count_nonzero(np.abs(errors[:, 0]) > _LOST_S)),
        refused=asked - trials,
    )


def _complex_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> ComplexArray:
    values: ComplexArray = generator.normal(size=(*shape, 2)).view(np.complex128)[..., 0]
    return values
