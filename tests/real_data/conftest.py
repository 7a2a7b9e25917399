"""Where the real captures are: the environment variable ISAC_REAL_DATA, or beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def captures() -> Path:
    """Folder of the real captures; the test is skipped, with the reason, where it is absent."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("ISAC_REAL_DATA", default))
    if not (folder / "MANIFEST.json").exists():
        pytest.skip(f"no real captures at {folder}: set ISAC_REAL_DATA to their folder")
    return folder
