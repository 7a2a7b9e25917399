"""The suite that all fifteen methods pass: truth from the clock model alone (methods section 1).

Links are made by `testbed.bench.contract_links`, one maker for each input that a method needs, and judged by
`testbed.bench.contract`; `isac bench accuracy contract` runs the same with the trials that figures need. What is
particular to the two-way methods is in test_two_way_contract.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dsp.synchronization.base import MissingInputError, Need
from dsp.synchronization.registry import METHODS
from testbed.bench.contract import (
    BELOW_DB,
    MEMBERS,
    SNR_DB,
    Quantity,
    estimated,
    first_harmonic,
    quantities,
    study,
)
from testbed.bench.contract_scenes import Link, two_clocks

NAMES = sorted(MEMBERS)
TWO_WAY = {
    "reciprocity-mle",
    "reciprocity-mp",
    "reciprocity-structured",
    "spectral-cc",
    "spectral-cc-interpolated",
    "auto",
}
HIGH_DB = 25.0


def found(name: str, link: Link) -> dict[str, Quantity]:
    return {one.name: one for one in quantities(MEMBERS[name], estimated(MEMBERS[name], link), link)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [11, 12])
def test_sign_is_the_documented_one_in_both_directions(name: str, seed: int) -> None:
    """The same scene with the nodes' roles exchanged: clock offsets change their sign, delay and Doppler do not."""
    member, clocks = MEMBERS[name], two_clocks(np.random.default_rng(seed))
    there, back = (
        found(name, member.draw(np.random.default_rng(seed + 100), HIGH_DB, clocks=pair))
        for pair in (clocks, clocks[::-1])
    )
    assert set(there) == set(back) == set(member.goals)
    for key, one in there.items():
        other = back[key]
        assert abs(one.error) < 5.0 * one.std
        assert abs(other.error) < 5.0 * other.std
        assert abs(one.value) > 25.0 * one.std  # large enough to have a sign
        assert np.sign(other.value) == (-1.0 if key in ("to_s", "cfo_hz") else 1.0) * np.sign(one.value)


@pytest.mark.parametrize("name", NAMES)
def test_errors_keep_to_bound_and_deviation_without_bias_from_0_to_30_db(name: str) -> None:
    """One run in a thousand of an estimator that just keeps its goal, or is honest, is beyond each limit."""
    member = MEMBERS[name]
    seen = [study(member, snr_db, 10, seed=7) for snr_db in SNR_DB]
    assert all(one.wrong == 0 for one in seen)
    judged = [one for one in seen if one.snr_db >= member.from_db]
    # two in a hundred, to the next whole link of forty
    assert sum(one.trials - one.valid for one in judged) <= np.ceil(0.02 * sum(one.trials for one in judged))
    for key, goal in member.goals.items():
        kept = [one for one in seen if key in one.by_std]
        ratios = np.concatenate([one.by_bound[key] for one in kept])
        normalised = np.concatenate([one.by_std[key] for one in kept])
        assert np.sum(np.square(ratios)) < goal**2 * stats.chi2.isf(1e-3, ratios.size)
        low, high = stats.chi2.ppf([5e-4, 1.0 - 5e-4], normalised.size)
        assert low < np.sum(np.square(normalised)) < high
        amplitude, deviation = first_harmonic(np.concatenate([one.fractions[key] for one in kept]), normalised)
        assert amplitude**2 < stats.chi2.isf(1e-3, 2) * deviation**2
        assert abs(normalised.mean()) < 3.3 * normalised.std() / np.sqrt(normalised.size)


@pytest.mark.parametrize("name", NAMES)
def test_below_threshold_nothing_is_silently_wrong(name: str) -> None:
    seen = [study(MEMBERS[name], snr_db, 8, seed=3) for snr_db in BELOW_DB[1::2]]
    assert sum(one.wrong for one in seen) == 0


@pytest.mark.parametrize("name", NAMES)
def test_common_phase_and_amplitude_change_nothing(name: str) -> None:
    link = MEMBERS[name].draw(np.random.default_rng(21), HIGH_DB)
    plain = found(name, link)
    for direction in ("forward", "reverse") if name in TWO_WAY else ("forward",):
        state = getattr(link.observation, direction)
        scaled = replace(state, values=state.values * (0.03 * np.exp(1j)), noise=state.noise * 0.03**2)
        other = found(name, replace(link, observation=replace(link.observation, **{direction: scaled})))
        assert set(other) == set(plain)
        for key, one in plain.items():
            assert other[key].value == pytest.approx(one.value, abs=0.02 * one.std)
            assert other[key].std == pytest.approx(one.std, rel=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_links_one_by_one(name: str) -> None:
    """Nothing of one link stays behind for the next: any order gives the same numbers to the last bit."""
    generator = np.random.default_rng(31)
    links = [MEMBERS[name].draw(generator, HIGH_DB) for _ in range(3)]
    batch = [found(name, link) for link in links]
    backwards = [found(name, link) for link in reversed(links)]
    assert backwards[::-1] == batch


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_input_is_named(name: str) -> None:
    link = MEMBERS[name].draw(np.random.default_rng(41), HIGH_DB)
    chosen, seen = METHODS[name], link.observation
    without = {
        Need.REVERSE_LINK: replace(seen, reverse=None, reverse_departure=None),
        Need.SECOND_ANTENNA: replace(seen, forward=seen.forward.antenna(0)),
    }
    for need in chosen.needs - {Need.RECIPROCAL_PORTS}:
        less = without.get(need) or replace(seen, extras={key: it for key, it in seen.extras.items() if key != need})
        with pytest.raises(MissingInputError, match=need.value):
            chosen.estimate(less)


def test_the_suite_has_all_fifteen_methods() -> None:
    assert set(MEMBERS) == set(METHODS)
    assert len(MEMBERS) == 15
