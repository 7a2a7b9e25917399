"""Errors that end a command with one line for the person at the bench, and their exit codes."""

from __future__ import annotations

__all__ = ["RunError", "UserError"]


class UserError(Exception):
    """The user's input is wrong: the text is one line that says where, what, and what would be right."""

    exit_code = 2


class RunError(Exception):
    """The run failed for a reason outside the user's input: a node lost for good, a full disk."""

    exit_code = 1
