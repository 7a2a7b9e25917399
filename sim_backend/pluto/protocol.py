"""The text of the IIOD protocol: one line in, one command out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LINE_BYTES", "Command", "MalformedError", "parse"]

LINE_BYTES = 4096
"""Longest line that is a command."""
_DIGITS = 19


class MalformedError(ValueError):
    """The line is no command."""


@dataclass(frozen=True)
class Command:
    """A command with its arguments; what does not apply is empty."""

    verb: str
    """In capitals; empty for an empty line."""
    device: str = ""
    kind: str = "device"
    """Of an attribute: ``device``, ``debug``, ``buffer``, ``input`` or ``output``."""
    channel: str = ""
    attribute: str = ""
    """Empty: all of them."""
    count: int = 0
    """Bytes, samples, milliseconds or buffers, as the verb says."""
    mask: str = ""
    cyclic: bool = False


def parse(line: bytes) -> Command:
    """Command in a line without its end.

    Verbs and keywords are taken in capitals or not, words are separated by blanks.

    Raises
    ------
    MalformedError
        If it is none; IIOD answers that with EINVAL.
    """
    try:
        words = line.decode("ascii").split()
    except UnicodeDecodeError:
        raise MalformedError("not text") from None
    if not words:
        return Command("")
    verb = words[0].upper()
    if verb in ("HELP", "EXIT", "PRINT", "VERSION") and len(words) == 1:
        return Command(verb)
    if verb == "TIMEOUT" and len(words) == 2:
        return Command(verb, count=_whole(words[1]))
    if verb in ("CLOSE", "GETTRIG") and len(words) == 2:
        return Command(verb, words[1])
    if verb == "SETTRIG" and len(words) in (2, 3):
        return Command(verb, words[1], attribute=words[2] if len(words) == 3 else "")
    if verb == "SET" and len(words) == 4 and words[2].upper() == "BUFFERS_COUNT":
        return Command(verb, words[1], count=_whole(words[3]))
    if verb in ("READBUF", "WRITEBUF") and len(words) == 3:
        return Command(verb, words[1], count=_whole(words[2]))
    if verb == "OPEN" and len(words) in (4, 5):
        cyclic = len(words) == 5
        if cyclic and words[4].upper() != "CYCLIC":
            raise MalformedError("neither CYCLIC nor the end")
        return Command(verb, words[1], count=_whole(words[2]), mask=words[3], cyclic=cyclic)
    if verb in ("READ", "WRITE") and len(words) >= 2:
        return _attribute(verb, words[1:])
    raise MalformedError(f"no command: {verb[:20]}")


def _attribute(verb: str, words: list[str]) -> Command:
    """``DEVICE [DEBUG|BUFFER] [ATTRIBUTE] [BYTES]`` or ``DEVICE INPUT|OUTPUT CHANNEL [ATTRIBUTE] [BYTES]``."""
    count = 0
    if verb == "WRITE":
        if len(words) < 2:
            raise MalformedError("how many bytes?")
        count = _whole(words.pop())
    device, *rest = words
    kind, channel = "device", ""
    if rest and rest[0].upper() in ("DEBUG", "BUFFER"):
        kind = rest.pop(0).lower()
    elif rest and rest[0].upper() in ("INPUT", "OUTPUT"):
        kind = rest.pop(0).lower()
        if not rest:
            raise MalformedError("which channel?")
        channel = rest.pop(0)
    if len(rest) > 1:
        raise MalformedError("too many words")
    return Command(verb, device, kind, channel, rest[0] if rest else "", count)


def _whole(word: str) -> int:
    if not word.isdigit() or len(word) > _DIGITS:
        raise MalformedError(f"no count: {word[:20]}")
    return int(word)
