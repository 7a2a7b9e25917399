"""Files that are there whole or not at all, and the numbers in them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

__all__ = ["plain_number", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by one that holds ``content``; a crash leaves the old one or the new one."""
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def plain_number(value: object) -> object:
    """numpy's scalars and arrays as Python's numbers and lists: msgspec's hook for what it cannot encode itself.

    Raises
    ------
    TypeError
        If ``value`` is neither.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a file cannot hold a {type(value).__name__}")
