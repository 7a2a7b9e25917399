"""Every file in scenarios/invalid gives exactly the message beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.scenario import load

INVALID = Path(__file__).parents[2] / "scenarios" / "invalid"


@pytest.mark.parametrize("path", sorted(INVALID.glob("*.toml")), ids=lambda path: path.stem)
def test_invalid_experiment_gives_the_message_beside_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(UserError) as caught:
        load(path.name)
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_message_has_its_experiment() -> None:
    names = {path.stem for path in INVALID.glob("*.toml")}
    assert names == {path.stem for path in INVALID.glob("*.txt")}
    assert len(names) >= 30
