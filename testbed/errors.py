"""Errors that end a command with one line for the person at the bench, and their exit codes."""

from __future__ import annotations

__all__ = ["RunError", "UserError"]


class _OneLineError(Exception):
    """An error whose text is one printable line, whatever names and values it quotes."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


class UserError(_OneLineError):
    """The user's input is wrong: the text is one line that says where, what, and what would be right."""

    exit_code = 2


class RunError(_OneLineError):
    """The run failed for a reason outside the user's input: a node lost for good, a full disk."""

    exit_code = 1
