"""Unchanged programs take the simulated Pluto for one: pyadi-iio over Debian's libiio, and libiio's own programs.

What is tried is what the vendor tries on the device: ranges and steps of every attribute, loopback, tones, gains,
cyclic buffers, errors.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sim_backend.pluto.cable import Cable
from sim_backend.pluto.device import MODELS, Pluto
from sim_backend.pluto.server import PlutoServer
from sim_backend.specification import FrontEndSpec

pytestmark = pytest.mark.usefixtures("libiio")


@pytest.fixture(scope="module", params=["1r1t", "2r2t"])
def server(request: pytest.FixtureRequest) -> Iterator[PlutoServer]:
    pluto = Pluto(request.param, Cable(MODELS[request.param], FrontEndSpec()))
    pluto.warm()
    made = PlutoServer(pluto)
    yield made
    made.close()


@pytest.fixture
def sdr(server: PlutoServer) -> Iterator[Any]:
    """Driver for the model; its buffers are destroyed before its context, as libiio needs it."""
    import adi

    channels = server.pluto.receiver.width // 2
    made = (adi.Pluto if channels == 1 else adi.ad9361)(f"ip:127.0.0.1:{server.port}")
    made.ctx.set_timeout(60_000)  # a busy machine is no reason to give up
    made.loopback = 0
    for channel in range(channels):
        setattr(made, f"gain_control_mode_chan{channel}", "manual")
        setattr(made, f"rx_hardwaregain_chan{channel}", 30)
        setattr(made, f"tx_hardwaregain_chan{channel}", -10.0)
    made.sample_rate = 4_000_000
    made.rx_lo = made.tx_lo = 1_000_000_000
    yield made
    made.rx_destroy_buffer()
    made.tx_destroy_buffer()


def first(data: Any) -> np.ndarray:
    """Samples of the first channel, whatever the model."""
    return np.asarray(data[0] if isinstance(data, list) else data)


def sent(sdr: Any, samples: np.ndarray) -> Any:
    """Samples for the first channel, and nothing for the others."""
    channels = len(sdr.tx_enabled_channels)
    return samples if channels == 1 else [samples, *([0 * samples] * (channels - 1))]


def strongest_hz(samples: np.ndarray, rate_hz: float) -> float:
    spectrum = np.abs(np.fft.fft(samples * np.hanning(len(samples))))
    return float(np.fft.fftfreq(len(samples), 1 / rate_hz)[np.argmax(spectrum)])


def test_attributes_keep_what_they_are_given(sdr: Any) -> None:
    random = np.random.default_rng(3)
    channels = len(sdr.rx_enabled_channels)
    for _ in range(12):
        for name in ("rx_lo", "tx_lo"):
            wanted = int(random.integers(325_000_000, 3_800_000_000))
            setattr(sdr, name, wanted)
            assert abs(getattr(sdr, name) - wanted) <= 8
        wanted = int(random.integers(2_084_000, 61_440_000 // channels))
        sdr.sample_rate = wanted
        assert abs(sdr.sample_rate - wanted) <= 4
        gain = -0.25 * int(random.integers(360))
        sdr.tx_hardwaregain_chan0 = gain
        assert sdr.tx_hardwaregain_chan0 == gain
    for value in (0, 1, 2):
        sdr.loopback = value
        assert sdr.loopback == value
    sdr.rx_rf_bandwidth = 5_000_000
    assert sdr.rx_rf_bandwidth == 5_000_000


@pytest.mark.parametrize(
    ("name", "value"),
    [("rx_lo", 1_000_000), ("tx_lo", 7_000_000_000), ("tx_hardwaregain_chan0", 0.25), ("tx_hardwaregain_chan0", -90.0),
     ("rx_hardwaregain_chan0", 80), ("sample_rate", 70_000_000), ("gain_control_mode_chan0", "fast"), ("loopback", 3)],
)  # fmt: skip
def test_what_the_device_cannot_do_is_einval(sdr: Any, name: str, value: object) -> None:
    with pytest.raises(OSError, match="Errno 22"):
        setattr(sdr, name, value)


def test_rates_down_to_a_quarter_of_the_least_go_through_the_filter(sdr: Any) -> None:
    for rate in (521_000, 1_000_000, 2_000_000, 20_000_000, 30_720_000):
        sdr.sample_rate = rate
        assert abs(sdr.sample_rate - rate) <= 4
        assert sdr._get_iio_attr("out", "voltage_filter_fir_en", False) == 1
        words = sdr._get_iio_dev_attr_str("rx_path_rates").split()
        assert int(words[1].split(":")[1]) >= 25_000_000


def test_digital_loopback_is_bit_exact_across_buffers(sdr: Any) -> None:
    sdr.loopback = 1
    sdr.tx_cyclic_buffer = True
    ramp = np.arange(2**11, dtype=np.int16) << 4
    sdr.rx_buffer_size = 2 * len(ramp)
    sdr.tx(sent(sdr, ramp + 1j * (-ramp - 1)))
    data = np.concatenate([first(sdr.rx()) for _ in range(6)])[4096:]
    begin = int(np.argmin(np.abs(data.real)))
    place = (np.arange(len(data)) - begin) % 2**11
    assert np.array_equal(data.real, place)
    assert np.array_equal(data.imag, -place - 1)
    sdr.loopback = 0


def test_a_tone_comes_back_at_its_frequency_and_level(sdr: Any) -> None:
    sdr.tx_cyclic_buffer = True
    sdr.rx_buffer_size = 2**15
    sdr.tx(sent(sdr, 2**14 * np.exp(2j * np.pi * 0.1 * np.arange(10_000))))
    sdr.rx()
    data = first(sdr.rx())
    assert strongest_hz(data, 4e6) == pytest.approx(4e5, rel=1e-3)
    # 7 dBm at full scale, 6.02 below it, 10 and 30 dB of attenuation, 30 dB of gain.
    level = 10 * np.log10(np.mean(np.abs(data) ** 2) / 2048**2)
    assert level == pytest.approx(7 - 6.02 - 10 - 30 + 30, abs=0.1)
    sdr.tx_hardwaregain_chan0 = -22.0
    sdr.rx()
    quieter = 10 * np.log10(np.mean(np.abs(first(sdr.rx())) ** 2) / 2048**2)
    assert quieter - level == pytest.approx(-12.0, abs=0.1)


def test_an_input_beyond_full_scale_saturates_at_twelve_bits(sdr: Any) -> None:
    sdr.rx_hardwaregain_chan0 = 70
    sdr.tx_cyclic_buffer = True
    sdr.rx_buffer_size = 2**14
    sdr.tx(sent(sdr, 2**14 * np.exp(2j * np.pi * 0.1 * np.arange(10_000))))
    sdr.rx()
    data = first(sdr.rx())
    assert (data.real.max(), data.real.min()) == (2047, -2048)


def test_tuned_apart_the_tone_moves_by_the_difference(sdr: Any) -> None:
    sdr.rx_lo = 1_000_300_000
    sdr.tx_cyclic_buffer = True
    sdr.rx_buffer_size = 2**15
    sdr.tx(sent(sdr, 2**14 * np.exp(2j * np.pi * 0.1 * np.arange(10_000))))
    sdr.rx()
    assert strongest_hz(first(sdr.rx()), 4e6) == pytest.approx(1e5, abs=200)
    sdr.rx_lo = 2_000_000_000
    sdr.rx()
    assert np.std(first(sdr.rx())) < 10


def test_direct_digital_synthesis_makes_tones(sdr: Any) -> None:
    sdr.rx_buffer_size = 2**15
    for wanted in (1_000_000, -500_000):
        sdr.rx_destroy_buffer()
        sdr.dds_single_tone(wanted, 0.8)
        sdr.rx()
        data = first(sdr.rx())
        assert strongest_hz(data, 4e6) == pytest.approx(wanted, rel=0.01)
    sdr.rx_destroy_buffer()
    sdr.disable_dds()
    sdr.rx()
    assert np.std(first(sdr.rx())) < 40


@pytest.mark.parametrize("mode", ["slow_attack", "fast_attack", "hybrid"])
def test_automatic_gain_brings_the_level_where_it_belongs(sdr: Any, mode: str) -> None:
    sdr.tx_cyclic_buffer = True
    sdr.rx_buffer_size = 2**14
    tone = 2**14 * np.exp(2j * np.pi * 0.1 * np.arange(10_000))
    sdr.tx(sent(sdr, tone))
    sdr.gain_control_mode_chan0 = mode
    for attenuation in (0.0, -35.0):
        sdr.tx_hardwaregain_chan0 = attenuation
        sdr.rx()
        level = 20 * np.log10(np.std(first(sdr.rx())) / 2048)
        assert -12.5 <= level <= -9.5
    chosen = sdr.rx_hardwaregain_chan0
    sdr.rx_hardwaregain_chan0 = chosen + 5  # does nothing while the control is automatic
    sdr._set_iio_attr_float("voltage0", "hardwaregain", False, chosen + 5)
    assert sdr.rx_hardwaregain_chan0 == chosen
    # The received power, below 1 mW and gain left out: 7 dBm - 6 - 35 - 30.
    assert sdr._get_iio_attr("voltage0", "rssi", False) == pytest.approx(64.0, abs=0.5)


def test_a_cyclic_buffer_is_replaced_after_it_is_destroyed(sdr: Any) -> None:
    sdr.tx_cyclic_buffer = True
    tone = sent(sdr, 2**14 * np.exp(2j * np.pi * 0.1 * np.arange(1_000)))
    sdr.tx(tone)
    with pytest.raises(Exception, match="must be destroyed first"):
        sdr.tx(tone)
    for _ in range(5):
        sdr.tx_destroy_buffer()
        sdr.tx(tone)


def test_plain_buffers_are_sent_once_and_end_in_silence(sdr: Any) -> None:
    sdr.loopback = 1
    sdr.rx_buffer_size = 2**15
    sdr.tx_cyclic_buffer = False
    block = (np.arange(1, 2001) << 4) * (1 + 0j)
    sdr.rx()
    for _ in range(2):
        sdr.tx(sent(sdr, block))
    data = first(sdr.rx()).real
    begin = int(np.flatnonzero(data)[0])
    assert np.array_equal(data[begin : begin + 4000], np.tile(np.arange(1, 2001), 2))
    assert not data[begin + 4000 :].any()
    assert sdr._txdac.reg_read(0x80000088) & 1
    sdr.tx_destroy_buffer()  # as long as it is open, and nothing comes, it is so again at once
    sdr._txdac.reg_write(0x80000088, 1)
    assert not sdr._txdac.reg_read(0x80000088) & 1
    sdr.loopback = 0


def test_any_length_of_buffer_can_be_had(sdr: Any) -> None:
    for size in (16, 1000, 2**12, 12_345, 2**18):
        sdr.rx_destroy_buffer()
        sdr.rx_buffer_size = size
        data = first(sdr.rx())
        assert len(data) == size
        assert np.any(data)


def test_the_transceiver_sleeps(sdr: Any) -> None:
    sdr._set_iio_dev_attr_str("ensm_mode", "sleep")
    try:
        for name, value in (("rx_lo", 900_000_000), ("rx_rf_bandwidth", 1_000_000)):
            with pytest.raises(OSError, match="Errno 22"):
                setattr(sdr, name, value)
        sdr.rx_buffer_size = 1024
        assert not np.any(first(sdr.rx()))
    finally:
        sdr._set_iio_dev_attr_str("ensm_mode", "fdd")
    sdr.rx_destroy_buffer()
    assert np.any(first(sdr.rx()))


@pytest.mark.usefixtures("iio_programs")
def test_the_programs_of_libiio_read_and_write_it(server: PlutoServer) -> None:
    def program(*words: str, given: bytes = b"") -> bytes:
        uri = f"ip:127.0.0.1:{server.port}"
        done = subprocess.run(
            [words[0], "-u", uri, *words[1:]], input=given, capture_output=True, timeout=30, check=True
        )
        return done.stdout

    assert b"PlutoSDR" in program("iio_info")
    assert b"hw_serial" in program("iio_attr", "-C")
    program("iio_attr", "-c", "ad9361-phy", "RX_LO", "frequency", "915000000")
    assert b"915000000" in program("iio_attr", "-c", "ad9361-phy", "RX_LO", "frequency")
    data = program("iio_readdev", "-b", "1024", "-s", "4096", "cf-ad9361-lpc")
    assert len(data) == 4096 * 2 * server.pluto.receiver.width
    program("iio_writedev", "-b", "1024", "-s", "1024", "cf-ad9361-dds-core-lpc", given=data[: len(data) // 4])


def test_the_command_serves_and_ends_with_its_parent(libiio: None) -> None:
    import iio

    command = [sys.executable, "-m", "testbed.cli", "sim", "pluto", "--port", "0", "--model", "2r2t", "--with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        uri = process.stdout.readline().rsplit(maxsplit=1)[1]
        context = iio.Context(uri)
        assert context.attrs["hw_model"].startswith("Analog Devices PlutoSDR")
        assert context.find_device("cf-ad9361-lpc").find_channel("voltage3", False) is not None
        del context
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_server_that_goes_away_is_an_error_and_no_hang() -> None:
    import adi

    gone = PlutoServer(Pluto("1r1t", Cable(1, FrontEndSpec()), clock="wall"))
    radio = adi.Pluto(f"ip:127.0.0.1:{gone.port}")
    radio.rx()
    gone.close()
    with pytest.raises(OSError, match="Errno"):
        radio.rx()
    with pytest.raises(OSError, match="Errno"):
        radio.rx_lo = 900_000_000
    radio.rx_destroy_buffer()
