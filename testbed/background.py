"""Work that goes on beside the main thread, item by item."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Background"]

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Calls ``function`` for every item put, in order, in a thread of its own, until it raises.

    The thread does not keep the interpreter from ending.
    """

    def __init__(self, function: Callable[[Item], None]) -> None:
        self._function = function
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._left = 0
        self._abandoned = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)
        self._thread.start()

    @property
    def left(self) -> int:
        """Items that are not done."""
        return self._left

    def put(self, item: Item) -> None:
        """Have ``item`` worked on after those before."""
        self._left += 1
        self._items.put(item)

    def check(self) -> None:
        """Raise what ``function`` raised, if it did."""
        if self._error is not None:
            raise self._error

    def finish(self, patience_s: float | None) -> bool:
        """Whether the thread has ended, so that what ``function`` touches is at rest.

        ``patience_s`` None waits until all is done; otherwise the item begun has so many seconds to end, and those
        after it are given up.

        Raises
        ------
        Exception
            What ``function`` raised.
        """
        self._items.put(None)
        if patience_s is not None:
            self._abandoned = True
        self._thread.join(patience_s)
        self.check()
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._items.get()) is not None and not self._abandoned:
            try:
                self._function(item)
            except BaseException as error:
                self._error = error  # raised again in the thread that asked
                return
            self._left -= 1
