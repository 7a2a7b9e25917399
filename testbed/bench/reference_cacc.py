"""Reference of methods 3.2: two movers against the line of sight, timing and phase new in every symbol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import pi, sqrt

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.cacc import cross_term_snr
from dsp.bounds.link import delay_std_s, doppler_std_hz
from dsp.channel import ChannelState, FloatArray
from dsp.moment import Moment
from dsp.synchronization.base import Observation
from dsp.synchronization.cacc import CrossAntennaCorrelation, RelativePath
from testbed.bench.rows import BenchRow, share_row
from testbed.bench.tally import Tally

__all__ = ["SNR_DB", "Trial", "draw", "points", "rows"]

SUBCARRIERS = 97
SPACING_HZ = 480e3
SYMBOLS = 128
SYMBOL_S = 0.25e-3
ANTENNAS = 4
CARRIER_HZ = Fraction(28_000_000_000)
"""Not stated by the reference; it enters through range migration alone."""
LOS_S = 50e-9
TARGETS = ((150e-9, 310.0), (320e-9, -480.0))
SPREAD = (10e-9, 30.0)
"""Targets stand anew in each trial within this of `TARGETS`."""
TARGET_DB = -10.0
JITTER_S = 30e-9
SNR_DB = (0.0, 10.0, 20.0)
"""Of the line of sight, one resource element and antenna."""
_OUTLIER = 8.0


@dataclass(frozen=True)
class Trial:
    """One draw; targets in the order of `TARGETS`."""

    observation: Observation
    delay_s: FloatArray
    """Against the line of sight."""
    doppler_hz: FloatArray
    delay_bound_s: FloatArray
    doppler_bound_hz: FloatArray


def draw(generator: np.random.Generator, snr_db: float) -> Trial:
    """Line of sight and two targets 10 dB below it on four antennas; bearings within ±60°, phases free.

    Timing uniform in ±30 ns and a free phase, both new in every symbol.
    """
    f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * SPACING_HZ
    t = (np.arange(SYMBOLS) - (SYMBOLS - 1) / 2) * SYMBOL_S
    shifts = generator.uniform(-1.0, 1.0, (len(TARGETS), 2)) * SPREAD
    delays_s, dopplers_hz = (np.array(TARGETS) + shifts).T
    level = sqrt(10.0 ** (TARGET_DB / 10.0))
    gains = np.array([1.0, *(level for _ in TARGETS)]) * np.exp(2j * pi * generator.uniform(size=len(TARGETS) + 1))
    sines = np.sin(generator.uniform(-pi / 3, pi / 3, len(TARGETS) + 1))
    stretch = 1.0 + f / float(CARRIER_HZ)
    # a wave front reaches each antenna at another time: the phase from one to the next is the more the higher f
    fronts = np.exp(1j * pi * np.arange(ANTENNAS)[:, None, None] * sines[:, None] * stretch)
    array = gains * fronts[:, :, SUBCARRIERS // 2]
    line = gains[0] * fronts[:, 0] * np.exp(-2j * pi * f * LOS_S)
    values = np.broadcast_to(line[:, None, :], (ANTENNAS, SYMBOLS, len(f)))
    for number, (delay_s, doppler_hz) in enumerate(zip(delays_s, dopplers_hz, strict=True), start=1):
        path = np.exp(2j * pi * (np.outer(t * doppler_hz, stretch) - f * delay_s))
        values = values + gains[number] * fronts[:, number, None] * path
    jumps_s = generator.uniform(-JITTER_S, JITTER_S, SYMBOLS)
    values = values * np.exp(2j * pi * (generator.uniform(size=(SYMBOLS, 1)) - np.outer(jumps_s, f)))
    noise = 10.0 ** (-snr_db / 10.0)
    values = values + sqrt(noise / 2.0) * generator.normal(size=(*values.shape, 2)).view(np.complex128)[..., 0]
    csi = ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=f,
        symbol_s=t - t[0],
        reference=Moment("n", 0, 0.0, Fraction(50_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.full(ANTENNAS, noise),
        frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
    )
    effective = [cross_term_snr(array[:, 0], array[:, number], noise) for number in (1, 2)]
    return Trial(
        observation=Observation(forward=csi, departure=None),
        delay_s=delays_s - LOS_S,
        doppler_hz=dopplers_hz,
        delay_bound_s=np.array([delay_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, snr) for snr in effective]),
        doppler_bound_hz=np.array([doppler_std_hz(SUBCARRIERS, SYMBOLS, SYMBOL_S, snr) for snr in effective]),
    )


def points(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SNR."""
    return [partial(_point, trials, seed, number, level) for number, level in enumerate(snr_db)]


def rows(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[BenchRow]:
    """Delay, Doppler and path length of both targets against their bounds; wrong signs, misses and strangers."""
    return [row for point in points(trials, seed, snr_db=snr_db) for row in point()]


def _point(trials: int, seed: int, number: int, snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng([seed, number])
    method = CrossAntennaCorrelation()
    tally = Tally("cacc", method.name, {"snr_db": snr_db}, outlier=_OUTLIER, keep_outliers=False)
    wrong_signs = strangers = found = 0
    for _ in range(trials):
        trial = draw(generator, snr_db)
        offset = tally.run(method, trial.observation)
        if not offset.valid:
            continue
        paths = list(offset.details["sensing"].paths)
        for target in range(len(TARGETS)):
            path = _nearest(paths, trial, target)
            if path is None:
                tally.missed += 1
                continue
            found += 1
            paths.remove(path)
            # the mirror image has both signs turned: a delay of the right sign with the Doppler's wrong
            wrong_signs += bool(path.doppler_hz * trial.doppler_hz[target] < 0.0)
            error_s = path.delay_s - float(trial.delay_s[target])
            tally.add("delay", error_s, trial.delay_bound_s[target], path.delay_std_s)
            tally.add("range", SPEED_OF_LIGHT_MPS * error_s, SPEED_OF_LIGHT_MPS * trial.delay_bound_s[target])
            tally.add(
                "doppler",
                path.doppler_hz - float(trial.doppler_hz[target]),
                trial.doppler_bound_hz[target],
                path.doppler_std_hz,
            )
        strangers += len(paths)
    made = tally.rows()
    for metric, count, of, goal in (
        ("sign_error_rate", wrong_signs, found, 1e-3), ("strangers_per_frame", strangers, trials, 0.02),
    ):  # fmt: skip
        row = share_row("cacc", method.name, metric, min(count, of), of, goal)
        row.parameters = {"snr_db": snr_db}
        made.append(row)
    return made


def _nearest(paths: Sequence[RelativePath], trial: Trial, target: int) -> RelativePath | None:
    """Path within a cell of the target's delay and of the magnitude of its Doppler; None if there is none."""
    cells = 1.0 / (SUBCARRIERS * SPACING_HZ), 1.0 / (SYMBOLS * SYMBOL_S)
    near = [
        (abs(path.delay_s - trial.delay_s[target]), path)
        for path in paths
        if abs(path.delay_s - trial.delay_s[target]) < cells[0]
        and abs(abs(path.doppler_hz) - abs(trial.doppler_hz[target])) < cells[1]
    ]
    return min(near, key=lambda pair: pair[0])[1] if near else None
