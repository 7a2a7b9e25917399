"""Every key of the experiment file in words: what it wants, its default, and the sentence that stands beside it."""

from __future__ import annotations

import ast
import inspect as python
from collections.abc import Iterator
from dataclasses import dataclass, replace
from textwrap import dedent
from typing import Any

from msgspec import inspect

from testbed.errors import UserError
from testbed.scenario import Scenario
from testbed.toml_words import alternatives, number, wanted

__all__ = ["Key", "KeyTable", "chosen", "key_tables"]

_LISTS = (inspect.VarTupleType, inspect.ListType)


@dataclass(frozen=True)
class Key:
    """One key of a table."""

    name: str
    wants: str
    """What it takes, in words, with the bounds."""
    default: str
    """As one would write it in the file; empty where the key must be given."""
    sentence: str
    """Meaning, unit, and what a special value stands for."""


@dataclass(frozen=True)
class KeyTable:
    """One table of the file."""

    name: str
    """Dotted."""
    head: str
    """As it stands in the file: [waveform], [[node]]."""
    sentence: str
    keys: tuple[Key, ...]


def key_tables() -> list[KeyTable]:
    """Tables of the experiment file, in its order, a table within another after it."""
    return list(_tables(inspect.type_info(Scenario), (), many=False))


def chosen(names: tuple[str, ...]) -> list[KeyTable]:
    """Tables called ``names``, whole, or with the one key that a name ends in; all if none is named.

    Raises
    ------
    UserError
        If there is no such table or key.
    """
    tables = key_tables()
    if not names:
        return tables
    found: list[KeyTable] = []
    for name in names:
        meant = [table for table in tables if table.name == name]
        if not meant:
            owner, _, last = name.rpartition(".")
            meant = [
                replace(table, keys=(key,))
                for table in tables
                for key in table.keys
                if (table.name, key.name) == (owner, last)
            ]
        found += meant
        if not meant:
            raise UserError(f"{name!r} is no table nor key: tables are {', '.join(table.name for table in tables)}")
    return found


def _tables(kind: inspect.Type, path: tuple[str, ...], *, many: bool) -> Iterator[KeyTable]:
    struct = next((one for one in alternatives(kind) if isinstance(one, inspect.StructType)), None)
    if struct is None:
        return
    sentences = _sentences(struct.cls)
    inner = [(field, *_inner(field.type)) for field in struct.fields]
    if path:
        keys = tuple(
            Key(field.name, wanted(field.type, (*path, field.name)), _default(field), sentences.get(field.name, ""))
            for field, table, _ in inner
            if table is None or len(alternatives(field.type)) > 1
        )
        name = ".".join(path)
        yield KeyTable(name, f"[[{name}]]" if many else f"[{name}]", dedent(struct.cls.__doc__ or ""), keys)
    for field, table, repeated in inner:
        if table is not None:
            yield from _tables(table, (*path, field.name), many=repeated)


def _inner(kind: inspect.Type) -> tuple[inspect.StructType | None, bool]:
    """Table that a key's value is, if it may be one, and whether there are many."""
    for one in alternatives(kind):
        if isinstance(one, inspect.StructType):
            return one, False
        if isinstance(one, _LISTS) and isinstance(one.item_type, inspect.StructType):
            return one.item_type, True
    return None, False


def _sentences(table: type) -> dict[str, str]:
    """Sentence beside each field in the source, on one line."""
    (body,) = ast.parse(dedent(python.getsource(table))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(after.value.value.split())
        for field, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
    }


def _default(field: inspect.Field) -> str:
    if field.required:
        return ""
    return "absent" if field.default is None else _literal(field.default)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return number(value) if isinstance(value, float) else str(value)
