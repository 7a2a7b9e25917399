"""Captures written here, bit by bit from the formats' descriptions; read back, cut short, and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import UserError
from testbed.formats.wifi_csi import read_csi


def packed(numbers: np.ndarray, bits: int) -> bytes:
    """Signed numbers as a little-endian bit stream."""
    unsigned = numbers.astype(np.int64) & ((1 << bits) - 1)
    stream = (unsigned[:, None] >> np.arange(bits)) & 1
    return np.packbits(stream.reshape(-1).astype(np.uint8), bitorder="little").tobytes()


def intel_record(csi: np.ndarray, *, tick: int, count: int, permutation: tuple[int, ...], rate: int = 0x101) -> bytes:
    """One beamforming notification; ``csi`` is (subcarrier, antenna, stream) of int8 parts, antennas as reported."""
    _, antennas, streams = csi.shape
    size = 60 * antennas * streams + 12
    bits = []
    for tone in csi:
        bits.append(np.zeros(3, dtype=np.uint8))
        for value in tone.reshape(-1):
            parts = np.array([[int(value.real)], [int(value.imag)]]) & 0xFF
            bits.append((parts >> np.arange(8) & 1).astype(np.uint8).reshape(-1))
    payload = np.packbits(np.concatenate(bits), bitorder="little").tobytes().ljust(size, b"\0")
    assert len(payload) == size
    selection = sum(chain << (2 * place) for place, chain in enumerate(permutation))
    body = struct.pack("<IHHBBBBBbBBHH", tick, count, 0, antennas, streams, 40, 40, 40, -127, 40, selection, size, rate)
    return struct.pack(">HB", 1 + len(body) + size, 0xBB) + body + payload


def intel_file(
    rng: np.random.Generator, packets: int = 6, antennas: int = 3, streams: int = 2
) -> tuple[bytes, np.ndarray]:
    content, truth = b"", []
    for packet in range(packets):
        csi = rng.integers(-128, 128, (30, antennas, streams)) + 1j * rng.integers(-128, 128, (30, antennas, streams))
        permutation = tuple(int(chain) for chain in rng.permutation(antennas)) + tuple(range(antennas, 3))
        turned = np.zeros_like(csi)
        turned[:, list(permutation[:antennas])] = csi
        truth.append(turned)
        tick = (2**32 - 2500 + 1000 * packet) % 2**32
        content += intel_record(csi, tick=tick, count=(65534 + 2 * packet) % 65536, permutation=permutation)
    return content, np.array(truth).transpose(3, 2, 0, 1)


def atheros_file(
    rng: np.random.Generator, order: str, tones: int = 56, antennas: int = 2, streams: int = 1
) -> tuple[bytes, np.ndarray]:
    mark = "<" if order == "little" else ">"
    content, truth = b"", []
    for packet in range(5):
        csi = rng.integers(-512, 512, (tones, antennas, streams)) + 1j * rng.integers(
            -512, 512, (tones, antennas, streams)
        )
        truth.append(csi)
        flat = csi.reshape(-1)
        data = packed(np.column_stack([flat.imag, flat.real]).reshape(-1), 10)
        status = struct.pack(f"{mark}QHH", 10**12 + 2000 * packet, len(data), 2437)
        status += bytes([0, 0, 130, tones == 114, tones, antennas, streams, 30, 30, 30, 128]) + struct.pack(
            f"{mark}H", 5000
        )
        record = status + data + bytes(5000)
        content += struct.pack(f"{mark}H", len(record)) + record
    return content, np.array(truth).transpose(3, 2, 0, 1)


def feit_file(rng: np.random.Generator, tones: int = 114, packets: int = 5, width: int = 1) -> tuple[bytes, np.ndarray]:
    content, truth = b"", []
    for packet in range(packets):
        csi = rng.integers(-500, 500, (2, 1, tones)) + 1j * rng.integers(-500, 500, (2, 1, tones))
        truth.append(csi)
        head = bytearray(272)
        struct.pack_into("<I", head, 0, 4 * csi.size)
        seconds = 7.0 * packet
        struct.pack_into("<I", head, 8, int(seconds * 320e6 + 5e8) % 2**32)
        head[46:48] = bytes([2, 1])
        struct.pack_into("<I", head, 52, tones)
        head[68:74] = b"\0\x16\xea\x12\x34\x56"
        struct.pack_into("<I", head, 88, int(seconds * 1e6) + 12345)
        struct.pack_into("<I", head, 92, 0xC000 | (width << 11) | (3 << 8))
        struct.pack_into("<I", head, 176, 5510000)
        flat = csi.reshape(-1)
        content += bytes(head) + np.column_stack([flat.real, flat.imag]).astype("<i2").tobytes()
    return content, np.array(truth).transpose(2, 1, 0, 3)


def pico_file(rng: np.random.Generator, packets: int = 4, antennas: int = 3) -> tuple[bytes, np.ndarray]:
    content, truth = b"", []
    for packet in range(packets):
        csi = rng.integers(-512, 512, (56, antennas)) + 1j * rng.integers(-512, 512, (56, antennas))
        truth.append(csi)
        flat = csi.reshape(-1)
        data = packed(np.column_stack([flat.imag, flat.real]).reshape(-1), 10)
        basic = struct.pack(
            "<HQhBHHBBBBbbbbb", 0x9300, 5_000_000 + 130 * packet, 5200, 1, 20, 400, 4, 1, 0, antennas, *[-95] * 5
        )
        header = struct.pack(
            "<HbHQQIHBBBBhI", 0x9300, 1, 20, 5_200_000_000, 20_000_000, 312_500, 56, 1, antennas, 0, 7, 0, len(data)
        )
        frame = struct.pack("<IHB", 0x20150315, 1, 2)
        for name, version, body in ((b"RxSBasic", 1, basic), (b"CSI", 2, header + data)):
            segment = bytes([len(name)]) + name + struct.pack("<H", version) + body
            frame += struct.pack("<I", len(segment)) + segment
        frame += bytes(40)
        content += struct.pack("<I", len(frame)) + frame
    return content, np.array(truth)[..., None].transpose(3, 2, 0, 1)


def read(tmp_path: Path, content: bytes):
    path = tmp_path / "capture.dat"
    path.write_bytes(content)
    return read_csi(path)


def attempt(tmp_path: Path, content: bytes):
    """The capture, or the error's text."""
    try:
        return read(tmp_path, content)
    except UserError as error:
        return str(error)


def test_intel_values_permutation_clock_and_counter(tmp_path: Path) -> None:
    content, truth = intel_file(np.random.default_rng(1))
    capture = read(tmp_path, content)
    assert capture.kind == "Intel 5300"
    assert np.array_equal(capture.values, truth.astype(np.complex64))
    assert np.allclose(capture.time_s, 1e-3 * np.arange(6))
    assert capture.missing_packets == 5
    assert np.allclose(capture.subcarrier_hz[[0, 14, 15, 29]], np.array([-28, -1, 1, 28]) * 312500.0)
    assert any("permutation" in note for note in capture.notes)


def test_intel_packets_with_fewer_antennas_and_other_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    many, truth = intel_file(rng, 4, 3, 1)
    one = intel_record(np.full((30, 1, 1), 5 + 2j), tick=9999, count=20, permutation=(0, 1, 2))
    other = struct.pack(">HB", 40, 0xC1) + bytes(39)
    capture = read(tmp_path, other + many + one)
    assert capture.values.shape == (1, 3, 5, 30)
    assert np.array_equal(capture.values[:, :, :4], truth.astype(np.complex64))
    assert np.all(capture.values[0, 0, 4] == 5 + 2j)
    assert not capture.values[0, 1:, 4].any()
    assert any("lack one or more antennas" in note for note in capture.notes)


def test_intel_damaged_record_and_long_foreign_record_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first, _ = intel_file(rng, 2)
    # A record of another kind longer than any buffer of the decoder, and one whose own length field lies.
    foreign = struct.pack(">HB", 60_001, 0xC1) + bytes(60_000)
    lying = bytearray(intel_record(np.ones((30, 2, 1)), tick=1, count=1, permutation=(0, 1, 2)))
    lying[19] ^= 0x55
    three_chains = bytearray(intel_record(np.ones((30, 2, 1)), tick=1, count=1, permutation=(0, 1, 2)))
    three_chains[18] = 0b111111
    capture = read(tmp_path, first + foreign + bytes(lying) + bytes(three_chains))
    assert capture.values.shape[2] == 2
    assert any("2 records are damaged" in note for note in capture.notes)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("tones", [56, 114])
def test_atheros_values_in_both_byte_orders(tmp_path: Path, order: str, tones: int) -> None:
    content, truth = atheros_file(
        np.random.default_rng(4), order, tones, 3 if tones == 56 else 2, 2 if tones == 56 else 1
    )
    capture = read(tmp_path, content)
    assert capture.kind == "Atheros"
    assert np.array_equal(capture.values, truth.astype(np.complex64))
    assert np.allclose(capture.time_s, 2e-3 * np.arange(5))
    assert capture.carrier_hz == 2437e6


def test_feit_values_pilots_conjugate_and_wrapping_clock(tmp_path: Path) -> None:
    content, truth = feit_file(np.random.default_rng(5), tones=56, width=0)
    capture = read(tmp_path, content)
    pilots = np.isin(np.abs(np.r_[-28:0, 1:29]), (7, 21))
    assert capture.kind == "FeitCSI"
    assert np.array_equal(capture.values, truth[..., ~pilots].conj().astype(np.complex64))
    assert np.allclose(capture.time_s, 7.0 * np.arange(5), atol=1e-6)
    assert capture.carrier_hz == 5510e6


def test_feit_tone_rotation_is_removed_only_where_it_is(tmp_path: Path) -> None:
    index = np.r_[-58:-1, 2:59]
    for rotation in (1.0, np.where(index > 0, 1j, 1.0)):
        content, _ = feit_file(np.random.default_rng(6), packets=1)
        smooth = 300 * np.exp(-2j * np.pi * index * 312500.0 * 150e-9) * rotation
        both = np.tile(np.conj(smooth), (2, 1)).reshape(-1)
        body = np.column_stack([both.real, both.imag]).round().astype("<i2").tobytes()
        capture = read(tmp_path, content[:272] + body)
        straight = np.unwrap(np.angle(capture.values[0, 0, 0]))
        line = np.polyval(np.polyfit(capture.subcarrier_hz, straight, 1), capture.subcarrier_hz)
        assert np.abs(straight - line).max() < 0.02


def test_pico_values(tmp_path: Path) -> None:
    content, truth = pico_file(np.random.default_rng(7))
    capture = read(tmp_path, content)
    assert capture.kind == "PicoScenes"
    assert np.array_equal(capture.values, truth.astype(np.complex64))
    assert np.allclose(capture.time_s, 130e-6 * np.arange(4))
    assert capture.carrier_hz == 5.2e9


FILES = {
    "intel": lambda: intel_file(np.random.default_rng(8), 3)[0],
    "atheros": lambda: atheros_file(np.random.default_rng(8), "little")[0],
    "atheros-big": lambda: atheros_file(np.random.default_rng(8), "big")[0],
    "feit": lambda: feit_file(np.random.default_rng(8))[0],
    "pico": lambda: pico_file(np.random.default_rng(8))[0],
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_short_keeps_its_whole_packets_or_says_one_line(tmp_path: Path, kind: str) -> None:
    content = FILES[kind]()
    whole = read(tmp_path, content).values.shape[2]
    seen = set()
    for cut in np.linspace(1, len(content) - 1, 60).astype(int):
        capture = attempt(tmp_path, content[:cut])
        if isinstance(capture, str):
            assert "\n" not in capture
            seen.add(0)
        else:
            assert 0 < capture.values.shape[2] < whole
            assert any("cut short" in note for note in capture.notes) or len(content) % cut == 0
            seen.add(capture.values.shape[2])
    assert seen >= set(range(whole))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_crash_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[base]()) if data.draw(st.booleans()) else bytearray(data.draw(st.binary(max_size=600)))
    for _ in range(data.draw(st.integers(0, 8))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    capture = attempt(tmp_path, bytes(content))
    if isinstance(capture, str):
        assert "\n" not in capture
    else:
        assert capture.values.ndim == 4
        assert np.all(np.diff(capture.time_s) >= 0)
        assert np.isfinite(capture.values).all()


def test_no_file_an_empty_one_and_all_zero_csi_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_csi(tmp_path / "none.dat")
    with pytest.raises(UserError, match="is empty"):
        read(tmp_path, b"")
    with pytest.raises(UserError, match="is zero"):
        read(tmp_path, intel_record(np.zeros((30, 1, 1)), tick=0, count=0, permutation=(0, 1, 2)))
