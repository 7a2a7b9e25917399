"""The experiment file: defaults, bounds, the text it is written back to, and that every key is documented."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed import scenario, scenario_nodes
from testbed.errors import UserError
from testbed.scenario import METHODS, OSCILLATORS, Scenario, dumps, load, loads
from testbed.scenario_checks import SIMULATED_CARRIER_HZ, SIMULATED_RATE_HZ

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))
TWO_NODES = """
[experiment]
name = "pair"
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 20e6
[[node]]
name = "west"
position_m = [0, 0]
[[node]]
name = "east"
position_m = [30, 0, 1.5]
"""


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_experiments_are_valid_and_survive_being_written(path: Path) -> None:
    scenario = load(path)
    assert loads(dumps(scenario), source="again") == scenario


def test_resolved_text_spells_out_every_key_that_has_a_value() -> None:
    scenario = loads(TWO_NODES, source="pair.toml")
    written = tomllib.loads(dumps(scenario))
    assert written["waveform"]["fft_size"] == 1024
    assert written["node"][0]["clock"]["profile"] == "tcxo"
    assert written["node"][1]["antenna_spacing_m"] == pytest.approx(299_792_458 / 2.4e9 / 2, rel=1e-12)
    assert "snr_db" not in written["scene"]
    assert dumps(scenario) == dumps(loads(dumps(scenario), source="again"))


def test_whole_numbers_are_taken_where_real_ones_are_meant() -> None:
    assert loads(TWO_NODES, source="pair.toml").node[1].position_m == (30.0, 0.0, 1.5)


def test_unnamed_reflectors_are_numbered() -> None:
    text = TWO_NODES + "[[scene.reflector]]\nposition_m = [9, 9]\n" * 2
    assert [r.name for r in loads(text, source="x").scene.reflector] == ["reflector-1", "reflector-2"]


def test_a_power_law_table_stands_for_itself() -> None:
    text = TWO_NODES.replace("[0, 0]", "[0, 0]\nclock.profile = { white_fm = 1e-22 }")
    west, east = loads(text, source="x").node
    assert west.clock.power_law.white_fm == 1e-22
    assert west.clock.power_law.flicker_fm == 0.0
    assert east.clock.power_law == OSCILLATORS["tcxo"]


@pytest.mark.parametrize(
    ("name", "levels_dbc"),
    [
        ("tcxo", (-65, -95, -120, -142, -152)),
        ("cheap-tcxo", (-50, -82, -110, -135, -148)),
        ("ocxo", (-85, -115, -138, -150, -155)),
    ],
)
def test_named_oscillators_have_their_published_phase_noise(name: str, levels_dbc: tuple[float, ...]) -> None:
    # S_phi = S_y·(40 MHz / f)², and L = S_phi / 2.
    from math import log10

    law = msgspec.structs.astuple(OSCILLATORS[name])
    for frequency, level in zip((1, 10, 100, 1e3, 1e4), levels_dbc, strict=True):
        spectrum = sum(h * frequency**power for h, power in zip(law, range(-2, 3), strict=True))
        assert 10 * log10(spectrum * (40e6 / frequency) ** 2 / 2) == pytest.approx(level, abs=0.6)


def test_an_unknown_node_is_named_with_those_that_there_are() -> None:
    scenario = loads(TWO_NODES, source="pair.toml")
    assert scenario.index("east") == 1
    with pytest.raises(UserError, match="'south': there are west, east"):
        scenario.index("south")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_an_unreadable_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


_KEYS = st.sampled_from(
    ["experiment", "waveform", "round", "node", "scene", "clock", "name", "position_m", "profile", "reflector", "xyz"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=3))
def test_whatever_a_file_says_the_error_is_one_line(tables: dict[str, object]) -> None:
    from testbed.toml_words import wrong_value

    raw = tomllib.loads(TWO_NODES)
    for key, value in tables.items():
        old = raw.get(key)
        raw[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    sentence = wrong_value(raw, Scenario)
    if sentence is None:
        msgspec.convert(raw, Scenario)
    else:
        line = str(UserError(sentence))
        assert line.splitlines() == [line]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_short_text_is_a_user_error(text: str) -> None:
    # Too short for an experiment, whatever it is.
    with pytest.raises(UserError, match=r"^x: "):
        loads(text, source="x")


def test_every_key_of_the_experiment_file_is_documented() -> None:
    tables = [
        table
        for module in (scenario, scenario_nodes)
        for table in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        if isinstance(table, ast.ClassDef) and table.name != "Scenario"
    ]
    assert {"Experiment", "Node", "Pluto"} < {table.name for table in tables}
    bare = [
        f"{table.name}.{field.target.id}"
        for table in tables
        for field, after in zip(table.body, [*table.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert bare == []


def test_what_the_simulated_radio_can_do_is_what_the_checks_allow() -> None:
    from sim_backend.synthesizer import CARRIER_RANGE_HZ, RATE_RANGE_HZ

    assert (SIMULATED_CARRIER_HZ, SIMULATED_RATE_HZ) == (CARRIER_RANGE_HZ, RATE_RANGE_HZ)


def test_methods_that_an_experiment_may_name_are_those_that_there_are() -> None:
    from dsp.synchronization.registry import METHODS as CLOCK_METHODS

    assert set(METHODS) == set(CLOCK_METHODS)
