"""Reader of WiFi CSI captures: Intel 5300, Atheros, FeitCSI (Intel AX2xx) and PicoScenes files.

The kind is recognised by the file's own framing. Every record is walked and checked here first; the decoder of
csiread, which trusts lengths, only ever sees a copy made of checked records.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray
from dsp.standards.wifi_csi import HE_SPACING_HZ, SPACING_HZ, grouped_tones, remove_tone_rotation, tones
from testbed.errors import UserError

__all__ = ["CsiCapture", "read_csi"]


@dataclass(frozen=True)
class CsiCapture:
    """Packets of one transmitter as one card reported them."""

    kind: str
    """Card or tool: "Intel 5300", "Atheros", "FeitCSI", "PicoScenes"."""
    values: ComplexArray
    """CSI, shape (stream, antenna, packet, subcarrier); all zero where a packet lacks an antenna or stream."""
    time_s: FloatArray
    """Receiver's clock at each packet, seconds after the first one, shape (packet,)."""
    subcarrier_hz: FloatArray
    """Baseband frequency of each subcarrier, ascending."""
    carrier_hz: float | None
    """Centre of the channel, where the file says it."""
    missing_packets: int | None
    """Packets that the card's own counter shows as lost; None where it keeps none."""
    notes: tuple[str, ...]
    """What was unusual in the file and what was done about it, one sentence each."""
    sequence: NDArray[np.int64] | None = None
    """The card's own counter, unwrapped, where it keeps one."""


@dataclass(frozen=True)
class _Records:
    """Checked records of one kind: the file's bytes, and (start, length) of each record in them."""

    data: bytes
    spans: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]


def read_csi(path: Path) -> CsiCapture:
    """The CSI capture in a file, of whichever kind it is.

    Raises
    ------
    UserError
        If the file cannot be read, is of no known kind, or holds no complete CSI packet.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise UserError(f"{path}: is empty, expected a WiFi CSI capture")
    for walk, decode in _KINDS:
        records = walk(data)
        if records is not None and records.spans:
            capture = decode(records, path)
            if not np.any(capture.values):
                raise UserError(f"{path}: all CSI in it is zero")
            return capture
    raise UserError(
        f"{path}: is no CSI capture of a known kind (Intel 5300, Atheros, FeitCSI, PicoScenes), "
        "or holds no complete packet"
    )


def _walk(
    data: bytes,
    length_at: Callable[[bytes, int], int | None],
    wanted: Callable[[bytes, int, int], bool | None],
    *,
    least: int,
) -> _Records | None:
    """Records from the start on, until the framing breaks; None if it breaks at the very first one.

    ``length_at`` gives the length of the record at an offset, or None if no record can start there; ``wanted``
    says whether it is a good CSI record, None if it is no CSI at all. ``least`` bytes are needed to tell.
    """
    offset, spans, odd = 0, [], 0
    notes: list[str] = []
    while offset < len(data):
        length = length_at(data, offset) if len(data) - offset >= least else None
        if length is None or offset + length > len(data):
            if offset == 0:
                return None
            rest = len(data) - offset
            cut = length is not None or rest < least
            notes.append(
                f"the last {rest} bytes are a packet cut short: left out"
                if cut
                else f"the framing breaks at byte {offset}: the last {rest} bytes are left out"
            )
            break
        good = wanted(data, offset, length)
        if good:
            spans.append((offset, length))
        elif good is False:
            odd += 1
        offset += length
    if odd and spans:
        notes.append(f"{odd} records are damaged or of an unknown form: left out")
    return _Records(data, tuple(spans), tuple(notes))


def _decoded(content: bytes, decode: Callable[[str], Any]) -> Any:
    """What ``decode`` makes of a temporary file with ``content``."""
    handle, name = tempfile.mkstemp(suffix=".csi")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return decode(name)
    finally:
        os.unlink(name)


def _unwrapped(counter: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """A counter of ``bits`` bits made continuous; steps back of less than half its period stay steps back."""
    period = 1 << bits
    steps = np.diff(counter.astype(np.int64))
    steps = np.remainder(steps + period // 2, period) - period // 2
    return np.concatenate([[0], np.cumsum(steps)]) + int(counter[0])


def _in_order(time_s: FloatArray, notes: list[str]) -> FloatArray:
    """Times after the first packet; a clock that steps back is reported and replaced by the packet number."""
    if np.any(np.diff(time_s) < 0):
        notes.append("the card's time stamps step back: packets are taken as one microsecond apart there")
        steps = np.maximum(np.diff(time_s), 1e-6)
        return np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(time_s - time_s[0])


def _common(shapes: Sequence[Any], what: str, notes: list[str]) -> tuple[Any, list[int]]:
    """The most frequent of some per-packet properties, and the packets that have it; the others are reported."""
    count = Counter(shapes)
    first = count.most_common(1)[0][0]
    if len(count) > 1:
        notes.append(f"{len(shapes) - count[first]} packets have another {what}: left out")
    return first, [index for index, shape in enumerate(shapes) if shape == first]


# Intel 5300 (Linux 802.11n CSI Tool): big-endian length, code, beamforming notification.


def _intel_length(data: bytes, offset: int) -> int | None:
    length = int.from_bytes(data[offset : offset + 2], "big")
    # Codes of the tool's log are 0xbb (CSI), 0xc1 (packet); others are rare, but all have the high bit.
    return length + 2 if length >= 1 and data[offset + 2] >= 0x80 else None


def _intel_wanted(data: bytes, offset: int, length: int) -> bool | None:
    if data[offset + 2] != 0xBB:
        return None
    if length < 23:
        return False
    antennas, streams, selection = data[offset + 11], data[offset + 12], data[offset + 18]
    size = int.from_bytes(data[offset + 19 : offset + 21], "little")
    if not (1 <= antennas <= 3 and 1 <= streams <= 3):
        return False
    chains = [(selection >> (2 * chain)) & 3 for chain in range(antennas)]
    return (
        size == 60 * antennas * streams + 12 and length == 23 + size and max(chains) < 3 and len({*chains}) == antennas
    )


def _walk_intel(data: bytes) -> _Records | None:
    return _walk(data, _intel_length, _intel_wanted, least=3)


def _decode_intel(records: _Records, path: Path) -> CsiCapture:
    import csiread

    content = b"".join(records.data[start : start + length] for start, length in records.spans)

    def decode(name: str) -> Any:
        reader = csiread.Intel(name, nrxnum=3, ntxnum=3, if_report=False, bufsize=len(records.spans))
        reader.read()
        return reader

    reader = _decoded(content, decode)
    notes = list(records.notes)
    widths = [40 if int(rate) & 0x800 else 20 for rate in reader.rate]
    width, kept = _common(widths, "channel width", notes)
    csi = np.asarray(reader.csi)[kept].transpose(3, 2, 0, 1)
    permutations = Counter(tuple(int(chain) for chain in row) for row in reader.perm[kept])
    if len(permutations) > 1:
        notes.append(f"the antenna permutation changes ({len(permutations)} of them): taken back packet by packet")
    sequence: NDArray[np.int64] | None = _unwrapped(reader.bfee_count[kept], 16)
    missing: int | None = None
    if sequence is not None and np.all(np.diff(sequence) >= 1):
        missing = int(sequence[-1] - sequence[0]) + 1 - len(sequence)
    else:
        sequence = None
        notes.append("the card's packet counter does not run: lost packets cannot be counted")
    time_s = _in_order(_unwrapped(reader.timestamp_low[kept], 32) * 1e-6, notes)
    index = grouped_tones(width)
    return _capture("Intel 5300", csi, time_s, index * SPACING_HZ, None, missing, notes, sequence)


# Atheros CSI Tool: length, 25 bytes of status, CSI of ten bits a number, payload; byte order as on the router.


def _atheros_fields(data: bytes, offset: int, order: str) -> tuple[int, int, int, int, int, int]:
    """Length, CSI bytes, tones, receive antennas, streams, payload bytes."""
    mark = "<" if order == "little" else ">"
    length, _, size = struct.unpack_from(f"{mark}HQH", data, offset)
    tone_count, antennas, streams = data[offset + 18 : offset + 21]
    (payload,) = struct.unpack_from(f"{mark}H", data, offset + 25)
    return length, size, tone_count, antennas, streams, payload


def _walk_atheros(data: bytes, order: str) -> _Records | None:
    def length_at(data: bytes, offset: int) -> int | None:
        length, size, *_, payload = _atheros_fields(data, offset, order)
        # Routers differ in whether the trailing length field of two bytes is counted.
        return length + 2 if length >= 25 and 0 <= length - 25 - size - payload <= 2 else None

    def wanted(data: bytes, offset: int, length: int) -> bool | None:
        _, size, tone_count, antennas, streams, _ = _atheros_fields(data, offset, order)
        if size == 0:
            return None  # a packet that the card took no CSI of
        shape_good = tone_count in (56, 114) and 1 <= antennas <= 3 and 1 <= streams <= 3
        return shape_good and size >= -(-tone_count * antennas * streams * 20 // 8)

    return _walk(data, length_at, wanted, least=27)


def _decode_atheros(records: _Records, path: Path, order: str) -> CsiCapture:
    import csiread

    notes = list(records.notes)
    fields = [_atheros_fields(records.data, start, order) for start, _ in records.spans]
    tone_count, kept = _common([field[2] for field in fields], "number of tones", notes)
    channels = [int.from_bytes(records.data[s + 12 : s + 14], order) for s, _ in records.spans]  # type: ignore[arg-type]
    mark = "<" if order == "little" else ">"
    content = b""
    for packet in kept:
        start, size = records.spans[packet][0], fields[packet][1]
        # The payload is left out: csiread's buffer for it is smaller than a payload may be.
        head = records.data[start + 2 : start + 25] + b"\0\0"
        content += struct.pack(f"{mark}H", 25 + size) + head + records.data[start + 27 : start + 27 + size]

    def decode(name: str) -> Any:
        reader = csiread.Atheros(name, nrxnum=3, ntxnum=3, tones=tone_count, if_report=False, bufsize=len(kept))
        reader.read(order)
        return reader

    # csiread takes a record's end for the file's end unless four more bytes follow.
    reader = _decoded(content + b"\0\0\0\0", decode)
    if len(reader.csi) != len(kept):
        raise UserError(f"{path}: only {len(reader.csi)} of {len(kept)} packets could be decoded")
    csi = np.asarray(reader.csi).transpose(3, 2, 0, 1)
    if order == "big":
        notes.append("byte order is that of a big-endian router")
    time_s = _in_order(
        np.diff(reader.timestamp.astype(np.uint64), prepend=reader.timestamp[:1]).astype(np.int64).cumsum() * 1e-6,
        notes,
    )
    channel = channels[kept[0]] * 1e6 if 2000 < channels[kept[0]] < 7200 else None
    return _capture("Atheros", csi, time_s, tones(tone_count)[0] * SPACING_HZ, channel, None, notes, None)


# FeitCSI (Intel AX200/AX210): 272 bytes of header, then int16 pairs; https://feitcsi.kuskosoft.com/csi_format.

_FEIT_HEADER = 272
_FEIT_HIGH_EFFICIENCY = 4
_FEIT_CLOCK_HZ = 320e6


def _feit_length(data: bytes, offset: int) -> int | None:
    (size,) = struct.unpack_from("<I", data, offset)
    antennas, streams = data[offset + 46 : offset + 48]
    (tone_count,) = struct.unpack_from("<I", data, offset + 52)
    sensible = 1 <= antennas <= 4 and 1 <= streams <= 4 and 1 <= tone_count <= 4096
    return _FEIT_HEADER + size if sensible and size == 4 * antennas * streams * tone_count else None


def _feit_efficiency(data: bytes, offset: int) -> bool:
    (flags,) = struct.unpack_from("<I", data, offset + 92)
    return (int(flags) >> 8) & 7 >= _FEIT_HIGH_EFFICIENCY


def _feit_wanted(data: bytes, offset: int, length: int) -> bool:
    (tone_count,) = struct.unpack_from("<I", data, offset + 52)
    try:
        tones(tone_count, high_efficiency=_feit_efficiency(data, offset))
    except ValueError:
        return False
    return True


def _walk_feit(data: bytes) -> _Records | None:
    return _walk(data, _feit_length, _feit_wanted, least=_FEIT_HEADER)


def _decode_feit(records: _Records, path: Path) -> CsiCapture:
    data, notes = records.data, list(records.notes)
    starts = [start for start, _ in records.spans]
    _, kept = _common([data[s + 68 : s + 74] for s in starts], "transmitter", notes)
    starts = [starts[k] for k in kept]
    shapes = [(struct.unpack_from("<I", data, s + 52)[0], _feit_efficiency(data, s)) for s in starts]
    (tone_count, efficient), kept = _common(shapes, "channel width or format", notes)
    starts = [starts[k] for k in kept]
    index, pilots = tones(tone_count, high_efficiency=efficient)
    antennas = max(data[s + 46] for s in starts)
    streams = max(data[s + 47] for s in starts)
    csi = np.zeros((streams, antennas, len(starts), tone_count), dtype=np.complex64)
    for packet, s in enumerate(starts):
        shape = (data[s + 46], data[s + 47], tone_count)
        pairs = np.frombuffer(data, "<i2", 2 * shape[0] * shape[1] * shape[2], s + _FEIT_HEADER).reshape(*shape, 2)
        # The card reports the conjugate: the timing slope and the 40 MHz rotation both have the wrong sign.
        csi[: shape[1], : shape[0], packet] = (pairs[..., 0] - 1j * pairs[..., 1]).transpose(1, 0, 2)
    csi, index = csi[..., ~pilots], index[~pilots]
    notes.append(f"{np.count_nonzero(pilots)} pilot tones, which the card reports as noise, are left out")
    if not efficient:
        csi, rotated = remove_tone_rotation(csi, index)
        if rotated:
            notes.append("the tone rotation of the wide channel was still in the report: removed")
    fine = _unwrapped(np.array([struct.unpack_from("<I", data, s + 8)[0] for s in starts], dtype=np.int64), 32)
    coarse = _unwrapped(np.array([struct.unpack_from("<I", data, s + 88)[0] for s in starts], dtype=np.int64), 32)
    wrap = 2.0**32 / _FEIT_CLOCK_HZ
    elapsed = (fine - fine[0]) / _FEIT_CLOCK_HZ
    # The 320 MHz counter wraps every 13.4 s; the microsecond counter says how often.
    time_s = _in_order(elapsed + wrap * np.rint(((coarse - coarse[0]) * 1e-6 - elapsed) / wrap), notes)
    channel = struct.unpack_from("<I", data, starts[0] + 176)[0] * 1e3
    spacing = HE_SPACING_HZ if efficient else SPACING_HZ
    return _capture(
        "FeitCSI", csi, time_s, index * spacing, channel if 2e9 < channel < 7.2e9 else None, None, notes, None
    )


# PicoScenes: length, magic, version, then named segments.

_PICO_MAGIC = 0x20150315
_PICO_BITS = {0x9300: "Atheros 9300", 0x5300: "Intel 5300"}


def _pico_length(data: bytes, offset: int) -> int | None:
    length, magic, version = struct.unpack_from("<IIH", data, offset)
    return length + 4 if magic == _PICO_MAGIC and version == 1 and length >= 7 else None


def _pico_segments(data: bytes, offset: int, length: int) -> dict[bytes, bytes]:
    """Segments of a frame by name, each with its header; an inconsistent chain ends early."""
    found: dict[bytes, bytes] = {}
    place, end = offset + 11, offset + length
    for _ in range(data[offset + 10]):
        if end - place < 7:
            break
        size, name_size = struct.unpack_from("<IB", data, place)
        if place + 4 + size > end or size < 3 + name_size:
            break
        found.setdefault(data[place + 5 : place + 5 + name_size], data[place : place + 4 + size])
        place += 4 + size
    return found


def _pico_shape(segment: bytes) -> tuple[int, int, int, int, float] | None:
    """Device, tones, receive antennas, streams and carrier of a CSI segment that can be decoded, else None."""
    (version,) = struct.unpack_from("<H", segment, 8)
    body = segment[10:]
    shift = 1 if version >= 4 else 0
    length_at = {1: 31, 2: 33, 3: 35, 4: 36}.get(version)
    if length_at is None or len(body) < length_at + 4:
        return None
    (device,) = struct.unpack_from("<H", body, 0)
    width, carrier = struct.unpack_from("<HQ", body, 3 + shift)
    tone_count, _, antennas = struct.unpack_from("<HBB", body, 25 + shift)
    (size,) = struct.unpack_from("<I", body, length_at)
    if device not in _PICO_BITS or width not in (20, 40) or not 1 <= antennas <= 3 or size > len(body) - length_at - 4:
        return None
    if device == 0x9300:
        streams = size // (140 if width == 20 else 285) // antennas
        good = tone_count == (56 if width == 20 else 114)
    else:
        streams = max(size - 12, 0) // 60 // antennas
        good = tone_count == 30
    # csiread looks for a format code of 0 to 3 in its tables of tones.
    return (
        (device, tone_count, antennas, streams, float(carrier))
        if good and 1 <= streams <= 3 and body[2 + shift] in (1, 2)
        else None
    )


def _pico_wanted(data: bytes, offset: int, length: int) -> bool:
    segments = _pico_segments(data, offset, length)
    return (
        len(segments.get(b"RxSBasic", b"")) >= 15 + 26
        and b"CSI" in segments
        and _pico_shape(segments[b"CSI"]) is not None
    )


def _walk_pico(data: bytes) -> _Records | None:
    return _walk(data, _pico_length, _pico_wanted, least=11)


def _decode_pico(records: _Records, path: Path) -> CsiCapture:
    import csiread

    notes = list(records.notes)
    segments = [_pico_segments(records.data, *span) for span in records.spans]
    shapes = [_pico_shape(segment[b"CSI"]) or (0, 0, 0, 0, 0.0) for segment in segments]
    (device, tone_count, carrier), kept = _common([(s[0], s[1], s[4]) for s in shapes], "card, width or carrier", notes)
    antennas, streams = (max(shapes[k][n] for k in kept) for n in (2, 3))
    content = b""
    for packet in kept:
        # Only the two segments that are needed, and zeros where csiread expects the frame's own header.
        body = segments[packet][b"RxSBasic"] + segments[packet][b"CSI"] + bytes(128)
        content += struct.pack("<IIHB", 7 + len(body), _PICO_MAGIC, 1, 2) + body

    def decode(name: str) -> Any:
        reader = csiread.Picoscenes(name, {"CSI": [tone_count, antennas, streams]}, if_report=False)
        reader.read()
        return reader.raw

    raw = _decoded(content, decode)
    csi = np.asarray(raw["CSI"]["CSI"]).transpose(3, 2, 0, 1)
    if device == 0x5300:
        index = grouped_tones(20 if int(raw["CSI"]["Info"]["CBW"][0]) == 20 else 40)
    else:
        index = tones(tone_count)[0]
    time_s = _in_order(_unwrapped(raw["RxSBasic"]["Timestamp"].astype(np.uint32), 32) * 1e-6, notes)
    notes.append(f"the card is an {_PICO_BITS[device]}")
    return _capture("PicoScenes", csi, time_s, index * SPACING_HZ, carrier or None, None, notes, None)


def _capture(
    kind: str,
    csi: ComplexArray,
    time_s: FloatArray,
    subcarrier_hz: FloatArray,
    carrier_hz: float | None,
    missing: int | None,
    notes: list[str],
    sequence: NDArray[np.int64] | None,
) -> CsiCapture:
    """The capture without antennas and streams that no packet has, and with what is odd about the rest in words."""
    csi = np.ascontiguousarray(csi, dtype=np.complex64)
    held = np.any(csi != 0, axis=3)
    streams, antennas = np.flatnonzero(held.any(axis=(1, 2))), np.flatnonzero(held.any(axis=(0, 2)))
    csi, held = csi[np.ix_(streams, antennas)], held[np.ix_(streams, antennas)]
    if antennas.size and antennas.size != antennas[-1] + 1:
        notes.append("antennas " + ", ".join(f"rx{a}" for a in antennas) + " are present; the others are all zero")
    for name, axis in (("antennas", (0,)), ("streams", (1,))):
        lacking = np.count_nonzero(~held.any(axis=axis).all(axis=0))
        if lacking:
            notes.append(f"{lacking} packets lack one or more {name} that others have")
    zeros = int(np.count_nonzero((csi == 0) & held[..., None]))
    if zeros:
        notes.append(f"{zeros} single elements are exactly zero: left out of ratios")
    return CsiCapture(
        kind, csi, time_s, np.asarray(subcarrier_hz, dtype=float), carrier_hz, missing, tuple(notes), sequence
    )


_KINDS: tuple[tuple[Callable[[bytes], _Records | None], Callable[[_Records, Path], CsiCapture]], ...] = (
    (_walk_pico, _decode_pico),
    (_walk_feit, _decode_feit),
    (_walk_intel, _decode_intel),
    (lambda data: _walk_atheros(data, "little"), lambda records, path: _decode_atheros(records, path, "little")),
    (lambda data: _walk_atheros(data, "big"), lambda records, path: _decode_atheros(records, path, "big")),
)
