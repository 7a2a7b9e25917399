"""One maker of links for each input that a synchronization method needs, assumptions intact unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import hypot, pi, sqrt
from typing import Any

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.cooperation import cooperation_std_s, predicted_delay_std_s
from dsp.bounds.csi_ratio import moebius_doppler_std_hz
from dsp.bounds.fingerprint import fingerprint_scene_std_s
from dsp.bounds.link import delay_std_s, doppler_std_hz
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.localization import Station
from dsp.synchronization.base import Need, Observation
from dsp.synchronization.cooperation_paths import active_echo
from dsp.synchronization.fingerprint import take_fingerprint
from dsp.synchronization.path_resolved import STATIC_PATH_DELAY
from testbed.bench.contract_scenes import (
    ANTENNAS,
    CARRIER_HZ,
    FORWARD_S,
    REVERSE_S,
    Clock,
    Grid,
    Link,
    Path,
    heard,
    turned,
    two_clocks,
)

__all__ = [
    "FREE_BOUND",
    "PATHS_BOUND",
    "Change",
    "cooperating",
    "direct_and_echoes",
    "fingerprinted",
    "moving_beside_direct",
    "quotient",
    "static_reference",
    "two_way",
]

FREE_BOUND, PATHS_BOUND = "free channel", "paths"
"""Whether the bound of a two-way offset is that of an unknown channel, or of resolved paths."""
SLOW_HZ, FAST_HZ = 250.0, 1500.0
"""Magnitudes of a mover's Doppler: two cells of the slot, and three quarters of what its symbols tell apart."""

GRID, NARROW = Grid(), Grid(subcarriers=16)

Change = Callable[[np.random.Generator, list[Path]], list[Path]]
"""What the second of two slots sees in place of the paths of the first."""
Chains = Callable[[np.random.Generator, FloatArray], ComplexArray]
"""Ratio of the forward direction's chains to the reverse one's at each subcarrier's frequency, without a delay."""


def direct_and_echoes(
    generator: np.random.Generator, grid: Grid, echoes: int, *, cells: tuple[float, float] = (1.6, 4.0)
) -> list[Path]:
    """Line of sight of unit power, and static echoes of -4 to -10 dB, ``cells`` of the bandwidth apart."""
    delay_s = generator.uniform(30e-9, 120e-9)
    paths = [Path(turned(generator), delay_s, 0.0, generator.uniform(-0.9, -0.3))]
    for _ in range(echoes):
        delay_s += generator.uniform(*cells) / grid.band_hz
        paths.append(Path(turned(generator, generator.uniform(-10.0, -4.0)), delay_s, 0.0, generator.uniform(0.1, 0.9)))
    return paths


def mover_of(
    generator: np.random.Generator, line: Path, level_db: float, *, doppler_hz: tuple[float, float] = (SLOW_HZ, FAST_HZ)
) -> Path:
    """Path 60 to 400 ns behind the line of sight, of either sign of Doppler."""
    sign = float(generator.choice([-1.0, 1.0]))
    delay_s = line.delay_s + generator.uniform(60e-9, 400e-9)
    return Path(
        turned(generator, level_db), delay_s, sign * generator.uniform(*doppler_hz), generator.uniform(-0.9, 0.9)
    )


def two_way(
    generator: np.random.Generator,
    snr_db: float,
    *,
    clocks: tuple[Clock, Clock] | None = None,
    grid: Grid = GRID,
    bound: str = FREE_BOUND,
    change: Change | None = None,
    mover: Callable[[np.random.Generator, Path], Path] | None = None,
    paths: list[Path] | None = None,
    cfo_missed_hz: float | None = None,
    chains: Chains | None = None,
    **observed: Any,
) -> Link:
    """Both directions of a link of resolved static paths, 12 ms apart; ``change`` makes what the reverse one sees."""
    clocks = two_clocks(generator) if clocks is None else clocks
    paths = direct_and_echoes(generator, grid, 3) if paths is None else paths
    paths = paths + ([mover(generator, paths[0])] if mover is not None else [])
    back = paths if change is None else change(generator, paths)
    common: dict[str, Any] = {"grid": grid, "snr_db": snr_db}
    missed = (None, None) if cfo_missed_hz is None else (cfo_missed_hz, -cfo_missed_hz)
    forward, departure, ahead = heard(generator, clocks, paths, cfo_missed_hz=missed[0], **common)
    reverse, reverse_departure, behind = heard(
        generator, clocks[::-1], back, departure_true_s=REVERSE_S, cfo_missed_hz=missed[1], **common
    )
    if chains is not None:
        forward = replace(forward, values=forward.values * chains(generator, grid.subcarrier_hz))
    observation = Observation(forward, departure, reverse, reverse_departure, **observed)
    to_s, cfo_hz = (
        _product_bound(grid, (ahead[0], behind[0]), (forward.noise[0], reverse.noise[0]))
        if bound == FREE_BOUND
        else _paths_bound(grid, paths, forward.noise[0])
    )
    return Link(
        observation, *clocks, grid,
        bounds={"to_s": to_s, "cfo_hz": cfo_hz}, fraction=_fraction(forward, clocks, paths[0]), two_way=True,
    )  # fmt: skip


def fingerprinted(
    generator: np.random.Generator,
    snr_db: float,
    *,
    clocks: tuple[Clock, Clock] | None = None,
    grid: Grid = GRID,
    change: Change | None = None,
    line_of_sight: bool = True,
    mover_db: float = -10.0,
    mover_hz: tuple[float, float] = (SLOW_HZ, FAST_HZ),
    cfo_missed_hz: float | None = None,
) -> Link:
    """A link whose receiver holds a fingerprint taken before, when the clocks stood otherwise.

    Five echoes; without ``line_of_sight`` nothing but them. ``change`` makes the later slot's static paths of the
    earlier one's.
    """
    after = two_clocks(generator) if clocks is None else clocks
    before = _otherwise(generator, after[0]), _otherwise(generator, after[1])
    paths = direct_and_echoes(generator, grid, 5)
    paths = paths if line_of_sight else paths[1:]
    earlier, left, _ = heard(
        generator, before, [*paths, mover_of(generator, paths[0], mover_db)], grid=grid, snr_db=snr_db
    )
    first = Link(Observation(earlier, left), *before, grid)
    fingerprint = take_fingerprint(earlier, left, transmitter=before[1].name)
    fingerprint = replace(fingerprint, to_s=first.offset_s(fingerprint.epoch))
    later = list(paths) if change is None else change(generator, list(paths))
    mover = mover_of(generator, paths[0], mover_db, doppler_hz=mover_hz)
    csi, departure, _ = heard(generator, after, [*later, mover], grid=grid, snr_db=snr_db, cfo_missed_hz=cfo_missed_hz)
    channel = _static_channel(grid, later)
    power = float(np.mean(np.abs(channel) ** 2))
    variance = np.full(grid.subcarriers, (earlier.noise[0] + csi.noise[0]) / grid.symbols)
    bounds = {
        "to_s": fingerprint_scene_std_s(grid.subcarrier_hz, channel, variance),
        "cfo_hz": doppler_std_hz(grid.subcarriers, grid.symbols, grid.symbol_s, power / float(csi.noise[0])),
    }
    observation = Observation(csi, departure, extras={Need.FINGERPRINT: fingerprint})
    return Link(observation, *after, grid, bounds=bounds, fraction=_fraction(csi, after, later[0]))


def _otherwise(generator: np.random.Generator, clock: Clock) -> Clock:
    """The same oscillator at another time: up to a fifth of a part in a million off, and its reading anywhere."""
    return Clock(clock.name, clock.delta + generator.uniform(-0.2e-6, 0.2e-6), generator.uniform(0.0, 0.01))


def static_reference(
    generator: np.random.Generator,
    snr_db: float,
    *,
    clocks: tuple[Clock, Clock] | None = None,
    grid: Grid = GRID,
    paths: list[Path] | None = None,
    mover: Callable[[np.random.Generator, Path], Path] | None = None,
    stated_delay_s: float | None = None,
    both_ways: bool = False,
    cfo_missed_hz: float | None = None,
    antennas_used: int = ANTENNAS,
) -> Link:
    """Line of sight of known length, one static echo in another direction and one mover, on four antennas.

    ``stated_delay_s`` is what the survey says of the line of sight, if not the truth; ``antennas_used`` is on how many
    the bounds count.
    """
    clocks = two_clocks(generator) if clocks is None else clocks
    paths = direct_and_echoes(generator, grid, 1, cells=(2.5, 5.0)) if paths is None else paths
    line = paths[0]
    moving = mover_of(generator, line, -12.0) if mover is None else mover(generator, line)
    common: dict[str, Any] = {"grid": grid, "snr_db": snr_db, "antennas": ANTENNAS}
    csi, departure, _ = heard(generator, clocks, [*paths, moving], cfo_missed_hz=cfo_missed_hz, **common)
    reverse = reverse_departure = None
    if both_ways:
        reverse, reverse_departure, _ = heard(
            generator, clocks[::-1], [*paths, moving], departure_true_s=REVERSE_S, **common
        )
    noise = float(csi.noise[0]) / antennas_used
    size = (grid.subcarriers, grid.spacing_hz, grid.symbols)
    static = sum(abs(path.gain) ** 2 for path in paths) / noise
    reference, target = abs(line.gain) ** 2 / noise, abs(moving.gain) ** 2 / noise
    bounds = {
        "to_s": _delay_bound(grid, paths, noise),
        "cfo_hz": doppler_std_hz(grid.subcarriers, grid.symbols, grid.symbol_s, static),
        "delay_s": hypot(delay_std_s(*size, target), delay_std_s(*size, reference)),
        "doppler_hz": hypot(
            *(doppler_std_hz(grid.subcarriers, grid.symbols, grid.symbol_s, snr) for snr in (target, static))
        ),
    }
    stated = line.delay_s if stated_delay_s is None else stated_delay_s
    return Link(
        Observation(csi, departure, reverse, reverse_departure, extras={STATIC_PATH_DELAY: stated}), *clocks, grid,
        mover=replace(moving, delay_s=moving.delay_s - line.delay_s), bounds=bounds,
        fraction=_fraction(csi, clocks, line),
    )  # fmt: skip


def quotient(
    generator: np.random.Generator,
    snr_db: float,
    *,
    clocks: tuple[Clock, Clock] | None = None,
    grid: Grid = NARROW,
    level_db: float = -20.0,
    doppler_hz: tuple[float, float] = (SLOW_HZ, FAST_HZ),
    blind: bool = False,
    others: Sequence[tuple[float, tuple[float, float]]] = (),
) -> Link:
    """Line of sight and one mover on two antennas, every symbol with a phase of its own; ``others`` move besides."""
    clocks = two_clocks(generator) if clocks is None else clocks
    line = replace(direct_and_echoes(generator, grid, 0)[0], sine=0.0)
    # a contrast of the antennas' phases from a tenth to nine tenths of a half turn, of either sign; none if blind
    sine = 0.0 if blind else float(generator.choice([-1.0, 1.0]) * generator.uniform(0.2, 0.8))
    moving = replace(mover_of(generator, line, level_db, doppler_hz=doppler_hz), sine=sine)
    more = [mover_of(generator, line, level, doppler_hz=speed) for level, speed in others]
    csi, departure, _ = heard(
        generator, clocks, [line, moving, *more], grid=grid, snr_db=snr_db, antennas=2, restless=True
    )
    static, across = (
        np.array([[1.0], [np.exp(1j * pi * path.sine)]]) * path.gain * np.exp(-2j * pi * grid.subcarrier_hz * delay_s)
        for path, delay_s in ((line, 0.0), (moving, moving.delay_s - line.delay_s))
    )
    bound_hz = moebius_doppler_std_hz(
        moving.doppler_hz, static, across, symbol_s=grid.nominal_s, noise=float(csi.noise[0])
    )
    return Link(
        Observation(csi, departure), *clocks, grid,
        mover=replace(moving, delay_s=moving.delay_s - line.delay_s), bounds={"doppler_hz": bound_hz},
        fraction=moving.doppler_hz * grid.length_s % 1.0,
    )  # fmt: skip


def moving_beside_direct(
    generator: np.random.Generator,
    snr_db: float,
    *,
    clocks: tuple[Clock, Clock] | None = None,
    grid: Grid = GRID,
    paths: list[Path] | None = None,
    level_db: float = -12.0,
    doppler_hz: tuple[float, float] = (SLOW_HZ, FAST_HZ),
) -> Link:
    """Line of sight, a weak echo and one mover on four antennas, every symbol with a phase of its own."""
    clocks = two_clocks(generator) if clocks is None else clocks
    if paths is None:
        paths = direct_and_echoes(generator, grid, 1)
        paths[1] = replace(
            paths[1], gain=paths[1].gain / abs(paths[1].gain) * 10.0 ** (generator.uniform(-20, -13) / 20)
        )
    line = paths[0]
    moving = mover_of(generator, line, level_db, doppler_hz=doppler_hz)
    csi, departure, _ = heard(
        generator, clocks, [*paths, moving], grid=grid, snr_db=snr_db, antennas=ANTENNAS, restless=True
    )
    # methods 3.2: cross term's effective SNR, three products of four antennas, their common noise's half counted
    noise = float(csi.noise[0])
    effective = abs(moving.gain) ** 2 / noise / (2.0 + noise / abs(line.gain) ** 2) * (ANTENNAS - 1)
    bounds = {
        "delay_s": delay_std_s(grid.subcarriers, grid.spacing_hz, grid.symbols, effective),
        "doppler_hz": doppler_std_hz(grid.subcarriers, grid.symbols, grid.symbol_s, effective),
    }
    return Link(
        Observation(csi, departure), *clocks, grid,
        mover=replace(moving, delay_s=moving.delay_s - line.delay_s), bounds=bounds,
        fraction=(moving.delay_s - line.delay_s) * grid.band_hz % 1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """Where nodes and scatterers are."""

    receiver: Station
    transmitter: Station
    places: FloatArray

    def legs_m(self, places: FloatArray, node: Station) -> FloatArray:
        """Distance of each of the places from a node, shape (place,)."""
        return np.asarray(np.linalg.norm(places - node.position_m, axis=1))

    def link_s(self, places: FloatArray) -> FloatArray:
        """Bistatic delay from transmitter to receiver by each of the places, shape (place,)."""
        legs = self.legs_m(places, self.receiver) + self.legs_m(places, self.transmitter)
        return np.asarray(legs / SPEED_OF_LIGHT_MPS)

    @property
    def sight_s(self) -> float:
        """Delay of the line of sight."""
        apart = self.transmitter.position_m - self.receiver.position_m
        return float(np.linalg.norm(apart)) / SPEED_OF_LIGHT_MPS

    @property
    def sines(self) -> FloatArray:
        """Sine of each scatterer's angle off the receiver's broadside, shape (scatterer,)."""
        from_receiver = self.places - self.receiver.position_m
        return np.asarray(from_receiver @ self.receiver.axis / self.legs_m(self.places, self.receiver))


def cooperating(
    generator: np.random.Generator,
    snr_db: float,
    *,
    clocks: tuple[Clock, Clock] | None = None,
    grid: Grid = GRID,
    scatterers: int = 6,
    unheard: int = 0,
    displaced_m: float = 0.0,
    moving: bool = False,
    line_of_sight: bool = True,
    slow_mover_db: float | None = None,
    cfo_missed_hz: float | None = None,
) -> Link:
    """A link whose receiver has seen the scatterers by its own echo on four antennas.

    ``unheard`` scatterers are missing on the link, which sees all others ``displaced_m`` from where the echo did; with
    ``moving`` each path of the link has a Doppler of its own. ``slow_mover_db`` adds an unresolved mover.
    """
    clocks = two_clocks(generator) if clocks is None else clocks
    plan = _plan(generator, grid, scatterers, (clocks[0].name, clocks[1].name))
    # the node stands at its array's centre, which a wave reaches so much before the first antenna
    late_s = 0.25 * (ANTENNAS - 1) * plan.sines / CARRIER_HZ
    echo_paths = [
        Path(turned(generator), float(delay_s), 0.0, float(sine))
        for delay_s, sine in zip(
            2.0 / SPEED_OF_LIGHT_MPS * plan.legs_m(plan.places, plan.receiver) + late_s, plan.sines, strict=True
        )
    ]
    echo_csi, echo_departure, _ = heard(
        generator, (clocks[0], clocks[0]), echo_paths, grid=grid, snr_db=snr_db, antennas=ANTENNAS,
        cfo_missed_hz=0.0,
    )  # fmt: skip
    later = plan.places + generator.normal(size=plan.places.shape) * displaced_m / sqrt(2.0)
    delays = [plan.sight_s] * line_of_sight + list(plan.link_s(later)[unheard:])
    dopplers = generator.uniform(-FAST_HZ, FAST_HZ, len(delays)) * moving
    paths = [Path(turned(generator), float(delay), float(hz)) for delay, hz in zip(delays, dopplers, strict=True)]
    static = list(paths)
    if slow_mover_db is not None:
        level_db = slow_mover_db + 10.0 * np.log10(len(paths))
        paths.append(mover_of(generator, paths[0], level_db, doppler_hz=(1.0, 60.0)))
    csi, departure, _ = heard(generator, clocks, paths, grid=grid, snr_db=snr_db, cfo_missed_hz=cfo_missed_hz)
    echo = active_echo(echo_csi, echo_departure, spacing_m=0.5 * SPEED_OF_LIGHT_MPS / CARRIER_HZ, least_delay_s=20e-9)
    stations = {station.name: station for station in (plan.receiver, plan.transmitter)}
    observation = Observation(csi, departure, extras={Need.ACTIVE_ECHO: echo, Need.KNOWN_POSITIONS: stations})
    bounds = {
        "to_s": _cooperation_bound(plan, grid, echo_csi, csi),
        "cfo_hz": doppler_std_hz(grid.subcarriers, grid.symbols, grid.symbol_s, len(static) / float(csi.noise[0])),
    }
    return Link(observation, *clocks, grid, bounds=bounds, fraction=_fraction(csi, clocks, paths[0]))


def _plan(generator: np.random.Generator, grid: Grid, scatterers: int, names: tuple[str, str]) -> _Plan:
    """Nodes 60 m apart; paths two resolution cells apart in echo and link, none near a node or along the array."""
    receiver = Station(names[0], np.zeros(2), float(generator.uniform(-pi, pi)))
    transmitter = Station(names[1], np.array([60.0, 0.0]), 0.0)
    cell_s = 2.0 / grid.band_hz
    while True:
        plan = _Plan(receiver, transmitter, np.zeros((0, 2)))
        for place in generator.uniform([-30.0, -60.0], [90.0, 60.0], (60 * scatterers, 1, 2)):
            one = replace(plan, places=place)
            legs = [float(one.legs_m(place, node)[0]) for node in (receiver, transmitter)]
            apart = [*np.abs(np.append(plan.link_s(plan.places), plan.sight_s) - one.link_s(place)[0])]
            apart += [*(2.0 / SPEED_OF_LIGHT_MPS * np.abs(plan.legs_m(plan.places, receiver) - legs[0]))]
            if min(legs) > 8.0 and abs(one.sines[0]) < 0.9 and min(apart) > cell_s:
                plan = replace(plan, places=np.vstack([plan.places, place]))
            if len(plan.places) == scatterers:
                return plan


def _cooperation_bound(plan: _Plan, grid: Grid, echo: ChannelState, link: ChannelState) -> float:
    """Bound of methods 3.5 for resolved paths of unit power."""
    size = (grid.subcarriers, grid.spacing_hz, grid.symbols)
    towards_receiver = plan.receiver.position_m - plan.places
    towards_transmitter = plan.transmitter.position_m - plan.places
    distance_m = plan.legs_m(plan.places, plan.receiver)
    cosine = np.sum(towards_receiver * towards_transmitter, axis=1)
    cosine = cosine / distance_m / plan.legs_m(plan.places, plan.transmitter)
    aperture = float(np.sum((np.arange(ANTENNAS) - 0.5 * (ANTENNAS - 1)) ** 2))
    information = 2.0 / float(echo.noise[0]) * grid.subcarriers * grid.symbols * pi**2 * aperture
    angle_std_rad = 1.0 / (sqrt(information) * np.sqrt(1.0 - plan.sines**2))
    active_s = delay_std_s(*size, ANTENNAS / float(echo.noise[0]))
    predicted_s = predicted_delay_std_s(np.arccos(np.clip(cosine, -1.0, 1.0)), distance_m, active_s, angle_std_rad)
    passive_s = delay_std_s(*size, 1.0 / float(link.noise[0]))
    return cooperation_std_s(np.full(len(plan.places), passive_s), predicted_s)


def _fraction(csi: ChannelState, clocks: tuple[Clock, Clock], line: Path) -> float:
    arrival_s = float(clocks[0].reading_s(FORWARD_S + line.delay_s))
    rate_hz = float(csi.reference.rate_hz)
    return (arrival_s * rate_hz - csi.reference.tick - csi.reference.fraction) % 1.0


def _static_channel(grid: Grid, paths: Sequence[Path]) -> ComplexArray:
    gains = np.array([path.gain for path in paths])
    delays_s = np.array([path.delay_s for path in paths])
    return np.asarray(np.exp(-2j * pi * np.outer(grid.subcarrier_hz, delays_s)) @ gains)


def _product_bound(
    grid: Grid, channels: tuple[ComplexArray, ComplexArray], noises: tuple[float, float]
) -> tuple[float, float]:
    """Bound for the channel drawn, unknown to the method, noise times noise included (methods 3.6).

    An element's product has the phase variance (|h|²(σ²+σ'²) + σ²σ'²)/(2|h|⁴); the likelihood weighs it by |h|².
    """
    power = [float(np.mean(np.abs(values) ** 2)) for values in channels]
    ahead, back = (noise / level for noise, level in zip(noises, power, strict=True))
    weight = np.abs(channels[0]) ** 2 / power[0]
    spread = 0.5 * (weight * (ahead + back) + ahead * back)
    t = grid.nominal_s[:, None] - grid.nominal_s.mean()
    f = grid.subcarrier_hz[None, :]
    f = f - np.sum(weight * f) / np.sum(weight)
    std = [float(np.sqrt(np.sum(spread * axis**2))) / float(np.sum(weight * axis**2)) / (4.0 * pi) for axis in (f, t)]
    return std[0], std[1]


def _paths_bound(grid: Grid, paths: Sequence[Path], noise: float) -> tuple[float, float]:
    """√CRB of both offsets where paths share delays and Dopplers and their amplitudes are free (methods 3.6)."""
    t = np.repeat(grid.nominal_s - grid.nominal_s.mean(), grid.subcarriers)
    f = np.tile(grid.subcarrier_hz, grid.symbols)
    stretch = t * (1.0 + f / CARRIER_HZ)
    half_gap_s = 0.5 * (REVERSE_S - FORWARD_S)
    count = len(paths)
    slopes = np.zeros((2, t.size, 2 * count + 2), dtype=np.complex128)
    amplitudes = np.stack([np.exp(2j * pi * (path.doppler_hz * stretch - f * path.delay_s)) for path in paths], axis=1)
    for way, sign in enumerate((1.0, -1.0)):
        for number, path in enumerate(paths):
            one = 2j * pi * path.gain * amplitudes[:, number]
            slopes[way, :, number] = -f * one
            slopes[way, :, count + number] = (stretch + sign * half_gap_s * f / CARRIER_HZ) * one
            slopes[way, :, -2] += -sign * f * one
            slopes[way, :, -1] += sign * stretch * one
    basis = np.linalg.qr(amplitudes)[0]
    information = np.zeros((2 * count + 2,) * 2)
    scale = np.linalg.norm(slopes, axis=(0, 1))
    for way in slopes / scale:
        left = way - basis @ (basis.conj().T @ way)
        information += 2.0 / noise * (left.conj().T @ left).real
    covariance = np.linalg.inv(information) / np.outer(scale, scale)
    return float(np.sqrt(covariance[-2, -2])), float(np.sqrt(covariance[-1, -1]))


def _delay_bound(grid: Grid, paths: Sequence[Path], noise: float) -> float:
    """√CRB of the first path's delay beside others at rest, every amplitude and delay unknown."""
    f = grid.subcarrier_hz
    columns = np.stack([np.exp(-2j * pi * f * path.delay_s) for path in paths], axis=1)
    slopes = columns * np.array([path.gain for path in paths]) * (-2j * pi * f)[:, None]
    basis = np.linalg.qr(columns)[0]
    left = slopes - basis @ (basis.conj().T @ slopes)
    information = 2.0 * grid.symbols / noise * (left.conj().T @ left).real
    return float(np.sqrt(np.linalg.inv(information)[0, 0]))
