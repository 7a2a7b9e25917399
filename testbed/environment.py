"""What a run was computed with: the only part of its results, beside the timing, that a replay may change."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from testbed.scenario import Scenario

__all__ = ["environment", "versions"]

_PACKAGES = ("isac-testbed", "numpy", "scipy", "numba")


def versions() -> dict[str, Any]:
    """Versions and machine."""
    found: dict[str, str] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    machine = {"system": platform.system(), "architecture": platform.machine(), "cores": os.cpu_count()}
    return {"versions": found, "machine": machine}


def environment(scenario: Scenario) -> dict[str, Any]:
    """Versions, machine and seed."""
    return versions() | {"seed": scenario.experiment.seed}
