"""The suite that every synchronization method passes, on links whose truth is read off the clocks.

Signs both ways, bias over the fraction of a sample, ratio to the bound from 0 to 30 dB, honesty of the deviations and
grace below threshold, for each of the fifteen; methods that give no clock offset are judged by what they give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import hypot, sqrt

import numpy as np

from dsp.bounds.link import grid_std
from dsp.synchronization.base import Offset
from dsp.synchronization.registry import METHODS
from testbed.bench import contract_links as links
from testbed.bench.contract_scenes import Link
from testbed.bench.rows import BenchRow, rmse_row, share_row

__all__ = [
    "BELOW_DB",
    "MEMBERS",
    "SNR_DB",
    "Member",
    "Quantity",
    "Trials",
    "estimated",
    "first_harmonic",
    "points",
    "quantities",
    "rows",
    "study",
]

SNR_DB = (0.0, 10.0, 20.0, 30.0)
BELOW_DB = (-10.0, -15.0, -20.0, -25.0, -35.0)
WRONG = 5.0
"""Stated deviations beyond which an estimate called valid is wrong."""

Draw = Callable[..., Link]
Array = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Quantity:
    """One number that a method gives, beside the truth."""

    name: str
    unit: str
    value: float
    std: float
    truth: float
    bound: float

    @property
    def error(self) -> float:
        """Value less truth, in the quantity's unit."""
        return self.value - self.truth


@dataclass(frozen=True)
class Member:
    """A method in the suite: what makes its links, and how near its bound it has to come."""

    name: str
    draw: Draw
    goals: dict[str, float]
    """Largest ratio of each quantity's root mean square error to its bound."""
    from_db: float = 0.0
    """SNR from which it must not call a link of intact assumptions invalid."""


def _two_way(name: str, goal: float, **more: float) -> Member:
    draw = partial(links.two_way, bound=links.PATHS_BOUND) if name == "reciprocity-structured" else links.two_way
    return Member(name, draw, {"to_s": goal, "cfo_hz": min(goal, 1.3)}, **more)


_PATH_RESOLVED = {"to_s": 1.3, "cfo_hz": 1.3, "delay_s": 1.5, "doppler_hz": 1.3}
MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        _two_way("reciprocity-mle", 1.1),
        _two_way("reciprocity-mp", 1.25),
        _two_way("reciprocity-structured", 1.2),
        _two_way("spectral-cc", 1.2),
        _two_way("spectral-cc-interpolated", 1.3),
        _two_way("auto", 1.1),
        Member("cacc", links.moving_beside_direct, {"delay_s": 1.5, "doppler_hz": 1.5}),
        # a mover at -20 dB stands out of the noise from here on
        Member("csi-ratio", links.quotient, {"doppler_hz": 1.2}, from_db=20.0),
        Member("csi-ratio-first-order", links.quotient, {"doppler_hz": 1.2}, from_db=20.0),
        # paths resolved by delay are those of one antenna: a wave that crosses the array reaches each at another time
        Member("path-resolved", partial(links.static_reference, antennas_used=1), _PATH_RESOLVED),
        Member("path-resolved-angle", links.static_reference, _PATH_RESOLVED),
        Member("path-resolved-dictionary", partial(links.static_reference, antennas_used=1), _PATH_RESOLVED),
        Member("fingerprint", links.fingerprinted, {"to_s": 1.2, "cfo_hz": 1.2}),
        *(
            Member(f"cooperation{kind}", links.cooperating, {"to_s": 1.3, "cfo_hz": 1.2})
            for kind in ("", "-correlation")
        ),
    )
}


def estimated(member: Member, link: Link) -> Offset:
    """What the method says of a link; an input that it cannot use makes the offset invalid, as in the pipeline."""
    try:
        return METHODS[member.name].estimate(link.observation)
    except ValueError as error:
        return Offset(None, None, epoch=link.observation.forward.reference, valid=False, reason=str(error))


def quantities(member: Member, offset: Offset, link: Link) -> list[Quantity]:
    """Every number that the estimate gives, with its truth and its bound; nothing is asked of an invalid one."""
    if not offset.valid:
        return []
    given: list[tuple[str, str, float | None, float | None, float]] = []
    if offset.to_s is not None:
        given.append(("to_s", "s", offset.to_s, offset.to_std_s, link.offset_s(offset.epoch)))
    if offset.cfo_hz is not None:
        given.append(("cfo_hz", "Hz", offset.cfo_hz, offset.cfo_std_hz, link.cfo_hz))
    if link.mover is not None and "doppler_hz" in offset.details:
        details = offset.details
        given.append(("doppler_hz", "Hz", details["doppler_hz"], details["doppler_std_hz"], link.mover.doppler_hz))
    paths = offset.details["sensing"].paths if "sensing" in offset.details else offset.details.get("movers", ())
    if link.mover is not None and len(paths):
        strongest = max(paths, key=lambda path: path.snr_db)
        given.append(("delay_s", "s", strongest.delay_s, strongest.delay_std_s, link.mover.delay_s))
        given.append(("doppler_hz", "Hz", strongest.doppler_hz, strongest.doppler_std_hz, link.mover.doppler_hz))
    return [
        Quantity(name, unit, value, std, truth, _bound(member, name, link))
        for name, unit, value, std, truth in given
        if value is not None and std is not None
    ]


def _bound(member: Member, name: str, link: Link) -> float:
    """Bound of the link, and half a cell's rounding where the method leaves it by its nature."""
    bound = link.bounds.get(name, float("nan"))
    if member.name != "spectral-cc":
        return bound
    cell = {"to_s": 1.0 / link.grid.band_hz, "cfo_hz": 1.0 / link.grid.length_s}[name]
    return hypot(bound, grid_std(0.5 * cell))


@dataclass(frozen=True)
class Trials:
    """One method's results over independent links of one SNR."""

    snr_db: float
    trials: int
    valid: int
    wrong: int
    """Valid, with a quantity beyond five stated deviations of the truth."""
    fractions: dict[str, Array]
    """Of a sample, of the trials that gave a quantity, by quantity, shape (trial,)."""
    by_bound: dict[str, Array]
    """Errors over the bound, by quantity, shape (trial,)."""
    by_std: dict[str, Array]
    """Errors over the stated deviation."""


def study(member: Member, snr_db: float, trials: int, seed: int, draw: Draw | None = None) -> Trials:
    """Results over ``trials`` links of this SNR, from ``draw`` if not the member's own."""
    generator = np.random.default_rng([seed, round(10.0 * (snr_db + 100.0))])
    by_bound: dict[str, list[float]] = {}
    by_std: dict[str, list[float]] = {}
    fractions: dict[str, list[float]] = {}
    valid = wrong = 0
    for _ in range(trials):
        try:
            link = (draw or member.draw)(generator, snr_db)
        except ValueError as error:
            if "no fingerprint" not in str(error):
                raise
            continue  # the earlier slot carries none: nothing is asked of the later one
        offset = estimated(member, link)
        found = quantities(member, offset, link)
        valid += offset.valid
        wrong += any(abs(each.error) > WRONG * each.std for each in found)
        for each in found:
            fractions.setdefault(each.name, []).append(link.fraction)
            by_bound.setdefault(each.name, []).append(each.error / each.bound)
            by_std.setdefault(each.name, []).append(each.error / each.std)
    arrays = [{name: np.array(values) for name, values in kept.items()} for kept in (fractions, by_bound, by_std)]
    return Trials(snr_db, trials, valid, wrong, *arrays)


def first_harmonic(fractions: Array, errors: Array) -> tuple[float, float]:
    """Amplitude of the errors' first harmonic over the fraction, and the deviation of each of its two parts."""
    turns = np.stack([np.cos(2.0 * np.pi * fractions), np.sin(2.0 * np.pi * fractions)], axis=1)
    parts, *_ = np.linalg.lstsq(turns, errors, rcond=None)
    deviation = np.std(errors - turns @ parts) * sqrt(2.0 / errors.size)
    return float(np.hypot(*parts)), float(deviation)


def points(trials: int, seed: int) -> list[Callable[[], list[BenchRow]]]:
    """Work of every method, each to be done in any process."""
    return [partial(rows, name, trials, seed) for name in MEMBERS]


def rows(name: str, trials: int, seed: int) -> list[BenchRow]:
    """One method's ratios to its bound, honesty, bias over the fraction of a sample, and grace below threshold."""
    member = MEMBERS[name]
    each = [study(member, snr_db, trials, seed) for snr_db in SNR_DB]
    made = [row for one in each for row in _figures(member, one)]
    for key in member.goals:
        kept = [one for one in each if key in one.by_std]
        if not kept:
            continue
        fractions = np.concatenate([one.fractions[key] for one in kept])
        errors = np.concatenate([one.by_std[key] for one in kept])
        amplitude, deviation = first_harmonic(fractions, errors)
        row = BenchRow(
            scenario="contract", method=name, parameters={"quantity": key}, metric="bias_over_fraction", unit="1",
            value=amplitude, bound=0.1, ratio=amplitude / 0.1, trials=errors.size, standard_error=deviation,
        )  # fmt: skip
        made.append(row)
    for snr_db in BELOW_DB:
        one = study(member, snr_db, trials, seed)
        wrong = share_row("contract", name, "silent_wrong_rate", one.wrong, one.trials, 0.01)
        valid = share_row("contract", name, "valid_share", one.valid, one.trials, 1.0)
        for row in (wrong, valid):
            row.parameters = {"snr_db": snr_db}
            made.append(row)
    return made


def _figures(member: Member, seen: Trials) -> list[BenchRow]:
    name = member.name
    made = [share_row("contract", name, "valid_share", seen.valid, seen.trials, 0.98)]
    made.append(share_row("contract", name, "silent_wrong_rate", seen.wrong, seen.trials, 0.01))
    for key, goal in member.goals.items():
        for metric, kept, bound in (("rmse_by_bound", seen.by_bound, goal), ("nees_root", seen.by_std, 1.0)):
            row = rmse_row("contract", name, f"{key.split('_')[0]}_{metric}", "1", list(kept.get(key, [])), bound)
            made.append(row)
    for row in made:
        row.parameters = {"snr_db": seen.snr_db}
    return made
