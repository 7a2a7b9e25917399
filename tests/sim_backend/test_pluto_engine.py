"""Radio time of the simulated Pluto: the kernel's queue of blocks, and what is in a block when."""

from __future__ import annotations

import errno
from fractions import Fraction

import numpy as np
import pytest

from sim_backend.pluto.attributes import RefusedError
from sim_backend.pluto.emissions import Emission, tone_table, window
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.medium import Medium
from sim_backend.pluto.settings import Settings

RATE = 1_000_000


class Counter(Medium):
    """Delivers the tick in the in-phase branch, and the receiver's gain in the other."""

    channels = 1

    def receive(self, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> np.ndarray:
        ticks = np.arange(first, first + samples) % 2**15
        return np.stack([ticks, np.full(samples, int(settings.receive_gain_db[0]))], axis=1).astype(np.int16)

    def power_dbm(self, channel: int, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> float:
        return -50.0


class Wall:
    """A clock on the wall that is set by hand."""

    def __init__(self) -> None:
        self.ticks = 0

    def __call__(self) -> float:
        return (self.ticks + 0.5) / RATE


def settings() -> Settings:
    carrier = Fraction(2_400_000_000)
    return Settings(Fraction(RATE), carrier, carrier, (10.0,), (-10.0,), ("manual",))


def engine(wall: Wall | None = None, **values: object) -> Engine:
    clock = {} if wall is None else {"clock": "wall", "seconds": wall}
    return Engine(Counter(), settings(), latency_s=0.0, **clock, **values)


def starts(made: Engine, blocks: int) -> list[int]:
    return [int(made.refill()[0, 0]) for _ in range(blocks)]


def test_after_a_pause_the_queue_is_full_of_what_is_old_and_what_came_after_is_lost() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_receiver(1000, 4)
    wall.ticks = 1000
    assert starts(made, 1) == [0]
    assert made.status(transmit=False) == 0
    wall.ticks = 20_000
    assert made.status(transmit=False) == 4  # seen before anything is read
    assert starts(made, 3) == [1000, 2000, 3000]
    # The first block was queued again at once, the others when they had been read: they begin at the present.
    wall.ticks = 24_500
    assert starts(made, 2) == [20_000, 21_000]
    made.clear(4, transmit=False)
    assert made.status(transmit=False) == 0


def test_whoever_keeps_up_loses_nothing() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_receiver(1000, 4)
    for index in range(50):
        late = (index * 317) % 2000  # less than the two blocks that are free while the reader has one
        wall.ticks = max(wall.ticks, 1000 * index + 1000 + late)
        assert starts(made, 1) == [1000 * index % 2**15]
    assert made.status(transmit=False) == 0


def test_a_single_block_is_filled_from_when_it_is_asked_for() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_receiver(1000, 1)
    wall.ticks = 1000
    assert starts(made, 1) == [0]
    wall.ticks = 7000
    made.timeout_s = 0.01
    with pytest.raises(RefusedError) as refusal:  # queued at 7000, and full at 8000
        made.refill()
    assert refusal.value.code == errno.ETIMEDOUT
    wall.ticks = 8000
    assert starts(made, 1) == [7000]


def test_what_is_recorded_before_a_change_stays_as_it_was() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_receiver(1000, 4)
    wall.ticks = 2500
    made.change_settings(receive_gain_db=(33.0,))
    wall.ticks = 9000
    gains = [made.refill()[:, 1] for _ in range(4)]
    assert [set(gain.tolist()) for gain in gains] == [{10}, {10}, {10, 33}, {33}]
    assert np.flatnonzero(gains[2] == 33)[0] == 500


def test_blocks_recorded_before_a_change_of_rate_are_kept() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_receiver(1000, 4)
    wall.ticks = 2500
    made.change_settings(rate_hz=Fraction(2 * RATE))
    wall.ticks = 20_000
    got = [made.refill()[0, 0] for _ in range(4)]
    assert got == [0, 1000, 5000, 6000]


def test_in_virtual_time_nothing_is_ever_lost() -> None:
    made = engine()
    made.open_receiver(1000, 4)
    data = np.concatenate([made.refill()[:, 0] for _ in range(5)])
    assert np.array_equal(data, np.arange(5000))
    assert made.status(transmit=False) == 0


def test_a_closed_receiver_refuses() -> None:
    made = engine()
    with pytest.raises(RefusedError) as refusal:
        made.refill()
    assert refusal.value.code == errno.EBADF


def test_a_transmitter_that_runs_dry_says_so() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_transmitter()
    block = np.zeros((1000, 2), np.int16)
    made.push(block, cyclic=False, blocks=4)
    wall.ticks = 900
    made.push(block, cyclic=False, blocks=4)
    wall.ticks = 1900
    assert made.status(transmit=True) == 0
    wall.ticks = 2100
    assert made.status(transmit=True) == 1
    made.push(block, cyclic=False, blocks=4)
    assert [e.start for e in made.emissions if not e.cyclic] == [0, 1000, 2100]


def test_a_full_transmit_queue_waits_for_room() -> None:
    wall = Wall()
    made = engine(wall)
    made.timeout_s = 0.01
    made.open_transmitter()
    for _ in range(4):
        made.push(np.zeros((1000, 2), np.int16), cyclic=False, blocks=4)
    with pytest.raises(RefusedError) as refusal:
        made.push(np.zeros((1000, 2), np.int16), cyclic=False, blocks=4)
    assert refusal.value.code == errno.ETIMEDOUT
    wall.ticks = 1001
    made.push(np.zeros((1000, 2), np.int16), cyclic=False, blocks=4)


def test_the_latency_is_unknown_and_the_same_as_long_as_the_buffer_is_open() -> None:
    latencies = []
    for seed in range(6):
        made = Engine(Counter(), settings(), latency_s=1e-3, seed=seed)
        made.open_transmitter()
        made.push(np.ones((10, 2), np.int16), cyclic=True, blocks=4)
        latencies.append(made.emissions[-1].start)
    assert len(set(latencies)) == 6
    assert all(0 <= latency <= 1000 for latency in latencies)


def test_the_tdd_engine_starts_receiver_and_transmitter_on_one_edge() -> None:
    made = engine()
    gate = made.gate
    gate.connected = gate.enable = True
    gate.outputs[1].enable = gate.outputs[2].enable = True
    gate.outputs[2].on = 2 * 300  # two cycles to a sample
    gate.startup_delay, gate.frame_length, gate.cycles = 2 * 5000, 2 * 10_000 - 1, 2
    made.open_transmitter()
    made.push(np.ones((64, 2), np.int16), cyclic=True, blocks=4)
    made.open_receiver(1000, 1)
    made.timeout_s = 0.01
    with pytest.raises(RefusedError) as refusal:  # no trigger, no samples
        made.refill()
    assert refusal.value.code == errno.ETIMEDOUT
    assert not made.emissions
    made.pulse()
    trigger = gate.trigger
    assert trigger is not None
    assert starts(made, 3) == [trigger + 5000 + 10_000 * frame for frame in range(3)]
    assert made.emissions[-1].start == trigger + 5300


def test_a_window_is_what_the_samples_are_at_their_ticks() -> None:
    random = np.random.default_rng(1)
    ring = random.integers(-999, 999, size=(37, 2)).astype(np.int16)
    once = random.integers(-999, 999, size=(50, 2)).astype(np.int16)
    emissions = [Emission(100, ring, True, 0, end=400), Emission(420, once, False, 0)]
    played = window(emissions, 90, 400, 2)
    for tick in range(90, 490):
        expected = ring[(tick - 100) % 37] if 100 <= tick < 400 else once[tick - 420] if 420 <= tick < 470 else [0, 0]
        assert np.array_equal(played[tick - 90], expected)


def test_tones_have_the_phase_and_the_frequency_of_their_registers() -> None:
    table = tone_table([4096 + 1, 1, 4096 + 1, 1], [16384, 0, 0, 0], [0.5, 0.0, 0.5, 0.0])
    expected = 0.5 * 32767 * np.exp(2j * np.pi * 4097 / 65536 * np.arange(65536))
    assert np.max(np.abs(table @ [1, 1j] - expected)) < 1.0


def test_by_eight_the_band_is_kept_and_the_rest_is_not() -> None:
    from sim_backend.pluto.fpga_filters import LEAD, decimated, interpolated

    n = np.arange(8192 + LEAD)

    def gain(frequency: float) -> float:
        wave = 1000 * np.exp(2j * np.pi * frequency * n)
        out = decimated(np.round(np.stack([wave.real, wave.imag], axis=1)).astype(np.int16)) @ [1, 1j]
        return float(20 * np.log10(np.std(out) / 1000 + 1e-9))

    assert gain(0.3 / 8) == pytest.approx(0.0, abs=0.05)
    assert gain(0.66 / 8) < -50
    ring = np.round(1e4 * np.exp(2j * np.pi * np.arange(100) * 7 / 100))
    up = interpolated(np.stack([ring.real, ring.imag], axis=1).astype(np.int16), cyclic=True) @ [1, 1j]
    assert len(up) == 800
    assert np.max(np.abs(up - 1e4 * np.exp(2j * np.pi * np.arange(800) * 7 / 800))) < 30


def test_what_was_sent_and_set_long_ago_is_forgotten() -> None:
    wall = Wall()
    made = engine(wall)
    made.open_transmitter()
    for index in range(500):
        wall.ticks = 1000 * index
        made.push(np.ones((1000, 2), np.int16), cyclic=False, blocks=4)
        made.change_settings(receive_gain_db=(float(index % 50),))
    assert len(made.emissions) < 80
    assert len(made.timeline) < 80
