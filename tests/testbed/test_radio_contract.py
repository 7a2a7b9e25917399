"""Every radio keeps the contract: the simulated one, and the drivers of real ones over simulated devices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from testbed import schedule
from testbed.radio import open_radio
from testbed.radio.base import Radio, RadioError, Reception, Settings
from testbed.radio.simulated import EtherServer, SimulatedRadio
from testbed.scenario import Scenario, loads

RATE_HZ = Fraction(4_000_000)
SAMPLES = 40_000


KINDS = {
    "simulated": "",
    "usrp": """usrp = { args = "type=simulated" }""",
    "pluto": """pluto = { uri = "simulated", tx_attenuation_db = 7.0, rx_gain_db = 20.0 }""",
}
"""What can be plugged in, with its table."""
STAMPED = ("usrp",)
"""Those with a counter that they share with no one, and time stamps by it."""
SNAPSHOTS = ("pluto",)
"""Those without a counter, which begin a stream with every reception; one buffer has no gap within."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def experiment(extra: str = "", front_end: str = "", kind: str = "simulated") -> Scenario:
    radio = f'radio = "{kind}"\n{KINDS[kind]}'
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
        {radio}
        clock = {{ offset_ppm = 5.0, offset_s = 2.5 }}
        [node.front_end]
        {front_end}
        [[node]]
        name = "east"
        position_m = [30, 0]
        {radio}
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


@pytest.fixture
def surroundings(kind: str) -> Iterator[tuple[Scenario, EtherServer]]:
    scenario = experiment(kind=kind)
    made = EtherServer(scenario)
    yield scenario, made
    made.close()


def opened(scenario: Scenario, server: EtherServer) -> tuple[Radio, Radio]:
    west, east = (open_radio(scenario, node, ether=f"127.0.0.1:{server.port}") for node in scenario.node)
    west.configure(settings(2))
    east.configure(settings(1))
    return west, east


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


Surroundings = tuple[Scenario, EtherServer]


def test_what_was_applied_is_exact_and_near_what_was_asked(surroundings: Surroundings, kind: str) -> None:
    scenario, server = surroundings
    radio = open_radio(scenario, scenario.node[0], ether=f"127.0.0.1:{server.port}")
    applied = radio.configure(settings(2))
    assert abs(applied.carrier_hz - 2_400_000_000) <= Fraction(3, 2)
    assert abs(applied.rate_hz - RATE_HZ) < Fraction(1, 5)
    assert applied.details["radio"] == kind
    low, high = radio.capabilities.rates_hz
    assert low <= applied.rate_hz <= high
    assert radio.capabilities.channels >= 2
    radio.close()


def test_a_reception_has_its_shape_and_covers_what_was_asked(surroundings: Surroundings, kind: str) -> None:
    west, east = opened(*surroundings)
    for reception, antennas in zip(both(west, east), (2, 1), strict=True):
        assert reception.samples.shape == (antennas, SAMPLES, 2)
        assert reception.samples.dtype == np.int16
        assert reception.full_scale == (32768 if kind == "usrp" else 2048)
        assert [(s.start, s.samples) for s in reception.stretches] == [(0, SAMPLES)]
        assert (reception.stretches[0].first_tick > 0) == (kind in STAMPED)
        assert reception.departures == ()
        assert reception.truth is not None
        # A Pluto's filters look at some hundred samples before the first one.
        early = reception.stretches[0].first_tick - reception.truth["first_tick"]
        assert early == 0 if kind != "pluto" else 0 <= early <= 1000
    west.close()
    east.close()


def test_counters_run_on_within_a_stream_and_streams_are_counted(surroundings: Surroundings, kind: str) -> None:
    west, east = opened(*surroundings)
    first, _ = both(west, east)
    second, _ = both(west, east)
    if kind in SNAPSHOTS:
        assert second.stretches[0].first_tick == 0
        assert second.stream == first.stream + 1
    else:
        assert second.stretches[0].first_tick > first.stretches[0].first_tick + SAMPLES
        assert first.stream == second.stream
    west.configure(settings(2))
    third, _ = both(west, east)
    assert third.stream > second.stream
    assert third.stretches[0].first_tick == 0 or kind in STAMPED
    west.close()
    east.close()


def test_what_one_transmits_the_other_hears_late_by_no_more_than_the_uncertainty(surroundings: Surroundings) -> None:
    west, east = opened(*surroundings)
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


@pytest.mark.parametrize("stamped", ["simulated", *STAMPED])
def test_time_stamped_departures_are_on_the_devices_counter(stamped: str) -> None:
    scenario = experiment(front_end="time_stamps = true", kind=stamped)
    server = EtherServer(scenario)
    west, east = opened(scenario, server)
    assert west.capabilities.time_stamps
    assert west.capabilities.timed_transmit
    samples = burst()
    west.transmit(samples, offset_samples=1234)
    heard, _ = both(west, east)
    first = heard.stretches[0].first_tick
    assert [(d.tick, d.fraction) for d in heard.departures] == [(first + 1234, 0.0)]
    # Its own leakage, at a tenth of a nanosecond, begins with the very sample that the stamp names.
    received = heard.samples[0, :, 0] + 1j * heard.samples[0, :, 1]
    assert int(np.abs(np.correlate(received, samples, "valid")).argmax()) == 1234
    if stamped == "simulated":  # its counter reads the clock, which is 2.5 s ahead
        assert first > 2.5 * 4e6
    west.close()
    east.close()
    server.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SNAPSHOTS])
def test_lost_samples_are_said_to_be_lost_where_they_are(kind: str) -> None:
    scenario = experiment(front_end="lost_buffer_probability = 0.3\nbuffer_samples = 4096", kind=kind)
    server = EtherServer(scenario)
    west, east = opened(scenario, server)
    heard, _ = both(west, east)
    got = heard.samples.shape[1]
    assert got < SAMPLES
    assert sum(stretch.samples for stretch in heard.stretches) == got
    for before, after in zip(heard.stretches, heard.stretches[1:], strict=False):
        assert after.start == before.start + before.samples
        assert after.first_tick > before.first_tick + before.samples
    assert "samples-lost" in [event["code"] for event in heard.events]
    west.close()
    east.close()
    server.close()


def test_same_seed_same_samples(kind: str) -> None:
    recordings = []
    for _ in range(2):
        scenario = experiment(kind=kind)
        server = EtherServer(scenario)
        west, east = opened(scenario, server)
        west.transmit(burst(), offset_samples=16_000)
        recordings.append([reception.samples for reception in both(west, east)])
        west.close()
        east.close()
        server.close()
    for one, other in zip(*recordings, strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_loud_a_transmission_is_refused_and_the_radio_lives_on(surroundings: Surroundings) -> None:
    west, east = opened(*surroundings)
    with pytest.raises(RadioError, match="full scale"):
        west.transmit(3 * burst(), offset_samples=0)
    assert both(west, east)[0].samples.shape[1] == SAMPLES
    west.close()
    east.close()


def test_nobody_waits_for_a_radio_that_is_gone(surroundings: Surroundings) -> None:
    west, east = opened(*surroundings)
    timer = threading.Timer(0.3, west.close)
    timer.start()
    assert east.receive(SAMPLES).samples.shape[1] == SAMPLES
    timer.join()
    east.close()


def test_closing_wakes_a_radio_that_waits_and_may_be_repeated(surroundings: Surroundings) -> None:
    west, east = opened(*surroundings)
    timer = threading.Timer(0.2, east.close)
    timer.start()
    with pytest.raises(RadioError, match="gone"):
        east.receive(SAMPLES)
    timer.join()
    for radio in (west, east):
        radio.close()
        radio.close()


def test_what_comes_late_is_late_by_the_lead_that_all_agree_on(surroundings: Surroundings) -> None:
    west, east = opened(*surroundings)
    before = both(west, east)[1].truth
    for radio, antennas in ((west, 2), (east, 1)):
        radio.configure(Settings(Fraction(2_400_000_000), RATE_HZ, antennas, 0.0, start_lead_s=0.2))
    after = [reception.truth for reception in both(west, east)]
    begins = [truth["start_s"] + truth["start_fraction_s"] for truth in after if truth is not None]
    # Each begins within the spread of its round, which comes 0.2 s later than without the lead.
    assert abs(begins[0] - begins[1]) < 3e-3
    assert before is not None
    assert min(begins) - (before["start_s"] + before["start_fraction_s"]) > 0.2
    west.close()
    east.close()


def test_an_unknown_node_or_a_wrong_number_of_antennas_is_refused(server: EtherServer) -> None:
    radio = SimulatedRadio("south", f"127.0.0.1:{server.port}")
    with pytest.raises(RadioError, match="no node 'south'"):
        radio.configure(settings(1))
    radio.close()
    radio = SimulatedRadio("west", f"127.0.0.1:{server.port}")
    with pytest.raises(RadioError, match="antennas"):
        radio.configure(settings(3))
    radio.close()


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
