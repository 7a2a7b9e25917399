"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from testbed.scenario import Scenario

__all__ = ["fingerprint_option", "methods_file_option", "with_fingerprint"]


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


def with_fingerprint(scenario: Scenario, path: Path | None) -> Scenario:
    """The experiment with the file that the command line names, if it names one, in place of its own."""
    import msgspec

    from testbed.scenario import Fingerprint

    if path is None:
        return scenario
    return msgspec.structs.replace(scenario, fingerprint=Fingerprint(file=str(path.absolute())))
