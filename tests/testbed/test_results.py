"""The results file: the schema's order, exact numbers, the same bytes every time, and never a NaN."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsp.moment import Moment
from testbed.capture import Capture, Stretch
from testbed.errors import UserError
from testbed.results import (
    ClosureRow,
    DetectionRow,
    Epoch,
    EventRow,
    LinkRow,
    LossRow,
    NodeRow,
    PayloadRow,
    PositionRow,
    Results,
    RoundRow,
    TargetTruth,
    Truth,
    encode_results,
    load_results,
    losses_of,
    save_results,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
epochs = st.builds(
    lambda tick, fraction, rate: Epoch.of(Moment("east", tick, fraction, rate)),
    st.integers(0, 2**62),
    st.floats(0, 1, exclude_max=True),
    st.fractions(min_value=1, max_value=10**9, max_denominator=10**6),
)
links = st.builds(
    LinkRow,
    receiver=st.text(max_size=5),
    transmitter=st.just("west"),
    round=st.integers(0, 1000),
    method=st.just("reciprocity-mle"),
    valid=st.booleans(),
    reason=st.text(max_size=10),
    epoch=st.none() | epochs,
    to_s=maybe,
    cfo_hz=maybe,
    snr_db=maybe,
)
positions = st.builds(
    PositionRow,
    round=st.integers(0, 9),
    method=st.just("auto"),
    fusion=st.just("centralised"),
    position_m=st.none() | st.lists(finite, min_size=2, max_size=3),
    covariance_m2=st.none() | st.lists(st.lists(finite, min_size=2, max_size=2), min_size=2, max_size=2),
)


def link(**changes: object) -> LinkRow:
    return LinkRow(**{"receiver": "east", "transmitter": "west", "round": 0, "method": "m", "valid": True, **changes})  # type: ignore[arg-type]


@given(rows=st.lists(links, max_size=3), places=st.lists(positions, max_size=2), seconds=finite)
def test_results_come_back_exactly_and_in_the_same_bytes(
    rows: list[LinkRow], places: list[PositionRow], seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    results = Results(environment={"seed": 1, "versions": {"numpy": "2"}}, links=rows, positions=places)
    results.timing["sensing"] = seconds
    folder = tmp_path_factory.mktemp("run")
    path = save_results(results, folder)
    assert [file.name for file in folder.iterdir()] == ["results.json"]
    found = load_results(folder)
    assert found == results
    assert encode_results(found) == path.read_bytes() == encode_results(results)
    for row, again in zip(rows, found.links, strict=True):
        assert (row.epoch is None) == (again.epoch is None)
        assert row.epoch is None or again.epoch is None or row.epoch.moment() == again.epoch.moment()


def test_sections_and_keys_stand_in_the_order_of_the_contract() -> None:
    content = json.loads(encode_results(Results(environment={}, links=[link()])))
    assert list(content) == [
        *("schema_version", "environment", "links", "detections", "positions", "nodes", "closures", "payload"),
        *("rounds", "events", "losses", "truth", "timing"),
    ]
    assert {
        "to_s",
        "cfo_hz",
        "epoch",
        "to_std_s",
        "cfo_std_hz",
        "phase_rad",
        "baseline_m",
        "snr_db",
        "valid",
        "reason",
    } <= set(content["links"][0])


def test_each_row_has_a_line_of_its_own() -> None:
    rows = [link(round=number, to_s=1e-12 * number) for number in range(3)]
    lines = encode_results(Results(environment={}, links=rows)).decode().splitlines()
    assert sum(line.startswith('{"receiver":"east"') for line in lines) == 3


def test_an_epoch_states_whole_rates_as_numbers_and_others_exactly() -> None:
    assert Epoch.of(Moment("a", 1, 0.5, Fraction(20_000_000))).rate == 20_000_000
    assert Epoch.of(Moment("a", 1, 0.5, Fraction(61_440_000, 7))).rate == "61440000/7"


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_becomes_null_with_the_reason(wrong: float) -> None:
    rows = [link(to_s=wrong, to_std_s=1e-12), link(snr_db=wrong, reason="weak")]
    place = PositionRow(round=0, method="m", fusion="f", position_m=[1.0, wrong])
    content = json.loads(encode_results(Results(environment={}, links=rows, positions=[place])))
    assert content["links"][0]["to_s"] is None
    assert content["links"][0]["valid"] is False
    assert content["links"][0]["reason"] == "to_s not finite"
    assert content["links"][1]["snr_db"] is None
    assert content["links"][1]["valid"] is True  # the offset itself stands
    assert content["links"][1]["reason"] == "weak; snr_db not finite"
    assert content["positions"][0]["position_m"] is None
    assert content["positions"][0]["reason"] == "position_m not finite"


def test_a_required_number_that_is_none_is_refused(tmp_path: Path) -> None:
    target = TargetTruth(round=0, receiver="a", transmitter="b", name="car", delay_s=math.nan, doppler_hz=0.0)
    with pytest.raises(ValueError, match="not finite"):
        save_results(Results(environment={}, truth=Truth(targets=[target])), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_are_written_as_numbers() -> None:
    row = link(to_s=np.float64(1.5e-9), round=np.int64(3), valid=np.bool_(True))
    payload = PayloadRow(receiver="a", transmitter="b", round=0, frames=2, frames_lost=0, bits=np.int64(8))
    content = json.loads(encode_results(Results(environment={"x": np.arange(2)}, links=[row], payload=[payload])))
    assert (content["links"][0]["to_s"], content["links"][0]["round"], content["payload"][0]["bits"]) == (1.5e-9, 3, 8)
    assert content["environment"] == {"x": [0, 1]}
    with pytest.raises(TypeError, match="cannot hold a Fraction"):
        encode_results(Results(environment={"rate": Fraction(1, 3)}))


def test_losses_are_the_jumps_of_the_counter() -> None:
    capture = Capture(
        node="east",
        round=2,
        samples=np.zeros((1, 60, 2), np.int16),
        full_scale=2048,
        rate_hz=Fraction(1),
        carrier_hz=Fraction(1),
        stretches=(Stretch(0, 10, 100), Stretch(10, 20, 110), Stretch(30, 30, 200)),
        stream=0,
    )
    assert losses_of(capture) == [LossRow(node="east", round=2, tick=130, samples=70)]


def test_the_reference_names_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    for heading, kind in (
        ("links", LinkRow),
        ("detections", DetectionRow),
        ("positions", PositionRow),
        ("nodes", NodeRow),
        ("closures", ClosureRow),
        ("payload", PayloadRow),
        ("losses", LossRow),
        ("events", EventRow),
        ("rounds", RoundRow),
        ("truth.targets", TargetTruth),
    ):
        section = text[text.index(f"`{heading}`", text.index("\n## `links`")) :]
        for name in kind.__struct_fields__:
            assert f"`{name}`" in section[:2500], f"{heading}.{name}"


def test_files_that_are_no_results_are_one_clear_line(tmp_path: Path) -> None:
    good = Results(
        environment={},
        rounds=[RoundRow(round=0, status="complete", nodes=["a"])],
        events=[EventRow(code="c", text="t")],
    )
    path = save_results(good, tmp_path)
    content = json.loads(path.read_text())
    for text, said in (
        (None, "cannot be read: no such file or directory"),
        ("{", "not a results file"),
        ("[]", "not a results file"),
        ("{}", "not a results file: Object missing required field `schema_version`"),
        (json.dumps({**content, "schema_version": 9}), "schema_version is 9; this release reads version 1"),
        (json.dumps({**content, "rounds": [{"round": "x"}]}), "Expected `int`, got `str` - at `$.rounds[0].round`"),
    ):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError) as caught:
            load_results(tmp_path)
        assert said in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
