"""Two simulated Plutos under the unchanged driver stack: pyadi-iio and libiio between the estimators and the scene.

Snapshots at 20 MS/s, half duplex, no time stamps, one port for both directions, leakage 40 dB above the distant node,
crystals up to 25 ppm off, chains calibrated. Every ten rounds are a world of their own: places, clocks, start
latencies, phases and noise drawn anew, off any grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from testbed.bench.rows import BenchRow, bias_row, rmse_row, share_row
from testbed.results import LinkRow
from testbed.scenario import Scenario, loads

__all__ = ["points", "rows"]

ROUNDS = 10
"""Of each world."""
_VALID_GOAL = 0.95
_SNR_DB = 25.0
_CRYSTAL_PPM = 25.0


def points(trials: int, seed: int) -> list[Callable[[], list[LinkRow]]]:
    """Work for ``trials`` rounds, in worlds of `ROUNDS` or what is left."""
    counts = [min(ROUNDS, trials - first) for first in range(0, trials, ROUNDS)]
    return [partial(_world, seed + number, count) for number, count in enumerate(counts)]


def rows(links: Sequence[LinkRow]) -> list[BenchRow]:
    """Figures over all rounds: one direction of each, as the other is its negative."""
    mine = [row for row in links if row.receiver < row.transmitter]
    good = [row for row in mine if row.valid]
    errors = [row.to_error_s for row in good if row.to_error_s is not None]
    frequencies = [row.cfo_error_hz for row in good if row.cfo_error_hz is not None]
    stated = float(np.sqrt(np.mean([(row.to_std_s or 0.0) ** 2 for row in good]))) if good else 1.0
    stated_hz = float(np.sqrt(np.mean([(row.cfo_std_hz or 0.0) ** 2 for row in good]))) if good else 1.0
    return [
        rmse_row("pluto", "reciprocity-mle", "to_rmse", "s", errors, stated),
        bias_row("pluto", "reciprocity-mle", "to_bias", "s", errors),
        rmse_row("pluto", "reciprocity-mle", "cfo_rmse", "Hz", frequencies, stated_hz),
        share_row("pluto", "reciprocity-mle", "valid_share", len(good), len(mine), _VALID_GOAL),
    ]


def _world(seed: int, rounds: int) -> list[LinkRow]:
    from testbed.calibrating.bench import Bench
    from testbed.pipeline import Pipeline

    scenario = _scenario(seed)
    pipeline = Pipeline(scenario)
    with Bench(scenario) as bench:
        bench.start()
        for index in range(rounds):
            pipeline.process(index, bench.round(index))
    return pipeline.finish({}).links


def _scenario(seed: int) -> Scenario:
    random = np.random.default_rng([seed, 0x9])
    x, y = random.uniform(15, 60), random.uniform(-20, 20)
    ppm = random.uniform(-_CRYSTAL_PPM, _CRYSTAL_PPM, 2)
    walls = "".join(
        f"""
        [[scene.reflector]]
        position_m = [{random.uniform(-10, 50):.4f}, {random.uniform(25, 60):.4f}]
        rcs_m2 = {random.uniform(5, 40):.3f}
        """
        for _ in range(2)
    )
    nodes = "".join(
        f"""
        [[node]]
        name = "{name}"
        position_m = [{place[0]:.4f}, {place[1]:.4f}]
        radio = "pluto"
        pluto = {{ uri = "simulated", tx_attenuation_db = 7.0, rx_gain_db = 20.0 }}
        clock = {{ offset_ppm = {off:.4f}, offset_s = {random.uniform(-5, 5):.6f} }}
        front_end = {{ transmit_delay_s = {random.uniform(1e-8, 9e-8):.6e}, receive_delay_s = {random.uniform(1e-8, 9e-8):.6e} }}
        """  # noqa: E501 - an inline table of TOML has no line breaks
        for name, place, off in zip(("east", "west"), ((0.0, 0.0), (x, y)), ppm, strict=True)
    )
    return loads(
        f"""
        [experiment]
        name = "pluto"
        seed = {seed}
        methods = ["reciprocity-mle"]
        [waveform]
        carrier_hz = 2.4e9
        sample_rate_hz = 20e6
        symbols = 48
        [round]
        frame_period_s = 3e-3
        start_spread_s = 1e-3
        guard_s = 4e-3
        {nodes}
        [scene]
        snr_db = {_SNR_DB}
        leakage_db = 40.0
        {walls}
        """,
        source="two Plutos",
    )
