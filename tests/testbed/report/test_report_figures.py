"""The report's pictures: what is drawn, and where."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from testbed.commands.compare import command as compare_command
from testbed.errors import UserError
from testbed.report.figures import Drawing, LeftOut, clocks, delay_doppler, floor_plan, offsets
from testbed.report.figures.floor_plan import confidence_ellipse
from testbed.report.run_data import read_run
from testbed.report.style import figure_style, method_style, metres, quantity, small_share
from testbed.report.summary import summarize
from testbed.report.verdict import judge


def test_map_marks_stand_where_range_and_velocity_say(synthetic: Any, run_folder: Path) -> None:
    run = read_run(run_folder)
    with figure_style():
        drawing = delay_doppler.draw(run, "alpha ← bravo", "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    marks = {}
    for line in drawing.figure.axes[0].lines:
        marks.setdefault(line.get_marker(), []).append((float(line.get_xdata()[0]), float(line.get_ydata()[0])))
    delay, doppler = synthetic.bistatic(synthetic.cyclist(7), np.array([4.0, -3.0]), "alpha", "bravo")
    expected = (synthetic.C * delay - 34.0, synthetic.C * doppler / synthetic.CARRIER)
    assert any(mark == pytest.approx(expected, abs=1e-9) for mark in marks["+"])
    assert len(marks["o"]) == 1  # of the methods that find the same peak, one
    assert marks["o"][0] == pytest.approx(expected, abs=1.5)  # 1.2 ns of noise in the detection
    assert marks["s"][0] == pytest.approx(expected, abs=3.5)  # referred to the line of sight: same place
    assert expected[1] > 0  # it closes in


@pytest.mark.parametrize(("beyond", "shown"), [(1.3, True), (3.0, False)])
def test_a_mark_beyond_the_map_is_shown_or_told(synthetic: Any, run_folder: Path, beyond: float, shown: bool) -> None:
    edge = float(np.max(read_run(run_folder).products["alpha ← bravo"].arrays["map_doppler_hz"]))

    def fast(results: dict[str, Any]) -> None:
        for row in results["detections"]:
            row["doppler_hz"] = beyond * edge

    with figure_style():
        drawing = delay_doppler.draw(read_run(synthetic.edit(run_folder, fast)), "alpha ← bravo", "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    axes = drawing.figure.axes[0]
    mark = next(float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o")
    assert bool(mark < axes.get_ylim()[1]) is shown
    assert "faster than half the frame rate" in drawing.caption


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


def test_perfect_clocks_can_be_drawn(synthetic: Any, run_folder: Path) -> None:
    def perfect(results: dict[str, Any]) -> None:
        for row in results["links"]:
            row.update(to_error_s=0.0, cfo_error_hz=0.0, to_std_s=0.0, cfo_std_hz=None)

    run = read_run(synthetic.edit(run_folder, perfect))
    with figure_style():
        assert isinstance(offsets.draw(run, "alpha ← bravo", "reciprocity-mle"), Drawing)
    assert judge(summarize(run)).cards[0].value.startswith("0")


def test_figures_that_cannot_be_written_give_one_line(reported: Path, tmp_path: Path) -> None:
    arguments = [str(reported), str(reported), "--json", str(tmp_path / "absent" / "figures.json")]
    with pytest.raises(UserError, match="there is no folder"):
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


def test_an_ambiguous_position_is_drawn_hollow(synthetic: Any, run_folder: Path) -> None:
    def doubt(results: dict[str, Any]) -> None:
        results["positions"] = [row for row in results["positions"] if row["method"] == "reciprocity-mle"][:4]
        results["positions"][1]["reason"] = "another position fits as well"
        results["positions"][1]["position_m"] = [11.5, 23.5]

    with figure_style():
        drawing = floor_plan.draw(read_run(synthetic.edit(run_folder, doubt)), "reciprocity-mle")
    assert isinstance(drawing, Drawing)
    hollow = [line for line in drawing.figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in hollow] == [(11.5, 23.5)]
    assert "hollow: another position fits as well" in [text.get_text() for text in drawing.figure.legends[0].texts]


def test_floor_plan_without_positions_says_so(synthetic: Any, run_folder: Path) -> None:
    def none(results: dict[str, Any]) -> None:
        results["positions"] = []

    with figure_style():
        drawing = floor_plan.draw(read_run(synthetic.edit(run_folder, none)), "reciprocity-mle")
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


def test_clocks_are_drawn_against_their_prediction_and_bridged_rounds_hollow(synthetic: Any, run_folder: Path) -> None:
    def track(results: dict[str, Any]) -> None:
        for row in results["nodes"]:
            if row["node"] == row["reference"]:
                row["source"] = "reference"
                continue
            row["source"] = "predicted" if row["round"] == 5 else "closed"
            if row["round"] not in (0, 5):
                row["predicted_offset_s"] = row["offset_s"] - 3e-12 * row["round"]
                row["predicted_covariance"] = [[1e-22, 0.0], [0.0, 1e-22]]
        results["closures"] = [
            {
                "round": r, "receiver": a, "transmitter": b, "method": "reciprocity-mle", "to_std_s": 5e-12,
                "residual_s": 4e-12, "residual_std_s": 3e-12, "left_out": r == 2 and b == "x",
            }
            for r in range(3)
            for a, b in (("a", "b"), ("a", "x"))
        ]  # fmt: skip

    with figure_style():
        plain = clocks.draw(read_run(run_folder))
        drawing = clocks.draw(read_run(synthetic.edit(run_folder, track)))
    assert isinstance(plain, LeftOut)
    assert "second round on" in plain.reason
    assert isinstance(drawing, Drawing)
    node, pairs = drawing.figure.axes
    measured = next(line for line in node.lines if line.get_marker() == "o" and len(line.get_xdata()) > 2)
    assert list(measured.get_xdata()) == [1, 2, 3, 4, 6, 7]
    assert measured.get_ydata() == pytest.approx([3.0, 6.0, 9.0, 12.0, 18.0, 21.0], abs=0.01)
    hollow = [list(line.get_xdata()) for line in node.lines if line.get_markerfacecolor() == "white"]
    assert hollow == [[5]]
    assert "in ps" in node.get_title(loc="left")
    assert "in ps" in pairs.get_title(loc="left")
    assert "hollow: left out" in [text.get_text() for text in drawing.figure.legends[0].texts]
    assert "carry the prediction" in drawing.caption
