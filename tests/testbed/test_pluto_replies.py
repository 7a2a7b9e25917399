"""What a Pluto's driver makes of replies that no Pluto gives, and of connections that end at any step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from testbed.bench import pluto_replies
from testbed.bench.pluto_replies import LyingServer, mutilated, replies

pytest.importorskip("adi", reason="pyadi-iio or libiio is missing: pip install 'isac-testbed[pluto]', libiio0")


def test_a_mutilated_reply_is_another_one() -> None:
    random = np.random.default_rng(1)
    reply = b"262144\n00000003\n" + bytes(range(256))
    others = [mutilated(random, reply) for _ in range(400)]
    assert sum(other != reply for other in others) > 380
    assert len({len(other) for other in others}) > 100


def figures(study: Callable[[], list[object]]) -> dict[str, float]:
    return {row.metric: row.value for row in study()}


def test_lies_break_nothing_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # A slice of `isac bench pluto replies`.
    monkeypatch.setattr(pluto_replies, "_CONNECTIONS_A_ROUND", 30)
    found = figures(lambda: replies(trials=60, seed=5))
    assert found["library_crashes"] == found["library_hangs"] == 0
    assert found["library_threads_left"] == found["library_descriptors_left"] == 0
    assert found["driver_rounds_whole"] + found["driver_says_why_not"] >= 1
    assert found["driver_threads_left"] <= 0
    assert found["driver_descriptors_left"] <= 0


@pytest.mark.parametrize(("step", "fate"), [(0, "told"), (20, "told"), (-8, "recovered")])
def test_a_connection_that_ends_at_any_step_is_told_or_survived(step: int, fate: str) -> None:
    # A slice of `isac bench pluto faults`.
    well = LyingServer(0, fault_at=-1)
    assert pluto_replies._fate(well.uri) == "whole"
    well.close()
    broken = LyingServer(0, fault_at=step if step >= 0 else well.replies + step)
    assert pluto_replies._fate(broken.uri) == fate
    assert broken.lies == 1
    broken.close()
