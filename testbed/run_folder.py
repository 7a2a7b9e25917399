"""A finished run for a notebook: its results, and the CSI, offsets and IQ behind them as arrays.

run = open_run("runs/two-nodes")
offsets = run.offsets("reciprocity-mle", receiver="east", transmitter="west")
plt.errorbar(offsets["round"], offsets["to_s"], offsets["to_std_s"])
iq = run.iq("east", antenna=0, round=3)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ChannelState
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.formats.export import columns, scaled_iq
from testbed.formats.sigmf_reader import Recordings, read_recordings
from testbed.results import LinkRow, Results, load_results
from testbed.scenario import Scenario, load

if TYPE_CHECKING:
    from testbed.node_clock import NodeClock

__all__ = ["PRODUCTS_NAME", "SCENARIO_NAME", "Run", "open_run"]

SCENARIO_NAME = "scenario.toml"
PRODUCTS_NAME = "products.npz"


@dataclass(frozen=True)
class Run:
    """One run's folder. Everything is read when first asked for."""

    path: Path

    @cached_property
    def results(self) -> Results:
        """What the run found."""
        return load_results(self.path)

    @cached_property
    def scenario(self) -> Scenario:
        """The experiment as it was resolved."""
        return load(self.path / SCENARIO_NAME, methods_here=False)

    @cached_property
    def recordings(self) -> Recordings:
        """The raw recordings, by round and node."""
        return read_recordings(self.path)

    @cached_property
    def products(self) -> Mapping[str, NDArray[Any]]:
        """Arrays behind the report's pictures.

        Raises
        ------
        UserError
            If the run has none.
        """
        path = self.path / PRODUCTS_NAME
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file: was the run processed?") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error

    def capture(self, node: str, round: int) -> Capture:
        """What ``node`` recorded in ``round``: raw counts, stretches without loss, the counter's ticks.

        Raises
        ------
        KeyError
            If it recorded nothing in that round.
        """
        return self.recordings.captures(round)[node]

    def iq(self, node: str, antenna: int = 0, round: int = 0) -> NDArray[np.complex64]:
        """Samples of one antenna in one round, complex64 of shape (sample,); 1 is the converter's full scale.

        Lost samples are missing, not zero: `capture` says where.

        Raises
        ------
        KeyError, IndexError
            If there is no such node, round or antenna.
        """
        samples: NDArray[np.complex64] = scaled_iq(self.capture(node, round))[antenna]
        return samples

    def csi(self, receiver: str, transmitter: str, round: int = 0) -> ChannelState:
        """CSI of one link in one round, recomputed from the recording as the run computed it."""
        from testbed.pipeline import slot_csi

        return slot_csi(self, receiver, transmitter, round)

    def clock(self, node: str) -> NodeClock:
        """Clock of ``node`` against that of the scenario's first node, at any moment: ``run.clock("east").at(…)``.

        Raises
        ------
        UserError
            If there is no such node, it is the first one, or no round measured it.
        """
        from testbed.node_clock import node_clock

        return node_clock(self.results, self.scenario, node)

    def offsets(
        self, method: str, *, receiver: str | None = None, transmitter: str | None = None
    ) -> dict[str, NDArray[Any]]:
        """Columns of the results' link rows of one method, by the names that ``results.json`` gives them.

        Numbers are float64 with NaN for null; ``epoch_clock``, ``epoch_tick``, ``epoch_fraction`` and
        ``epoch_rate_hz`` hold the epoch. Rows stand in the order of the results: by round.

        Raises
        ------
        KeyError
            If the run has no row of that method, or of that link.
        """
        rows = [
            row
            for row in self.results.links
            if row.method == method and receiver in (None, row.receiver) and transmitter in (None, row.transmitter)
        ]
        if not rows:
            raise KeyError(f"no offsets by {method!r}: this run has {sorted({r.method for r in self.results.links})}")
        return columns(rows, LinkRow)


def refuse_no_folder(path: Path) -> None:
    """Raise `UserError` unless ``path`` is a folder, as every run has one."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "there is no such folder"
        raise UserError(f"{path}: {what}: name the folder of a run, as made by `isac run`")


def open_run(path: Path | str) -> Run:
    """Run whose folder is ``path``.

    Raises
    ------
    UserError
        If there is no such folder, or it is not a run's.
    """
    path = Path(path)
    refuse_no_folder(path)
    if not any((path / name).exists() for name in ("results.json", "recordings", SCENARIO_NAME)):
        raise UserError(f"{path}: not a run's folder: it holds neither results.json nor recordings")
    return Run(path)
