"""Clock chain, filters, tones, gains and the looped-back receiver, against what hardware printed and closed forms."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sim_backend import front_end
from sim_backend.pluto.cable import Cable
from sim_backend.pluto.chain import clock_chain, rate_range_hz
from sim_backend.pluto.device import Pluto
from sim_backend.pluto.emissions import Emission
from sim_backend.pluto.fir import parse_fir
from sim_backend.pluto.gains import attenuation_db, automatic_gain_db, receive_range_db
from sim_backend.pluto.medium import FULL_SCALE_DBM
from sim_backend.pluto.part import Part, initial_settings
from sim_backend.pluto.session import converse
from sim_backend.pluto.settings import Settings
from sim_backend.randomness import generator
from sim_backend.specification import FrontEndSpec


def test_the_clock_chain_is_what_a_board_printed() -> None:
    # An ADRV9364-Z7020 at 30.72 MS/s with filters by two, as its context was saved by the vendor.
    chain = clock_chain(30_720_000, receive_fir=2, transmit_fir=2)
    assert chain.words(transmit=False) == (
        "BBPLL:983040000 ADC:491520000 R2:245760000 R1:122880000 RF:61440000 RXSAMP:30720000"
    )
    assert chain.words(transmit=True) == (
        "BBPLL:983040000 DAC:245760000 T2:122880000 T1:61440000 TF:61440000 TXSAMP:30720000"
    )


@pytest.mark.parametrize("fir", [1, 2, 4])
@pytest.mark.parametrize("highest", [False, True])
def test_every_rate_has_its_clocks_within_their_ranges(fir: int, highest: bool) -> None:
    random = np.random.default_rng(fir)
    low, high = rate_range_hz(fir, 1)
    for rate in [low + 1, *random.integers(low + 1, min(high, 640_000_000 // fir // 2), size=60)]:
        chain = clock_chain(int(rate), receive_fir=fir, transmit_fir=fir, highest=highest)
        assert 25e6 - 20 <= chain.adc_hz <= 640e6 + 20
        assert chain.dac_hz <= 320e6 + 20
        assert 715e6 - 20 <= chain.synthesizer_hz <= 1430e6 + 20
        # Half a step of the synthesizer, by which it divides.
        assert (
            abs(chain.rate_hz - int(rate)) <= Fraction(40_000_000, 2 * 2_088_960) * chain.rate_hz / chain.synthesizer_hz
        )
        word = chain.synthesizer_hz * 2_088_960 / 40_000_000
        assert word.denominator == 1


def test_filters_have_as_many_taps_as_the_clocks_leave_time_for() -> None:
    # The vendor's own table: 128 taps up to 40 MS/s, 96 to 53.3, 64 beyond.
    for rate, fir, taps in ((20_000_000, 4, 128), (40_000_000, 2, 128), (53_333_333, 2, 96), (61_440_000, 2, 64)):
        chain = clock_chain(rate, receive_fir=fir, transmit_fir=fir)
        assert min(*chain.taps(), 128) == taps


def ftr(taps: int = 16, header: str = "RX 3 GAIN -6 DEC 4\nTX 3 GAIN 0 INT 4\n") -> str:
    return "# a filter\n" + header + "".join(f"{n},{-n}\n" for n in range(taps)) + "\n"


def test_a_filter_is_what_its_text_says() -> None:
    loaded = parse_fir(ftr(32) + "\0")
    assert (loaded.transmit[5], loaded.receive[5]) == (5, -5)
    assert str(loaded) == "FIR Rx: 32,4 Tx: 32,4"
    assert (loaded.transmit_gain_db, loaded.receive_gain_db) == (0, -6)


@pytest.mark.parametrize(
    "text",
    [ftr(15), ftr(144), ftr(0), ftr(header="RX 3 GAIN -6 DEC 4\n"),
     ftr(header="RX 3 GAIN -6 INT 4\nTX 3 GAIN 0 INT 4\n"), ftr(header="RX 3 GAIN -6 DEC 3\nTX 3 GAIN 0 INT 4\n"),
     ftr(header="RX 3 GAIN -7 DEC 4\nTX 3 GAIN 0 INT 4\n"),
     ftr() + "40000,1\n", ftr() + "hello\n", ""],
)  # fmt: skip
def test_a_filter_that_the_device_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_fir(text)


def test_tones_read_back_as_a_board_printed() -> None:
    pluto = Pluto("1r1t", Cable(1, FrontEndSpec()))

    def read_back(attribute: str, value: bytes) -> bytes:
        head = b"cf-ad9361-dds-core-lpc OUTPUT TX1_I_F1 " + attribute.encode()
        said = b"WRITE %s %d\r\n%sREAD %s\r\n" % (head, len(value) + 1, value + b"\0", head)
        return converse(pluto, said).split(b"\n")[2].rstrip(b"\0")

    assert read_back("frequency", b"1000000") == b"999859"
    assert read_back("frequency", b"2000000") == b"2000186"
    assert read_back("scale", b"0.06") == b"0.059998"
    assert read_back("scale", b"0.12") == b"0.119995"
    assert read_back("phase", b"90000") == b"90000"


@pytest.mark.parametrize("oscillator", ["RX_LO", "TX_LO"])
@pytest.mark.parametrize("model", ["1r1t", "2r2t"])
def test_oscillators_reach_both_ends_of_what_they_say(model: str, oscillator: str) -> None:
    pluto = Pluto(model, Cable({"1r1t": 1, "2r2t": 2}[model], FrontEndSpec()))
    head = f"ad9361-phy OUTPUT {oscillator} frequency"

    def said(text: str) -> list[bytes]:
        return converse(pluto, text.encode()).split(b"\n")

    low, _, high = said(f"READ {head}_available\r\n")[1].strip(b"[]\0").split()
    for edge, beyond in ((int(low), int(low) - 1), (int(high), int(high) + 1)):
        answers = said(f"WRITE {head} {len(str(edge)) + 1}\r\n{edge}\0READ {head}\r\n")
        assert abs(int(answers[2].rstrip(b"\0")) - edge) <= 2
        assert said(f"WRITE {head} {len(str(beyond)) + 1}\r\n{beyond}\0")[0] == b"-22"


def test_gains_have_their_steps_and_tables() -> None:
    assert [attenuation_db(gain) for gain in (0.0, -0.25, -0.3, -10.0, -89.75)] == [0.0, -0.25, -0.25, -10.0, -89.75]
    assert [receive_range_db(hz) for hz in (1e9, 2.4e9, 5.8e9)] == [(-1, 73), (-3, 71), (-10, 62)]
    # The driver's inner thresholds are -12 and -10 dBFS, and the fast loop's lock level -10 dBFS.
    assert automatic_gain_db("slow_attack", 42, -53.5, 2.4e9) == 42
    assert automatic_gain_db("slow_attack", 50, -53.5, 2.4e9) == 43
    assert automatic_gain_db("slow_attack", 30, -53.5, 2.4e9) == 42
    assert automatic_gain_db("fast_attack", 42, -53.5, 2.4e9) == 43
    assert automatic_gain_db("slow_attack", 40, -120.0, 2.4e9) == 71


@pytest.mark.parametrize("model", ["1r1t", "2r2t"])
def test_the_files_that_gnu_radio_writes_are_there(model: str) -> None:
    pluto = Pluto(model, Cable({"1r1t": 1, "2r2t": 2}[model], FrontEndSpec()))
    phy = pluto.device("ad9361-phy")
    assert phy is not None
    there = {attribute.filename for channel in phy.channels for attribute in channel.attributes}
    files = [
        *(f"out_altvoltage{index}_{name}_LO_frequency" for index, name in enumerate(("RX", "TX"))),
        *(f"{way}_voltage_{name}" for way in ("in", "out") for name in ("sampling_frequency", "rf_bandwidth")),
        *(f"in_voltage_{name}_tracking_en" for name in ("quadrature", "rf_dc_offset", "bb_dc_offset")),
        *(f"{way}_voltage0_{name}" for way in ("in", "out") for name in ("hardwaregain", "rf_port_select")),
        "in_voltage0_gain_control_mode",
        "in_out_voltage_filter_fir_en",
    ]
    if model == "2r2t":
        files += ["in_voltage1_gain_control_mode", "in_voltage1_hardwaregain", "out_voltage1_hardwaregain"]
    assert set(files) <= there


def tuned(channels: int = 1, **values: object) -> Settings:
    settings = initial_settings(Part(channels), "pluto")
    # Without filters, whose own tests are in test_pluto_filters.py.
    values = {"receive_path": None, "transmit_path": None} | values
    manual = {"transmit_hz": settings.receive_hz, "agc": ("manual",) * channels, "receive_gain_db": (33.0,) * channels}
    return replace(settings, **(manual | values))


def ring(samples: int, channels: int = 1, seed: int = 0) -> Emission:
    random = np.random.default_rng(seed)
    return Emission(0, random.integers(-12_000, 12_000, size=(samples, 2 * channels)).astype(np.int16), True, 0)


@pytest.mark.parametrize("period", [100, 5000, 70_001])
def test_the_looped_receiver_is_the_simulators_own_front_end(period: int) -> None:
    front = FrontEndSpec(
        noise_figure_db=None,
        phase_noise_deg=0.0,
        gain_imbalance_db=0.4,
        phase_imbalance_deg=2.0,
        dc_offset=0.01 - 0.02j,
    )
    settings, emission = tuned(), ring(period)
    # A whole number of samples of delay: the interpolator then passes the samples as they are.
    cable = Cable(1, front, attenuation_db=40.0, delay_samples=20.0)
    counts = cable.receive(3 * period + 17, 6400, settings, [emission])
    place = (3 * period + 17 - 20 + np.arange(6400)) % period
    sent = (emission.samples[place] >> 4) / 2048 @ [1, 1j]
    loss = 10 ** ((FULL_SCALE_DBM - 10 - 40 - 30) / 20)  # in square-root watts
    turns = settings.phase_turns(0) + float(generator(0, "cable").uniform(size=(1, 1))[0, 0])
    field = (loss * sent * np.exp(2j * np.pi * turns)).astype(np.complex64)
    expected = front_end.digitise(
        front, np.ascontiguousarray(field.real), np.ascontiguousarray(field.imag), noise_power=0.0,
        scale=float(np.sqrt(1e3 * 10**3.3)), angle=np.zeros(6400, np.float32), seed=0, labels=("any",),
    )  # fmt: skip
    assert np.max(np.abs(counts.astype(int) - expected)) <= 1
    assert np.mean(np.abs(counts.astype(int) - expected)) < 0.1


def test_thermal_noise_is_white_and_of_its_power() -> None:
    cable, settings = Cable(1, FrontEndSpec(dc_offset=0j, phase_noise_deg=0.0)), tuned(receive_gain_db=(71.0,))
    samples = 400_000
    counts = cable.receive(12_345, samples, settings, []) @ [1, 1j] / 2048
    power_dbm = 10 * np.log10(np.mean(np.abs(counts) ** 2)) - 71.0
    expected_dbm = -173.975 + 5.0 + 10 * np.log10(float(settings.rate_hz))
    assert power_dbm == pytest.approx(expected_dbm, abs=10 / np.log(10) * 5 / np.sqrt(samples))
    assert cable.power_dbm(0, 0, 1000, settings, []) == pytest.approx(expected_dbm, abs=1e-3)
    spectrum = np.fft.ifft(np.abs(np.fft.fft(counts)) ** 2)
    assert np.max(np.abs(spectrum[1:2000])) < 5.5 / np.sqrt(samples) * np.abs(spectrum[0])


def test_a_stretch_is_the_same_however_it_is_cut() -> None:
    cable, settings, emission = Cable(2, FrontEndSpec()), tuned(2), ring(3000, 2)
    whole = cable.receive(5000, 9000, settings, [emission])
    parts = [
        cable.receive(5000 + begin, size, settings, [emission]) for begin, size in ((0, 1), (1, 4999), (5000, 4000))
    ]
    assert np.array_equal(whole, np.concatenate(parts))


def test_a_plain_burst_is_heard_where_it_is_sent_and_nowhere_else() -> None:
    cable = Cable(1, FrontEndSpec(noise_figure_db=None, phase_noise_deg=0.0, dc_offset=0j), delay_samples=20.0)
    burst = Emission(1000, ring(500).samples, False, 0)
    counts = np.abs(cable.receive(0, 3000, tuned(), [burst]) @ [1, 1j])
    active = np.flatnonzero(counts > 0.05 * counts.max())
    assert (active[0], active[-1]) == (1020, 1519)


def test_phase_noise_of_two_synthesizers_adds_up() -> None:
    cable = Cable(1, FrontEndSpec(noise_figure_db=None, phase_noise_deg=0.5, dc_offset=0j, gain_imbalance_db=0.0,
                                  phase_imbalance_deg=0.0))  # fmt: skip
    steady = Emission(0, np.full((64, 2), 20_000, np.int16), True, 0)
    counts = cable.receive(10_000, 2_000_000, tuned(receive_gain_db=(28.0,)), [steady]) @ [1, 1j]
    angle = np.angle(counts / np.mean(counts))
    # 0.5° each; the converter's bits add 0.02°; some hundred independent values of the loop's 50 kHz.
    assert np.rad2deg(np.std(angle)) == pytest.approx(0.5 * np.sqrt(2), rel=0.05)
