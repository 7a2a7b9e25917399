"""FIR filters as they are loaded: the text of a .ftr file."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FirFilter", "parse_fir"]

_MOST_TAPS = 128
_HEADER = re.compile(r"(TX|RX)\s+([0-3])\s+GAIN\s+(-?\d+)\s+(INT|DEC)\s+(\d+)", re.IGNORECASE)
_PAIR = re.compile(r"(-?\d+)\s*,\s*(-?\d+)")
_EXTRA = re.compile(r"(RTX|RRX|BWTX|BWRX)(\s+\d+)+", re.IGNORECASE)


@dataclass(frozen=True)
class FirFilter:
    """Filters of both paths."""

    transmit: tuple[int, ...]
    receive: tuple[int, ...]
    interpolation: int
    decimation: int
    transmit_gain_db: int
    receive_gain_db: int
    transmit_bandwidth_hz: int | None = None
    receive_bandwidth_hz: int | None = None

    def __str__(self) -> str:
        return f"FIR Rx: {len(self.receive)},{self.decimation} Tx: {len(self.transmit)},{self.interpolation}"


def parse_fir(text: str) -> FirFilter:
    """Filters in the text of a .ftr file.

    Raises
    ------
    ValueError
        If a line is not understood, a header is missing, a gain or factor is none of the device's, or the number of
        taps is not a multiple of 16 up to 128; EINVAL to a client.
    """
    headers: dict[str, tuple[int, int]] = {}
    bandwidths: dict[str, int] = {}
    transmit: list[int] = []
    receive: list[int] = []
    for line in text.replace("\0", "").splitlines():
        words = line.split("#")[0].strip()
        if not words:
            continue
        if header := _HEADER.fullmatch(words):
            path = header[1].upper()
            if (header[4].upper() == "INT") != (path == "TX"):
                raise ValueError(f"the transmit filter interpolates and the receive filter decimates: {words!r}")
            headers[path] = int(header[3]), int(header[5])
        elif pair := _PAIR.fullmatch(words):
            transmit.append(int(pair[1]))
            receive.append(int(pair[2]))
        elif extra := _EXTRA.fullmatch(words):
            if extra[1].upper().startswith("BW"):
                bandwidths[extra[1].upper()] = int(words.split()[1])
        else:
            raise ValueError(f"no line of a filter: {words[:40]!r}")
        if len(transmit) > _MOST_TAPS:
            raise ValueError(f"more than {_MOST_TAPS} taps")
    if set(headers) != {"TX", "RX"}:
        raise ValueError("a filter has a TX and an RX line")
    (transmit_gain, interpolation), (receive_gain, decimation) = headers["TX"], headers["RX"]
    if not {interpolation, decimation} <= {1, 2, 4}:
        raise ValueError(f"factors are 1, 2 or 4, got {interpolation} and {decimation}")
    if transmit_gain not in (0, -6) or receive_gain not in (6, 0, -6, -12):
        raise ValueError(f"gains are 0 or -6, and 6 to -12 dB, got {transmit_gain} and {receive_gain}")
    if not transmit or len(transmit) % 16:
        raise ValueError(f"taps come in multiples of 16, got {len(transmit)}")
    if any(not -32768 <= tap <= 32767 for tap in (*transmit, *receive)):
        raise ValueError("taps have 16 bits")
    return FirFilter(
        tuple(transmit), tuple(receive), interpolation, decimation, transmit_gain, receive_gain,
        bandwidths.get("BWTX"), bandwidths.get("BWRX"),
    )  # fmt: skip
