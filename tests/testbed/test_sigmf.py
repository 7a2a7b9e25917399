"""Recordings: what is written comes back bit for bit, others can read it, and every fault is one clear line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigmf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sigmf import validate

from testbed.capture import Capture, Departure, Stretch
from testbed.errors import UserError
from testbed.formats.sigmf_reader import read_recordings
from testbed.formats.sigmf_writer import RecordingWriter, write_samples

RATE_HZ = Fraction(20_000_000)
CARRIER_HZ = Fraction(2_400_000_001, 3)
TRUTH = {"start_s": 3, "start_fraction_s": 0.1 + 0.2, "spacing_samples": 2, "elapsed_error_s": [0.0, 1e-13, 1 / 3]}


def make_capture(
    node: str = "east",
    number: int = 0,
    *,
    antennas: int = 2,
    lengths: tuple[int, ...] = (100,),
    lost: int = 7,
    first_tick: int = 1000,
    dtype: type = np.int16,
    **changes: Any,
) -> Capture:
    rng = np.random.default_rng([number, sum(lengths), *node.encode()])
    stretches, start, tick = [], 0, first_tick
    for length in lengths:
        stretches.append(Stretch(start, length, tick))
        start, tick = start + length, tick + length + lost
    samples = rng.integers(-2048, 2048, (antennas, start, 2))
    capture = Capture(
        node=node,
        round=number,
        samples=samples.astype(np.int16) if dtype is np.int16 else (samples / 2048).astype(np.float32),
        full_scale=2048 if dtype is np.int16 else 1,
        rate_hz=RATE_HZ,
        carrier_hz=CARRIER_HZ,
        stretches=tuple(stretches),
        stream=1,
    )
    return replace(capture, **changes)


def assert_same(found: Capture, written: Capture) -> None:
    assert found.samples.dtype == written.samples.dtype
    assert found.samples.tobytes() == written.samples.tobytes()
    assert {k: v for k, v in vars(found).items() if k != "samples"} == {
        k: v for k, v in vars(written).items() if k != "samples"
    }


def write_run(folder: Path, rounds: list[dict[str, Capture]], *, close: bool = True, **facts: Any) -> Path:
    writer = RecordingWriter(folder, "run", **facts)
    for captures in rounds:
        writer.write_round(captures)
    if close:
        writer.close()
    return folder


def two_rounds(folder: Path, *, close: bool = True) -> Path:
    return write_run(
        folder,
        [
            {node: make_capture(node, number, lengths=(60, 40), first_tick=1000 * (number + 1)) for node in ("a", "b")}
            for number in range(2)
        ],
        close=close,
    )


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def read_all(path: Path, **options: Any) -> list[dict[str, Capture]]:
    recordings = read_recordings(path, **options)
    return [recordings.captures(number) for number in recordings.rounds]


def refusal(path: Path, **options: Any) -> str:
    """The one line with which reading ``path``, to the last sample, is refused."""
    with pytest.raises(UserError) as caught:
        read_all(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- what is written comes back

texts = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
rates = st.fractions(min_value=1, max_value=10**10, max_denominator=10**6)


@st.composite
def runs(draw: st.DrawFn) -> list[dict[str, Capture]]:
    names = draw(
        st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,5}", fullmatch=True), min_size=1, max_size=3, unique=True)
    )
    kinds = {
        name: (draw(st.integers(1, 3)), draw(st.sampled_from([np.int16, np.float32])), draw(rates)) for name in names
    }
    ticks = dict.fromkeys(names, 0)
    rounds = []
    for number in sorted(draw(st.sets(st.integers(0, 50), min_size=1, max_size=3))):
        captures = {}
        for name in draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
            antennas, dtype, rate_hz = kinds[name]
            capture = make_capture(
                name,
                number,
                antennas=antennas,
                dtype=dtype,
                lengths=tuple(draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))),
                lost=draw(st.integers(0, 5)),
                first_tick=ticks[name] + draw(st.integers(0, 2**40)),
                rate_hz=rate_hz,
                carrier_hz=draw(rates),
                settings=draw(st.none() | st.dictionaries(texts, json_values, max_size=3)),
                truth=draw(st.none() | st.just(TRUTH)),
                events=tuple(draw(st.lists(st.fixed_dictionaries({"code": texts, "text": texts}), max_size=2))),
                departures=tuple(
                    Departure(frame, tick, fraction)
                    for frame, (tick, fraction) in enumerate(
                        sorted(
                            draw(
                                st.lists(
                                    st.tuples(st.integers(-5, 2**40), st.floats(0, 1, exclude_max=True)), max_size=3
                                )
                            )
                        )
                    )
                ),
            )
            last = capture.stretches[-1]
            ticks[name] = last.first_tick + last.samples
            captures[name] = capture
        rounds.append(captures)
    return rounds


@given(rounds=runs())
@settings(max_examples=60, deadline=None)
def test_captures_come_back_bit_for_bit(
    rounds: list[dict[str, Capture]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_run(tmp_path_factory.mktemp("run") / "recordings", rounds)
    recordings = read_recordings(folder, verify=True)
    assert recordings.events == ()
    assert list(recordings.rounds) == [next(iter(captures.values())).round for captures in rounds]
    for captures in rounds:
        found = recordings.captures(next(iter(captures.values())).round)
        assert set(found) == set(captures)
        for node, capture in found.items():
            assert_same(capture, captures[node])


def test_facts_scene_and_events_of_the_run_come_back(tmp_path: Path) -> None:
    facts = {"clock_source": "internal", "geometry": {"position_m": [0.0, 1.5], "heading_deg": 30.0}}
    event = {"round": 1, "node": "b", "code": "lost", "text": "gone"}
    with RecordingWriter(tmp_path / "recordings", "run", nodes={"a": facts}, facts={"seed": 5}) as writer:
        writer.write_round({"a": make_capture("a")}, scene={"paths": [1.25]})
        writer.note(event)
        silent = make_capture("b", 1, lengths=(), events=({"code": "late", "text": "never began"},))
        writer.write_round({"a": make_capture("a", 1, first_tick=5000), "b": silent}, events=[event])
    for path in (tmp_path, tmp_path / "recordings", writer.collection):
        recordings = read_recordings(path, verify=True)
        assert {key: recordings.nodes["a"][key] for key in facts} == facts
        assert recordings.scene == {"0": {"paths": [1.25]}}
        assert recordings.facts == {"seed": 5}
        assert [dict(each) for each in recordings.events] == [
            event,
            event,
            {"round": 1, "node": "b", "code": "late", "text": "never began"},
        ]
        assert list(recordings.captures(1)) == ["a"]
    with pytest.raises(KeyError):
        recordings.captures(2)


def test_the_sigmf_package_accepts_every_file_and_reads_the_same_samples(tmp_path: Path) -> None:
    captures = {"a": make_capture("a", truth=TRUTH, departures=(Departure(0, 1010, 0.5),), lengths=(60, 40))}
    write_run(tmp_path, [captures], nodes={"a": {"clock_source": "internal"}})
    write_samples(
        tmp_path / "frame", np.ones(8, np.complex64), rate_hz=RATE_HZ, carrier_hz=CARRIER_HZ, description="", facts={}
    )
    for path in [*tmp_path.glob("*.sigmf-meta")]:
        recording = sigmf.fromfile(path)  # computes the hash and holds it against the file's
        recording.validate()
        assert validate._validate_single_file(path, False, None) == 0
    collection = sigmf.fromfile(tmp_path / "run.sigmf-collection")
    assert collection.get_stream_names() == ["a-0", "a-1"]
    for antenna in range(2):
        read = sigmf.fromfile(tmp_path / f"a-{antenna}.sigmf-meta", autoscale=False).read_samples()
        assert np.array_equal(read.view(np.float32).reshape(-1, 2), captures["a"].samples[antenna])
    assert len(recording.get_captures()) >= 1


def test_a_growing_recording_is_valid_after_every_round(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, "run")
    for number in range(3):
        writer.write_round({"a": make_capture("a", number, first_tick=1000 * (number + 1))})
        assert sigmf.fromfile(writer.collection).get_stream_names() == ["a-0", "a-1"]
        for antenna in range(2):
            sigmf.fromfile(tmp_path / f"a-{antenna}.sigmf-meta").validate()
        assert read_recordings(tmp_path, verify=True).rounds == tuple(range(number + 1))
    writer.close()


# --- crashes


def test_a_crash_within_a_round_loses_that_round_only(tmp_path: Path) -> None:
    two_rounds(tmp_path, close=False)
    with (tmp_path / "b-1.sigmf-data").open("ab") as file:
        file.write(bytes(30))  # seven samples and a half of a third round
    recordings = read_recordings(tmp_path, verify=True)
    assert recordings.rounds == (0, 1)
    assert [(event["code"], event["node"]) for event in recordings.events] == [("unfinished-round", "b")]
    assert_same(recordings.captures(1)["b"], make_capture("b", 1, lengths=(60, 40), first_tick=2000))


def test_a_crash_between_meta_files_and_collection_loses_that_round_only(tmp_path: Path) -> None:
    two_rounds(tmp_path, close=False)
    committed = (tmp_path / "run.sigmf-collection").read_bytes()
    untouched = (tmp_path / "b-1.sigmf-meta").read_bytes()
    writer_state = tmp_path / "again"
    write_run(
        writer_state,
        [
            {node: make_capture(node, number, lengths=(60, 40), first_tick=1000 * (number + 1)) for node in ("a", "b")}
            for number in range(3)
        ],
        close=False,
    )
    (writer_state / "run.sigmf-collection").write_bytes(committed)
    (writer_state / "b-1.sigmf-meta").write_bytes(untouched)  # the last one not yet renamed
    recordings = read_recordings(writer_state, verify=True)
    assert recordings.rounds == (0, 1)
    assert len(recordings.events) == 4


@pytest.mark.parametrize("room", [0, 150, 500, 900, 1500])
def test_a_full_disk_takes_the_round_back_and_leaves_valid_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    writer = RecordingWriter(tmp_path, "run")
    writer.write_round({"a": make_capture("a")})
    write, left = os.write, room

    def scarce(file: int, data: memoryview) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(file, data[:left])
        left -= taken
        return taken

    monkeypatch.setattr(os, "write", scarce)
    with pytest.raises(OSError, match="No space"):
        writer.write_round({name: make_capture(name, 1, first_tick=5000) for name in ("a", "b")})
    monkeypatch.undo()
    writer.close()
    writer.close()
    recordings = read_recordings(tmp_path, verify=True)
    assert recordings.rounds == (0,)
    assert recordings.events == ()
    assert_same(recordings.captures(0)["a"], make_capture("a"))
    assert not (tmp_path / "b-0.sigmf-data").exists()
    sigmf.fromfile(writer.collection)


def test_a_meta_file_that_cannot_be_written_takes_the_round_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordingWriter(tmp_path, "run")
    writer.write_round({"a": make_capture("a")})
    calls = 0

    def failing(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        (tmp_path / path.name).write_bytes(content)

    monkeypatch.setattr("testbed.formats.sigmf_writer.write_atomically", failing)
    with pytest.raises(OSError, match="No space"):
        writer.write_round({"a": make_capture("a", 1, first_tick=5000)})
    assert read_recordings(tmp_path).rounds == (0,)  # even if the process ended here
    monkeypatch.undo()
    writer.write_round({"a": make_capture("a", 2, first_tick=9000)})
    writer.close()
    recordings = read_recordings(tmp_path, verify=True)
    assert recordings.rounds == (0, 2)
    assert_same(recordings.captures(2)["a"], make_capture("a", 2, first_tick=9000))


def test_nothing_is_overwritten_and_nothing_foreign_taken(tmp_path: Path) -> None:
    two_rounds(tmp_path)
    with pytest.raises(FileExistsError):
        RecordingWriter(tmp_path, "run")
    with pytest.raises(FileExistsError):
        write_run(tmp_path, [{"a": make_capture("a")}])
    writer = RecordingWriter(tmp_path / "new", "run")
    writer.write_round({"a": make_capture("a", 4)})
    capture = make_capture("a", 5, first_tick=9000)
    for wrong in (
        make_capture("a", 4),
        make_capture("a", 5, antennas=1),
        replace(capture, rate_hz=RATE_HZ + 1),
        replace(capture, stretches=()),
        replace(capture, stretches=(Stretch(0, 60, 50), Stretch(60, 40, 60))),
        replace(capture, node="../a"),
        replace(capture, samples=capture.samples.astype(np.int32)),
    ):
        with pytest.raises(ValueError, match=r"round|capture"):
            writer.write_round({wrong.node: wrong})
    writer.close()
    assert read_recordings(tmp_path / "new").rounds == (4,)


# --- faults


def set_global(**changes: Any) -> Any:
    return lambda content: content["global"].update({key.replace("__", ":"): value for key, value in changes.items()})


def set_segment(index: int, **changes: Any) -> Any:
    return lambda content: content["captures"][index].update({k.replace("__", ":"): v for k, v in changes.items()})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_global(core__datatype="cf32_le"), "truncated, or core:datatype"),
        (set_global(core__datatype="ri8"), "core:datatype is 'ri8'; readable are"),
        (set_global(core__num_channels=2), "truncated, or core:datatype or core:num_channels"),
        (set_global(core__sample_rate=10e6), "core:sample_rate is 1e+07, but isac:rate_hz beside it says 2e+07"),
        (set_global(core__sample_rate="fast"), "Expected `float | null`, got `str` - at `$.global.core:sample_rate`"),
        (set_global(core__sample_rate=-1, isac__rate_hz=-1), "wanted is a number of hertz above 0"),
        (set_global(isac__rate_hz="1/0"), 'wanted is a number or "p/q"'),
        (set_global(core__trailing_bytes=4), "header or trailing bytes"),
        (set_global(core__dataset="../a-1.sigmf-data"), "is missing"),
        (set_global(isac__antenna=1), "antenna 1 of node 'a' is recorded twice"),
        (set_global(isac__node="c", isac__antenna=1), "antenna 0 of node 'c' is missing"),
        (
            set_segment(1, core__sample_start=50),
            "captures[0] starts at sample 0 and overlaps captures[1], which starts at 50",
        ),
        (set_segment(1, core__global_index=1030), "captures[1] has core:global_index 1030, inside or before"),
        (set_segment(1, core__global_index=1500), "capture segments of round 0 differ"),
        (set_segment(1, core__frequency=1e9), "core:frequency is 1e+09, but isac:carrier_hz beside it says"),
        (set_segment(1, isac__round=7), "captures[2] is of round 1, after round 7"),
        (set_segment(1, isac__stream=2), "another stream, carrier or full scale"),
        (set_segment(3, isac__sample_count=41), "holds 200 samples, but round 1 ends at sample 201: truncated"),
        (set_segment(3, isac__sample_count=39), "its size is not that of the 199 samples stated"),
        (lambda content: content["captures"][2].pop("isac:round"), "captures[2] has no isac:round"),
        (lambda content: content["captures"][1].pop("core:global_index"), "captures[1] has no core:global_index"),
        (lambda content: content["captures"].clear(), "captures is empty"),
        (lambda content: content.pop("captures"), "missing required field `captures`"),
    ],
)
def test_a_mislabelled_recording_is_one_clear_line(tmp_path: Path, change: Any, said: str) -> None:
    two_rounds(tmp_path)
    edit(tmp_path / "a-0.sigmf-meta", change)
    text = refusal(tmp_path)
    assert said in text
    assert str(tmp_path) in text


def test_missing_and_unreadable_files_are_one_clear_line(tmp_path: Path) -> None:
    assert "there is no such file or folder" in refusal(tmp_path / "nowhere")
    assert "holds no SigMF recording" in refusal(tmp_path)
    (tmp_path / "note.txt").write_text("")
    assert "not a SigMF recording" in refusal(tmp_path / "note.txt")
    folder = two_rounds(tmp_path / "recordings")
    (folder / "other.sigmf-collection").write_text("{")
    assert "holds 2 collections (other.sigmf-collection, run.sigmf-collection): name one" in refusal(tmp_path)
    assert "not valid JSON" in refusal(folder / "other.sigmf-collection")
    (folder / "other.sigmf-collection").write_text("[]")
    assert "a JSON object is wanted" in refusal(folder / "other.sigmf-collection")
    (folder / "b-1.sigmf-data").unlink()
    assert "its data file 'b-1.sigmf-data' is missing" in refusal(folder / "run.sigmf-collection")
    (folder / "b-1.sigmf-meta").unlink()
    assert "its recording b-1.sigmf-meta is missing" in refusal(folder / "run.sigmf-collection")


def test_truncated_data_are_one_clear_line(tmp_path: Path) -> None:
    two_rounds(tmp_path)
    os.truncate(tmp_path / "b-0.sigmf-data", 4 * 150)
    assert "b-0.sigmf-data: holds 150 samples, but round 1 ends at sample 200: truncated" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a-1.sigmf-data", "b-0.sigmf-meta"])
def test_a_flipped_bit_is_found_when_asked_for(tmp_path: Path, name: str) -> None:
    two_rounds(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[content.index(b"1.2.6") + 4 if name.endswith("meta") else 77] ^= 1
    (tmp_path / name).write_bytes(content)
    assert f"{name}: damaged or edited" in refusal(tmp_path, verify=True)
    read_recordings(tmp_path)


def test_recordings_are_held_against_the_scenario(tmp_path: Path) -> None:
    recordings = read_recordings(two_rounds(tmp_path))
    right: dict[str, Any] = {"rate_hz": 20e6, "carrier_hz": 800e6, "antennas": {"a": 2, "b": 2, "c": 1}}
    recordings.check_against(**right)
    for change, said in (
        ({"rate_hz": 10e6}, "core:sample_rate is 2e+07 Hz, the scenario has 1e+07 Hz"),
        ({"carrier_hz": 2.4e9}, "core:frequency is 8e+08 Hz in round 0, the scenario has 2.4e+09 Hz"),
        ({"antennas": {"a": 2, "b": 4}}, "node 'b' was recorded with 2 antenna(s), the scenario has 4"),
        ({"antennas": {"a": 2}}, "node 'b' is not in the scenario (a)"),
    ):
        with pytest.raises(UserError) as caught:
            recordings.check_against(**{**right, **change})
        assert said in str(caught.value)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_meta_file_breaks_the_reader(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever stands in a meta file, it is read or refused; nothing else happens."""
    folder = tmp_path / "fuzz"
    if not folder.exists():
        write_run(folder, [{"a": make_capture("a", antennas=1, departures=(Departure(0, 1010, 0.5),))}])
        (folder / "valid").write_bytes((folder / "a-0.sigmf-meta").read_bytes())
    content = json.loads((folder / "valid").read_text())
    keys = [(section, key) for section in content for part in _parts(content[section]) for key in part]
    section, key = data.draw(st.sampled_from(keys))
    for part in _parts(content[section]):
        if data.draw(st.booleans()):
            part[key] = data.draw(json_values)
        else:
            part.pop(key, None)
    (folder / "a-0.sigmf-meta").write_text(json.dumps(content))
    with contextlib.suppress(UserError):
        read_all(folder, verify=data.draw(st.booleans()))


def _parts(section: Any) -> list[dict[str, Any]]:
    return section if isinstance(section, list) else [section]
