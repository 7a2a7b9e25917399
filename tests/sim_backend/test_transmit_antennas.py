"""Several transmit antennas: each sends from its own place, and their fields add."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sim_backend.ether import Ether
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

IDEAL = FrontEndSpec(
    noise_figure_db=None, bits=None, gain_db=52.0, phase_noise_deg=0.0, gain_imbalance_db=0.0,
    phase_imbalance_deg=0.0, dc_offset=0j,
)  # fmt: skip
HEADING = np.deg2rad(25.0)
SPACING = 0.06


def _world(place: tuple[float, float] = (31.0, 4.0), antennas: int = 3) -> World:
    receiver = NodeSpec("east", (0.0, 0.0), clock=ClockSpec(7.0, 3.7, profile=None), front_end=IDEAL)
    sender = NodeSpec(
        "west", place, heading_deg=25.0, antenna_spacing_m=SPACING, transmit_antennas=antennas,
        clock=ClockSpec(-4.0, -2.2, profile=None), front_end=IDEAL,
    )  # fmt: skip
    reflectors = (ReflectorSpec((14.0, 9.0), rcs_m2=200.0),)
    return World(WorldSpec((receiver, sender), SceneSpec(reflectors=reflectors), seed=5))


def _noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.zeros(4096, complex)
    spectrum[np.arange(-1500, 1500)] = rng.standard_normal(3000) + 1j * rng.standard_normal(3000)
    wave = np.fft.ifft(spectrum)
    return (wave / np.abs(wave).max()).astype(np.complex64)


def _heard(world: World, *streams: tuple[int, np.ndarray]) -> np.ndarray:
    moment = Fraction(5, 2)
    start = world.tick_at("west", moment) + 100
    bursts = [Burst(start, 0.25, samples, antenna=antenna) for antenna, samples in streams]
    request = Request(world.tick_at("east", moment), 4600, 0)
    return world.render({"west": bursts}, {"east": request})["east"].samples[0].astype(float) @ [1, 1j]


@pytest.mark.parametrize("antenna", [1, 2])
def test_an_antenna_sends_from_its_own_place(antenna: int) -> None:
    # A node of one antenna that stands where the array's heading puts this one hears and is heard the same.
    left = np.array([-np.sin(HEADING), np.cos(HEADING)])
    place = np.array([31.0, 4.0]) + antenna * SPACING * left
    alone = _heard(_world(tuple(place), antennas=1), (0, _noise(1)))
    assert np.abs(alone).max() > 1000
    assert np.abs(_heard(_world(), (antenna, _noise(1))) - alone).max() <= 1.5
    assert np.abs(_heard(_world(), (0, _noise(1))) - alone).max() > 100


def test_fields_of_the_antennas_add() -> None:
    world, streams = _world(), [(number, _noise(number) * np.float32(0.5)) for number in range(3)]
    together = _heard(world, *streams)
    assert np.abs(together - sum(_heard(world, stream) for stream in streams)).max() <= 3.0


def test_an_antenna_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'west' has 3 transmit antennas, and none of number 3"):
        _heard(_world(), (3, _noise(0)))


def test_a_common_phase_is_the_same_on_every_node_and_at_every_start() -> None:
    spec = _world().spec
    locked = tuple(replace(node, front_end=replace(node.front_end, common_phase=True)) for node in spec.nodes)
    world = World(replace(spec, nodes=locked))
    assert {world.lo_phase(name, "transmit", stream) for name in ("east", "west") for stream in range(3)} == {0.0}
    assert len({_world().lo_phase("west", "transmit", stream) for stream in range(3)}) == 3


def test_an_ether_takes_a_stream_for_each_antenna_and_stamps_them_once() -> None:
    spec = _world().spec
    stamped = tuple(replace(node, front_end=replace(node.front_end, time_stamps=True)) for node in spec.nodes)
    ether = Ether(replace(spec, nodes=stamped, reference_power=0.1), start_spread_s=0.0, stall_timeout_s=0.05)
    ether.attach("west")
    with pytest.raises(ValueError, match="'west' has 3 transmit antennas, 4 streams given"):
        ether.transmit("west", np.zeros((4, 10), np.complex64))
    ether.transmit("west", np.stack([_noise(number) for number in range(3)]), offset_samples=50)
    assert len(ether.receive("west", 6000).departures) == 1
