"""Plans against link budgets by hand, dense Fisher information, drawn errors, and simulated runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest

from testbed.bench.laboratory import captures
from testbed.cli import main
from testbed.pipeline import Pipeline
from testbed.planning.budget import link_budgets
from testbed.planning.plan import make_plan
from testbed.planning.positions import position_map
from testbed.scenario import Scenario, dumps

C_MPS = 299_792_458.0
Layout = Callable[..., Scenario]


def test_link_budget_by_hand(layout: Layout) -> None:
    # Free space in the usual decibels: 32.45 + 20 lg(km) + 20 lg(MHz); noise -174 dBm/Hz over 7.8 MHz with 5 dB.
    scenario = layout(1, 2, scene={"reflector": [], "leakage_db": "off"})
    budget = link_budgets(scenario)["n0", "n1"]
    loss_db = 32.45 + 20 * np.log10(budget.baseline_m / 1e3) + 20 * np.log10(2400)
    from testbed.schedule import dsp_waveform

    sent_dbm = 20 * np.log10(dsp_waveform(scenario).scale)
    assert budget.received_dbm == pytest.approx(sent_dbm - loss_db, abs=0.02)
    assert budget.thermal_snr_db == pytest.approx(
        budget.received_dbm + 174.0 - 10 * np.log10(400 * 10e6 / 512) - 5.0, abs=0.1
    )
    # Without leakage the distant node and the whole rate's noise stand at -12 dBFS together; twelve bits then leave
    # the usual 6.02·12 + 1.76 dB at full scale, of whose rounding the occupied band has its share.
    noise = 512 / 400 * 10 ** (-budget.thermal_snr_db / 10)
    assert budget.level_dbfs + 10 * np.log10(1 + noise) == pytest.approx(-12.0, abs=0.01)
    assert budget.quantisation_snr_db == pytest.approx(
        6.02 * 12 + 1.76 + budget.level_dbfs + 10 * np.log10(512 / 400), abs=0.1
    )


@pytest.mark.parametrize("seed", [2, 3])
def test_error_vector_of_a_simulated_run_is_as_planned(layout: Layout, seed: int) -> None:
    scenario = layout(seed, 2)
    pipeline = Pipeline(scenario)
    for index, recorded in enumerate(captures(scenario)):
        pipeline.process(index, recorded)
    budgets = link_budgets(scenario)
    for row in pipeline.finish({}).payload:
        assert row.evm_db is not None
        assert -row.evm_db == pytest.approx(budgets[row.receiver, row.transmitter].snr_db, abs=1.0)


def _dense(scenario: Scenario, place: np.ndarray, offset_s: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Gradients of all links' delays and deviations, by differences, and the covariance with a common offset a pair."""
    budgets = link_budgets(scenario)
    links = list(budgets)
    spacing = C_MPS / 2.4e9 / 2

    def ends(name: str) -> tuple[np.ndarray, np.ndarray]:
        node = scenario.node[scenario.index(name)]
        heading = np.radians(node.heading_deg)
        first = np.array(node.position_m)
        return first, first + 0.5 * spacing * np.array([-np.sin(heading), np.cos(heading)])

    def delay(where: np.ndarray, link: tuple[str, str]) -> float:
        return float(np.linalg.norm(where - ends(link[1])[0]) + np.linalg.norm(where - ends(link[0])[1])) / C_MPS

    step = 1e-4
    gradients = np.array(
        [
            [(delay(place + step * axis, link) - delay(place - step * axis, link)) / (2 * step) for axis in np.eye(2)]
            for link in links
        ]
    )
    spacing_hz, subcarriers, symbols = 10e6 / 512, 400, 96
    variance = []
    for link in links:
        snr = float(budgets[link].echo_snr(scenario, place, 1.0)) * 2
        variance.append(6 / ((2 * np.pi * spacing_hz) ** 2 * snr * symbols * subcarriers * (subcarriers**2 - 1)))
    covariance = np.diag(variance)
    shared = []
    for one, other in combinations([node.name for node in scenario.node], 2):
        sign = np.zeros(len(links))
        sign[links.index((one, other))], sign[links.index((other, one))] = 1.0, -1.0
        covariance += offset_s**2 * np.outer(sign, sign)
        shared.append(sign)
    return gradients, [covariance, np.diag(variance), *shared]


@pytest.mark.parametrize("seed", range(6))
def test_map_is_the_dense_information_and_drawn_averages(layout: Layout, seed: int) -> None:
    scenario = layout(seed, 4)
    rng = np.random.default_rng(seed)
    place, offset_s = rng.uniform(-15, 15, 2), 10 ** rng.uniform(-11, -9)
    budgets = link_budgets(scenario)
    pairs = {tuple(sorted(link)): offset_s for link in budgets}
    found = position_map(scenario, budgets, pairs, place)
    gradients, (covariance, own, *shared) = _dense(scenario, place, offset_s)
    expected = np.sqrt(np.trace(np.linalg.inv(gradients.T @ np.linalg.solve(covariance, gradients))))
    assert float(found.centralised_m["delay"]) == pytest.approx(expected, rel=1e-5)
    # Nodes alone: each by least squares with the deviations it knows, then their mean; errors drawn.
    weights = 1 / (np.diag(own) + offset_s**2)
    receivers = np.array([receiver for receiver, _ in budgets])
    estimator = np.zeros((2, len(weights)))
    for name in set(receivers):
        mine = receivers == name
        g, w = gradients[mine], weights[mine]
        estimator[:, mine] = np.linalg.solve(g.T @ (w[:, None] * g), g.T * w) / 4
    errors = rng.standard_normal((200_000, len(weights))) * np.sqrt(np.diag(own))
    for sign in shared:
        errors = errors + offset_s * rng.standard_normal((200_000, 1)) * sign
    drawn = np.sqrt(np.mean(np.sum((errors @ estimator.T) ** 2, axis=1)))
    assert float(found.decentralised_m["delay"]) == pytest.approx(drawn, rel=0.015)


def test_offsets_do_not_hurt_all_links_at_once_but_nodes_alone(layout: Layout) -> None:
    scenario = layout(5, 4)
    budgets = link_budgets(scenario)
    place = np.array([[4.0, 7.0]])
    none, large = (
        position_map(scenario, budgets, {tuple(sorted(link)): offset for link in budgets}, place)
        for offset in (0.0, 1e-6)
    )
    # What is common to a pair cancels in its half-sum: half the information of the delays at least stays.
    assert 1.0 <= float(large.centralised_m["delay"][0] / none.centralised_m["delay"][0]) < 1.5
    assert float(large.decentralised_m["delay"][0]) > 50 * float(none.decentralised_m["delay"][0])


def test_levers_scale_as_they_must(layout: Layout) -> None:
    scenario = layout(6, 2, scene={"leakage_db": "off", "snr_db": 0.0, "reflector": []})
    quiet = msgspec.structs.replace(
        scenario,
        node=tuple(
            msgspec.structs.replace(
                node, front_end=msgspec.structs.replace(node.front_end, phase_noise_deg=0.0, bits=16)
            )
            for node in scenario.node
        ),
    )
    louder = msgspec.structs.replace(quiet, scene=msgspec.structs.replace(quiet.scene, snr_db=20.0))
    one, other = (make_plan(s).offset(("n0", "n1"), "reciprocity-mle").noise_s for s in (quiet, louder))
    assert one is not None
    assert other is not None
    # Ten times smaller for a hundredfold SNR, and the product's loss besides: three symbols averaged at 0 dB.
    assert one / other == pytest.approx(10 * np.sqrt(1 + 1 / (2 * 3)), rel=0.01)


def test_command_prints_draws_and_writes(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "layout.toml"
    file.write_text(dumps(layout(7)))
    picture, figures = tmp_path / "p.png", tmp_path / "p.json"
    assert main(["plan", str(file), "--picture", str(picture), "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    for word in ("n0 ← n1", "reciprocity-mle", "gives no clock offset", "car", "twice the antennas", "open"):
        assert word in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = msgspec.json.decode(figures.read_bytes())["rows"]
    assert {"snr", "to_std", "position_std", "gdop_median"} <= {row["metric"] for row in rows}
    assert main(["plan", str(file), "--picture", str(tmp_path / "p.jpg")]) == 2
    assert "the picture is a PNG" in capsys.readouterr().err
