"""What a station takes off its joint slot so that it leaves as the first station's does."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from testbed.capture import Capture

__all__ = ["SETTING", "Correction", "applied"]

SETTING = "joint_correction"
"""Key under which a capture's settings say what was taken off."""
Finite = Annotated[float, Meta(ge=-1e12, le=1e12)]


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a station's joint slot would stand against the first station's if nothing were taken off."""

    delay_s: Finite
    """It leaves so much later."""
    phase_rad: Finite
    """Its carrier is so far ahead when it begins."""
    cfo_hz: Finite
    """Its carrier is so much faster."""


def applied(capture: Capture) -> Correction | None:
    """What the node took off the joint slot that it sent; None if nothing.

    Raises
    ------
    UserError
        If the recording says it in no way that this release reads.
    """
    said = (capture.settings or {}).get(SETTING)
    if said is None:
        return None
    try:
        return msgspec.convert(said, Correction)
    except msgspec.ValidationError as error:
        from testbed.errors import UserError

        raise UserError(f"round {capture.round} of {capture.node}: {SETTING}: {error}") from None
