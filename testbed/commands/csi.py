"""`isac csi`: what a WiFi CSI capture shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from testbed.commands.options import json_option, refuse_place

__all__ = ["command"]


@click.command(name="csi")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the picture; default: here.")
@json_option()
@click.option(
    "--calibration",
    "calibrations",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Capture of the same card with the source at broadside: gives the angle of arrival. May be repeated.",
)
@click.option("--antenna-spacing-m", type=float, help="For the angle; half a wavelength if not given.")
@click.option("--carrier-hz", type=float, help="For the angle, where the file does not say it.")
@click.option("--against", type=click.Path(path_type=Path), help="Capture of another node in the same exchange.")
def command(
    file: Path,
    out: Path | None,
    json_file: Path | None,
    calibrations: tuple[Path, ...],
    antenna_spacing_m: float | None,
    carrier_hz: float | None,
    against: Path | None,
) -> None:
    """Show a WiFi CSI capture: per-packet offsets, and what CSI ratio and CACC leave of them.

    Reads Intel 5300, Atheros, FeitCSI (AX2xx) and PicoScenes files; the kind is recognised. Quarter- and half-turn
    jumps between antennas are found and taken back. Writes NAME-csi.png.
    """
    from testbed.csi_analysis import angle_of_arrival, clock_comparison, figures, summarize
    from testbed.csi_picture import draw
    from testbed.errors import UserError
    from testbed.formats.wifi_csi import read_csi
    from testbed.report.comparison import write_figures

    if out is not None:
        refuse_place("--out", out)
    for name, value in (("--antenna-spacing-m", antenna_spacing_m), ("--carrier-hz", carrier_hz)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} is {value:g}: must be above zero")
    summary = summarize(read_csi(file))
    arrival = clock = None
    if calibrations:
        known = [read_csi(path) for path in calibrations]
        arrival = angle_of_arrival(summary, known, spacing_m=antenna_spacing_m, carrier_hz=carrier_hz)
    if against is not None:
        clock = clock_comparison(summary.capture, read_csi(against))
    folder = out if out is not None else Path()
    picture = folder / f"{file.stem}-csi.png"
    document: dict[str, Any] = {
        "file": str(file),
        **figures(summary, arrival, clock),
        "picture": str(picture),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw(summary, f"{file.name}: {document['kind']}, {document['packets']} packets", picture)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    if json_file is not None:
        write_figures(json_file, document)
    _print(document)


def _print(document: dict[str, Any]) -> None:
    """The figures as short tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table.grid(padding=(0, 2))
    rows = [*_capture_rows(document), *_offset_rows(document), *_motion_rows(document)]
    for name, text in [*rows, *_angle_rows(document), *_clock_rows(document)]:
        table.add_row(name, text)
    for note in document["notes"]:
        table.add_row("note", note)
    table.add_row("picture", document["picture"])
    console.print(table)
    if document["pairs"]:
        console.print()
        console.print(_pair_table(document["pairs"]))


def _count(number: int, name: str) -> str:
    return f"{number} {name}" + ("s" if number != 1 else "")


def _capture_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    carrier = document["carrier_hz"]
    parts = [
        _count(document["antennas"], "receive antenna"),
        _count(document["streams"], "stream"),
        _count(document["subcarriers"], "subcarrier"),
    ]
    rows = [
        ("capture", f"{document['kind']}: {_count(document['packets'], 'packet')} in {document['duration_s']:.3f} s"),
        ("shape", ", ".join(parts + ([f"{carrier / 1e6:.0f} MHz"] if carrier else []))),
    ]
    if document["median_interval_s"] is not None:
        interval, gap = 1e3 * document["median_interval_s"], 1e3 * document["longest_gap_s"]
        missing = document["missing_packets"]
        words = f"every {interval:.2f} ms, longest gap {gap:.2f} ms"
        rows.append(("packets", words + (f", {missing} missing by the card's counter" if missing is not None else "")))
    return rows


def _offset_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    unwrapped = document["timing_offset_std_unwrapped_s"]
    also = f" ({1e9 * unwrapped:.1f} ns by unwrapped phase of rx0)" if unwrapped is not None else ""
    std = document["timing_offset_std_s"]
    rows = [
        ("timing offset", f"std {1e9 * std:.1f} ns{also}" if std is not None else "–"),
        ("common phase", f"|mean exp(jφ)| = {document['common_phase_coherence']:.3f} over packets"),
    ]
    if not document["pairs"]:
        return [*rows, ("CSI ratio, CACC", "need a second receive antenna")]
    best = f"coherence {document['cross_antenna_coherence']:.3f} on {document['best_pair']}"
    return [*rows, ("cross-antenna", best), ("antenna turns", _turn_words(document))]


def _pair_table(pairs: list[dict[str, Any]]) -> Any:
    """What CACC and CSI ratio leave on each pair of antennas."""
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in ("pair", "left by", "coherence", "phase std (rad)", "timing std (ns)", "zeros"):
        table.add_column(name, justify="left" if name in ("pair", "left by") else "right")
    for pair in pairs:
        before = f"{pair['coherence_before']:.3f} → " if pair["ambiguity"] != "none" else ""
        table.add_row(pair["pair"], "CACC", before + f"{pair['coherence']:.3f}", *_left(pair, ""), "")
        blind = str(pair["elements_without_ratio"])
        table.add_row("", "CSI ratio", f"{pair['ratio_coherence']:.3f}", *_left(pair, "ratio_"), blind)
    return table


def _left(pair: dict[str, Any], prefix: str) -> tuple[str, str]:
    phase, timing = pair[f"{prefix}phase_std_rad"], pair[f"{prefix}timing_std_s"]
    return "–" if phase is None else f"{phase:.3f}", "–" if timing is None else f"{1e9 * timing:.2f}"


def _turn_words(document: dict[str, Any]) -> str:
    turned = [pair for pair in document["pairs"] if pair["ambiguity"] != "none"]
    if not turned:
        return "none found"
    words = "; ".join(f"{p['pair']} {p['ambiguity']} in {p['turned_packets']} packets" for p in turned)
    doubtful = max(pair["doubtful_packets"] for pair in turned)
    return f"found and taken back: {words}" + (f"; {doubtful} doubtful" if doubtful else "")


def _motion_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    motion = document["motion"]
    if motion is None:
        return []
    if motion["rate_per_min"] is None:
        return [("periodic motion", motion["reason"])]
    maxima = ", ".join(f"{second:.1f}" for second in motion["maxima_s"])
    rate = f"{motion['rate_per_min']:.1f} ± {motion['rate_std_per_min']:.1f} per minute"
    return [
        ("periodic motion", f"{rate}, {len(motion['maxima_s'])} maxima at {maxima} s"),
        ("  by", f"{motion['method']} ({100 * motion['explained']:.0f} % explained)"),
    ]


def _angle_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    if "angle_of_arrival_rad" not in document:
        return []
    calibration = document["angle_of_arrival_calibration_std_rad"]
    packets = math.degrees(document["angle_of_arrival_std_rad"])
    words = f"{document['angle_of_arrival_deg']:+.1f}° ± {packets:.1f}° (packets)"
    words += f" ± {math.degrees(calibration):.1f}° (calibration)" if calibration is not None else ""
    offsets = ", ".join(f"{offset:+.3f}" for offset in document["antenna_offsets_rad"])
    rows = [("angle of arrival", words), ("antenna offsets", f"{offsets} rad, each against the antenna before")]
    return rows + ([("  note", document["angle_of_arrival_note"])] if document["angle_of_arrival_note"] else [])


def _clock_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    if "clock_rate_ppm" not in document:
        return []
    if document["clock_rate_ppm"] is None:
        return [("other clock", document["clock_reason"])]
    rate = f"{document['clock_rate_ppm']:+.3f} ± {document['clock_rate_std_ppm']:.3f} ppm against this one"
    rows = [("other clock", f"{rate}, from {document['clock_pairs']} paired packets")]
    if document["amplitude_correlation"] is not None:
        same, next_one = document["amplitude_correlation"], document["amplitude_correlation_shifted"]
        rows.append(
            ("amplitude correlation", f"{same:.3f} of paired packets, {next_one:+.3f} with the pairing shifted")
        )
    return rows
