"""How long a user waits before anything happens: help, import, and the first kernel of a new process."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable

from testbed.bench.rows import BenchRow

__all__ = ["rows"]

_STARTS = {
    "isac --help": ("from testbed.cli import main; main(['--help'])", 0.15),
    "import testbed": ("import testbed", 0.3),
    "first kernel of a new process": (
        "import numpy as np; from dsp.fourier import transformed; transformed(np.ones((4, 1024), np.complex64))", 1.0,
    ),
}  # fmt: skip
"""What a fresh interpreter runs, and the seconds it may take at the best, the interpreter's own start included."""


def rows(rounds: int, progress: Callable[[int, str], None]) -> list[BenchRow]:
    """Shortest and median wall time of each start, and its shortest processor time; the kernels' cache is warm."""
    found = []
    for number, (name, (code, goal)) in enumerate(_STARTS.items()):
        progress(number, name)
        _seconds(code)
        taken = [_seconds(code) for _ in range(rounds)]
        wall = sorted(one[0] for one in taken)
        processor = min(one[1] for one in taken)
        for metric, value, bound in (
            ("wall_time", wall[0], goal),
            ("wall_time_median", wall[rounds // 2], None),
            ("processor_time", processor, goal),
        ):
            found.append(
                BenchRow(
                    scenario="start", method=name, metric=metric, unit="s", value=value, bound=bound,
                    ratio=None if bound is None else value / bound, trials=rounds,
                )
            )  # fmt: skip
    return found


def _seconds(code: str) -> tuple[float, float]:
    """Wall time and processor time."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
