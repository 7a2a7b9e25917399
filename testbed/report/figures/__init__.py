"""One module a picture. Each takes a run and gives a figure with its caption, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

__all__ = ["Drawing", "LeftOut"]


@dataclass(frozen=True)
class Drawing:
    """A figure and what one should see in it."""

    name: str
    """File name without its ending."""
    title: str
    figure: Figure
    caption: str
    """Full sentences: what is drawn, and what it shows when all is well."""
    alt: str
    """The picture in words, for those who cannot see it."""


@dataclass(frozen=True)
class LeftOut:
    """A figure that could not be made."""

    title: str
    reason: str
    """One sentence."""
