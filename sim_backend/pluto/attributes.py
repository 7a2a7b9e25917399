"""What an IIO device consists of: channels and attributes that are read and written as text."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Attribute", "Channel", "Device", "RefusedError", "fixed", "number", "switch"]


class RefusedError(Exception):
    """The driver refuses, for a reason of `errno`."""

    def __init__(self, code: int) -> None:
        super().__init__(errno.errorcode.get(code, str(code)))
        self.code = code


def _unreadable() -> str:
    raise RefusedError(errno.EACCES)


def _unwritable(text: str) -> None:
    raise RefusedError(errno.EACCES)


@dataclass(frozen=True)
class Attribute:
    """A file of sysfs; channels that name the same file share its state."""

    name: str
    filename: str
    read: Callable[[], str] = _unreadable
    write: Callable[[str], None] = _unwritable


@dataclass
class Channel:
    """A channel of a device."""

    id: str
    output: bool
    attributes: list[Attribute] = field(default_factory=list)
    name: str = ""
    scan_index: int | None = None
    scan_format: str = ""

    def attribute(self, name: str) -> Attribute:
        """Attribute of that name.

        Raises
        ------
        RefusedError
            ENOENT.
        """
        return _find(self.attributes, name)


@dataclass
class Device:
    """A device of the context; channels with scan elements come first, in the order of their index."""

    id: str
    name: str
    channels: list[Channel] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)
    debug: list[Attribute] = field(default_factory=list)
    buffer: list[Attribute] = field(default_factory=list)

    def channel(self, name: str, *, output: bool) -> Channel | None:
        """Channel by its identity or its name."""
        for channel in self.channels:
            if channel.output == output and name in (channel.id, channel.name or channel.id):
                return channel
        return None

    def attribute(self, kind: str, name: str) -> Attribute:
        """Attribute of the kind ``device``, ``debug`` or ``buffer``; raises `RefusedError` with ENOENT."""
        return _find(self.of_kind(kind), name)

    def of_kind(self, kind: str) -> list[Attribute]:
        """All attributes of a kind."""
        return {"device": self.attributes, "debug": self.debug, "buffer": self.buffer}[kind]


def _find(attributes: list[Attribute], name: str) -> Attribute:
    for attribute in attributes:
        if attribute.name == name:
            return attribute
    raise RefusedError(errno.ENOENT)


def fixed(name: str, value: str, filename: str = "") -> Attribute:
    """Attribute that reads always the same and cannot be written."""
    return Attribute(name, filename or name, lambda: value)


def number(text: str) -> float:
    """Number at the beginning of what was written, as the kernel reads it.

    Raises
    ------
    RefusedError
        EINVAL if there is none, or it is not finite.
    """
    try:
        value = float(text.split()[0])
    except (ValueError, IndexError):
        raise RefusedError(errno.EINVAL) from None
    if not abs(value) < 1e18:
        raise RefusedError(errno.EINVAL)
    return value


def switch(text: str) -> bool:
    """Truth value as the kernel reads it: 0, 1, y, n, on, off.

    Raises
    ------
    RefusedError
        EINVAL for anything else.
    """
    word = text.strip().lower()
    if word[:1] in ("1", "y", "t") or word[:2] == "on":
        return True
    if word[:1] in ("0", "n", "f") or word[:2] == "of":
        return False
    raise RefusedError(errno.EINVAL)
