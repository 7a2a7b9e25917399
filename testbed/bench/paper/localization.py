"""Localization figures: GDoP and CRLB over stations, scaling laws, and CRLB over density under two power rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

from dsp.channel import FloatArray
from dsp.network import localization as net
from dsp.network import poisson
from dsp.network.topology import AntennaBudget, PowerRule, position_bounds
from testbed.bench.paper.figure import Compared, Curve, Panel, PaperFigure

__all__ = ["crlb_density", "crlb_stations", "gdop_stations", "scaling"]

WAYS = ("angles", "delays", "both")


def gdop_stations(trials: int, seed: int) -> PaperFigure:
    """B Fig. 2: mean CRLB at unit distance and gains over the number of stations, bearings random."""
    rng = np.random.default_rng([seed, 0xB2])
    stations = np.array([4, 5, 6, 8, 10, 12, 16, 20, 24, 32])
    closed = dict(zip(WAYS, (net.angle_gdop, net.delay_gdop, net.hybrid_gdop), strict=True))
    drawn: dict[str, list[FloatArray]] = {way: [] for way in WAYS}
    for n in stations:
        bearing = rng.uniform(0, 2 * np.pi, (trials, n))
        one = np.ones_like(bearing)
        angles, delays = net.angle_information(bearing, one), net.delay_information(bearing, one)
        for way, information in zip(WAYS, (angles, delays, angles + delays), strict=True):
            drawn[way].append(net.crlb(information))
    curves = []
    compared = []
    for way in WAYS:
        mean, error = _means(drawn[way])
        curves += [Curve(way, stations, closed[way](stations)), Curve(way, stations, mean, simulated=True, error=error)]
        least = 16 if way == "angles" else 8
        worst = float(np.max(np.abs(closed[way](stations) / mean - 1)[stations >= least]))
        compared.append(
            Compared(f"closed form against the mean, {way}, from N = {least}: worst", "≤ 5 %", 100 * worst, "%",
                     goal=5.0, trials=trials)
        )  # fmt: skip
        for n, value in ((10, _listed(10)[way]), (20, _listed(20)[way])):
            index = int(np.flatnonzero(stations == n)[0])
            compared.append(
                Compared(f"mean by {way}, N = {n}", f"{value}", float(mean[index]), goal=value, trials=trials,
                         standard_error=float(error[index]))
            )  # fmt: skip
    few = {way: _means(drawn[way])[0][0] for way in WAYS}
    compared.append(
        Compared("gain of both over angles, N = 4", "about 50 and 5 for few stations", few["angles"] / few["both"],
                 remark="mean of the drawn bounds")
    )  # fmt: skip
    compared.append(Compared("gain of both over delays, N = 4", "likewise", few["delays"] / few["both"]))
    return PaperFigure(
        "b-2",
        "Mean position bound over the number of stations",
        (Panel("Stations N", "Mean CRLB at unit distance and gains", tuple(curves), x_log=True),),
        tuple(compared),
        {"distance and gains": "one; the paper's axes bear no unit",
         "few stations": "N = 4 the least: for N ≤ 3 the mean over random bearings diverges"},
    )  # fmt: skip


def _listed(stations: int) -> dict[str, float]:
    """Means that the derivation's own Monte Carlo gave before."""
    return {
        10: {"angles": 0.130, "delays": 0.0209, "both": 0.0159},
        20: {"angles": 0.0289, "delays": 0.00506, "both": 0.00399},
    }[stations]


def crlb_stations(trials: int, seed: int) -> PaperFigure:
    """B Fig. 3: CRLB of the N nearest of a Poisson process over N; little is gained beyond some N."""
    rng = np.random.default_rng([seed, 0xB3])
    stations = np.array([4, 8, 16, 32, 64, 128])
    draws = [poisson.localization_draws(rng, trials, int(n)) for n in stations]
    forms = _poisson_forms()
    curves = []
    for way in WAYS:
        values = [_way(one, way) for one in draws]
        median = np.array([np.median(one) for one in values])
        # Standard error of a median, from the order statistics about it.
        error = np.array([_median_error(one) for one in values])
        curves += [
            Curve(way, stations, forms[way](stations)),
            Curve(way, stations, median, simulated=True, error=error),
        ]
    gain = {way: float(forms[way](64) / forms[way](128)) for way in WAYS}
    return PaperFigure(
        "b-3",
        "Position bound of the N nearest stations",
        (Panel("Stations N", "CRLB, λ = 1, unit gains: closed form and median", tuple(curves), x_log=True),),
        tuple(
            Compared(f"what 128 instead of 64 stations gain by {way}", "marginal beyond some N", gain[way], "×")
            for way in WAYS
        ),
        {"density and gains": "one; the paper's are lost",
         "simulation": f"medians of {trials} networks; means by angles are two to three times larger"},
    )  # fmt: skip


def scaling(trials: int, seed: int) -> PaperFigure:
    """Scaling laws: 1/ln N by angles, 1/ln² N by delays, 1/(a·ln²N + b·ln N) by both, with the fits' R²."""
    rng = np.random.default_rng([seed, 0x5C])
    stations = np.array([16, 32, 64, 128, 256, 512, 1024])
    draws = [poisson.localization_draws(rng, trials, int(n)) for n in stations]
    log = np.log(stations)
    laws: dict[str, Callable[..., FloatArray]] = {
        "angles": lambda x, a, b: a / x + b,
        "delays": lambda x, a, b: a / x**2 + b,
        "both": lambda x, a, b: 1 / (a * x**2 + b * x),
    }
    curves, compared = [], []
    for way, law in laws.items():
        # By angles the mean is drawn up by rare networks; there the median has the law.
        middle = np.median if way == "angles" else np.mean
        values = np.array([float(middle(_way(one, way))) for one in draws])
        spread = _median_error if way == "angles" else _mean_error
        error = np.array([spread(_way(one, way)) for one in draws])
        coefficients, _ = optimize.curve_fit(law, log, values, p0=(1.0, 0.1))
        r2 = 1 - float(np.sum((values - law(log, *coefficients)) ** 2) / np.sum((values - values.mean()) ** 2))
        stated = {"angles": "0.998", "delays": "0.9997", "both": "0.9996"}[way]
        curves += [
            Curve(way, stations, law(log, *coefficients)),
            Curve(way, stations, values, simulated=True, error=error),
        ]
        compared.append(Compared(f"R² of the law by {way}", stated, r2, goal=0.998, trials=trials))
    return PaperFigure(
        "scaling",
        "Scaling with the number of stations",
        (Panel("Stations N", "CRLB, λ = 1, unit gains: median by angles, else mean", tuple(curves), x_log=True),),
        tuple(compared),
        {"fits": "a/ln N + b by angles (medians), a/ln²N + b by delays, 1/(a·ln²N + b·ln N) by both (means)"},
    )


def crlb_density(trials: int, seed: int) -> PaperFigure:
    """A Fig. 4(b), B Fig. 4: CRLB over station density with a fixed density of antennas, two rules of power."""
    rng = np.random.default_rng([seed, 0xA4])
    panels, compared = [], []
    for rule, title in (("P", "Each station P"), ("M·P", "Each station M·P")):
        density = np.geomspace(1 / _AREA_KM2, _ANTENNAS, 60)
        forms = _density_forms(density, rule)
        points = np.array([6.25, 10.0, 16.7, 25.0, 50.0])
        curves = [Curve(way, density, 1e3 * np.sqrt(forms[way])) for way in WAYS]
        for way in WAYS:
            sample = [_density_draws(rng, trials, float(d), rule, way) for d in points]
            middle = np.array([np.median(one) for one in sample])
            error = np.array([_median_error(one) for one in sample])
            finite = np.isfinite(middle)
            root = np.sqrt(middle[finite])
            curves.append(
                Curve(way, points[finite], 1e3 * root, simulated=True, error=1e3 * 0.5 * error[finite] / root)
            )
        panels.append(Panel("Stations per km²", "Position error √CRLB [m]", tuple(curves), title, x_log=True))
        best = {way: float(density[np.nanargmin(forms[way])]) for way in WAYS}
        least = {way: float(np.nanmin(forms[way])) for way in WAYS}
        stated = {("P", "angles"): "near 8", ("P", "delays"): "fully distributed", ("P", "both"): "fully distributed",
                  ("M·P", "delays"): "mixed", ("M·P", "both"): "mixed", ("M·P", "angles"): "not stated"}  # fmt: skip
        compared += [
            Compared(f"best density by {way}, {rule}", stated[rule, way], best[way], "/km²",
                     remark="50 is fully distributed: one antenna a station")
            for way in WAYS
        ]  # fmt: skip
        compared += [
            Compared(f"bound of both over {way} at the optima, {rule}", paper, 100 * least["both"] / least[way], "%",
                     _REMARK)
            for way, paper in (("angles", "1.3 %"), ("delays", "28.8 %"))
        ]  # fmt: skip
    for area in (0.1, 0.2, 0.3, 0.5, 1.0):
        density = np.geomspace(1 / area, _ANTENNAS, 200)
        at = float(density[np.nanargmin(_density_forms(density, "P", area_km2=area)["angles"])])
        compared.append(
            Compared(f"sensitivity: best density by angles, P, cooperating area {area} km²", "near 8", at, "/km²")
        )
    for band in (5e6, 20e6, 40e6):
        density = np.geomspace(1 / _AREA_KM2, _ANTENNAS, 200)
        forms = _density_forms(density, "M·P", bandwidth_hz=band)
        ratio = float(np.nanmin(forms["both"]) / np.nanmin(forms["angles"]))
        compared.append(Compared(f"sensitivity: both over angles, M·P, {band / 1e6:g} MHz", "1.3 %", 100 * ratio, "%"))
    return PaperFigure(
        "a-4b",
        "Position bound over station density",
        tuple(panels),
        tuple(compared),
        {"cooperating area": f"{_AREA_KM2} km² about the target, N = λ·area stations: it decides where angles are best",
         "transmit gain": "M, of M transmit antennas beamforming",
         "noise and reference gain": f"SNR {_SNR_DB:g} dB at 1 km with one antenna: scales all curves alike",
         "band": "10 MHz, flat",
         "few stations": "the closed forms are those of many; the draws show what N = 1 to 5 in that area really do"},
    )  # fmt: skip


_ANTENNAS = 50.0
"""Transmit and receive antennas per km²."""
_AREA_KM2 = 0.19
_SNR_DB = 0.0
_REMARK = "depends on band, area and gain rule alone, not on power; the paper's are unknown"


def _budget(area_km2: float = _AREA_KM2, bandwidth_hz: float = 10e6) -> AntennaBudget:
    return AntennaBudget(_ANTENNAS, area_km2, 10 ** (_SNR_DB / 10), bandwidth_hz)


def _density_forms(
    density: FloatArray, rule: str, *, area_km2: float = _AREA_KM2, bandwidth_hz: float = 10e6
) -> dict[str, FloatArray]:
    """Closed forms in km²; angles have none where each station has one antenna."""
    forms = position_bounds(_budget(area_km2, bandwidth_hz), density, PowerRule(rule))
    return {way: _way(forms, way) for way in WAYS}


def _density_draws(rng: np.random.Generator, trials: int, density: float, rule: str, way: str) -> FloatArray:
    angle, delay = (float(gain) for gain in _budget().gains(density, PowerRule(rule)))
    stations = max(round(density * _AREA_KM2), 1)
    if way == "angles" and angle == 0:
        return np.full(trials, np.inf)
    drawn = poisson.localization_draws(rng, trials, stations, density=density, angle=angle, delay=delay)
    return _way(drawn, way)


def _poisson_forms() -> dict[str, Callable[[FloatArray | int], FloatArray]]:
    return {"angles": poisson.angle_crlb, "delays": poisson.delay_crlb, "both": poisson.hybrid_crlb}


def _way(draws: poisson.Localization, way: str) -> FloatArray:
    return {"angles": draws.angle, "delays": draws.delay, "both": draws.hybrid}[way]


def _mean_error(sample: FloatArray) -> float:
    return float(sample.std(ddof=1) / np.sqrt(sample.size))


def _means(samples: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    return (
        np.array([one.mean() for one in samples]),
        np.array([_mean_error(one) for one in samples]),
    )


def _median_error(sample: FloatArray) -> float:
    """Standard error of the median: half of what lies between the order statistics one deviation either side."""
    n = sample.size
    half = 0.5 * np.sqrt(n)
    low, high = np.sort(sample)[[max(int(n / 2 - half), 0), min(int(n / 2 + half), n - 1)]]
    return float(0.5 * (high - low)) if np.isfinite(high) else 0.0
