"""Workers: what their processes start with."""

from __future__ import annotations

import os
from functools import partial

import pytest

from testbed.sweep.point import Task
from testbed.sweep.workers import on_processes


def test_workers_start_with_one_thread_for_linear_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the worker's environment at its start: numpy heeds no later change.
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        found = list(on_processes(iter([Task(0, "")]), partial(os.getenv, variable), 1))
        assert found == ["1"]
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "2"
