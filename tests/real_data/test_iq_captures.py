"""`isac iq` on real captures: figures that were measured independently of this code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.commands.iq import command

pytestmark = pytest.mark.real_data
Found = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("pattern", "cfo_hz", "packets"),
    [
        ("dot11a_12mbps*", -34871, 19),
        ("dot11a_24mbps*", -35054, 19),
        ("dot11a_48mbps*", -35158, 17),
        ("dot11n_13mbps*", -36619, 19),
        ("dot11n_65mbps*", -35227, 18),
    ],
)
def test_wifi_offsets(captures: Path, found: Found, pattern: str, cfo_hz: float, packets: int) -> None:
    (path,) = (captures / "wifi_iq").glob(pattern)
    figures = found(command, path, "--rate-hz", "20e6")
    assert figures["format"] == "ci16"
    assert figures["cfo_hz"] == pytest.approx(cfo_hz, abs=300)
    assert 400 < figures["cfo_std_hz"] < 760
    # Ten data packets and their acknowledgements in three of the files: one more than the independent count.
    assert 0 <= figures["packets"] - packets <= 1
    megabits = {p["mcs"] if p["mcs"] is not None else p["rate_mbps"] for p in figures["packet"]}
    assert {"12": 12, "24": 24, "48": 48, "13": 1, "65": 7}[pattern[7:9]] in megabits


def test_wifi_sampling_offset_is_that_of_the_carrier(captures: Path, found: Found) -> None:
    (path,) = (captures / "wifi_iq").glob("dot11a_12mbps*")
    figures = found(command, path, "--rate-hz", "20e6")
    # One crystal: the ratio is a carrier in the 5 GHz band.
    assert 4.5e9 < figures["carrier_by_one_crystal_hz"] < 6.0e9


@pytest.mark.parametrize(
    ("name", "rate_hz", "form", "identity", "cfo_hz", "sfo_ppm"),
    [
        ("f796_s1.92_bw1.2_0.08s_rtlsdr.bin", 1.92e6, "cu8", 360, -49112, 61.47),
        ("f796_s19.2_bw20_0.08s_hackrf.bin", 19.2e6, "ci8", 360, 6289, -7.79),
        ("f806_s1.92_bw1.2_0.08s_rtlsdr.bin", 1.92e6, "cu8", 300, -49589, 61.74),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_lte_cell_and_offsets(
    captures: Path,
    found: Found,
    name: str,
    rate_hz: float,
    form: str,
    identity: int,
    cfo_hz: float,
    sfo_ppm: float,
    given: bool,
) -> None:
    options = ["--rate-hz", str(rate_hz), "--format", form] if given else []
    figures = found(command, captures / "lte_iq" / name, *options)
    assert figures["format"] == form
    assert figures["rate_hz"] == rate_hz
    assert figures["cell_identity"] == identity
    assert figures["cfo_hz"] == pytest.approx(cfo_hz, abs=100)
    assert figures["sfo_ppm"] == pytest.approx(sfo_ppm, abs=1.0)
