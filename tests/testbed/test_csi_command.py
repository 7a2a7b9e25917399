"""`isac csi` on captures of every odd shape: figures finite or null, a picture, one line where nothing can be said."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from testbed.commands.csi import command
from testbed.errors import UserError
from testbed.formats.wifi_csi import read_csi

TONES = np.r_[-28:-1:2, -1, 1:28:2, 28]


def record(csi: np.ndarray, tick: int, count: int, chains: tuple[int, ...] = (0, 1, 2)) -> bytes:
    """An Intel 5300 notification; ``csi`` is (subcarrier, antenna, stream), rounded to int8 parts."""
    _, antennas, streams = csi.shape
    size = 60 * antennas * streams + 12
    parts = np.stack([csi.real, csi.imag], axis=-1).round().astype(np.int64).reshape(30, -1) & 0xFF
    bits = (parts[:, :, None] >> np.arange(8) & 1).reshape(30, -1)
    stream = np.concatenate([np.zeros((30, 3), dtype=np.int64), bits], axis=1).reshape(-1).astype(np.uint8)
    payload = np.packbits(stream, bitorder="little").tobytes().ljust(size, b"\0")
    selection = sum(chain << (2 * place) for place, chain in enumerate(chains))
    head = struct.pack("<IHHBBBBBbBBHH", tick, count, 0, antennas, streams, 40, 40, 40, -127, 40, selection, size, 257)
    return struct.pack(">HB", 21 + size, 0xBB) + head + payload


def packet(rng: np.random.Generator, antennas: int, streams: int, angle_rad: float = 0.0, turns: int = 0) -> np.ndarray:
    """One wave with random timing and phase; antennas half a wavelength apart, chain phases 0, 1, 2 rad."""
    wave = 60 * np.exp(1j * rng.uniform(-np.pi, np.pi) - 2j * np.pi * TONES * 312.5e3 * (2e-7 + 9e-9 * rng.normal()))
    response = np.exp(1j * np.arange(antennas) * (np.pi * np.sin(angle_rad) + 1.0))
    if antennas > 1:
        response[1] *= np.exp(0.5j * np.pi * turns)
    return wave[:, None, None] * response[:, None] * np.exp(0.4j * np.arange(streams))


def run(tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    out = tmp_path / "figures.json"
    options = ["--out", str(tmp_path), "--json", str(out)]
    result = CliRunner().invoke(command, [*map(str, arguments), *options], catch_exceptions=False)
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert Path(document["picture"]).exists()
    return document


def written(path: Path, records: list[bytes]) -> Path:
    path.write_bytes(b"".join(records))
    return path


RNG = np.random.default_rng(1)
SHAPES = {
    "one packet": [record(packet(RNG, 3, 1), 0, 0)],
    "two packets": [record(packet(RNG, 2, 1), 1000 * n, n) for n in range(2)],
    "one antenna": [record(packet(RNG, 1, 1), 1000 * n, n) for n in range(20)],
    "antennas never together": [record(packet(RNG, 1, 1), 1000 * n, n, (n % 2, 1 - n % 2, 2)) for n in range(20)],
    "two of three antennas": [record(packet(RNG, 2, 1), 1000 * n, n, (0, 1 + n % 2, 2 - n % 2)) for n in range(30)],
    "streams come and go": [record(packet(RNG, 2, 1 + n % 3), 1000 * n, n) for n in range(30)],
    "a clock that stands": [record(packet(RNG, 2, 1), 7, 7) for _ in range(30)],
    "no change at all": [record(np.full((30, 3, 1), 7 + 7j), 1000 * n, n) for n in range(30)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_shapes_give_figures_without_nan(tmp_path: Path, shape: str) -> None:
    figures = run(tmp_path, written(tmp_path / "odd.dat", SHAPES[shape]))
    assert figures["packets"] == len(SHAPES[shape])
    if "antenna" not in shape or "three" in shape:
        assert figures["pairs"]


def test_turns_angle_and_clock_by_the_command(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ticks = np.cumsum(rng.integers(9_000, 11_000, 120))

    def capture(name: str, angle_rad: float, *, rate_ppm: float = 0.0, turned: bool = False) -> Path:
        turns = rng.integers(0, 4, 120) if turned else np.zeros(120, dtype=int)
        own = (ticks * (1 + 1e-6 * rate_ppm)).round().astype(int)
        rows = zip(own, turns, strict=True)
        records = [record(packet(rng, 3, 1, angle_rad, int(k)), int(t), n) for n, (t, k) in enumerate(rows)]
        return written(tmp_path / name, records)

    ahead = [capture(f"ahead-{n}.dat", 0.0) for n in range(2)]
    known = [word for path in ahead for word in ("--calibration", path)]
    figures = run(tmp_path, capture("side.dat", -0.6), *known)
    assert figures["angle_of_arrival_rad"] == pytest.approx(-0.6, abs=0.01)
    assert np.allclose(figures["antenna_offsets_rad"], 1.0, atol=0.01)
    assert figures["angle_of_arrival_note"] == ""
    twisted = run(tmp_path, capture("twisted.dat", 0.3, turned=True), *known)
    assert twisted["ambiguity"] == "quarter turn"
    assert "turns" in twisted["angle_of_arrival_note"]
    other = run(tmp_path, ahead[0], "--against", capture("fast.dat", 0.0, rate_ppm=40.0))
    assert other["clock_rate_ppm"] == pytest.approx(40.0, abs=0.5)
    assert other["clock_pairs"] > 100


def test_what_an_angle_needs_is_said_in_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    single = written(tmp_path / "single.dat", [record(packet(rng, 1, 1), 1000 * n, n) for n in range(5)])
    triple = written(tmp_path / "triple.dat", [record(packet(rng, 3, 1), 1000 * n, n) for n in range(5)])
    for arguments, words in (
        ([single, "--calibration", single], "needs two receive antennas"),
        ([triple, "--calibration", single], "another number"),
        ([triple, "--calibration", triple, "--antenna-spacing-m", "0.03"], "--carrier-hz"),
        ([triple, "--antenna-spacing-m", "nan"], "must be above zero"),
    ):
        result = CliRunner().invoke(command, [*map(str, arguments), "--out", str(tmp_path)])
        assert isinstance(result.exception, UserError)
        assert words in str(result.exception)
    assert read_csi(triple).values.shape == (1, 3, 5, 30)
