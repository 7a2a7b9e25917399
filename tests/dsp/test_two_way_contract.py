"""Every reciprocity method on what is particular to two directions, links made from the clock model alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.oscillator import PowerLaw
from dsp.synchronization.base import MissingInputError, Observation, Port
from dsp.synchronization.registry import METHODS, method

RATE_HZ = Fraction(20_000_000)
CARRIER_HZ = 2.4e9
SPACING_HZ = 20e6 / 256
SUBCARRIER_HZ = SPACING_HZ * np.concatenate([np.arange(-100, 0), np.arange(1, 101)])
SYMBOL_S = 1.125 / SPACING_HZ
OFFSET_METHODS = ["reciprocity-mle", "reciprocity-mp", "spectral-cc", "spectral-cc-interpolated"]
RECIPROCITY = ["reciprocity-mle", "reciprocity-mp"]

Path = tuple[complex, float, float]


@dataclass(frozen=True)
class Clock:
    """Reading theta + (1 + delta)·t at true time t."""

    delta: float
    theta_s: float

    def reading_s(self, true_s: np.ndarray | float) -> np.ndarray | float:
        return self.theta_s + (1.0 + self.delta) * true_s


@dataclass(frozen=True)
class TwoWay:
    observation: Observation
    receiver: Clock
    transmitter: Clock

    def offset_s(self, epoch: Moment) -> float:
        """s_n - s_m at the instant at which n's clock reads the epoch."""
        reading_s = (epoch.tick + epoch.fraction) / float(RATE_HZ)
        true_s = (reading_s - self.receiver.theta_s) / (1.0 + self.receiver.delta)
        return self.receiver.reading_s(true_s) - self.transmitter.reading_s(true_s)

    @property
    def cfo_hz(self) -> float:
        n, m = self.receiver.delta, self.transmitter.delta
        return CARRIER_HZ * (m - n) / (1.0 + 0.5 * (m + n))  # per second of the mean clock: true time is unknowable


def heard(
    generator: np.random.Generator,
    receiver: tuple[str, Clock],
    transmitter: tuple[str, Clock],
    departure_true_s: float,
    paths: list[Path],
    *,
    symbols: int,
    frames: int,
    snr_db: float,
) -> tuple[ChannelState, Moment]:
    """CSI by evaluating what the receiver's clock and local oscillator make of the transmitter's, path by path."""
    (here, n), (there, m) = receiver, transmitter
    departure_s = m.reading_s(departure_true_s)
    reference = Moment.at(
        here,
        (n.reading_s(departure_true_s + paths[0][1]) + generator.uniform(-20e-9, 20e-9)) * float(RATE_HZ),
        RATE_HZ,
    )
    cfo_reference_hz = CARRIER_HZ * (m.delta - n.delta) / (1 + n.delta) + generator.uniform(-3.0, 3.0)
    nominal_s = np.concatenate(
        [frame * 2 * symbols * SYMBOL_S + (np.arange(symbols) + 0.6) * SYMBOL_S for frame in range(frames)]
    )
    since_s = nominal_s / (1.0 + cfo_reference_hz / CARRIER_HZ)
    true_s = ((reference.tick + reference.fraction) / float(RATE_HZ) + since_s - n.theta_s) / (1.0 + n.delta)
    values = np.zeros((len(nominal_s), len(SUBCARRIER_HZ)), dtype=complex)
    for gain, delay_s, doppler_hz in paths:
        flight_s = delay_s - doppler_hz / CARRIER_HZ * true_s
        advance_s = m.delta * (true_s - flight_s) - n.delta * true_s - flight_s  # s_m(t - tau) - s_n(t), less thetas
        turns = CARRIER_HZ * advance_s - cfo_reference_hz * since_s
        position_s = m.reading_s(true_s - flight_s) - departure_s - nominal_s
        values += (
            gain
            * np.exp(2j * np.pi * (turns % 1.0))[:, None]
            * np.exp(2j * np.pi * np.outer(position_s, SUBCARRIER_HZ))
        )
    values *= np.exp(2j * np.pi * generator.uniform())
    power = sum(abs(gain) ** 2 for gain, _, _ in paths)
    noise = power * 10 ** (-snr_db / 10)
    values += np.sqrt(noise / 2) * (generator.normal(size=values.shape) + 1j * generator.normal(size=values.shape))
    state = ChannelState(
        values=values[None],
        weights=np.ones(values.shape),
        subcarrier_hz=SUBCARRIER_HZ,
        symbol_s=since_s,
        reference=reference,
        cfo_reference_hz=cfo_reference_hz,
        carrier_hz=Fraction(2_400_000_000),
        noise=np.array([noise]),
        frame_of_symbol=np.repeat(np.arange(frames), symbols),
    )
    return state, Moment.at(there, departure_s * float(RATE_HZ), RATE_HZ)


def two_way(
    seed: int,
    *,
    ppm: float = 25.0,
    symbols: int = 16,
    frames: int = 1,
    snr_db: float = 30.0,
    echoes: int = 5,
    mover: Path | None = None,
    change: Callable[[np.random.Generator, list[Path]], list[Path]] | None = None,
) -> TwoWay:
    generator = np.random.default_rng(seed)
    n, m = (Clock(generator.uniform(-ppm, ppm) * 1e-6, generator.uniform(0.0, 0.01)) for _ in range(2))

    def turned() -> complex:
        return complex(np.exp(2j * np.pi * generator.uniform()))

    line_s = generator.uniform(30e-9, 200e-9)
    paths = [(turned(), line_s, 0.0)]
    paths += [
        (10 ** (generator.uniform(-25, -8) / 20) * turned(), line_s + generator.uniform(10e-9, 600e-9), 0.0)
        for _ in range(echoes)
    ]
    if mover is not None:
        paths.append((mover[0] * turned(), line_s + mover[1], mover[2]))
    back = paths if change is None else change(generator, paths)
    forward, departure = heard(
        generator, ("n", n), ("m", m), 0.02, paths, symbols=symbols, frames=frames, snr_db=snr_db
    )
    reverse, reverse_departure = heard(
        generator, ("m", m), ("n", n), 0.03, back, symbols=symbols, frames=frames, snr_db=snr_db
    )
    return TwoWay(Observation(forward, departure, reverse, reverse_departure), n, m)


@pytest.mark.parametrize("name", OFFSET_METHODS)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_offsets_have_the_documented_sign_both_ways(name: str, seed: int) -> None:
    link = two_way(seed)
    there = METHODS[name].estimate(link.observation)
    back = METHODS[name].estimate(link.observation.reversed())
    assert there.valid
    assert there.epoch.clock == "n"
    assert back.epoch.clock == "m"
    assert there.to_s == pytest.approx(link.offset_s(there.epoch), abs=5 * there.to_std_s)
    assert there.cfo_hz == pytest.approx(link.cfo_hz, abs=5 * there.cfo_std_hz)
    assert back.cfo_hz == pytest.approx(-link.cfo_hz, abs=5 * back.cfo_std_hz)
    # On m's clock the epoch is another reading of the same instant.
    apart_s = there.epoch.seconds_since(back.epoch) - there.to_s
    assert abs(apart_s) < 1e-6
    assert back.to_s == pytest.approx(-there.to_s, abs=5 * there.to_std_s)


@pytest.mark.parametrize("name", RECIPROCITY)
@pytest.mark.parametrize(("ppm", "frames"), [(25.0, 1), (0.0, 1), (25.0, 3)])
def test_stated_deviation_is_honest(name: str, ppm: float, frames: int) -> None:
    links = [two_way(100 + seed, ppm=ppm, frames=frames) for seed in range(40)]
    offsets = [METHODS[name].estimate(link.observation) for link in links]
    assert all(offset.valid for offset in offsets)
    time = np.array([(o.to_s - link.offset_s(o.epoch)) / o.to_std_s for o, link in zip(offsets, links, strict=True)])
    frequency = np.array([(o.cfo_hz - link.cfo_hz) / o.cfo_std_hz for o, link in zip(offsets, links, strict=True)])
    # Chi-square of 40 over 40 lies within 0.46 to 1.84 in 99.9 % of such runs.
    assert 0.46 < np.mean(time**2) < 1.84
    assert 0.4 < np.mean(frequency**2) < 1.84  # slow undulation seen in noise may widen it
    assert abs(np.mean(time)) < 0.5


@pytest.mark.parametrize("separation_s", [0.0, 0.01])
def test_wander_of_the_clocks_over_a_slot_of_many_frames_is_not_taken_for_an_error(separation_s: float) -> None:
    """Random walks of time bend the phase far more than noise; the slope asked for is that of the walks themselves."""
    law = PowerLaw(white_fm=1e-20)
    normalised = []
    for seed in range(16):
        link = two_way(500 + seed, ppm=2.0, frames=10, symbols=8)
        observation = link.observation
        generator = np.random.default_rng(seed)
        turned, slopes_hz = [], []
        walk_s = None
        for state, sign in ((observation.forward, -1.0), (observation.reverse, 1.0)):
            t = state.symbol_s
            if walk_s is None or separation_s:
                steps = generator.normal(size=len(t)) * np.sqrt(0.5 * law.white_fm * np.diff(t, prepend=0.0))
                walk_s = np.cumsum(steps)
            phase = 2 * np.pi * CARRIER_HZ * sign * walk_s
            turned.append(replace(state, values=state.values * np.exp(1j * phase)[:, None]))
            slopes_hz.append(-CARRIER_HZ * float(np.polyfit(t, walk_s, 1)[0]))
        offset = METHODS["reciprocity-mle"].estimate(
            replace(observation, forward=turned[0], reverse=turned[1], oscillators=law, separation_s=separation_s)
        )
        assert offset.valid
        normalised.append((offset.cfo_hz - link.cfo_hz - np.mean(slopes_hz)) / offset.cfo_std_hz)
    # Chi-square of 16 over 16 lies within 0.22 to 2.58 in 99.9 % of such runs.
    assert 0.22 < np.mean(np.square(normalised)) < 2.58


def test_directions_are_compared_at_the_same_physical_frequencies() -> None:
    """At 50 ppm the carriers stand 1.5 subcarriers apart: without alignment multipath costs over 10 ps."""
    errors = []
    for seed in range(20):
        link = two_way(300 + seed, snr_db=60.0)
        offset = METHODS["reciprocity-mle"].estimate(link.observation)
        errors.append(offset.to_s - link.offset_s(offset.epoch))
    assert np.sqrt(np.mean(np.square(errors))) < 0.8e-12


@pytest.mark.parametrize("name", OFFSET_METHODS)
def test_common_phase_and_amplitude_change_nothing(name: str) -> None:
    observation = two_way(21, ppm=2.0).observation
    assert observation.reverse is not None
    scaled = replace(
        observation.reverse,
        values=observation.reverse.values * (0.03 * np.exp(1j)),
        noise=observation.reverse.noise * 0.03**2,
    )
    plain = METHODS[name].estimate(observation)
    other = METHODS[name].estimate(replace(observation, reverse=scaled))
    assert other.to_s == pytest.approx(plain.to_s, abs=1e-3 * plain.to_std_s)
    assert other.cfo_hz == pytest.approx(plain.cfo_hz, abs=1e-3 * plain.cfo_std_hz)
    assert other.to_std_s == pytest.approx(plain.to_std_s, rel=1e-6)
    assert other.phase_rad is not None
    assert plain.phase_rad is not None
    turned = np.exp(2j * (other.phase_rad - plain.phase_rad + 0.5))  # half of the phase, known modulo π
    assert abs(np.angle(turned)) < 2e-4


@pytest.mark.parametrize("name", OFFSET_METHODS)
def test_unknown_departure_and_separate_ports_are_said(name: str) -> None:
    observation = two_way(31).observation
    unknown = METHODS[name].estimate(replace(observation, reverse_departure=None))
    assert not unknown.valid
    assert unknown.reason == "departure unknown"
    assert unknown.to_s is None
    separate = METHODS[name].estimate(replace(observation, port=Port.SEPARATE))
    assert not separate.valid
    assert "separate" in separate.reason


@pytest.mark.parametrize("name", OFFSET_METHODS)
def test_missing_reverse_link_is_named(name: str) -> None:
    with pytest.raises(MissingInputError, match="the reverse link"):
        METHODS[name].estimate(replace(two_way(41).observation, reverse=None))


def test_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'reciprocal'.*reciprocity-mle"):
        method("reciprocal")


@pytest.mark.parametrize("name", OFFSET_METHODS)
def test_chain_constant_wander_and_departure_enter(name: str) -> None:
    observation = two_way(51, ppm=2.0).observation
    plain = METHODS[name].estimate(observation)
    widened = METHODS[name].estimate(
        replace(observation, chain_constant_s=3e-9, clock_std_s=4e-11, departure_std_s=3e-11, clock_std_hz=1.0)
    )
    assert widened.to_s == pytest.approx(plain.to_s - 3e-9, abs=1e-15)
    assert widened.to_std_s**2 - plain.to_std_s**2 == pytest.approx(25e-22, rel=1e-6)
    assert widened.cfo_std_hz**2 - plain.cfo_std_hz**2 == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("name", OFFSET_METHODS)
def test_a_lost_frame_in_one_direction_is_left_out_of_both(name: str) -> None:
    link = two_way(61, frames=3)
    reverse = link.observation.reverse
    assert reverse is not None
    kept = reverse.frame_of_symbol != 1
    lost = replace(
        reverse,
        values=reverse.values[:, kept],
        weights=reverse.weights[kept],
        symbol_s=reverse.symbol_s[kept],
        frame_of_symbol=reverse.frame_of_symbol[kept],
    )
    offset = METHODS[name].estimate(replace(link.observation, reverse=lost))
    assert offset.to_s == pytest.approx(link.offset_s(offset.epoch), abs=5 * offset.to_std_s)
    assert offset.cfo_hz == pytest.approx(link.cfo_hz, abs=5 * offset.cfo_std_hz)


@pytest.mark.parametrize("level_db", [-20.0, -40.0])
@pytest.mark.parametrize("name", RECIPROCITY)
def test_unresolved_mover_is_covered_by_the_deviation(name: str, level_db: float) -> None:
    """The mover's phase differs between the slots; within 1.8 ms its Doppler of 40 Hz cannot be told from rest."""
    generator = np.random.default_rng(5)
    covered, judged = 0, 40
    for seed in range(judged):
        mover = (10 ** (level_db / 20), generator.uniform(20e-9, 300e-9), generator.uniform(20.0, 60.0))
        link = two_way(500 + seed, mover=mover)
        offset = METHODS[name].estimate(link.observation)
        error_s = abs(offset.to_s - link.offset_s(offset.epoch))
        covered += not offset.valid or error_s < 1.645 * offset.to_std_s
    assert covered >= 0.85 * judged  # 90 % less one and a half standard errors of 40 trials


def test_paths_that_are_not_reciprocal_are_recognised() -> None:
    def scrambled(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
        return [(gain * np.exp(2j * np.pi * generator.uniform()), *rest) for gain, *rest in paths]

    for seed in range(20):
        link = two_way(700 + seed, change=scrambled)
        offset = METHODS["reciprocity-mle"].estimate(link.observation)
        error_s = abs(offset.to_s - link.offset_s(offset.epoch))
        assert not offset.valid or error_s < 4 * offset.to_std_s
