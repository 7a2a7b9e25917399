"""One SigMF recording: its meta file understood, and held against the size and the looks of its data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.capture import Departure
from testbed.errors import UserError
from testbed.formats.sigmf_keys import DATA_SUFFIX, META_SUFFIX

__all__ = ["Recording", "Span", "check_hash", "convert_or_refuse", "decode_file", "own_keys", "read_recording"]

_DTYPES = {"ci16_le": "<i2", "ci16_be": ">i2", "cf32_le": "<f4", "cf32_be": ">f4"}
_LOOK_SAMPLES = 4096  # looked at to tell floats from integers
_SAME_RATE = 1e-9  # a rate or carrier as a float against the exact one beside it

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Exact = str | int | float | None
T = TypeVar("T")


class _Event(TypedDict):
    code: str
    text: str


class _Segment(msgspec.Struct, rename=lambda name: f"isac:{name}"):
    sample_start: _Count = msgspec.field(name="core:sample_start")
    frequency: float | None = msgspec.field(name="core:frequency", default=None)
    global_index: _Count | None = msgspec.field(name="core:global_index", default=None)
    header_bytes: _Count = msgspec.field(name="core:header_bytes", default=0)
    round: int | None = None
    stream: int | None = None
    sample_count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    carrier_hz: _Exact = None
    full_scale: Annotated[int, msgspec.Meta(ge=1)] | None = None
    settings: dict[str, Any] | None = None
    truth: dict[str, Any] | None = None
    events: tuple[_Event, ...] = ()


class _Global(msgspec.Struct, rename=lambda name: f"core:{name}"):
    datatype: str
    sample_rate: float | None = None
    num_channels: Annotated[int, msgspec.Meta(ge=1)] = 1
    sha512: str | None = None
    dataset: str | None = None
    trailing_bytes: _Count = 0
    node: str | None = msgspec.field(name="isac:node", default=None)
    antenna: _Count | None = msgspec.field(name="isac:antenna", default=None)
    rate_hz: _Exact = msgspec.field(name="isac:rate_hz", default=None)


class _Departure(msgspec.Struct):
    frame: _Count
    tick: int
    fraction: Annotated[float, msgspec.Meta(ge=0, lt=1)]


class _Annotation(msgspec.Struct):
    sample_start: _Count = msgspec.field(name="core:sample_start")
    departure: _Departure | None = msgspec.field(name="isac:departure", default=None)
    round: int | None = msgspec.field(name="isac:round", default=None)


class _Meta(msgspec.Struct):
    head: _Global = msgspec.field(name="global")
    captures: list[_Segment]
    annotations: list[_Annotation] = []


@dataclass(frozen=True)
class Span:
    """One capture segment: a stretch without loss."""

    round: int
    start: int
    """First sample in the file."""
    count: int
    tick: int
    """Device's counter at the first sample."""
    stream: int
    carrier_hz: Fraction
    full_scale: int
    segment: _Segment = field(compare=False)
    """As it stands in the file: settings, truth and events."""


@dataclass(frozen=True)
class Recording:
    """One meta file and its data."""

    meta: Path
    data: Path
    node: str
    antenna: int
    """Antenna of the first channel."""
    dtype: np.dtype[Any]
    channels: int
    rate_hz: Fraction
    spans: tuple[Span, ...]
    departures: tuple[tuple[int, Departure], ...]
    """Time-stamped departures, each with its round."""
    facts: dict[str, Any]
    """The global ``isac:`` keys, without the prefix."""
    events: tuple[dict[str, Any], ...]
    """What was found amiss without being an error."""

    def samples(self, channel: int, span: Span) -> NDArray[Any]:
        """Samples of ``span`` on one channel, shape (sample, 2), as they lie in the file."""
        shape = (span.count, self.channels, 2)
        offset = span.start * self.channels * 2 * self.dtype.itemsize
        try:
            mapped = np.memmap(self.data, self.dtype, mode="r", offset=offset, shape=shape)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.data}: cannot be read: {error}") from error
        return mapped[:, channel]


def read_recording(meta: Path, *, committed: Set[int] | None, verify: bool) -> Recording:
    """Recording whose meta file is ``meta``, with its spans in the order of the file.

    ``committed`` are the rounds that the collection calls whole, None if it does not say; others are left out.

    Raises
    ------
    UserError
        If the file is missing, not understood, at odds with itself or its data, or (``verify``) fails its hash.
    """
    raw = decode_file(meta)
    content = convert_or_refuse(raw, _Meta, meta)
    head = content.head
    if head.datatype not in _DTYPES:
        raise UserError(f"{meta}: core:datatype is {head.datatype!r}; readable are {', '.join(_DTYPES)}")
    if head.trailing_bytes or any(segment.header_bytes for segment in content.captures):
        raise UserError(f"{meta}: header or trailing bytes in the data cannot be read; wanted is a plain .sigmf-data")
    dtype = np.dtype(_DTYPES[head.datatype])
    base = meta.name.removesuffix(META_SUFFIX)
    name = head.dataset or base + DATA_SUFFIX
    data = meta.parent / name
    if name != data.name or not os.path.isfile(data):  # Path.is_file raises for names too long for the system
        raise UserError(f"{meta}: its data file {name!r} is missing")
    samples, odd_bytes = divmod(data.stat().st_size, 2 * dtype.itemsize * head.num_channels)

    spans = _spans(meta, content, dtype, samples)
    departures = _departures(meta, content.annotations, spans, committed)
    spans = [span for span in spans if committed is None or span.round in committed]
    node, antenna = _place(base, head)
    recording = Recording(
        meta=meta,
        data=data,
        node=node,
        antenna=antenna,
        dtype=dtype,
        channels=head.num_channels,
        rate_hz=_exact(meta, "core:sample_rate", head.sample_rate, "isac:rate_hz", head.rate_hz),
        spans=tuple(spans),
        departures=tuple(departures),
        facts=own_keys(raw["global"]),
        events=tuple({"node": node, **event} for event in _check_size(data, content, spans, samples, odd_bytes)),
    )
    if verify and head.sha512 is not None:
        check_hash(data, head.sha512, f"core:sha512 in {meta.name}")
    _check_looks(recording)
    return recording


def decode_file(path: Path) -> dict[str, Any]:
    """JSON object in the file at ``path``; a `UserError` if there is none."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a SigMF file: a JSON object is wanted")
    return content


def convert_or_refuse(content: object, kind: type[T], path: Path) -> T:
    """``content`` as ``kind``; a `UserError` that names the key if it does not fit."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}") from error


def check_hash(path: Path, stated: str, where: str) -> None:
    """Raise `UserError` if the SHA-512 of the file is not the one ``stated``."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    if found != stated.lower():
        raise UserError(f"{path}: damaged or edited: its SHA-512 is {found[:12]}…, {where} states {stated[:12]}…")


def own_keys(section: dict[str, Any]) -> dict[str, Any]:
    """The ``isac:`` keys of ``section``, without the prefix."""
    return {key.removeprefix("isac:"): value for key, value in section.items() if key.startswith("isac:")}


def _place(base: str, head: _Global) -> tuple[str, int]:
    """Node and antenna that a recording belongs to: as stated, else from its file's name."""
    name, _, number = base.rpartition("-")
    numbered = bool(name) and number.isascii() and number.isdigit()
    node = head.node or (name if numbered else base)
    antenna = head.antenna if head.antenna is not None else int(number) if numbered else 0
    return node, antenna


def _exact(meta: Path, key: str, stated: float | None, exact_key: str, exact: _Exact) -> Fraction:
    """Positive number stated as a float, as an exact rational, or both."""
    if stated is None and exact is None:
        raise UserError(f"{meta}: {key} is missing; wanted is a number of hertz")
    try:
        value = Fraction(str(stated if exact is None else exact))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f'{meta}: {exact_key} is {exact!r}; wanted is a number or "p/q"') from error
    if value <= 0:
        raise UserError(f"{meta}: {key} is {float(value):g}; wanted is a number of hertz above 0")
    if stated is not None and abs(stated / float(value) - 1) > _SAME_RATE:
        raise UserError(f"{meta}: {key} is {stated:g}, but {exact_key} beside it says {float(value):g}")
    return value


def _spans(meta: Path, content: _Meta, dtype: np.dtype[Any], samples: int) -> list[Span]:
    """Capture segments with what they leave open filled in, checked against one another."""
    segments = content.captures
    if not segments:
        raise UserError(f"{meta}: captures is empty; wanted is at least one segment, with core:frequency")
    stated = [segment.round is not None for segment in segments]
    if any(stated) != all(stated):
        raise UserError(f"{meta}: captures[{stated.index(False)}] has no isac:round, others have")
    spans: list[Span] = []
    for index, segment in enumerate(segments):
        following = segments[index + 1].sample_start if index + 1 < len(segments) else None
        count = segment.sample_count
        if count is None:
            count = (samples if following is None else following) - segment.sample_start
        if count < 1 or (following is not None and segment.sample_start + count > following):
            raise _misplaced(meta, index, segment, following, samples)
        before = spans[-1] if spans else None
        number = index if segment.round is None else segment.round
        stream, tick = _counter(segment, before, number)
        span = Span(
            round=number,
            start=segment.sample_start,
            count=count,
            tick=tick,
            stream=stream,
            carrier_hz=_exact(
                meta, f"captures[{index}] core:frequency", segment.frequency, "isac:carrier_hz", segment.carrier_hz
            ),
            full_scale=segment.full_scale or (1 if dtype.kind == "f" else 1 << 15),
            segment=segment,
        )
        if before is not None:
            _check_order(meta, index, before, span)
        spans.append(span)
    return spans


def _misplaced(meta: Path, index: int, segment: _Segment, following: int | None, samples: int) -> UserError:
    where = f"{meta}: captures[{index}] starts at sample {segment.sample_start}"
    if following is None:
        return UserError(f"{where}, but the data hold {samples}: truncated, or core:datatype is wrong")
    return UserError(f"{where} and overlaps captures[{index + 1}], which starts at {following}")


def _counter(segment: _Segment, before: Span | None, number: int) -> tuple[int, int]:
    """Stream and first tick of a segment.

    Without a counter the clock starts at 0 with the recording, and no segment continues another. With one, but no
    stream stated, a counter that falls back has been started anew.
    """
    if segment.global_index is None:
        anew = 0 if before is None else before.stream + (number != before.round)
        return anew if segment.stream is None else segment.stream, segment.sample_start
    if segment.stream is not None or before is None:
        return segment.stream or 0, segment.global_index
    return before.stream + (segment.global_index < before.tick + before.count), segment.global_index


def _check_order(meta: Path, index: int, before: Span, span: Span) -> None:
    """Refuse two successive segments that contradict each other."""
    where = f"{meta}: captures[{index}]"
    if span.round < before.round:
        raise UserError(f"{where} is of round {span.round}, after round {before.round}; rounds must ascend")
    if span.round == before.round and span.segment.global_index is None:
        raise UserError(f"{where} has no core:global_index: how much was lost before it in round {span.round}?")
    if span.stream == before.stream and span.tick < before.tick + before.count:
        raise UserError(
            f"{where} has core:global_index {span.tick}, inside or before the segment that ends at "
            f"{before.tick + before.count}: segments overlap"
        )
    if span.round == before.round and (span.stream, span.carrier_hz, span.full_scale) != (
        before.stream,
        before.carrier_hz,
        before.full_scale,
    ):
        raise UserError(f"{where} has another stream, carrier or full scale than round {span.round} began with")


def _departures(
    meta: Path, annotations: Sequence[_Annotation], spans: Sequence[Span], committed: Set[int] | None
) -> list[tuple[int, Departure]]:
    found = []
    for index, note in enumerate(annotations):
        if note.departure is None:
            continue
        inside = [span.round for span in spans if span.start <= note.sample_start < span.start + span.count]
        number = inside[0] if note.round is None and inside else note.round
        if number is None:
            raise UserError(f"{meta}: annotations[{index}] isac:departure lies in no capture segment")
        if committed is None or number in committed:
            departure = note.departure
            found.append((number, Departure(departure.frame, departure.tick, departure.fraction)))
    return found


def _check_size(
    data: Path, content: _Meta, spans: Sequence[Span], samples: int, odd_bytes: int
) -> list[dict[str, Any]]:
    """Events for data beyond the last whole round; a `UserError` if data are missing or belong to nothing."""
    last = spans[-1] if spans else None
    end = last.start + last.count if last else 0
    if last is not None and samples < end:
        raise UserError(
            f"{data}: holds {samples} samples, but round {last.round} ends at sample {end}: truncated, or "
            "core:datatype or core:num_channels is wrong"
        )
    if samples == end and not odd_bytes:
        return []
    if content.head.sha512 is not None or content.captures[-1].sample_count is None:
        raise UserError(
            f"{data}: its size is not that of the {end} samples stated: truncated, or core:datatype or "
            "core:num_channels is wrong"
        )
    text = f"{data.name} goes on for {samples - end} samples after the last whole round: left out"
    return [{"code": "unfinished-round", "text": text}]


def _check_looks(recording: Recording) -> None:
    """Refuse data that are plainly floats called integers, or integers called floats.

    As float32, pairs of small int16 are NaN or far below any signal, and as int16, floats near one would all have
    imaginary parts of 13,000 to 17,000 counts either sign.
    """
    if not recording.spans:
        return
    looked = np.concatenate(
        [recording.samples(0, span)[:_LOOK_SAMPLES] for span in (recording.spans[0], recording.spans[-1])]
    )
    wrong = ""
    if recording.dtype.kind == "f":
        if not np.isfinite(looked).all() or np.abs(looked).max(initial=0.0) > 1e6:
            wrong = "holds values that no receiver gives"
    else:
        low = looked[:, 0].astype("<u2").astype("<u4")
        floats = (low | looked[:, 1].astype("<u2").astype("<u4") << 16).view("<f4")
        with np.errstate(invalid="ignore"):  # most of them are NaN
            size = np.abs(floats[floats != 0])
            if size.size >= 64 and np.mean((size > 1e-7) & (size < 4.0)) > 0.99:
                wrong = "looks like 32-bit floats"
    if wrong:
        raise UserError(f"{recording.data}: {wrong}: is core:datatype really c{_kind(recording.dtype)}?")


def _kind(dtype: np.dtype[Any]) -> str:
    return next(name[1:] for name, text in _DTYPES.items() if np.dtype(text) == dtype)
