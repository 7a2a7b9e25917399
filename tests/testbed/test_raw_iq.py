"""Raw files of every number format, loud and quiet, guessed and given, cut and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from testbed.commands.iq import command
from testbed.errors import UserError
from testbed.formats.raw_iq import guess_format, read_raw_iq


def written(path: Path, samples: np.ndarray, form: str) -> None:
    """Samples with full scale one, clipped like a converter."""
    pairs = np.column_stack([samples.real, samples.imag]).reshape(-1)
    if form == "cf32":
        path.write_bytes(pairs.astype("<f4").tobytes())
        return
    kind, scale, shift = {"ci16": ("<i2", 32767, 0), "ci8": ("i1", 127, 0), "cu8": ("u1", 127.5, 127.5)}[form]
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    path.write_bytes(np.clip(np.rint(pairs * scale + shift), low, high).astype(kind).tobytes())


@pytest.mark.parametrize("form", ["ci16", "cu8", "ci8", "cf32"])
@pytest.mark.parametrize("level", [0.05, 0.3, 0.8])
def test_format_is_guessed_and_values_survive(tmp_path: Path, form: str, level: float) -> None:
    rng = np.random.default_rng(1)
    samples = level * (rng.normal(size=20_000) + 1j * rng.normal(size=20_000)) / np.sqrt(2)
    path = tmp_path / "stream.bin"
    written(path, samples, form)
    raw = read_raw_iq(path)
    assert (raw.format, raw.guessed) == (form, True)
    inside = (np.abs(samples.real) < 0.98) & (np.abs(samples.imag) < 0.98)
    assert np.abs(raw.samples - samples)[inside].max() < {"ci16": 2e-4, "cf32": 1e-6}.get(form, 0.017)


def test_a_quiet_16_bit_stream_is_not_taken_for_another(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for level in (3, 30, 300):
        assert guess_format(np.rint(level * rng.normal(size=20_000)).astype("<i2").tobytes()) == "ci16"


def test_odd_ends_limits_and_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "stream.bin"
    path.write_bytes(np.arange(1000, dtype="<i2").tobytes() + b"\1")
    raw = read_raw_iq(path, "ci16", most_samples=10_000)
    assert len(raw.samples) == 500
    assert "1 bytes are no whole sample" in raw.notes[0]
    assert len(read_raw_iq(path, "ci16", most_samples=20).samples) == 20
    path.write_bytes(b"\0")
    with pytest.raises(UserError, match="no whole ci16 sample"):
        read_raw_iq(path, "ci16")
    path.write_bytes(np.full(100, np.nan, dtype="<f4").tobytes())
    with pytest.raises(UserError, match="no numbers"):
        read_raw_iq(path, "cf32")
    with pytest.raises(UserError, match="cannot be read"):
        read_raw_iq(tmp_path / "none")


def test_the_command_says_in_one_line_what_it_lacks(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "noise.bin"
    written(path, 0.2 * (rng.normal(size=30_000) + 1j * rng.normal(size=30_000)), "ci16")
    for options, words in (
        (["--rate-hz", "1e6"], "needs"),
        (["--rate-hz", "20e6"], "no 802.11a/g/n packet and no LTE cell found"),
        (["--rate-hz", "-1"], "must be above zero"),
    ):
        result = CliRunner().invoke(command, [str(path), *options, "--out", str(tmp_path)])
        assert isinstance(result.exception, UserError)
        assert words in str(result.exception)
        assert "\n" not in str(result.exception)


def test_a_resampled_wifi_stream_is_read(tmp_path: Path) -> None:
    from scipy.signal import resample_poly

    from dsp.standards.wifi import long_training, short_training

    rng = np.random.default_rng(4)
    # Training without SIGNAL is no packet: the line says so.
    stream = 0.1 * np.concatenate([short_training(), long_training(), np.zeros(4000)])
    stream = resample_poly(stream, 2, 1) + 1e-3 * rng.normal(size=2 * len(stream))
    path = tmp_path / "forty.bin"
    written(path, stream, "cf32")
    result = CliRunner().invoke(command, [str(path), "--rate-hz", "40e6", "--standard", "wifi", "--out", str(tmp_path)])
    assert "no 802.11a/g/n packet found" in str(result.exception)
    assert not list(tmp_path.glob("*.png"))
