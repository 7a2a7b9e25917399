"""A run's folder as the report reads it: results, scenario and the arrays kept for pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.errors import UserError
from testbed.results import RESULTS_NAME, load_results
from testbed.run_folder import refuse_no_folder
from testbed.scenario import Scenario, load
from testbed.toml_file import parse, read_text

__all__ = ["LinkProducts", "Row", "RunData", "epoch_seconds", "link_name", "read_run", "rising_seconds"]

Row = dict[str, Any]
FloatArray = NDArray[np.float64]


def link_name(row: Row) -> str:
    """ "receiver ← transmitter" of a row of results."""
    return f"{row['receiver']} ← {row['transmitter']}"


def epoch_seconds(epoch: Row, origin: Row) -> float:
    """Seconds between two epochs of one clock; whole ticks are subtracted as rationals."""
    rate = Fraction(str(epoch["rate"]))
    return float((epoch["tick"] - origin["tick"]) / rate) + float(epoch["fraction"] - origin["fraction"]) / float(rate)


def rising_seconds(rows: list[Row]) -> FloatArray | None:
    """Seconds of the rows' epochs after the first; None where one is missing, or a counter started anew."""
    epochs: list[Row] = [row["epoch"] for row in rows if row.get("epoch") is not None]
    if len(epochs) < len(rows) or len({epoch["clock"] for epoch in epochs}) > 1:
        return None
    seconds = np.array([epoch_seconds(epoch, epochs[0]) for epoch in epochs])
    return seconds if np.all(np.diff(seconds) > 0) else None


@dataclass(frozen=True)
class LinkProducts:
    """Arrays kept for the pictures of one link."""

    link: str
    """ "receiver ← transmitter"."""
    arrays: dict[str, NDArray[Any]]
    """By name without the link's index: constellation, map_db, map_delay_s, map_doppler_hz, baseline_s, round."""

    def has(self, *names: str) -> bool:
        """Whether all of ``names`` were kept and hold something."""
        return all(name in self.arrays and self.arrays[name].size for name in names)

    def scalar(self, name: str) -> float:
        """A kept scalar."""
        return float(self.arrays[name].reshape(-1)[0])


@dataclass(frozen=True)
class RunData:
    """What the report is made of; rows are as in results.json, and lists that a run lacks are empty."""

    folder: Path
    results: dict[str, Any]
    scenario: dict[str, Any]
    products: dict[str, LinkProducts] = field(default_factory=dict)
    products_note: str = ""
    """Why there are no products, as a sentence; empty if there are."""

    def rows(self, name: str) -> list[Row]:
        """The rows of one of the results' lists."""
        return list(self.results.get(name) or [])

    @property
    def name(self) -> str:
        """Name of the experiment, or of the folder where the scenario has none."""
        return str(self.scenario.get("experiment", {}).get("name") or self.folder.resolve().name)

    @cached_property
    def experiment(self) -> Scenario | None:
        """The scenario with its defaults; None where it is missing, or not of this release."""
        try:
            return load(self.folder / "scenario.toml")
        except UserError:
            return None

    @cached_property
    def links(self) -> list[str]:
        """Every "receiver ← transmitter" seen, in the order of the results."""
        seen = [link_name(row) for row in (*self.rows("links"), *self.rows("payload"), *self.rows("detections"))]
        return list(dict.fromkeys([*seen, *self.products]))

    @cached_property
    def methods(self) -> list[str]:
        """Methods with rows, in the order in which the experiment names them."""
        present = list(dict.fromkeys(str(row["method"]) for row in self.rows("links")))
        listed = [m for m in self.scenario.get("experiment", {}).get("methods", []) if m in present]
        return [*listed, *(m for m in present if m not in listed)]

    @property
    def has_truth(self) -> bool:
        """Whether the clocks' true offsets are known, as they are in simulation."""
        return any(row.get("to_error_s") is not None for row in self.rows("links"))

    @property
    def true_targets(self) -> list[Row]:
        """True targets per link and round; empty where nobody knows them."""
        return list((self.results.get("truth") or {}).get("targets") or [])

    def link_rows(self, link: str, method: str) -> list[Row]:
        """Rows of one link and method in the order of their rounds."""
        rows = [row for row in self.rows("links") if row["method"] == method and link_name(row) == link]
        return sorted(rows, key=lambda row: int(row["round"]))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every link with every method."""
        for link in self.links:
            for method in self.methods:
                yield link, method


def _results(folder: Path) -> Row:
    refuse_no_folder(folder)
    if not (folder / RESULTS_NAME).is_file():
        raise UserError(f"{folder}: holds no {RESULTS_NAME}, so it is not the folder of a finished run")
    plain: Row = msgspec.to_builtins(load_results(folder))
    return plain


def _scenario(folder: Path) -> dict[str, Any]:
    path = folder / "scenario.toml"
    if not path.is_file():
        return {}
    return parse(read_text(path), source=str(path))


def _products(folder: Path) -> tuple[dict[str, LinkProducts], str]:
    path = folder / "products.npz"
    if not path.is_file():
        return {}, "the run kept no arrays for pictures (products.npz)"
    try:
        # opened here, since numpy leaves its own file open when it finds the archive torn
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return {}, f"products.npz could not be read ({error})"
    found: dict[str, LinkProducts] = {}
    for index, name in enumerate(arrays.get("links", np.empty(0, dtype=str))):
        link = " ← ".join(part.strip() for part in str(name).replace("←", "<-").split("<-"))
        tail = f"_{index}"
        found[link] = LinkProducts(link, {k[: -len(tail)]: v for k, v in arrays.items() if k.endswith(tail)})
    return found, "" if found else "products.npz names no links"


def read_run(folder: Path) -> RunData:
    """The run kept in ``folder``.

    Raises
    ------
    UserError
        If the folder is not that of a run, or its results or scenario cannot be read; one line each.
    """
    results = _results(folder)
    products, note = _products(folder)
    return RunData(folder, results, _scenario(folder), products, note)
