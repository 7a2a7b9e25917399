"""The Pluto driver over unchanged pyadi-iio and a simulated Pluto: what it applies, refuses, loses and survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from testbed.radio import pluto, pluto_process
from testbed.radio.ad936x import exact_carrier_hz, exact_rate_hz
from testbed.radio.base import RadioError, RefusalError, Settings
from testbed.radio.pluto import PlutoRadio
from testbed.radio.pluto_device import PlutoDevice
from testbed.radio.simulated_pluto import Looped, serve_looped
from testbed.scenario import Pluto

pytest.importorskip("adi", reason="pyadi-iio or libiio is missing: pip install 'isac-testbed[pluto]', libiio0")

SAMPLES = 40_000
ASKED = Settings(Fraction(2_400_000_000), Fraction(20_000_000), 1, 0.0)


@pytest.fixture
def server() -> Iterator[object]:
    made = serve_looped(Looped(attenuation_db=40.0, ideal=True))
    yield made
    made.close()


@pytest.fixture
def twin() -> Iterator[object]:
    made = serve_looped(Looped(model="2r2t", attenuation_db=40.0, ideal=True))
    yield made
    made.close()


def radio_at(server: object, **options: object) -> PlutoRadio:
    made = Pluto(uri=f"ip:127.0.0.1:{server.port}", **options)
    return PlutoRadio("west", made, wait=lambda seconds: None, patient=not server.pluto.engine.wall)


def configured(server: object, antennas: int = 1, **options: object) -> PlutoRadio:
    radio = radio_at(server, **options)
    radio.configure(replace(ASKED, antennas=antennas))
    return radio


def noise(length: int = 6000, seed: int = 1) -> np.ndarray:
    """Band-limited noise, which a filter of the device passes."""
    random = np.random.default_rng(seed)
    spectrum = np.zeros(length, complex)
    kept = np.r_[1 : length // 3, length - length // 3 : length]
    spectrum[kept] = np.exp(2j * np.pi * random.uniform(size=kept.size))
    samples = np.fft.ifft(spectrum)
    return (0.8 * samples / np.abs(samples).max()).astype(np.complex64)


def peak(samples: np.ndarray, burst: np.ndarray) -> tuple[int, float]:
    """Where a burst is in a recording, and how like it the recording is there.

    The cable's delay lies between two samples, which makes the likeness 0.94 at best.
    """
    received = samples.astype(np.float64) @ [1, 1j]
    size = 1 << int(np.ceil(np.log2(received.size + burst.size)))
    correlation = np.fft.ifft(np.fft.fft(received, size) * np.conj(np.fft.fft(burst, size)))[: received.size]
    at = int(np.abs(correlation).argmax())
    energy = np.sum(np.abs(received[at : at + burst.size]) ** 2) * np.sum(np.abs(burst) ** 2)
    return at, float(np.abs(correlation[at]) / np.sqrt(energy))


# Exact rationals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier_hz", [70_000_001, 433_920_000, 2_400_000_007, 2_437_000_000, 5_890_123_457])
def test_the_carrier_is_a_multiple_of_the_synthesizers_step(carrier_hz: int) -> None:
    exact = exact_carrier_hz(carrier_hz, carrier_hz - 1)
    vco, divider = float(exact), 1
    while vco <= 6e9:
        vco, divider = 2 * vco, 2 * divider
    # A whole number of steps of twice the reference over the modulus, divided as the VCO is; nearest to what was asked.
    steps = exact * 8_388_593 * divider / 80_000_000
    assert steps.denominator == 1
    assert abs(exact - (carrier_hz & ~1)) <= Fraction(80_000_000, 8_388_593 * divider) / 2


def test_the_rate_is_that_of_the_synthesizers_word() -> None:
    # 30.72 MS/s, whose synthesizer cannot be met to better than 10 Hz in 983 MHz.
    rates = "BBPLL:983039999 ADC:245759999 R2:122879999 R1:61439999 RF:30719999 RXSAMP:30719999"
    exact = exact_rate_hz(rates)
    word = exact * 32 * 2_088_960 / 40_000_000
    assert word.denominator == 1
    assert abs(exact - 30_720_000) < Fraction(10, 32)
    # Seen through a reference believed to be 10 ppm fast, the same word makes what the true one makes.
    assert exact_rate_hz("BBPLL:983049830 RXSAMP:30720307", 40_000_400) == exact
    with pytest.raises(RadioError, match="does not understand"):
        exact_rate_hz("none")


@pytest.mark.parametrize(
    ("carrier", "rate"), [(2_437_123_457, 20_000_000), (433_920_000, 3_123_456), (3_500_000_001, 40_000_000)]
)
def test_what_was_applied_is_what_the_device_does(carrier: int, rate: int) -> None:
    server = serve_looped(Looped(ideal=True))
    radio = radio_at(server)
    applied = radio.configure(replace(ASKED, carrier_hz=Fraction(carrier), rate_hz=Fraction(rate)))
    inside = server.pluto.engine.settings
    assert applied.carrier_hz == inside.receive_hz == inside.transmit_hz
    assert applied.rate_hz == inside.rate_hz
    assert applied.details["firmware"] == "v0.39"
    assert applied.details["serial"].startswith("1044730a")
    radio.close()
    server.close()


def test_corrections_are_found_where_it_is_tuned_to(server: object) -> None:
    """Though tracking was left off: the simulated device is eight times as bad where it was tuned without."""
    import iio

    for tracking in (False, False, True):
        radio = configured(server, tracking=tracking)
        assert server.pluto.engine.settings.stale_factor == 1.0
        radio.close()
        context = iio.Context(f"ip:127.0.0.1:{server.port}")
        switch = context.find_device("ad9361-phy").find_channel("voltage0").attrs["quadrature_tracking_en"]
        assert switch.value == str(int(tracking))


# Samples ------------------------------------------------------------------------------------------------------------


def test_its_own_read_is_that_of_the_library(server: object) -> None:
    import adi

    sdr = adi.Pluto(uri=f"ip:127.0.0.1:{server.port}")
    radio = configured(server)
    burst = noise()
    radio.transmit(burst, offset_samples=5_000)
    own = radio.receive(SAMPLES)
    at, likeness = peak(own.samples[0], burst)
    assert likeness > 0.9
    # The push's latency is at most a millisecond, and the cable some samples long.
    assert 5_000 <= at < 5_000 + 20_000 + 60
    sdr.rx_buffer_size, sdr.tx_cyclic_buffer = 1024, True
    sdr.tx(np.round(2047 * burst.astype(np.complex128)) * 16)
    theirs = sdr.rx()
    raw = np.frombuffer(sdr._rxbuf.read(), np.int16).reshape(-1, 2)
    np.testing.assert_array_equal(raw @ [1, 1j], theirs)
    sdr.rx_destroy_buffer()
    sdr.tx_destroy_buffer()
    radio.close()


def test_two_receivers_are_two_antennas(twin: object) -> None:
    radio = configured(twin, antennas=2)
    burst = noise()
    radio.transmit(burst, offset_samples=100)
    heard = radio.receive(SAMPLES)
    assert heard.samples.shape == (2, SAMPLES, 2)
    levels = [float(np.sqrt(np.mean(channel.astype(float) ** 2))) for channel in heard.samples]
    # The cable joins the ports of the same number; the other is 45 dB down.
    assert 35 < 20 * np.log10(levels[0] / levels[1]) < 55
    assert peak(heard.samples[0], burst)[1] > 0.9
    radio.close()


def test_full_scale_is_sent_whole_and_more_is_refused(server: object) -> None:
    radio = configured(server)
    radio.transmit(np.exp(0.1j * np.arange(4000)).astype(np.complex64), offset_samples=0)
    sent: list[np.ndarray] = []
    push = server.pluto.engine.push
    server.pluto.engine.push = lambda samples, **how: (sent.append(samples.copy()), push(samples, **how))[1]
    radio.receive(SAMPLES)
    values = sent[0].astype(int)
    # No wrap-around, no bit that the DAC does not have.
    assert values.max() == values[0, 0] == 2047 * 16
    assert values.min() >= -2047 * 16
    assert not (values & 15).any()
    with pytest.raises(RadioError, match=r"samples of 'west' exceed full scale: peak 1\.2"):
        radio.transmit(np.full(10, 1.2, np.complex64), offset_samples=0)
    with pytest.raises(RadioError, match=r"before it starts to receive"):
        radio.transmit(np.full(10, 0.2, np.complex64), offset_samples=-1)
    radio.transmit(np.full(10, 0.2, np.complex64), offset_samples=1)
    with pytest.raises(RadioError, match=r"one burst for each reception"):
        radio.transmit(np.full(10, 0.2, np.complex64), offset_samples=5_000)
    radio.close()


def test_nothing_recorded_before_comes_after() -> None:
    # On the wall clock four old blocks would wait in the kernel; the round's own buffer is new.
    server = serve_looped(Looped(clock="wall", attenuation_db=40.0, ideal=True))
    # A machine that is busy starts the receiver late: it has 150 of the buffer's 400 ms.
    radio = radio_at(server, receive_lag_s=0.15)
    radio.configure(replace(ASKED, rate_hz=Fraction(4_000_000)))
    for index in range(3):
        burst = noise(seed=index + 2)
        radio.transmit(burst, offset_samples=0)
        heard = radio.receive(1_600_000)
        assert peak(heard.samples[0], burst)[1] > 0.9, index
        assert heard.stream == index + 1
        assert heard.events == ()
    radio.close()
    server.close()


def test_an_own_fir_filter_is_kept(server: object, tmp_path: Path) -> None:
    # A narrow one of 64 taps: what the library would load has 128.
    taps = np.round(4000 * np.sinc((np.arange(64) - 31.5) / 8) * np.hamming(64)).astype(int)
    text = "RX 3 GAIN -6 DEC 2\nTX 3 GAIN 0 INT 2\n" + "".join(f"{tap},{tap}\n" for tap in taps)
    path = tmp_path / "narrow.ftr"
    path.write_text(text)
    radio = radio_at(server, fir=str(path))
    applied = radio.configure(ASKED)
    assert applied.rate_hz == 20_000_000
    inside = server.pluto.engine.settings
    assert inside.receive_path.taps == inside.transmit_path.taps == tuple(taps)
    radio.close()
    with pytest.raises(RadioError, match=r'node\.pluto\.fir of .west. is ".*none\.ftr": '):
        radio_at(server, fir=str(tmp_path / "none.ftr")).configure(ASKED)
    path.write_text("not a filter")
    with pytest.raises(RadioError, match=r"refuses node\.pluto\.fir"):
        radio_at(server, fir=str(path)).configure(ASKED)


def test_the_shared_edge_starts_both_directions_at_once(server: object) -> None:
    radio = configured(server, alignment="tdd")
    burst = noise()
    places = []
    for _ in range(3):
        radio.transmit(burst, offset_samples=5_000)
        heard = radio.receive(SAMPLES)
        places.append(peak(heard.samples[0], burst)[0])
    # Without it each start would be late by its own share of a millisecond: 20 000 samples.
    assert len(set(places)) == 1
    assert 5_000 <= places[0] < 5_000 + 64
    radio.close()


# What it refuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "asked", "words"),
    [
        ({}, {"carrier_hz": Fraction(6_100_000_000)}, r"waveform\.carrier_hz is 6100000000, but this Pluto does 325"),
        (
            {},
            {"rate_hz": Fraction(70_000_000)},
            r"sample_rate_hz is 70000000, but this Pluto does .* 61440000",
        ),
        ({"rx_gain_db": 77.0}, {}, r"node\.pluto\.rx_gain_db is 77, but this Pluto does -\d+ to 7\d"),
        ({"bandwidth_hz": 30e6}, {}, r"node\.pluto\.bandwidth_hz is 30000000, but this Pluto does 200000 to "),
        ({"serial": "other"}, {}, r'has the serial number 1044730a\w+, but node\.pluto\.serial is "other"'),
        ({}, {"antennas": 2}, r"has 1 receiver, but 2 antennas are wanted"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    server: object, options: dict[str, object], asked: dict[str, object], words: str
) -> None:
    radio = radio_at(server, **options)
    with pytest.raises(RadioError, match=words) as caught:
        radio.configure(replace(ASKED, **asked))
    assert "\n" not in str(caught.value)
    radio.close()


@pytest.mark.parametrize(
    ("facts", "options", "words"),
    [
        (
            {"hw_model": "Analog Devices ADRV9009-ZU11EG"},
            {},
            r"answers as 'Analog Devices ADRV9009-ZU11EG', which is no Pluto",
        ),
        ({"fw_version": "v0.29"}, {}, r"runs firmware v0\.29, but v0\.31 or later is needed"),
        (
            {"fw_version": "v0.38-dirty"},
            {"alignment": "tdd"},
            r"runs firmware v0\.38-dirty, but v0\.39 or later",
        ),
    ],
)
def test_another_device_or_an_old_firmware_is_one_line(
    server: object, facts: dict[str, str], options: dict[str, str], words: str
) -> None:
    for key, value in facts.items():
        old = f'name="{key}" value="{server.pluto.attributes[key]}"'.encode()
        assert old in server.pluto.xml
        server.pluto.xml = server.pluto.xml.replace(old, f'name="{key}" value="{value}"'.encode())
    with pytest.raises(RadioError, match=words):
        radio_at(server, **options).configure(ASKED)


def test_nobody_there_or_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RadioError, match=r'no Pluto answers at node\.pluto\.uri = "ip:127\.0\.0\.1:1" of .west.'):
        PlutoRadio("west", Pluto(uri="ip:127.0.0.1:1")).configure(ASKED)
    monkeypatch.setitem(sys.modules, "adi", None)
    with pytest.raises(RefusalError, match=r"pip install 'isac-testbed\[pluto\]' and sudo apt-get install libiio0"):
        PlutoDevice("west", Pluto(uri="ip:127.0.0.1:1"), 1)


# What it survives ---------------------------------------------------------------------------------------------------


def test_lost_samples_leave_the_round_out(server: object) -> None:
    radio = configured(server)
    render = server.pluto.engine._render

    def losing(first: int, samples: int) -> np.ndarray:
        server.pluto.engine.overflow = True
        return render(first, samples)

    server.pluto.engine._render = losing
    heard = radio.receive(SAMPLES)
    assert heard.samples.shape == (1, 0, 2)
    assert heard.stretches == ()
    assert [event["code"] for event in heard.events] == ["samples-lost"]
    server.pluto.engine._render = render
    assert radio.receive(SAMPLES).samples.shape == (1, SAMPLES, 2)
    radio.close()


def test_a_dead_context_is_rebuilt_with_its_settings() -> None:
    first = serve_looped(Looped(attenuation_db=40.0, ideal=True))
    port = first.port
    radio = configured(first, rx_gain_db=33.0)
    assert radio.receive(SAMPLES).events == ()
    first.close()
    second = serve_looped(Looped(attenuation_db=40.0, ideal=True), port=port)
    burst = noise()
    radio.transmit(burst, offset_samples=300)
    heard = radio.receive(SAMPLES)
    assert [event["code"] for event in heard.events] == ["device-lost"]
    assert peak(heard.samples[0], burst)[1] > 0.9
    assert second.pluto.engine.settings.receive_gain_db[0] == 33.0
    second.close()
    with pytest.raises(RadioError, match="is gone: no Pluto answers"):
        radio.receive(SAMPLES)
    radio.close()


@pytest.mark.parametrize("fate", [signal.SIGSEGV, signal.SIGSTOP])
def test_a_library_that_crashes_or_hangs_takes_nothing_with_it(
    server: object, monkeypatch: pytest.MonkeyPatch, fate: signal.Signals
) -> None:
    radio = configured(server, rx_gain_db=33.0)
    monkeypatch.setattr(pluto_process, "_BEYOND_S", 0.3 if fate is signal.SIGSTOP else 15.0)
    assert radio._device is not None
    os.kill(radio._device._process.process.pid, fate)
    # A machine that is busy may take longer than the patience of this test to start another.
    monkeypatch.setattr(pluto, "_REBUILDS", 20)
    radio._wait = lambda seconds: monkeypatch.setattr(pluto_process, "_BEYOND_S", 15.0)
    heard = radio.receive(SAMPLES)
    events = [event["text"] for event in heard.events]
    words = "did not answer in time" if fate is signal.SIGSTOP else "crashed (signal 11)"
    assert events == [f"libiio lost the device (the library {words}), which is opened anew"]
    assert heard.samples.shape == (1, SAMPLES, 2)
    assert server.pluto.engine.settings.receive_gain_db[0] == 33.0
    # What it tells of itself: the chip's and the processor's temperature.
    assert heard.conditions == {"temperature_c": 38.5, "board_temperature_c": 49.5}
    radio.close()


def test_closing_while_it_waits_wakes_it() -> None:
    server = serve_looped(Looped(clock="wall", ideal=True))
    radio = configured(server)
    timer = threading.Timer(0.3, radio.close)
    timer.start()
    with pytest.raises(RadioError, match="gone"):
        radio.receive(60_000_000)  # three seconds
    timer.join()
    radio.close()
    server.close()


def test_the_end_of_the_interpreter_with_buffers_open_is_no_crash() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from fractions import Fraction
from testbed.radio.base import Settings
from testbed.radio.pluto_device import PlutoDevice
from testbed.radio.simulated_pluto import Looped, serve_looped
from testbed.scenario import Pluto
server = serve_looped(Looped(ideal=True))
radio = PlutoDevice("west", Pluto(uri=f"ip:127.0.0.1:{{server.port}}"), 1)
radio.set_up(Settings(Fraction(2_400_000_000), Fraction(4_000_000), 1, 0.0))
sdr = radio._sdr
sdr.rx()
sdr.tx([0.0] * 1000)
radio.cycle = [radio, sdr]
sdr.cycle = radio
print("done", flush=True)
"""
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stdout.strip()) == (0, "done"), ended.stderr
