"""The one error of this package."""

from __future__ import annotations

__all__ = ["FirmwareError"]


class FirmwareError(Exception):
    """A profile, a filter or a device is not as it must be: one line that says where, what, and what would be right."""
