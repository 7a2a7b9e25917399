"""What a key of the experiment file may hold: the domains that several tables share."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from testbed.errors import UserError

__all__ = [
    "NAME_PATTERN",
    "NAME_WORDS",
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
    "refuse_name",
]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}\Z"
NAME_WORDS = "a text of 1 to 40 letters, digits, - and _, beginning with a letter or digit"

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
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


def refuse_name(what: str, name: str) -> None:
    """Raise `UserError` where ``name``, which ``what`` gave, is none that a node can have: it names files too."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise UserError(f"{what} is {name!r}, but must be {NAME_WORDS}")
