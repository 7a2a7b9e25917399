"""`isac scenario keys`: every key of the experiment file, explained as it stands in the source."""

from __future__ import annotations

import pytest

from testbed.cli import main
from testbed.errors import UserError
from testbed.scenario import dumps, loads
from testbed.scenario_keys import chosen, key_tables

TWO_NODES = """
experiment = { name = "pair" }
waveform = { carrier_hz = 2.4e9, sample_rate_hz = 20e6 }
node = [{ name = "a", position_m = [0, 0] }, { name = "b", position_m = [9, 0] }]
"""


def test_every_key_has_its_sentence_and_every_default_is_what_a_file_without_it_gets() -> None:
    shown = dumps(loads(TWO_NODES, source="pair")).splitlines()
    for table in key_tables():
        assert table.sentence
        for key in table.keys:
            assert key.sentence, f"{table.name}.{key.name}"
            assert key.wants
    (scene,) = chosen(("scene",))
    assert [key.name for key in scene.keys] == ["line_of_sight", "snr_db", "leakage_db"]
    (waveform,) = chosen(("waveform",))
    assert {f"{key.name} = {key.default}" for key in waveform.keys if key.default} <= set(shown)


def test_one_key_and_one_table_are_chosen_and_others_refused(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = chosen(("node.clock.drift_ppm_per_s",))
    assert (table.head, [key.wants for key in table.keys]) == (
        "[node.clock]",
        ["a number of parts per million per second from -1 to 1"],
    )
    assert [table.head for table in chosen(("node", "scene.reflector"))] == ["[[node]]", "[[scene.reflector]]"]
    for name in ("nodes", "node.uri", "node."):
        with pytest.raises(UserError, match="is no table nor key"):
            chosen((name,))
    assert main(["scenario", "keys", "experiment.seed"]) == 0
    assert "seed: a whole number from 0 to 9007199254740992; default 0\n" in capsys.readouterr().out
