"""The sweep file: which keys of an experiment take which values, and the points that this makes."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import tomli_w
from msgspec import Meta

from testbed.errors import UserError
from testbed.scenario import Scenario, load, loads
from testbed.scenario_domains import Name
from testbed.toml_file import convert, parse, read_text
from testbed.toml_words import wrong_value

__all__ = ["Point", "Sweep", "load_sweep"]

_LARGEST = 10_000_000
"""Points of a sweep at most: more is a slip of the pen."""

Axis = list[Any] | dict[str, Any]
"""Values of one key; or, to draw from, ``{low, high[, scale]}`` or ``{values}``."""


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [sweep]."""

    name: Name
    """Letters, digits, - and _: names the sweep's folder."""
    scenario: str
    """The experiment that is varied, from the sweep file's folder."""
    design: Literal["grid", "random"] = "grid"
    """"grid": every combination of the values; "random": draws, independent in every key."""
    points: Annotated[int, Meta(ge=1)] | None = None
    """Combinations to draw, if random."""
    seed: Annotated[int, Meta(ge=0)] = 0
    """Of the draws."""
    seeds: Annotated[int, Meta(ge=1)] | list[Annotated[int, Meta(ge=0)]] = 1
    """Seeds of the experiment at each combination: as many, counted from the experiment's own, or these."""
    methods: list[str] | None = None
    """Synchronization methods instead of the experiment's; all look at the same frames."""


class _File(msgspec.Struct, frozen=True):
    sweep: _Head


@dataclass(frozen=True)
class Point:
    """One experiment of a sweep."""

    index: int
    parameters: Mapping[str, Any]
    """Value of each varied key."""
    seed: int


@dataclass(frozen=True)
class Sweep:
    """A sweep, checked: its points in order, each an experiment file."""

    head: _Head
    scenario: Mapping[str, Any]
    """The experiment that is varied, as it stands in its file."""
    fixed: Mapping[str, Any]
    axes: Mapping[str, Axis]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return self.head.name

    @property
    def combinations(self) -> int:
        """Different parameters."""
        if self.head.design == "random":
            return self.head.points or 0
        return math.prod(len(axis) for axis in self.axes.values())

    def __len__(self) -> int:
        return self.combinations * len(self.seeds)

    def points(self) -> Iterator[Point]:
        """Every point, always in the same order: seeds vary fastest."""
        numbers = itertools.count()
        for parameters in self._random() if self.head.design == "random" else self._grid():
            for seed in self.seeds:
                yield Point(next(numbers), parameters, seed)

    def text(self, point: Point) -> str:
        """Experiment file of one point."""
        raw = _with(self.scenario, {**self.fixed, **point.parameters})
        raw["experiment"]["seed"] = point.seed
        if self.head.methods is not None:
            raw["experiment"]["methods"] = self.head.methods
        return tomli_w.dumps(raw)

    def fingerprint(self) -> str:
        """Hash of everything that the points' results depend on."""
        said = [msgspec.to_builtins(self.head), self.scenario, self.fixed, self.axes, self.seeds]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _grid(self) -> Iterator[dict[str, Any]]:
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def _random(self) -> Iterator[dict[str, Any]]:
        for number in range(self.combinations):
            rng = np.random.default_rng([self.head.seed, number])
            yield {key: _drawn(axis, rng) for key, axis in self.axes.items()}


def load_sweep(path: Path) -> Sweep:
    """Sweep in the file ``path``, every key and value tried on the experiment.

    Raises
    ------
    UserError
        One line: the file, the key, what it got, what it wants.
    """
    raw = parse(read_text(path), source=str(path))
    for table in raw.keys() - {"sweep", "parameters", "fixed"}:
        raise UserError(f"{path}: {table} is not a table: there are sweep, parameters, fixed")
    if "sweep" not in raw:
        raise UserError(f"{path}: the table [sweep] is missing: give its name and scenario")
    head = convert({"sweep": raw["sweep"]}, _File, source=str(path)).sweep
    source = path.parent / head.scenario
    load(source)
    scenario = parse(read_text(source), source=str(source))
    axes = dict(_flat(raw.get("parameters", {}), path))
    fixed = dict(_flat(raw.get("fixed", {}), path, plain=True))
    for key in axes:
        if key in fixed or key == "experiment.seed":
            raise UserError(f"{path}: parameters.{key}: say this by {'one table' if key in fixed else 'sweep.seeds'}")
        _check_axis(f"{path}: parameters.{key}", axes[key], head.design)
    if not axes and head.seeds == 1:
        raise UserError(f"{path}: nothing varies: give [parameters], or sweep.seeds")
    if head.design == "random" and head.points is None:
        raise UserError(f'{path}: sweep.design is "random", so sweep.points must say how many to draw')
    if head.design == "grid" and head.points is not None:
        raise UserError(f'{path}: sweep.points is {head.points}, but a grid has as many as it has: use "random"')
    first = scenario["experiment"].get("seed", 0)
    seeds = tuple(range(first, first + head.seeds)) if isinstance(head.seeds, int) else tuple(head.seeds)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise UserError(f"{path}: sweep.seeds must name different seeds, at least one")
    sweep = Sweep(head, scenario, fixed, axes, seeds)
    _try_values(path, sweep)
    if len(sweep) > _LARGEST:
        raise UserError(f"{path}: {len(sweep)} points are too many: {_LARGEST} at most")
    return sweep


def _flat(table: Any, path: Path, prefix: str = "", *, plain: bool = False) -> Iterator[tuple[str, Any]]:
    """Dotted keys with what they take, whether written as ``"scene.snr_db"`` or as nested tables."""
    if not isinstance(table, dict):
        raise UserError(f"{path}: {prefix or 'parameters'} must be a table")
    for key, value in table.items():
        full = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and (plain or not {"low", "high", "values"} & value.keys()):
            yield from _flat(value, path, full, plain=plain)
        elif plain or isinstance(value, list | dict):
            yield full, value
        else:
            raise UserError(f"{path}: parameters.{full} is {value}, but must be a list of values: or put it in [fixed]")


def _check_axis(where: str, axis: Axis, design: str) -> None:
    if isinstance(axis, list):
        if not axis:
            raise UserError(f"{where} is an empty list: give one value or more")
        return
    if design == "grid":
        raise UserError(f'{where} is a range to draw from, but sweep.design is "grid": list values, or use "random"')
    if axis.keys() == {"values"} and isinstance(axis["values"], list) and axis["values"]:
        return
    low, high, scale = axis.get("low"), axis.get("high"), axis.get("scale", "linear")
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in (low, high))
    if axis.keys() - {"low", "high", "scale"} or not numbers or scale not in ("linear", "log"):
        raise UserError(f'{where} must be a list, {{ values = [...] }} or {{ low, high, scale = "linear" | "log" }}')
    if not low < high or (scale == "log" and low <= 0):  # type: ignore[operator]
        raise UserError(f"{where} goes from {low} to {high}, but must rise{', above zero' if scale == 'log' else ''}")


def _drawn(axis: Axis, rng: np.random.Generator) -> Any:
    if isinstance(axis, list) or "values" in axis:
        values: Sequence[Any] = axis if isinstance(axis, list) else axis["values"]
        return values[int(rng.integers(len(values)))]
    low, high = axis["low"], axis["high"]
    if axis.get("scale") == "log":
        return float(math.exp(rng.uniform(math.log(low), math.log(high))))
    if isinstance(low, int) and isinstance(high, int):
        return int(rng.integers(low, high + 1))
    return float(rng.uniform(low, high))


def _try_values(path: Path, sweep: Sweep) -> None:
    """Raise `UserError` for a key that the experiment does not have, or a value outside its domain.

    What only several keys together make impossible is left to the points: it fails one of them, not the sweep.
    """
    for key, value in sweep.fixed.items():
        _try(f"{path}: fixed.{key}", sweep.scenario, {key: value})
    for key, axis in sweep.axes.items():
        values = axis if isinstance(axis, list) else axis.get("values", [axis.get("low"), axis.get("high")])
        for value in values:
            _try(f"{path}: parameters.{key}", sweep.scenario, {key: value})
    if sweep.head.methods is not None:
        raw = _with(sweep.scenario, {"experiment.methods": sweep.head.methods})
        loads(tomli_w.dumps(raw), source=f"{path}: sweep.methods")


def _try(where: str, scenario: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    try:
        wrong = wrong_value(_with(scenario, changes), Scenario)
    except KeyError as error:
        raise UserError(f"{where}: {error.args[0]}") from None
    if wrong is not None:
        raise UserError(f"{where}: {wrong}")


def _with(scenario: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment with some dotted keys changed; ``node.west.x`` is one node's, ``node.*.x`` every node's.

    Raises
    ------
    KeyError
        If no entry of an array of tables bears a name.
    """
    raw = copy.deepcopy(dict(scenario))
    for key, value in changes.items():
        *tables, last = key.split(".")
        for table in _tables(raw, tables):
            table[last] = copy.deepcopy(value)
    return raw


def _tables(raw: dict[str, Any], keys: Sequence[str]) -> list[dict[str, Any]]:
    found: list[Any] = [raw]
    for key, owner in zip(keys, ["", *keys], strict=False):
        following = []
        for one in found:
            if isinstance(one, list):
                names = [entry.get("name") or f"{owner}-{number}" for number, entry in enumerate(one, start=1)]
                chosen = [entry for entry, name in zip(one, names, strict=True) if key in ("*", name)]
                if not chosen:
                    raise KeyError(f"no {owner} is called {key!r}: there are {', '.join(names)}, or * for all")
                following += chosen
            elif isinstance(one, dict):
                following.append(one.setdefault(key, {}))
            else:
                raise KeyError(f"{owner} is no table")
        found = following
    if any(not isinstance(one, dict) for one in found):
        raise KeyError(f"{'.'.join(keys)} is a list of tables: name one, or * for all")
    return found
