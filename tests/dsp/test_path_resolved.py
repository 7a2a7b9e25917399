"""Path-resolved methods: static paths, packets and movers against drawn truth, and every assumption broken once."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.bounds.link import delay_std_s
from dsp.bounds.path_resolved import moving_delay_std_s, moving_doppler_std_hz
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Need, Observation
from dsp.synchronization.path_resolved import (
    STATIC_PATH_DELAY,
    PathResolved,
    PathResolvedAngle,
    PathResolvedDictionary,
)
from dsp.synchronization.path_resolved_delay import static_paths

SUBCARRIERS, SPACING, CARRIER, PACKETS, PERIOD = 48, 20e6 / 48, 2_400_000_000, 32, 1e-3
CELL = 1 / (SUBCARRIERS * SPACING)
RATE = Fraction(20_000_000)


def scene(rng, *, static, movers=(), antennas=1, snr_db=20.0, jitter_s=3e-9, cfo_hz=None, packets=PACKETS):
    """Slot of static [(delay, amplitude, sine)] and movers [(delay, amplitude, Doppler, sine)]; its timings and phases.

    Without a CFO every packet has a phase of its own.
    """
    f = (np.arange(SUBCARRIERS) - (SUBCARRIERS - 1) / 2) * SPACING
    t = np.arange(packets) * PERIOD
    middle = t - t.mean()
    values = np.zeros((antennas, packets, SUBCARRIERS), complex)
    paths = [(delay, amplitude, 0.0, sine) for delay, amplitude, sine in static] + list(movers)
    for delay, amplitude, doppler, sine in paths:
        turn = np.exp(2j * np.pi * (rng.random() + doppler * np.outer(middle, 1 + f / CARRIER)))
        array = np.exp(1j * np.pi * sine * np.outer(np.arange(antennas), 1 + f / CARRIER))
        values += amplitude * array[:, None] * turn * np.exp(-2j * np.pi * f * delay)
    timing = jitter_s * rng.standard_normal(packets)
    phase = 2 * np.pi * (rng.random(packets) if cfo_hz is None else cfo_hz * t)
    values *= np.exp(1j * phase[:, None] - 2j * np.pi * np.outer(timing, f))
    noise = 10 ** (-snr_db / 10)
    values += np.sqrt(noise / 2) * (rng.standard_normal(values.shape) + 1j * rng.standard_normal(values.shape))
    csi = ChannelState(
        values=values,
        weights=np.ones((packets, SUBCARRIERS)),
        subcarrier_hz=f,
        symbol_s=t,
        reference=Moment("n", 1000, 0.25, RATE),
        cfo_reference_hz=0.0,
        carrier_hz=Fraction(CARRIER),
        noise=np.full(antennas, noise),
        frame_of_symbol=np.arange(packets),
    )
    return Observation(forward=csi, departure=Moment("m", 990, 0.0, RATE)), timing, phase


def doppler_of(rng):
    return rng.choice([-1.0, 1.0]) * rng.uniform(100.0, 400.0)


def test_static_paths_are_found_at_their_bound():
    rng = np.random.default_rng(1)
    f = (np.arange(SUBCARRIERS) - 23.5) * SPACING
    errors = []
    for _ in range(100):
        delays = 100e-9 + np.cumsum(rng.uniform(2, 4, 3)) * CELL
        gains = np.array([0.4, 1.0, 0.3])[None] * np.exp(2j * np.pi * rng.random((2, 3)))
        channel = gains @ np.exp(-2j * np.pi * np.outer(delays, f))
        channel += np.sqrt(0.5e-3) * (rng.standard_normal(channel.shape) + 1j * rng.standard_normal(channel.shape))
        found = static_paths(f, channel, weights=np.ones(48), noise=np.full(2, 1e-3), closest_cells=0.3)
        assert len(found.delays_s) in (3, 4)
        assert not found.unresolved
        errors.append((found.delays_s[0] - delays[1]) / found.delay_std_s[0])
    assert abs(np.mean(np.square(errors)) - 1) < 3 * np.sqrt(2 / len(errors))
    alone = delay_std_s(SUBCARRIERS, SPACING, 2, 1e3)
    assert 1.0 <= found.delay_std_s[0] / alone < 1.3


@pytest.mark.parametrize("method", [PathResolved(), PathResolvedDictionary(), PathResolvedAngle()])
def test_movers_and_packets_are_referred_to_the_static_path(method):
    rng = np.random.default_rng(2)
    antennas = 3 if method.name.endswith("angle") else 1
    normalised, timings = [], []
    for _ in range(12):
        first, extra, doppler = rng.uniform(100e-9, 150e-9), rng.uniform(100e-9, 600e-9), doppler_of(rng)
        static = [(first, 1.0, -0.3), (first + rng.uniform(2, 5) * CELL, 0.3, 0.6)]
        seen, timing, _ = scene(rng, static=static, movers=[(first + extra, 0.15, doppler, 0.2)], antennas=antennas)
        offset = method.estimate(seen)
        assert offset.valid, offset.reason
        assert offset.to_s is None
        assert offset.cfo_hz is None
        (mover, *_) = offset.details["movers"]
        normalised += [(mover.delay_s - extra) / mover.delay_std_s]
        normalised += [(mover.doppler_hz - doppler) / mover.doppler_std_hz]
        apparent = offset.details["apparent_delay_s"] - 10.25 / float(RATE) - timing.mean() - first
        normalised += [apparent / offset.details["apparent_delay_std_s"]]
        packets = offset.details["packet_timing_s"]
        timings.append(packets - packets.mean() - timing + timing.mean())
    assert np.max(np.abs(normalised)) < 5
    assert abs(np.mean(np.square(normalised)) - 1) < 3 * np.sqrt(2 / len(normalised))
    assert np.std(timings) < 1.3 * offset.details["packet_timing_std_s"]


def test_delays_by_direction_are_those_at_the_first_antenna():
    rng = np.random.default_rng(12)
    for sine, other in ((0.9, -0.2), (-0.8, 0.5)):  # 0.28 ns from the first antenna to the centre
        static = [(100e-9, 1.0, sine), (130e-9, 0.4, other)]
        seen, timing, _ = scene(rng, static=static, movers=[(400e-9, 0.2, 200.0, -sine)], antennas=4, snr_db=30.0)
        offset = PathResolvedAngle().estimate(seen)
        assert offset.valid, offset.reason
        assert abs(offset.details["apparent_delay_s"] - 10.25 / float(RATE) - timing.mean() - 100e-9) < 30e-12
        assert abs(offset.details["movers"][0].delay_s - 300e-9) < 120e-12


def test_the_mover_stays_at_its_bound_when_timing_and_phase_are_new_in_every_packet():
    rng = np.random.default_rng(3)
    errors = []
    bounds = np.array(
        [
            moving_delay_std_s(SUBCARRIERS, SPACING, PACKETS, moving_snr=1.0, reference_snr=100.0),
            moving_doppler_std_hz(SUBCARRIERS, PACKETS, PERIOD, moving_snr=1.0, reference_snr=100.0),
        ]
    )
    for _ in range(30):
        extra, doppler = rng.uniform(4, 10) * CELL, doppler_of(rng)
        seen, _, _ = scene(rng, static=[(100e-9, 1.0, 0.0)], movers=[(100e-9 + extra, 0.1, doppler, 0.0)])
        (mover, *_) = PathResolved().estimate(seen).details["movers"]
        errors.append((mover.delay_s - extra, mover.doppler_hz - doppler) / bounds)
    assert np.all(np.sqrt(np.mean(np.square(errors), axis=0)) < 1.2 * (1 + 2 / np.sqrt(60)))


def test_a_common_phase_gives_the_carrier_offset_and_a_known_path_the_time_offset():
    rng = np.random.default_rng(4)
    for cfo_hz in (-133.3, 71.9):
        static = [(120e-9, 1.0, 0.0), (300e-9, 0.4, 0.0)]
        seen, timing, _ = scene(rng, static=static, cfo_hz=cfo_hz, jitter_s=0.2e-9)
        offset = PathResolved().estimate(replace(seen, extras={STATIC_PATH_DELAY: 120e-9}))
        assert offset.valid, offset.reason
        assert abs(offset.cfo_hz - cfo_hz) < 4.5 * offset.cfo_std_hz < 0.5
        assert abs(offset.to_s - 10.25 / float(RATE) - timing.mean()) < 4.5 * offset.to_std_s < 1e-9
        unknown = PathResolved().estimate(replace(seen, departure=None))
        assert unknown.to_s is None
        assert "departure unknown" in unknown.reason


def test_phase_and_scale_change_nothing():
    rng = np.random.default_rng(5)
    seen, _, _ = scene(rng, static=[(100e-9, 1.0, 0.0)], movers=[(400e-9, 0.2, 150.0, 0.0)])
    scaled = replace(seen.forward, values=seen.forward.values * 5j, noise=seen.forward.noise * 25)
    one, two = (
        PathResolved().estimate(replace(seen, forward=csi)).details["movers"][0] for csi in (seen.forward, scaled)
    )
    assert abs(one.delay_s - two.delay_s) < 0.02 * one.delay_std_s
    assert abs(one.doppler_hz - two.doppler_hz) < 0.02 * one.doppler_std_hz


def test_a_mover_in_the_cell_of_the_only_static_path_has_no_sign_and_is_left_out():
    rng = np.random.default_rng(6)
    for _ in range(5):
        seen, _, _ = scene(rng, static=[(100e-9, 1.0, 0.0)], movers=[(101e-9, 0.2, doppler_of(rng), 0.0)])
        offset = PathResolved().estimate(seen)
        assert not [mover for mover in offset.details["movers"] if mover.snr_db > 15]


@pytest.mark.parametrize(
    ("method", "antennas", "word"),
    [(PathResolved(), 1, "resolve"), (PathResolvedDictionary(), 1, ""), (PathResolvedAngle(), 4, "")],
)
def test_static_paths_within_a_cell_need_the_dictionary_or_the_array(method, antennas, word):
    rng = np.random.default_rng(7)
    for _ in range(6):
        gap = rng.uniform(0.45, 0.9) * CELL
        static = [(100e-9, 1.0, -0.4), (100e-9 + gap, 0.5, 0.5)]
        seen, timing, _ = scene(rng, static=static, antennas=antennas)
        offset = method.estimate(seen)
        assert offset.valid is (not word)
        assert word in offset.reason
        if offset.valid:
            apparent = offset.details["apparent_delay_s"] - 10.25 / float(RATE) - timing.mean() - 100e-9
            assert abs(apparent) < 4.5 * offset.details["apparent_delay_std_s"]


def broken(rng, kind):
    first = rng.uniform(100e-9, 200e-9)
    match kind:
        case "all move":
            movers = [(rng.uniform(0.1e-6, 1e-6), 1.0, rng.uniform(-400, 400), 0.0) for _ in range(5)]
            return scene(rng, static=[], movers=movers)[0]
        case "dense":
            static = [(first + rng.exponential(60e-9), abs(rng.normal()), 0.0) for _ in range(40)]
            return scene(rng, static=static)[0]
        case "reference moves":
            static = [(first + rng.uniform(2, 4) * CELL, 0.4, 0.0), (first + rng.uniform(6, 8) * CELL, 0.4, 0.0)]
            return scene(rng, static=static, movers=[(first, 1.0, doppler_of(rng), 0.0)])[0]
        case "noise":
            return scene(rng, static=[(first, 0.1, 0.0)], snr_db=-10)[0]
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("all move", "stands still"),
        ("dense", "resolve"),
        ("reference moves", "strongest path moves"),
        ("noise", "weak"),
    ],
)
def test_a_broken_assumption_is_said(kind, word):
    rng = np.random.default_rng(8)
    for _ in range(6):
        offset = PathResolved().estimate(broken(rng, kind))
        assert not offset.valid
        assert word in offset.reason


def test_the_array_is_named_when_missing_and_short_slots_refused():
    rng = np.random.default_rng(9)
    seen, _, _ = scene(rng, static=[(100e-9, 1.0, 0.0)])
    with pytest.raises(MissingInputError) as caught:
        PathResolvedAngle().estimate(seen)
    assert caught.value.need is Need.SECOND_ANTENNA
    with pytest.raises(ValueError, match="8 symbols"):
        PathResolved().estimate(scene(rng, static=[(100e-9, 1.0, 0.0)], packets=4)[0])
