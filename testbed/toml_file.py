"""TOML files of a known shape, with what is wrong in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from testbed.errors import UserError

__all__ = ["read_toml"]

Shape = TypeVar("Shape")


def read_toml(path: Path, shape: type[Shape]) -> Shape:
    """What the file ``path`` says, as a ``shape``.

    Raises
    ------
    UserError
        One line: the file, the key, what is wrong.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), shape)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        raise UserError(f"{path}: {where.strip('.`') or 'the file'}: {text[0].lower()}{text[1:]}") from None
