"""Whether the two directions saw the same channel."""

from __future__ import annotations

from dsp.synchronization.base import Offset
from dsp.synchronization.matched_product import Residual, TwoWayLink

__all__ = ["judged"]


def judged(offset: Offset, link: TwoWayLink, residual: Residual) -> Offset:
    return offset
