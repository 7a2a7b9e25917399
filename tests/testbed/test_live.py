"""The live ring drops whole rounds, counts them, holds no more than its places, and never holds up who acquires."""

from __future__ import annotations

import gc
import threading
import weakref
from fractions import Fraction

import numpy as np
import pytest

from testbed.bench.live import Places, Source, Trial, highest_sustained, repeated
from testbed.capture import Capture, Departure, Stretch
from testbed.live import LiveRounds, LiveTally
from testbed.pipeline import Pipeline
from testbed.scenario import loads

ROUND = 1000


def capture(index: int, node: str = "a", lost: int = 0) -> Capture:
    half = ROUND // 2
    return Capture(
        node=node,
        round=index,
        samples=np.full((2, ROUND, 2), index, np.int16),
        full_scale=2048,
        rate_hz=Fraction(10_000_000),
        carrier_hz=Fraction(2_400_000_000),
        stretches=(Stretch(0, half, 5000 * index), Stretch(half, half, 5000 * index + half + lost)),
        stream=1,
        departures=(Departure(0, 5000 * index + 100, 0.25),),
        truth={"knots": []},
    )


class Gated:
    """Processing that waits until it is let go on, and keeps nothing but what it was told."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.told = []
        self.whole = True

    def process(self, index, captures):
        self.begun.set()
        assert self.go.wait(30)
        self.told.append(("processed", index))
        self.whole &= all((one.samples == index).all() and one.samples.shape[1] == ROUND for one in captures.values())

    def drop(self, row, event, losses):
        self.told.append((row.status, row.round))
        self.row, self.event, self.losses = row, event, losses


def test_whole_rounds_are_dropped_counted_and_told_in_their_place():
    stage = Gated()
    live = LiveRounds(stage, depth=2)
    assert live.offer(0, {"a": capture(0)})
    assert stage.begun.wait(30)
    accepted = [live.offer(index, {"a": capture(index, lost=7 * index)}) for index in (1, 2, 3)]
    assert accepted == [True, False, False]
    stage.go.set()
    assert live.finish()
    assert stage.told == [("processed", 0), ("processed", 1), ("dropped", 2), ("dropped", 3)]
    assert stage.whole
    assert stage.row.nodes == ["a"]
    assert (stage.event.round, stage.event.code) == (3, "round-dropped")
    assert [(loss.tick, loss.samples) for loss in stage.losses] == [(15_500, 21)]  # what the radio lost still counts
    tally = live.tally
    assert (tally.offered, tally.processed, tally.dropped) == (4, 2, 2)
    assert 0 < tally.latency_median_s <= tally.latency_worst_s


def test_a_ring_that_has_room_again_takes_rounds_again():
    stage = Gated()
    done = threading.Semaphore(0)

    class Counted(Gated):
        def drop(self, *told):
            super().drop(*told)
            done.release()

    stage = Counted()
    live = LiveRounds(stage, depth=1)
    assert live.offer(0, {"a": capture(0)})
    assert not live.offer(1, {"a": capture(1)})
    stage.go.set()
    assert done.acquire(timeout=30)  # the mark of round 1 comes after round 0
    assert live.offer(2, {"a": capture(2)})
    live.finish()
    assert stage.told == [("processed", 0), ("dropped", 1), ("processed", 2)]


def test_memory_is_bounded_by_the_places_and_freed_when_idle():
    stage = Gated()
    live = LiveRounds(stage, depth=3)
    known: list[weakref.ref[Capture]] = []
    most = 0
    for index in range(10):
        one = capture(index)
        known.append(weakref.ref(one))
        live.offer(index, {"a": one})
        del one
        gc.collect()
        most = max(most, sum(each() is not None for each in known))
    assert most == 3
    stage.go.set()
    live.finish()
    gc.collect()
    assert not any(each() is not None for each in known)
    assert live.tally.dropped == 7


def test_what_the_processing_raises_is_raised_where_rounds_are_offered():
    class Broken(Gated):
        def process(self, index, captures):
            raise RuntimeError("a stage broke")

    live = LiveRounds(Broken(), depth=2)
    live.offer(0, {"a": capture(0)})
    with pytest.raises(RuntimeError, match="a stage broke"):
        live.finish()
    with pytest.raises(RuntimeError, match="a stage broke"):
        live.offer(1, {"a": capture(1)})


def test_a_ring_without_places_is_refused():
    with pytest.raises(ValueError, match="depth is 0"):
        LiveRounds(Gated(), depth=0)


def test_dropped_rounds_stand_in_the_results():
    scenario = loads(SCENARIO, source="")
    pipeline = Pipeline(scenario)
    live = LiveRounds(pipeline, depth=1)
    blocked = threading.Lock()
    process = pipeline.process

    def slow(index, captures):
        with blocked:
            process(index, captures)

    pipeline.process = slow
    with blocked:
        live.offer(0, {})
        live.offer(1, {"a": capture(1)})
    live.finish()
    results = pipeline.finish({})
    assert [(row.round, row.status) for row in results.rounds] == [(0, "failed"), (1, "dropped")]
    assert [(row.round, row.code) for row in results.events] == [(1, "round-dropped")]


def test_repeated_rounds_have_ticks_and_numbers_of_their_own():
    rounds = [{"a": capture(index), "b": capture(index, "b")} for index in (0, 1)]
    made = [captures for captures, _ in zip(repeated(rounds), range(6), strict=False)]
    begins = [captures["a"].stretches[0].first_tick for captures in made]
    assert begins == [0, 5000, 6000, 11000, 12000, 17000]
    assert [captures["b"].round for captures in made] == list(range(6))
    for index, captures in enumerate(made):
        one, origin = captures["a"], rounds[index % 2]["a"]
        assert one.departures[0].tick - one.stretches[0].first_tick == 100
        assert one.truth is None
        assert np.array_equal(one.samples, origin.samples)


def test_repeated_clocks_go_on_as_they_went():
    """Two nodes 12.2 ppm apart: each repetition advances both counters as time does on either."""
    rounds = [{"a": capture(index), "b": capture(index, "b")} for index in (0, 1)]
    speed = 1 + 12.2e-6
    made = [one for one, _ in zip(repeated(rounds, {"b": speed}), range(7), strict=False)][::2]
    first = [one["a"].stretches[0].first_tick for one in made]
    second = [one["b"].stretches[0].first_tick for one in made]
    assert first[1] >= 6000
    for a, b in zip(first, second, strict=True):
        assert abs(a * speed - b) < 1e-4
    assert second[1] > first[1]


def test_samples_are_copied_into_places_that_are_free():
    source = Source("", None, None, [{"a": capture(0)}, {"a": capture(1)}])
    places = Places(source, depth=1)
    taken = places.filled(source.rounds[1])
    places.keep()
    other = places.filled(source.rounds[0])
    assert (taken["a"].samples == 1).all()
    assert (other["a"].samples == 0).all()
    again = places.filled(source.rounds[1])  # not kept: the place is filled anew
    assert np.shares_memory(again["a"].samples, other["a"].samples)
    assert not np.shares_memory(again["a"].samples, taken["a"].samples)


def test_the_search_confirms_at_full_length_and_steps_down():
    asked = []

    def holds(rate, full):
        asked.append((round(rate, 3), full))
        return rate <= (8.0 if full else 9.0)

    found = highest_sustained(10.0, holds)
    assert found == pytest.approx(10 * 0.93**4)
    assert asked[-2:] == [(round(10 * 0.93**4, 3), False), (round(10 * 0.93**4, 3), True)]
    assert highest_sustained(10.0, lambda rate, full: False) is None


@pytest.mark.parametrize(("dropped", "behind_s", "kept_up"), [(0, 0.9, True), (0, 1.1, False), (1, 0.1, False)])
def test_a_stream_that_ends_behind_was_not_kept_up_with(dropped, behind_s, kept_up):
    """Two rounds of a second each: fewer than the ring's places, so that too fast a stream need not drop any."""
    tally = LiveTally(2, 2 - dropped, dropped, 0.5, 0.5)
    assert Trial(1e6, 2.0, tally, behind_s, 1.0, 0, 0, 0, {}, 1.0).kept_up is kept_up


SCENARIO = """
[experiment]
name = "ring"
rounds = 2
methods = ["reciprocity-mle"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 10e6
fft_size = 512
cp_samples = 64
active_subcarriers = 400
symbols = 24
[[node]]
name = "a"
position_m = [0.0, 0.0]
antennas = 2
[[node]]
name = "b"
position_m = [24.0, 5.0]
antennas = 2
"""
