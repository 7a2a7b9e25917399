"""The points that a sweep file makes, and what it says of mistakes."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from testbed.errors import UserError
from testbed.sweep.design import load_sweep

HEAD = '[sweep]\nname = "s"\nscenario = "pair.toml"\n'


def test_grid_is_every_combination_with_every_seed(sweep_file: Callable[[str], Path]) -> None:
    sweep = load_sweep(
        sweep_file(HEAD + "seeds = 3\n[parameters]\nscene.snr_db = [0, 10]\n'waveform.symbols' = [16, 24, 32]\n")
    )
    points = list(sweep.points())
    expected = list(itertools.product([0, 10], [16, 24, 32], [40, 41, 42]))
    assert [(*p.parameters.values(), p.seed) for p in points] == expected
    assert [p.index for p in points] == list(range(len(sweep))) == list(range(18))
    raw = tomllib.loads(sweep.text(points[-1]))
    assert raw["scene"]["snr_db"] == 10
    assert raw["waveform"]["symbols"] == 32
    assert raw["experiment"]["seed"] == 42


def test_one_entry_of_a_list_of_tables_or_all_of_them(sweep_file: Callable[[str], Path]) -> None:
    keys = (
        "node.west.clock.offset_ppm = [1.5]\nscene.reflector.reflector-1.rcs_m2 = [9.0]\n'node.*.tx_power_dbm' = [7.0]"
    )
    sweep = load_sweep(sweep_file(HEAD + "[parameters]\n" + keys))
    raw = tomllib.loads(sweep.text(next(sweep.points())))
    assert [node["clock"]["offset_ppm"] for node in raw["node"]] == [1.5, -5.0]
    assert [node["tx_power_dbm"] for node in raw["node"]] == [7.0, 7.0]
    assert raw["scene"]["reflector"][0]["rcs_m2"] == 9.0


def test_draws_are_the_same_again_and_fill_their_range(sweep_file: Callable[[str], Path]) -> None:
    text = HEAD + (
        'design = "random"\npoints = 2000\nseed = 5\n[parameters]\n"scene.snr_db" = {low = 0.0, high = 30.0}\n'
        '"node.west.tx_power_dbm" = {values = [0.0, 10.0]}\n"scene.reflector.*.rcs_m2" = {low = 0.1, high = 100, '
        'scale = "log"}\n'
    )
    path = sweep_file(text)
    one, again = ([p.parameters for p in load_sweep(path).points()] for _ in range(2))
    assert one == again
    snr = np.array([p["scene.snr_db"] for p in one])
    assert abs(snr.mean() - 15.0) < 4 * 30 / np.sqrt(12 * 2000)
    assert snr.min() >= 0 and snr.max() <= 30  # noqa: PT018
    logs = np.log10([p["scene.reflector.*.rcs_m2"] for p in one])
    assert abs(logs.mean() - 0.5) < 4 * 3 / np.sqrt(12 * 2000)
    assert {p["node.west.tx_power_dbm"] for p in one} == {0.0, 10.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[parameters]\nscene.snr_dB = [1]",
            "parameters.scene.snr_dB: scene.snr_dB is not a key: did you mean snr_db?",
        ),
        ("[parameters]\nscene.snr_db = ['loud']", 'scene.snr_db is "loud", but must be a number of decibels'),
        ("[parameters]\nscene.snr_db = [0, 500]", "scene.snr_db is 500, but must be a number of decibels"),
        (
            "[parameters]\nnode.north.tx_power_dbm = [1]",
            "no node is called 'north': there are west, east, or * for all",
        ),
        ("[parameters]\nnode.tx_power_dbm = [1]", "node is a list of tables: name one, or * for all"),
        ("[parameters]\nscene.snr_db = []", "is an empty list"),
        ("[parameters]\nscene.snr_db = 3", "must be a list of values"),
        ("[parameters]\nscene.snr_db = {low = 1, high = 2}", 'sweep.design is "grid"'),
        ("design = 'random'\n[parameters]\nscene.snr_db = [1]", "sweep.points must say how many"),
        ("design = 'random'\npoints = 3\n[parameters]\nscene.snr_db = {low = 3, high = 2}", "must rise"),
        ("points = 3\n[parameters]\nscene.snr_db = [1]", "a grid has as many as it has"),
        ("seeds = [1, 1]\n[parameters]\nscene.snr_db = [1]", "different seeds"),
        ("seeds = 'many'", 'sweep.seeds is "many", but must be a whole number'),
        ("methods = ['magic']\nseeds = 2\n", "magic"),
        ("", "nothing varies"),
        ("[parameter]\nscene.snr_db = [1]", "parameter is not a table: there are sweep, parameters, fixed"),
        ("[parameters]\nexperiment.seed = [1]", "say this by sweep.seeds"),
        ("[fixed]\nscene.snr_db = 3\n[parameters]\nscene.snr_db = [1]", "say this by one table"),
    ],
)
def test_mistakes_are_named_in_one_line(sweep_file: Callable[[str], Path], text: str, message: str) -> None:
    path = sweep_file(HEAD + text)
    with pytest.raises(UserError) as caught:
        load_sweep(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
