"""A run as named arrays for numpy (.npz) or MATLAB (.mat).

Every table of ``results.json`` becomes one array per column, ``TABLE_COLUMN``; the arrays behind it follow as
numbered groups, ``csi_0_values`` and so on. The names are listed in docs/reference/results.md.
"""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import UserError
from testbed.results import (
    ClosureRow,
    DetectionRow,
    Epoch,
    EventRow,
    LinkRow,
    LossRow,
    NodeRow,
    PayloadRow,
    PositionRow,
    Results,
    RoundRow,
    SignallingRow,
)

if TYPE_CHECKING:
    from testbed.run_folder import Run

__all__ = ["FORMATS", "check_output", "columns", "csi_arrays", "iq_arrays", "result_arrays", "save_arrays", "scaled_iq"]

FORMATS = (".npz", ".mat")
_TABLES: dict[str, type[msgspec.Struct]] = {
    "links": LinkRow,
    "detections": DetectionRow,
    "positions": PositionRow,
    "nodes": NodeRow,
    "closures": ClosureRow,
    "payload": PayloadRow,
    "rounds": RoundRow,
    "events": EventRow,
    "losses": LossRow,
    "signalling": SignallingRow,
}


def columns(rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct]) -> dict[str, NDArray[Any]]:
    """One array per field of ``rows``, all of type ``kind``.

    Text becomes text, a list of names one text with commas; numbers that may be null float64 with NaN for null;
    vectors and matrices float64 of shape (row, …); an epoch four columns, tick -1 where there is none.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, hint in get_type_hints(kind).items():
        values = [getattr(row, name) for row in rows]
        options = set(get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
        if Epoch in options:
            found |= _epoch_columns(name, values)
        elif str in options:
            found[name] = np.array([value or "" for value in values], dtype=np.str_)
        elif hint == list[str]:
            found[name] = np.array([",".join(value) for value in values], dtype=np.str_)
        elif hint in (int, bool):
            found[name] = np.array(values, dtype=np.int64 if hint is int else np.bool_)
        else:
            found[name] = _numbers(values)
    return found


def result_arrays(results: Results) -> dict[str, NDArray[Any]]:
    """All tables of ``results`` as columns, named ``TABLE_COLUMN``."""
    return {
        f"{table}_{name}": column
        for table, kind in _TABLES.items()
        for name, column in columns(getattr(results, table) or [], kind).items()
    }


def csi_arrays(run: Run, rounds: Collection[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """CSI of every link in ``rounds``: ``csi_receiver``, ``csi_transmitter``, ``csi_round``, and a group each."""
    links = list(dict.fromkeys((row.receiver, row.transmitter, row.round) for row in run.results.links))
    index = 0
    labels: list[tuple[str, str, int]] = []
    for receiver, transmitter, number in links:
        if number not in rounds:
            continue
        state = run.csi(receiver, transmitter, number)
        yield f"csi_{index}_values", state.values
        yield f"csi_{index}_weights", state.weights
        yield f"csi_{index}_noise", state.noise
        yield f"csi_{index}_subcarrier_hz", state.subcarrier_hz
        yield f"csi_{index}_symbol_s", state.symbol_s
        yield f"csi_{index}_frame", state.frame_of_symbol
        yield f"csi_{index}_reference_tick", np.array([state.reference.tick], np.int64)
        yield f"csi_{index}_reference_fraction", np.array([state.reference.fraction])
        yield f"csi_{index}_reference_rate_hz", np.array([float(state.reference.rate_hz)])
        yield f"csi_{index}_cfo_reference_hz", np.array([state.cfo_reference_hz])
        yield f"csi_{index}_carrier_hz", np.array([float(state.carrier_hz)])
        labels.append((receiver, transmitter, number))
        index += 1
    yield "csi_receiver", np.array([label[0] for label in labels], dtype=np.str_)
    yield "csi_transmitter", np.array([label[1] for label in labels], dtype=np.str_)
    yield "csi_round", np.array([label[2] for label in labels], dtype=np.int64)


def iq_arrays(run: Run, rounds: Collection[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """IQ of every node in ``rounds``: ``iq_node``, ``iq_round``, and a group each."""
    labels: list[tuple[str, int]] = []
    for number in run.recordings.rounds:
        if number not in rounds:
            continue
        for node, capture in run.recordings.captures(number).items():
            group = f"iq_{len(labels)}"
            yield f"{group}_samples", scaled_iq(capture)
            yield f"{group}_stretch_start", np.array([each.start for each in capture.stretches], np.int64)
            yield f"{group}_stretch_tick", np.array([each.first_tick for each in capture.stretches], np.int64)
            yield f"{group}_rate_hz", np.array([float(capture.rate_hz)])
            yield f"{group}_carrier_hz", np.array([float(capture.carrier_hz)])
            labels.append((node, number))
    yield "iq_node", np.array([label[0] for label in labels], dtype=np.str_)
    yield "iq_round", np.array([label[1] for label in labels], dtype=np.int64)


def scaled_iq(capture: Capture) -> NDArray[np.complex64]:
    """Samples of a capture, complex64 of shape (antenna, sample); 1 is full scale. Exact: a power of two divides."""
    scaled = np.empty(capture.samples.shape, np.float32)
    np.divide(capture.samples, np.float32(capture.full_scale), out=scaled)
    samples: NDArray[np.complex64] = scaled.view(np.complex64)[..., 0]
    return samples


def check_output(path: Path) -> None:
    """Raise `UserError` unless ``path`` is a new .npz or .mat file in a folder that exists."""
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the suffix must be one of {', '.join(FORMATS)}")
    if path.exists():
        raise UserError(f"{path}: exists; name another file")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: there is no such folder")


def save_arrays(arrays: dict[str, NDArray[Any]], path: Path) -> None:
    """Write ``arrays`` to ``path``, whole or not at all, in the format that its suffix names.

    Raises
    ------
    UserError
        As `check_output`.
    """
    check_output(path)
    draft = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".npz":
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        else:
            from scipy.io import savemat

            named = {name: _for_matlab(array) for name, array in arrays.items()}
            savemat(str(draft), named, appendmat=False, oned_as="column")
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _epoch_columns(name: str, epochs: Sequence[Epoch | None]) -> dict[str, NDArray[Any]]:
    rates = [None if epoch is None else float(epoch.moment().rate_hz) for epoch in epochs]
    return {
        f"{name}_clock": np.array(["" if epoch is None else epoch.clock for epoch in epochs], dtype=np.str_),
        f"{name}_tick": np.array([-1 if epoch is None else epoch.tick for epoch in epochs], dtype=np.int64),
        f"{name}_fraction": _numbers([None if epoch is None else epoch.fraction for epoch in epochs]),
        f"{name}_rate_hz": _numbers(rates),
    }


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Numbers, vectors or matrices of one shape, NaN where there is none."""
    shape = next((np.shape(value) for value in values if value is not None), ())
    return np.array([np.full(shape, np.nan) if value is None else value for value in values], dtype=np.float64)


def _for_matlab(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(object) if array.dtype.kind == "U" else array  # text as a cell array, not padded characters
