"""Other people's recordings: SigMF that was not written here, read as it is, or refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.capture import Departure, Stretch
from testbed.errors import UserError
from testbed.formats.sigmf_reader import read_recordings


def write_foreign(
    folder: Path, name: str, samples: np.ndarray, captures: list[dict[str, Any]], datatype: str, **head: Any
) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.sigmf-data").write_bytes(samples.tobytes())
    content = {
        "global": {"core:datatype": datatype, "core:sample_rate": 20e6, "core:version": "1.0.0", **head},
        "captures": captures,
        "annotations": [],
    }
    (folder / f"{name}.sigmf-meta").write_text(json.dumps(content))


def test_plain_interleaved_floats_are_read_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    samples = rng.standard_normal((50, 2, 2)).astype("<f4")
    write_foreign(
        tmp_path,
        "west",
        samples,
        [{"core:sample_start": 0, "core:frequency": 2.4e9}],
        "cf32_le",
        **{"core:num_channels": 2},
    )
    capture = read_recordings(tmp_path, verify=True).captures(0)["west"]
    assert capture.samples.dtype == np.float32
    assert np.array_equal(capture.samples, samples.transpose(1, 0, 2))
    assert (capture.full_scale, capture.rate_hz, capture.carrier_hz) == (1, 20_000_000, 2_400_000_000)
    assert capture.stretches == (Stretch(0, 50, 0),)


def test_each_segment_is_a_round_where_none_is_stated(tmp_path: Path) -> None:
    samples = np.arange(200, dtype=">i2").reshape(100, 2)
    segments = [
        {"core:sample_start": 0, "core:frequency": 2.4e9, "core:global_index": 10},
        {"core:sample_start": 30, "core:frequency": 2.4e9, "core:global_index": 1000},
        {"core:sample_start": 80, "core:frequency": 2.4e9, "core:global_index": 5},
    ]
    for antenna in range(2):
        write_foreign(tmp_path, f"far-west-{antenna}", samples, segments, "ci16_be")
    recordings = read_recordings(tmp_path)
    assert recordings.rounds == (0, 1, 2)
    found = [recordings.captures(number)["far-west"] for number in recordings.rounds]
    assert [capture.stretches for capture in found] == [
        (Stretch(0, 30, 10),),
        (Stretch(0, 50, 1000),),
        (Stretch(0, 20, 5),),
    ]
    assert [capture.stream for capture in found] == [0, 0, 1]  # a counter that falls back was started anew
    assert np.array_equal(np.concatenate([capture.samples[1] for capture in found]), samples)
    assert read_recordings(tmp_path / "far-west-1.sigmf-meta").captures(1)["far-west"].samples.shape == (1, 50, 2)


def test_without_a_counter_no_segment_continues_another(tmp_path: Path) -> None:
    segments = [{"core:sample_start": start, "core:frequency": 2.4e9, "isac:round": start // 10} for start in (0, 50)]
    write_foreign(
        tmp_path, "west-0", np.ones((100, 2), "<i2"), segments, "ci16_le", **{"isac:node": "oak", "isac:antenna": 0}
    )
    recordings = read_recordings(tmp_path)
    first, second = (recordings.captures(number)["oak"] for number in (0, 5))
    assert first.stream != second.stream
    assert second.stretches == (Stretch(0, 50, 50),)


def test_a_collection_in_the_old_form_is_read(tmp_path: Path) -> None:
    write_foreign(tmp_path, "a-0", np.ones((9, 2), "<i2"), [{"core:sample_start": 0, "core:frequency": 1e9}], "ci16_le")
    collection = {"collection": {"core:version": "1.0.0", "core:streams": [["a-0", "0" * 128]]}}
    (tmp_path / "mine.sigmf-collection").write_text(json.dumps(collection))
    assert read_recordings(tmp_path).rounds == (0,)
    with pytest.raises(UserError, match="damaged or edited"):
        read_recordings(tmp_path, verify=True)


def test_departures_are_placed_by_sample_where_no_round_is_stated(tmp_path: Path) -> None:
    write_foreign(
        tmp_path, "a-0", np.ones((90, 2), "<i2"), [{"core:sample_start": 0, "core:frequency": 1e9}], "ci16_le"
    )
    note = {"core:sample_start": 40, "isac:departure": {"frame": 2, "tick": 40, "fraction": 0.25}}
    meta = tmp_path / "a-0.sigmf-meta"
    content = json.loads(meta.read_text())
    meta.write_text(json.dumps({**content, "annotations": [note]}))
    assert read_recordings(tmp_path).captures(0)["a"].departures == (Departure(2, 40, 0.25),)
    meta.write_text(json.dumps({**content, "annotations": [{**note, "core:sample_start": 95}]}))
    with pytest.raises(UserError, match=r"annotations\[0\] isac:departure lies in no capture segment"):
        read_recordings(tmp_path)


def test_floats_called_integers_and_integers_called_floats_are_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    segments = [{"core:sample_start": 0, "core:frequency": 2.4e9}]
    floats = (0.1 * rng.standard_normal((5000, 2))).astype("<f4")
    counts = np.rint(200 * rng.standard_normal((5000, 2))).astype("<i2")
    write_foreign(tmp_path / "floats", "a-0", floats, segments, "ci16_le")
    with pytest.raises(UserError, match=r"looks like 32-bit floats: is core:datatype really ci16_le\?"):
        read_recordings(tmp_path / "floats").captures(0)
    write_foreign(tmp_path / "counts", "a-0", counts, segments, "cf32_le")
    with pytest.raises(UserError, match=r"is core:datatype really cf32_le\?"):
        read_recordings(tmp_path / "counts").captures(0)
    write_foreign(tmp_path / "right", "a-0", counts, segments, "ci16_le")
    read_recordings(tmp_path / "right")
