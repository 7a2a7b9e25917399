"""Simulated Plutos in one scene hear each other, over the unchanged client, as the scene says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from testbed.errors import UserError
from testbed.radio.base import Settings
from testbed.radio.simulated import EtherServer, SimulatedRadio
from testbed.radio.simulated_pluto import serve_in_ether, serve_scene
from testbed.scenario import Scenario, loads

if find_library("iio") is None:
    pytest.skip("libiio is missing: apt-get install libiio0", allow_module_level=True)
adi = pytest.importorskip("adi", reason="pyadi-iio is missing: pip install 'isac-testbed[pluto]'")

RATE = 4_000_000


def scene(offsets_ppm: tuple[float, float] = (12.0, -9.0), leakage: str = "0.0", extra: str = "") -> Scenario:
    return loads(
        f"""
        [experiment]
        name = "pair"
        seed = 5
        [waveform]
        carrier_hz = 2.4e9
        sample_rate_hz = {RATE}
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
        clock = {{ offset_ppm = {offsets_ppm[0]}, profile = "ideal" }}
        front_end = {{ phase_noise_deg = 0.0 }}
        {extra}
        [[node]]
        name = "east"
        position_m = [30, 0]
        clock = {{ offset_ppm = {offsets_ppm[1]}, profile = "ideal" }}
        front_end = {{ phase_noise_deg = 0.0 }}
        [scene]
        snr_db = 40.0
        leakage_db = {leakage}
        """,
        source="pair",
    )


def driver(port: int) -> Any:
    made = adi.Pluto(f"ip:127.0.0.1:{port}")
    made.ctx.set_timeout(60_000)  # a busy machine is no reason to give up
    made.sample_rate = RATE
    made.rx_lo = made.tx_lo = 2_400_000_000
    made.gain_control_mode_chan0 = "manual"
    made.rx_hardwaregain_chan0 = 50
    made.tx_hardwaregain_chan0 = -7.0  # 0 dBm, the nodes' stated power
    made.rx_buffer_size = 2**15
    made._rxadc.set_kernel_buffers_count(1)
    return made


def let_go(*drivers: Any) -> None:
    for made in drivers:
        made.rx_destroy_buffer()
        made.tx_destroy_buffer()


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    servers = serve_scene(scene(), [("west", 0), ("east", 0)], model="1r1t", clock="virtual", wait_s=0.1)
    drivers = tuple(driver(server.port) for server in servers)
    yield drivers
    let_go(*drivers)
    for server in servers:
        server.close()


def truth(radio: Any) -> dict[str, Any]:
    """What the simulated device's clock did, which it tells page by page."""
    text, pages = "", 0
    while True:
        radio._ctrl.debug_attrs["isac,truth"].value = str(pages)
        page = radio._ctrl.debug_attrs["isac,truth"].value
        if not page:
            return dict(json.loads(text))
        text, pages = text + page, pages + 1


def both(west: Any, east: Any) -> tuple[np.ndarray, np.ndarray]:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda radio: radio.rx(), (west, east))
    return first, second


def strongest_hz(samples: np.ndarray) -> float:
    size = 1 << 19
    spectrum = np.abs(np.fft.fft(samples * np.hanning(len(samples)), size))
    return float(np.fft.fftfreq(size, 1 / RATE)[np.argmax(spectrum)])


def tone() -> np.ndarray:
    return 2**13 * np.exp(2j * np.pi * 0.125 * np.arange(4096))


def test_a_tone_arrives_off_by_the_oscillators_difference(pair: tuple[Any, Any]) -> None:
    west, east = pair
    west.tx_cyclic_buffer = True
    west.tx(tone())
    both(west, east)
    _, heard = both(west, east)
    # The carrier is off by +12 - (-9) ppm of 2.4 GHz; the baseband tone by as much of itself; the LOs' steps by 2.4 Hz.
    expected = (12e-6 + 9e-6) * (2.4e9 + RATE / 8) + RATE / 8
    assert strongest_hz(heard) == pytest.approx(expected, abs=6)


def test_a_transmitter_that_does_not_receive_is_heard(pair: tuple[Any, Any]) -> None:
    west, east = pair
    west.tx_cyclic_buffer = True
    quiet = east.rx()
    west.tx(tone())
    east.rx()
    assert np.std(east.rx()) > 5 * np.std(quiet)


def test_levels_follow_the_attenuator_and_the_gain(pair: tuple[Any, Any]) -> None:
    west, east = pair
    west.tx_cyclic_buffer = True
    west.tx(tone())
    both(west, east)
    first = np.std(both(west, east)[1])
    west.tx_hardwaregain_chan0 = -17.0
    east.rx_hardwaregain_chan0 = 56
    both(west, east)
    assert 20 * np.log10(np.std(both(west, east)[1]) / first) == pytest.approx(-4.0, abs=0.2)


def test_plutos_tuned_apart_do_not_hear_each_other(pair: tuple[Any, Any]) -> None:
    west, east = pair
    west.tx_cyclic_buffer = True
    west.tx(tone())
    both(west, east)
    loud = np.std(both(west, east)[1])
    east.rx_lo = 2_420_000_000
    assert np.std(both(west, east)[1]) < loud / 5


def test_on_the_wall_clock_they_hear_each_other_too() -> None:
    servers = serve_scene(scene(), [("west", 0), ("east", 0)], model="1r1t", clock="wall")
    west, east = drivers = [driver(server.port) for server in servers]
    quiet = np.std(east.rx())
    west.tx_cyclic_buffer = True
    west.tx(tone())
    # Stale buffers first, and on a busy machine many more before the transmitter's block is on the air.
    heard = east.rx()
    for _ in range(300):
        if np.std(heard) > 5 * quiet:
            break
        heard = east.rx()
    assert np.std(heard) > 5 * quiet
    # The first block that hears it may hold its begin: the next one is all tone.
    heard = east.rx()
    expected = (12e-6 + 9e-6) * (2.4e9 + RATE / 8) + RATE / 8
    assert strongest_hz(heard) == pytest.approx(expected, abs=6)
    let_go(*drivers)
    for server in servers:
        server.close()


def test_two_plutos_start_on_one_shared_edge(pair: tuple[Any, Any]) -> None:
    west = pair[0]
    engines = []
    for radio in pair:
        adi.one_bit_adc_dac(radio.uri).gpio_phaser_enable = True
        engine = adi.tddn(radio.uri)._ctrl
        engine.attrs["enable"].value = "0"
        engine.attrs["frame_length_ms"].value = "40"
        engine.attrs["startup_delay_ms"].value = "1"
        engine.attrs["sync_external"].value = "1"
        for name in ("channel0", "channel1", "channel2"):
            engine.find_channel(name, True).attrs["enable"].value = "1"
        engine.attrs["enable"].value = "1"
        engines.append(engine)
        radio._rx_init_channels()
    west.tx_cyclic_buffer = True
    noise = 2**13 * np.exp(2j * np.pi * np.random.default_rng(2).uniform(size=2**14))
    west.tx(noise)
    assert engines[1].attrs["state"].value == "1"
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(radio.rx) for radio in pair]
        engines[0].attrs["sync_soft"].value = "1"
        own, distant = (future.result(20) for future in waiting)
    assert engines[1].attrs["state"].value == "3"

    def place(samples: np.ndarray, carrier_offset_hz: float) -> int:
        turned = samples[: 2**14] * np.exp(-2j * np.pi * carrier_offset_hz / RATE * np.arange(2**14))
        return int(np.argmax(np.abs(np.fft.ifft(np.fft.fft(turned) * np.conj(np.fft.fft(noise))))))

    # Both record, and one transmits, from the same edge: leakage at once, the other 30 m later, 0.4 samples.
    assert place(own, 0.0) in (0, 1, 2**14 - 1)
    assert place(distant, 21e-6 * 2.4e9) in (0, 1, 2**14 - 1)


def rounds(count: int) -> list[np.ndarray]:
    """What both hear in some rounds in which both send, on threads of their own."""
    servers = serve_scene(scene(), [("west", 0), ("east", 0)], model="1r1t", clock="virtual", wait_s=20.0)
    drivers = [driver(server.port) for server in servers]
    heard: dict[tuple[int, int], np.ndarray] = {}
    start = threading.Barrier(2)

    def run(index: int) -> None:
        start.wait()
        for number in range(count):
            drivers[index]._rx_init_channels()
            burst = np.zeros(2**15, complex)
            burst[6000 + 12_000 * index : 10_000 + 12_000 * index] = tone()[:4000]
            drivers[index].tx(burst)
            heard[index, number] = drivers[index].rx()
            let_go(drivers[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()
    return [heard[key] for key in sorted(heard)]


def test_rounds_on_threads_are_the_same_bits_every_time() -> None:
    first, second = rounds(2), rounds(2)
    assert len(first) == 4
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)
    # Both bursts are in each recording: its own leakage and the other's, 40 dB above the noise.
    for recording in first:
        level = np.abs(recording).reshape(-1, 1024).std(axis=1) + np.abs(recording).reshape(-1, 1024).mean(axis=1)
        assert np.count_nonzero(level > 5 * np.median(np.sort(level)[:10])) >= 6


def test_a_pluto_joins_the_ether_of_plain_simulated_radios() -> None:
    experiment = scene()
    ether = EtherServer(experiment)
    server = serve_in_ether(experiment, "west", address=f"127.0.0.1:{ether.port}", model="1r1t")
    west = driver(server.port)
    east = SimulatedRadio("east", f"127.0.0.1:{ether.port}")
    east.configure(Settings(Fraction(2_400_000_000), Fraction(RATE), 1, 0.0))
    west._rx_init_channels()
    burst = np.zeros(2**15, complex)
    burst[8000:12_000] = tone()[:4000]
    west.tx(burst)
    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(west.rx)
        other = pool.submit(east.receive, 2**15)
        heard, received = own.result(20), other.result(20)
    distant = received.samples[0].astype(float) @ [1, 1j]
    for samples in (heard, distant):
        power = (np.abs(samples) ** 2).reshape(-1, 512).mean(axis=1)
        assert 6 <= np.count_nonzero(power > 100 * np.median(power)) <= 10
    assert set(truth(west)) >= {"start_s", "elapsed_error_s", "first_tick"}
    let_go(west)
    east.close()
    server.close()
    ether.close()


@pytest.mark.parametrize(
    ("ports", "model", "text"),
    [
        ([("north", 0)], "1r1t", "no node is called 'north': there are west, east"),
        ([("west", 0)], "2r2t", "node 'west' has 1 antennas, a 2r2t Pluto 2: --model 1r1t"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(ports: list[tuple[str, int]], model: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        serve_scene(scene(), ports, model=model, clock="virtual")
