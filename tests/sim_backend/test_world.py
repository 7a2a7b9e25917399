"""The rendered world against the equation of methods.md, evaluated exactly and independently."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import finufft
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from sim_backend.world import (
    Burst,
    ClockSpec,
    FrontEndSpec,
    NodeSpec,
    ReflectorSpec,
    Request,
    SceneSpec,
    World,
    WorldSpec,
)

C = 299_792_458.0
PERIOD = 2048
IDEAL = FrontEndSpec(
    noise_figure_db=None, bits=None, phase_noise_deg=0.0, gain_imbalance_db=0.0, phase_imbalance_deg=0.0, dc_offset=0j
)
CARRIER = Fraction(2_400_000_000)
RATE = Fraction(20_000_000)


def _spectrum(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    index = np.arange(-PERIOD // 2, PERIOD // 2)
    inside = np.abs(index) < 0.4 * PERIOD
    return np.where(inside, np.exp(2j * np.pi * random.uniform(size=PERIOD)) / np.sqrt(inside.sum()) / 4, 0)


def _samples(spectrum: np.ndarray, count: int) -> np.ndarray:
    one = np.fft.ifft(np.fft.ifftshift(spectrum)) * PERIOD
    return one[np.arange(count) % PERIOD].astype(np.complex64)


def _signal(spectrum: np.ndarray, position: np.ndarray) -> np.ndarray:
    angle = np.ascontiguousarray(np.mod(2 * np.pi * position / PERIOD, 2 * np.pi))
    return np.asarray(finufft.nufft1d2(angle, np.ascontiguousarray(spectrum), eps=1e-13, isign=1, nthreads=1))


def _pair(**scene) -> WorldSpec:
    east = NodeSpec("east", (0.0, 0.0), clock=ClockSpec(23.7, 3.712, profile=None), front_end=IDEAL)
    west = NodeSpec("west", (31.0, 4.0), clock=ClockSpec(-24.9, -2.25, profile=None), front_end=IDEAL)
    return WorldSpec((east, west), SceneSpec(**scene), seed=5)


def _linear(clock: ClockSpec) -> tuple[Fraction, Fraction]:
    return Fraction(clock.offset_s), 1 + Fraction(clock.offset_ppm) / 1_000_000


def _expected(world: World, request: Request, burst: Burst, delay) -> tuple[np.ndarray, np.ndarray]:
    """Place in the burst and carrier turns by methods.md §1, for linear clocks: `east` hears `west`."""
    receiver, transmitter = world.nodes["east"], world.nodes["west"]
    (offset_n, rate_n), (offset_m, rate_m) = _linear(receiver.clock), _linear(transmitter.clock)
    start = (Fraction(request.first_tick) / receiver.rate_hz - offset_n) / rate_n
    elapsed = np.arange(request.samples) / float(receiver.rate_hz * rate_n)
    tau = delay(float(start) + elapsed)
    # Constants as rationals, so that only what varies is left to the double.
    at_start = (offset_m + rate_m * start) * transmitter.rate_hz - burst.start_tick - Fraction(burst.start_fraction)
    position = float(at_start) + float(rate_m * transmitter.rate_hz) * (elapsed - tau)
    turns = transmitter.carrier_hz * (offset_m + rate_m * start) - receiver.carrier_hz * (offset_n + rate_n * start)
    constant = float(turns % 1) + world.lo_phase("west", "transmit", 0) - world.lo_phase("east", "receive", 0)
    slope = float(transmitter.carrier_hz * rate_m - receiver.carrier_hz * rate_n)
    return position, constant + slope * elapsed - float(transmitter.carrier_hz * rate_m) * tau


def _render(world: World, spectrum: np.ndarray, *, time: float, fraction: float = 0.0, samples: int = 20_000):
    moment = Fraction(time)
    request = Request(world.tick_at("east", moment), samples, 0)
    start = world.tick_at("west", moment) - PERIOD
    burst = Burst(start, fraction, _samples(spectrum, samples + 4 * PERIOD))
    rendered = world.render({"west": [burst]}, {"east": request})["east"]
    return request, burst, (rendered.samples[0] @ [1, 1j]) / rendered.full_scale, rendered


@pytest.mark.parametrize("time", [2.5, 977.3])
@pytest.mark.parametrize(
    ("velocity", "carrier", "rate"),
    [
        ((0.0, 0.0), CARRIER, RATE),
        ((-90.0, 35.0), CARRIER, RATE),
        ((40.0, 0.0), CARRIER + Fraction(20_000, 8389), RATE + Fraction(1, 3)),
    ],
)
def test_samples_are_those_of_the_signal_model(time, velocity, carrier, rate):
    place = np.array([12.0, 900.0]) - np.array(velocity) * time
    spec = _pair(line_of_sight=False, reflectors=(ReflectorSpec(tuple(place), velocity, 50.0),))
    west = replace(spec.nodes[1], carrier_hz=carrier, rate_hz=rate)
    # Automatic levels are set for the world's start, when the mover may have been far away.
    level = World(spec).scene.paths("east", "west", 0)[0].amplitude(time)
    east = replace(spec.nodes[0], front_end=replace(IDEAL, gain_db=float(-20 * np.log10(abs(level)))))
    world = World(replace(spec, nodes=(east, west)))
    spectrum = _spectrum(1)
    request, burst, heard, _ = _render(world, spectrum, time=time, fraction=0.37)

    def delay(moment):
        back = 0.0
        for _ in range(4):  # the place where the reflector was when it was met
            at = place + np.multiply.outer(moment - back, velocity)
            back = np.linalg.norm(at - np.array([0.0, 0.0]), axis=-1) / C
        return np.linalg.norm(at - np.array([31.0, 4.0]), axis=-1) / C + back

    position, turns = _expected(world, request, burst, delay)
    phase = world.scene.paths("east", "west", 0)[0].amplitude(time)
    model = _signal(spectrum, position) * np.exp(2j * np.pi * turns) * phase
    # The level is set for all and tested elsewhere; what remains is real and positive.
    gain = np.vdot(model, heard) / np.vdot(model, model)
    assert abs(np.angle(gain)) < 2e-4
    error = heard / gain - model
    assert 10 * np.log10(np.sum(np.abs(error) ** 2) / np.sum(np.abs(model) ** 2)) < -75
    frequency = np.arange(-PERIOD // 2, PERIOD // 2) / PERIOD * float(RATE)
    slope = _signal(spectrum * (-2j * np.pi * frequency), position) * np.exp(2j * np.pi * turns) * phase
    assert abs(np.real(np.vdot(slope, error)) / np.sum(np.abs(slope) ** 2)) < 0.1e-12


def test_time_and_frequency_offset_have_the_sign_of_the_conventions():
    spec = _pair(line_of_sight=True)
    world = World(spec)
    spectrum = np.zeros(PERIOD, dtype=complex)
    spectrum[PERIOD // 2 + 100] = 0.25
    request, burst, heard, _ = _render(world, spectrum, time=3.0, samples=200_000)
    tone = 100 / PERIOD * float(RATE)
    measured = np.polyfit(np.arange(heard.size) / float(RATE), np.unwrap(np.angle(heard)), 1)[0] / (2 * np.pi)
    cfo = float(CARRIER) * (-24.9e-6 - 23.7e-6)  # fc·(delta_m - delta_n)
    assert measured == pytest.approx(cfo + tone * (1 + (-24.9e-6 - 23.7e-6)), abs=0.01 * abs(cfo))
    # The burst's departure on west's clock plus TO plus the delay is its arrival on east's: TO = s_n - s_m.
    impulse = np.zeros(1000, dtype=np.complex64)
    impulse[500] = 1.0
    rendered = world.render({"west": [Burst(burst.start_tick + 4000, 0.0, impulse)]}, {"east": request})["east"]
    arrival = (request.first_tick + np.argmax(np.abs(rendered.samples[0] @ [1, 1j]))) / float(RATE)
    departure = (burst.start_tick + 4500) / float(RATE)
    offset = float(world.clocks["east"].reading(Fraction(3)) - world.clocks["west"].reading(Fraction(3)))
    delay = np.hypot(31.0, 4.0) / C
    assert arrival - departure == pytest.approx(offset + delay, abs=1 / float(RATE))


def test_doppler_is_positive_when_the_path_shortens():
    spec = _pair(reflectors=(ReflectorSpec((15.0, 40.0), (0.0, -20.0), 1.0, "closing"),))
    rows = World(spec).scene_truth(0.5)
    row = next(row for row in rows if row["name"] == "closing" and row["receiver"] == "east")
    assert row["doppler_hz"] > 100
    assert row["moving"]
    before, after = (
        next(r for r in World(spec).scene_truth(t) if r["name"] == "closing" and r["receiver"] == "east")["delay_s"]
        for t in (0.49, 0.51)
    )
    assert row["doppler_hz"] == pytest.approx(-float(CARRIER) * (after - before) / 0.02, rel=1e-3)


def test_both_directions_see_the_same_paths():
    reflectors = (ReflectorSpec((10.0, 20.0), rcs_m2=30.0), ReflectorSpec((20.0, -9.0), (3.0, 1.0), 2.0))
    world = World(_pair(reflectors=reflectors, snr_db=20.0))
    rows = world.scene_truth(1.0)
    there = [row for row in rows if (row["receiver"], row["transmitter"]) == ("east", "west")]
    back = [row for row in rows if (row["receiver"], row["transmitter"]) == ("west", "east")]
    for one, other in zip(there, back, strict=True):
        assert one["delay_s"] == pytest.approx(other["delay_s"], abs=1e-14)
        assert one["phase_rad"] == pytest.approx(other["phase_rad"], abs=1e-12)
        assert one["relative_db"] == pytest.approx(other["relative_db"], abs=1e-4)


def test_stated_snr_is_the_one_heard():
    front = replace(IDEAL, noise_figure_db=6.0)
    spec = _pair(snr_db=7.0, reflectors=(ReflectorSpec((400.0, 700.0), rcs_m2=1e7),))
    spec = replace(
        spec, nodes=tuple(replace(n, front_end=front) for n in spec.nodes), reference_bandwidth_hz=0.8 * 20e6
    )
    world = World(spec)
    spectrum = _spectrum(2)
    _, _, heard, _ = _render(world, spectrum, time=2.0, samples=400_000)
    silent = world.render({}, {"east": Request(world.tick_at("east", Fraction(2)), 400_000, 1)})["east"]
    noise = np.mean(np.abs(silent.samples[0] @ [1, 1j] / silent.full_scale) ** 2)
    signal = np.mean(np.abs(heard[3000:]) ** 2) - noise
    # Per element: the signal's power lies in 80 % of the band, the noise in all of it.
    assert 10 * np.log10(signal / (0.8 * noise)) == pytest.approx(7.0, abs=0.15)


def test_leakage_level_own_echoes_and_auto_level():
    spec = _pair(snr_db=20.0, leakage_db=43.0, reflectors=(ReflectorSpec((6.0, 8.0), rcs_m2=10.0),))
    spec = replace(spec, nodes=tuple(replace(n, front_end=replace(IDEAL, leakage_delay_s=2e-10)) for n in spec.nodes))
    world = World(spec)
    samples = _samples(_spectrum(3), 30_000)
    first = {name: world.tick_at(name, Fraction(2)) for name in ("east", "west")}
    bursts = {name: [Burst(first[name] + 1000, 0.0, samples)] for name in first}
    power = {}
    for sender in first:
        rendered = world.render({sender: bursts[sender]}, {"east": Request(first["east"], 40_000, 0)})["east"]
        power[sender] = 10 * np.log10(np.mean(np.abs(rendered.samples[0, 2000:30000] @ [1, 1j] / 2**15) ** 2))
    # What is stated is the leakage above the paths' total; here the paths interfere.
    rows = [row for row in world.scene_truth(2.0) if (row["receiver"], row["transmitter"]) == ("east", "west")]
    frequency = np.linspace(-8e6, 8e6, 1001)[:, None] + float(CARRIER)
    field = [
        10 ** (r["relative_db"] / 20) * np.exp(1j * r["phase_rad"] - 2j * np.pi * frequency * r["delay_s"])
        for r in rows
    ]
    interference_db = 10 * np.log10(np.mean(np.abs(np.sum(field, axis=0)) ** 2))
    assert power["east"] - power["west"] + interference_db == pytest.approx(43.0, abs=0.1)
    assert power["east"] == pytest.approx(-12.0, abs=0.2)
    own = {row["name"]: row for row in world.scene_truth(2.0) if row["receiver"] == row["transmitter"] == "east"}
    assert own["leakage"]["delay_s"] == pytest.approx(2e-10)
    assert own["reflector 0"]["delay_s"] == pytest.approx(20.0 / C, rel=1e-9)
    assert -90 < own["reflector 0"]["relative_db"] < -20


def test_chain_delays_shift_what_is_heard():
    spectrum = _spectrum(4)
    alike = tuple(replace(n, clock=ClockSpec(0.0, n.clock.offset_s, profile=None)) for n in _pair().nodes)
    plain = World(replace(_pair(), nodes=alike))
    slow = replace(IDEAL, transmit_delay_s=3.3e-7, receive_delay_s=1.7e-7)
    delayed = World(replace(_pair(), nodes=tuple(replace(n, front_end=slow) for n in alike)))
    assert delayed.chain("east").transmit_s == 3.3e-7
    _, _, one, _ = _render(plain, spectrum, time=2.0)
    _, _, two, _ = _render(delayed, spectrum, time=2.0)
    spectra = [np.fft.fft(x[4 * PERIOD : 5 * PERIOD]) for x in (one, two)]
    bins = np.fft.fftfreq(PERIOD)
    strong = np.abs(bins) < 0.35
    frequency = bins[strong] * float(RATE)
    turn = (spectra[1] / spectra[0])[strong] * np.exp(2j * np.pi * frequency * 5e-7)
    turn *= np.conj(turn[np.argmin(np.abs(frequency))])
    remaining_s = -np.polyfit(frequency, np.angle(turn), 1)[0] / (2 * np.pi)
    assert abs(remaining_s) < 1e-12


def test_truth_gives_the_true_time_between_its_knots():
    clock = ClockSpec(12.0, -1.5, 1e-3, profile="cheap-tcxo")
    spec = WorldSpec((NodeSpec("a", clock=clock, front_end=IDEAL), NodeSpec("b", (9.0, 0.0))), seed=8)
    world = World(spec)
    first = world.tick_at("a", Fraction(40))
    truth = world.render({}, {"a": Request(first, 1_000_000, 0)})["a"].truth
    knots = np.arange(len(truth["elapsed_error_s"])) * truth["spacing_samples"]
    assert knots[-1] >= 999_999
    assert truth["spacing_samples"] / float(RATE) <= 0.25e-3
    between = CubicSpline(knots, truth["elapsed_error_s"])
    for offset in np.random.default_rng(0).integers(0, 1_000_000, 60):
        exact = world.time_at("a", first + int(offset))
        stated = Fraction(truth["start_s"]) + Fraction(truth["start_fraction_s"]) + Fraction(int(offset)) / RATE
        assert abs(float(exact - stated) - float(between(offset))) < 0.1e-12


def test_same_seed_same_bits_whatever_else_is_rendered():
    spec = _pair(snr_db=10.0, leakage_db=40.0)
    noisy = tuple(replace(n, front_end=FrontEndSpec(), clock=replace(n.clock, profile="tcxo")) for n in spec.nodes)
    spec = replace(spec, nodes=noisy, reference_power=0.06)
    samples = _samples(_spectrum(6), 5000)

    def render(world: World, round_index: int) -> np.ndarray:
        moment = Fraction(1) + Fraction(round_index)
        request = Request(world.tick_at("east", moment), 8000, round_index)
        return world.render({"west": [Burst(world.tick_at("west", moment), 0.0, samples)]}, {"east": request})[
            "east"
        ].samples

    both = World(spec)
    first, second = render(both, 0), render(both, 5)
    np.testing.assert_array_equal(render(World(spec), 5), second)
    np.testing.assert_array_equal(render(World(spec), 0), first)
    assert np.any(render(World(replace(spec, seed=6)), 0) != first)


def test_lost_buffers_are_missing_and_said():
    front = replace(IDEAL, lost_buffer_probability=0.3, buffer_samples=1000)
    spec = _pair()
    spec = replace(spec, nodes=tuple(replace(n, front_end=front) for n in spec.nodes))
    world, whole = World(spec), World(_pair())
    spectrum = _spectrum(7)
    _, _, heard, rendered = _render(world, spectrum, time=2.0, samples=20_000)
    _, _, complete, _ = _render(whole, spectrum, time=2.0, samples=20_000)
    assert rendered.gaps
    assert sum(lost for _, lost in rendered.gaps) + heard.size == 20_000
    place, shift = 0, 0
    for start, lost in [*rendered.gaps, (heard.size, 0)]:
        np.testing.assert_array_equal(heard[place:start], complete[place + shift : start + shift])
        place, shift = start, shift + lost


def test_nonsense_is_refused():
    world = World(_pair())
    tick = world.tick_at("east", Fraction(2))
    with pytest.raises(ValueError, match="no node 'north'"):
        world.render({}, {"north": Request(tick, 10, 0)})
    with pytest.raises(ValueError, match="asks for 0 samples"):
        world.render({}, {"east": Request(tick, 0, 0)})
    with pytest.raises(ValueError, match="tick and a fraction"):
        world.render({"west": [Burst(0, 1.5, np.ones(4, dtype=np.complex64))]}, {"east": Request(tick, 10, 0)})
    with pytest.raises(ValueError, match="before the world begins"):
        world.render({}, {"east": Request(0, 10, 0)})
    with pytest.raises(ValueError, match="no second node"):
        World(WorldSpec((NodeSpec("alone"),), SceneSpec(leakage_db=40.0)))
    with pytest.raises(ValueError, match="over no path"):
        World(_pair(line_of_sight=False, snr_db=10.0)).link_scale("east", "west")
