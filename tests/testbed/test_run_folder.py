"""A run's folder as a notebook sees it, and the frame that a node transmits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sigmf
from click.testing import CliRunner

from dsp import waveform as dsp_waveform
from testbed.capture import Capture, Stretch
from testbed.commands.frame import command as frame_command
from testbed.errors import UserError
from testbed.formats.sigmf_reader import read_recordings
from testbed.formats.sigmf_writer import RecordingWriter
from testbed.results import Epoch, LinkRow, Results, save_results
from testbed.run_folder import open_run
from testbed.scenario import load

SCENARIO = """
[experiment]
name = "small"
seed = 7
rounds = 2

[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 20e6
fft_size = 256
cp_samples = 32
active_subcarriers = 200
symbols = 16
modulation = "qpsk"

[[node]]
name = "east"
position_m = [0.0, 0.0]
antennas = 2

[[node]]
name = "west"
position_m = [10.0, 0.0]
heading_deg = 180.0
"""


def link(number: int, transmitter: str = "west", **changes: object) -> LinkRow:
    row = {"receiver": "east", "transmitter": transmitter, "round": number, "method": "reciprocity-mle", "valid": True}
    return LinkRow(**{**row, **changes})  # type: ignore[arg-type]


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """A run of two rounds, the second without node west."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "scenario.toml").write_text(SCENARIO)
    rng = np.random.default_rng(3)
    with RecordingWriter(folder / "recordings", "small") as writer:
        for number, nodes in enumerate((("east", "west"), ("east",))):
            captures = {}
            for node in nodes:
                samples = rng.integers(-2048, 2048, (2 if node == "east" else 1, 50, 2)).astype(np.int16)
                captures[node] = Capture(
                    node=node,
                    round=number,
                    samples=samples,
                    full_scale=2048,
                    rate_hz=Fraction(20_000_000),
                    carrier_hz=Fraction(2_400_000_000),
                    stretches=(Stretch(0, 50, 100 * number),),
                    stream=0,
                )
            writer.write_round(captures)
    links = [
        link(0, to_s=1e-9, to_std_s=1e-12, epoch=Epoch("east", 5, 0.5, 20_000_000)),
        link(1, valid=False, reason="west is silent"),
        link(0, "north", to_s=2e-9),
    ]
    save_results(Results(environment={}, links=links), folder)
    np.savez(folder / "products.npz", links=np.array(["east<-west"]), round_0=np.array(1))
    return folder


def test_offsets_are_columns_with_nan_for_null(run_path: Path) -> None:
    run = open_run(run_path)
    offsets = run.offsets("reciprocity-mle", receiver="east", transmitter="west")
    assert offsets["round"].tolist() == [0, 1]
    assert offsets["to_s"][0] == 1e-9
    assert np.isnan(offsets["to_s"][1])
    assert offsets["valid"].tolist() == [True, False]
    assert offsets["reason"].tolist() == ["", "west is silent"]
    assert offsets["epoch_tick"].tolist() == [5, -1]
    assert offsets["epoch_rate_hz"][0] == 20e6
    assert len(run.offsets("reciprocity-mle")["round"]) == 3
    with pytest.raises(KeyError, match="no offsets by 'cacc'"):
        run.offsets("cacc")


def test_iq_is_scaled_to_full_scale_exactly(run_path: Path) -> None:
    run = open_run(str(run_path))
    iq = run.iq("east", antenna=1, round=1)
    assert iq.dtype == np.complex64
    counts = np.fromfile(run_path / "recordings" / "east-1.sigmf-data", "<i2").reshape(-1, 2)[50:]
    assert np.array_equal(iq * 2048, counts[:, 0] + 1j * counts[:, 1])
    assert run.capture("east", 1).stretches == (Stretch(0, 50, 100),)
    for missing in (("west", 1), ("north", 0), ("east", 9)):
        with pytest.raises(KeyError):
            run.capture(*missing)


def test_scenario_products_and_csi_are_at_hand(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(run_path)
    assert run.scenario.experiment.name == "small"
    assert run.products["links"].tolist() == ["east<-west"]
    asked = []
    monkeypatch.setattr("testbed.pipeline.slot_csi", lambda *arguments: asked.append(arguments))
    run.csi("east", "west", 1)
    assert asked == [(run, "east", "west", 1)]


def test_what_is_no_run_is_one_clear_line(tmp_path: Path, run_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for path, said in (
        (tmp_path / "nowhere", "there is no such folder"),
        (tmp_path / "file", "is a file: name the folder of a run"),
        (tmp_path / "empty", "not a run's folder"),
    ):
        with pytest.raises(UserError, match=said):
            open_run(path)
    (run_path / "products.npz").write_bytes(b"PK broken")
    with pytest.raises(UserError, match="cannot be read"):
        _ = open_run(run_path).products
    (run_path / "products.npz").unlink()
    with pytest.raises(UserError, match="was the run processed"):
        _ = open_run(run_path).products


def test_the_frame_written_is_the_one_transmitted(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SCENARIO)
    arguments = [str(tmp_path / "small.toml"), "--node", "west", "--round", "1", "--out"]
    result = CliRunner().invoke(frame_command, [*arguments, str(tmp_path / "west.sigmf-data")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "west.sigmf-data" in result.output
    recording = sigmf.fromfile(tmp_path / "west.sigmf-meta")
    recording.validate()
    samples = np.fromfile(tmp_path / "west.sigmf-data", "<c8")
    numerology = dsp_waveform.Waveform(
        fft_size=256,
        cp_samples=32,
        active_subcarriers=200,
        symbols=16,
        modulation=dsp_waveform.Modulation.QPSK,
        pilot_spacing=load(tmp_path / "small.toml").waveform.pilot_spacing,
        rate_hz=Fraction(20_000_000),
        carrier_hz=Fraction(2_400_000_000),
    )
    assert np.array_equal(samples, dsp_waveform.frame(numerology, identity=1, round_index=1, seed=7).samples)
    assert len(samples) == numerology.frame_samples
    assert np.abs(samples).max() <= 1.0
    capture = read_recordings(tmp_path / "west.sigmf-meta", verify=True).captures(1)["west"]
    assert np.array_equal(capture.samples[0].view(np.complex64)[:, 0], samples)
    before = (tmp_path / "west.sigmf-data").read_bytes()
    for out in ("west", "west.sigmf-data", "west.sigmf-meta", "no/folder"):
        with pytest.raises(UserError, match=r"exists; name another|there is no such folder"):
            CliRunner().invoke(frame_command, [*arguments, str(tmp_path / out)], catch_exceptions=False)
    assert (tmp_path / "west.sigmf-data").read_bytes() == before


@pytest.mark.parametrize(("option", "value", "said"), [("--node", "nord", "nord"), ("--round", "2", "rounds 0 to 1")])
def test_a_frame_of_nobody_or_no_round_is_refused(tmp_path: Path, option: str, value: str, said: str) -> None:
    (tmp_path / "small.toml").write_text(SCENARIO)
    arguments = {"--node": "west", "--round": "1", "--out": str(tmp_path / "f"), option: value}
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(
            frame_command,
            [str(tmp_path / "small.toml"), *(part for pair in arguments.items() for part in pair)],
            catch_exceptions=False,
        )
    assert [file.name for file in tmp_path.iterdir()] == ["small.toml"]
