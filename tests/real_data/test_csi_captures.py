"""`isac csi` on real captures: figures that were measured independently of this code."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import csiread
import numpy as np
import pytest

from testbed.commands.csi import command
from testbed.csi_analysis import angle_of_arrival, summarize
from testbed.formats.wifi_csi import read_csi

pytestmark = pytest.mark.real_data
Found = Callable[..., dict[str, Any]]


def test_intel_5300_timing_phase_and_coherence(captures: Path, found: Found) -> None:
    figures = found(command, captures / "intel5300/sample_0x5_64_3000.dat")
    assert figures["packets"] == 2998
    assert figures["timing_offset_std_s"] == pytest.approx(8.6e-9, rel=0.05)
    assert figures["timing_offset_std_unwrapped_s"] == pytest.approx(8.6e-9, rel=0.05)
    assert figures["common_phase_coherence"] < 0.06
    assert figures["cross_antenna_coherence"] >= 0.97
    assert {pair["ambiguity"] for pair in figures["pairs"]} == {"none"}


def test_three_breaths_once_quarter_turns_are_taken_back(captures: Path, found: Found) -> None:
    figures = found(command, captures / "intel5300/3breaths.dat")
    assert figures["ambiguity"] == "quarter turn"
    pair = next(pair for pair in figures["pairs"] if pair["pair"] == "rx1/rx0")
    assert pair["coherence_before"] < 0.2
    assert pair["coherence"] > 0.99
    motion = figures["motion"]
    assert motion["rate_per_min"] == pytest.approx(13.7, abs=1.5)
    assert np.allclose(motion["maxima_s"], [2.8, 7.3, 11.6], atol=0.3)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_gestures_are_coherent_across_antennas_only(captures: Path, found: Found, number: int) -> None:
    figures = found(command, captures / f"intel5300/csi_a{number}_1_vol8.dat")
    assert figures["common_phase_coherence"] < 0.06
    assert figures["ambiguity"] == "none"
    assert all(0.965 <= pair["coherence"] <= 0.998 for pair in figures["pairs"])


@pytest.mark.parametrize(
    ("name", "kind", "std_s"), [("ath_csi_1.dat", "Atheros", 16.2e-9), ("rx_by_qca9300.csi", "PicoScenes", 13.2e-9)]
)
def test_atheros_cards(captures: Path, found: Found, name: str, kind: str, std_s: float) -> None:
    figures = found(command, captures / "atheros" / name)
    assert figures["kind"] == kind
    assert figures["timing_offset_std_unwrapped_s"] == pytest.approx(std_s, rel=0.02)
    assert figures["ambiguity"] == "none"
    assert all(pair["coherence"] > 0.955 for pair in figures["pairs"])


@pytest.mark.parametrize("name", ["HT20_2452", "VHT20_5500", "VHT40_5500", "VHT80_5500"])
def test_ax210_half_turns(captures: Path, found: Found, name: str) -> None:
    figures = found(command, captures / f"ax210_feitcsi/{name}.csi")
    assert figures["ambiguity"] == "half turn"
    assert figures["carrier_hz"] == pytest.approx(float(name[-4:]) * 1e6, abs=31e6)
    (pair,) = figures["pairs"]
    assert 0.0015 < pair["phase_std_rad"] < 0.041
    assert 12e-9 < figures["timing_offset_std_s"] < 16.5e-9


def test_angles_after_calibration(captures: Path) -> None:
    folder = captures / "intel5300_aoa"
    known = [read_csi(folder / "1.0-0-1.dat"), read_csi(folder / "2.0-0-2.dat")]
    errors = []
    for path in sorted(folder.glob("*-*-*.dat")):
        arrival = angle_of_arrival(summarize(read_csi(path)), known, spacing_m=0.026, carrier_hz=5.745e9)
        truth = float(path.stem.split("-")[1].rstrip("r"))
        errors.append(abs(abs(math.degrees(arrival.bearing_rad)) - truth))
        assert np.allclose(arrival.offsets_rad, [1.741, 2.056], atol=0.01)
    assert len(errors) >= 7
    assert np.mean(errors) <= 3.0
    assert max(errors) < 6.0


def test_angle_by_the_command_needs_no_more_than_the_calibration(captures: Path, found: Found) -> None:
    folder = captures / "intel5300_aoa"
    known = ("--calibration", folder / "1.0-0-1.dat", "--calibration", folder / "2.0-0-2.dat")
    figures = found(command, folder / "1.5-30r-4.dat", *known)
    assert abs(figures["angle_of_arrival_deg"]) == pytest.approx(30.0, abs=3.0)


def test_clock_of_bob_against_alice(captures: Path, found: Found) -> None:
    folder = captures / "reciprocity"
    figures = found(command, folder / "tmp_521_12__tmp_alice.dat", "--against", folder / "tmp_521_12__tmp_bob.dat")
    assert figures["clock_rate_ppm"] == pytest.approx(-2.57, abs=0.3)
    assert figures["amplitude_correlation"] == pytest.approx(0.955, abs=0.01)
    assert figures["amplitude_correlation_shifted"] < 0.0
    assert figures["pairs"] == []


def test_csi_itself_agrees_with_csiread_on_whole_files(captures: Path) -> None:
    path = captures / "intel5300/3breaths.dat"
    reader = csiread.Intel(str(path), nrxnum=3, ntxnum=2, if_report=False)
    reader.read()
    assert np.array_equal(read_csi(path).values, reader.csi.transpose(3, 2, 0, 1).astype(np.complex64))


def test_a_real_file_cut_anywhere_is_read_as_far_as_it_goes(captures: Path, tmp_path: Path, found: Found) -> None:
    content = (captures / "ax210_feitcsi/VHT40_5500.csi").read_bytes()
    cut = tmp_path / "cut.csi"
    cut.write_bytes(content[: len(content) // 2 + 7])
    figures = found(command, cut)
    assert figures["packets"] == 13
    assert any("cut short" in note for note in figures["notes"])
    assert math.isfinite(figures["timing_offset_std_s"])
