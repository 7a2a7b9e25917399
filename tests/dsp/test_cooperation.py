"""Cooperation against geometry and the signal model, its bound against numerical derivatives."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.cooperation import cooperation_std_s, predicted_delay_std_s
from dsp.channel import ChannelState
from dsp.localization import Station
from dsp.moment import Moment
from dsp.synchronization.base import Method, MissingInputError, Need, Observation
from dsp.synchronization.cooperation import (
    Cooperation,
    CooperationCorrelation,
    Predictions,
    _pairs,
    _solutions,
    predictions,
)
from dsp.synchronization.cooperation_fit import StaticPaths, static_paths
from dsp.synchronization.cooperation_paths import ActiveEcho, Scatterer, active_echo

METHODS: tuple[Method, ...] = (Cooperation(), CooperationCorrelation())
RATE_HZ = Fraction(30_720_000)
CARRIER_HZ = Fraction(5_800_000_000)
SPACING_HZ, SYMBOL_S, SUBCARRIERS, SYMBOLS, NOISE = 480e3, 1e-4, 96, 8, 0.01
NODES = {
    "n": Station("n", np.array([3.0, -2.0]), 0.7),
    "m": Station("m", np.array([55.0, 8.0]), 2.0),
}
PLACES = np.array([[15.0, 45.0], [61.0, 23.0], [79.0, -22.0], [28.0, 25.0], [76.0, 47.0]])
"""Paths at least 1.6 cells apart in either echo and on the link."""


def legs_m(places: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    return np.linalg.norm(places - NODES[name].position_m, axis=1)


def echo_of(
    name: str, generator: np.random.Generator, *, delay_std_s: float = 2e-11, sine_std: float = 2e-4
) -> ActiveEcho:
    """What the node's echo measures of the places, errors as stated."""
    sines = (PLACES - NODES[name].position_m) @ NODES[name].axis / legs_m(PLACES, name)
    delays = 2.0 * legs_m(PLACES, name) / SPEED_OF_LIGHT_MPS
    errors = generator.normal(size=(2, len(PLACES)))
    return ActiveEcho(
        name,
        tuple(
            Scatterer(float(delay + delay_std_s * late), delay_std_s, (float(sine + sine_std * turned),), sine_std)
            for delay, sine, late, turned in zip(delays, sines, *errors, strict=True)
        ),
    )


def csi_of(
    delays_s: NDArray[np.float64],
    generator: np.random.Generator,
    *,
    to_s: float = 0.0,
    cfo_hz: float = 0.0,
    sines: NDArray[np.float64] | None = None,
) -> ChannelState:
    """Static paths of equal power by the formula of methods section 1, offsets at the slot's reference."""
    f = SPACING_HZ * np.arange(-SUBCARRIERS // 2, SUBCARRIERS // 2)
    t = SYMBOL_S * np.arange(SYMBOLS)
    array = np.ones((1, len(delays_s))) if sines is None else np.exp(1j * np.pi * np.outer(np.arange(4), sines))
    gains = np.exp(2j * np.pi * generator.uniform(size=len(delays_s)))
    values = np.zeros((len(array), SYMBOLS, SUBCARRIERS), complex)
    for steer, delay, gain in zip(array.T, delays_s, gains, strict=True):
        late = delay + to_s - cfo_hz / float(CARRIER_HZ) * t
        path = np.exp(-2j * np.pi * np.outer(late, f) + 2j * np.pi * (cfo_hz * t)[:, None])
        values += gain / np.sqrt(len(delays_s)) * steer[:, None, None] * path
    values += np.sqrt(NOISE / 2) * (generator.normal(size=values.shape) + 1j * generator.normal(size=values.shape))
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=f,
        symbol_s=t,
        reference=Moment("n", 500, 0.0, RATE_HZ),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.full(len(array), NOISE),
        frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
    )


def link(generator: np.random.Generator, echo: ActiveEcho, *, to_s: float, cfo_hz: float = 0.0) -> Observation:
    delays = (legs_m(PLACES, "n") + legs_m(PLACES, "m")) / SPEED_OF_LIGHT_MPS
    sight = np.linalg.norm(NODES["n"].position_m - NODES["m"].position_m) / SPEED_OF_LIGHT_MPS
    csi = csi_of(np.append(delays, sight), generator, to_s=to_s, cfo_hz=cfo_hz)
    extras: dict[str, Any] = {Need.ACTIVE_ECHO: echo, Need.KNOWN_POSITIONS: NODES}
    return Observation(csi, Moment("m", 500, 0.0, RATE_HZ), extras=extras)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("active", ["n", "m"])
def test_offsets_have_the_documented_sign_whichever_node_is_active(method: Method, active: str) -> None:
    generator = np.random.default_rng(1)
    to_s, cfo_hz = 83.21e-9, -217.0
    found = method.estimate(link(generator, echo_of(active, generator), to_s=to_s, cfo_hz=cfo_hz))
    assert found.valid, found.reason
    assert found.to_s is not None
    assert found.to_std_s is not None
    assert found.cfo_hz is not None
    assert found.cfo_std_hz is not None
    middle_s = SYMBOL_S * (SYMBOLS - 1) / 2
    assert abs(found.to_s - (to_s - cfo_hz / float(CARRIER_HZ) * middle_s)) < 4.5 * found.to_std_s
    assert found.to_std_s < 0.1e-9
    assert abs(found.cfo_hz - cfo_hz) < 4.5 * found.cfo_std_hz
    assert found.details["matches"] == len(PLACES)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_errors_follow_the_stated_deviation(method: Method) -> None:
    generator = np.random.default_rng(2)
    normalised = []
    for _ in range(12):
        to_s = float(generator.uniform(-1e-7, 1e-7))
        found = method.estimate(link(generator, echo_of("n", generator), to_s=to_s))
        assert found.valid, found.reason
        assert found.to_s is not None
        assert found.to_std_s is not None
        normalised.append((found.to_s - to_s) / found.to_std_s)
    # chi-square of twelve degrees, one in a thousand on either side
    assert 2.2 < float(np.sum(np.square(normalised))) < 32.9


def test_predictions_carry_the_deviations_that_derivatives_give() -> None:
    generator = np.random.default_rng(3)
    echo = echo_of("n", generator, delay_std_s=1e-10, sine_std=1e-3)
    predicted = predictions(echo, NODES["n"], NODES["m"])
    for index, scatterer in enumerate(echo.scatterers):
        places = np.flatnonzero(predicted.scatterer == index)
        truth_s = (legs_m(PLACES, "n") + legs_m(PLACES, "m"))[index] / SPEED_OF_LIGHT_MPS
        nearest = int(places[np.argmin(np.abs(predicted.delay_s[places] - truth_s))])
        assert abs(predicted.delay_s[nearest] - truth_s) < 5.0 * predicted.std_s[nearest]
        side = list(places).index(nearest)
        moved = []
        for late, turned in ((1e-12, 0.0), (0.0, 1e-6)):
            shifted = replace(scatterer, delay_s=scatterer.delay_s + late, sines=(scatterer.sines[0] + turned,))
            again = predictions(ActiveEcho("n", (shifted,)), NODES["n"], NODES["m"])
            moved.append((again.delay_s[side] - predicted.delay_s[nearest]) / (late or turned))
        expected = np.hypot(moved[0] * 1e-10, moved[1] * 1e-3)
        assert predicted.std_s[nearest] == pytest.approx(expected, rel=1e-3)
        # and the formula of methods section 3.5, by the bistatic angle
        sine = scatterer.sines[0]
        to_nodes = [NODES[name].position_m - PLACES[index] for name in "nm"]
        cosine = to_nodes[0] @ to_nodes[1] / np.prod([np.linalg.norm(leg) for leg in to_nodes])
        bound = predicted_delay_std_s(
            np.array([np.arccos(cosine)]), legs_m(PLACES, "n")[[index]], 1e-10, np.array([1e-3 / np.sqrt(1 - sine**2)])
        )
        assert predicted.std_s[nearest] == pytest.approx(bound[0], rel=0.05)


def test_an_angle_error_of_a_tenth_of_a_degree_costs_a_quarter_of_a_nanosecond() -> None:
    std_s = predicted_delay_std_s(np.array([np.pi / 3]), np.array([50.0]), np.zeros(1), np.array([np.deg2rad(0.1)]))
    assert std_s[0] == pytest.approx(0.25e-9, rel=0.02)
    assert cooperation_std_s(np.zeros(4), np.full(4, 2e-9)) == pytest.approx(1e-9)


def test_the_echo_puts_scatterers_where_they_are() -> None:
    generator = np.random.default_rng(4)
    distance_m = legs_m(PLACES, "n")
    sines = (PLACES - NODES["n"].position_m) @ NODES["n"].axis / distance_m
    csi = csi_of(2.0 * distance_m / SPEED_OF_LIGHT_MPS, generator, sines=sines)
    spacing_m = 0.5 * SPEED_OF_LIGHT_MPS / float(CARRIER_HZ)
    echo = active_echo(csi, Moment("n", 500, 0.0, RATE_HZ), spacing_m=spacing_m, least_delay_s=20e-9)
    assert len(echo.scatterers) == len(PLACES)
    for found, index in zip(echo.scatterers, np.argsort(distance_m), strict=True):
        assert abs(found.delay_s - 2.0 * distance_m[index] / SPEED_OF_LIGHT_MPS) < 4.5 * found.delay_std_s
        assert abs(found.sines[0] - sines[index]) < 4.5 * found.sine_std
    with pytest.raises(ValueError, match="two antennas"):
        active_echo(csi.antenna(0), Moment("n", 500, 0.0, RATE_HZ), spacing_m=spacing_m, least_delay_s=0.0)


def test_paths_two_cells_apart_are_found_without_bias() -> None:
    generator = np.random.default_rng(5)
    f = 1e6 * np.arange(-50, 50)
    delays = np.array([31.4e-9, 51.7e-9, 200.2e-9])
    channel = np.exp(-2j * np.pi * np.outer(f, delays)) @ np.array([1.0, 0.7j, -0.2])
    variance = np.full((1, f.size), 1e-3)
    normalised = []
    for _ in range(40):
        noise = generator.normal(size=(2, f.size)) * np.sqrt(0.5e-3)
        found = static_paths((channel + noise[0] + 1j * noise[1])[None], variance, f, carrier_hz=float(CARRIER_HZ))
        assert len(found.delay_s) == 3
        normalised.append((found.delay_s - delays) / found.delay_std_s)
    # chi-square of 120 degrees, one in a thousand on either side
    assert 76.0 < float(np.sum(np.square(normalised))) < 174.0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_too_few_scatterers_are_recognised(method: Method) -> None:
    generator = np.random.default_rng(6)
    echo = echo_of("n", generator)
    found = method.estimate(link(generator, ActiveEcho("n", echo.scatterers[:2]), to_s=0.0))
    assert not found.valid
    assert "too few scatterers" in found.reason


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_scatterers_that_are_not_on_the_link_give_no_offset(method: Method) -> None:
    generator = np.random.default_rng(7)
    echo = echo_of("n", generator)
    strange = tuple(
        replace(
            scatterer, delay_s=float(generator.uniform(60e-9, 400e-9)), sines=(float(generator.uniform(-0.9, 0.9)),)
        )
        for scatterer in echo.scatterers
    )
    found = method.estimate(link(generator, ActiveEcho("n", strange), to_s=0.0))
    assert not found.valid
    assert found.to_s is None


def test_strangers_seldom_pass_for_scatterers() -> None:
    """Far below threshold: paths and places drawn apart from one another may line up, and did in 3 of 160 links."""
    generator = np.random.default_rng(9)
    chances = []
    for common in [False] * 25 + [True] * 5:
        places_s = generator.uniform(200e-9, 600e-9, 12)
        heard_s = generator.uniform(0.0, 400e-9, 5)
        if common:
            heard_s = places_s[::2] - 250e-9 + 4e-9 * generator.normal(size=6)
        predicted = Predictions(places_s, generator.uniform(2e-9, 6e-9, 12), np.repeat(np.arange(6), 2))
        spread_s, none = np.full(heard_s.size, 2e-9), np.zeros((1, heard_s.size))
        pairs = _pairs(predicted, StaticPaths(heard_s, spread_s, none, none[0], none[0], 0.0), 0.0)
        chances.append(pairs.chance(_solutions(pairs, associated=True)[0].offset_s))
    assert np.mean(np.array(chances[:25]) < 0.1) <= 0.2  # 0.1 is a bound of the probability
    assert np.median(chances[25:]) < 0.05


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_missing_inputs_are_named(method: Method) -> None:
    generator = np.random.default_rng(8)
    seen = link(generator, echo_of("n", generator), to_s=0.0)
    for need in (Need.ACTIVE_ECHO, Need.KNOWN_POSITIONS):
        less = replace(seen, extras={key: value for key, value in seen.extras.items() if key != need})
        with pytest.raises(MissingInputError, match=need.value):
            method.estimate(less)
    third = replace(seen, extras=seen.extras | {Need.ACTIVE_ECHO: ActiveEcho("x", ())})
    with pytest.raises(ValueError, match="active echo is of x"):
        method.estimate(third)


@pytest.mark.parametrize("active", ["n", "m"])
def test_predictions_know_that_a_node_sends_beside_its_arrays_centre(active: str) -> None:
    """Exact echoes of an array whose transmitting antenna is 0.4 m from its centre give the link's exact delays."""
    apart = {"n": np.array([0.3, -0.25]), "m": np.array([-0.1, 0.38])}
    nodes = {name: replace(node, transmit_m=node.position_m + apart[name]) for name, node in NODES.items()}
    node = nodes[active]
    legs = [np.linalg.norm(PLACES - end, axis=1) for end in (node.source_m, node.position_m)]
    sines = (PLACES - node.position_m) @ node.axis / legs[1]
    delays = sum(legs) / SPEED_OF_LIGHT_MPS
    echo = ActiveEcho(
        active, tuple(Scatterer(float(d), 1e-11, (float(s),), 1e-4) for d, s in zip(delays, sines, strict=True))
    )
    predicted = predictions(echo, nodes["n"], nodes["m"])
    truth_s = (
        np.linalg.norm(PLACES - nodes["m"].source_m, axis=1) + np.linalg.norm(PLACES - nodes["n"].position_m, axis=1)
    ) / SPEED_OF_LIGHT_MPS
    for index, scatterer in enumerate(echo.scatterers):
        places = np.flatnonzero(predicted.scatterer == index)
        nearest = int(places[np.argmin(np.abs(predicted.delay_s[places] - truth_s[index]))])
        assert abs(predicted.delay_s[nearest] - truth_s[index]) < 1e-15
        shifted = [
            replace(scatterer, delay_s=scatterer.delay_s + late, sines=(scatterer.sines[0] + turned,))
            for late, turned in ((1e-13, 0.0), (0.0, 1e-7))
        ]
        slopes = [
            predictions(ActiveEcho(active, (one,)), nodes["n"], nodes["m"]).delay_s[list(places).index(nearest)]
            - predicted.delay_s[nearest]
            for one in shifted
        ]
        expected = np.hypot(slopes[0] / 1e-13 * 1e-11, slopes[1] / 1e-7 * 1e-4)
        assert predicted.std_s[nearest] == pytest.approx(expected, rel=1e-2)


def test_echoes_are_found_under_leakage_that_reaches_each_antenna_at_another_time() -> None:
    """Leakage 35 dB above all echoes, its response three samples long, and phase noise of it alike on all antennas."""
    generator = np.random.default_rng(9)
    f = SPACING_HZ * np.arange(-SUBCARRIERS // 2, SUBCARRIERS // 2)
    spacing_m = 0.5 * SPEED_OF_LIGHT_MPS / float(CARRIER_HZ)
    distance_m = legs_m(PLACES, "n")
    sines = (PLACES - NODES["n"].position_m) @ NODES["n"].axis / distance_m
    cell_s = 1.0 / float(np.ptp(f))
    squares = []
    for _ in range(8):
        csi = csi_of(np.zeros(0), generator, sines=np.zeros(0))
        gains = np.exp(2j * np.pi * generator.uniform(size=len(PLACES))) / np.sqrt(len(PLACES))
        leakage = np.zeros((4, SUBCARRIERS), complex)
        echoes = np.zeros((4, SUBCARRIERS), complex)
        for antenna in range(4):
            # envelope and carrier of a wave arrive early at the antennas that lean towards it
            early_s = (antenna - 1.5) * spacing_m * sines / SPEED_OF_LIGHT_MPS
            delays_s = 2.0 * distance_m / SPEED_OF_LIGHT_MPS - early_s
            steering = gains * np.exp(1j * np.pi * antenna * sines)
            echoes[antenna] = np.exp(-2j * np.pi * np.outer(f, delays_s)) @ steering
            turn = np.exp(2j * np.pi * generator.uniform())
            for tap, level in ((-0.6, 0.05), (0.0, 1.0), (0.8, 0.1j)):
                late_s = 1e-10 * (1 + 2 * antenna) + tap * cell_s
                leakage[antenna] += turn * level * np.exp(-2j * np.pi * f * late_s)
        common = 1.0 + 2e-3 * (generator.normal(size=(2, SYMBOLS, SUBCARRIERS)) * np.array([[[1]], [[1j]]])).sum(0)
        heard = csi.values + echoes[:, None] + 10.0 ** (35.0 / 20.0) * leakage[:, None] * common
        echo = active_echo(
            replace(csi, values=heard, noise=np.full(4, 4 * 10**3.5 * 2e-6 + NOISE)),
            Moment("n", 500, 0.0, RATE_HZ),
            spacing_m=spacing_m,
            least_delay_s=2.0 * cell_s,
        )
        assert len(echo.scatterers) == len(PLACES), echo.remark
        for found, index in zip(echo.scatterers, np.argsort(distance_m), strict=True):
            late = (found.delay_s - 2.0 * distance_m[index] / SPEED_OF_LIGHT_MPS) / found.delay_std_s
            turned = (found.sines[0] - sines[index]) / found.sine_std
            assert max(abs(late), abs(turned)) < 5.0
            squares += [late**2, turned**2]
    # chi-square of eighty degrees, one in a thousand on either side
    assert 46.0 < float(np.sum(squares)) < 125.0


def test_waves_that_cross_the_array_do_not_pull_their_neighbours() -> None:
    """Paths 1.2 cells apart from both ends of the array: one delay for all antennas is off by tens of deviations."""
    generator = np.random.default_rng(10)
    f = 120e3 * np.arange(-200, 200)
    delays, sines = np.array([100.3e-9, 125.3e-9, 190.0e-9]), np.array([-0.95, 0.9, 0.3])
    squares = []
    for _ in range(20):
        gains = np.exp(2j * np.pi * generator.uniform(size=3)) * np.array([1.0, 0.6, 0.4])
        values = np.zeros((4, f.size), complex)
        for antenna in range(4):
            late_s = delays - (antenna - 1.5) * 0.5 / 2.4e9 * sines
            values[antenna] = np.exp(-2j * np.pi * np.outer(f, late_s)) @ (gains * np.exp(1j * np.pi * antenna * sines))
        noise = generator.normal(size=(2, *values.shape)) * np.sqrt(0.5e-5)
        found = static_paths(values + noise[0] + 1j * noise[1], np.full(values.shape, 1e-5), f, carrier_hz=2.4e9)
        assert len(found.delay_s) == 3
        squares += list(((found.delay_s - delays) / found.delay_std_s) ** 2)
    # chi-square of sixty degrees, one in a thousand on either side
    assert 31.0 < float(np.sum(squares)) < 100.0
