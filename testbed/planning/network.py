"""A network described by a file, and every metric of the survey's Table II at a random place in it."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from dsp import SPEED_OF_LIGHT_MPS
from dsp.network import metrics
from dsp.network.localization import angle_gain, delay_gain
from dsp.network.metrics import Mean
from dsp.network.nulling import Load, communication_rate, echo_ratio, sensing_rate
from dsp.network.poisson import nearest_stations
from testbed.errors import UserError
from testbed.toml_file import read_toml

__all__ = ["Metric", "NetworkFile", "load_network", "network_metrics"]

_BOLTZMANN_290K = 1.380649e-23 * 290.0
Positive = Annotated[float, Meta(gt=0)]
WholePositive = Annotated[int, Meta(ge=1, le=1000)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown keys are errors."""


class _Network(_Table, frozen=True, kw_only=True):
    """Stations, and what each takes on."""

    name: str
    stations_per_km2: Positive
    antennas: WholePositive
    path_loss_exponent: Annotated[float, Meta(gt=2, le=10)] = 4.0
    users: WholePositive = 1
    user_cluster: WholePositive = 1
    """Stations nearest to a user that spare it, its own among them."""
    targets: WholePositive = 1
    sensing_cluster: WholePositive = 1
    """Stations that spare the receiver of the one that watches a target, itself among them."""
    locating_stations: Annotated[int, Meta(ge=1, le=100)] = 3
    """Nearest to a target, whose echoes locate it."""


class _Radio(_Table, frozen=True, kw_only=True):
    """What all stations have in common."""

    carrier_hz: Positive
    bandwidth_hz: Positive
    transmit_w: Positive = 1.0
    noise_figure_db: Annotated[float, Meta(ge=0, le=60)] = 7.0
    interval_s: Positive = 1e-3
    """Over which an echo is integrated."""
    rcs_m2: Positive = 1.0
    amplifier_efficiency: Annotated[float, Meta(gt=0, le=1)] = 0.3
    chain_w: Annotated[float, Meta(ge=0)] = 0.5
    station_w: Annotated[float, Meta(ge=0)] = 10.0


class _Demand(_Table, frozen=True, kw_only=True):
    """Above what a service counts as given."""

    user_sir_db: float = 3.0
    echo_sir_db: float = -60.0
    position_error_m: Positive = 1.0
    heard_stations: WholePositive = 3
    heard_within_m: Positive = 300.0
    communication_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5


class NetworkFile(_Table, frozen=True, kw_only=True):
    """A network as its file states it."""

    network: _Network
    radio: _Radio
    demand: _Demand = _Demand()


@dataclass(frozen=True)
class Metric:
    """One metric: by draws, in closed form, or both."""

    name: str
    label: str
    unit: str
    drawn: Mean | None
    closed: float | None = None


def load_network(path: Path) -> NetworkFile:
    """Network in the file ``path``.

    Raises
    ------
    UserError
        One line: the file, the key, what is wrong.
    """
    said = read_toml(path, NetworkFile)
    load = _load(said)
    if load.spent() > said.network.antennas:
        raise UserError(
            f"{path}: network.antennas is {said.network.antennas}, but {load.users} users spared by "
            f"{load.user_cluster} stations and {load.targets} targets by {load.sensing_cluster} take {load.spent()}: "
            "use more antennas, or smaller clusters"
        )
    return said


def network_metrics(said: NetworkFile, *, draws: int, seed: int) -> list[Metric]:
    """Every metric of Table II at a random place, in its order; closed forms where there are some.

    The closed form of the sensing rate takes other stations as scattered anywhere about the watching one
    (`dsp.network.nulling.sensing_rate`). The position bound is infinite at places whose stations leave a direction
    open, so that its median is given.

    Source: survey, Table II; docs/methods/network.md.
    """
    net, demand, load = said.network, said.demand, _load(said)
    density, alpha, echo = net.stations_per_km2 * 1e-6, net.path_loss_exponent, said.radio.rcs_m2 / (4 * pi)
    rng = np.random.default_rng([seed, 0x7AB2])
    stations = max(128, 4 * load.user_cluster, 4 * load.sensing_cluster, net.locating_stations + 1)
    snr = _echo_snr_at_1m(said)
    places = metrics.place_draws(
        rng, draws, load, net.antennas, exponent=alpha, echo=echo, density=density,
        cooperating=net.locating_stations, angle=float(angle_gain(net.antennas, snr)),
        delay=float(delay_gain(net.antennas, said.radio.bandwidth_hz, snr)), stations=stations,
    )  # fmt: skip
    _, distance = nearest_stations(rng, draws, demand.heard_stations, density)
    user, target = 10 ** (demand.user_sir_db / 10), 10 ** (demand.echo_sir_db / 10)
    covered, rate = metrics.coverage(places.user_sir, user), metrics.ergodic_rate_of(places.user_sir)
    seen = metrics.ergodic_rate_of(places.target_sir)
    closed_rate = communication_rate(load, net.antennas, alpha)
    closed_seen = sensing_rate(load, net.antennas, alpha, echo_ratio(echo, density, alpha))
    weight, per_km2 = demand.communication_weight, net.stations_per_km2
    area = metrics.area_spectral_efficiency(rate, load.users, density=per_km2)
    found = np.isfinite(places.crlb)
    return [
        Metric("user_coverage", "coverage of a user", "1", covered),
        Metric("target_coverage", "coverage of a target", "1", metrics.coverage(places.target_sir, target)),
        Metric("isac_coverage", "ISAC coverage", "1", metrics.isac_coverage(places, user, target)),
        Metric("localization_coverage", "localization and user coverage", "1",
               metrics.localization_coverage(places, user, demand.position_error_m)),
        Metric("localizability", f"{demand.heard_stations}-localizability", "1",
               metrics.localizability(distance, demand.heard_stations, demand.heard_within_m),
               metrics.localizability_probability(demand.heard_stations, demand.heard_within_m, density)),
        Metric("user_rate", "ergodic rate of a user", "bit/s/Hz", rate, closed_rate),
        Metric("target_rate", "ergodic rate of a target's echo", "bit/s/Hz", seen, closed_seen),
        Metric("potential_spectral_efficiency", "potential efficiency", "bit/s/Hz/km²",
               metrics.potential_spectral_efficiency(covered, user, users=load.users, density=per_km2)),
        Metric("isac_rate", "ISAC ergodic rate", "bit/s/Hz", metrics.isac_rate(places, weight),
               weight * closed_rate + (1 - weight) * closed_seen),
        Metric("user_area_spectral_efficiency", "area efficiency, users", "bit/s/Hz/km²", area,
               per_km2 * load.users * closed_rate),
        Metric("target_area_spectral_efficiency", "area efficiency, targets", "bit/s/Hz/km²",
               metrics.area_spectral_efficiency(seen, load.targets, density=per_km2),
               per_km2 * load.targets * closed_seen),
        Metric("position_rmse_bound_median", "position error √CRLB, median", "m", _median(np.sqrt(places.crlb[found]))
               if found.mean() > 0.5 else None),
        Metric("energy_efficiency", "energy efficiency, users", "bit/J", _efficiency(said, area),
               float(_per_joule(said) * per_km2 * load.users * closed_rate)),
    ]  # fmt: skip


def _load(said: NetworkFile) -> Load:
    net = said.network
    return Load(net.users, net.user_cluster, net.targets, net.sensing_cluster)


def _echo_snr_at_1m(said: NetworkFile) -> float:
    """Integrated SNR of an echo at one antenna with all legs of a metre: power shared by all streams, gain M."""
    radio, net = said.radio, said.network
    wavelength = SPEED_OF_LIGHT_MPS / radio.carrier_hz
    gain = wavelength**2 * radio.rcs_m2 / (4 * pi) ** 3
    power = radio.transmit_w / (net.users + net.targets) * net.antennas
    noise = _BOLTZMANN_290K * 10 ** (radio.noise_figure_db / 10)
    return power * gain * radio.interval_s / noise


def _per_joule(said: NetworkFile) -> float:
    """Bits per joule for a unit of area spectral efficiency."""
    radio = said.radio
    return float(
        metrics.energy_efficiency(
            1.0, bandwidth_hz=radio.bandwidth_hz, density=said.network.stations_per_km2,
            antennas=said.network.antennas, transmit_w=radio.transmit_w, amplifier=radio.amplifier_efficiency,
            chain_w=radio.chain_w, station_w=radio.station_w,
        )
    )  # fmt: skip


def _efficiency(said: NetworkFile, area: Mean) -> Mean:
    scale = _per_joule(said)
    return Mean(scale * area.value, scale * area.standard_error, area.trials)


def _median(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> Mean:
    """Median with its standard error, from the order statistics a deviation of their rank away."""
    ordered = np.sort(values)
    middle, reach = 0.5 * (ordered.size - 1), 0.5 * np.sqrt(ordered.size)
    low, high = ordered[max(int(middle - reach), 0)], ordered[min(int(np.ceil(middle + reach)), ordered.size - 1)]
    return Mean(float(np.median(ordered)), float(high - low) / 2, ordered.size)
