"""Every assumption broken for every method that makes it: how often a wrong number comes out as valid.

For each case 400 links or more are drawn with the assumption broken; a result is silently wrong if it is valid and one
of its numbers errs by more than five of its stated deviations. With the assumption intact, what is called invalid is a
false rejection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from dsp.channel import ComplexArray, FloatArray
from dsp.synchronization.base import Port
from dsp.synchronization.structured import LINE_OF_SIGHT, LineOfSight
from testbed.bench import contract_links as links
from testbed.bench.contract import MEMBERS, Draw, study
from testbed.bench.contract_scenes import Link, Path, turned
from testbed.bench.rows import BenchRow, share_row

__all__ = ["CASES", "INTACT", "Case", "points", "snr_db_of"]

SNR_DB = 10.0
_RATIO_SNR_DB = 20.0
"""Of the CSI ratio, whose mover stands 20 dB below the static path."""
_PRODUCT = ("reciprocity-mle", "reciprocity-mp", "spectral-cc", "spectral-cc-interpolated")
_TWO_WAY = (*_PRODUCT, "reciprocity-structured", "auto")
_RATIO = ("csi-ratio", "csi-ratio-first-order")
_RESOLVED = ("path-resolved", "path-resolved-angle", "path-resolved-dictionary")
_COOPERATION = ("cooperation", "cooperation-correlation")
_CENTIMETRES_S = 0.17e-9
"""Largest difference of a path's length by way of ports 5 cm apart, in seconds."""


@dataclass(frozen=True)
class Case:
    """One assumption, broken or intact, and the methods that make it."""

    assumption: str
    methods: tuple[str, ...]
    draw: Draw | None = None
    """The members' own links if not given."""
    right: bool = False
    """Whether the methods' numbers should stand: rejections are then false ones."""


def _phases(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
    return [replace(path, gain=path.gain * turned(generator)) for path in paths]


def _independent(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
    return [replace(path, gain=turned(generator, generator.uniform(-10.0, 0.0))) for path in paths]


def _ports(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
    shifts_s = generator.uniform(-_CENTIMETRES_S, _CENTIMETRES_S, len(paths))
    moved = [replace(path, delay_s=path.delay_s + shift) for path, shift in zip(paths, shifts_s, strict=True)]
    return _phases(generator, moved)


def _other_scene(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
    return links.direct_and_echoes(generator, links.GRID, len(paths) - 1)


def _one_moved(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
    step_s = generator.choice([-1.0, 1.0]) * generator.uniform(0.3, 3.0) / links.GRID.band_hz
    which = int(generator.integers(1, len(paths)))
    return [
        replace(path, delay_s=path.delay_s + step_s, gain=path.gain * turned(generator)) if number == which else path
        for number, path in enumerate(paths)
    ]


def _all_moving(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
    return [replace(path, doppler_hz=generator.uniform(-links.FAST_HZ, links.FAST_HZ)) for path in paths]


def _slow(generator: np.random.Generator, line: Path, *, excess_s: tuple[float, float], level_db: float) -> Path:
    """A mover whose Doppler the slot does not resolve."""
    speed_hz = generator.choice([-1.0, 1.0]) * generator.uniform(1.0, 60.0)
    return Path(
        turned(generator, level_db + generator.uniform(-10.0, 10.0)),
        line.delay_s + generator.uniform(*excess_s),
        speed_hz,
        generator.uniform(-0.9, 0.9),
    )


_FAR = partial(_slow, excess_s=(20e-9, 400e-9), level_db=-20.0)
_NEAR = partial(_slow, excess_s=(0.5e-9, 5e-9), level_db=-20.0)


def _low_passes(generator: np.random.Generator, frequency_hz: FloatArray) -> ComplexArray:
    """One direction's Butterworth third-order low pass over the other's, corners at 1.3 to 1.7 times the band's edge.

    What an AD936x's analog filters do at its library's settings. The phase's slope over the band, which is a delay and
    calibrated as one, is taken off.
    """
    edge_hz = float(np.abs(frequency_hz).max())
    passed = np.ones(len(frequency_hz), complex)
    for power in (1.0, -1.0):
        place = 1j * frequency_hz / (generator.uniform(1.3, 1.7) * edge_hz)
        passed *= (1.0 / ((1.0 + place) * (1.0 + place + place**2))) ** power
    slope, _ = np.polyfit(frequency_hz, np.angle(passed), 1)
    return np.asarray(passed * np.exp(-1j * slope * frequency_hz))


def _chains(generator: np.random.Generator, snr_db: float) -> Link:
    """Chains that differ over frequency, by 0.3 dB and half a degree: 20 dB below, noise hides it."""
    return links.two_way(generator, snr_db + 20.0, chains=_low_passes)


def _unresolved(generator: np.random.Generator, snr_db: float, **more: Any) -> Link:
    """Echoes inside one another's resolution cells, phases of their own in each direction."""
    paths = links.direct_and_echoes(generator, links.GRID, 5, cells=(0.15, 0.9))
    return links.two_way(generator, snr_db, paths=paths, bound=links.PATHS_BOUND, change=_phases, **more)


def _separate(generator: np.random.Generator, snr_db: float, *, blocked: bool) -> Link:
    """Ports 5 cm apart that the experiment states, with the line of sight's geometry; blocked or not."""
    paths = links.direct_and_echoes(generator, links.GRID, 4)
    line_s = paths[0].delay_s
    shift_s = generator.uniform(-_CENTIMETRES_S, _CENTIMETRES_S)

    def back(generator: np.random.Generator, paths: list[Path]) -> list[Path]:
        moved = _ports(generator, paths)
        return moved if blocked else [replace(moved[0], delay_s=line_s + shift_s), *moved[1:]]

    extras = {LINE_OF_SIGHT: LineOfSight(line_s, line_s + shift_s)}
    seen = paths[1:] if blocked else paths
    return links.two_way(
        generator, snr_db, paths=seen, bound=links.PATHS_BOUND, change=back, port=Port.SEPARATE, extras=extras
    )


def _declared(generator: np.random.Generator, snr_db: float) -> Link:
    return links.two_way(generator, snr_db, change=_ports, port=Port.SEPARATE)


def _blocked_reference(generator: np.random.Generator, snr_db: float) -> Link:
    """The line of sight that the survey states is not among the paths; both directions are heard."""
    paths = links.direct_and_echoes(generator, links.GRID, 2, cells=(2.5, 5.0))
    strongest = replace(paths[1], gain=turned(generator))
    return links.static_reference(
        generator, snr_db, paths=[strongest, paths[2]], stated_delay_s=paths[0].delay_s, both_ways=True
    )


def _blocked_direct(generator: np.random.Generator, snr_db: float) -> Link:
    paths = links.direct_and_echoes(generator, links.GRID, 4)[1:]
    paths = [replace(path, gain=turned(generator, generator.uniform(-3.0, 0.0))) for path in paths]
    return links.moving_beside_direct(generator, snr_db, paths=paths)


def _deaf(draw: Draw, generator: np.random.Generator, snr_db: float) -> Link:
    """All antennas but the first hear nothing but noise."""
    link = draw(generator, snr_db)
    state = link.observation.forward
    noise = generator.normal(size=(*state.values[1:].shape, 2)).view(np.complex128)[..., 0]
    values = state.values.copy()
    values[1:] = noise * np.sqrt(0.5 * state.noise[1:, None, None])
    return replace(link, observation=replace(link.observation, forward=replace(state, values=values)))


def _moving_reference(generator: np.random.Generator, snr_db: float) -> Link:
    paths = _all_moving(generator, links.direct_and_echoes(generator, links.GRID, 4))
    paths = [replace(path, gain=turned(generator, generator.uniform(-3.0, 0.0))) for path in paths]
    return links.static_reference(generator, snr_db, paths=paths)


def _moving_direct(generator: np.random.Generator, snr_db: float) -> Link:
    paths = _all_moving(generator, links.direct_and_echoes(generator, links.GRID, 4))
    paths = [replace(path, gain=turned(generator, generator.uniform(-3.0, 0.0))) for path in paths]
    return links.moving_beside_direct(generator, snr_db, paths=paths)


def _aliased(draw: Draw, period: float, generator: np.random.Generator, snr_db: float) -> Link:
    """The coarse stage is off by more than half of what the symbols' spacing tells apart, ``period`` over it."""
    half_hz = 0.5 * period / links.GRID.symbol_s
    missed_hz = float(generator.choice([-1.0, 1.0]) * generator.uniform(1.1, 2.9)) * half_hz
    return draw(generator, snr_db, cfo_missed_hz=missed_hz)


CASES: tuple[Case, ...] = (
    Case("no line of sight", ("cacc",), _blocked_direct),
    Case("no line of sight", _RESOLVED, _blocked_reference),
    Case("no line of sight", ("reciprocity-structured", "auto"), partial(_separate, blocked=True)),
    Case("one antenna", _RATIO, partial(_deaf, links.quotient)),
    Case("one antenna", ("cacc",), partial(_deaf, links.moving_beside_direct)),
    Case("one antenna", ("path-resolved-angle",), partial(_deaf, links.static_reference)),
    Case("no static path", _RATIO, partial(links.quotient, level_db=0.0, others=((0.0, (300.0, 1500.0)),))),
    Case("no static path", ("cacc",), _moving_direct),
    Case("no static path", _RESOLVED, _moving_reference),
    Case("no static path", ("fingerprint",), partial(links.fingerprinted, change=_all_moving)),
    Case("no static path", _COOPERATION, partial(links.cooperating, moving=True)),
    Case("blind ratio", _RATIO, partial(links.quotient, blind=True)),
    Case("phases not reciprocal", _TWO_WAY, partial(links.two_way, change=_phases)),
    Case("amplitudes not reciprocal", _TWO_WAY, partial(links.two_way, change=_independent)),
    Case("unresolved, phases not reciprocal", _TWO_WAY, _unresolved),
    Case("chains differ over frequency", _TWO_WAY, _chains),
    Case("separate ports, stated", _TWO_WAY, _declared),
    Case("separate ports, unstated", _TWO_WAY, partial(links.two_way, change=_ports)),
    Case("scene changed", ("fingerprint",), partial(links.fingerprinted, change=_other_scene)),
    Case("one path moved", ("fingerprint",), partial(links.fingerprinted, change=_one_moved)),
    Case("scatterers moved 3 m", _COOPERATION, partial(links.cooperating, displaced_m=3.0)),
    Case("scatterers moved 0.3 m", _COOPERATION, partial(links.cooperating, displaced_m=0.3)),
    Case("scatterers moved 0.1 m", _COOPERATION, partial(links.cooperating, displaced_m=0.1)),
    Case("four of six scatterers unheard", _COOPERATION, partial(links.cooperating, unheard=4)),
    Case("CFO aliased", _TWO_WAY, partial(_aliased, links.two_way, 0.5)),
    Case("CFO aliased", _RESOLVED, partial(_aliased, links.static_reference, 1.0)),
    Case("CFO aliased", ("fingerprint",), partial(_aliased, links.fingerprinted, 1.0)),
    Case("CFO aliased", _COOPERATION, partial(_aliased, links.cooperating, 1.0)),
    Case("mover unresolved", _TWO_WAY, partial(links.two_way, mover=_FAR)),
    Case("mover unresolved", _RATIO, partial(links.quotient, level_db=-10.0, doppler_hz=(1.0, 60.0))),
    Case("mover unresolved", ("cacc",), partial(links.moving_beside_direct, doppler_hz=(1.0, 60.0))),
    Case("mover unresolved", _RESOLVED, partial(links.static_reference, mover=_FAR)),
    Case("mover unresolved", ("fingerprint",), partial(links.fingerprinted, mover_db=-10.0, mover_hz=(1.0, 60.0))),
    Case("mover unresolved", _COOPERATION, partial(links.cooperating, slow_mover_db=-10.0)),
    Case("mover beside the line of sight", _TWO_WAY, partial(links.two_way, mover=_NEAR)),
    Case("mover beside the line of sight", _RESOLVED, partial(links.static_reference, mover=_NEAR)),
)
"""Assumptions broken."""

INTACT: tuple[Case, ...] = (
    Case("intact", tuple(MEMBERS), right=True),
    Case("intact, without line of sight", ("fingerprint",), partial(links.fingerprinted, line_of_sight=False), True),
    Case("intact, without line of sight", _COOPERATION, partial(links.cooperating, line_of_sight=False), True),
    Case("intact, phases free", ("reciprocity-structured", "auto"), partial(links.two_way, change=_phases), True),
    Case("intact, separate ports", ("reciprocity-structured", "auto"), partial(_separate, blocked=False), True),
    Case("intact, reverse heard", _RESOLVED, partial(links.static_reference, both_ways=True), True),
)
"""Assumptions kept, as widely as the methods claim to work."""


def points(trials: int, seed: int, cases: Sequence[Case] = (*INTACT, *CASES)) -> list[Callable[[], list[BenchRow]]]:
    """Work of every case and method, each to be done in any process."""
    return [partial(_figures, case, name, trials, seed) for case in cases for name in case.methods]


def snr_db_of(name: str) -> float:
    """SNR at which a method's assumptions are studied."""
    return _RATIO_SNR_DB if name in _RATIO else SNR_DB


def _figures(case: Case, name: str, trials: int, seed: int) -> list[BenchRow]:
    snr_db = snr_db_of(name)
    seen = study(MEMBERS[name], snr_db, trials, seed, case.draw)
    counted = [("silent_wrong_rate", seen.wrong, 0.01)]
    rejected = seen.trials - seen.valid
    counted.append(("false_rejection_rate", rejected, 0.02) if case.right else ("invalid_share", rejected, 1.0))
    made = [share_row("applicability", name, metric, count, seen.trials, goal) for metric, count, goal in counted]
    for row in made:
        row.parameters = {"assumption": case.assumption, "snr_db": snr_db}
    return made
