"""`.ftr` files: a pair of filters as the AD9361's Linux driver reads them.

Comment lines begin with #. `TX 3 GAIN g INT n` and `RX 3 GAIN g DEC n` address both channels; then follows one line
for each tap, the transmit coefficient before the receive one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from firmware_cfg.clock_chain import FIR_TAPS
from firmware_cfg.errors import FirmwareError
from firmware_cfg.filters import FilterPair

__all__ = ["FilterFile", "dumps", "loads"]

_HEADERS = {
    "transmit": re.compile(r"TX\s+(\d+)\s+GAIN\s+(-?\d+)\s+INT\s+(\d+)"),
    "receive": re.compile(r"RX\s+(\d+)\s+GAIN\s+(-?\d+)\s+DEC\s+(\d+)"),
}
_CHANNELS = (1, 2, 3)
_GAINS_DB = {"transmit": (0, -6), "receive": (6, 0, -6, -12)}
_TAP = re.compile(r"(-?\d+)\s*,\s*(-?\d+)|(-?\d+)")


@dataclass(frozen=True)
class FilterFile:
    """What a `.ftr` file says."""

    transmit: tuple[int, ...]
    receive: tuple[int, ...]
    transmit_gain_db: int
    receive_gain_db: int
    interpolation: int
    decimation: int

    @property
    def shape(self) -> str:
        """What the driver reads back once it is loaded."""
        return f"FIR Rx: {len(self.receive)},{self.decimation} Tx: {len(self.transmit)},{self.interpolation}"


def dumps(pair: FilterPair) -> str:
    """Text of the file that holds ``pair``."""
    wanted, receive, transmit = pair.receive.specification, pair.receive, pair.transmit
    seen, sent = receive.response(), transmit.response()
    lines = [
        f"# {len(receive.coefficients)} taps for {receive.chain.rate_hz:.0f} samples a second",
        f"# passes {wanted.pass_hz:.0f} Hz within {wanted.ripple_db:g} dB, stops {wanted.stop_hz:.0f} Hz by "
        f"{wanted.attenuation_db:g} dB",
        f"# reception: ripple {seen.ripple_db:.4f} dB, attenuation {seen.attenuation_db:.1f} dB",
        f"# transmission: ripple {sent.ripple_db:.4f} dB, attenuation {sent.attenuation_db:.1f} dB",
        f"TX 3 GAIN {transmit.gain_db} INT {wanted.factor}",
        f"RX 3 GAIN {receive.gain_db} DEC {wanted.factor}",
    ]
    lines += [f"{sent},{heard}" for sent, heard in zip(transmit.coefficients, receive.coefficients, strict=True)]
    return "\n".join(lines) + "\n"


def loads(text: str, *, source: str) -> FilterFile:
    """What the file's ``text`` says; lines of clocks and bandwidths are read over.

    Raises
    ------
    FirmwareError
        If the driver would refuse it.
    """
    found: dict[str, tuple[int, int]] = {}
    taps: list[tuple[int, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith(("#", "RTX", "RRX", "BWTX", "BWRX")):
            continue
        for direction, pattern in _HEADERS.items():
            header = pattern.fullmatch(line)
            if header is not None:
                channel, gain_db, factor = (int(x) for x in header.groups())
                if channel not in _CHANNELS or gain_db not in _GAINS_DB[direction] or factor not in (1, 2, 4):
                    raise FirmwareError(
                        f"{source}: line {number} is {line!r}, but channels are 1, 2 or 3, the gain one of "
                        f"{_GAINS_DB[direction]} dB and the factor 1, 2 or 4"
                    )
                found[direction] = (gain_db, factor)
                break
        else:
            tap = _TAP.fullmatch(line)
            if tap is None:
                raise FirmwareError(
                    f"{source}: line {number} is {line[:40]!r}, which is neither header nor coefficient"
                )
            pair = (int(tap[3]), int(tap[3])) if tap[3] is not None else (int(tap[1]), int(tap[2]))
            if any(not -(2**15) <= value < 2**15 for value in pair):
                raise FirmwareError(f"{source}: line {number} is {line!r}, but coefficients have 16 bits")
            taps.append(pair)
    for direction in _HEADERS:
        if direction not in found:
            raise FirmwareError(f"{source}: there is no header for the {direction} filter: begin with TX … and RX …")
    if not taps or len(taps) % 16 or len(taps) > FIR_TAPS:
        raise FirmwareError(f"{source}: there are {len(taps)} taps, but it takes a multiple of 16 up to {FIR_TAPS}")
    return FilterFile(
        transmit=tuple(tap[0] for tap in taps),
        receive=tuple(tap[1] for tap in taps),
        transmit_gain_db=found["transmit"][0],
        receive_gain_db=found["receive"][0],
        interpolation=found["transmit"][1],
        decimation=found["receive"][1],
    )
