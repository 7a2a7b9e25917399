"""Inner loops compiled by numba. Compiled once, with a word about it, into a cache that any edit here invalidates.

Numba looks at the file of the function that it loads from its cache, not at the files of functions which that one
calls. Here the stamp of every cached kernel is a hash over all files of this package instead. Where the package's own
folder cannot be written to, numba's folder of the user takes the cache.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba.core import caching, event

_FOLDER = Path(__file__).resolve().parent
_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def source_stamp() -> bytes:
    """Hash over the names and contents of all kernel sources."""
    digest = sha256()
    for path in sorted(_FOLDER.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


class _OfThisPackage:
    """Locator of this package's functions alone, stamped with all of its sources."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        if Path(py_file).resolve().parent != _FOLDER:
            return None
        return super().from_function(py_func, py_file)  # type: ignore[misc]

    def get_source_stamp(self) -> bytes:
        return source_stamp()


def _of_numba(name: str) -> Any:
    """Numba's own locator of that name, which begins with an underscore in its older releases."""
    return getattr(caching, name, None) or getattr(caching, f"_{name}")


class _Provided(_OfThisPackage, _of_numba("UserProvidedCacheLocator")):  # type: ignore[misc]
    """In the folder that NUMBA_CACHE_DIR names."""


class _InTree(_OfThisPackage, _of_numba("InTreeCacheLocator")):  # type: ignore[misc]
    """Beside the sources."""


class _UserWide(_OfThisPackage, _of_numba("UserWideCacheLocator")):  # type: ignore[misc]
    """In the user's own cache folder."""


class _FirstCompilation(event.Listener):
    """Says once in a process that something is being compiled which the cache will hold the next time."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: Any) -> None:
        cached = not isinstance(event.data["dispatcher"]._cache, caching.NullCache)
        if cached and not self._said:
            self._said = True
            _LOG.warning("compiling numerical kernels for this machine: once, up to a minute")

    def on_end(self, event: Any) -> None:
        pass


caching.CacheImpl._locator_classes[:0] = [_Provided, _InTree, _UserWide]
event.register("numba:compile", _FirstCompilation())
