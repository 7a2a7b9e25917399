"""The survey's Figs 5 and 6: fingerprint spectra at two times; path length by fingerprint and CACC over bandwidth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dsp.bounds.fingerprint import fingerprint_to_std_s
from dsp.bounds.link import doppler_std_hz
from dsp.channel import ChannelState
from dsp.synchronization.base import Need, Observation
from dsp.synchronization.fingerprint import FingerprintMethod, fingerprint_spectrum, take_fingerprint
from testbed.bench.reference_fingerprint import (
    SPACING_HZ,
    SUBCARRIERS,
    SYMBOL_S,
    SYMBOLS,
    Trial,
    draw,
)
from testbed.bench.reference_fingerprint import (
    points as reference_points,
)
from testbed.bench.rows import BenchRow, share_row
from testbed.bench.tally import Tally

__all__ = ["picture_5", "points_5", "points_6"]

CARRIERS = 256
SNR_DB = (-10.0, 0.0, 10.0)
_PICTURE_DB = 10.0
_RANGE_METRICS = ("range_rmse", "range_rmse_all", "outlier_rate", "valid_share", "time_per_estimate")


def points_5(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """One piece of work for each SNR."""
    return [partial(_point_5, trials, [seed, 5, number], level) for number, level in enumerate(SNR_DB)]


def points_6(trials: int, seed: int) -> list[partial[list[BenchRow]]]:
    """Path lengths of reference 3.4, for each number of subcarriers, with and without line of sight."""
    return [partial(_point_6, work) for work in reference_points(trials, seed, subcarriers=SUBCARRIERS, lengths=True)]


def picture_5(path: Path, seed: int) -> None:
    """Write the map of one slot at t1 and at t2, and the fingerprint spectrum at t1 and at t2."""
    from testbed.report.style import VERMILLION, figure_style, new_figure, save

    trial = draw(np.random.default_rng([seed, 5]), CARRIERS, line_of_sight=False, snr_db=_PICTURE_DB)
    fingerprint = take_fingerprint(trial.before, trial.departures[0], transmitter="m", to_s=trial.to_s[0])
    # what the references of acquisition leave: here all of it, and of the fingerprint's own slot none
    change_s, change_hz = trial.to_s[1] - trial.to_s[0], trial.cfo_hz[1] - trial.cfo_hz[0]
    with figure_style():
        figure = new_figure(9.2, 7.6)
        for number, (state, when) in enumerate(((trial.before, "t1"), (trial.after, "t2"))):
            power, delay_s, doppler_hz = _map(state)
            axes = figure.add_subplot(2, 2, 1 + number)
            _image(axes, delay_s * 1e6, doppler_hz, power, f"Delay-Doppler map at {when} (dB)", (-40.0, 0.0))
            axes.set_xlabel("Apparent delay (µs)")
            spectrum = fingerprint_spectrum(state, fingerprint, padding=2)
            near = np.abs(spectrum.delay_s) < 1.0e-6
            level = 20.0 * np.log10(np.maximum(spectrum.values[:, near], 1e-3))
            axes = figure.add_subplot(2, 2, 3 + number)
            title = f"Fingerprint spectrum at {when} (dB)"
            _image(axes, spectrum.delay_s[near] * 1e9, spectrum.doppler_hz, level, title, (-30.0, 0.0))
            true = (0.0, trial.cfo_hz[0]) if number == 0 else (change_s * 1e9, trial.cfo_hz[0] + change_hz)
            axes.plot(*true, "o", markersize=13, fillstyle="none", color=VERMILLION, label="true offset")
            axes.set_xlabel("Time offset against t1 (ns)")
            axes.legend(loc="upper right", labelcolor="white")
        for axes in figure.axes[:8]:
            if axes.get_xlabel():
                axes.set_ylabel("Doppler and CFO (Hz)")
        figure.suptitle(
            "Survey Fig. 5: fingerprint spectrum at two times", fontsize=10.5, fontweight="bold", x=0.01, ha="left"
        )
        save(figure, path)


def _image(axes: Any, x: Any, y: Any, values: Any, title: str, limits: tuple[float, float]) -> None:
    from testbed.report.style import label_above

    image = axes.pcolormesh(x, y, values, cmap="viridis", vmin=limits[0], vmax=limits[1], shading="nearest")
    axes.grid(visible=False)
    axes.figure.colorbar(image, ax=axes, pad=0.02)
    label_above(axes, title)


def _map(state: ChannelState) -> tuple[Any, Any, Any]:
    """Power of the delay-Doppler map in decibels below its peak, with delays and Dopplers; Hann over both axes."""
    values = state.values[0] * np.outer(np.hanning(SYMBOLS), np.hanning(CARRIERS))
    rows, columns = 2 * SYMBOLS, 2 * CARRIERS
    power = np.abs(np.fft.fftshift(np.fft.fft(np.fft.ifft(values, columns, axis=1), rows, axis=0), axes=0)) ** 2
    delay_s = np.arange(columns) / (columns * SPACING_HZ)
    doppler_hz = np.fft.fftshift(np.fft.fftfreq(rows, SYMBOL_S))
    inside = delay_s < 2.0e-6
    level: Any = 10.0 * np.log10(power[:, inside] / power.max() + 1e-9)
    return level, delay_s[inside], doppler_hz


def _point_5(trials: int, seed: list[int], snr_db: float) -> list[BenchRow]:
    generator = np.random.default_rng(seed)
    snr = 10.0 ** (snr_db / 10.0)
    bounds = fingerprint_to_std_s(CARRIERS, SPACING_HZ, SYMBOLS, snr), doppler_std_hz(CARRIERS, SYMBOLS, SYMBOL_S, snr)
    parameters = {"snr_db": snr_db}
    tally = Tally("survey-5", "fingerprint", parameters)
    right = 0
    for _ in range(trials):
        trial = draw(generator, CARRIERS, line_of_sight=False, snr_db=snr_db)
        try:
            fingerprint = take_fingerprint(trial.before, trial.departures[0], transmitter="m", to_s=trial.to_s[0])
        except ValueError:
            tally.count(None, valid=False)
            continue
        right += _peak_is_right(trial, fingerprint)
        seen = Observation(trial.after, trial.departures[1], extras={Need.FINGERPRINT: fingerprint})
        offset = tally.run(FingerprintMethod(), seen)
        tally.offset(offset, (trial.to_s[1], bounds[0]), (trial.cfo_hz[1], bounds[1]))
    peak = share_row("survey-5", "fingerprint", "peak_in_the_right_cell", right, trials, 0.99)
    peak.parameters = parameters
    return [*tally.rows(), peak]


def _peak_is_right(trial: Trial, fingerprint: Any) -> bool:
    """Whether the spectrum of equation 33, on its grid, peaks within a resolution cell of the true offsets."""
    spectrum = fingerprint_spectrum(trial.after, fingerprint, padding=2)
    row, column = np.unravel_index(int(np.argmax(spectrum.values)), spectrum.values.shape)
    time_right = abs(spectrum.delay_s[column] - (trial.to_s[1] - trial.to_s[0])) < 1.0 / (CARRIERS * SPACING_HZ)
    return bool(time_right and abs(spectrum.doppler_hz[row] - trial.cfo_hz[1]) < 1.0 / (SYMBOLS * SYMBOL_S))


def _point_6(work: partial[list[BenchRow]]) -> list[BenchRow]:
    kept = []
    for row in work():
        if row.metric in _RANGE_METRICS:
            row.scenario = "survey-6"
            kept.append(row)
    return kept
