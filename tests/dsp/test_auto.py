"""`auto`: which method it takes on channels of known kind, and that its choice is as good as its error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsp.synchronization.auto import Automatic
from dsp.synchronization.base import MissingInputError, Observation, Port
from testbed.bench import reference_ra
from testbed.bench.reference_structured import Amplitudes, draw, separate_draw

METHOD = Automatic()


@pytest.mark.parametrize(
    ("kind", "snr_db", "expected"),
    [
        (Amplitudes.RECIPROCAL, 20.0, "reciprocity-mle"),
        (Amplitudes.RECIPROCAL, -5.0, "reciprocity-structured"),
        (Amplitudes.PHASES, 20.0, "reciprocity-structured"),
        (Amplitudes.INDEPENDENT, 0.0, "reciprocity-structured"),
    ],
)
def test_choice_and_error_on_channels_of_known_kind(kind: Amplitudes, snr_db: float, expected: str) -> None:
    generator = np.random.default_rng(1)
    chosen = []
    for _ in range(5):
        trial = draw(generator, snr_db, kind)
        offset = METHOD.estimate(trial.observation)
        chosen.append(offset.details["chosen"])
        assert offset.reason.startswith(chosen[-1])
        assert f"SNR {offset.snr_db:.1f} dB" in offset.reason
        assert offset.valid
        assert abs(offset.to_s - trial.to_s) < 5.0 * trial.bound_s + 5.0 * offset.to_std_s
        assert abs(offset.to_s - trial.to_s) < 5.0 * offset.to_std_s
    assert chosen.count(expected) >= 3  # a draw may fade into a single path, which is reciprocal whatever its phase


def crowded(generator: np.random.Generator, *, reciprocal: bool) -> tuple[Observation, float]:
    """Channel free on every subcarrier, at rest: no number of paths explains it."""
    observation, to_s, _ = reference_ra.draw(generator, 20.0)
    assert observation.reverse is not None
    f, t = observation.forward.subcarrier_hz, observation.forward.symbol_s
    channel = generator.normal(size=(2, f.size)) + 1j * generator.normal(size=(2, f.size))
    states = []
    for number, (state, sign) in enumerate(((observation.forward, 1.0), (observation.reverse, -1.0))):
        h = channel[0 if reciprocal else number] / np.sqrt(2.0)
        values = np.tile(h * np.exp(-2j * np.pi * f * sign * to_s), (t.size, 1))
        scatter = generator.normal(size=(2, *values.shape)) * np.sqrt(0.5 * float(state.noise[0]))
        states.append(replace(state, values=(values + scatter[0] + 1j * scatter[1])[None]))
    return replace(observation, forward=states[0], reverse=states[1]), to_s


def test_channel_without_resolved_paths_goes_to_the_product_only_if_reciprocal() -> None:
    generator = np.random.default_rng(2)
    observation, to_s = crowded(generator, reciprocal=True)
    offset = METHOD.estimate(observation)
    assert offset.valid, offset.reason
    assert offset.details["chosen"] == "reciprocity-mle"
    assert abs(offset.to_s - to_s) < 5.0 * offset.to_std_s
    assert not METHOD.estimate(crowded(generator, reciprocal=False)[0]).valid


def test_separate_ports_and_missing_reverse_link() -> None:
    trial = separate_draw(np.random.default_rng(3), 20.0)
    offset = METHOD.estimate(trial.observation)
    assert offset.valid, offset.reason
    assert offset.details["chosen"] == "reciprocity-structured"
    assert "separate ports" in offset.reason
    assert abs(offset.to_s - trial.to_s) < 5.0 * offset.to_std_s
    blind = METHOD.estimate(replace(trial.observation, extras={}))
    assert blind.valid is False
    assert trial.observation.port is Port.SEPARATE
    with pytest.raises(MissingInputError, match="the reverse link"):
        METHOD.estimate(replace(trial.observation, reverse=None))
