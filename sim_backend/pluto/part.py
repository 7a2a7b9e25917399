"""What the transceiver's chip can do, and what it is set to when the firmware is up."""

from __future__ import annotations

from sim_backend.pluto.chain import ClockChain, clock_chain
from sim_backend.pluto.filters import PathFilter
from sim_backend.pluto.fir import FirFilter
from sim_backend.pluto.settings import Settings
from sim_backend.synthesizer import applied_carrier_hz

__all__ = ["BANDWIDTH_HZ", "Part", "initial_settings", "path_filters"]

BANDWIDTH_HZ = 18_000_000
"""RF bandwidth when the firmware is up."""


class Part:
    """What the chip can do: the AD9363A of the stock Pluto, or the AD9361 that it can be told to be."""

    def __init__(self, channels: int, corners: tuple[float, float] = (1.0, 1.0)) -> None:
        self.channels = channels
        self.corners = corners
        """Of the receiver's and the transmitter's analog filters, over what is asked for."""
        extended = channels == 2
        self.name = "ad9361" if extended else "ad9363a"
        self.receive_hz = (70_000_000, 6_000_000_000) if extended else (325_000_000, 3_800_000_000)
        self.transmit_hz = (46_875_001, 6_000_000_000) if extended else (325_000_000, 3_800_000_000)
        self.receive_bandwidth_hz = (200_000, 56_000_000 if extended else 20_000_000)
        self.transmit_bandwidth_hz = (200_000, 40_000_000 if extended else 20_000_000)
        self.initial_rate_hz = 30_720_000 // channels
        """Sample rate when the firmware is up."""


def initial_settings(part: Part, name: str) -> Settings:
    """As the firmware leaves the transceiver: 30.72 MS/s, or half of it with two channels, at 2.4 and 2.45 GHz."""
    chain = clock_chain(part.initial_rate_hz)
    receive, transmit = path_filters(chain, {"receive": BANDWIDTH_HZ, "transmit": BANDWIDTH_HZ}, None, {}, part.corners)
    return Settings(
        rate_hz=chain.rate_hz,
        receive_hz=applied_carrier_hz(2_400_000_000),
        transmit_hz=applied_carrier_hz(2_450_000_000),
        receive_gain_db=(71.0,) * part.channels,
        transmit_gain_db=(-10.0,) * part.channels,
        agc=("slow_attack",) * part.channels,
        receive_path=receive,
        transmit_path=transmit,
        name=name,
    )


def path_filters(
    chain: ClockChain,
    bandwidth_hz: dict[str, int],
    fir: FirFilter | None,
    on: dict[str, bool],
    corners: tuple[float, float],
) -> tuple[PathFilter, PathFilter]:
    """Filters of reception and transmission; the FIR filter where it is loaded and ``on``."""
    made = []
    for path, divisions, corner in zip(("receive", "transmit"), (chain.receive, chain.transmit), corners, strict=True):
        taps: tuple[int, ...] = ()
        if fir is not None and on.get(path):
            taps = fir.receive if path == "receive" else fir.transmit
        made.append(PathFilter(path == "transmit", bandwidth_hz[path], divisions[:3], divisions[3], taps, corner))
    return made[0], made[1]
