"""Reference scenario of the path-resolved methods (methods 3.3): 1.76 GHz, timing and phase new in every packet."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from math import pi, sqrt

import numpy as np

from dsp.bounds.path_resolved import moving_delay_std_s, moving_doppler_std_hz
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import Method, Observation
from dsp.synchronization.path_resolved import PathResolved, PathResolvedDictionary
from testbed.bench.rows import BenchRow
from testbed.bench.tally import Tally

__all__ = ["draw", "points", "rows"]

SUBCARRIERS = 256
BAND_HZ = 1.76e9
PACKETS = 64
PACKET_S = 0.27e-3
CARRIER_HZ = Fraction(60_480_000_000)
"""Not stated by the reference; it enters through range migration alone."""
STATIC_DB, TARGET_DB = -8.0, -15.0
"""Against the line of sight, which has unit power."""
WALK_S, JITTER_S = 0.3e-9, 3e-9
SNR_DB = (0.0, 10.0, 20.0)
DOPPLER_HZ = (150.0, 1500.0)
"""Magnitude of the target's Doppler: away from zero, where it would be static."""
METHODS: tuple[Method, ...] = (PathResolved(), PathResolvedDictionary())
_OUTLIER_BOUNDS = 8.0
_MEDIAN = 0.6745  # of a normal variable's magnitude


def draw(generator: np.random.Generator, snr_db: float) -> tuple[Observation, float, float]:
    """Observation, true delay of the target against the line of sight in seconds, and its Doppler in hertz.

    Line of sight, one static reflector, one target 2 to 25 ns later, all at random fractions and phases; timing a
    random walk with jitter; SNR that of the line of sight.
    """
    spacing_hz = BAND_HZ / SUBCARRIERS
    f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * spacing_hz
    t = (np.arange(PACKETS) - (PACKETS - 1) / 2) * PACKET_S
    sight_s = generator.uniform(20e-9, 25e-9)
    static_s, delay_s = generator.uniform(2e-9, 25e-9, 2)
    doppler_hz = float(generator.choice([-1.0, 1.0]) * generator.uniform(*DOPPLER_HZ))
    gains = 10.0 ** (np.array([0.0, STATIC_DB, TARGET_DB]) / 20.0) * np.exp(2j * pi * generator.random(3))
    still = gains[0] + gains[1] * np.exp(-2j * pi * f * static_s)
    turn = np.exp(2j * pi * doppler_hz * np.outer(t, 1.0 + f / float(CARRIER_HZ)))
    scene = still + gains[2] * np.exp(-2j * pi * f * delay_s) * turn
    timing_s = sight_s + np.cumsum(generator.normal(0.0, WALK_S, PACKETS)) + generator.normal(0.0, JITTER_S, PACKETS)
    phase = generator.uniform(0.0, 2.0 * pi, PACKETS)
    values = scene * np.exp(1j * phase[:, None] - 2j * pi * np.outer(timing_s, f))
    noise = 10.0 ** (-snr_db / 10.0)
    values = values + sqrt(noise / 2.0) * generator.normal(size=(*values.shape, 2)).view(np.complex128)[..., 0]
    csi = ChannelState(
        values=values[None],
        weights=np.ones(values.shape),
        subcarrier_hz=f,
        symbol_s=t - t[0],
        reference=Moment("n", 0, 0.0, Fraction(1_760_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.array([noise]),
        frame_of_symbol=np.arange(PACKETS),
    )
    return Observation(forward=csi, departure=None), float(delay_s), doppler_hz


def points(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SNR."""
    return [partial(_point, trials, seed, level) for level in snr_db]


def rows(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[BenchRow]:
    """Median delay error, Doppler error, outliers and validity by delay and by dictionary."""
    return [row for point in points(trials, seed, snr_db=snr_db) for row in point()]


def _point(trials: int, seed: int, snr_db: float) -> list[BenchRow]:
    spacing_hz = BAND_HZ / SUBCARRIERS
    snr = 10.0 ** (snr_db / 10.0)
    powers = {"moving_snr": snr * 10.0 ** (TARGET_DB / 10.0), "reference_snr": snr}
    delay_bound_s = moving_delay_std_s(SUBCARRIERS, spacing_hz, PACKETS, **powers)
    doppler_bound_hz = moving_doppler_std_hz(SUBCARRIERS, PACKETS, PACKET_S, **powers)
    tallies = {
        method.name: Tally(
            "path-resolved", method.name, {"snr_db": snr_db},
            outlier=_OUTLIER_BOUNDS, outlier_goal=0.02, keep_outliers=False,
        )
        for method in METHODS
    }  # fmt: skip
    generator = np.random.default_rng([seed, int(snr_db)])
    for _ in range(trials):
        observation, delay_s, doppler_hz = draw(generator, snr_db)
        for method in METHODS:
            tally = tallies[method.name]
            offset = tally.run(method, observation)
            movers = offset.details.get("movers", ()) if offset.valid else ()
            if movers:
                tally.add("delay", movers[0].delay_s - delay_s, delay_bound_s)
                tally.add("doppler", movers[0].doppler_hz - doppler_hz, doppler_bound_hz)
            else:
                tally.missed += offset.valid
    table: list[BenchRow] = []
    for name, tally in tallies.items():
        median = _median_row(name, np.array(tally.errors("delay")), delay_bound_s)
        median.parameters = {"snr_db": snr_db}
        table += [median, *tally.rows()]
    return table


def _median_row(name: str, errors_s: np.ndarray[tuple[int], np.dtype[np.float64]], bound_s: float) -> BenchRow:
    """Median magnitude of the delay error; its standard error that of a median of normal magnitudes."""
    value = float(np.median(np.abs(errors_s))) if errors_s.size else None
    return BenchRow(
        scenario="path-resolved",
        method=name,
        metric="delay_median",
        unit="s",
        value=value,
        bound=_MEDIAN * bound_s,
        ratio=None if value is None else value / (_MEDIAN * bound_s),
        trials=errors_s.size,
        # half the inverse of the density at the median, 0.6356/deviation, over the root of the trials
        standard_error=None if value is None else 0.787 * value / _MEDIAN / sqrt(errors_s.size),
    )
