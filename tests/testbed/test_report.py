"""The report, made of a synthetic run whose every figure is known beforehand."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from testbed.commands.compare import command as compare_command
from testbed.commands.report import command as report_command
from testbed.errors import UserError
from testbed.report.figures import Drawing, LeftOut, delay_doppler, floor_plan, offsets
from testbed.report.figures.floor_plan import confidence_ellipse
from testbed.report.page import write_report
from testbed.report.run_data import read_run
from testbed.report.style import figure_style, method_style, metres, quantity, small_share
from testbed.report.summary import Spread, summarize
from testbed.report.verdict import State, judge

C = 299_792_458.0
CARRIER = 2.4e9
RATE = 20_000_000
NODES: dict[str, tuple[float, float, float]] = {
    "alpha": (0.0, 0.0, 60.0),
    "bravo": (34.0, 0.0, 120.0),
    "carol": (17.0, 34.0, -90.0),
}
REFLECTORS = {"wall": (-6.0, 14.0), "mast": (41.0, 22.0), "car": (20.0, -9.0)}
SPREADS = {
    "reciprocity-mle": (1.0, 7.0e-12, 0.013),
    "reciprocity-mp": (1.1, 7.0e-12, 0.013),
    "spectral-cc-interpolated": (1.0, 80e-12, 0.06),
    "spectral-cc": (1.0, 9e-9, 6.0),
}
"""Method: (actual over predicted deviation, predicted TO deviation in s, predicted CFO deviation in Hz)."""


def scenario_text(names: list[str], rounds: int, *, truth: bool) -> str:
    listed = ", ".join(f'"{m}"' for m in [*SPREADS, "cacc"])
    text = f"""
[experiment]
name = "two-nodes"
seed = 7
rounds = {rounds}
methods = [{listed}]
[waveform]
carrier_hz = {CARRIER}
sample_rate_hz = {RATE}.0
fft_size = 1024
cp_samples = 128
active_subcarriers = 800
symbols = 64
modulation = "16qam"
pilot_spacing = 8
[round]
duplex = "half"
frames_per_slot = 16
frame_period_s = 0.005
[sensing]
false_alarm_rate = 1e-6
remove_clutter = true
"""
    for index, name in enumerate(names):
        x, y, heading = NODES[name]
        text += f"""
[[node]]
name = "{name}"
position_m = [{x}, {y}]
heading_deg = {heading}
antennas = 2
radio = "{"simulated" if truth else "pluto"}"
[node.clock]
profile = "tcxo"
offset_ppm = {[12.3, -7.9, 3.1][index]}
"""
    if truth:
        text += "[scene]\nline_of_sight = true\nleakage_db = 40.0\n"
        for name, (x, y) in REFLECTORS.items():
            text += f'[[scene.reflector]]\nname = "{name}"\nposition_m = [{x}, {y}]\nrcs_m2 = 8.0\n'
        text += '[[scene.reflector]]\nname = "cyclist"\nposition_m = [8.0, 22.0]\nvelocity_mps = [4.0, -3.0]\n'
    return text


def cyclist(round_index: int) -> np.ndarray:
    return np.array([8.0, 22.0]) + 0.25 * round_index * np.array([4.0, -3.0])


def bistatic(point: np.ndarray, velocity: np.ndarray, receiver: str, transmitter: str) -> tuple[float, float]:
    """Delay and Doppler of the path over ``point``; Doppler positive when the path shortens."""
    legs = [point - np.array(NODES[name][:2]) for name in (receiver, transmitter)]
    rate = sum(float(velocity @ leg) / float(np.hypot(*leg)) for leg in legs)
    return sum(float(np.hypot(*leg)) for leg in legs) / C, -rate * CARRIER / C


def baseline_s(receiver: str, transmitter: str) -> float:
    return math.dist(NODES[receiver][:2], NODES[transmitter][:2]) / C


def link_rows(names: list[str], rounds: int, rng: np.random.Generator, *, truth: bool) -> list[dict[str, Any]]:
    rows = []
    for receiver, transmitter in permutations(names, 2):
        sign = 1 if receiver < transmitter else -1
        for round_index in range(rounds):
            tick = 1_000_000 + 5_000_000 * round_index
            epoch = {"clock": receiver, "tick": tick, "fraction": 0.25, "rate": RATE}
            seconds = tick / RATE
            cfo = sign * (48_480.0 + 0.4 * seconds)
            to = sign * (2.301234 - 48_480.0 / CARRIER * seconds)
            for method, (actual, to_std, cfo_std) in SPREADS.items():
                pair = np.random.default_rng(
                    [round_index, *map(ord, "".join([*sorted((receiver, transmitter)), method]))]
                )
                to_error, cfo_error = sign * actual * np.array([to_std, cfo_std]) * pair.standard_normal(2)
                if method == "spectral-cc":
                    to_error = sign * to_std * pair.uniform(-1.7, 1.7)
                valid = not (method == "reciprocity-mp" and round_index == 3)
                rows.append(
                    {
                        "receiver": receiver,
                        "transmitter": transmitter,
                        "round": round_index,
                        "method": method,
                        "valid": valid,
                        "reason": "" if valid else "two poles of equal strength",
                        "to_s": to + float(to_error),
                        "to_std_s": to_std,
                        "cfo_hz": cfo + float(cfo_error),
                        "cfo_std_hz": cfo_std,
                        "epoch": epoch,
                        "to_error_s": float(to_error) if truth else None,
                        "cfo_error_hz": float(cfo_error) if truth else None,
                        "snr_db": 20.0,
                    }
                )
            rows.append(
                {
                    "receiver": receiver,
                    "transmitter": transmitter,
                    "round": round_index,
                    "method": "cacc",
                    "valid": True,
                    "reason": "gives offset-free sensing, no clock offset",
                }
            )
    return rows


def target_rows(
    names: list[str], rounds: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Detections, positions, truth."""
    velocity = np.array([4.0, -3.0])
    detections, positions, truth = [], [], []
    for round_index in range(rounds):
        point = cyclist(round_index)
        for receiver, transmitter in permutations(names, 2):
            delay, doppler = bistatic(point, velocity, receiver, transmitter)
            where = {"receiver": receiver, "transmitter": transmitter, "round": round_index}
            truth.append(
                {**where, "name": "cyclist", "delay_s": delay, "doppler_hz": doppler, "position_m": point.tolist()}
            )
            for name, at in REFLECTORS.items():
                still = bistatic(np.array(at), np.zeros(2), receiver, transmitter)
                truth.append({**where, "name": name, "delay_s": still[0], "doppler_hz": 0.0, "position_m": list(at)})
            seen = {
                "reference": "absolute",
                "delay_s": delay + 1.2e-9 * rng.standard_normal(),
                "delay_std_s": 1.2e-9,
                "doppler_hz": doppler + 0.4 * rng.standard_normal(),
                "doppler_std_hz": 0.4,
                "angle_rad": 0.3,
                "snr_db": 24.0,
                "target": "cyclist",
            }
            detections.append({**where, **seen, "method": "reciprocity-mle"})
            # the same peak made absolute by a time offset 9 ns off
            detections.append({**where, **seen, "method": "spectral-cc", "delay_s": seen["delay_s"] + 9e-9})
            detections.append(
                {
                    **where,
                    "method": "cacc",
                    "reference": "line-of-sight",
                    "delay_s": delay - baseline_s(receiver, transmitter) + 3e-9 * rng.standard_normal(),
                    "doppler_hz": doppler + 0.6 * rng.standard_normal(),
                    "target": "cyclist",
                }
            )
        covariance = np.array([[0.09, 0.05], [0.05, 0.16]])
        estimate = point + np.linalg.cholesky(covariance) @ rng.standard_normal(2)
        for method, off in (("reciprocity-mle", estimate), ("spectral-cc", estimate + 3.0)):
            positions.append(
                {
                    "round": round_index,
                    "method": method,
                    "fusion": "centralised",
                    "target": "cyclist",
                    "position_m": off.tolist(),
                    "covariance_m2": covariance.tolist(),
                    "error_m": float(np.hypot(*(off - point))),
                }
            )
    return detections, positions, truth


def delay_doppler_map(receiver: str, transmitter: str, round_index: int, rng: np.random.Generator) -> dict[str, Any]:
    """Power map of the mover, what clutter removal left, and noise, with windows of both axes."""
    delay = np.arange(0, 512) / (2 * 15.625e6)
    doppler = (np.arange(64) - 32) / (64 * 0.005)
    paths = [(*bistatic(cyclist(round_index), np.array([4.0, -3.0]), receiver, transmitter), 30.0)]
    paths += [(*bistatic(np.array(at), np.zeros(2), receiver, transmitter), 6.0) for at in REFLECTORS.values()]
    noise = (rng.standard_normal((64, 512)) + 1j * rng.standard_normal((64, 512))) / math.sqrt(2)
    for tau, nu, db in paths:
        along = np.sinc((delay - tau) * 15.625e6 * 0.6)[None, :] ** 2
        across = np.sinc((doppler - nu) * 0.08 * 0.6)[:, None] ** 2
        noise += 10 ** (db / 20) * along * across
    return {
        "map_db": (20 * np.log10(np.abs(noise)) - 80).astype(np.float32),
        "map_delay_s": delay,
        "map_doppler_hz": doppler,
        "baseline_s": np.float64(baseline_s(receiver, transmitter)),
        "round": np.int64(round_index),
    }


def constellation(rng: np.random.Generator, points: int = 3000) -> np.ndarray:
    levels = np.array([-3, -1, 1, 3]) / math.sqrt(10)
    sent = rng.choice(levels, points) + 1j * rng.choice(levels, points)
    return (sent + 0.06 * (rng.standard_normal(points) + 1j * rng.standard_normal(points))).astype(np.complex64)


def make_run(folder: Path, *, nodes: int = 2, rounds: int = 8, truth: bool = True, products: bool = True) -> Path:
    """Folder of a run as `isac run` would leave it, its recordings apart."""
    rng = np.random.default_rng(3)
    names = list(NODES)[:nodes]
    folder.mkdir(parents=True)
    (folder / "scenario.toml").write_text(scenario_text(names, rounds, truth=truth))
    detections, positions, targets = target_rows(names, rounds, rng)
    if not truth:
        for row in (*detections, *positions):
            row["target"] = None
            row.pop("error_m", None)
    links = list(permutations(names, 2))
    results = {
        "schema_version": 1,
        "environment": {
            "isac": "0.1.0",
            "python": "3.11.9",
            "packages": {"numpy": "2.4.6"},
            "machine": "x86_64",
            "seed": 7,
        },
        "links": link_rows(names, rounds, rng, truth=truth),
        "detections": detections,
        "positions": positions,
        "nodes": [
            {
                "node": name,
                "round": r,
                "reference": names[0],
                "offset_s": 0.0 if name == names[0] else -2.301234567891 - 5e-6 * r,
                "drift": 0.0 if name == names[0] else -2.02e-5,
                "covariance": [[4.9e-23, 0.0], [0.0, 2.9e-23]],
            }
            for name in names
            for r in range(rounds)
        ],
        "payload": [
            {
                "receiver": a,
                "transmitter": b,
                "round": r,
                "frames": 16,
                "frames_lost": int(r == 2 and a == names[0]),
                "bits": 16 * 64 * 700 * 4,
                "bit_errors": 0 if b == names[0] else 3,
                "evm_db": -21.4,
            }
            for a, b in links
            for r in range(rounds)
        ],
        "rounds": [{"round": r, "status": "complete", "nodes": names} for r in range(rounds)],
        "events": [{"round": 2, "node": names[0], "code": "samples-lost", "text": "a buffer of 8192 samples was lost"}],
        "losses": [{"node": names[0], "round": 2, "tick": 11_234_567, "samples": 8192}],
        "truth": {"targets": targets} if truth else None,
        "timing": {
            "acquisition": 3.1,
            "front": 1.7,
            "offsets": 4.4,
            "sensing": 2.2,
            "positions": 0.3,
            "recording": 0.9,
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    if products:
        arrays: dict[str, Any] = {"links": np.array([f"{a}<-{b}" for a, b in links])}
        for index, (a, b) in enumerate(links):
            kept = delay_doppler_map(a, b, rounds - 1, rng) | {"constellation": constellation(rng)}
            arrays |= {f"{key}_{index}": value for key, value in kept.items()}
        np.savez(folder / "products.npz", **arrays)
    return folder


def edit(folder: Path, change: Any) -> Path:
    """The run in ``folder`` with its results changed in place."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))
    return folder


def faultless(results: dict[str, Any]) -> None:
    results["losses"], results["events"] = [], []
    for row in results["payload"]:
        row["frames_lost"] = row["bit_errors"] = 0


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "two-nodes-run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report written."""
    folder = make_run(tmp_path_factory.mktemp("report") / "run", rounds=5)
    write_report(folder)
    return folder


# The figures by which a run is judged


def test_rmse_and_prediction_are_those_of_the_valid_rows(run_folder: Path) -> None:
    rows = json.loads((run_folder / "results.json").read_text())["links"]
    figures = {m.method: m for m in summarize(read_run(run_folder)).methods}
    for method, (_, to_std, _) in SPREADS.items():
        errors = np.array([r["to_error_s"] for r in rows if r["method"] == method and r["valid"]])
        assert figures[method].to.rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-12)
        assert figures[method].to.predicted == pytest.approx(to_std, rel=1e-12)
        # 8 rounds of one pair, whose two directions share their measurement
        assert figures[method].to.trials == (7 if method == "reciprocity-mp" else 8)
    assert (figures["reciprocity-mp"].valid, figures["reciprocity-mp"].rows) == (14, 16)
    assert figures["reciprocity-mp"].reasons == (("two poles of equal strength", 2),)
    assert figures["cacc"].to is None


def test_bias_of_antisymmetric_offsets_does_not_cancel_over_the_directions(run_folder: Path) -> None:
    def shift(results: dict[str, Any]) -> None:
        for row in results["links"]:
            if row["method"] == "reciprocity-mle":
                row["to_error_s"] = 5e-12 if row["receiver"] == "alpha" else -5e-12

    figures = summarize(read_run(edit(run_folder, shift))).methods[0]
    assert figures.method == "reciprocity-mle"
    assert figures.to.bias == pytest.approx(5e-12)


def test_without_truth_the_spread_is_about_a_line_with_its_freedoms_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=12, truth=False, products=False)
    wiggle = 1e-11 * np.random.default_rng(5).standard_normal(12)

    def put(results: dict[str, Any]) -> None:
        kept = [r for r in results["links"] if r["method"] == "reciprocity-mle" and r["receiver"] == "alpha"]
        for row in kept:
            seconds = row["epoch"]["tick"] / RATE
            row["to_s"] = 0.301 - 2.0e-5 * seconds + wiggle[row["round"]]
        results["links"] = kept

    spread = summarize(read_run(edit(folder, put))).methods[0].to
    time = np.arange(12.0)
    design = np.stack([np.ones(12), time], axis=1)
    left = wiggle - design @ np.linalg.lstsq(design, wiggle, rcond=None)[0]
    assert spread.rmse == pytest.approx(math.sqrt(left @ left / 10), rel=1e-3)  # doubles of 0.3 s resolve 0.06 fs
    assert spread.trials == 10
    assert spread.bias is None
    assert not spread.against_truth


@pytest.mark.parametrize("trials", [1, 4, 12, 300])
def test_chance_is_judged_by_chi_squared(trials: int) -> None:
    limit = math.sqrt(stats.chi2.ppf(0.99, trials) / trials)
    below, above = (Spread(f * limit, 0.0, 1.0, trials, True) for f in (0.97, 1.03))
    assert below.as_predicted
    assert not above.as_predicted


@pytest.mark.parametrize("method", ["reciprocity-mle", "spectral-cc", "cacc"])
def test_targets_are_counted_by_round_and_measured_against_truth(run_folder: Path, method: str) -> None:
    def lose(results: dict[str, Any]) -> None:
        results["detections"] = [r for r in results["detections"] if r["round"] != 5]
        next(r for r in results["detections"] if r["method"] == method)["target"] = None

    run = read_run(edit(run_folder, lose))
    summary = summarize(run)
    found = next(t for t in summary.all_targets if t.name == "cyclist" and t.method == method)
    truth = {(t["receiver"], t["round"]): t["delay_s"] for t in run.true_targets if t["name"] == "cyclist"}
    misses = [
        C * (r["delay_s"] - truth[r["receiver"], r["round"]]) + (34.0 if method == "cacc" else 0.0)
        for r in run.rows("detections")
        if r["target"] == "cyclist" and r["method"] == method
    ]
    assert (found.found, found.rounds, found.moving) == (7, 8, True)
    assert found.range_rmse_m == pytest.approx(math.sqrt(np.mean(np.square(misses))), rel=1e-9)
    assert dict(summary.unnamed) == {method: 1}
    assert summary.sensing_method == "reciprocity-mle"
    assert summary.unnamed_detections == int(method == "reciprocity-mle")
    assert {t.name for t in summary.targets if not t.moving} == set(REFLECTORS)


def test_a_faultless_run_is_as_it_should_be(run_folder: Path) -> None:
    verdict = judge(summarize(read_run(edit(run_folder, faultless))))
    assert verdict.state is State.GOOD
    assert "as the bound predicts; cyclist found in every round; the payload came through" in verdict.sentence


def noisy_clocks(results: dict[str, Any]) -> None:
    for row in results["links"]:
        if row.get("to_error_s") is not None:
            row["to_error_s"] *= 4


def invalid_clocks(results: dict[str, Any]) -> None:
    for row in results["links"]:
        row.update(valid=False, to_s=None, cfo_hz=None, to_error_s=None, cfo_error_hz=None, reason="departure unknown")


def half_the_target(results: dict[str, Any]) -> None:
    results["detections"] = [row for row in results["detections"] if row["round"] % 2]


def a_round_less(results: dict[str, Any]) -> None:
    results["rounds"][-1].update(status="partial", reason="bravo was lost")


def a_lost_frame(results: dict[str, Any]) -> None:
    results["payload"][0]["frames_lost"] = 1


@pytest.mark.parametrize(
    ("fault", "title", "state"),
    [
        (noisy_clocks, "Time offset", State.LOOK),
        (invalid_clocks, "Time offset", State.BAD),
        (half_the_target, "Targets found", State.LOOK),
        (a_round_less, "Rounds and losses", State.LOOK),
        (a_lost_frame, "Payload", State.LOOK),
    ],
)
def test_each_fault_shows_in_the_verdict(run_folder: Path, fault: Any, title: str, state: State) -> None:
    verdict = judge(summarize(read_run(edit(edit(run_folder, faultless), fault))))
    assert {card.title: card.state for card in verdict.cards}[title] is state
    assert verdict.state is state
    assert title.lower() in verdict.word


# The page


def test_page_stands_alone_and_holds_every_figure(reported: Path) -> None:
    html = (reported / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    sources = re.findall(r'src="([^"]*)"', html)
    embedded = [base64.b64decode(s.removeprefix("data:image/png;base64,"), validate=True) for s in sources]
    written = {path.name: path.read_bytes() for path in (reported / "figures").iterdir()}
    assert sorted(embedded) == sorted(written.values())
    assert set(written) == {
        "methods.png",
        "offsets-alpha-from-bravo.png",
        "offsets-bravo-from-alpha.png",
        "floor-plan.png",
        "delay-doppler-alpha-from-bravo.png",
        "delay-doppler-bravo-from-alpha.png",
        "constellations.png",
        "timing.png",
    }
    assert html.index("Valid estimates") < html.index("<figure")  # the verdict comes first
    assert not list(reported.glob("*.part"))


def test_torn_products_and_hostile_words_do_not_spoil_the_page(run_folder: Path) -> None:
    def inject(results: dict[str, Any]) -> None:
        results["events"] = [{"code": "odd", "text": "<b>bold</b> & <script>alert(1)</script>"}]

    (run_folder / "products.npz").write_bytes(b"PK\x03\x04 torn")
    html = write_report(edit(run_folder, inject)).read_text(encoding="utf-8")
    assert html.count("products.npz could not be read") == 3  # two maps, one of the constellations
    assert html.count("<figure") == 5
    assert "&lt;script&gt;alert(1)" in html
    assert "<script" not in html


def test_a_run_of_nothing_still_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=1, truth=False, products=False)

    def empty(results: dict[str, Any]) -> None:
        for key in ("links", "detections", "positions", "nodes", "payload"):
            results[key] = []
        results["truth"], results["timing"] = None, {}
        results["rounds"] = [{"round": 0, "status": "failed", "nodes": [], "reason": "no node answered"}]

    html = write_report(edit(folder, empty)).read_text(encoding="utf-8")
    assert "No clock offset could be estimated" in html
    assert "no node answered" in html
    assert "The run reports no payload." in html


# The figures


def test_map_marks_stand_where_range_and_velocity_say(run_folder: Path) -> None:
    run = read_run(run_folder)
    with figure_style():
        drawing = delay_doppler.draw(run, "alpha ← bravo", "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    marks = {}
    for line in drawing.figure.axes[0].lines:
        marks.setdefault(line.get_marker(), []).append((float(line.get_xdata()[0]), float(line.get_ydata()[0])))
    delay, doppler = bistatic(cyclist(7), np.array([4.0, -3.0]), "alpha", "bravo")
    expected = (C * delay - 34.0, C * doppler / CARRIER)
    assert any(mark == pytest.approx(expected, abs=1e-9) for mark in marks["+"])
    assert len(marks["o"]) == 1  # of the methods that find the same peak, one
    assert marks["o"][0] == pytest.approx(expected, abs=1.5)  # 1.2 ns of noise in the detection
    assert marks["s"][0] == pytest.approx(expected, abs=3.5)  # referred to the line of sight: same place
    assert expected[1] > 0  # it closes in


def test_offset_markers_are_the_errors_in_the_unit_named(run_folder: Path) -> None:
    run = read_run(run_folder)
    with figure_style():
        drawing = offsets.draw(run, "alpha ← bravo", "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    panel = next(a for a in drawing.figure.axes if a.get_title(loc="left") == "Time offset, error, in ps")
    rows = run.link_rows("alpha ← bravo", "reciprocity-mle")
    drawn = next(line for line in panel.lines if line.get_marker() == "o" and len(line.get_xdata()) == len(rows))
    assert np.asarray(drawn.get_ydata()) == pytest.approx(1e12 * np.array([r["to_error_s"] for r in rows]))
    hollow = [line for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert [round(float(x)) for line in hollow for x in line.get_xdata()] == [3]


def test_perfect_clocks_can_be_drawn(run_folder: Path) -> None:
    def perfect(results: dict[str, Any]) -> None:
        for row in results["links"]:
            row.update(to_error_s=0.0, cfo_error_hz=0.0, to_std_s=0.0, cfo_std_hz=None)

    run = read_run(edit(run_folder, perfect))
    with figure_style():
        assert isinstance(offsets.draw(run, "alpha ← bravo", "reciprocity-mle"), Drawing)
    assert judge(summarize(run)).cards[0].value.startswith("0")


def test_figures_that_cannot_be_written_give_one_line(reported: Path, tmp_path: Path) -> None:
    arguments = [str(reported), str(reported), "--json", str(tmp_path / "absent" / "figures.json")]
    with pytest.raises(UserError, match="cannot be written: no such file or directory"):
        CliRunner().invoke(compare_command, arguments, catch_exceptions=False)


def test_map_of_an_unheard_link_is_left_out(run_folder: Path) -> None:
    left = delay_doppler.draw(read_run(run_folder), "alpha ← carol", None)
    assert isinstance(left, LeftOut)
    assert "kept no map of this link" in left.reason


def test_ellipse_holds_nineteen_of_twenty() -> None:
    rng = np.random.default_rng(11)
    covariance = np.array([[0.4, -0.27], [-0.27, 0.3]])
    width, height, angle = confidence_ellipse(covariance)
    points = rng.multivariate_normal([0, 0], covariance, 40_000)
    turn = math.radians(angle)
    along = points @ [math.cos(turn), math.sin(turn)]
    across = points @ [-math.sin(turn), math.cos(turn)]
    inside = np.mean((2 * along / width) ** 2 + (2 * across / height) ** 2 <= 1)
    assert inside == pytest.approx(0.95, abs=0.005)


def test_an_ambiguous_position_is_drawn_hollow(run_folder: Path) -> None:
    def doubt(results: dict[str, Any]) -> None:
        results["positions"] = [row for row in results["positions"] if row["method"] == "reciprocity-mle"][:4]
        results["positions"][1]["reason"] = "another position fits as well"
        results["positions"][1]["position_m"] = [11.5, 23.5]

    with figure_style():
        drawing = floor_plan.draw(read_run(edit(run_folder, doubt)), "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    hollow = [line for line in drawing.figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in hollow] == [(11.5, 23.5)]
    assert "hollow: another position fits as well" in [text.get_text() for text in drawing.figure.legends[0].texts]


def test_floor_plan_without_positions_says_so(run_folder: Path) -> None:
    def none(results: dict[str, Any]) -> None:
        results["positions"] = []

    with figure_style():
        drawing = floor_plan.draw(read_run(edit(run_folder, none)), "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    assert "No position could be estimated" in drawing.caption
    assert len(drawing.figure.axes) == 1


def test_no_two_methods_look_alike() -> None:
    names = [
        *("csi-ratio", "csi-ratio-first-order", "cacc", "fingerprint", "cooperation", "cooperation-correlation"),
        *(
            "path-resolved",
            "path-resolved-angle",
            "path-resolved-dictionary",
            "spectral-cc",
            "spectral-cc-interpolated",
        ),
        *("reciprocity-mle", "reciprocity-mp", "reciprocity-structured", "auto"),
    ]
    assert len({method_style(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [
        (7.4213e-12, "s", "7.42 ps"),
        (-11.68e-3, "Hz", "−11.7 mHz"),
        (2.4e9, "Hz", "2.40 GHz"),
        (9.996e-10, "s", "1.00 ns"),
        (0.0, "s", "0 s"),
        (3600.0, "s", "3600 s"),
        (None, "s", "–"),
        (math.nan, "s", "–"),
    ],
)
def test_quantities_read_as_written_in_a_paper(value: float | None, base: str, text: str) -> None:
    assert quantity(value, base).replace("\N{NARROW NO-BREAK SPACE}", " ") == text


def test_lengths_and_rates_in_words() -> None:
    assert metres(0.6666).replace("\N{NARROW NO-BREAK SPACE}", " ") == "0.67 m"
    assert metres(0.0021).replace("\N{NARROW NO-BREAK SPACE}", " ") == "2.1 mm"
    assert small_share(5.23e-7).replace("\N{NARROW NO-BREAK SPACE}", " ") == "5.2 × 10⁻⁷"


# The commands


def spoil_results(folder: Path) -> None:
    (folder / "results.json").write_text('{"schema_version": 1, "links": [')


def spoil_scenario(folder: Path) -> None:
    (folder / "scenario.toml").write_text("name = ")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda folder: (folder / "results.json").unlink(), "holds no results.json"),
        (spoil_results, "not a results file"),
        (spoil_scenario, "not valid TOML"),
    ],
)
def test_a_folder_that_is_no_run_gives_one_line(run_folder: Path, spoil: Any, says: str) -> None:
    spoil(run_folder)
    with pytest.raises(UserError, match=says) as raised:
        write_report(run_folder)
    assert "\n" not in str(raised.value)
    assert str(run_folder) in str(raised.value)
    assert not (run_folder / "report.html").exists()


def test_report_command_prints_the_verdict_and_makes_the_same_page_again(reported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reported, folder, ignore=shutil.ignore_patterns("report.html", "figures"))
    figures = tmp_path / "figures.json"
    result = CliRunner().invoke(report_command, [str(folder), "--json", str(figures)], catch_exceptions=False)
    assert result.exit_code == 0
    assert (folder / "report.html").read_bytes() == (reported / "report.html").read_bytes()
    assert "The clocks' offsets are known to" in result.output
    assert str(folder / "report.html") in result.output.replace("\n", "")
    rows = json.loads(figures.read_text())["rows"]
    mle = next(r for r in rows if r["method"] == "reciprocity-mle" and r["metric"] == "to_rmse")
    assert mle["ratio"] == pytest.approx(mle["value"] / mle["bound"])
    assert mle["standard_error"] == pytest.approx(mle["value"] / math.sqrt(2 * mle["trials"]))


def test_compare_sets_runs_side_by_side(reported: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "clean-run", rounds=6, products=False)
    edit(other, faultless)
    figures = tmp_path / "figures.json"
    result = CliRunner(env={"COLUMNS": "120"}).invoke(
        compare_command, [str(reported), str(other), "--json", str(figures)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "clean-run" in result.output
    assert re.search(r"frames lost\D+1\D+0\s", result.output)
    document = json.loads(figures.read_text())
    keys = {"scenario", "method", "parameters", "metric", "unit", "value", "bound", "ratio", "trials", "standard_error"}
    assert all(keys <= row.keys() for row in document["rows"])
    assert {row["run"] for row in document["rows"]} == {str(reported), str(other)}
    assert set(document["environments"]) == {str(reported), str(other)}


def test_compare_wants_two_runs(reported: Path) -> None:
    with pytest.raises(UserError, match="name two or more"):
        CliRunner().invoke(compare_command, [str(reported)], catch_exceptions=False)


def test_commands_load_nothing_heavy_before_they_run() -> None:
    code = """
import sys, testbed.commands.report, testbed.commands.compare
print({"numpy", "matplotlib", "rich", "jinja2"} & set(sys.modules))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"
