"""One thing that was looked at, and the machine that is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from testbed.scenario import Scenario

__all__ = ["Finding", "Machine", "Wants"]

Status = Literal["ok", "note", "wrong"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one thing."""

    area: str
    name: str
    status: Status
    """"ok"; "note": not as it could be, or missing, but not needed by the scenario, or none was given; "wrong"."""
    found: str
    mend: str = ""
    """Command, or what to do."""


@dataclass(frozen=True)
class Machine:
    """Where a machine shows what it is; another ``root`` than / stands for another machine."""

    root: Path = Path("/")

    def read(self, path: str) -> str | None:
        """Text of the file at an absolute ``path``, stripped; None if it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def glob(self, pattern: str) -> list[Path]:
        """Paths that match an absolute ``pattern``, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))


@dataclass(frozen=True)
class Wants:
    """What a scenario asks of the machine; without one nothing is needed, and what is missing is a note."""

    scenario: Scenario | None = None

    def radio(self, kind: str) -> bool:
        """Whether a node of the scenario is such a radio."""
        return self.scenario is not None and any(node.radio == kind for node in self.scenario.node)

    def status(self, *kinds: str) -> Status:
        """Weight of something that radios of these ``kinds`` need, where it is missing."""
        return "wrong" if any(self.radio(kind) for kind in kinds) else "note"
