"""Every radio keeps the contract; so far there is the simulated one, through its real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from testbed import schedule
from testbed.radio.base import Radio, RadioError, Reception, Settings
from testbed.radio.simulated import EtherServer, SimulatedRadio
from testbed.scenario import Scenario, loads

RATE_HZ = Fraction(4_000_000)
SAMPLES = 40_000


def experiment(extra: str = "", front_end: str = "") -> Scenario:
    return loads(
        f"""
        [experiment]
        name = "pair"
        seed = 3
        [waveform]
        carrier_hz = 2.4e9
        sample_rate_hz = 4e6
        fft_size = 256
        cp_samples = 32
        active_subcarriers = 200
        symbols = 8
        [round]
        frame_period_s = 2e-3
        start_spread_s = 1e-3
        guard_s = 4e-3
        [[node]]
        name = "west"
        position_m = [0, 0]
        antennas = 2
        clock = {{ offset_ppm = 5.0, offset_s = 2.5 }}
        [node.front_end]
        {front_end}
        [[node]]
        name = "east"
        position_m = [30, 0]
        clock = {{ offset_ppm = -5.0 }}
        [node.front_end]
        {front_end}
        [scene]
        snr_db = 30.0
        {extra}
        """,
        source="pair",
    )


def settings(antennas: int) -> Settings:
    return Settings(Fraction(2_400_000_000), RATE_HZ, antennas, 0.0)


@pytest.fixture
def server() -> Iterator[EtherServer]:
    made = EtherServer(experiment())
    yield made
    made.close()


def pair(server: EtherServer) -> tuple[SimulatedRadio, SimulatedRadio]:
    west, east = (SimulatedRadio(name, f"127.0.0.1:{server.port}") for name in ("west", "east"))
    west.configure(settings(2))
    east.configure(settings(1))
    return west, east


def both(west: Radio, east: Radio, samples: int = SAMPLES) -> tuple[Reception, Reception]:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda radio: radio.receive(samples), (west, east))
    return first, second


def burst() -> np.ndarray:
    random = np.random.default_rng(1)
    phases = random.uniform(0, 2 * np.pi, 200)
    spectrum = np.zeros(256, complex)
    spectrum[np.r_[1:101, 156:256]] = np.exp(1j * phases)
    samples = np.tile(np.fft.ifft(spectrum), 16)
    return (0.5 * samples / np.abs(samples).max()).astype(np.complex64)


def test_what_was_applied_is_exact_and_near_what_was_asked(server: EtherServer) -> None:
    radio = SimulatedRadio("west", f"127.0.0.1:{server.port}")
    applied = radio.configure(settings(2))
    assert abs(applied.carrier_hz - 2_400_000_000) <= Fraction(3, 2)
    assert abs(applied.rate_hz - RATE_HZ) < Fraction(1, 5)
    assert applied.details["radio"] == "simulated"
    radio.close()


def test_a_reception_has_its_shape_and_covers_what_was_asked(server: EtherServer) -> None:
    west, east = pair(server)
    for reception, antennas in zip(both(west, east), (2, 1), strict=True):
        assert reception.samples.shape == (antennas, SAMPLES, 2)
        assert reception.samples.dtype == np.int16
        assert reception.full_scale == 2048
        assert [(s.start, s.samples, s.first_tick) for s in reception.stretches] == [(0, SAMPLES, 0)]
        assert reception.departures == ()
        assert reception.truth is not None
    west.close()
    east.close()


def test_counters_run_on_within_a_stream_and_streams_are_counted(server: EtherServer) -> None:
    west, east = pair(server)
    first, _ = both(west, east)
    second, _ = both(west, east)
    assert second.stretches[0].first_tick > first.stretches[0].first_tick + SAMPLES
    assert first.stream == second.stream
    west.configure(settings(2))
    third, _ = both(west, east)
    assert third.stream == first.stream + 1
    assert third.stretches[0].first_tick == 0
    west.close()
    east.close()


def test_what_one_transmits_the_other_hears_late_by_no_more_than_the_uncertainty(server: EtherServer) -> None:
    west, east = pair(server)
    samples = burst()
    west.transmit(samples, offset_samples=16_000)
    _, heard = both(west, east)
    received = heard.samples[0, :, 0] + 1j * heard.samples[0, :, 1]
    metric = np.abs(np.correlate(received, samples, "valid"))
    # Within two start spreads and the start latency, all of one millisecond here.
    assert abs(int(metric.argmax()) - 16_000) < 3 * 4_000 + 10
    assert metric.max() > 10 * np.median(metric)
    west.close()
    east.close()


def test_time_stamped_departures_are_on_the_devices_counter() -> None:
    server = EtherServer(experiment(front_end="time_stamps = true"))
    west, east = pair(server)
    assert west.capabilities.time_stamps
    west.transmit(burst(), offset_samples=1234)
    heard, _ = both(west, east)
    assert [(d.tick, d.fraction) for d in heard.departures] == [(heard.stretches[0].first_tick + 1234, 0.0)]
    # Its counter reads the clock, which is 2.5 s ahead.
    assert heard.stretches[0].first_tick > 2.5 * 4e6
    west.close()
    east.close()
    server.close()


def test_lost_samples_are_said_to_be_lost_where_they_are() -> None:
    server = EtherServer(experiment(front_end="lost_buffer_probability = 0.3\nbuffer_samples = 4096"))
    west, east = pair(server)
    heard, _ = both(west, east)
    got = heard.samples.shape[1]
    assert got < SAMPLES
    assert sum(stretch.samples for stretch in heard.stretches) == got
    for before, after in zip(heard.stretches, heard.stretches[1:], strict=False):
        assert after.start == before.start + before.samples
        assert after.first_tick > before.first_tick + before.samples
    assert heard.events[0]["code"] == "samples-lost"
    west.close()
    east.close()
    server.close()


def test_same_seed_same_samples() -> None:
    recordings = []
    for _ in range(2):
        server = EtherServer(experiment())
        west, east = pair(server)
        west.transmit(burst(), offset_samples=16_000)
        recordings.append([reception.samples for reception in both(west, east)])
        west.close()
        east.close()
        server.close()
    for one, other in zip(*recordings, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_unknown_node_or_a_wrong_number_of_antennas_is_refused(server: EtherServer) -> None:
    radio = SimulatedRadio("south", f"127.0.0.1:{server.port}")
    with pytest.raises(RadioError, match="no node 'south'"):
        radio.configure(settings(1))
    radio.close()
    radio = SimulatedRadio("west", f"127.0.0.1:{server.port}")
    with pytest.raises(RadioError, match="antennas"):
        radio.configure(settings(3))
    radio.close()


def test_too_loud_a_transmission_is_refused_and_the_radio_lives_on(server: EtherServer) -> None:
    west, east = pair(server)
    with pytest.raises(RadioError, match="full scale"):
        west.transmit(3 * burst(), offset_samples=0)
    assert both(west, east)[0].samples.shape[1] == SAMPLES
    west.close()
    east.close()


def test_nobody_waits_for_a_radio_that_is_gone(server: EtherServer) -> None:
    west, east = pair(server)
    timer = threading.Timer(0.3, west.close)
    timer.start()
    assert east.receive(SAMPLES).samples.shape[1] == SAMPLES
    timer.join()
    east.close()


def test_nobody_waits_for_a_dropped_radio_which_returns_on_a_new_stream(server: EtherServer) -> None:
    west, east = pair(server)
    server.drop("west")
    assert east.receive(SAMPLES).samples.shape[1] == SAMPLES
    west.configure(settings(2))
    first, _ = both(west, east)
    assert first.stream == 1
    west.close()
    east.close()


def test_a_new_connection_takes_a_node_over_and_keeps_it(server: EtherServer) -> None:
    old, east = pair(server)
    new = SimulatedRadio("west", f"127.0.0.1:{server.port}")
    new.configure(settings(2))
    with pytest.raises(RadioError, match="another connection"):
        old.receive(SAMPLES)
    old.close()
    assert both(new, east)[0].stream == 1
    new.close()
    east.close()


def test_closing_wakes_a_radio_that_waits_and_may_be_repeated(server: EtherServer) -> None:
    west, east = pair(server)
    timer = threading.Timer(0.2, east.close)
    timer.start()
    with pytest.raises(RadioError, match="gone"):
        east.receive(SAMPLES)
    timer.join()
    for radio in (west, east):
        radio.close()
        radio.close()


def test_no_ether_is_one_line() -> None:
    with pytest.raises(RadioError, match="does not answer"):
        SimulatedRadio("west", "127.0.0.1:1")


def test_slots_lie_inside_the_recording_and_apart() -> None:
    scenario = experiment()
    guard, slot = 16_000, 8_000
    assert schedule.slot_samples(scenario) == slot
    assert [schedule.slot_offset_samples(scenario, node) for node in (0, 1)] == [guard, 2 * guard + slot]
    assert schedule.round_samples(scenario) == 3 * guard + 2 * slot
    assert schedule.recording_bytes(scenario) == 4 * 3 * schedule.round_samples(scenario)
    full = loads("\n".join(["[round]\nduplex = 'full'\nguard_s = 12e-3"]) + _without_round(experiment()), source="full")
    assert [schedule.slot_offset_samples(full, node) for node in (0, 1)] == [48_000, 48_000]
    assert schedule.round_samples(full) == 2 * 48_000 + schedule.slot_samples(full)


def _without_round(scenario: Scenario) -> str:
    from testbed.scenario import dumps

    before, _, after = dumps(scenario).partition("[round]")
    return "\n" + before + "[sensing]" + after.partition("[sensing]")[2]
