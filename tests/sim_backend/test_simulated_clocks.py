"""Clocks against allantools, the spectrum asked for, and their own definition."""

from __future__ import annotations

from fractions import Fraction

import allantools
import numpy as np
import pytest

from sim_backend import clocks
from sim_backend.clocks import GRID_HZ, PRESETS, SEGMENT, Clock, PowerLaw, preset

PURE = {
    "random walk": PowerLaw(h_minus2=1e-22),
    "flicker frequency": PowerLaw(h_minus1=1e-22),
    "white frequency": PowerLaw(h_0=1e-22),
    "flicker phase": PowerLaw(h_1=1e-25),
    "white phase": PowerLaw(h_2=1e-28),
}


def _deviations(law: PowerLaw, taus: np.ndarray, *, seconds: float, trials: int) -> np.ndarray:
    """Allan deviation of each realisation by allantools, shape (trial, tau)."""
    rows = []
    for trial in range(trials):
        noise = clocks._Noise(law, 100 + trial, "allan")
        x = noise.grid(0, int(seconds * GRID_HZ))
        _, deviation, _, _ = allantools.oadev(x, rate=GRID_HZ, data_type="phase", taus=taus)
        rows.append(deviation)
    return np.array(rows)


def _assert_variance_as_asked(deviations: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    ratio = deviations**2 / expected**2
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert np.all(np.abs(ratio.mean(axis=0) - 1) < 4 * error + tolerance), ratio.mean(axis=0)
    assert np.all(error < 0.25)


@pytest.mark.parametrize("name", PURE)
def test_allan_deviation_of_each_power_law(name):
    taus = np.array([1e-3, 1e-2, 0.1, 0.5])
    _assert_variance_as_asked(
        _deviations(PURE[name], taus, seconds=4.0, trials=12), PURE[name].allan_deviation(taus), tolerance=0.03
    )


@pytest.mark.parametrize("name", PRESETS)
def test_allan_deviation_of_presets_from_1_ms_to_1_s(name):
    taus = np.array([1e-3, 1e-2, 0.1, 1.0])
    _assert_variance_as_asked(
        _deviations(preset(name), taus, seconds=8.0, trials=10), preset(name).allan_deviation(taus), tolerance=0.03
    )


@pytest.mark.parametrize("name", ["tcxo", "ocxo", "gpsdo"])
def test_allan_deviation_of_presets_from_1_s_to_100_s(name):
    taus = np.array([1.0, 10.0, 100.0])
    law = preset(name)
    spacing = SEGMENT / GRID_HZ
    rows = []
    for trial in range(6):
        noise = clocks._Noise(law, trial, "long")
        noise._extend(8000)
        x = np.array(noise._totals) + np.array([values.sum() for values in noise._phases])
        _, deviation, _, _ = allantools.oadev(x, rate=1 / spacing, data_type="phase", taus=taus)
        rows.append(deviation)
    _assert_variance_as_asked(np.array(rows), law.allan_deviation(taus), tolerance=0.05)


def test_segments_pass_through_the_states_drawn_for_their_ends():
    noise = clocks._Noise(preset("cheap-tcxo"), 4, "ends")
    last_and_first = noise.grid(3 * SEGMENT - 1, 2)
    expected = noise._totals[3] + noise._phases[3].sum()
    assert last_and_first[1] == pytest.approx(expected, abs=1e-18)
    # One grid step of this oscillator is a few hundredths of a picosecond; a seam would be far larger.
    assert abs(last_and_first[0] - expected) < 1e-12


def test_theory_of_allan_deviation_is_the_closed_form():
    taus = np.array([0.01, 1.0, 100.0])
    white = PowerLaw(h_0=1e-22).allan_deviation(taus, bandwidth_hz=1e4)
    np.testing.assert_allclose(white, np.sqrt(1e-22 / (2 * taus)), rtol=5e-3)
    flicker = PowerLaw(h_minus1=1e-22).allan_deviation(taus)
    np.testing.assert_allclose(flicker, np.sqrt(2 * np.log(2) * 1e-22), rtol=5e-3)
    walk = PowerLaw(h_minus2=1e-22).allan_deviation(taus)
    np.testing.assert_allclose(walk, np.sqrt(2 * np.pi**2 * taus * 1e-22 / 3), rtol=5e-3)


def test_presets_meet_their_phase_noise_rows():
    rows = {
        "tcxo": (-65, -95, -120, -142, -152),
        "cheap-tcxo": (-50, -82, -110, -135, -148),
        "ocxo": (-85, -115, -138, -150, -155),
    }
    for name, levels in rows.items():
        fitted = preset(name).phase_noise_dbc_hz(np.array([1, 10, 100, 1e3, 1e4]), carrier_hz=40e6)
        np.testing.assert_allclose(fitted, levels, atol=1.0)


def test_same_noise_in_any_order_of_asking():
    law = preset("cheap-tcxo")
    forward = Clock(noise=law, seed=9, name="n")
    backward = Clock(noise=law, seed=9, name="n")
    times = [Fraction(value) for value in (0.3, 31.4, 100.01)]
    elapsed = np.linspace(0, 0.01, 50)
    ahead = [forward.growth(time, elapsed) for time in times]
    behind = [backward.growth(time, elapsed) for time in reversed(times)][::-1]
    np.testing.assert_array_equal(ahead, behind)
    other = Clock(noise=law, seed=10, name="n").growth(times[0], elapsed)
    assert np.max(np.abs(other - ahead[0])) > 0


def test_anchors_agree_and_the_noise_is_smooth():
    clock = Clock(offset_ppm=-17.3, offset_s=-123456.7, drift_ppm_per_s=2e-3, noise=preset("cheap-tcxo"), seed=2)
    anchor, later = Fraction(700), Fraction(700) + Fraction(1, 128)
    elapsed = np.linspace(0, 2e-3, 4001)
    direct = clock.growth(anchor, elapsed + 1 / 128)
    moved = clock.growth(later, elapsed) + float(clock.error_at(later) - clock.error_at(anchor))
    np.testing.assert_allclose(direct, moved, atol=1e-19)
    wander = direct - np.polyval(np.polyfit(elapsed, direct, 2), elapsed)
    bend = np.diff(wander, 2) / (elapsed[1] - elapsed[0]) ** 2
    # Second derivative continuous: its steps shrink with the spacing, to the grid's third derivative times it.
    assert np.max(np.abs(np.diff(bend))) < 0.05 * np.max(np.abs(bend))


@pytest.mark.parametrize("offset_s", [0.0, 3.7, -500_000.123])
def test_inverse_is_exact_after_a_thousand_seconds(offset_s):
    clock = Clock(offset_ppm=48.9, offset_s=offset_s, drift_ppm_per_s=1e-3, noise=preset("tcxo"), seed=1)
    for time in (Fraction(1, 3), Fraction(999) + Fraction(1, 7)):
        back = clock.time_at(clock.reading(time))
        assert abs(float(back - time)) < 1e-16
    anchor = Fraction(999)
    reading = np.linspace(0.0, 0.05, 1001)
    elapsed = clock.elapsed_at(anchor, reading)
    np.testing.assert_allclose(elapsed + clock.growth(anchor, elapsed), reading, rtol=0, atol=1e-17)


def test_offset_and_drift_have_the_documented_sign():
    clock = Clock(offset_ppm=10.0, offset_s=2.0, drift_ppm_per_s=0.5)
    assert float(clock.reading(Fraction(4))) == pytest.approx(4 + 2 + 40e-6 + 0.25e-6 * 16, abs=1e-12)


def test_time_before_the_world_and_wild_clocks_are_refused():
    with pytest.raises(ValueError, match="before the world begins"):
        Clock(offset_s=5.0).time_at(Fraction(1))
    with pytest.raises(ValueError, match="not a clock"):
        Clock(offset_ppm=2e3)
    with pytest.raises(ValueError, match="not negative"):
        PowerLaw(h_0=-1.0)
    with pytest.raises(ValueError, match="unknown oscillator 'quartz'"):
        preset("quartz")
