"""TOML files of a known shape, with what is wrong in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from testbed.errors import UserError

__all__ = ["convert", "parse", "read_text", "read_toml"]

Shape = TypeVar("Shape")


def read_text(path: Path) -> str:
    """Text of the file ``path``, UTF-8.

    Raises
    ------
    UserError
        One line: there is no such file, or it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot be read: not a text file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(text: str, *, source: str) -> dict[str, Any]:
    """Tables of a TOML ``text``, as built-in types; ``source`` is what its errors name.

    Raises
    ------
    UserError
        One line: the place at which it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not TOML: {error}") from None


def convert(raw: dict[str, Any], shape: type[Shape], *, source: str) -> Shape:
    """The tables ``raw`` as a ``shape``, a `msgspec.Struct` of the whole file.

    Raises
    ------
    UserError
        One line: the key, what it got, what it wants.
    """
    from testbed.toml_words import wrong_value

    wrong = wrong_value(raw, shape)
    if wrong is not None:
        raise UserError(f"{source}: {wrong}")
    return msgspec.convert(raw, shape)


def read_toml(path: Path, shape: type[Shape]) -> Shape:
    """What the file ``path`` says, as a ``shape``; raises as `read_text`, `parse` and `convert` do."""
    return convert(parse(read_text(path), source=str(path)), shape, source=str(path))
