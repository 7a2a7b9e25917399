"""Rate figures: antennas per station, the best share as the region grows, and the rate–position boundary."""

from __future__ import annotations

import numpy as np

from dsp.network import localization as net
from dsp.network import poisson
from dsp.network.rate import ergodic_rate, rate_draws
from testbed.bench.paper.figure import Compared, Curve, Panel, PaperFigure

__all__ = ["antennas_per_station", "best_share", "boundary"]

_ANTENNAS = 50.0
_RADIUS_KM = 0.3
_BATCHES = 20


def antennas_per_station(trials: int, seed: int) -> PaperFigure:
    """B Fig. 5: rate over antennas per station, 50 antennas per km², served within 300 m."""
    rng = np.random.default_rng([seed, 0xB5])
    curves, compared = [], []
    for exponent, stated in ((2.5, "12"), (3.0, "8"), (4.0, "5–6"), (6.0, "3")):
        antennas = np.arange(2, 26)
        rates = np.array([ergodic_rate(_ANTENNAS / m, exponent, float(m - 1), _RADIUS_KM) for m in antennas])
        points = np.array([2, 4, 8, 16])
        mean, error = np.array([_mean_rate(rng, trials, _ANTENNAS / m, exponent, m - 1) for m in points]).T
        label = f"α = {exponent:g}"
        curves += [Curve(label, antennas, rates), Curve(label, points, mean, simulated=True, error=error)]
        compared.append(Compared(f"best antennas per station, {label}", stated, float(antennas[np.argmax(rates)])))
        closed = np.array([rates[m - 2] for m in points])
        worst = int(np.argmax(np.abs(closed / mean - 1)))
        compared.append(
            Compared(f"integral against simulation, {label}: worst", "≤ 2 %",
                     100 * abs(closed[worst] / mean[worst] - 1), "%", goal=2.0, trials=trials,
                     standard_error=100 * float(error[worst] / mean[worst]))
        )  # fmt: skip
    return PaperFigure(
        "b-5",
        "Rate over antennas per station",
        (Panel("Antennas per station M", "Rate [bit/s/Hz]", tuple(curves), y_log=False),),
        tuple(compared),
        {"power": "equal at serving and interfering stations", "diversity": "κ = M − 1"},
    )


def _mean_rate(
    rng: np.random.Generator, trials: int, density: float, exponent: float, diversity: float
) -> tuple[float, float]:
    """Mean of drawn rates and its standard error, from the means of batches that each have strata of their own."""
    batches = [
        rate_draws(rng, -(-trials // _BATCHES), density, exponent, diversity, _RADIUS_KM) for _ in range(_BATCHES)
    ]
    means = np.array([batch.mean() for batch in batches])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(_BATCHES))


def best_share(trials: int, seed: int) -> PaperFigure:
    """B Fig. 6: share of the region's antennas that one station should have, as the region grows."""
    radius = np.array([0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6])
    curves, compared = [], []
    for exponent in (2.5, 3.0, 4.0):
        share = []
        for r in radius:
            antennas = np.arange(2, 40)
            rates = [ergodic_rate(_ANTENNAS / m, exponent, float(m - 1), float(r)) for m in antennas]
            share.append(100 * antennas[int(np.argmax(rates))] / (_ANTENNAS * np.pi * r**2))
        curves.append(Curve(f"α = {exponent:g}", radius, np.array(share)))
        if exponent == 3.0:
            compared += [
                Compared("best share, region of 300 m", "55 %", share[1], "%", goal=55.0, remark="whole antennas"),
                Compared("best share, region of 500 m", "39 %", share[5], "%", goal=39.0, remark="whole antennas"),
            ]
    return PaperFigure(
        "b-6",
        "Best share of a region's antennas at one station",
        (Panel("Radius of the region [km]", "Share of antennas per station [%]", tuple(curves), y_log=False),),
        tuple(compared),
        {"path loss and sizes": "α = 3 and 300 to 500 m reproduce the stated fall; the paper's are unknown",
         "simulation": "none: the integral is checked against draws in b-5"},
    )  # fmt: skip


def boundary(trials: int, seed: int) -> PaperFigure:
    """B Fig. 7: rate against position error as the antennas are spread, for each way of measuring, two bands."""
    panels, compared = [], []
    for band in (10e6, 2e6):
        antennas = np.arange(2.0, 40.0)
        rates = np.array([ergodic_rate(_ANTENNAS / m, _EXPONENT, float(m - 1), _RADIUS_KM) for m in antennas])
        density = _ANTENNAS / antennas
        stations = np.maximum(density * np.pi * _RADIUS_KM**2, 1.0)
        snr = antennas**2
        angle, delay = net.angle_gain(antennas, snr), net.delay_gain(antennas, band, snr) * 1e6
        error = {
            "angles": np.sqrt(poisson.angle_crlb(stations, gain=angle * density**3)),
            "delays": np.sqrt(poisson.delay_crlb(stations, gain=delay * density**2)),
            "both": np.sqrt(poisson.hybrid_crlb(stations, angle=angle * density**3, delay=delay * density**2)),
        }
        panels.append(
            Panel("Rate [bit/s/Hz]", "Position error √CRLB [km], SNR 0 dB at 1 km",
                  tuple(Curve(way, rates, values) for way, values in error.items()), f"{band / 1e6:g} MHz")
        )  # fmt: skip
        for way, stated in (("delays", "4.6"), ("angles", "1.7")):
            at = int(np.argmin(np.where(rates >= _RATE_SHARE * rates.max(), error[way], np.inf)))
            both = int(np.argmin(np.where(rates >= _RATE_SHARE * rates.max(), error["both"], np.inf)))
            compared.append(
                Compared(f"{way} over both at {_RATE_SHARE:.0%} of the best rate, {band / 1e6:g} MHz",
                         f"{stated} at 6 bit/s/Hz" if band == 10e6 else "angles overtake delays with less band"
                         if way == "delays" else "",
                         float((error[way][at] / error["both"][both]) ** 2), "×", "ratio of CRLBs")
            )  # fmt: skip
    return PaperFigure(
        "b-7",
        "Rate against position error",
        tuple(panels),
        tuple(compared),
        {"path loss of the rate": f"α = {_EXPONENT:g}: at 300 m its best rate is nearest the paper's 6 bit/s/Hz",
         "rate constraint": f"{_RATE_SHARE:.0%} of the best rate for 6 bit/s/Hz, whose power and noise are unknown",
         "power rule": "M·P, transmit gain M"},
    )  # fmt: skip


_EXPONENT = 4.0
_RATE_SHARE = 0.95
