"""What raw IQ of a standard's transmitter says about its clock against the receiver's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.standards import lte, wifi
from testbed.errors import UserError

__all__ = ["IqSummary", "analyse", "figures"]

USUAL_RATES_HZ = (20e6, 1.92e6, 3.84e6, 7.68e6, 15.36e6, 19.2e6, 23.04e6, 30.72e6)


@dataclass(frozen=True)
class IqSummary:
    """What was found in a stream: packets, or a cell."""

    rate_hz: float
    rate_found: bool
    """Whether the rate was not given, but found by what decodes."""
    samples: int
    packets: tuple[wifi.WifiPacket, ...]
    """Starts are in samples at 20 MS/s."""
    cell: lte.LteCell | None


def analyse(
    samples: NDArray[np.complex64], *, rate_hz: float | None, standard: str = "auto", carrier_hz: float | None = None
) -> IqSummary:
    """WiFi packets or the LTE cell in a stream.

    Without a standard both are tried, WiFi where the rate allows; without a rate the usual ones are tried, WiFi's
    first, and the one at which something decodes is taken.

    Raises
    ------
    UserError
        If nothing is found, or the rate is below what the standard needs.
    """
    least = {"wifi": wifi.RATE_HZ, "lte": lte.RATE_HZ, "auto": lte.RATE_HZ}[standard]
    if rate_hz is not None and rate_hz < least:
        raise UserError(f"--rate-hz is {rate_hz:g}: {standard} needs {least:g} or more")
    for rate in (rate_hz,) if rate_hz is not None else USUAL_RATES_HZ:
        packets: tuple[wifi.WifiPacket, ...] = ()
        cell = None
        if standard != "lte" and rate >= wifi.RATE_HZ:
            packets = tuple(wifi.find_packets(_at_rate(samples, rate, wifi.RATE_HZ)))
        if not packets and standard != "wifi":
            # A tenth of a second tells whether there is a cell at this rate.
            opening = samples[: int(0.1 * rate)]
            cell = lte.find_cell(_at_rate(opening, rate, lte.RATE_HZ), carrier_hz=carrier_hz)
            if cell is not None and len(opening) < len(samples):
                cell = lte.find_cell(_at_rate(samples, rate, lte.RATE_HZ), carrier_hz=carrier_hz)
        if packets or cell is not None:
            return IqSummary(rate, rate_hz is None, len(samples), packets, cell)
    named = {"wifi": "802.11a/g/n packet", "lte": "LTE cell"}.get(standard, "802.11a/g/n packet and no LTE cell")
    where = f"at {rate_hz / 1e6:g} MS/s" if rate_hz is not None else "at any usual rate: name the --rate-hz"
    raise UserError(f"no {named} found in {len(samples)} samples {where}")


def _at_rate(samples: NDArray[np.complex64], rate_hz: float, wanted_hz: float) -> NDArray[np.complex64]:
    """The stream at another rate, by a polyphase filter."""
    if rate_hz == wanted_hz:
        return samples
    from scipy.signal import resample_poly

    ratio = Fraction(wanted_hz / rate_hz).limit_denominator(1000)
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator), dtype=np.complex64)


def figures(summary: IqSummary, carrier_hz: float | None) -> dict[str, Any]:
    """The printed figures as a JSON document: SI units, null where one does not apply."""
    document: dict[str, Any] = {
        "standard": "wifi" if summary.packets else "lte",
        "rate_hz": summary.rate_hz,
        "rate_found": summary.rate_found,
        "samples": summary.samples,
        "duration_s": summary.samples / summary.rate_hz,
        "carrier_hz": carrier_hz,
    }
    document.update(_wifi_figures(summary) if summary.packets else _lte_figures(summary))
    cfo, sfo = document["cfo_hz"], document["sfo_ppm"]
    document["cfo_ppm"] = 1e6 * cfo / carrier_hz if carrier_hz else None
    # One crystal for carrier and samples: their ratio names the carrier.
    std = document["sfo_std_ppm"]
    known = sfo is not None and std is not None and abs(sfo) > 5 * std and cfo * sfo < 0
    document["carrier_by_one_crystal_hz"] = -1e6 * cfo / sfo if known else None
    return document


def _wifi_figures(summary: IqSummary) -> dict[str, Any]:
    packets = summary.packets
    cfo = np.array([packet.cfo_hz for packet in packets])
    drifts = [(packet.drift, packet.drift_weight) for packet in packets if packet.drift is not None]
    sfo = std = None
    if drifts:
        values, weights = np.array(drifts).T
        mean = float(values @ weights / weights.sum())
        sfo = 1e6 * mean
        if len(drifts) > 1:
            scatter = float(weights @ (values - mean) ** 2 / weights.sum())
            std = 1e6 * float(np.sqrt(scatter / (len(drifts) - 1)))
    return {
        "packets": len(packets),
        "cfo_hz": float(cfo.mean()),
        "cfo_std_hz": float(cfo.std()),
        "cfo_short_training_hz": float(np.mean([packet.cfo_short_hz for packet in packets])),
        "sfo_ppm": sfo,
        "sfo_std_ppm": std,
        "snr_db": float(np.mean([packet.snr_db for packet in packets])),
        "packet": [
            {
                "start_s": packet.start / wifi.RATE_HZ,
                "cfo_hz": packet.cfo_hz,
                "snr_db": packet.snr_db,
                "format": "802.11a/g" if packet.modulation_index is None else "802.11n",
                "rate_mbps": packet.rate_mbps if packet.modulation_index is None else None,
                "mcs": packet.modulation_index,
                "length_bytes": packet.length_bytes if packet.modulation_index is None else None,
                "sfo_ppm": None if packet.drift is None else 1e6 * packet.drift,
            }
            for packet in packets
        ],
    }


def _lte_figures(summary: IqSummary) -> dict[str, Any]:
    cell = summary.cell
    assert cell is not None
    return {
        "cell_identity": cell.identity,
        "cfo_hz": cell.cfo_hz,
        "cfo_std_hz": cell.cfo_std_hz,
        "sfo_ppm": cell.sfo_ppm,
        "sfo_std_ppm": cell.sfo_std_ppm,
        "frame_start_s": cell.frame_start / lte.RATE_HZ,
        "half_frames": cell.half_frames,
        "timing_s": [float(value) for value in cell.timing_s],
        "snr_db": cell.primary_snr_db,
        "secondary_margin": cell.secondary_margin,
    }
