"""Angle of arrival at two antennas (methods 2): a mover found in its slot, chain phases calibrated at broadside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import asin, pi, sqrt
from time import perf_counter

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.link import angle_std_rad
from dsp.channel import ChannelState, ComplexArray
from dsp.moment import Moment
from dsp.sensing.angle import bearing
from dsp.sensing.detection import Search, detect
from testbed.bench.rows import BenchRow
from testbed.bench.tally import Tally

__all__ = ["SNR_DB", "Trial", "draw", "points", "rows"]

SUBCARRIERS = 64
SPACING_HZ = 312.5e3
SYMBOLS = 32
SYMBOL_S = 1e-3
ANTENNAS = 2
CARRIER_HZ = Fraction(2_400_000_000)
SNR_DB = (10.0, 20.0, 30.0, 40.0)
"""Of the mover's cell after integration over the slot, one antenna."""
LARGEST_RAD = pi / 4
CALIBRATION_DB = 60.0
"""SNR after integration of the wave from broadside by which the chains are calibrated."""
_FALSE_ALARM = 1e-3
"""Per cell: at a cell SNR of 10 dB a stricter one would keep only the trials in which noise was kind."""


@dataclass(frozen=True)
class Trial:
    """One draw."""

    csi: ChannelState
    calibration: ComplexArray
    """Chains' responses as measured with the wave from broadside, shape (antenna,)."""
    bearing_rad: float
    delay_s: float
    doppler_hz: float
    bound_rad: float


def draw(generator: np.random.Generator, cell_snr_db: float) -> Trial:
    """One mover within ±45° of broadside, alone in its cell; chains of unknown phase and of ±1 dB gain.

    Amplitudes of both antennas alike before the chains; delay 0.1 to 1.2 µs and Doppler 60 to 440 Hz of either sign,
    off the grid.
    """
    f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * SPACING_HZ
    t = (np.arange(SYMBOLS) - (SYMBOLS - 1) / 2) * SYMBOL_S
    angle_rad = float(generator.uniform(-LARGEST_RAD, LARGEST_RAD))
    delay_s = float(generator.uniform(0.1e-6, 1.2e-6))
    doppler_hz = float(generator.choice([-1.0, 1.0]) * generator.uniform(60.0, 440.0))
    chains = 10.0 ** (generator.uniform(-1.0, 1.0, ANTENNAS) / 20.0) * np.exp(2j * pi * generator.random(ANTENNAS))
    array = np.exp(1j * pi * np.arange(ANTENNAS) * np.sin(angle_rad) + 2j * pi * generator.random())
    cell = 10.0 ** (cell_snr_db / 10.0)
    level = sqrt(cell / (SUBCARRIERS * SYMBOLS))  # over unit noise
    path = np.exp(2j * pi * (np.outer(t * doppler_hz, 1.0 + f / float(CARRIER_HZ)) - f * delay_s))
    # noise of the chains is referred to their inputs: the gain does not change an antenna's SNR
    values = level * array[:, None, None] * path + _noise(generator, (ANTENNAS, SYMBOLS, SUBCARRIERS))
    csi = ChannelState(
        values=chains[:, None, None] * values,
        weights=np.ones((SYMBOLS, SUBCARRIERS)),
        subcarrier_hz=f,
        symbol_s=t - t[0],
        reference=Moment("n", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.abs(chains) ** 2,
        frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
    )
    wave = np.exp(2j * pi * generator.random()) + 10.0 ** (-CALIBRATION_DB / 20.0) * _noise(generator, (ANTENNAS,))
    return Trial(csi, chains * wave, angle_rad, delay_s, doppler_hz, angle_std_rad(cell, angle_rad))


def points(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[partial[list[BenchRow]]]:
    """One piece of work for each cell SNR."""
    return [partial(_point, trials, seed, number, level) for number, level in enumerate(snr_db)]


def rows(trials: int, seed: int, *, snr_db: Sequence[float] = SNR_DB) -> list[BenchRow]:
    """Bearing errors of the strongest detection, calibrated and not, beside the bound."""
    return [row for point in points(trials, seed, snr_db=snr_db) for row in point()]


def _point(trials: int, seed: int, number: int, cell_snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng([seed, number])
    parameters = {"cell_snr_db": cell_snr_db}
    tally = Tally("aoa", "music calibrated", parameters)
    raw = Tally("aoa", "music uncalibrated", parameters)
    search = Search(max_delay_s=1.3e-6, max_doppler_hz=480.0, false_alarm_rate=_FALSE_ALARM, remove_clutter=False)
    for _ in range(trials):
        trial = draw(generator, cell_snr_db)
        started = perf_counter()
        paths = detect(trial.csi, search, referenced=False).paths
        near = [path for path in paths if _is_mover(path.delay_s, path.doppler_hz, trial)]
        if not near:
            tally.count(perf_counter() - started)
            tally.missed += 1
            continue
        for kept, calibration in ((tally, trial.calibration), (raw, None)):
            angle = bearing(
                near[0].amplitudes,
                near[0].amplitude_covariance,
                spacing_m=0.5 * SPEED_OF_LIGHT_MPS / float(CARRIER_HZ),
                carrier_hz=float(CARRIER_HZ),
                calibration=calibration,
            )
            kept.count(perf_counter() - started if kept is tally else None)
            kept.add("angle", asin(angle.sine) - trial.bearing_rad, trial.bound_rad, angle.bearing_std_rad)
    return tally.rows() + raw.rows()


def _is_mover(delay_s: float, doppler_hz: float, trial: Trial) -> bool:
    cells = 1.0 / (SUBCARRIERS * SPACING_HZ), 1.0 / (SYMBOLS * SYMBOL_S)
    return abs(delay_s - trial.delay_s) < cells[0] and abs(doppler_hz - trial.doppler_hz) < cells[1]


def _noise(generator: np.random.Generator, shape: tuple[int, ...]) -> ComplexArray:
    values: ComplexArray = generator.normal(size=(*shape, 2), scale=sqrt(0.5)).view(np.complex128)[..., 0]
    return values
