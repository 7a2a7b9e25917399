"""The report's verdict, page and commands, against figures known beforehand."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from testbed.commands.compare import command as compare_command
from testbed.commands.report import command as report_command
from testbed.errors import UserError
from testbed.report.comparison import bench_rows, lines
from testbed.report.page import write_report
from testbed.report.run_data import read_run
from testbed.report.summary import Spread, summarize
from testbed.report.verdict import State, judge

# The figures by which a run is judged


def test_rmse_and_prediction_are_those_of_the_valid_rows(synthetic: Any, run_folder: Path) -> None:
    rows = json.loads((run_folder / "results.json").read_text())["links"]
    figures = {m.method: m for m in summarize(read_run(run_folder)).methods}
    for method, (_, to_std, _) in synthetic.SPREADS.items():
        errors = np.array([r["to_error_s"] for r in rows if r["method"] == method and r["valid"]])
        assert figures[method].to.rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-12)
        assert figures[method].to.predicted == pytest.approx(to_std, rel=1e-12)
        # 8 rounds of one pair, whose two directions share their measurement
        assert figures[method].to.trials == (7 if method == "reciprocity-mp" else 8)
    assert (figures["reciprocity-mp"].valid, figures["reciprocity-mp"].rows) == (14, 16)
    assert figures["reciprocity-mp"].reasons == (("two poles of equal strength", 2),)
    assert figures["cacc"].to is None


def test_bias_of_antisymmetric_offsets_does_not_cancel_over_the_directions(synthetic: Any, run_folder: Path) -> None:
    def shift(results: dict[str, Any]) -> None:
        for row in results["links"]:
            if row["method"] == "reciprocity-mle":
                row["to_error_s"] = 5e-12 if row["receiver"] == "alpha" else -5e-12

    figures = summarize(read_run(synthetic.edit(run_folder, shift))).methods[0]
    assert figures.method == "reciprocity-mle"
    assert figures.to.bias == pytest.approx(5e-12)


def test_without_truth_the_spread_is_about_a_line_with_its_freedoms_counted(synthetic: Any, tmp_path: Path) -> None:
    folder = synthetic.make_run(tmp_path / "run", rounds=12, truth=False, products=False)
    wiggle = 1e-11 * np.random.default_rng(5).standard_normal(12)

    def put(results: dict[str, Any]) -> None:
        kept = [r for r in results["links"] if r["method"] == "reciprocity-mle" and r["receiver"] == "alpha"]
        for row in kept:
            seconds = row["epoch"]["tick"] / synthetic.RATE
            row["to_s"] = 0.301 - 2.0e-5 * seconds + wiggle[row["round"]]
        results["links"] = kept

    spread = summarize(read_run(synthetic.edit(folder, put))).methods[0].to
    time = np.arange(12.0)
    design = np.stack([np.ones(12), time], axis=1)
    left = wiggle - design @ np.linalg.lstsq(design, wiggle, rcond=None)[0]
    assert spread.rmse == pytest.approx(math.sqrt(left @ left / 10), rel=1e-3)  # doubles of 0.3 s resolve 0.06 fs
    assert spread.trials == 10
    assert spread.bias is None
    assert not spread.against_truth
    # What two such oscillators wander about a line over three seconds is no error: 2e-11 times the seconds or so.
    assert spread.predicted is not None
    assert 1.2e-11 < spread.predicted < 1.5e-10
    text = (folder / "scenario.toml").read_text()
    (folder / "scenario.toml").write_text(text.replace('profile = "tcxo"', 'profile = "ideal"'))
    assert summarize(read_run(folder)).methods[0].to.predicted == pytest.approx(7e-12)


def test_offsets_of_counters_that_start_anew_are_not_held_against_a_line(synthetic: Any, run_folder: Path) -> None:
    def put(results: dict[str, Any]) -> None:
        for row in results["links"]:
            row["to_error_s"] = row["cfo_error_hz"] = None
            if "epoch" in row:
                row["epoch"]["tick"] = 300_000 - row["round"]

    run = read_run(synthetic.edit(run_folder, put))
    summary = summarize(run)
    assert summary.methods[0].to.restarts
    printed = {line.name: line.cells[0] for line in lines([summary]) if line.group == summary.methods[0].method}
    assert printed["TO off a line"] == "counters start anew"
    assert "±" in printed["CFO off a line"]
    assert "to_rmse" not in {row["metric"] for row in bench_rows(run, summary)}


@pytest.mark.parametrize("trials", [1, 4, 12, 300])
def test_chance_is_judged_by_chi_squared(trials: int) -> None:
    limit = math.sqrt(stats.chi2.ppf(0.99, trials) / trials)
    below, above = (Spread(1.0, 0.0, 1.0, f * limit, trials, True) for f in (0.97, 1.03))
    assert below.as_predicted
    assert not above.as_predicted


def test_one_wide_deviation_does_not_hide_narrow_ones_that_are_wrong(synthetic: Any, run_folder: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        for row in results["links"]:
            if row["method"] == "reciprocity-mle":
                wide = row["round"] == 0
                row.update(to_std_s=100e-12 if wide else 2e-12, to_error_s=1e-12 if wide else 8e-12)

    summary = summarize(read_run(synthetic.edit(run_folder, change)))
    spread = next(m for m in summary.methods if m.method == "reciprocity-mle").to
    assert spread.ratio < 0.5
    assert spread.normalized == pytest.approx(math.sqrt((0.01**2 + 7 * 4**2) / 8))
    assert not spread.as_predicted


def test_ellipses_are_counted_against_where_the_target_was(synthetic: Any, run_folder: Path) -> None:
    def place(results: dict[str, Any]) -> None:
        for row in results["positions"]:
            # along the first axis, in deviations: three of eight beyond the 95 % ellipse's 2.45
            off = [0, 1, 2, 2.4, -2.4, 2.5, -2.5, 3][row["round"]]
            row["covariance_m2"] = [[0.25, 0.0], [0.0, 0.04]]
            row["position_m"] = (synthetic.cyclist(row["round"]) + np.array([0.5 * off, 0.0])).tolist()

    run = read_run(synthetic.edit(synthetic.edit(run_folder, synthetic.faultless), place))
    target = next(t for t in summarize(run).targets if t.name == "cyclist")
    assert target.ellipses == (5, 8)
    verdict = judge(summarize(run))
    assert verdict.word == "Look at: targets found"
    assert "only 5 of 8 ellipses hold the truth" in verdict.cards[3].note


@pytest.mark.parametrize("method", ["reciprocity-mle", "spectral-cc", "cacc"])
def test_targets_are_counted_by_round_and_measured_against_truth(synthetic: Any, run_folder: Path, method: str) -> None:
    def lose(results: dict[str, Any]) -> None:
        results["detections"] = [r for r in results["detections"] if r["round"] != 5]
        next(r for r in results["detections"] if r["method"] == method)["target"] = None

    run = read_run(synthetic.edit(run_folder, lose))
    summary = summarize(run)
    found = next(t for t in summary.all_targets if t.name == "cyclist" and t.method == method)
    truth = {(t["receiver"], t["round"]): t["delay_s"] for t in run.true_targets if t["name"] == "cyclist"}
    misses = [
        synthetic.C * (r["delay_s"] - truth[r["receiver"], r["round"]]) + (34.0 if method == "cacc" else 0.0)
        for r in run.rows("detections")
        if r["target"] == "cyclist" and r["method"] == method
    ]
    assert (found.found, found.rounds, found.moving) == (7, 8, True)
    assert found.range_rmse_m == pytest.approx(math.sqrt(np.mean(np.square(misses))), rel=1e-9)
    assert dict(summary.unnamed) == {method: 1}
    assert summary.sensing_method == "reciprocity-mle"
    assert summary.unnamed_detections == int(method == "reciprocity-mle")
    assert {t.name for t in summary.targets if not t.moving} == set(synthetic.REFLECTORS)


def test_a_faultless_run_is_as_it_should_be(synthetic: Any, run_folder: Path) -> None:
    verdict = judge(summarize(read_run(synthetic.edit(run_folder, synthetic.faultless))))
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
def test_each_fault_shows_in_the_verdict(
    synthetic: Any, run_folder: Path, fault: Any, title: str, state: State
) -> None:
    verdict = judge(summarize(read_run(synthetic.edit(synthetic.edit(run_folder, synthetic.faultless), fault))))
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


def test_torn_products_and_hostile_words_do_not_spoil_the_page(synthetic: Any, run_folder: Path) -> None:
    def inject(results: dict[str, Any]) -> None:
        results["events"] = [{"code": "odd", "text": "<b>bold</b> & <script>alert(1)</script>"}]

    (run_folder / "products.npz").write_bytes(b"PK\x03\x04 torn")
    html = write_report(synthetic.edit(run_folder, inject)).read_text(encoding="utf-8")
    assert html.count("products.npz could not be read") == 3  # two maps, one of the constellations
    assert html.count("<figure") == 5
    assert "&lt;script&gt;alert(1)" in html
    assert "<script" not in html


def test_a_run_of_nothing_still_has_a_report(synthetic: Any, tmp_path: Path) -> None:
    folder = synthetic.make_run(tmp_path / "run", rounds=1, truth=False, products=False)

    def empty(results: dict[str, Any]) -> None:
        for key in ("links", "detections", "positions", "nodes", "payload"):
            results[key] = []
        results["truth"], results["timing"] = None, {}
        results["rounds"] = [{"round": 0, "status": "failed", "nodes": [], "reason": "no node answered"}]

    html = write_report(synthetic.edit(folder, empty)).read_text(encoding="utf-8")
    assert "No clock offset could be estimated" in html
    assert "no node answered" in html
    assert "The run reports no payload." in html


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
        (spoil_scenario, "not TOML"),
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


def test_compare_sets_runs_side_by_side(synthetic: Any, reported: Path, tmp_path: Path) -> None:
    other = synthetic.make_run(tmp_path / "clean-run", rounds=6, products=False)
    synthetic.edit(other, synthetic.faultless)
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
