"""Where the real captures are: the environment variable ISAC_REAL_DATA, or beside the project."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner


@pytest.fixture(scope="session")
def captures() -> Path:
    """Folder of the real captures; the test is skipped, with the reason, where it is absent."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("ISAC_REAL_DATA", default))
    if not (folder / "MANIFEST.json").exists():
        pytest.skip(f"no real captures at {folder}: set ISAC_REAL_DATA to their folder")
    return folder


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Figures that a command writes for the arguments given; its picture is looked for too."""

    def ask(command: click.Command, *arguments: str | Path) -> dict[str, Any]:
        result = CliRunner().invoke(
            command,
            [*map(str, arguments), "--out", str(tmp_path), "--json", str(tmp_path / "figures.json")],
            catch_exceptions=False,
        )
        assert result.exit_code == 0
        document: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
        assert Path(document["picture"]).stat().st_size > 10_000
        return document

    return ask
