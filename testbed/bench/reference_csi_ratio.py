"""Reference scenario of the CSI ratio (methods 3.1): one mover, two antennas, a random phase in every symbol."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from math import pi, sqrt

import numpy as np

from dsp.bounds.csi_ratio import circle_snr, first_order_doppler_std_hz, moebius_doppler_std_hz
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import Method, Observation
from dsp.synchronization.csi_ratio import CsiRatio, CsiRatioFirstOrder
from testbed.bench.rows import BenchRow
from testbed.bench.tally import Tally

__all__ = ["DYNAMIC_DB", "SNR_DB", "draw", "points", "rows"]

SYMBOLS = 128
SYMBOL_S = 1e-3
SNR_DB = (20.0, 30.0, 40.0)
DYNAMIC_DB = (-20.0, -6.0)
LARGEST_DOPPLER_HZ = 400.0
_FIRST_ORDER_DB = -14.0
"""Moving over static power below which the first order holds, and its bound."""
LEAST_TURNS = 2.0
"""Of the motion in the slot: with less than one, no method tells static and moving path apart."""
CONTRAST_RAD = float(np.arccos(0.7))
"""Difference of the two paths' phases between the antennas; not stated by the reference, this one gives its bound."""


def draw(
    generator: np.random.Generator, snr_db: float, dynamic_db: float, *, contrast_rad: float = CONTRAST_RAD
) -> tuple[Observation, float, float]:
    """Observation, its true Doppler in hertz, and the bound for it.

    Static path of unit power on each antenna; phases, the sign of the contrast and the Doppler (off zero by two
    cells) uniform, and a new phase in every symbol.
    """
    static = np.exp(2j * pi * generator.random(2))
    moving = 10.0 ** (dynamic_db / 20.0) * static * np.exp(2j * pi * generator.random())
    moving[1] *= np.exp(1j * generator.choice([-1.0, 1.0]) * contrast_rad)
    least_hz = LEAST_TURNS / (SYMBOLS * SYMBOL_S)
    doppler_hz = float(generator.choice([-1.0, 1.0]) * generator.uniform(least_hz, LARGEST_DOPPLER_HZ))
    time = np.arange(SYMBOLS) * SYMBOL_S
    values = static[:, None] + moving[:, None] * np.exp(2j * pi * doppler_hz * time)
    values = values * np.exp(2j * pi * generator.random(SYMBOLS))
    noise = 10.0 ** (-snr_db / 10.0)
    values = values + sqrt(noise / 2.0) * generator.normal(size=(*values.shape, 2)).view(np.complex128)[..., 0]
    csi = ChannelState(
        values=values[:, :, None],
        weights=np.ones((SYMBOLS, 1)),
        subcarrier_hz=np.zeros(1),
        symbol_s=time,
        reference=Moment("n", 0, 0.0, Fraction(20_000_000)),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.full(2, noise),
        frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
    )
    if dynamic_db < _FIRST_ORDER_DB:
        bound_hz = first_order_doppler_std_hz(SYMBOLS, SYMBOL_S, circle_snr(static, moving, noise))
    else:
        bound_hz = moebius_doppler_std_hz(doppler_hz, static[:, None], moving[:, None], symbol_s=time, noise=noise)
    return Observation(forward=csi, departure=None), doppler_hz, bound_hz


def points(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """One piece of work for each level of the moving path and SNR."""
    return [partial(_point, trials, seed, dynamic_db, snr_db) for dynamic_db in DYNAMIC_DB for snr_db in SNR_DB]


def rows(trials: int, seed: int) -> list[BenchRow]:
    """Doppler error of both fits over its bound, and the share of estimates called valid."""
    return [row for point in points(trials, seed) for row in point()]


def _point(trials: int, seed: int, dynamic_db: float, snr_db: float) -> list[BenchRow]:
    methods: tuple[Method, ...] = (CsiRatio(), CsiRatioFirstOrder())
    parameters = {"dynamic_db": dynamic_db, "snr_db": snr_db}
    tallies = {method.name: Tally("csi-ratio", method.name, parameters) for method in methods}
    generator = np.random.default_rng([seed, int(-dynamic_db), int(snr_db)])
    for _ in range(trials):
        observation, doppler_hz, bound_hz = draw(generator, snr_db, dynamic_db)
        for method in methods:
            offset = tallies[method.name].run(method, observation)
            if offset.valid:
                tallies[method.name].add("doppler", offset.details["doppler_hz"] - doppler_hz, bound_hz)
    return [row for tally in tallies.values() for row in tally.rows()]
