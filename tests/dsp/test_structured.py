"""Shared paths with free amplitudes: against the model written out, finite differences, and broken assumptions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Observation, Port
from dsp.synchronization.matched_product import two_way_link
from dsp.synchronization.structured import LINE_OF_SIGHT, LineOfSight, ReciprocityStructured
from dsp.synchronization.structured_fit import SharedPaths
from testbed.bench.reference_structured import Amplitudes, draw

METHOD = ReciprocityStructured()
RATE_HZ = Fraction(20_000_000)
CARRIER_HZ = 2.4e9
F = 312.5e3 * np.concatenate([np.arange(-32, 0), np.arange(1, 33)])
CELL_S = 1.0 / float(np.ptp(F))

Directions = tuple[np.ndarray, np.ndarray]


def observed(
    generator: np.random.Generator,
    gains: Directions,
    delays_s: Directions,
    dopplers_hz: np.ndarray,
    *,
    to_s: float,
    cfo_hz: float,
    noise: float,
    frames: int = 1,
    reverse_lag_s: float = 0.0,
    **more: object,
) -> Observation:
    """The signal model of both directions; the reverse slot starts ``reverse_lag_s`` after the forward one.

    Delays hold at the forward and at the reverse slot's middle, TO half-way between them.
    """
    t = np.concatenate([np.arange(16) * 50e-6 + frame * 2.3e-3 for frame in range(frames)])
    t = t - t.mean()
    states = []
    for clock, sign, amplitudes, delay_s in zip(("n", "m"), (1.0, -1.0), gains, delays_s, strict=True):
        values = np.zeros((t.size, F.size), complex)
        for amplitude, tau, nu in zip(amplitudes, delay_s, dopplers_hz, strict=True):
            turns = (nu + sign * cfo_hz) * np.outer(t, 1.0 + F / CARRIER_HZ) - F * (tau + sign * to_s)
            values += amplitude * np.exp(2j * np.pi * turns)
        scatter = generator.normal(size=values.shape) + 1j * generator.normal(size=values.shape)
        values += np.sqrt(noise / 2) * scatter
        start = Moment(clock, 0, 0.0, RATE_HZ).shifted(reverse_lag_s if clock == "m" else 0.0)
        states.append(
            ChannelState(
                values=values[None],
                weights=np.ones(values.shape),
                subcarrier_hz=F,
                symbol_s=t,
                reference=start,
                cfo_reference_hz=0.0,
                carrier_hz=Fraction(int(CARRIER_HZ)),
                noise=np.array([noise]),
                frame_of_symbol=np.repeat(np.arange(frames), 16),
            )
        )
    departed = Moment("m", 0, 0.0, RATE_HZ), Moment("n", 0, 0.0, RATE_HZ).shifted(reverse_lag_s)
    return Observation(states[0], departed[0], states[1], departed[1], **more)  # type: ignore[arg-type]


def scene(generator: np.random.Generator, paths: int = 4) -> tuple[Directions, np.ndarray, np.ndarray]:
    """Amplitudes of -9 to 0 dB, phases free in each direction; delays two cells or more apart; ±2 kHz."""
    levels = 10 ** (-generator.uniform(0.0, 9.0, paths) / 20)
    gains = levels * np.exp(2j * np.pi * generator.uniform(size=(2, paths)))
    delays_s = 50e-9 + CELL_S * np.cumsum(generator.uniform(2.0, 3.5, paths))
    return (gains[0], gains[1]), delays_s, generator.uniform(-2e3, 2e3, paths)


@pytest.mark.parametrize("frames", [1, 3])
def test_offsets_and_deviations_where_phases_are_not_reciprocal(frames: int) -> None:
    generator = np.random.default_rng(frames)
    time, frequency = [], []
    for _ in range(20):
        gains, delays_s, dopplers_hz = scene(generator)
        to_s, cfo_hz = generator.uniform(-1e-7, 1e-7), generator.uniform(-1e3, 1e3)
        offset = METHOD.estimate(
            observed(
                generator, gains, (delays_s, delays_s), dopplers_hz,
                to_s=to_s, cfo_hz=cfo_hz, noise=0.1, frames=frames,
            )
        )  # fmt: skip
        assert offset.valid, offset.reason
        assert offset.phase_rad is None
        time.append((offset.to_s - to_s) / offset.to_std_s)
        frequency.append((offset.cfo_hz - cfo_hz) / offset.cfo_std_hz)
    # Chi-square of 20 over 20 lies within 0.29 to 2.27 in 99.9 % of such runs.
    assert 0.29 < np.mean(np.square(time)) < 2.27
    assert 0.29 < np.mean(np.square(frequency)) < 2.27


def test_directions_exchanged_change_the_sign_and_amplitude_and_phase_change_nothing() -> None:
    generator = np.random.default_rng(4)
    gains, delays_s, dopplers_hz = scene(generator)
    seen = observed(generator, gains, (delays_s, delays_s), dopplers_hz, to_s=3.2e-8, cfo_hz=210.0, noise=0.01)
    there, back = METHOD.estimate(seen), METHOD.estimate(seen.reversed())
    assert back.to_s == pytest.approx(-there.to_s, abs=1e-3 * there.to_std_s)
    assert back.cfo_hz == pytest.approx(-there.cfo_hz, abs=1e-3 * there.cfo_std_hz)
    turned = replace(
        seen, forward=replace(seen.forward, values=5j * seen.forward.values, noise=25.0 * seen.forward.noise)
    )
    assert METHOD.estimate(turned).to_s == pytest.approx(there.to_s, abs=1e-3 * there.to_std_s)


def test_bound_is_the_inverse_of_fisher_information_by_finite_differences() -> None:
    """Slepian–Bangs over delays, Dopplers, amplitudes' parts and offsets, all derivatives numerical."""
    generator = np.random.default_rng(5)
    (ahead, back), delays_s, dopplers_hz = scene(generator, 3)
    lag_s, noise = 4e-3, 0.1
    seen = observed(generator, (ahead, back), (delays_s, delays_s), dopplers_hz, to_s=0.0, cfo_hz=0.0, noise=noise)
    link = two_way_link(seen)
    scales = [np.sqrt(np.mean(np.abs(s.values) ** 2) - noise) for s in (seen.forward, seen.reverse)]
    t = link.symbol_s

    def model(x: np.ndarray) -> np.ndarray:
        tau, nu = x[:3] * 1e-9, x[3:6]
        out = []
        for sign, parts in ((1.0, x[6:12]), (-1.0, x[12:18])):
            for u in range(3):
                delay_s = tau[u] + sign * (x[18] * 1e-9 + 0.5 * lag_s * nu[u] / CARRIER_HZ)
                turns = (nu[u] + sign * x[19]) * np.outer(t, 1.0 + F / CARRIER_HZ) - F * delay_s
                out.append((parts[u] + 1j * parts[3 + u]) * np.exp(2j * np.pi * turns))
        return np.concatenate([sum(out[:3]).ravel(), sum(out[3:]).ravel()])

    truth = np.concatenate([delays_s * 1e9, dopplers_hz, ahead.real, ahead.imag, back.real, back.imag, [0.0, 0.0]])
    steps = np.concatenate([np.full(3, 1e-3), np.full(3, 1e-2), np.full(12, 1e-5), [1e-3, 1e-2]])
    slopes = np.stack(
        [(model(truth + s * e) - model(truth - s * e)) / (2 * s) for s, e in zip(steps, np.eye(20), strict=True)]
    )
    fisher = 2.0 / noise * (slopes.conj() @ slopes.T).real
    bound_s = 1e-9 * np.sqrt(np.linalg.inv(fisher)[18, 18])
    # The link is scaled to unit power and noise accordingly; amplitudes are solved for within, from quiet data.
    exact = model(truth).reshape(2, t.size, F.size)
    clean = replace(
        link,
        forward=exact[0] / scales[0],
        reverse=exact[1] / scales[1],
        forward_variance=np.full(exact[0].shape, noise / scales[0] ** 2),
        reverse_variance=np.full(exact[1].shape, noise / scales[1] ** 2),
    )
    paths = np.column_stack([delays_s, dopplers_hz])
    at_truth = SharedPaths(clean, gap_s=lag_s).information(paths, np.zeros(1), 0.0)
    assert np.sqrt(at_truth.covariance[0, 0]) == pytest.approx(bound_s, rel=1e-4)


def test_separate_ports_lean_on_the_line_of_sight_alone() -> None:
    generator = np.random.default_rng(6)
    errors = []
    for _ in range(12):
        gains, delays_s, _ = scene(generator)
        gains[0][0], gains[1][0] = 1.0, 1j
        shifts_s = generator.uniform(-3e-10, 3e-10, 4)  # 10 cm of port separation, seen from any direction
        pair = delays_s + 0.5 * shifts_s, delays_s - 0.5 * shifts_s
        to_s = generator.uniform(-1e-7, 1e-7)
        sight = LineOfSight(float(pair[0][0]), float(pair[1][0]))
        seen = observed(
            generator, gains, pair, np.zeros(4), to_s=to_s, cfo_hz=10.0, noise=1e-3,
            port=Port.SEPARATE, extras={LINE_OF_SIGHT: sight},
        )  # fmt: skip
        offset = METHOD.estimate(seen)
        assert offset.valid, offset.reason
        errors.append((offset.to_s - to_s) / offset.to_std_s)
        if len(errors) > 2:
            continue
        unknown = METHOD.estimate(replace(seen, extras={}))
        assert not unknown.valid
        assert "geometry" in unknown.reason
        late = LineOfSight(sight.forward_s - 40e-9, sight.reverse_s - 40e-9)
        blocked = METHOD.estimate(replace(seen, extras={LINE_OF_SIGHT: late}))
        assert not blocked.valid
        assert "line of sight" in blocked.reason
    assert 0.18 < np.mean(np.square(errors)) < 2.75  # chi-square of 12 over 12, 99.9 %


@pytest.mark.parametrize("what", ["a delay differs", "nothing shared", "crowd"])
def test_broken_assumptions_are_said(what: str) -> None:
    generator = np.random.default_rng(7)
    for _ in range(6):
        gains, delays_s, dopplers_hz = scene(generator)
        pair = delays_s, delays_s
        if what == "a delay differs":
            pair = delays_s, delays_s + np.array([0.0, 0.0, 0.0, generator.uniform(0.1, 0.5)]) * CELL_S
        elif what == "nothing shared":
            pair = delays_s, delays_s + CELL_S * np.array([0.0, 3.0, 11.0, 31.0])
            dopplers_hz = np.zeros(4)
        elif what == "crowd":
            gains = tuple(generator.normal(size=(2, 60)) + 1j * generator.normal(size=(2, 60)))
            pair = (generator.uniform(0.0, 8.0, 60) * CELL_S,) * 2
            dopplers_hz = np.zeros(60)
        offset = METHOD.estimate(observed(generator, gains, pair, dopplers_hz, to_s=1e-8, cfo_hz=50.0, noise=0.03))
        assert not offset.valid or abs(offset.to_s - 1e-8) < 4.0 * offset.to_std_s, offset


def test_missing_inputs_and_departure() -> None:
    generator = np.random.default_rng(8)
    gains, delays_s, dopplers_hz = scene(generator)
    seen = observed(generator, gains, (delays_s, delays_s), dopplers_hz, to_s=0.0, cfo_hz=0.0, noise=0.01)
    with pytest.raises(MissingInputError, match="the reverse link"):
        METHOD.estimate(replace(seen, reverse=None))
    unknown = METHOD.estimate(replace(seen, departure=None))
    assert unknown.to_s is None
    assert unknown.reason == "departure unknown"


@pytest.mark.parametrize("seed", [112, 214, 360])
def test_directions_led_astray_by_their_strongest_paths_are_paired_again(seed: int) -> None:
    """Reference R-A draws whose first path of one direction met another of the other's: nine paths, one shared."""
    trial = draw(np.random.default_rng([77, 70, seed, 0]), 20.0, Amplitudes.INDEPENDENT)
    offset = METHOD.estimate(trial.observation)
    assert offset.valid, offset.reason
    assert offset.details["paths"] == 5
    assert abs(offset.to_s - trial.to_s) < 4.0 * trial.bound_s
