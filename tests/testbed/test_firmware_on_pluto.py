"""`isac firmware` on a simulated Pluto, through the unchanged libiio; its U-Boot environment is behind a fake `ssh`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import cli

iio = pytest.importorskip("iio")


@pytest.fixture(params=["1r1t", "2r2t"])
def uri(request: pytest.FixtureRequest) -> Iterator[str]:
    from testbed.radio.simulated_pluto import Looped, serve_looped

    server = serve_looped(Looped(model=request.param))
    yield f"ip:127.0.0.1:{server.port}"
    server.close()


def steps(path: Path) -> list[dict[str, object]]:
    return [step for step in json.loads(path.read_text())["steps"] if not step["rewritten"]]


def attributes(uri: str) -> dict[str, str]:
    """What the device is set to, read by nothing of ours."""
    phy = iio.Context(uri).find_device("ad9361-phy")
    receive, transmit = phy.find_channel("voltage0", False), phy.find_channel("voltage0", True)
    return {
        "rate": receive.attrs["sampling_frequency"].value,
        "bandwidth": receive.attrs["rf_bandwidth"].value,
        "gain": receive.attrs["hardwaregain"].value,
        "mode": receive.attrs["gain_control_mode"].value,
        "transmit": transmit.attrs["hardwaregain"].value,
        "tracking": receive.attrs["quadrature_tracking_en"].value,
        "filter": phy.attrs["filter_fir_config"].value,
        "filtered": phy.find_channel("out", False).attrs["voltage_filter_fir_en"].value,
    }


def test_a_profile_is_planned_applied_and_then_there(uri: str, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    before = attributes(uri)
    assert cli.main(["firmware", "plan", uri, "streaming-4", "--no-environment", "--json", str(found)]) == 0
    assert steps(found)
    assert attributes(uri) == before
    # Each step starts where those before it left the attribute, so that undoing them in reverse leads back.
    reached: dict[str, str] = {}
    for step in json.loads(found.read_text())["steps"]:
        assert step["before"] == reached.get(step["name"], step["before"])
        reached[step["name"]] = step["after"]
    for _ in range(2):
        assert cli.main(["firmware", "apply", uri, "streaming-4", "--no-environment", "--json", str(found)]) == 0
        after = attributes(uri)
        assert int(after["rate"]) == pytest.approx(4_000_000, abs=2)
        assert after["bandwidth"] == "3600000"
        assert (after["mode"], after["tracking"], after["filtered"]) == ("manual", "0", "1")
        assert float(after["gain"].split()[0]) == 40
        assert float(after["transmit"].split()[0]) == -20
        assert "Rx: 128,4 Tx: 128,4" in after["filter"]
    assert steps(found) == []
    # From the slow rate, which needs its filter, to a faster one with another.
    assert cli.main(["firmware", "apply", uri, "sounding-20", "--no-environment"]) == 0
    assert int(attributes(uri)["rate"]) == pytest.approx(20_000_000, abs=2)


def test_what_takes_a_boot_is_refused_without_one_before_anything_changes(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = attributes(uri)
    assert cli.main(["firmware", "apply", uri, "wide-40", "--no-environment"]) == 2
    err = capsys.readouterr().err
    assert "but the profile wants 40 MS/s and 36 MHz" in err
    assert len(err.splitlines()) == 1
    assert attributes(uri) == before


def test_what_answers_and_is_no_pluto_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    uri = f"ip:127.0.0.1:{listener.getsockname()[1]}"
    assert cli.main(["firmware", "plan", uri, "sounding-20", "--no-environment"]) == 2
    assert len(capsys.readouterr().err.splitlines()) >= 1
    listener.close()
