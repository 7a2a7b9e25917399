"""What a run was computed with: the only part of its results, beside the timing, that a replay may change."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from testbed.scenario import Scenario

__all__ = ["environment"]

_PACKAGES = ("isac-testbed", "numpy", "scipy", "numba", "ldpc")


def environment(scenario: Scenario) -> dict[str, Any]:
    """Versions, machine and seed."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "machine": {"system": platform.system(), "architecture": platform.machine(), "cores": os.cpu_count()},
        "seed": scenario.experiment.seed,
    }
