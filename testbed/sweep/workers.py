"""Where points are computed: processes of this machine, or a Dask cluster. Outcomes come as they end."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_connections
from typing import Any

from testbed.errors import RunError, UserError
from testbed.processes import ONE_THREAD
from testbed.sweep.point import Outcome, Task

__all__ = ["on_cluster", "on_processes"]

Work = Callable[[Task], Outcome]
_AHEAD = 4
"""Tasks handed out beyond each worker's own, so that none waits; more would only be memory."""
_ANSWER_S = 10.0
_DIED = "its process died, twice"


def on_processes(tasks: Iterator[Task], work: Work, workers: int) -> Iterator[Outcome]:
    """Outcomes of ``tasks`` on ``workers`` processes of one thread each.

    A process that dies takes down its pool; the tasks it may have had are tried again, each alone, and only one that
    kills its process again has failed.
    """
    while True:
        lost: list[Task] = []
        yield from _pooled(tasks, work, workers, lost)
        if not lost:
            return
        for task in lost:
            again: list[Task] = []
            yield from _pooled(iter([task]), work, 1, again)
            if again:
                yield Outcome(index=task.index, status="failed", reason=_DIED)


def _pooled(tasks: Iterator[Task], work: Work, workers: int, lost: list[Task]) -> Iterator[Outcome]:
    """Outcomes until the tasks or the pool are at an end; ``lost`` takes the tasks that the pool took with it."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_settle)
    pending: dict[Future[Outcome], Task] = {}

    def hand_out(count: int) -> None:
        for task in itertools.islice(tasks, count):
            try:
                with _of_one_thread():  # a process starts when there is work for it
                    pending[pool.submit(work, task)] = task
            except BrokenProcessPool:
                lost.append(task)
                return

    try:
        hand_out(workers + _AHEAD)
        while pending:
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                task = pending.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    lost.append(task)
                    continue
                yield outcome
            if not lost:
                hand_out(len(finished))
    finally:
        for process in list((pool._processes or {}).values()) if pending else ():
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _of_one_thread() -> Iterator[None]:
    """Processes that start meanwhile do their linear algebra in one thread, which numpy settles when it is imported."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _settle() -> None:
    """Make a worker end with its parent, however that ends, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_connections([sentinel])
    os._exit(1)


def on_cluster(tasks: Iterator[Task], work: Work, address: str) -> Iterator[Outcome]:
    """Outcomes of ``tasks`` on the workers of the Dask scheduler at ``address``.

    Raises
    ------
    UserError
        If nothing answers there, it has no workers, or Dask is not installed.
    RunError
        If the scheduler is lost on the way.
    """
    try:
        import dask
        from distributed import Client, as_completed
    except ImportError:
        raise UserError("--scheduler needs Dask: pip install 'isac-testbed[sweep]'") from None

    for noisy in ("distributed", "tornado"):  # they log tracebacks of what is said here in one line
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with dask.config.set({"distributed.comm.timeouts.connect": f"{_ANSWER_S}s"}):
        client = _client(Client, address)
        try:
            threads = sum(client.nthreads().values())
            if not threads:
                raise UserError(f"--scheduler is {address}, which has no workers: start some with `dask worker`")
            pending: dict[Any, Task] = {}
            running: Any = as_completed(loop=client.loop)  # type: ignore[no-untyped-call]

            def hand_out(count: int) -> None:
                for task in itertools.islice(tasks, count):
                    future = client.submit(work, task, pure=False)
                    pending[future] = task
                    running.add(future)

            hand_out(threads + _AHEAD)
            while pending:
                future = next(running)
                task = pending.pop(future)
                if future.status in ("cancelled", "lost") or client.status != "running":
                    raise RunError(f"the scheduler at {address} is gone")
                if future.status == "error":
                    error = future.exception()
                    yield Outcome(index=task.index, status="failed", reason=f"{type(error).__name__}: {error}")
                else:
                    yield future.result()
                hand_out(1)
        except (OSError, TimeoutError) as error:
            raise RunError(f"the scheduler at {address} is gone: {str(error).splitlines()[0]}") from None
        finally:
            client.close(timeout=1)


def _client(kind: Any, address: str) -> Any:
    try:
        return kind(address, timeout=_ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError):
        raise UserError(
            f"--scheduler is {address}, where no Dask scheduler answers: give tcp://HOST:PORT as `dask scheduler` "
            "prints it"
        ) from None
