"""Scene geometry against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from sim_backend.scene import SPEED_OF_LIGHT_MPS, Scene
from sim_backend.specification import NodeSpec, ReflectorSpec, SceneSpec

WAVELENGTH = SPEED_OF_LIGHT_MPS / 2.4e9


@pytest.mark.parametrize("heading_deg", [0.0, 37.0, -120.0])
@pytest.mark.parametrize("bearing_deg", [0.0, 25.0, -70.0])
def test_bearing_is_positive_towards_the_headings_left(heading_deg, bearing_deg):
    distance = 50_000.0  # far: plane waves
    towards = np.deg2rad(heading_deg + bearing_deg)
    place = (distance * np.cos(towards), distance * np.sin(towards))
    nodes = (
        NodeSpec("array", heading_deg=heading_deg, antennas=4, antenna_spacing_m=WAVELENGTH / 2),
        NodeSpec("far", place),
    )
    scene = Scene(nodes, SceneSpec(), seed=1)
    delays = [scene.paths("array", "far", a)[0].delay_s(np.zeros(1))[0] for a in range(4)]
    steering = np.exp(-2j * np.pi * 2.4e9 * (np.array(delays) - delays[0]))
    expected = np.exp(2j * np.pi / WAVELENGTH * np.arange(4) * WAVELENGTH / 2 * np.sin(np.deg2rad(bearing_deg)))
    np.testing.assert_allclose(steering, expected, atol=2e-3)


def test_levels_are_friis_and_the_radar_equation():
    nodes = (NodeSpec("a"), NodeSpec("b", (40.0, 0.0)))
    scene = Scene(nodes, SceneSpec(reflectors=(ReflectorSpec((0.0, 30.0), rcs_m2=2.0),)), seed=1)
    direct, echo = scene.paths("b", "a", 0)
    assert abs(direct.amplitude(0.0)) ** 2 == pytest.approx((WAVELENGTH / (4 * np.pi * 40.0)) ** 2)
    radar = WAVELENGTH**2 * 2.0 / ((4 * np.pi) ** 3 * 30.0**2 * 50.0**2)
    assert abs(echo.amplitude(0.0)) ** 2 == pytest.approx(radar)
    assert scene.power("b", "a") == pytest.approx(abs(direct.amplitude(0.0)) ** 2 + radar)
    assert echo.delay_s(np.zeros(1))[0] == pytest.approx(80.0 / SPEED_OF_LIGHT_MPS)
    own = scene.paths("a", "a", 0)
    assert [path.name for path in own] == ["reflector 0"]
    assert own[0].delay_s(np.zeros(1))[0] == pytest.approx(60.0 / SPEED_OF_LIGHT_MPS)


def test_a_movers_delay_is_that_of_the_place_where_the_wave_met_it():
    velocity = 3e5  # absurd, so that the retardation is seen
    nodes = (NodeSpec("a"), NodeSpec("b", (1000.0, 0.0)))
    scene = Scene(nodes, SceneSpec(line_of_sight=False, reflectors=(ReflectorSpec((500.0, 0.0), (velocity, 0.0)),)), 1)
    # On the line between the nodes: met when 500 m + v·t_met from b, heard (500 m - v·t_met)/c later.
    heard = 1e-5
    met = (heard - 500.0 / SPEED_OF_LIGHT_MPS) / (1 - velocity / SPEED_OF_LIGHT_MPS)
    place = 500.0 + velocity * met
    expected = (place + (1000.0 - place)) / SPEED_OF_LIGHT_MPS
    assert scene.paths("b", "a", 0)[0].delay_s(np.array([heard]))[0] == pytest.approx(expected, abs=1e-16)
    across = Scene(nodes, SceneSpec(line_of_sight=False, reflectors=(ReflectorSpec((500.0, 9.0), (0.0, velocity)),)), 1)
    delay = across.paths("b", "a", 0)[0].delay_s(np.array([heard]))[0]
    naive = 2 * np.hypot(500.0, 9.0 + velocity * heard) / SPEED_OF_LIGHT_MPS
    back = 0.0
    for _ in range(30):
        back = np.hypot(500.0, 9.0 + velocity * (heard - back)) / SPEED_OF_LIGHT_MPS
    assert delay == pytest.approx(2 * back, abs=1e-15)
    assert abs(delay - naive) > 1e-14


def test_separate_ports_stand_where_their_offsets_say():
    node = NodeSpec(
        "n", (5.0, 5.0), heading_deg=90.0, port="separate", tx_offset_m=(0.0, 0.05), rx_offset_m=(0.0, -0.05, 0.3)
    )
    scene = Scene((node, NodeSpec("far", (5.0, 105.0))), SceneSpec(), seed=1)
    placed = scene._placed["n"]
    np.testing.assert_allclose(placed.transmit[0], [4.95, 5.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(placed.receive[0], [5.05, 5.0, 0.3], atol=1e-12)


def test_nonsense_is_refused():
    far = NodeSpec("b", (40.0, 0.0))
    with pytest.raises(ValueError, match="different names"):
        Scene((NodeSpec("b"), far), SceneSpec(), 1)
    with pytest.raises(ValueError, match="shares one port"):
        Scene((NodeSpec("a", tx_offset_m=(0.1, 0.0)), far), SceneSpec(), 1)
    with pytest.raises(ValueError, match="'shared' or 'separate'"):
        Scene((NodeSpec("a", port="both"), far), SceneSpec(), 1)
    with pytest.raises(ValueError, match="one to four"):
        Scene((NodeSpec("a", antennas=5), far), SceneSpec(), 1)
    with pytest.raises(ValueError, match="two or three finite"):
        Scene((NodeSpec("a", (1.0,)), far), SceneSpec(), 1)
    with pytest.raises(ValueError, match="near field"):
        Scene((NodeSpec("a", (40.0, 0.0)), far), SceneSpec(), 1).paths("a", "b", 0)
    with pytest.raises(ValueError, match="must be positive"):
        Scene((NodeSpec("a"), far), SceneSpec(reflectors=(ReflectorSpec((1.0, 2.0), rcs_m2=0.0),)), 1).power("a", "b")
