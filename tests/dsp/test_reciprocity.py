"""Maximum likelihood and matrix pencil on products with known answers, and the wrong-cell rate on reference R-A."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import Observation
from dsp.synchronization.carrier_alias import two_way_alias
from dsp.synchronization.matched_product import two_way_link
from dsp.synchronization.reciprocity import ReciprocityMLE, ReciprocityPencil, likelihood_residual
from testbed.bench.reference_ra import draw, run

RATE_HZ = Fraction(20_000_000)
METHODS = [ReciprocityMLE(), ReciprocityPencil()]


def observed(
    generator: np.random.Generator,
    *,
    to_s: float,
    cfo_hz: float,
    weights: np.ndarray | None = None,
    noise: float = 0.0,
    f: np.ndarray | None = None,
    t: np.ndarray | None = None,
    frames: np.ndarray | None = None,
) -> Observation:
    """Offsets at time zero of the symbols, channel of five paths, sampling offset coupled to the carrier's."""
    f = (np.arange(96) - 47.5) * 100e3 if f is None else f
    t = (np.arange(24) - 11.5) * 10e-6 if t is None else t
    gains = generator.normal(size=5) + 1j * generator.normal(size=5)
    scene = np.exp(-2j * np.pi * np.outer(f, generator.uniform(0.0, 1e-6, 5))) @ gains
    turn = np.exp(2j * np.pi * (cfo_hz * t[:, None] * (1 + f / 3e9) - to_s * f))
    weights = np.ones(turn.shape) if weights is None else weights
    states = []
    for clock, values in (("n", scene * turn), ("m", scene * np.conj(turn))):
        noisy = generator.normal(size=turn.shape) + 1j * generator.normal(size=turn.shape)
        spread = np.sqrt(np.divide(noise / 2, weights, out=np.zeros_like(weights), where=weights > 0))
        states.append(
            ChannelState(
                values=np.where(weights > 0, values + spread * noisy, 0.0)[None],
                weights=weights,
                subcarrier_hz=f,
                symbol_s=t,
                reference=Moment(clock, 7, 0.0, RATE_HZ),
                cfo_reference_hz=0.0,
                carrier_hz=Fraction(3_000_000_000),
                noise=np.array([max(noise, 1e-12)]),
                frame_of_symbol=np.zeros(len(t), dtype=np.intp) if frames is None else frames,
            )
        )
    zero = Moment("m", 7, 0.0, RATE_HZ), Moment("n", 7, 0.0, RATE_HZ)
    return Observation(states[0], zero[0], states[1], zero[1])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_exact_without_noise_over_the_whole_unambiguous_range(method: ReciprocityMLE | ReciprocityPencil) -> None:
    generator = np.random.default_rng(1)
    for _ in range(12):
        to_s, cfo_hz = generator.uniform(-2.4e-6, 2.4e-6), generator.uniform(-24e3, 24e3)
        offset = method.estimate(observed(generator, to_s=to_s, cfo_hz=cfo_hz))
        # The offset is stated at the symbols' mean time, which is zero here.
        assert offset.to_s == pytest.approx(to_s, abs=2e-14)
        assert offset.cfo_hz == pytest.approx(cfo_hz, abs=1e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_hole_at_dc_and_frames_with_gaps(method: ReciprocityMLE | ReciprocityPencil) -> None:
    f = np.concatenate([np.arange(-48, 0), np.arange(1, 49)]) * 100e3
    t = np.concatenate([np.arange(8) * 10e-6 + frame * 1.3e-3 for frame in range(5)])
    frames = np.repeat(np.arange(5), 8)
    generator = np.random.default_rng(2)
    for _ in range(8):
        to_s, cfo_hz = generator.uniform(-1e-7, 1e-7), generator.uniform(-3e3, 3e3)
        observation = observed(generator, to_s=to_s, cfo_hz=cfo_hz, noise=1e-4, f=f, t=t - t.mean(), frames=frames)
        offset = method.estimate(observation)
        assert offset.to_s == pytest.approx(to_s, abs=5 * offset.to_std_s)
        assert offset.cfo_hz == pytest.approx(cfo_hz, abs=5 * offset.cfo_std_hz)
        assert offset.cfo_std_hz < 1.0  # all frames together: a single one gives ten times that


def test_weights_of_the_constellation_are_used() -> None:
    """Elements of 64-QAM: weighting them gains over dividing and treating all alike, and the deviation knows."""
    generator = np.random.default_rng(3)
    levels = np.array([1.0, 3.0, 5.0, 7.0])
    blind, weighted, stated = [], [], []
    for _ in range(60):
        weights = (generator.choice(levels, (24, 96)) ** 2 + generator.choice(levels, (24, 96)) ** 2) / 42.0
        observation = observed(generator, to_s=3e-8, cfo_hz=40.0, weights=weights, noise=1.0)
        offset = ReciprocityMLE().estimate(observation)
        weighted.append(offset.to_s - 3e-8)
        stated.append(offset.to_std_s)
        assert observation.reverse is not None
        flat = [replace(state, weights=np.ones((24, 96))) for state in (observation.forward, observation.reverse)]
        blind.append(ReciprocityMLE().estimate(replace(observation, forward=flat[0], reverse=flat[1])).to_s - 3e-8)
    assert np.mean(np.square(weighted)) < 0.75 * np.mean(np.square(blind))
    assert 0.55 < np.mean(np.square(weighted) / np.square(stated)) < 1.6


def test_pilots_alone_suffice() -> None:
    generator = np.random.default_rng(4)
    weights = np.zeros((24, 96))
    for symbol in range(24):
        weights[symbol, symbol % 4 :: 4] = 1.0
    observation = observed(generator, to_s=5e-8, cfo_hz=-300.0, weights=weights, noise=1e-3)
    for method in METHODS:
        offset = method.estimate(observation)
        assert offset.to_s == pytest.approx(5e-8, abs=5 * offset.to_std_s)
        assert offset.cfo_hz == pytest.approx(-300.0, abs=5 * offset.cfo_std_hz)


def test_directions_of_unequal_noise_state_the_right_deviation() -> None:
    generator = np.random.default_rng(5)
    scaled = []
    for _ in range(60):
        observation = observed(generator, to_s=1e-8, cfo_hz=10.0, noise=0.01)
        assert observation.reverse is not None
        noisy = observation.reverse.values + np.sqrt(0.5) * (
            generator.normal(size=(1, 24, 96)) + 1j * generator.normal(size=(1, 24, 96))
        )
        reverse = replace(observation.reverse, values=noisy, noise=np.array([1.01]))
        offset = ReciprocityMLE().estimate(replace(observation, reverse=reverse))
        scaled.append((offset.to_s - 1e-8) / offset.to_std_s)
    assert 0.55 < np.mean(np.square(scaled)) < 1.6


def test_no_signal_is_refused() -> None:
    observation = observed(np.random.default_rng(6), to_s=0.0, cfo_hz=0.0, noise=1e-3)
    silent = replace(observation.forward, values=observation.forward.values * 1e-6)
    with pytest.raises(ValueError, match="no signal"):
        ReciprocityMLE().estimate(replace(observation, forward=silent))


def test_frames_that_do_not_meet_are_refused() -> None:
    observation = observed(np.random.default_rng(7), to_s=0.0, cfo_hz=0.0, noise=1e-3)
    other = replace(observation.forward, frame_of_symbol=observation.forward.frame_of_symbol + 1)
    with pytest.raises(ValueError, match="no frame in common"):
        ReciprocityMLE().estimate(replace(observation, forward=other))


def test_reference_scenario_slice() -> None:
    """A small seeded slice of reference R-A: ratios to the bound, honest deviations, no trial in a wrong cell."""
    rows = {(row.snr_db, row.method): row for row in run(16, seed=2, snr_db=(0.0, 20.0))}
    for snr_db in (0.0, 20.0):
        mle, pencil = rows[snr_db, "reciprocity-mle"], rows[snr_db, "reciprocity-mp"]
        assert mle.ratio < 1.08 + 3 * mle.standard_error_s / mle.bound_s
        assert pencil.ratio < 1.25 + 3 * pencil.standard_error_s / pencil.bound_s
        assert 0.4 < mle.nees < 1.9
        assert mle.outliers == pencil.outliers == 0
        assert rows[snr_db, "spectral-cc"].ratio == pytest.approx(1.05, abs=0.3)
        assert rows[snr_db, "spectral-cc-interpolated"].ratio < 1.4


def test_reference_draw_states_its_truth() -> None:
    """Phase slope of the noiseless directions' product, by hand: -4π·D·TO at the middle symbol."""
    observation, to_s, _ = draw(np.random.default_rng(8), 200.0)
    assert observation.reverse is not None
    product = (observation.forward.values * np.conj(observation.reverse.values))[0]
    middle = product[31] * 1.0
    slope = np.angle(np.sum(middle[1:] * np.conj(middle[:-1])))
    assert slope / (-4 * np.pi * 120e3) == pytest.approx(to_s, abs=1e-12)


def test_noise_of_the_channel_is_no_alias() -> None:
    """At -10 dB the matched product is mostly noise times noise; an eighth of such links was called aliased."""
    generator = np.random.default_rng(17)
    for _ in range(40):
        link = two_way_link(draw(generator, -10.0)[0])
        assert two_way_alias(link, likelihood_residual(link)) == 0
