"""`isac iq`: carrier and sampling offsets of a WiFi or LTE transmitter in raw IQ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from testbed.commands.options import json_option, refuse_place

__all__ = ["command"]

_MOST_SAMPLES = 50_000_000


@click.command(name="iq")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["ci16", "cu8", "ci8", "cf32"]), help="Guessed if not given.")
@click.option("--rate-hz", type=float, help="Sample rate; the usual ones are tried if not given.")
@click.option("--carrier-hz", type=float, help="Centre frequency: gives the offsets in ppm and narrows the search.")
@click.option("--standard", type=click.Choice(["auto", "wifi", "lte"]), default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the picture; default: here.")
@json_option()
def command(
    file: Path,
    form: str | None,
    rate_hz: float | None,
    carrier_hz: float | None,
    standard: str,
    out: Path | None,
    json_file: Path | None,
) -> None:
    """Measure CFO, SFO and frame timing of 802.11a/g/n packets (20 MS/s or more) or of an LTE cell in raw IQ.

    Writes NAME-iq.png.
    """
    from testbed.errors import UserError
    from testbed.formats.raw_iq import read_raw_iq
    from testbed.iq_analysis import analyse, figures
    from testbed.iq_picture import draw
    from testbed.report.comparison import write_figures

    if out is not None:
        refuse_place("--out", out)
    for name, value in (("--rate-hz", rate_hz), ("--carrier-hz", carrier_hz)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} is {value:g}: must be above zero")
    raw = read_raw_iq(file, form, most_samples=_MOST_SAMPLES)
    try:
        summary = analyse(raw.samples, rate_hz=rate_hz, standard=standard, carrier_hz=carrier_hz)
    except UserError as error:
        guess = f" (taken as {raw.format})" if raw.guessed else ""
        raise UserError(f"{file}{guess}: {error}") from None
    folder = out if out is not None else Path()
    picture = folder / f"{file.stem}-iq.png"
    document: dict[str, Any] = {
        "file": str(file),
        "format": raw.format,
        "format_guessed": raw.guessed,
        **figures(summary, carrier_hz),
        "notes": list(raw.notes),
        "picture": str(picture),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw(document, file.name, picture)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    if json_file is not None:
        write_figures(json_file, document)
    _print(document)


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    form = document["format"] + (" (guessed)" if document["format_guessed"] else "")
    rate = f"{document['rate_hz'] / 1e6:g} MS/s" + (" (found)" if document["rate_found"] else "")
    table.add_row("stream", f"{form}, {rate}, {1e3 * document['duration_s']:.3f} ms")
    for name, text in _wifi_rows(document) if document["standard"] == "wifi" else _lte_rows(document):
        table.add_row(name, text)
    if document["carrier_by_one_crystal_hz"] is not None:
        carrier = document["carrier_by_one_crystal_hz"] / 1e6
        table.add_row("one crystal", f"CFO and SFO agree for a carrier of about {carrier:.0f} MHz")
    for note in document["notes"]:
        table.add_row("note", note)
    table.add_row("picture", document["picture"])
    Console(highlight=False, markup=False).print(table)


def _ppm(document: dict[str, Any]) -> str:
    return "" if document["cfo_ppm"] is None else f" = {document['cfo_ppm']:+.2f} ppm of the carrier"


def _sfo(document: dict[str, Any]) -> str:
    if document["sfo_ppm"] is None:
        return "– (packets too short)"
    std = document["sfo_std_ppm"]
    return f"{document['sfo_ppm']:+.2f}" + (f" ± {std:.2f}" if std is not None else "") + " ppm (drift of the timing)"


def _wifi_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    packets = document["packet"]
    kinds: dict[str, int] = {}
    for packet in packets:
        name = f"MCS {packet['mcs']}" if packet["mcs"] is not None else f"{packet['rate_mbps']} Mb/s"
        kinds[f"{packet['format']} {name}"] = kinds.get(f"{packet['format']} {name}", 0) + 1
    words = ", ".join(f"{count} × {name}" for name, count in kinds.items())
    starts = [1e3 * packet["start_s"] for packet in packets]
    cfo = f"{document['cfo_hz']:+.0f} Hz mean, std {document['cfo_std_hz']:.0f} Hz over packets{_ppm(document)}"
    return [
        ("packets", f"{len(packets)}: {words}"),
        ("timing", f"first starts at {starts[0]:.6f} ms, last at {starts[-1]:.6f} ms"),
        ("CFO", cfo),
        ("  by short training", f"{document['cfo_short_training_hz']:+.0f} Hz (transmitter may still settle)"),
        ("SFO", _sfo(document)),
        ("SNR", f"{document['snr_db']:.1f} dB per subcarrier"),
    ]


def _lte_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    margin = document["secondary_margin"]
    return [
        ("cell", f"{document['cell_identity']} (secondary sequence {margin:.1f} deviations above the others)"),
        (
            "timing",
            f"a frame starts at {1e3 * document['frame_start_s']:.6f} ms, {document['half_frames']} half frames",
        ),
        ("CFO", f"{document['cfo_hz']:+.0f} ± {document['cfo_std_hz']:.0f} Hz{_ppm(document)}, 15 kHz steps resolved"),
        ("SFO", _sfo(document)),
        ("SNR", f"{document['snr_db']:.1f} dB per subcarrier of the primary sequence"),
    ]
