"""Clocks over rounds, from oscillators that the simulator draws: predicted, bridged, consistent, begun anew."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from dsp.moment import Moment
from dsp.synchronization.base import Offset
from sim_backend.clocks import Clock, PowerLaw
from testbed.clock_tracks import ClockTracks
from testbed.errors import UserError
from testbed.node_clock import node_clock
from testbed.phase_tracks import PhaseTracks
from testbed.results import Epoch, LinkRow, Results
from testbed.scenario import OSCILLATORS, loads

CARRIER_HZ = 2.4e9
RATE = Fraction(20_000_000)
SLOT_S, GAP_S, ROUND_S = 4e-3, 16e-3, 0.5
TO_STD_S, CFO_STD_HZ = 4e-12, 0.02
NAMES = ("a", "b", "c")


class World:
    """True clocks of an oscillator each, and what a two-way exchange of a pair measures of them."""

    def __init__(self, seed, profile="tcxo", to_std_s=TO_STD_S):
        self.to_std_s = to_std_s
        law = OSCILLATORS[profile]
        self.rng = np.random.default_rng(seed)
        noise = PowerLaw(law.random_walk_fm, law.flicker_fm, law.white_fm, law.flicker_pm, law.white_pm)
        self.clocks = {
            name: Clock(
                offset_ppm=self.rng.uniform(-10, 10), offset_s=float(i), noise=noise, seed=seed, name=name
            )
            for i, name in enumerate(NAMES)
        }  # fmt: skip
        nodes = "".join(f'[[node]]\nname = "{n}"\nposition_m = [{10 * i}, {i}]\n' for i, n in enumerate(NAMES))
        self.scenario = loads(
            '[experiment]\nname = "x"\nmethods = ["reciprocity-mle"]\n[waveform]\ncarrier_hz = 2.4e9\n'
            f"sample_rate_hz = 20e6\n{nodes}".replace("]\n[[", f']\nclock = {{ profile = "{profile}" }}\n[[')
            + f'clock = {{ profile = "{profile}" }}\n',
            source="test",
        )

    def growth(self, name, begin, times_s):
        """Reading less true time, beyond that at the run's begin."""
        clock = self.clocks[name]
        return float(clock.error_at(begin) - clock.offset_s) + clock.growth(begin, np.asarray(times_s))

    def offset_s(self, n, m, begin, times_s):
        base = float(self.clocks[n].offset_s - self.clocks[m].offset_s)
        return base + (self.growth(n, begin, times_s) - self.growth(m, begin, times_s))

    def moment(self, name, begin, time_s):
        reading = begin + Fraction(float(time_s)) + self.clocks[name].offset_s
        exact = reading + Fraction(float(self.growth(name, begin, [time_s])[0]))
        ticks = exact * RATE
        whole = ticks.numerator // ticks.denominator
        return Moment(name, whole, float(ticks - whole), RATE)

    def round(self, index, *, silent=()):
        """Offsets, links heard and captures of one round."""
        begin = Fraction(1) + Fraction(ROUND_S) * index
        grid = np.linspace(-0.5, 0.5, 81) * SLOT_S
        found, said = {}, {}
        for n, m in permutations(NAMES, 2):
            if n > m or n in silent or m in silent:
                continue
            slots = [GAP_S * NAMES.index(name) for name in (m, n)]
            middle = float(np.mean(slots))
            both = [self.offset_s(n, m, begin, slot + grid) for slot in slots]
            mean = [0.5 * (self.growth(n, begin, s + grid) + self.growth(m, begin, s + grid)) + s + grid for s in slots]
            slopes = [np.polyfit(c - c.mean(), x - x.mean(), 1)[0] for c, x in zip(mean, both, strict=True)]
            to_s = float(np.mean([x.mean() for x in both])) + self.to_std_s * self.rng.standard_normal()
            cfo_hz = -CARRIER_HZ * float(np.mean(slopes)) + CFO_STD_HZ * self.rng.standard_normal()
            exact = float(np.mean([x.mean() for x in both]))
            phase = -2 * np.pi * ((CARRIER_HZ * exact) % 1.0) + 0.7 + 0.02 * self.rng.standard_normal()
            epoch = self.moment(n, begin, middle)
            said[n, m, "reciprocity-mle"] = Offset(
                to_s, cfo_hz, epoch, self.to_std_s, CFO_STD_HZ, phase_rad=phase % np.pi, phase_std_rad=0.02
            )
            csi = SimpleNamespace(
                carrier_hz=Fraction(2_400_000_000),
                reference=self.moment(n, begin, slots[0]),
                symbol_s=grid,
            )
            nodes = [self.scenario.node[self.scenario.index(name)] for name in (n, m)]
            found[n, m] = SimpleNamespace(heard=SimpleNamespace(csi=csi, receiver=nodes[0], transmitter=nodes[1]))
        return begin, found, said

    def captures(self, begin, *, stream=0, absent=()):
        return {
            name: SimpleNamespace(
                settings=None,
                node=name,
                stream=stream,
                truth=None,
                rate_hz=RATE,
                carrier_hz=Fraction(2_400_000_000),
                stretches=(SimpleNamespace(first_tick=self.moment(name, begin, 0.0).tick, samples=1_000_000),),
            )
            for name in NAMES
            if name not in absent
        }

    def truth(self, row, begin):
        """Offset of a row's node at its epoch on the reference's clock, by inverting that clock."""
        epoch = row.epoch.moment()
        time_s = 0.0
        for _ in range(6):
            time_s += epoch.seconds_since(self.moment(row.reference, begin, time_s))
        return float(self.offset_s(row.node, row.reference, begin, [time_s])[0])


@pytest.mark.parametrize("profile", ["tcxo", "ocxo"])
def test_tracks_are_consistent_and_bridge_lost_rounds(profile):
    nis, tracked, predicted, closures = [], [], [], []
    for seed in range(3):
        world = World(40 + seed, profile)
        tracks = ClockTracks(world.scenario)
        for index in range(26):
            lost = index in range(14, 19)
            begin, found, said = world.round(index, silent=("c",) if lost else ())
            done = tracks.take(index, found, said, world.captures(begin))
            assert not done.events
            for row in done.nodes[1:]:
                error_s = row.offset_s - world.truth(row, begin)
                if row.source == "predicted":
                    assert row.node == "c"
                    assert lost
                    assert "predicted from earlier rounds" in row.reason
                    assert row.nis is None
                    if index == 18:
                        predicted.append(error_s**2 / row.covariance[0][0])
                        assert row.covariance[0][0] > 4 * TO_STD_S**2  # it has grown
                    continue
                if index > 0:
                    nis.append(row.nis)
                error_s = row.tracked_offset_s - world.truth(row, begin)
                tracked.append(error_s**2 / row.tracked_covariance[0][0])
                assert row.tracked_covariance[0][0] <= row.covariance[0][0] * (1 + 1e-9)
            closures += [(row.residual_s / row.residual_std_s) ** 2 for row in done.closures if row.residual_std_s]
    # both nodes share the reference and each round's noise: half the degrees are worth counting
    low, high = stats.chi2.ppf([0.0005, 0.9995], len(nis)) / len(nis)
    assert low < np.mean(nis) / 2 < high
    assert 0.6 < np.mean(tracked) < 1.5
    assert np.mean(predicted) < stats.chi2.ppf(0.9995, len(predicted)) / len(predicted)
    assert 0.6 < np.mean(closures) < 1.5


def test_a_round_without_the_reference_is_told_against_another():
    world = World(7)
    tracks = ClockTracks(world.scenario)
    for index in range(6):
        begin, found, said = world.round(index)
        tracks.take(index, found, said, world.captures(begin))
    begin, found, said = world.round(6, silent=("a",))
    rows = tracks.take(6, found, said, world.captures(begin, absent=("a",))).nodes
    assert [(row.reference, row.source) for row in rows] == [("b", "predicted"), ("b", "reference"), ("b", "closed")]
    assert abs(rows[0].offset_s - world.truth(rows[0], begin)) < 5 * rows[0].covariance[0][0] ** 0.5
    assert rows[0].covariance[0][0] ** 0.5 < 100e-12
    # nobody heard anybody: the reference's own capture says when
    begin, found, said = world.round(7, silent=NAMES)
    rows = tracks.take(7, found, said, world.captures(begin)).nodes
    assert [row.source for row in rows] == ["reference", "predicted", "predicted"]
    for row in rows[1:]:
        assert abs(row.offset_s - world.truth(row, begin)) < 5 * row.covariance[0][0] ** 0.5


def test_new_streams_and_jumps_are_told_and_end_the_track():
    world = World(8)
    tracks = ClockTracks(world.scenario)
    for index in range(4):
        begin, found, said = world.round(index)
        tracks.take(index, found, said, world.captures(begin))
    begin, found, said = world.round(4)
    done = tracks.take(4, found, said, world.captures(begin, stream=1))
    assert [event.code for event in done.events] == ["clock-track-lost"] * 2
    assert all(row.nis is None for row in done.nodes)
    assert all(row.tracked_offset_s == pytest.approx(row.offset_s, abs=1e-15) for row in done.nodes[1:])
    jump = 1e-9  # of b's clock: both its links show it, and closing cannot
    seen = []
    for index in (5, 6, 7, 8):
        begin, found, said = world.round(index)
        if index > 5:
            for key, sign in ((("a", "b"), -1.0), (("b", "c"), 1.0)):
                one = said[*key, "reciprocity-mle"]
                said[*key, "reciprocity-mle"] = Offset(
                    one.to_s + sign * jump, one.cfo_hz, one.epoch, one.to_std_s, one.cfo_std_hz
                )
        done = tracks.take(index, found, said, world.captures(begin, stream=1))
        seen.append([(event.node, event.code, event.text.rsplit(": ", 1)[1]) for event in done.events])
        assert done.nodes[1].source == "closed"
    assert seen == [
        [],
        [("b", "clock-jump", "not taken into the track")],
        [("b", "clock-jump", "the track begins anew")],
        [],
    ]


def phases(world, rounds, *, streams=lambda index: 0, skip=()):
    tracks = PhaseTracks()
    rows, events = [], []
    for index in range(rounds):
        if index in skip:
            continue
        begin, found, said = world.round(index)
        for key, heard in found.items():
            offset = said[*key, "reciprocity-mle"]
            pair = tuple(
                LinkRow(receiver=n, transmitter=m, round=index, method="reciprocity-mle", valid=True)
                for n, m in (key, key[::-1])
            )
            events += tracks.take(heard.heard, offset, pair, world.captures(begin, stream=streams(index)))
            slots = [GAP_S * NAMES.index(name) for name in key]
            grid = np.linspace(-0.5, 0.5, 81) * SLOT_S
            true_s = np.mean([world.offset_s(*key, begin, slot + grid) for slot in slots])
            rows.append((key, pair, -2 * np.pi * CARRIER_HZ * true_s))
    return rows, events


def test_phase_is_told_on_over_rounds_without_losing_a_half_turn():
    errors = []
    for seed in range(3):
        rows, events = phases(World(60 + seed), 16, skip=(9, 10))
        assert not events
        for link in {key for key, _, _ in rows}:
            mine = [(pair, true) for key, pair, true in rows if key == link]
            first = mine[0][0][0].phase_tracked_rad - mine[0][1]
            for pair, true in mine:
                assert pair[0].phase_tie_round == 0
                assert pair[1].phase_tracked_rad == -pair[0].phase_tracked_rad
                errors.append((pair[0].phase_tracked_rad - true - first) / pair[0].phase_tracked_std_rad)
    # thousands of half turns between rounds; each error is that of two phases
    assert 0.7 < np.mean(np.square(errors)) / 2 < 1.4
    assert np.max(np.abs(errors)) < 8


def test_the_tie_of_the_phase_is_lost_where_it_must_be():
    rows, events = phases(World(70), 6, streams=lambda index: int(index >= 3))
    assert {pair[0].phase_tie_round for _, pair, _ in rows[-3:]} == {3}
    assert [event.code for event in events] == ["phase-tie-lost"] * 3
    assert "the stream of a, b began anew" in events[0].text
    # coarse time offsets are tied by frequency from round to round, but not over minutes without one
    rows, events = phases(World(71, "ocxo", to_std_s=100e-12), 403, skip=range(3, 402))
    assert {pair[0].phase_tie_round for _, pair, _ in rows} == {0, 402}
    assert [event.code for event in events] == ["phase-tie-lost"] * 3
    assert "its prediction deviates by" in events[0].text


def test_a_clock_is_told_at_any_moment_of_a_run():
    """Between rounds, over lost ones, before and beyond: errors as stated, and the closer the smaller."""
    scores, widths = [], []
    for seed in range(3):
        world = World(90 + seed)
        tracks, nodes, begins = ClockTracks(world.scenario), [], []
        for index in range(20):
            begin, found, said = world.round(index, silent=("c",) if index in range(8, 13) else ())
            begins.append(begin)
            nodes += tracks.take(index, found, said, world.captures(begin)).nodes
        clock = node_clock(Results(environment={}, nodes=nodes), world.scenario, "c")
        assert (clock.node, clock.reference, len(clock.measurements)) == ("c", "a", 15)
        moments = [-0.4, 1.25, 5.0, 11.0]  # before, between two rounds, amid lost ones, beyond
        for when, said in zip(moments, clock.over(moments), strict=True):
            row = SimpleNamespace(node="c", reference="a", epoch=Epoch.of(clock.origin.shifted(when)))
            error_s = said.offset_s - world.truth(row, begins[0])
            scores.append(error_s**2 / said.covariance[0, 0])
            widths.append(said.offset_std_s)
        again = clock.at(clock.origin.shifted(1.25))
        assert again.offset_s == pytest.approx(clock.at(1.25).offset_s, abs=1e-16)
    before, between, amid, beyond = np.mean(np.reshape(widths, (3, 4)), axis=0)
    assert between < min(before, amid, beyond)
    assert np.mean(scores) < stats.chi2.ppf(0.9995, len(scores)) / len(scores)
    with pytest.raises(ValueError, match="told by 'a'"):
        clock.at(Moment("b", 0, 0.0, RATE))
    with pytest.raises(UserError, match="is the reference"):
        node_clock(Results(environment={}, nodes=nodes), world.scenario, "a")
    with pytest.raises(UserError, match="no round measured the clock of 'b'"):
        node_clock(Results(environment={}), world.scenario, "b")
