"""SigMF recordings of a run: one per node and antenna, grown by a round at a time, joined by a collection.

Data come first, the meta files follow by atomic rename, and the collection, which lists the rounds that are whole,
comes last: after a crash at any point everything up to the last whole round can be read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import UserError
from testbed.formats.atomic import plain_number, write_atomically
from testbed.formats.sigmf_keys import COLLECTION_SUFFIX, DATA_SUFFIX, EXTENSIONS, META_SUFFIX, SIGMF_VERSION

__all__ = ["RecordingWriter", "write_samples"]

_Mark = tuple[int, int, int, Any]  # samples, segments, annotations and running hash up to the last whole round
_DATATYPES = {np.dtype(np.int16): "ci16_le", np.dtype(np.float32): "cf32_le"}


class RecordingWriter:
    """Recordings of one run, in a folder of their own.

    Each round of each node becomes capture segments, one for each stretch without loss, in
    ``NODE-ANTENNA.sigmf-data`` and its meta file. The hash of the data is computed while they are written and
    stated by `close`. A round that cannot be written whole (a full disk, an interrupt) is taken back before the
    error is passed on, so that `close` still leaves valid recordings of the rounds before.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        nodes: Mapping[str, Mapping[str, Any]] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Start recordings in ``folder``, made if need be.

        Parameters
        ----------
        folder : Path
        name : str
            Name of the run: the collection is ``NAME.sigmf-collection``.
        nodes : mapping of node to its lasting facts, optional
            For example ``clock_source``, ``radio``, ``geometry``: JSON-able, stated as ``isac:`` keys of each of the
            node's recordings.
        facts : mapping, optional
            What concerns the whole run, stated as ``isac:`` keys of the collection.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        self._nodes = nodes or {}
        self._facts = dict(facts or {})
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._rounds: list[int] = []
        self._events: list[dict[str, Any]] = []
        self._scene: dict[str, Any] = {}
        self._closed = False
        if self.collection.exists():
            raise FileExistsError(f"{self.collection} exists")
        self._write_collection(finished=False)

    @property
    def collection(self) -> Path:
        """Path of the collection file."""
        return self.folder / (self.name + COLLECTION_SUFFIX)

    def write_round(
        self,
        captures: Mapping[str, Capture],
        *,
        scene: Mapping[str, Any] | None = None,
        events: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Append one finished round: ``captures`` by node, all of one round later than those before.

        ``scene`` is what a simulation knows of the round's paths and targets; ``events`` are those of the round that
        belong to no capture. A capture without samples leaves its events only.

        Raises
        ------
        ValueError
            If a capture does not belong into these recordings; nothing is written then.
        OSError
            If the disk refuses; the round is taken back.
        """
        rounds = {capture.round for capture in captures.values()}
        if len(rounds) != 1:
            raise ValueError(f"captures of one round expected, got those of rounds {sorted(rounds)}")
        number = rounds.pop()
        if self._rounds and number <= self._rounds[-1]:
            raise ValueError(f"round {number} comes after round {self._rounds[-1]}")
        for node, capture in captures.items():
            self._check(node, capture)

        before = {key: stream.mark() for key, stream in self._streams.items()}
        noted = list(events)
        try:
            for capture in captures.values():
                if capture.samples.shape[1]:
                    self._append(capture)
                else:
                    noted += [{"round": number, "node": capture.node, **event} for event in capture.events]
            for key, stream in self._streams.items():
                if stream.mark() != before.get(key):
                    stream.write_meta()
            self._rounds.append(number)
            self._write_collection(finished=False, events=noted, scene={str(number): scene} if scene else {})
        except BaseException:
            if self._rounds and self._rounds[-1] == number:
                self._rounds.pop()
            self._roll_back(before)
            raise
        self._events += [dict(event) for event in noted]
        if scene:
            self._scene[str(number)] = dict(scene)

    def note(self, *events: Mapping[str, Any]) -> None:
        """Keep events that belong to no recorded round; written with the next round or by `close`."""
        self._events += [dict(event) for event in events]

    def close(self) -> Path:
        """Path of the finished collection; states the hash of every data and meta file. Later calls do nothing."""
        if not self._closed:
            self._closed = True
            try:
                for stream in self._streams.values():
                    stream.write_meta(sha512=stream.hash.hexdigest())
                self._write_collection(finished=True)
            finally:
                for stream in self._streams.values():
                    stream.close()
        return self.collection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, node: str, capture: Capture) -> None:
        name = f"capture of node {node!r}, round {capture.round}"
        if self._closed:
            raise ValueError("these recordings are closed")
        if node != capture.node or not node or node != Path(node).name:
            raise ValueError(f"{name}: {capture.node!r} is no name for its file")
        if capture.samples.ndim != 3 or capture.samples.shape[2] != 2 or capture.samples.dtype not in _DATATYPES:
            raise ValueError(f"{name}: samples must be int16 or float32 of shape (antenna, sample, 2)")
        index, tick = 0, 0
        for stretch in capture.stretches:
            if stretch.start != index or stretch.samples < 1 or stretch.first_tick < tick:
                raise ValueError(f"{name}: stretches must follow one another in samples and in ticks")
            index += stretch.samples
            tick = stretch.first_tick + stretch.samples
        if index != capture.samples.shape[1]:
            raise ValueError(f"{name}: stretches cover {index} of {capture.samples.shape[1]} samples")
        first = self._streams.get((node, 0))
        if first is None or not index:
            return
        antennas = sum(1 for known, _ in self._streams if known == node)
        now = (capture.rate_hz, capture.samples.dtype, capture.samples.shape[0])
        then = (first.rate_hz, first.dtype, antennas)
        if now != then:
            raise ValueError(f"{name}: rate, type and antennas are {now}; before they were {then}")

    def _append(self, capture: Capture) -> None:
        for antenna in range(capture.samples.shape[0]):
            key = (capture.node, antenna)
            if key not in self._streams:
                self._streams[key] = _Stream(self.folder, self.name, capture, antenna, self._nodes)
            self._streams[key].append(capture, antenna)

    def _roll_back(self, before: Mapping[tuple[str, int], _Mark]) -> None:
        for key in list(self._streams):
            if key in before:
                self._streams[key].take_back(before[key])
            else:
                self._streams.pop(key).discard()

    def _write_collection(
        self, *, finished: bool, events: Iterable[Mapping[str, Any]] = (), scene: Mapping[str, Any] | None = None
    ) -> None:
        content = {
            "core:version": SIGMF_VERSION,
            "core:description": f"Recordings of run {self.name}, one per node and antenna",
            "core:extensions": EXTENSIONS,
            "core:streams": [{"name": s.base, "hash": s.meta_hash} for s in self._streams.values()],
            "isac:finished": finished,
            "isac:rounds": self._rounds,
            "isac:events": [*self._events, *events],
            "isac:scene": {**self._scene, **(scene or {})},
            **{f"isac:{key}": value for key, value in self._facts.items()},
        }
        encoded = msgspec.json.format(_encode({"collection": content}), indent=1)
        write_atomically(self.collection, encoded + b"\n")


def write_samples(
    path: Path,
    samples: NDArray[np.complex64],
    *,
    rate_hz: Fraction,
    carrier_hz: Fraction,
    description: str,
    facts: Mapping[str, Any],
    number: int = 0,
) -> Path:
    """Path of the meta file of a cf32_le recording of ``samples``, one channel, one segment of round ``number``.

    ``path`` is the recording's name with or without a SigMF suffix; ``facts`` become ``isac:`` keys.

    Raises
    ------
    UserError
        If a file of that name exists, or its folder does not.
    """
    base = path.with_suffix("") if path.suffix in (DATA_SUFFIX, META_SUFFIX) else path
    data, meta = (base.with_name(base.name + suffix) for suffix in (DATA_SUFFIX, META_SUFFIX))
    for file in (data, meta):
        if file.exists():
            raise UserError(f"{file}: exists; name another file")
    if not base.parent.is_dir():
        raise UserError(f"{base.parent}: there is no such folder")
    content = np.ascontiguousarray(samples, dtype="<c8").tobytes()
    head = {
        "core:datatype": "cf32_le",
        "core:sample_rate": float(rate_hz),
        "core:version": SIGMF_VERSION,
        "core:num_channels": 1,
        "core:description": description,
        "core:recorder": f"isac-testbed {version('isac-testbed')}",
        "core:sha512": hashlib.sha512(content).hexdigest(),
        "core:extensions": EXTENSIONS,
        **{f"isac:{key}": value for key, value in facts.items()},
        "isac:rate_hz": str(rate_hz),
    }
    segment = {
        "core:sample_start": 0,
        "core:frequency": float(carrier_hz),
        "isac:round": number,
        "isac:sample_count": len(samples),
        "isac:carrier_hz": str(carrier_hz),
    }
    encoded = _encode({"global": head, "captures": [segment], "annotations": []})
    write_atomically(data, content)
    write_atomically(meta, msgspec.json.format(encoded, indent=1) + b"\n")
    return meta


class _Stream:
    """The recording of one antenna."""

    def __init__(
        self, folder: Path, collection: str, capture: Capture, antenna: int, nodes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.base = f"{capture.node}-{antenna}"
        self.rate_hz = capture.rate_hz
        self.dtype = capture.samples.dtype
        self.hash = hashlib.sha512()
        self.meta_hash = ""
        self._data = folder / (self.base + DATA_SUFFIX)
        self._meta = folder / (self.base + META_SUFFIX)
        if self._meta.exists():
            raise FileExistsError(f"{self._meta} exists")
        self._global = {
            "core:datatype": _DATATYPES[self.dtype],
            "core:sample_rate": float(self.rate_hz),
            "core:version": SIGMF_VERSION,
            "core:num_channels": 1,
            "core:recorder": f"isac-testbed {version('isac-testbed')}",
            "core:collection": collection,
            "core:extensions": EXTENSIONS,
            "isac:node": capture.node,
            "isac:antenna": antenna,
            "isac:rate_hz": str(self.rate_hz),
            **{f"isac:{key}": value for key, value in nodes.get(capture.node, {}).items()},
        }
        self._segments: list[bytes] = []  # encoded once: the meta file is rewritten after every round
        self._annotations: list[bytes] = []
        self._samples = 0
        self._file = os.open(self._data, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def mark(self) -> _Mark:
        """How far it has come, for `take_back`."""
        return self._samples, len(self._segments), len(self._annotations), self.hash

    def append(self, capture: Capture, antenna: int) -> None:
        """Write an antenna's samples of one round through to the disk, and remember their segments."""
        segments = [_encode(segment) for segment in _segments(capture, self._samples)]
        annotations = [_encode(note) for note in _departures(capture, self._samples)]
        samples: NDArray[Any] = np.ascontiguousarray(capture.samples[antenna], dtype=self.dtype.newbyteorder("<"))
        rest = samples.data.cast("B")
        grown = self.hash.copy()
        grown.update(rest)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fdatasync(self._file)
        self.hash = grown
        self._samples += len(samples)
        self._segments += segments
        self._annotations += annotations

    def write_meta(self, *, sha512: str | None = None) -> None:
        """Replace the meta file by one that tells of everything appended; with the data's hash once that is final."""
        head = self._global if sha512 is None else {**self._global, "core:sha512": sha512}
        encoded = b'{"global": %s,\n"captures": [\n%s\n],\n"annotations": [\n%s\n]}\n' % (
            msgspec.json.format(_encode(head), indent=1),
            b",\n".join(self._segments),
            b",\n".join(self._annotations),
        )
        write_atomically(self._meta, encoded)
        self.meta_hash = hashlib.sha512(encoded).hexdigest()

    def take_back(self, mark: _Mark) -> None:
        """Undo everything appended since ``mark``."""
        self._samples, segments, annotations, self.hash = mark
        del self._segments[segments:], self._annotations[annotations:]
        os.ftruncate(self._file, self._samples * 2 * self.dtype.itemsize)

    def discard(self) -> None:
        """Close it and leave no file behind."""
        self.close()
        self._data.unlink()
        self._meta.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the data file; nothing may be appended after."""
        os.close(self._file)


def _segments(capture: Capture, offset: int) -> Iterable[dict[str, Any]]:
    """Capture segments of one round whose first sample is sample ``offset`` of the file."""
    for number, stretch in enumerate(capture.stretches):
        segment: dict[str, Any] = {
            "core:sample_start": offset + stretch.start,
            "core:frequency": float(capture.carrier_hz),
            "core:global_index": stretch.first_tick,
            "isac:round": capture.round,
            "isac:stream": capture.stream,
            "isac:sample_count": stretch.samples,
            "isac:carrier_hz": str(capture.carrier_hz),
            "isac:full_scale": capture.full_scale,
        }
        if capture.settings is not None:
            segment["isac:settings"] = capture.settings
        if number == 0 and capture.truth is not None:
            segment["isac:truth"] = capture.truth
        if number == 0 and capture.events:
            segment["isac:events"] = capture.events
        yield segment


def _departures(capture: Capture, offset: int) -> Iterable[dict[str, Any]]:
    """Annotations of one round's time-stamped departures, at the sample recorded nearest to each."""
    for departure in sorted(capture.departures, key=lambda item: (item.tick, item.fraction)):
        nearest = 0
        for stretch in capture.stretches:
            if departure.tick >= stretch.first_tick:
                nearest = stretch.start + min(departure.tick - stretch.first_tick, stretch.samples - 1)
        yield {
            "core:sample_start": offset + nearest,
            "core:label": "departure",
            "isac:round": capture.round,
            "isac:departure": {"frame": departure.frame, "tick": departure.tick, "fraction": departure.fraction},
        }


def _encode(content: object) -> bytes:
    return msgspec.json.encode(content, enc_hook=plain_number)
