"""A run as named arrays: every number of the results, and the CSI and IQ behind them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import loadmat

from dsp.channel import ChannelState
from dsp.moment import Moment
from testbed.capture import Capture, Stretch
from testbed.commands.export import command
from testbed.errors import UserError
from testbed.formats.export import columns, result_arrays
from testbed.formats.sigmf_writer import RecordingWriter
from testbed.results import DetectionRow, Epoch, EventRow, LinkRow, PayloadRow, PositionRow, Results, save_results
from testbed.run_folder import Run

STATE = ChannelState(
    values=np.arange(24).reshape(2, 3, 4).astype(np.complex64),
    weights=np.ones((3, 4)),
    subcarrier_hz=np.arange(4.0),
    symbol_s=np.arange(3.0),
    reference=Moment("east", 2**40 + 1, 0.25, Fraction(20_000_000)),
    cfo_reference_hz=1234.5,
    carrier_hz=Fraction(2_400_000_000),
    noise=np.array([0.1, 0.2]),
    frame_of_symbol=np.array([0, 0, 1]),
)


@pytest.fixture
def run_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    rng = np.random.default_rng(5)
    with RecordingWriter(folder / "recordings", "run") as writer:
        for number in range(2):
            samples = rng.integers(-2048, 2048, (2, 60, 2)).astype(np.int16)
            stretches = (Stretch(0, 20, 100 * number), Stretch(20, 40, 100 * number + 25))
            fixed = {"full_scale": 2048, "rate_hz": Fraction(20_000_000), "carrier_hz": Fraction(2_400_000_000)}
            writer.write_round({"east": Capture("east", number, samples, stretches=stretches, stream=0, **fixed)})  # type: ignore[arg-type]
    pair = {"receiver": "east", "transmitter": "west", "method": "auto"}
    results = Results(
        environment={},
        links=[
            LinkRow(**pair, round=0, valid=True, to_s=1.5e-9, epoch=Epoch("east", 7, 0.5, "61440000/7")),  # type: ignore[arg-type]
            LinkRow(**pair, round=1, valid=False, reason="weak"),  # type: ignore[arg-type]
        ],
        detections=[DetectionRow(**pair, round=0, reference="absolute", delay_s=1e-7, doppler_hz=50.0, target="car")],  # type: ignore[arg-type]
        positions=[
            PositionRow(round=0, method="auto", fusion="centralised", reason="one link only"),
            PositionRow(
                round=1, method="auto", fusion="centralised", position_m=[1.0, 2.0], covariance_m2=[[1, 0], [0, 4]]
            ),
        ],
    )
    save_results(results, folder)
    monkeypatch.setattr(Run, "csi", lambda run, receiver, transmitter, number: STATE)
    return folder


def export(*arguments: object) -> str:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False).output


def test_npz_holds_everything_under_documented_names(run_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.npz"
    assert "run.npz: " in export(run_path, "--out", out)
    with np.load(out) as arrays:
        assert arrays["links_to_s"][0] == 1.5e-9
        assert np.isnan(arrays["links_to_s"][1])
        assert arrays["links_reason"].tolist() == ["", "weak"]
        assert arrays["links_epoch_rate_hz"][0] == pytest.approx(61_440_000 / 7)
        assert arrays["detections_target"].tolist() == ["car"]
        assert arrays["positions_position_m"].shape == (2, 2)
        assert np.isnan(arrays["positions_position_m"][0]).all()
        assert arrays["positions_covariance_m2"][1].tolist() == [[1, 0], [0, 4]]
        assert arrays["payload_bits"].shape == (0,)
        assert arrays["csi_receiver"].tolist() == ["east", "east"]
        assert arrays["csi_round"].tolist() == [0, 1]
        assert np.array_equal(arrays["csi_1_values"], STATE.values)
        assert arrays["csi_0_reference_tick"].tolist() == [2**40 + 1]
        assert arrays["iq_node"].tolist() == ["east", "east"]
        assert arrays["iq_1_stretch_tick"].tolist() == [100, 125]
        counts = np.fromfile(run_path / "recordings" / "east-1.sigmf-data", "<i2").reshape(2, 60, 2)
        assert np.array_equal(arrays["iq_1_samples"][1] * 2048, counts[1, :, 0] + 1j * counts[1, :, 1])


def test_mat_holds_the_same(run_path: Path, tmp_path: Path) -> None:
    export(run_path, "--out", tmp_path / "run.npz")
    export(run_path, "--out", tmp_path / "run.mat")
    found = loadmat(tmp_path / "run.mat")
    with np.load(tmp_path / "run.npz") as arrays:
        assert {name for name in found if not name.startswith("__")} == set(arrays.files)
        for name in arrays.files:
            if arrays[name].dtype.kind == "U":
                assert [str(cell[0][0]) if cell[0].size else "" for cell in found[name]] == arrays[name].tolist()
            elif arrays[name].size:
                assert np.array_equal(np.squeeze(found[name]), np.squeeze(arrays[name]), equal_nan=True), name


def test_parts_and_rounds_can_be_chosen(run_path: Path, tmp_path: Path) -> None:
    export(run_path, "--out", tmp_path / "a.npz", "--no-csi", "--round", 1)
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["iq_round"].tolist() == [1]
        assert "csi_0_values" not in arrays
    export(run_path, "--out", tmp_path / "b.npz", "--no-csi", "--no-iq")
    with np.load(tmp_path / "b.npz") as arrays:
        assert not [name for name in arrays if name.startswith(("csi", "iq"))]


def test_results_can_be_exported_without_recordings(tmp_path: Path) -> None:
    save_results(Results(environment={}, events=[EventRow(code="lost", text="gone")]), tmp_path)
    export(tmp_path, "--out", tmp_path / "x.npz", "--no-csi", "--no-iq")
    with np.load(tmp_path / "x.npz") as arrays:
        assert np.isnan(arrays["events_round"]).tolist() == [True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x.csv"], "the suffix must be one of .npz, .mat"),
        (["--out", "old.npz"], "exists; name another file"),
        (["--out", "no/x.npz"], "there is no such folder"),
        (["--out", "x.npz", "--round", "5"], "--round 5: "),
    ],
)
def test_wrong_requests_are_one_clear_line_and_write_nothing(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.npz").write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as caught:
        export(run_path, *arguments)
    assert said in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    assert Path("old.npz").read_bytes() == b"old"


def test_every_table_has_its_columns_even_when_empty() -> None:
    empty = result_arrays(Results(environment={}))
    assert {name.split("_")[0] for name in empty} == {
        *("links", "detections", "positions", "nodes", "closures", "payload", "rounds", "events", "losses"),
        "signalling",
    }
    assert all(len(column) == 0 for column in empty.values())


def test_a_number_that_may_be_missing_is_nan() -> None:
    pair = {"receiver": "a", "transmitter": "b", "round": 0, "frames": 1, "frames_lost": 0, "bits": 8}
    found = columns([PayloadRow(**pair, bit_errors=3), PayloadRow(**pair)], PayloadRow)  # type: ignore[arg-type]
    assert found["bit_errors"][0] == 3
    assert np.isnan(found["bit_errors"][1])
    assert found["bits"].dtype == np.int64
