"""Fingerprints of a run's links: taken from one round, kept as a file, and compared with from then on.

One file holds the links of one run. Its arrays are those of `dsp.synchronization.fingerprint_record.Fingerprint`, the
link's number behind each name, with ``links``, ``rounds``, ``experiment`` and ``taken_utc`` beside them.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.synchronization.base import Observation, Offset
from dsp.synchronization.fingerprint import take_fingerprint
from dsp.synchronization.fingerprint_record import Fingerprint
from testbed.errors import UserError

__all__ = ["FINGERPRINT_NAME", "Fingerprints", "load_fingerprints"]

FINGERPRINT_NAME = "fingerprint.npz"
"""In a run's folder: what the run compared with, its own or the one it was given."""


@dataclass(frozen=True)
class _Taken:
    fingerprint: Fingerprint
    round: int


class Fingerprints:
    """Fingerprints by link.

    Parameters
    ----------
    experiment : str, optional
        Name of the run that they are taken in.
    chosen : int, optional
        The round to take them from; by default the first that yields one, each link by itself.
    given : mapping of str to Fingerprint, optional
        Those of an earlier run, by "receiver<-transmitter": none is taken then.
    source : path, optional
        The file that they came from.
    """

    def __init__(
        self,
        experiment: str = "",
        chosen: int | None = None,
        *,
        given: Mapping[str, Fingerprint] | None = None,
        source: Path | None = None,
    ) -> None:
        self._experiment = experiment
        self._chosen = chosen
        self._given = given
        self._source = source
        self._taken: dict[str, _Taken] = {}
        self._refused: dict[str, str] = {}

    def of(self, receiver: str, transmitter: str) -> Fingerprint | None:
        """The link's fingerprint, if there is one by now."""
        link = f"{receiver}<-{transmitter}"
        if self._given is not None:
            return self._given.get(link)
        return self._taken[link].fingerprint if link in self._taken else None

    def lacking(self, receiver: str, transmitter: str, index: int) -> str:
        """Why there is no fingerprint of the link in round ``index``."""
        link = f"{receiver}<-{transmitter}"
        if self._given is not None:
            return f"{FINGERPRINT_NAME if self._source is None else self._source.name} holds none of {link}"
        if self._chosen is not None and index < self._chosen:
            return f"it is taken in round {self._chosen}"
        refused = self._refused.get(link)
        if self._chosen is not None and index > self._chosen:
            return f"round {self._chosen} gave none: {refused or 'the link was not heard'}"
        return "it is taken in this round, the first that shows the link" + (f"; before: {refused}" if refused else "")

    def wanted(self, receiver: str, transmitter: str, index: int) -> bool:
        """Whether round ``index`` is one to take the link's fingerprint from."""
        if self._given is not None or f"{receiver}<-{transmitter}" in self._taken:
            return False
        return self._chosen is None or index == self._chosen

    def take(
        self,
        index: int,
        seen: Observation,
        transmitter: str,
        known: tuple[Offset, str] | None,
        *,
        wander_s: float,
    ) -> None:
        """Take the link's fingerprint from what was heard in round ``index``, if it yields one.

        Parameters
        ----------
        seen : Observation
            As the method receives it.
        transmitter : str
        known : (Offset, str), optional
            Time offset of the link in that round, and what it comes from: makes later ones absolute.
        wander_s : float
            Deviation of what the clocks wander from that offset's epoch to the fingerprint's.
        """
        link = f"{seen.forward.reference.clock}<-{transmitter}"
        try:
            taken = take_fingerprint(seen.forward, seen.departure, transmitter=transmitter)
        except ValueError as error:
            self._refused[link] = str(error).removeprefix("no fingerprint: ")
            return
        self._taken[link] = _Taken(_anchored(taken, wander_s, known, index), index)

    def save(self, folder: Path) -> None:
        """Write ``fingerprint.npz`` into ``folder``: the file given, if one was; nothing if there are none."""
        path = folder / FINGERPRINT_NAME
        if self._source is not None:
            if self._source.resolve() != path.resolve():
                shutil.copyfile(self._source, path)
            return
        if not self._taken:
            return
        names = sorted(self._taken)
        arrays: dict[str, NDArray[Any]] = {
            "links": np.array(names),
            "rounds": np.array([self._taken[name].round for name in names]),
            "experiment": np.array(self._experiment),
            "taken_utc": np.array(datetime.now(UTC).isoformat(timespec="seconds")),
        }
        for number, name in enumerate(names):
            arrays |= {f"{key}_{number}": value for key, value in self._taken[name].fingerprint.to_arrays().items()}
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load_fingerprints(path: Path) -> Fingerprints:
    """Fingerprints in the file ``path``.

    Raises
    ------
    UserError
        If there is no such file, or it holds no fingerprints.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        links = [str(name) for name in arrays["links"]]
        origin = f"run {arrays['experiment']} of {arrays['taken_utc']}"
        given = {}
        for number, link in enumerate(links):
            tail = f"_{number}"
            own = {name.removesuffix(tail): value for name, value in arrays.items() if name.endswith(tail)}
            taken = f"in round {int(arrays['rounds'][number])} of {origin}"
            given[link] = replace(Fingerprint.from_arrays(own), taken=taken)
    except FileNotFoundError:
        raise UserError(f"fingerprint.file is {path}, but there is no such file") from None
    except KeyError as error:
        raise UserError(f"fingerprint.file is {path}, which holds no fingerprints: no array {error}") from None
    except OSError as error:
        raise UserError(f"fingerprint.file is {path}, which cannot be read: {error.strerror or error}") from None
    except (ValueError, IndexError, EOFError, zipfile.BadZipFile):
        # numpy takes whatever is no archive for a pickle, and advises to trust it
        wanted = "name the fingerprint.npz in a run's folder"
        raise UserError(f"fingerprint.file is {path}, which holds no fingerprints: {wanted}") from None
    return Fingerprints(given=given, source=path)


def _anchored(taken: Fingerprint, wander_s: float, known: tuple[Offset, str] | None, index: int) -> Fingerprint:
    """The fingerprint with the time offset at its epoch, where one is known.

    Between that offset's epoch and the fingerprint's the clocks wander as much as the offset's deviation already
    contains once, ``wander_s``.
    """
    if known is None:
        return taken
    offset, origin = known
    if offset.to_s is None or offset.cfo_hz is None or offset.to_std_s is None:
        return taken
    share = offset.cfo_hz / float(taken.carrier_hz)
    age_s = taken.epoch.seconds_since(offset.epoch)
    drifted_s = abs(age_s) * (offset.cfo_std_hz or 0.0) / float(taken.carrier_hz)
    return replace(
        taken,
        # an age on the receiver's clock, an offset counted on the mean of both
        to_s=offset.to_s - share / (1.0 - 0.5 * share) * age_s,
        to_std_s=hypot(offset.to_std_s, drifted_s, wander_s),
        to_origin=f"{origin} in round {index}",
    )
