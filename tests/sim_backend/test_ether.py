"""Radios that meet in the ether, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from threading import Event
from time import monotonic, sleep

import numpy as np
import pytest

from sim_backend.ether import Ether, EtherError
from sim_backend.world import ClockSpec, FrontEndSpec, NodeSpec, SceneSpec, WorldSpec

QUIET = FrontEndSpec(
    noise_figure_db=None, bits=16, phase_noise_deg=0.0, gain_imbalance_db=0.0, phase_imbalance_deg=0.0, dc_offset=0j
)
PULSE = np.r_[np.zeros(99), 1.0, np.zeros(900)].astype(np.complex64)
SAMPLES = 300_000


def _spec(**front) -> WorldSpec:
    made = replace(QUIET, **front)
    return WorldSpec(
        (
            NodeSpec("east", clock=ClockSpec(10.0, -7.3, profile=None), front_end=made),
            NodeSpec("west", (30.0, 0.0), clock=ClockSpec(-5.0, 2.1, profile=None), front_end=made),
        ),
        SceneSpec(leakage_db=3.0),
        seed=4,
        reference_power=0.1,
    )


def _rounds(ether: Ether, count: int, *, nodes=("east", "west")) -> dict[str, list]:
    def agent(name: str) -> list:
        taken = []
        for _ in range(count):
            ether.transmit(name, PULSE, offset_samples=20_000 + 100_000 * nodes.index(name))
            taken.append(ether.receive(name, SAMPLES))
        return taken

    for name in nodes:
        ether.attach(name)
    with ThreadPoolExecutor(len(nodes)) as pool:
        return dict(zip(nodes, pool.map(agent, nodes), strict=True))


def _peak(reception, low: int, high: int) -> int:
    return low + int(np.argmax(np.abs(reception.rendered.samples[0, low:high] @ [1, 1j])))


def test_latency_is_constant_within_a_stream_and_unknown():
    ether = Ether(_spec(), round_period_s=0.1)
    taken = _rounds(ether, 3)
    own = [_peak(reception, 0, 110_000) - 20_099 for reception in taken["east"]]
    assert len(set(own)) == 1
    assert 0 <= own[0] <= 20_000
    assert all(not reception.departures for reception in taken["east"])
    assert taken["east"][0].first_tick == 0
    ether.detach("east")
    assert ether.attach("east") == 1
    ether.detach("west")
    ether.transmit("east", PULSE, offset_samples=20_000)
    again = ether.receive("east", SAMPLES)
    assert again.first_tick == 0
    assert again.stream == 1
    assert _peak(again, 0, 110_000) - 20_099 != own[0]


def test_time_stamps_are_exact_on_the_counter():
    taken = _rounds(Ether(_spec(time_stamps=True), round_period_s=0.1), 2)
    for reception in taken["east"]:
        ((tick, fraction),) = reception.departures
        assert tick - reception.first_tick == 20_000
        assert fraction == 0.0
        assert reception.first_tick >= 0
        assert _peak(reception, 0, 110_000) == 20_099


def test_counter_runs_on_between_batches():
    ether = Ether(_spec(), round_period_s=0.25, start_spread_s=5e-3)
    taken = _rounds(ether, 4)
    for name, error in (("east", 10e-6), ("west", -5e-6)):
        ticks = np.array([reception.first_tick for reception in taken[name]])
        truth = [
            Fraction(r.rendered.truth["start_s"]) + Fraction(r.rendered.truth["start_fraction_s"]) for r in taken[name]
        ]
        elapsed = np.array([float(moment - truth[0]) for moment in truth])
        np.testing.assert_allclose(ticks / 20e6, elapsed * (1 + error), atol=1e-12)
        spread = elapsed - 0.25 * np.arange(4)
        assert np.max(np.abs(spread)) <= 10e-3
        assert np.std(spread) > 1e-4


def test_same_seed_same_bits_in_any_order_of_threads():
    first = _rounds(Ether(_spec(noise_figure_db=5.0), round_period_s=0.1), 2)
    second = _rounds(Ether(_spec(noise_figure_db=5.0), round_period_s=0.1), 2, nodes=("east", "west"))
    for name in first:
        for one, other in zip(first[name], second[name], strict=True):
            np.testing.assert_array_equal(one.rendered.samples, other.rendered.samples)
            assert one.rendered.truth == other.rendered.truth


def test_a_radio_that_does_not_ask_is_left_out_once_and_comes_back():
    ether = Ether(_spec(), stall_timeout_s=0.3, round_period_s=0.1)
    ether.attach("east")
    ether.attach("west")
    begun = monotonic()
    ether.receive("east", 1000)
    assert 0.25 < monotonic() - begun < 5.0
    begun = monotonic()
    ether.receive("east", 1000)
    assert monotonic() - begun < 0.25
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ether.receive, "west", 1000)
        sleep(0.05)
        here = ether.receive("east", 1000)
        assert late.result(timeout=5.0).batch == here.batch


def test_detaching_frees_those_who_wait():
    ether = Ether(_spec(), stall_timeout_s=60.0)
    ether.attach("east")
    ether.attach("west")
    started = Event()

    def wait(name: str):
        started.set()
        return ether.receive(name, 1000)

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(wait, "east")
        started.wait()
        sleep(0.05)
        ether.detach("west")
        assert waiting.result(timeout=10.0).batch == 0
        ether.attach("west")
        waiting = pool.submit(wait, "east")
        sleep(0.05)
        ether.detach("east")
        with pytest.raises(EtherError, match="detached while it waited"):
            waiting.result(timeout=10.0)


def test_nonsense_is_refused():
    ether = Ether(_spec())
    with pytest.raises(EtherError, match="no node 'north'"):
        ether.attach("north")
    with pytest.raises(EtherError, match="not attached"):
        ether.receive("east", 10)
    ether.attach("east")
    with pytest.raises(EtherError, match="attached already"):
        ether.attach("east")
    with pytest.raises(ValueError, match="exceed full scale"):
        ether.transmit("east", 2 * PULSE, offset_samples=0)
    with pytest.raises(ValueError, match="before it starts"):
        ether.transmit("east", PULSE, offset_samples=-1)
    with pytest.raises(ValueError, match="asks for 0"):
        ether.receive("east", 0)
    with pytest.raises(ValueError, match="half a second"):
        Ether(_spec(), start_spread_s=1.0)
