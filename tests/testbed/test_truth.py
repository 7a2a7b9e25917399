"""The truth of simulated clocks, against clocks known in closed form and solved in extended precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from dsp.moment import Moment
from testbed.capture import Capture, Stretch
from testbed.truth import ClockTruth, TrueTime, carrier_offset, time_offset

RATE_HZ = Fraction(20_000_000)
CARRIER_HZ = Fraction(2_400_000_000)
SAMPLES = 2_000_000
SPACING = 4000


@dataclass(frozen=True)
class WavingClock:
    """True time elapsed when the counter says e seconds: e + error(e), a slope and a wave."""

    start: Fraction
    first_tick: int
    slope: float
    wave_s: float
    wave_hz: float = 21.0

    def error(self, elapsed: np.ndarray) -> np.ndarray:
        elapsed = np.asarray(elapsed, np.longdouble)
        turn = 2 * np.longdouble(np.pi) * np.longdouble(self.wave_hz)
        return np.longdouble(self.slope) * elapsed + np.longdouble(self.wave_s) * np.sin(turn * elapsed)

    def elapsed_at(self, true: np.ndarray) -> np.ndarray:
        elapsed = true
        for _ in range(30):
            elapsed = true - self.error(elapsed)
        return elapsed

    def capture(self, node: str) -> Capture:
        whole = floor(self.start)
        knots = np.arange(0, SAMPLES + SPACING, SPACING) / float(RATE_HZ)
        return Capture(
            node=node,
            round=0,
            samples=np.zeros((1, SAMPLES, 2), np.int16),
            full_scale=2048,
            rate_hz=RATE_HZ,
            carrier_hz=CARRIER_HZ,
            stretches=(Stretch(0, SAMPLES, self.first_tick),),
            stream=0,
            truth={
                "start_s": whole,
                "start_fraction_s": float(self.start - whole),
                "spacing_samples": SPACING,
                "elapsed_error_s": [float(error) for error in self.error(knots)],
            },
        )


def true_offset(n: WavingClock, m: WavingClock, elapsed_n: np.ndarray) -> tuple[Fraction, np.ndarray]:
    """s_n - s_m: the exact whole part from the counters' origins, and the rest."""
    elapsed_n = np.asarray(elapsed_n, np.longdouble)
    apart = n.start - m.start
    true = np.longdouble(apart.numerator) / np.longdouble(apart.denominator) + elapsed_n + n.error(elapsed_n)
    return Fraction(n.first_tick - m.first_tick) / RATE_HZ, elapsed_n - m.elapsed_at(true)


def random_pair(seed: int) -> tuple[WavingClock, WavingClock]:
    rng = np.random.default_rng(seed)

    def clock(start: Fraction) -> WavingClock:
        slope, wave_s = rng.uniform(-60e-6, 60e-6), rng.uniform(0, 2e-9)
        return WavingClock(start, int(rng.integers(0, 10**12)), slope, wave_s, rng.uniform(5, 25))

    start = Fraction(int(rng.integers(0, 10**6))) + Fraction(int(rng.integers(0, 10**9)), 10**9)
    return clock(start), clock(start + Fraction(int(rng.integers(-5_000_000, 5_000_000)), 10**9))


@pytest.mark.parametrize("seed", range(6))
def test_time_offset_keeps_a_hundredth_of_a_picosecond(seed: int) -> None:
    n, m = random_pair(seed)
    rng = np.random.default_rng(seed + 100)
    for _ in range(5):
        epoch = Moment("n", n.first_tick + int(rng.integers(300_000, 1_700_000)), rng.random(), RATE_HZ)
        elapsed = epoch.seconds_since(Moment("n", n.first_tick, 0.0, RATE_HZ))
        whole, rest = true_offset(n, m, np.array(elapsed))
        found = time_offset(n.capture("n"), m.capture("m"), epoch)
        # A double resolves offsets of some 10,000 s to 2 ps: compare what is left when the origins are taken off.
        resolution = abs(float(whole)) * 2**-52
        assert found - float(whole) == pytest.approx(float(rest), abs=1e-14 + 2 * resolution)


def test_time_offset_is_antisymmetric_at_one_instant() -> None:
    n, m = (replace(clock, first_tick=0) for clock in random_pair(3))
    at_n = Moment("n", 1_000_000, 0.25, RATE_HZ)
    truth_n, truth_m = ClockTruth(n.capture("n")), ClockTruth(m.capture("m"))
    at_m = truth_m.reading_at(truth_n.true_time_of(at_n))
    forward, reverse = time_offset(truth_n, truth_m, at_n), time_offset(truth_m, truth_n, at_m)
    assert forward == pytest.approx(-reverse, abs=1e-15)
    assert forward == pytest.approx(at_n.seconds_since(at_m), abs=1e-15)


@pytest.mark.parametrize("seed", range(4))
def test_reading_and_true_time_are_inverse(seed: int) -> None:
    truth = ClockTruth(random_pair(seed)[0].capture("n"))
    moment = Moment("n", truth.first_tick + 1_234_567, 0.375, RATE_HZ)
    back = truth.reading_at(truth.true_time_of(moment))
    assert back.seconds_since(moment) == pytest.approx(0.0, abs=1e-15)


def test_carrier_offset_of_steady_clocks_is_what_both_measure_together() -> None:
    delta_n, delta_m = 25e-6, -15e-6  # s' = 1 + delta, so that true time per reading is 1/(1 + delta)
    n = WavingClock(Fraction(5), 0, 1 / (1 + delta_n) - 1, 0.0)
    m = WavingClock(Fraction(5), 0, 1 / (1 + delta_m) - 1, 0.0)
    frames = [(Moment("n", tick, 0.0, RATE_HZ), Moment("n", tick + 150_000, 0.0, RATE_HZ)) for tick in (4e5, 5e5, 9e5)]
    frames = [(replace(a, tick=int(a.tick)), replace(b, tick=int(b.tick))) for a, b in frames]
    expected = float(CARRIER_HZ) * (delta_m - delta_n) / (1 + (delta_n + delta_m) / 2)
    found = carrier_offset(n.capture("n"), m.capture("m"), CARRIER_HZ, frames)
    assert found == pytest.approx(expected, abs=1e-4)
    there = [tuple(replace(edge, clock="m") for edge in frame) for frame in frames]
    assert carrier_offset(m.capture("m"), n.capture("n"), CARRIER_HZ, there) == pytest.approx(-found, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_carrier_offset_is_the_least_squares_slope_over_the_frames(seed: int) -> None:
    n, m = random_pair(seed)
    rng = np.random.default_rng(seed)
    ticks = np.sort(rng.integers(300_000, 1_500_000, 3))
    frames = [
        (Moment("n", n.first_tick + int(t), 0.0, RATE_HZ), Moment("n", n.first_tick + int(t) + 150_000, 0.5, RATE_HZ))
        for t in ticks
    ]
    dense = np.concatenate([t + 150_000.5 * (np.arange(2000) + 0.5) / 2000 for t in ticks]) / float(RATE_HZ)
    offset = true_offset(n, m, dense)[1].astype(float)
    common = dense - 0.5 * (offset - offset.mean())
    slope = np.polyfit(common - common.mean(), offset, 1)[0]
    truth_n, truth_m = ClockTruth(n.capture("n")), ClockTruth(m.capture("m"))
    found = carrier_offset(truth_n, truth_m, float(CARRIER_HZ), frames)
    # The raster of 50 µs against a finer one; the waves alone move the carrier by hundreds of hertz.
    assert found == pytest.approx(-float(CARRIER_HZ) * slope, abs=1e-3)
    reverse = [tuple(truth_m.reading_at(truth_n.true_time_of(moment)) for moment in frame) for frame in frames]
    assert carrier_offset(truth_m, truth_n, CARRIER_HZ, reverse) == pytest.approx(-found, abs=1e-4)  # type: ignore[arg-type]


def test_a_loss_at_the_beginning_does_not_shift_the_truth() -> None:
    n, m = random_pair(2)
    whole, other = n.capture("n"), m.capture("m")
    late = replace(
        whole,
        stretches=(Stretch(0, SAMPLES - 5000, n.first_tick + 5000),),
        truth={**(whole.truth or {}), "first_tick": n.first_tick},
    )
    epoch = Moment("n", n.first_tick + 900_000, 0.5, RATE_HZ)
    assert time_offset(late, other, epoch) == time_offset(whole, other, epoch)


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    n, m = random_pair(1)
    capture = n.capture("n")
    with pytest.raises(ValueError, match="truth of clock 'n' covers"):
        time_offset(capture, m.capture("m"), Moment("n", n.first_tick + SAMPLES + 10 * SPACING, 0.0, RATE_HZ))
    with pytest.raises(ValueError, match="a moment of clock 'x'"):
        time_offset(capture, m.capture("m"), Moment("x", n.first_tick, 0.0, RATE_HZ))
    with pytest.raises(ValueError, match="carries no truth"):
        ClockTruth(replace(capture, truth=None))
    with pytest.raises(ValueError, match="two knots"):
        ClockTruth(replace(capture, truth={**(capture.truth or {}), "elapsed_error_s": [0.0]}))
    moment = Moment("n", n.first_tick, 0.0, RATE_HZ)
    with pytest.raises(ValueError, match="no interval"):
        carrier_offset(capture, m.capture("m"), CARRIER_HZ, [])
    with pytest.raises(ValueError, match="must end after"):
        carrier_offset(capture, m.capture("m"), CARRIER_HZ, [(moment, moment)])


def test_true_time_carries_over_whole_seconds() -> None:
    assert TrueTime.at(5, 2.25) == TrueTime(7, 0.25)
    assert TrueTime.at(5, -0.25) == TrueTime(4, 0.75)
    assert TrueTime.at(5, -1e-20) == TrueTime(5, 0.0)
    assert TrueTime(10**9, 0.25).seconds_since(TrueTime(10**9 - 1, 0.5)) == 0.75
