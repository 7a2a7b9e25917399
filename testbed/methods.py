"""Synchronization methods by name: those built in, and those that users bring as entry points or in a file.

A package's entry point in the group ``isac.methods`` or a file given with ``--methods-file`` adds a method without a
line changed here. A user's code is loaded only when its name is asked for or a bench looks for all there are, and
never because a run's folder is opened; what is wrong with it is one line.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import UserError
from testbed.scenario import METHODS
from testbed.scenario_domains import NAME_PATTERN

if TYPE_CHECKING:
    from dsp.synchronization.base import Method, Need

__all__ = [
    "FILES_VARIABLE",
    "GROUP",
    "available",
    "clashes",
    "complaint",
    "method",
    "usable_with",
    "use_files",
    "users",
]

GROUP = "isac.methods"
"""Group of the entry points: ``name = "package.module:object"``, the object a method, or a class of one."""
FILES_VARIABLE = "ISAC_METHODS_FILES"
"""Variable that hands the files of methods on to the processes of a bench; paths joined as in PATH."""
_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class _Source:
    """Where a user's method comes from."""

    name: str
    where: str
    load: Callable[[], Any]


def available() -> tuple[str, ...]:
    """Names of all methods that an experiment may ask for, built in or users'."""
    return (*METHODS, *sorted(_sources(tuple(sys.path), os.environ.get(FILES_VARIABLE, ""))))


def complaint(name: str) -> str | None:
    """Why the method ``name`` cannot be had, as the end of a sentence that begins with its name; None if it can."""
    if name in METHODS:
        return None
    sources = _sources(tuple(sys.path), os.environ.get(FILES_VARIABLE, ""))
    if name not in sources:
        return f"which is not a method: {_alternatives(name)}"
    try:
        method(name)
    except UserError as error:
        return f"which cannot be used: {error}"
    return None


def method(name: str) -> Method:
    """Method called ``name``; a user's is guarded, so that what it does wrong ends in an invalid row.

    Raises
    ------
    UserError
        If there is none of that name, or it cannot be loaded or is not a method.
    """
    if name in METHODS:
        from dsp.synchronization.registry import method as built_in

        return built_in(name)
    return _loaded(name, tuple(sys.path), os.environ.get(FILES_VARIABLE, ""))


def users() -> tuple[dict[str, Method], list[str]]:
    """Every user's method that can be used, by name, and a line on each one that cannot."""
    sources = _sources(tuple(sys.path), os.environ.get(FILES_VARIABLE, ""))
    usable: dict[str, Method] = {}
    broken = clashes()
    for name in sorted(sources):
        try:
            usable[name] = method(name)
        except UserError as error:
            broken.append(f"method {name!r} is left out: {error}")
    return usable, broken


def usable_with(inputs: frozenset[Need]) -> tuple[dict[str, Method], list[str]]:
    """Users' methods that need no more than ``inputs``, and a line on each one that cannot be used at all."""
    found, broken = users()
    return {name: one for name, one in found.items() if one.needs <= inputs}, broken


def clashes() -> list[str]:
    """A line on each installed method that bears the name of one built in, which stands."""
    return [
        f"method {point.name!r} of {_origin(point)} is not used: the name is built in"
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.name in METHODS
    ]


def use_files(paths: Sequence[Path]) -> None:
    """Take the methods in the files ``paths`` too, in this process and in those that it starts.

    Raises
    ------
    UserError
        If a file cannot be read or run, holds no method, or one whose name is taken.
    """
    if not paths:
        return
    joined = os.pathsep.join(str(path.resolve()) for path in paths)
    known = _sources(tuple(sys.path), "")
    for source in _in_files(joined).values():
        if source.name in known:
            raise UserError(f"{source.where}: method {source.name!r} is that of {known[source.name].where} already")
        _accepted(source)
    os.environ[FILES_VARIABLE] = joined


def _alternatives(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, available(), n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(available())}"


@cache
def _sources(path: tuple[str, ...], files: str) -> dict[str, _Source]:
    """Users' methods by name, none of them loaded but those in files; ``path`` is what entry points were found on."""
    found: dict[str, _Source] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.name in METHODS:
            continue
        source = _Source(point.name, _origin(point), point.load)
        if point.name in found and found[point.name].where != source.where:
            both = f"{found[point.name].where} and {source.where}"
            source = _Source(point.name, both, _refusal(f"the name is claimed by {both}"))
        found[point.name] = source
    return found | _in_files(files)


def _refusal(text: str) -> Callable[[], Any]:
    def refuse() -> Any:
        raise UserError(text)

    return refuse


def _origin(point: importlib.metadata.EntryPoint) -> str:
    return f"{point.value} ({point.dist.name} {point.dist.version})" if point.dist is not None else point.value


@cache
def _in_files(joined: str) -> dict[str, _Source]:
    """Methods in the files whose paths are ``joined``; the files are run."""
    found: dict[str, _Source] = {}
    for text in joined.split(os.pathsep) if joined else ():
        path = Path(text)
        for one in _methods_of(path):
            name = getattr(one, "name", None)
            if not isinstance(name, str):
                raise UserError(f"{path}: {type(one).__name__} in METHODS is no method: it has no name")
            if name in METHODS:
                raise UserError(f"{path}: method {name!r} bears the name of one built in: choose another")
            if name in found:
                raise UserError(f"{path}: method {name!r} is in {found[name].where} already")
            found[name] = _Source(name, str(path), lambda one=one: one)  # type: ignore[misc]
    return found


def _methods_of(path: Path) -> Sequence[Any]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of methods")
    module_name = f"isac_methods_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise UserError(f"{path}: cannot be loaded: {_line(error)}") from error
    listed = getattr(module, "METHODS", None)
    if not isinstance(listed, (list, tuple)) or not listed:
        raise UserError(f"{path}: defines no METHODS: list its methods there, as in METHODS = [MyMethod()]")
    return listed


@cache
def _loaded(name: str, path: tuple[str, ...], files: str) -> Method:
    sources = _sources(path, files)
    if name not in sources:
        raise UserError(f"no synchronization method is called {name!r}: {_alternatives(name)}")
    return _accepted(sources[name])


def _accepted(source: _Source) -> Method:
    """The method behind ``source``, guarded.

    Raises
    ------
    UserError
        If it cannot be loaded, or lacks what the contract asks for.
    """
    from dsp.synchronization.base import Need
    from testbed.guarded_method import GuardedMethod

    try:
        found = source.load()
        found = found() if isinstance(found, type) else found
        name, needs, estimate = (getattr(found, key, None) for key in ("name", "needs", "estimate"))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{source.where}: cannot be loaded: {_line(error)}") from error
    if name != source.name:
        raise UserError(f"{source.where}: the method calls itself {name!r}, but its entry point {source.name!r}")
    if not _NAME.match(source.name):
        raise UserError(f"{source.where}: a method's name is of letters, digits, - and _, at most 40")
    if not isinstance(needs, (frozenset, set)) or not all(isinstance(need, Need) for need in needs):
        raise UserError(f"{source.where}: method {name!r} has no needs: a frozenset of dsp.synchronization.base.Need")
    if not callable(estimate):
        raise UserError(f"{source.where}: method {name!r} has no estimate(observation)")
    return GuardedMethod(found, source.name, frozenset(needs))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
