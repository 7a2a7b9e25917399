"""What a key of the experiment file may hold: the domains that several tables share."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "Count",
    "Delay",
    "Name",
    "NonNegative",
    "Positive",
    "Probability",
    "Seconds",
    "Table",
    "Vector",
    "WholePositive",
]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
WholePositive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(gt=0, lt=1)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Delay = Annotated[float, Meta(ge=0, le=1e-3)]
Vector = Annotated[tuple[float, ...], Meta(min_length=2, max_length=3)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the experiment file: unknown keys are errors."""
