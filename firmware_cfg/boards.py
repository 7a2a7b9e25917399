"""Boards that plans are made for, recognised by what they say of themselves; all others are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from firmware_cfg.errors import FirmwareError

__all__ = ["Board", "Identity", "known_board"]


@dataclass(frozen=True)
class Board:
    """A board and what it can be brought to."""

    name: str
    channels: int
    external_clock: bool


@dataclass(frozen=True)
class Identity:
    """What a device says of itself."""

    model: str
    firmware: str
    serial: str = ""

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the firmware.

        Raises
        ------
        FirmwareError
            If the text holds none, as that of a firmware built by oneself.
        """
        found = re.match(r"v?(\d+)\.(\d+)", self.firmware)
        if found is None:
            raise FirmwareError(
                f"the firmware calls itself {self.firmware!r}, no version that is known: install a released one"
            )
        return int(found[1]), int(found[2])


_BOARDS = (
    (r"Pluto\s*SDR Rev\.?\s*[AB]\b", Board("ADALM-Pluto revision B", 1, False)),
    (r"Pluto\s*SDR Rev\.?\s*[CD]\b", Board("ADALM-Pluto revision C or D", 2, True)),
    (r"PLUTO\s*\+|PlutoPlus", Board("Pluto+", 2, True)),
)


def known_board(identity: Identity) -> Board:
    """Board that ``identity`` is.

    Raises
    ------
    FirmwareError
        If it is none that plans are made for.
    """
    for pattern, board in _BOARDS:
        if re.search(pattern, identity.model, re.IGNORECASE):
            return board
    raise FirmwareError(
        f"the device calls itself {identity.model!r}, a board that nothing is known of: "
        f"plans are made for {', '.join(board.name for _, board in _BOARDS)}"
    )
