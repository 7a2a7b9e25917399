"""Two clocks that stamped the same exchange, with losses, jitter and unknown starts."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.sensing.packet_clock import compare_clocks


def exchange(
    seed: int, rate_ppm: float, *, jitter_s: float = 40e-6, wander_s: float = 2e-4, packets: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.cumsum(1.0 + wander_s * rng.normal(size=packets))
    kept = rng.uniform(size=(2, packets)) > 0.04
    own = true[kept[0]] + jitter_s * rng.normal(size=np.count_nonzero(kept[0]))
    other = (true[kept[1]] + 3e-3) * (1 + rate_ppm * 1e-6) + jitter_s * rng.normal(size=np.count_nonzero(kept[1]))
    return own - own[0], other - other[0]


@pytest.mark.parametrize("rate_ppm", [-2.57, 0.0, 17.3])
def test_rate_is_found_with_an_honest_deviation(rate_ppm: float) -> None:
    squares = []
    for seed in range(12):
        found = compare_clocks(*exchange(seed, rate_ppm))
        assert found.reason == ""
        assert found.rate_ppm is not None
        assert found.rate_std_ppm is not None
        assert abs(found.rate_ppm - rate_ppm) < 0.3
        squares.append(((found.rate_ppm - rate_ppm) / found.rate_std_ppm) ** 2)
        assert len(found.pairs) > 240
    # Chi-square with 12 degrees of freedom, mean over them: 0.26 to 2.5 at one in a thousand either way.
    assert 0.26 < np.mean(squares) < 2.5


def test_exchanged_roles_give_the_opposite_sign() -> None:
    own, other = exchange(5, 8.0)
    forward, back = compare_clocks(own, other), compare_clocks(other, own)
    assert forward.rate_ppm is not None
    assert back.rate_ppm == pytest.approx(-forward.rate_ppm, abs=0.1)


def test_a_periodic_train_is_refused() -> None:
    train = np.arange(200) * 0.01
    assert compare_clocks(train, train * (1 + 1e-6)).rate_ppm is None
    assert "periodic" in compare_clocks(train, train * (1 + 1e-6)).reason


def test_unrelated_and_short_records_are_refused() -> None:
    rng = np.random.default_rng(3)
    apart = compare_clocks(np.cumsum(rng.exponential(1.0, 60)), np.cumsum(rng.exponential(1.0, 60)))
    assert apart.rate_ppm is None
    assert compare_clocks(np.arange(5.0), np.arange(5.0)).rate_ppm is None
