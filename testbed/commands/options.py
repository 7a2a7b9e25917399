"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbed.errors import UserError

if TYPE_CHECKING:
    from testbed.scenario import Scenario

__all__ = [
    "fingerprint_option",
    "json_option",
    "methods_file_option",
    "refuse_file",
    "refuse_folder",
    "refuse_place",
    "with_fingerprint",
]


def _take(context: click.Context, parameter: click.Parameter, files: tuple[Path, ...]) -> None:
    """Methods in the files are known before the experiment is read."""
    if files:
        from testbed.methods import FILES_VARIABLE, use_files

        before = os.environ.pop(FILES_VARIABLE, None)
        use_files(files)
        context.call_on_close(lambda: _restore(FILES_VARIABLE, before))


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


methods_file_option: Callable[[Any], Any] = click.option(
    "--methods-file",
    multiple=True,
    expose_value=False,
    is_eager=True,
    callback=_take,
    type=click.Path(path_type=Path),
    help="Python file with synchronization methods of your own, listed in its METHODS; may be repeated.",
)
"""Option that makes a file's methods known while the command runs."""

fingerprint_option: Callable[[Any], Any] = click.option(
    "--fingerprint",
    "fingerprint_file",
    type=click.Path(path_type=Path),
    help="What the method fingerprint compares with: the fingerprint.npz of an earlier run.",
)


def json_option(help: str = "Write the printed figures here too.") -> Callable[[Any], Any]:
    """Option --json of a command, ``json_file``; one that could not be written is refused before the command begins."""

    def decorate(command: Callable[..., Any]) -> Any:
        @wraps(command)
        def checked(*arguments: Any, json_file: Path | None, **options: Any) -> Any:
            if json_file is not None:
                refuse_file("--json", json_file, made=options.get("out"))
            return command(*arguments, json_file=json_file, **options)

        return click.option("--json", "json_file", type=click.Path(path_type=Path), help=help)(checked)

    return decorate


def refuse_file(option: str, path: Path, *, made: Path | None = None) -> None:
    """Raise `UserError` where the file ``path`` of ``option`` could not be written; ``made`` is a folder to come."""
    if path.is_dir():
        raise UserError(f"{option} is {path}, which is a folder: name a file")
    folder = path.absolute().parent
    if made is not None and made.absolute() == folder and not made.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{option} is {path}, but there is no folder {path.parent}: make it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UserError(f"{option} is {path}, which may not be written: choose another place")


def refuse_folder(option: str, folder: Path) -> Path:
    """The folder nearest to ``folder`` of ``option`` that exists; raises `UserError` where it cannot be made anew."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{option} is {folder}, which exists already: choose another folder, or remove it")
    return refuse_place(option, folder)


def refuse_place(option: str, folder: Path) -> Path:
    """The folder nearest to ``folder`` of ``option``, itself at best, that exists; raises `UserError` where nothing can
    be written into it."""
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise UserError(f"{option} is {folder}, but {parent} is no folder: choose another")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{option} is {folder}, but {parent} may not be written: choose another")
    return parent


def with_fingerprint(scenario: Scenario, path: Path | None) -> Scenario:
    """The experiment with the file that the command line names, if it names one, in place of its own."""
    import msgspec

    from testbed.scenario import Fingerprint

    if path is None:
        return scenario
    return msgspec.structs.replace(scenario, fingerprint=Fingerprint(file=str(path.absolute())))
