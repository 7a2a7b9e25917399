"""SigMF recordings of a run, this testbed's or anyone's who keeps to the design, as captures.

Only the meta files are read at first, and checked against the size of the data; samples are read round by round.
Every fault is one line that names the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture, Stretch
from testbed.errors import UserError
from testbed.formats.sigmf_keys import COLLECTION_SUFFIX, DATA_SUFFIX, META_SUFFIX
from testbed.formats.sigmf_meta import (
    Recording,
    Span,
    check_hash,
    convert_or_refuse,
    decode_file,
    own_keys,
    read_recording,
)

__all__ = ["Recordings", "read_recordings"]

_NEAR_RATE = 1e-4  # what a device applied against what the experiment asked for: far above any step or crystal


@dataclass(frozen=True)
class Recordings:
    """Captures of a run on disk, by round and node."""

    folder: Path
    rounds: tuple[int, ...]
    """Rounds of which at least one node's capture is whole, ascending."""
    nodes: Mapping[str, Mapping[str, Any]]
    """Facts of each node: the ``isac:`` keys of its first antenna's recording, without the prefix."""
    events: tuple[Mapping[str, Any], ...]
    """Events of the run that belong to no capture, then what was found amiss while reading."""
    scene: Mapping[str, Any]
    """What a simulation stated of paths and targets, by round number as text; empty otherwise."""
    facts: Mapping[str, Any]
    """The collection's other ``isac:`` keys, without the prefix."""
    _ports: Mapping[str, tuple[_Port, ...]] = field(repr=False)

    def captures(self, number: int) -> dict[str, Capture]:
        """Captures of round ``number`` by node, in the order of the collection; nodes without one are left out.

        Samples are as recorded: int16 pairs with their full scale, or float32 pairs with full scale 1.

        Raises
        ------
        KeyError
            If there is no such round.
        UserError
            If the data cannot be read.
        """
        if number not in self.rounds:
            raise KeyError(number)
        found = {}
        for node, ports in self._ports.items():
            spans = [span for span in ports[0].recording.spans if span.round == number]
            if spans:
                found[node] = _capture(node, number, ports, spans)
        return found

    def check_against(self, *, rate_hz: float, carrier_hz: float, antennas: Mapping[str, int]) -> None:
        """Hold the recordings against the experiment they are processed as.

        Raises
        ------
        UserError
            If a node is recorded that ``antennas`` (number by node) does not have, or its antennas, rate or carrier
            are others.
        """
        for node, recorded in self._ports.items():
            recording = recorded[0].recording
            if node not in antennas:
                raise UserError(f"{recording.meta}: node {node!r} is not in the scenario ({', '.join(antennas)})")
            if len(recorded) != antennas[node]:
                raise UserError(
                    f"{recording.meta}: node {node!r} was recorded with {len(recorded)} antenna(s), "
                    f"the scenario has {antennas[node]}"
                )
            if abs(float(recording.rate_hz) / rate_hz - 1) > _NEAR_RATE:
                raise UserError(
                    f"{recording.meta}: core:sample_rate is {float(recording.rate_hz):g} Hz, "
                    f"the scenario has {rate_hz:g} Hz"
                )
            for span in recording.spans:
                if abs(float(span.carrier_hz) / carrier_hz - 1) > _NEAR_RATE:
                    raise UserError(
                        f"{recording.meta}: core:frequency is {float(span.carrier_hz):g} Hz in round {span.round}, "
                        f"the scenario has {carrier_hz:g} Hz"
                    )


@dataclass(frozen=True)
class _Port:
    """One antenna of a node: a channel of a recording."""

    recording: Recording
    channel: int


class _Stream(msgspec.Struct):
    name: str
    hash: str | None = None


class _RunEvent(TypedDict):
    round: NotRequired[int | None]
    node: NotRequired[str | None]
    code: str
    text: str


class _Collection(msgspec.Struct):
    streams: list[_Stream | list[str]] = msgspec.field(name="core:streams", default_factory=list)
    finished: bool = msgspec.field(name="isac:finished", default=True)
    rounds: list[int] | None = msgspec.field(name="isac:rounds", default=None)
    events: list[_RunEvent] = msgspec.field(name="isac:events", default_factory=list)
    scene: dict[str, Any] = msgspec.field(name="isac:scene", default_factory=dict)


class _CollectionFile(msgspec.Struct):
    collection: _Collection


def read_recordings(path: Path | str, *, verify: bool = False) -> Recordings:
    """Recordings at ``path``: a run's folder, a collection, a folder of recordings, or one recording.

    Accepted are ``ci16`` and ``cf32`` data, one antenna per recording or interleaved by ``core:num_channels``. The
    node is ``isac:node``, else the file's name up to the last hyphen and number, which is the antenna. Without
    ``isac:round`` each capture segment is a round; without ``core:global_index`` the clock counts from the
    recording's first sample, and every segment is a stream of its own. In a recording without a hash, data beyond
    what the meta file states are an unfinished round: left out, and told in `Recordings.events`.

    Parameters
    ----------
    path : path
    verify : bool
        Hold data and meta files against the hashes stated, where any are: reads everything once.

    Raises
    ------
    UserError
        If files are missing, cannot be understood, contradict one another or the size of the data, or fail their
        hash: one line that names the file.
    """
    place = _locate(Path(path))
    collection = place.collection
    if verify and collection.finished:
        for meta, stated in place.metas:
            if stated is not None:
                check_hash(meta, stated, f"the collection {place.name}")
    committed = None if collection.rounds is None else set(collection.rounds)
    recordings = [read_recording(meta, committed=committed, verify=verify) for meta, _ in place.metas]
    ports: dict[str, dict[int, _Port]] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for recording in recordings:
        facts.setdefault(recording.node, recording.facts)
        places = ports.setdefault(recording.node, {})
        for channel in range(recording.channels):
            antenna = recording.antenna + channel
            if antenna in places:
                raise UserError(f"{recording.meta}: antenna {antenna} of node {recording.node!r} is recorded twice")
            places[antenna] = _Port(recording, channel)
    joined = {node: _joined(node, places, alone=place.alone) for node, places in ports.items()}
    rounds = sorted({span.round for known in joined.values() for span in known[0].recording.spans})
    if not rounds:
        raise UserError(f"{place.folder}: holds no whole round")
    return Recordings(
        folder=place.folder,
        rounds=tuple(rounds),
        nodes=facts,
        events=(*collection.events, *(event for recording in recordings for event in recording.events)),
        scene=collection.scene,
        facts=place.facts,
        _ports=joined,
    )


@dataclass(frozen=True)
class _Place:
    """What a path given by the user stands for."""

    folder: Path
    metas: list[tuple[Path, str | None]]
    """Meta files, each with the hash that the collection states of it."""
    collection: _Collection
    name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    """A single recording was named: it need not be its node's first antenna."""


def _locate(path: Path) -> _Place:
    """Meta files that ``path`` stands for, and the collection over them if there is one."""
    if path.is_dir():
        folder = path / "recordings" if (path / "recordings").is_dir() else path
        collections = sorted(folder.glob("*" + COLLECTION_SUFFIX))
        if len(collections) > 1:
            names = ", ".join(each.name for each in collections)
            raise UserError(f"{folder}: holds {len(collections)} collections ({names}): name one of them")
        if collections:
            return _collected(collections[0])
        metas = sorted(folder.glob("*" + META_SUFFIX))
        if not metas:
            raise UserError(f"{path}: holds no SigMF recording (*{COLLECTION_SUFFIX} or *{META_SUFFIX})")
        return _Place(folder, [(meta, None) for meta in metas], _Collection())
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    if path.suffix == COLLECTION_SUFFIX:
        return _collected(path)
    if path.suffix in (META_SUFFIX, DATA_SUFFIX):
        return _Place(path.parent, [(path.with_suffix(META_SUFFIX), None)], _Collection(), alone=True)
    raise UserError(f"{path}: not a SigMF recording; wanted is a folder, *{COLLECTION_SUFFIX} or *{META_SUFFIX}")


def _collected(path: Path) -> _Place:
    raw = decode_file(path)
    collection = convert_or_refuse(raw, _CollectionFile, path).collection
    metas = []
    for stream in collection.streams:
        name, stated = (stream.name, stream.hash) if isinstance(stream, _Stream) else (*stream, "")[:2]
        name = name.removesuffix(META_SUFFIX)
        meta = path.parent / (name + META_SUFFIX)
        if meta.name != name + META_SUFFIX or not os.path.isfile(meta):
            raise UserError(f"{path}: its recording {name + META_SUFFIX} is missing")
        metas.append((meta, stated))
    facts = own_keys(raw["collection"])
    for known in _Collection.__struct_encode_fields__:
        facts.pop(known.removeprefix("isac:"), None)
    return _Place(path.parent, metas, collection, path.name, facts)


def _joined(node: str, ports: Mapping[int, _Port], *, alone: bool) -> tuple[_Port, ...]:
    """Ports of ``node`` in the order of its antennas, which must agree in everything but the samples."""
    missing = set(range(max(ports))) - set(ports)
    if missing and not alone:
        raise UserError(f"{ports[max(ports)].recording.meta}: antenna {min(missing)} of node {node!r} is missing")
    ordered = tuple(ports[antenna] for antenna in sorted(ports))
    first = ordered[0].recording
    for port in ordered[1:]:
        other = port.recording
        if (other.rate_hz, other.dtype) != (first.rate_hz, first.dtype):
            raise UserError(f"{other.meta}: core:sample_rate or core:datatype differ from those of {first.meta.name}")
        if other.spans != first.spans:
            differ = [b for a, b in zip_longest(first.spans, other.spans) if a != b and b is not None]
            where = f"round {differ[0].round}" if differ else "its last rounds"
            raise UserError(f"{other.meta}: capture segments of {where} differ from those of {first.meta.name}")
    return ordered


def _capture(node: str, number: int, ports: Sequence[_Port], spans: Sequence[Span]) -> Capture:
    recording = ports[0].recording
    total = sum(span.count for span in spans)
    native = np.dtype(np.float32 if recording.dtype.kind == "f" else np.int16)
    samples: NDArray[Any] = np.empty((len(ports), total, 2), native)
    stretches, start = [], 0
    for span in spans:
        for antenna, port in enumerate(ports):
            samples[antenna, start : start + span.count] = port.recording.samples(port.channel, span)
        stretches.append(Stretch(start, span.count, span.tick))
        start += span.count
    first = spans[0].segment
    return Capture(
        node=node,
        round=number,
        samples=samples,
        full_scale=spans[0].full_scale,
        rate_hz=recording.rate_hz,
        carrier_hz=spans[0].carrier_hz,
        stretches=tuple(stretches),
        stream=spans[0].stream,
        departures=tuple(departure for where, departure in recording.departures if where == number),
        settings=first.settings,
        truth=first.truth,
        events=tuple({"code": event["code"], "text": event["text"]} for event in first.events),
    )
