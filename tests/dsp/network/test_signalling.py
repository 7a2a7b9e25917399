"""Cooperation, sensing information and design: received samples, numerical Fisher information, certificates."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.network.cooperation import Cooperation, sinr
from dsp.network.design import Demand, InfeasibleError, design_precoders
from dsp.network.sensing_information import Geometry, illumination, information_terms, position_crlb, steering

C_MPS = 299_792_458.0


def _geometry(seed: int, antennas: int = 4, stations: int = 3) -> Geometry:
    rng = np.random.default_rng(seed)
    turn = 2 * np.pi * (np.arange(stations) + rng.uniform(0.2, 0.8, stations)) / stations
    places = 100 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return Geometry(places, turn + np.pi, antennas, rng.uniform(-30, 30, 2), 3.5e9, 20e6)


def _channels(seed: int, geometry: Geometry, users: int = 2) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    shape = (users, len(geometry.stations_m), geometry.antennas)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * 1e-3


@pytest.mark.parametrize("mode", [Cooperation.NON_COHERENT, Cooperation.COHERENT])
def test_sinr_is_that_of_received_samples(mode: Cooperation) -> None:
    geometry = _geometry(1)
    channels, rng = _channels(1, geometry), np.random.default_rng(2)
    precoders = rng.standard_normal((3, 3, 4)) + 1j * rng.standard_normal((3, 3, 4))
    samples, noise = 400_000, 1e-6

    def symbols(*shape: int) -> np.ndarray:
        return np.exp(2j * np.pi * rng.random(shape))

    sent = symbols(3, 1, samples) if mode is Cooperation.COHERENT else symbols(3, 3, samples)
    for user in range(2):
        gains = np.einsum("na,sna->sn", channels[user].conj(), precoders)
        fields = (gains[:, :, None] * sent).sum(axis=1)
        noisy = fields[[s for s in range(3) if s != user]].sum(axis=0) + np.sqrt(noise / 2) * (
            rng.standard_normal(samples) + 1j * rng.standard_normal(samples)
        )
        measured = np.mean(np.abs(fields[user]) ** 2) / np.mean(np.abs(noisy) ** 2)
        assert sinr(channels, precoders, noise, mode)[user] == pytest.approx(measured, rel=0.02)


def _numerical(
    geometry: Geometry, echo_snr: np.ndarray, lit: np.ndarray, *, coherent: bool, timing: bool
) -> np.ndarray:
    """Fisher information of all echoes as sampled: subcarriers by antennas, amplitudes unknown, by differences."""
    stations, m = len(geometry.stations_m), geometry.antennas
    frequency = geometry.bandwidth_hz * ((np.arange(101) - 50) / 101)
    # A flat spectrum's b² is B²/12; these lines have this much less.
    frequency = frequency * np.sqrt(geometry.bandwidth_hz**2 / 12 / np.mean(frequency**2))
    antenna = np.arange(m) - (m - 1) / 2

    def echoes(parameters: np.ndarray) -> np.ndarray:
        place, phase, clocks = parameters[:2], parameters[2], parameters[3:]
        away = place - geometry.stations_m
        distance = np.linalg.norm(away, axis=1)
        bearing = np.arctan2(away[:, 1], away[:, 0]) - geometry.headings_rad
        signal = []
        for receiver in range(stations):
            for transmitter in range(stations):
                tau = (distance[receiver] + distance[transmitter]) / C_MPS
                delay = tau + clocks[receiver] - clocks[transmitter]
                level = np.sqrt(echo_snr[receiver, transmitter] * lit[transmitter] / frequency.size)
                wave = np.exp(
                    -2j * np.pi * frequency[:, None] * delay + 1j * np.pi * antenna * np.sin(bearing[receiver])
                )
                signal.append(level * wave * np.exp(1j * (phase - 2 * np.pi * geometry.carrier_hz * tau)))
        return np.array(signal)

    start = np.concatenate([geometry.target_m, [0.3], np.zeros(stations)])
    steps = np.concatenate([[2e-4] * 2, [1e-4], [1e-11] * stations])
    slopes = []
    for axis, step in zip(np.eye(len(start)), steps, strict=True):
        a, b, c, d = (echoes(start + k * step * axis) for k in (-2, -1, 1, 2))
        slopes.append((a - 8 * b + 8 * c - d) / (12 * step))
    base = echoes(start)
    count = stations**2
    # Each echo's own magnitude is unknown; without coherence its phase too.
    for link in range(count):
        for turn in (1.0,) if coherent else (1.0, 1j):
            own = np.zeros_like(base)
            own[link] = turn * base[link]
            slopes.append(own)
    keep = [
        0,
        1,
        *([2] if coherent else []),
        *(range(3, 3 + stations) if timing else []),
        *range(len(start), len(slopes)),
    ]
    flat = np.array([slopes[i].ravel() for i in keep])
    return 2 * (flat.conj() @ flat.T).real


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("coherent", "timing_std_s"), [(False, 0.0), (True, 0.0), (False, 1e-9), (True, 0.5e-9)])
def test_bound_is_that_of_a_numerical_fisher_matrix(seed: int, coherent: bool, timing_std_s: float) -> None:
    geometry, rng = _geometry(seed), np.random.default_rng([seed, 7])
    echo_snr, lit = rng.uniform(0.5, 2.0, (3, 3)) * 30, rng.uniform(0.1, 1.0, 3)
    information = _numerical(geometry, echo_snr, lit, coherent=coherent, timing=timing_std_s > 0)
    if timing_std_s > 0:
        first = 3 if coherent else 2
        information[range(first, first + 3), range(first, first + 3)] += 1 / timing_std_s**2
    scale = 1 / np.sqrt(np.diag(information))
    expected = (np.linalg.inv(information * np.outer(scale, scale)) * np.outer(scale, scale))[:2, :2]
    terms = information_terms(geometry, echo_snr, coherent=coherent, timing_std_s=timing_std_s)
    assert position_crlb(terms.at(lit)) == pytest.approx(float(np.trace(expected)), rel=1e-5)


@pytest.mark.parametrize("mode", list(Cooperation))
@pytest.mark.parametrize("seed", range(3))
def test_designs_keep_every_demand_and_reach_the_relaxation(mode: Cooperation, seed: int) -> None:
    pytest.importorskip("cvxpy")
    geometry = _geometry(seed)
    terms = information_terms(geometry, np.full((3, 3), 1e3), timing_std_s=0.5e-9 * (seed % 2))
    demand = Demand(_channels(seed, geometry), 1e-7, np.array([10.0, 25.0]), 0.25, mode)
    design = design_precoders(geometry, terms, demand)
    assert np.all(design.sinr >= demand.sinr * (1 - 1e-5))
    assert np.all(design.antenna_power <= 0.25 * (1 + 1e-5))
    assert -1e-5 < design.gap < 0.01
    # Said again from the precoders alone.
    covariances = np.einsum("sna,snb->nab", design.precoders, design.precoders.conj())
    assert position_crlb(terms.at(illumination(geometry, covariances))) == pytest.approx(design.crlb_m2, rel=1e-9)
    if mode is Cooperation.COORDINATED:
        for user in range(2):
            assert np.count_nonzero(np.abs(design.precoders[user]).max(axis=1) > 1e-9) == 1


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_users_directions_say_all_of_what_they_may_have_of_a_covariance() -> None:
    # The programme as the survey states it, with a covariance of every user and station.
    cp = pytest.importorskip("cvxpy")
    geometry = _geometry(7, antennas=3)
    terms = information_terms(geometry, np.full((3, 3), 1e3))
    demand = Demand(_channels(7, geometry), 1e-7, np.array([20.0, 12.0]), 0.25, Cooperation.NON_COHERENT)
    streams = [[cp.Variable((3, 3), hermitian=True) for _ in range(3)] for _ in range(3)]
    constraints = [one >> 0 for stream in streams for one in stream]
    outer = [[np.outer(h, h.conj()) / 4e-7 for h in user] for user in demand.channels]
    for user in range(2):
        heard = [sum(cp.real(cp.trace(outer[user][n] @ one)) for n, one in enumerate(stream)) for stream in streams]
        constraints.append(heard[user] >= demand.sinr[user] * (heard[1 - user] + heard[2] + 1.0))
    totals = [sum(stream[n] for stream in streams) for n in range(3)]
    constraints += [cp.real(cp.diag(total)) <= 1.0 for total in totals]
    away = geometry.target_m - geometry.stations_m
    bearings = np.arctan2(away[:, 1], away[:, 0]) - geometry.headings_rad
    vectors = [steering(float(bearing), 3) for bearing in bearings]
    lit = [cp.real(cp.trace(np.outer(v, v.conj()) @ total)) for v, total in zip(vectors, totals, strict=True)]
    unit = np.trace(terms.at(np.full(3, 0.25)))
    information = sum(power * (term * 0.25 / unit) for power, term in zip(lit, terms.station, strict=True))
    bound = cp.Variable((2, 2), symmetric=True)
    constraints.append(cp.bmat([[bound, np.eye(2)], [np.eye(2), information]]) >> 0)
    problem = cp.Problem(cp.Minimize(cp.trace(bound)), constraints)
    problem.solve(solver=cp.CLARABEL, chordal_decomposition_enable=False)
    assert design_precoders(geometry, terms, demand).crlb_m2 == pytest.approx(problem.value / unit, rel=1e-4)


def test_without_users_every_antenna_aims_at_the_target() -> None:
    pytest.importorskip("cvxpy")
    geometry = _geometry(5)
    terms = information_terms(geometry, np.full((3, 3), 1e3))
    demand = Demand(np.zeros((0, 3, 4), dtype=complex), 1e-7, np.zeros(0), 0.25)
    design = design_precoders(geometry, terms, demand)
    aimed = position_crlb(terms.at(np.full(3, 0.25 * 4**2)))
    assert design.crlb_m2 == pytest.approx(aimed, rel=1e-4)
    away = geometry.target_m - geometry.stations_m
    for station in range(3):
        vector = steering(float(np.arctan2(away[station, 1], away[station, 0]) - geometry.headings_rad[station]), 4)
        lit = (np.abs(design.precoders[:, station] @ vector.conj()) ** 2).sum()
        assert lit == pytest.approx(0.25 * 16, rel=1e-3)


def test_what_cannot_be_met_is_said() -> None:
    pytest.importorskip("cvxpy")
    geometry = _geometry(6)
    terms = information_terms(geometry, np.full((3, 3), 1e3))
    with pytest.raises(InfeasibleError, match=r"60\.0 dB, 60\.0 dB with 0\.25 W an antenna"):
        design_precoders(geometry, terms, Demand(_channels(6, geometry), 1e-2, np.full(2, 1e6), 0.25))
