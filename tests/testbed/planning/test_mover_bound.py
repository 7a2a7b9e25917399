"""What a link tells of a mover: closed forms of a lone path, and the cost of resembling what stands still."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import pytest

from testbed.bench.plan_against_run import plan_scenario
from testbed.planning.budget import link_budgets
from testbed.planning.mover_bound import mover_bound
from testbed.scenario import Scenario

Layout = Callable[..., Scenario]


def test_far_from_what_stands_still_a_mover_has_the_bound_of_a_lone_path(layout: Layout) -> None:
    scenario = layout(1, 2, scene={"reflector": []})
    budget = link_budgets(scenario)["n0", "n1"]
    # 400 m aside: delay cells and bearings away from the line of sight, twelve cells of Doppler
    place, velocity = np.array([400.0, 300.0]), np.array([-45.0, -30.0])
    found = mover_bound(scenario, budget, place, velocity, 1.0)
    waveform = scenario.waveform
    snr = float(budget.echo_snr(scenario, place, 1.0))
    frames, symbols, tones, antennas = scenario.round.frames_per_slot, waveform.symbols, waveform.active_subcarriers, 2
    times = np.add.outer(
        np.arange(frames) * scenario.round.frame_period_s,
        np.arange(symbols) * (waveform.fft_size + waveform.cp_samples) / waveform.sample_rate_hz,
    )
    elements = tones * times.size
    band = 2 * pi * waveform.sample_rate_hz / waveform.fft_size
    delay_s = sqrt(6 / (band**2 * snr * antennas * times.size * tones * (tones**2 - 1)))
    doppler_hz = 1 / sqrt(8 * pi**2 * snr * antennas * tones * np.sum((times - times.mean()) ** 2))
    assert found.delay_std_s == pytest.approx(delay_s, rel=0.02)
    assert found.doppler_std_hz == pytest.approx(doppler_hz, rel=0.02)
    # two antennas half a wavelength apart
    assert found.sine_std == pytest.approx(1 / (pi * sqrt(snr * elements)), rel=0.02)


def test_beside_the_direct_path_the_phase_takes_of_the_bearing_and_at_rest_the_channel_takes_all() -> None:
    """Runs of this scenario show sines that err by 1.15 ± 0.04 of a lone path's bound (216 links)."""
    scenario = plan_scenario(0)
    car = next(one for one in scenario.scene.reflector if one.name == "car")
    place, velocity = np.array(car.position_m), np.array(car.velocity_mps)
    ratios = []
    for budget in link_budgets(scenario).values():
        found = mover_bound(scenario, budget, place, velocity, car.rcs_m2)
        alone = 1 / (pi * sqrt(float(budget.echo_snr(scenario, place, car.rcs_m2)) * 400 * 192))
        ratios.append(found.sine_std / alone)
        still = mover_bound(scenario, budget, place, 0.01 * velocity, car.rcs_m2)
        assert still.sine_std > 5 * found.sine_std
    # no more than half of the power can go to the phases, which are one real number a symbol
    assert max(ratios) < sqrt(2)
    assert np.mean(ratios) == pytest.approx(1.15, abs=0.05)
