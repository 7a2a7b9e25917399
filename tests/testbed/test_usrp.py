"""The USRP driver over the fake library: its clock, its faults, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest

from sim_backend.fake_uhd import Library
from sim_backend.fake_uhd.device import Recorded
from sim_backend.fake_uhd.types import SensorValue
from testbed.radio.base import RadioError, Reception, Settings
from testbed.radio.usrp import UsrpRadio
from testbed.radio.usrp_clock import SampleClock, master_clock_hz
from testbed.radio.usrp_sensors import temperatures
from testbed.scenario import Usrp

SAMPLES = 5_000
ASKED = Settings(Fraction(2_400_000_000), Fraction(10_000_000), 1, 0.0, start_lead_s=0.05)


@dataclass
class Loop:
    """An air in which the device hears itself, 1000 samples of it lost where ``lost`` says."""

    rate_hz: Fraction = Fraction(10_000_000)
    carrier_hz: Fraction = Fraction(2_400_000_000)
    antennas: int = 2
    now: int = 123_456_789
    lost: tuple[int, ...] = ()
    sent: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def present(self) -> tuple[int, int]:
        return self.now, self.now - 4_321_000

    def transmit(self, samples: np.ndarray, tick: int) -> None:
        self.sent.append((tick, samples))

    def receive(self, samples: int, tick: int) -> Recorded:
        heard = np.zeros(samples, np.complex64)
        for start, burst in self.sent:
            places = start - tick + np.arange(len(burst))
            inside = (places >= 0) & (places < samples)
            heard[places[inside]] += burst[inside]
        counts = np.round(2047 * np.stack([heard.real, heard.imag], axis=-1)).astype(np.int16)
        counts = np.stack([counts * (antenna + 1) // 2 for antenna in range(self.antennas)])
        kept = np.ones(samples, bool)
        for begin in self.lost:
            kept[begin : begin + 1000] = False
        edges = np.flatnonzero(np.diff(np.r_[False, kept, False]))
        runs, start = [], 0
        for begin, end in edges.reshape(-1, 2):
            runs.append((start, int(end - begin), tick + int(begin)))
            start += int(end - begin)
        self.now = tick + samples + 500_000
        return Recorded(np.ascontiguousarray(counts[:, kept]), 2048, tuple(runs))


def opened(arguments: str = "", air: Loop | None = None, **options: object) -> tuple[UsrpRadio, Loop]:
    air = air or Loop()
    made = Usrp(args=",".join(part for part in ("type=simulated,product=X310", arguments) if part), **options)
    library = Library(made.args, lambda: air)
    return UsrpRadio("north", made, library=library, wait=library.sleep), air


def configured(arguments: str = "", air: Loop | None = None, **options: object) -> UsrpRadio:
    radio, _ = opened(arguments, air, **options)
    radio.configure(ASKED)
    return radio


def codes(reception: Reception) -> list[str]:
    return [event["code"] for event in reception.events]


def test_what_is_sent_is_heard_at_its_tick_on_every_antenna() -> None:
    radio, _ = opened()
    radio.configure(Settings(ASKED.carrier_hz, ASKED.rate_hz, 2, 0.0, start_lead_s=0.05))
    random = np.random.default_rng(2)
    burst = (0.2 * (random.standard_normal(3000) + 1j * random.standard_normal(3000))).astype(np.complex64)
    burst /= np.abs(burst).max()
    radio.transmit(burst, offset_samples=700)
    heard = radio.receive(SAMPLES)
    assert heard.departures[0].tick == heard.stretches[0].first_tick + 700
    assert heard.full_scale == 32768
    got = heard.samples.astype(np.float64) @ [1, 1j] / heard.full_scale
    # Twelve bits of the converter, left-aligned in sixteen.
    assert np.abs(got[1, 700:3700] - burst * 2047 / 2048).max() < 1.0 / 2048
    assert np.abs(got[0, 700:3700] - 0.5 * got[1, 700:3700]).max() < 1.5 / 2048
    assert not got[:, :700].any()
    assert heard.events == ()


@pytest.mark.parametrize("source", ["external", "gpsdo"])
def test_pulses_set_the_time(source: str) -> None:
    air = Loop()
    radio, _ = opened("", air, clock_source=source, time_source=source)
    applied = radio.configure(ASKED)
    assert applied.details["synchronized"] is True
    assert applied.details["clock_source"] == source
    pulse = air.present()[1]
    heard = radio.receive(SAMPLES)
    begin = heard.stretches[0].first_tick
    # Whole seconds at the pulse: the recording began 4 321 000 samples and the lead of 0.05 s after one.
    assert begin % 10_000_000 == 4_321_000 + 500_000 + 1
    assert pulse
    # GPS seconds where a receiver tells them, else from zero.
    assert (begin // 10_000_000 > 10) == (source == "gpsdo")


@pytest.mark.parametrize(("product", "told"), [("B210", {"temperature_c": 37.5}), ("X310", {})])
def test_every_round_tells_the_temperature_that_the_device_has(product: str, told: dict[str, float]) -> None:
    radio = configured(f"product={product}")
    assert radio.receive(SAMPLES).conditions == told


def test_a_boards_temperature_stands_for_a_front_end_that_has_none() -> None:
    class Board:
        get_rx_sensor_names = staticmethod(lambda channel: ["lo_locked"])
        get_mboard_sensor_names = staticmethod(lambda board: ["ref_locked", "temp"])
        get_mboard_sensor = staticmethod(lambda name, board: SensorValue("Temperature", 44.25, "C", ""))

    assert temperatures(Board()) == {"temperature_c": 44.2, "board_temperature_c": 44.2}


def test_a_missing_pulse_or_reference_is_refused_or_told_in_every_round() -> None:
    for arguments, words, code in (
        ("ref=absent", 'the clock source "external" does not lock', "reference-unlocked"),
        ("pps=absent", 'no pulse per second comes from the time source "external"', "pps-missing"),
    ):
        with pytest.raises(RadioError, match=f"^{words}: mend it, or allow it with node.usrp.require_lock = false$"):
            configured(arguments, clock_source="external", time_source="external")
        radio = configured(arguments, clock_source="external", time_source="external", require_lock=False)
        for _ in range(2):
            heard = radio.receive(SAMPLES)
            assert codes(heard) == [code]
            assert heard.samples.shape == (1, SAMPLES, 2)


def test_a_reference_lost_in_mid_run_is_told() -> None:
    radio = configured("lose_ref_after=2", clock_source="external")
    assert [codes(radio.receive(SAMPLES)) for _ in range(4)] == [[], [], ["reference-unlocked"], ["reference-unlocked"]]


def test_a_late_order_is_repeated_and_nothing_is_sent_twice() -> None:
    air = Loop()
    radio = configured("late=2", air)
    radio.transmit(np.full(100, 0.5, np.complex64), offset_samples=10)
    heard = radio.receive(SAMPLES)
    assert codes(heard) == ["late-command", "late-command"]
    assert len(air.sent) == 1
    assert heard.departures[0].tick == heard.stretches[0].first_tick + 10
    with pytest.raises(RadioError, match="starts no stream: an order to receive came late"):
        configured("late=3").receive(SAMPLES)


@pytest.mark.parametrize(("loss", "code"), [("overflow", "overflow"), ("drop", "packets-dropped")])
def test_losses_are_edges_of_stretches(loss: str, code: str) -> None:
    radio = configured(f"loss={loss}", Loop(lost=(500, 3000)))
    heard = radio.receive(SAMPLES)
    first = heard.stretches[0].first_tick
    assert [(s.start, s.samples, s.first_tick - first) for s in heard.stretches] == [
        (0, 500, 0),
        (500, 1500, 1500),
        (2000, 1000, 4000),
    ]
    assert codes(heard) == [code, "samples-lost"]
    assert "2000 samples lost" in heard.events[1]["text"]


def test_a_loss_at_the_end_and_the_beginning_is_told() -> None:
    heard = configured("", Loop(lost=(0, 4000))).receive(SAMPLES)
    assert [(s.start, s.samples) for s in heard.stretches] == [(0, 3000)]
    assert codes(heard) == ["overflow", "samples-lost"]
    with pytest.raises(RadioError, match="delivers no samples"):
        configured("", Loop(lost=(0, 1000, 2000, 3000, 4000))).receive(SAMPLES)


@pytest.mark.parametrize(("fault", "code"), [("underflow=1", "underflow"), ("late_tx=1", "late-transmit")])
def test_a_spoilt_transmission_has_no_departure_and_the_next_one_has(fault: str, code: str) -> None:
    radio = configured(fault)
    burst = np.full(4000, 0.5, np.complex64)
    radio.transmit(burst, offset_samples=0)
    spoilt = radio.receive(SAMPLES)
    assert codes(spoilt) == [code]
    assert spoilt.departures == ()
    radio.transmit(burst, offset_samples=0)
    assert len(radio.receive(SAMPLES).departures) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "asked", "words"),
    [
        (
            "",
            {"clock_source": "mimo"},
            {},
            r'node\.usrp\.clock_source is "mimo", but the device has internal',
        ),
        ("", {"time_source": "sfp0"}, {}, r'node\.usrp\.time_source is "sfp0", but the device has none, internal'),
        ("", {"rx_gain_db": 40.0}, {}, r"node\.usrp\.rx_gain_db is 40, but the device does 0 to 31\.5 dB"),
        ("", {"tx_gain_db": 32.0}, {}, r"node\.usrp\.tx_gain_db is 32, but the device does 0 to 31\.5 dB"),
        ("", {"rx_antenna": "RX3"}, {}, r'node\.usrp\.rx_antenna is "RX3", but the device has TX/RX, RX2, CAL'),
        (
            "",
            {},
            {"carrier_hz": Fraction(7 * 10**9)},
            r"carrier_hz is 7000000000, but the device covers 10 to 6000 MHz",
        ),
        ("", {}, {"rate_hz": Fraction(11_000_000)}, r"no master clock of a X310 divides down to: use 1\d+"),
        ("", {}, {"antennas": 3}, r"north wants 3 antennas, but its X310 receives on 2"),
        ("master_clock_rate=100e6", {}, {}, r"the USRP of 'north': Invalid master clock rate: 1e\+08"),
        ("product=B210", {}, {"rate_hz": Fraction(62_000_000)}, r"a B210 with 1 channel does at most 61\.44 MS/s"),
    ],
)
def test_what_the_device_cannot_do_is_one_line(
    arguments: str, options: dict[str, str], asked: dict[str, object], words: str
) -> None:
    radio, air = opened(arguments, **options)
    with pytest.raises(RadioError, match=words) as caught:
        radio.configure(replace(ASKED, **asked))
    assert "\n" not in str(caught.value)
    assert air.sent == []


def test_a_device_that_is_not_there_or_not_alone_is_one_line() -> None:
    with pytest.raises(RadioError, match=r'no USRP answers to node\.usrp\.args = "type=simulated,serial=OTHER"'):
        UsrpRadio("north", Usrp(args="type=simulated,serial=OTHER"), library=Library("type=simulated", Loop))

    class Two(Library):
        def find(self, arguments: str) -> list:
            return 2 * super().find(arguments)

    with pytest.raises(RadioError, match=r"2 USRPs answer .*choose one by its serial number: F5EA4C0, F5EA4C0"):
        UsrpRadio("north", Usrp(args="type=simulated"), library=Two("type=simulated", Loop))


def test_without_the_library_or_with_numpy_2_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(np, "__version__", "2.4.0")
    with pytest.raises(RadioError, match=r"runs with numpy 2\.4\.0, with which UHD's library crashes: .*python"):
        UsrpRadio("north", Usrp())
    monkeypatch.setattr(np, "__version__", "1.26.4")
    monkeypatch.setitem(sys.modules, "uhd", None)
    with pytest.raises(RadioError, match="sudo apt-get install python3-uhd"):
        UsrpRadio("north", Usrp())


def test_before_it_is_configured_and_after_it_is_closed_it_refuses() -> None:
    radio, _ = opened()
    with pytest.raises(RadioError, match="is not configured"):
        radio.receive(SAMPLES)
    radio.configure(ASKED)
    radio.close()
    radio.close()
    with pytest.raises(RadioError, match="is not configured"):
        radio.receive(SAMPLES)


# Time ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[30_720_000, Fraction(15625 * 1_604_321_123, 816 * 1024), 200_000_000])
def clock(request: pytest.FixtureRequest) -> SampleClock:
    return SampleClock(Fraction(request.param), 6)


def test_ticks_survive_device_time_since_1970(clock: SampleClock) -> None:
    library = Library("type=simulated", Loop)
    random = np.random.default_rng(4)
    for second in (0, 1, 1_800_000_000):
        for _ in range(200):
            tick = int(second * clock.rate_hz) + int(random.integers(10**9))
            assert clock.tick(clock.time_spec(library, tick)) == (tick, 0)
    # What a float of seconds would make of it.
    spec = clock.time_spec(library, int(1_800_000_000 * clock.rate_hz) + 1)
    naive = round(spec.get_real_secs() * float(clock.rate_hz))
    assert naive != clock.tick(spec)[0]


def test_a_time_between_two_samples_is_told_as_such(clock: SampleClock) -> None:
    library = Library("type=simulated", Loop)
    finer = SampleClock(clock.master_hz, 1)
    assert clock.tick(finer.time_spec(library, 6 * 1000 + 4)) == (1000, 4)


@pytest.mark.parametrize(
    ("model", "rate", "channels", "expected"),
    [
        ("B210", 20_000_000, 1, 40_000_000),
        ("B210", 20_000_000, 2, 20_000_000),
        ("b200", 61_440_000, 1, 61_440_000),
        ("B210", 1_000_000, 2, 30_000_000),
        ("X310", 20_000_000, 2, 200_000_000),
        ("x300", 30_720_000, 1, 184_320_000),
        ("n310", 15_360_000, 4, 122_880_000),
        ("n310", 12_500_000, 4, 125_000_000),
        ("n320", 20_000_000, 2, 200_000_000),
    ],
)
def test_master_clocks_divide_down_to_the_rate(model: str, rate: int, channels: int, expected: int) -> None:
    assert master_clock_hz(model, Fraction(rate), channels) == expected


def test_an_exact_rate_comes_of_a_master_clock_told_as_a_double() -> None:
    exact = Fraction(40_000_000, 2_088_960 * 32) * 51_539_608 / 1
    clock = SampleClock.of("B210", float(exact), exact / 2)
    assert clock.rate_hz == exact / 2
    assert SampleClock.of("X310", 184.32e6, Fraction(30_720_000)).rate_hz == 30_720_000


def test_a_master_clock_that_is_unknown_is_one_line() -> None:
    with pytest.raises(RadioError, match=r"no master clock of a Octo: give node\.usrp\.args one"):
        master_clock_hz("Octo", Fraction(1_000_000), 1)


# The fake has the traps of the real library -------------------------------------------------------------------------


def test_the_fake_has_the_traps_of_the_real_one() -> None:
    library = Library("type=simulated,product=X310,ref=absent", Loop)
    usrp = library.usrp.MultiUSRP("type=simulated,product=X310")
    usrp.set_clock_source("external")
    sensor = usrp.get_mboard_sensor("ref_locked", 0)
    assert bool(sensor) is True
    assert sensor.to_bool() is False
    one, other = library.types.TimeSpec(1.5), library.types.TimeSpec(1.5)
    assert one != other
    with pytest.raises(TypeError):
        _ = one < other
    usrp.set_rx_rate(10e6)
    usrp.set_rx_freq(library.types.TuneRequest(2.4e9), 0)
    made = library.usrp.StreamArgs("sc16", "sc16")
    made.channels = [0, 1]
    stream = usrp.get_rx_stream(made)
    command = library.types.StreamCMD(library.types.StreamMode.start_cont)
    with pytest.raises(RuntimeError, match="will fail to time align"):
        stream.issue_stream_cmd(command)
    with pytest.raises(TypeError, match="not contiguous"):
        stream.recv(np.empty((2, 100), np.int32)[:, ::2], library.types.RXMetadata(), 0.1)
    with pytest.raises(AttributeError):
        library.types.RXMetadata().error_code = library.types.RXMetadataErrorCode.late
