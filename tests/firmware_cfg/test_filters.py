"""FIR filters of the AD936x: judged by their text file alone, by scipy and by tones sent through the whole chain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import freqz, upfirdn

from firmware_cfg import ftr
from firmware_cfg.clock_chain import clock_chain
from firmware_cfg.errors import FirmwareError
from firmware_cfg.filters import FilterSpecification, design_pair
from firmware_cfg.profiles import PlutoProfile, load_profile, profile_names

# From the reference manual, typed a second time.
FIRST = np.array([-8, 0, 42, 0, -147, 0, 619, 1013, 619, 0, -147, 0, 42, 0, -8]) / 2025
SECOND = np.array([-9, 0, 73, 128, 73, 0, -9]) / 256
THIRD = np.array([1, 4, 6, 4, 1]) / 16


def specification(**changes: float) -> FilterSpecification:
    return FilterSpecification(**({"pass_hz": 8e6, "stop_hz": 12e6, "ripple_db": 0.05, "attenuation_db": 70} | changes))


def coefficients(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Transmit and receive taps of a file, read by nothing of ours."""
    pairs = [line.split(",") for line in text.splitlines() if line[0] in "-0123456789"]
    taps = np.array(pairs, dtype=int).T
    return taps[0], taps[1]


@pytest.mark.parametrize("name", profile_names("pluto"))
def test_profiles_filters_keep_their_specification(name: str) -> None:
    profile = load_profile("pluto", name)
    assert isinstance(profile, PlutoProfile)
    assert profile.filter is not None
    assert design_pair(profile.filter, profile.sample_rate_hz).complaint() is None


def test_the_files_receive_filter_keeps_the_specification_with_the_half_bands_of_the_manual() -> None:
    _, taps = coefficients(ftr.dumps(design_pair(specification(), 20e6)))
    assert len(taps) == 128

    def level(frequency_hz: np.ndarray) -> np.ndarray:
        chain = np.ones(len(frequency_hz))
        for filter_, rate_hz in ((taps / 2**16, 40e6), (FIRST, 80e6), (SECOND, 160e6), (THIRD, 320e6)):
            chain = chain * np.abs(freqz(filter_, worN=frequency_hz, fs=rate_hz)[1])
        return 20 * np.log10(chain)

    passed, stopped = level(np.linspace(0, 8e6, 4001)), level(np.linspace(12e6, 20e6, 4001))
    assert np.ptp(passed) < 0.05
    assert np.abs(passed).max() < 0.05
    assert stopped.max() < -70


def test_tones_through_the_receive_chain_arrive_or_vanish() -> None:
    _, taps = coefficients(ftr.dumps(design_pair(specification(), 20e6)))
    rng = np.random.default_rng(1)
    time = np.arange(60_000) / 320e6

    def received(frequency_hz: float) -> float:
        tone = np.exp(2j * np.pi * frequency_hz * time)
        for filter_ in (THIRD, SECOND, FIRST, taps / 2**16):
            tone = upfirdn(filter_, tone, down=2)
        return float(np.sqrt(np.mean(np.abs(tone[100:-100]) ** 2)))

    for _ in range(5):
        assert 20 * np.log10(received(rng.uniform(-8e6, 8e6))) == pytest.approx(0, abs=0.06)
        assert 20 * np.log10(received(rng.choice([-1, 1]) * rng.uniform(12e6, 20e6))) < -69


def test_tones_through_the_transmit_filter_leave_at_their_level() -> None:
    taps, _ = coefficients(ftr.dumps(design_pair(specification(), 20e6)))
    tone = np.exp(2j * np.pi * 3.7e6 * np.arange(3000) / 20e6)
    sent = upfirdn(taps / 2**15, tone, up=2)[200:-200]
    spectrum = np.abs(np.fft.fft(sent * np.hanning(len(sent)))) / (len(sent) / 2)
    frequency = np.fft.fftfreq(len(sent), 1 / 40e6)
    assert spectrum[np.abs(frequency - 3.7e6) < 0.3e6].max() == pytest.approx(1.0, rel=0.1)
    assert 20 * np.log10(spectrum[np.abs(frequency - (3.7e6 - 20e6)) < 0.3e6].max()) < -70


@pytest.mark.parametrize(
    ("rate_hz", "factor", "direction", "most"),
    [
        (20e6, 1, "receive", 64),
        (20e6, 1, "transmit", 64),
        (20e6, 2, "receive", 128),
        (61.44e6, 1, "receive", 64),
        (61.44e6, 1, "transmit", 64),
        (40e6, 2, "transmit", 128),
        (3e6, 1, "receive", 96),
    ],
)
def test_taps_are_as_many_as_the_driver_has_time_for(rate_hz: float, factor: int, direction: str, most: int) -> None:
    # The driver's rule: half the converter's clock over the sample rate, times 16; 64 where nothing is interpolated.
    assert clock_chain(direction, rate_hz, factor).most_taps == most  # type: ignore[arg-type]


def test_a_specification_that_cannot_be_kept_says_how_far_it_got() -> None:
    text = design_pair(specification(pass_hz=9.9e6, stop_hz=10.1e6), 20e6).complaint()
    assert text is not None
    assert "ripple_db is 0.05" in text


@pytest.mark.parametrize(
    ("changes", "rate_hz", "says"),
    [
        ({"stop_hz": 7e6}, 20e6, "passes less than it stops"),
        ({"stop_hz": 21e6}, 20e6, "use less than 20000000"),
        ({"pass_hz": 11e6}, 20e6, "beyond half the sample rate"),
        ({"taps": 100}, 20e6, "multiple of 16"),
        ({"taps": 128, "factor": 1, "stop_hz": 9e6}, 20e6, "up to 64"),
        ({"factor": 3}, 20e6, "1, 2 or 4"),
        ({}, 80e6, "covers"),
        ({}, 0.1e6, "covers"),
        ({"ripple_db": 0.0}, 20e6, "above zero"),
    ],
)
def test_wrong_specifications_are_refused(changes: dict[str, float], rate_hz: float, says: str) -> None:
    with pytest.raises(FirmwareError, match=says):
        design_pair(specification(**changes), rate_hz)


def test_a_file_is_read_back_as_written() -> None:
    pair = design_pair(specification(), 20e6)
    found = ftr.loads(ftr.dumps(pair), source="x")
    assert (found.receive, found.transmit) == (pair.receive.coefficients, pair.transmit.coefficients)
    assert (found.receive_gain_db, found.transmit_gain_db) == (pair.receive.gain_db, pair.transmit.gain_db)
    assert found.shape == "FIR Rx: 128,2 Tx: 128,2"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("TX 3 GAIN 0 INT 2", "TX 3 GAIN 3 INT 2"), "line 5"),
        (("RX 3 GAIN -6 DEC 2", ""), "no header for the receive"),
        (("RX 3 GAIN -6 DEC 2", "RX 3 GAIN -6 DEC 2\n40000,1"), "16 bits"),
        (("RX 3 GAIN -6 DEC 2", "RX 3 GAIN -6 DEC 2\n1,1"), "129 taps"),
        (("RX 3 GAIN -6 DEC 2", "RX 3 GAIN -6 DEC 2\nhello"), "neither"),
    ],
)
def test_files_that_the_driver_refuses_are_named(change: tuple[str, str], says: str) -> None:
    text = ftr.dumps(design_pair(specification(), 20e6)).replace(*change)
    with pytest.raises(FirmwareError, match=says):
        ftr.loads(text, source="x.ftr")


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(FirmwareError):
        ftr.loads(text, source="x.ftr")


def test_a_foreign_file_with_clocks_and_bandwidths_is_read(tmp_path: Path) -> None:
    header = "# made elsewhere\nTX 3 GAIN 0 INT 2\nRX 3 GAIN -6 DEC 2\nRTX 983040000 122880000 61440000 1 1 1\nBWTX 9\n"
    assert ftr.loads(header + "-5,7\r\n" * 16, source="x").receive == (7,) * 16
