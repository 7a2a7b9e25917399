"""`isac verify` on results that nobody measured: drawn from clocks, distances and noise that the tests know."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from testbed import cli
from testbed.results import Epoch, LinkRow, Results, save_results

LIGHT = 299_792_458.0
RATE = 20_000_000
CARRIER_HZ = 2.4e9
EXPERIMENT = """
[experiment]
name = "drawn"
methods = ["spectral-cc-interpolated", "reciprocity-mle"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 20e6
[[node]]
name = "a"
position_m = [0, 0]
{clock}
[[node]]
name = "b"
position_m = [30, 0]
{clock}
[[node]]
name = "c"
position_m = [0, 40]
{clock}
"""
PLACES = {"a": (0.0, 0.0), "b": (30.0, 0.0), "c": (0.0, 40.0)}
TO_STD_S, CFO_STD_HZ, RANGE_STD_M = 8e-12, 0.05, 0.004


@dataclass
class Drawn:
    """Rounds of three nodes with linear clocks: reading = (1 + ppm)·t + offset."""

    ppm: dict[str, float] = field(default_factory=lambda: {"a": 3.0, "b": -8.0, "c": 11.0})
    offset_s: dict[str, float] = field(default_factory=lambda: {"a": 1.25, "b": -0.5, "c": 2.0})
    bias_s: dict[tuple[str, str], float] = field(default_factory=dict)
    range_m: float = 0.0
    noise: float = 1.0
    walk_s: float = 0.0
    restarts: bool = False
    rounds: int = 40
    seed: int = 1

    def write(self, folder: Path, clock: str = "") -> Path:
        folder.mkdir(parents=True)
        (folder / "scenario.toml").write_text(EXPERIMENT.format(clock=clock))
        rng = np.random.default_rng(self.seed)
        walks = {name: np.cumsum(rng.normal(size=self.rounds)) * self.walk_s for name in PLACES}
        rows = []
        for index in range(self.rounds):
            for place, (one, other) in enumerate((("a", "b"), ("a", "c"), ("b", "c"))):
                time = 5.0 + 0.25 * index + 0.02 * place
                rows += self._row(one, other, index, time, walks[one][index] - walks[other][index], rng)
        save_results(Results(environment={}, links=rows), folder)
        return folder

    def _row(
        self, one: str, other: str, index: int, time: float, walked: float, rng: np.random.Generator
    ) -> list[LinkRow]:
        readings = {name: (1 + 1e-6 * self.ppm[name]) * time + self.offset_s[name] for name in (one, other)}
        if self.restarts:
            for name in readings:
                readings[name] -= (1 + 1e-6 * self.ppm[name]) * (5.0 + 0.25 * index) + self.offset_s[name]
        ticks = readings[one] * RATE
        whole = int(np.floor(ticks))
        rates = [1e-6 * self.ppm[name] for name in (one, other)]
        # Growth of the offset per second of the two clocks' mean.
        growth = (rates[0] - rates[1]) / (1 + 0.5 * sum(rates))
        distance = float(np.hypot(*np.subtract(PLACES[one], PLACES[other]))) + self.range_m
        return [
            LinkRow(
                receiver=one, transmitter=other, round=index, method=name, valid=True,
                to_s=readings[one] - readings[other] + walked + self.bias_s.get((one, other), 0.0)
                + self.noise * TO_STD_S * rng.normal(),
                to_std_s=TO_STD_S,
                cfo_hz=-CARRIER_HZ * growth + CFO_STD_HZ * rng.normal(), cfo_std_hz=CFO_STD_HZ,
                epoch=Epoch(one, whole, float(ticks - whole), RATE),
                baseline_m=distance + RANGE_STD_M * rng.normal(), baseline_std_m=RANGE_STD_M,
            )
            for name in ("reciprocity-mle", "cacc")
        ]  # fmt: skip


def verified(*arguments: str | Path, code: int = 0, tmp_path: Path) -> dict[str, str]:
    json_file = tmp_path / "verdicts.json"
    assert cli.main(["verify", *map(str, arguments), "--json", str(json_file)]) == code
    return {one["test"]: one["status"] for one in json.loads(json_file.read_text())["verdicts"]}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages cost a second each."""
    monkeypatch.setattr("testbed.verify.page.write_page", lambda folder, *rest: folder / "verify.html")


ALL = {
    "common-clock zero": "not tested",
    "closure of triangles": "passed",
    "two-way range against survey": "passed",
    "time deviation": "passed",
    "cable-length step": "not tested",
}


def test_rounds_as_they_must_be_pass_with_a_page(tmp_path: Path) -> None:
    folder = Drawn().write(tmp_path / "run")
    assert verified(folder, tmp_path=tmp_path) == ALL
    page = (folder / "verify.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert {path.name for path in (folder / "figures").iterdir()} == {"verify-time-deviation.png", "verify-margins.png"}


@pytest.mark.parametrize(
    ("drawn", "test"),
    [
        (Drawn(bias_s={("a", "c"): 60e-12}), "closure of triangles"),
        (Drawn(range_m=0.15), "two-way range against survey"),
        (Drawn(walk_s=300e-12), "time deviation"),
        (Drawn(noise=4.0), "time deviation"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_each_test_can_fail(drawn: Drawn, test: str, tmp_path: Path) -> None:
    assert verified(drawn.write(tmp_path / "run"), code=1, tmp_path=tmp_path)[test] == "failed"


@pytest.mark.usefixtures("undrawn")
def test_a_common_clock_shows_zero_or_not(tmp_path: Path) -> None:
    alike = dict.fromkeys(PLACES, 0.0)
    same = 'clock = { profile = "ideal" }\nfront_end = { time_stamps = true }'
    good = Drawn(ppm=alike, offset_s=alike).write(tmp_path / "good", same)
    assert verified(good, tmp_path=tmp_path)["common-clock zero"] == "passed"
    late = Drawn(ppm=alike, offset_s=alike | {"b": 50e-12}).write(tmp_path / "late", same)
    assert verified(late, code=1, tmp_path=tmp_path)["common-clock zero"] == "failed"
    fast = Drawn(ppm=alike | {"b": 1e-3}, offset_s=alike).write(tmp_path / "fast", same)
    assert verified(fast, code=1, tmp_path=tmp_path)["common-clock zero"] == "failed"
    # Without counters that agree, a common frequency is all that can be looked at.
    stampless = Drawn(ppm=alike, offset_s=alike | {"b": 1e-3}).write(tmp_path / "stampless")
    assert verified(stampless, "--common-clock", tmp_path=tmp_path)["common-clock zero"] == "passed"


@pytest.mark.usefixtures("undrawn")
def test_a_metre_of_cable_is_five_nanoseconds(tmp_path: Path) -> None:
    short, long = Drawn().write(tmp_path / "short"), Drawn(range_m=1 / 0.66, seed=2).write(tmp_path / "long")
    options = ("--cable-step-m", "1.0", "--survey-std-m", "2.0", "--out", tmp_path / "page")
    assert verified(short, long, *options, tmp_path=tmp_path)["cable-length step"] == "passed"
    rows = json.loads((tmp_path / "verdicts.json").read_text())["verdicts"][-1]["figures"]
    assert next(row["expected"] for row in rows if row["name"] == "delay_step") == pytest.approx(5.05e-9, rel=1e-2)
    assert verified(short, short, *options, code=1, tmp_path=tmp_path)["cable-length step"] == "failed"


@pytest.mark.usefixtures("undrawn")
def test_counters_that_start_anew_give_no_time_deviation(tmp_path: Path) -> None:
    found = verified(Drawn(restarts=True).write(tmp_path / "run"), tmp_path=tmp_path)
    assert found["time deviation"] == "not tested"


@pytest.mark.usefixtures("undrawn")
def test_five_rounds_are_too_few(tmp_path: Path) -> None:
    assert verified(Drawn(rounds=5).write(tmp_path / "run"), tmp_path=tmp_path)["time deviation"] == "not tested"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--cable-step-m", "1"), "compares two runs"),
        (("--method", "auto"), "has no two-way method to judge"),
    ],
)
def test_wrong_input_is_one_line(
    options: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Drawn(rounds=3).write(tmp_path / "run")
    assert cli.main(["verify", str(folder), *options]) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "verify.html").exists()
    assert cli.main(["verify", str(tmp_path / "missing")]) == 2
