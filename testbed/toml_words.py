"""The sentence on a single wrong key of a TOML file: what it is, what it got, what it wants.

msgspec finds what is wrong; its types and bounds say what would be right; this module puts both into the words of the
person at the bench.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from math import isfinite
from typing import Any

import msgspec
from msgspec import inspect

from testbed.scenario_domains import NAME_WORDS

__all__ = ["alternatives", "number", "wanted", "wrong_value"]

_LISTS = (inspect.VarTupleType, inspect.ListType)
_UNITS = {
    "hz": "hertz",
    "s": "seconds",
    "m": "metres",
    "deg": "degrees",
    "db": "decibels",
    "dbm": "dBm",
    "ppm": "parts per million",
    "mps": "metres per second",
    "m2": "square metres",
}


def wrong_value(raw: dict[str, Any], shape: type) -> str | None:
    """Sentence on the first key of ``raw`` that is unknown, missing, or outside its domain; None if there is none.

    ``shape`` is a `msgspec.Struct` of the whole file, whose tables are structs in turn.
    """
    for keys, value in _leaves(raw, ()):
        if isinstance(value, float) and not isfinite(value):
            return f"{_shown(raw, keys)} is {value}, but must be a finite number"
    try:
        msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        return _translated(str(error), raw, inspect.type_info(shape))
    return None


def _leaves(value: Any, keys: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*keys, index))
    else:
        yield keys, value


def _translated(text: str, raw: dict[str, Any], root: inspect.Type) -> str:
    """What msgspec found, in the words of the person at the bench."""
    text, _, path = text.partition(" - at `$")
    keys = tuple(int(index) if index else name for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", path))
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown:
        known = [field.name for field in _table(root, keys).fields]
        close = get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        return f"{_shown(raw, (*keys, unknown[1]))} is not a key: {hint}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", text)
    if missing:
        keys = (*keys, missing[1])
        return f"{_shown(raw, keys)} is missing: give {wanted(_type_at(root, keys), keys)}"
    return f"{_shown(raw, keys)} is {_literal(_value_at(raw, keys))}, but must be {wanted(_type_at(root, keys), keys)}"


def _shown(raw: dict[str, Any], keys: tuple[str | int, ...]) -> str:
    """Dotted key; entries of an array of tables are told apart by their name, or their number from 1."""
    words: list[str] = []
    owner = ""
    value: Any = raw
    for key in keys:
        if isinstance(key, str):
            words.append(key)
            value = value.get(key) if isinstance(value, dict) else None
            continue
        value = value[key]
        if isinstance(value, dict):
            name = value.get("name")
            owner = f" of {name!r}" if isinstance(name, str) and name else f" of {words[-1]} {key + 1}"
        else:
            words[-1] += f"[{key}]"
    return ".".join(words) + owner


def _value_at(raw: Any, keys: tuple[str | int, ...]) -> Any:
    for key in keys:
        raw = raw[key]
    return raw


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return f"{len(value)} tables" if len(value) > 1 else "1 table"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def alternatives(kind: inspect.Type) -> list[inspect.Type]:
    """Types that a key may have, absence not among them."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [one for one in kinds if not isinstance(one, inspect.NoneType)]


def _type_at(root: inspect.Type, keys: tuple[str | int, ...]) -> inspect.Type:
    """Declared type of the field at ``keys``."""
    kind = root
    for key in keys:
        kinds = alternatives(kind)
        if isinstance(key, int):
            kind = next(one.item_type for one in kinds if isinstance(one, _LISTS))
        else:
            table = next(one for one in kinds if isinstance(one, inspect.StructType))
            kind = next(field.type for field in table.fields if field.name == key)
    return kind


def _table(root: inspect.Type, keys: tuple[str | int, ...]) -> inspect.StructType:
    return next(kind for kind in alternatives(_type_at(root, keys)) if isinstance(kind, inspect.StructType))


def wanted(kind: inspect.Type, keys: tuple[str | int, ...]) -> str:
    """What the key at ``keys``, of the declared type ``kind``, wants, in words."""
    return " or ".join(_wanted_one(one, keys) for one in alternatives(kind))


def _wanted_one(kind: inspect.Type, keys: tuple[str | int, ...]) -> str:
    name = next(key for key in reversed(keys) if isinstance(key, str))
    what, _, per_second = name.partition("_per_s")
    unit = _UNITS.get(what.rsplit("_", 1)[-1]) if "_" in what else None
    if unit and name != what and not per_second:
        unit += " per second"
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_range(kind)}"
        case inspect.FloatType():
            return f"a number{f' of {unit}' if unit else ''}{_range(kind)}"
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in kind.values)
        case inspect.StrType(pattern=None):
            return "a text in quotes"
        case inspect.StrType():
            return NAME_WORDS
        case inspect.VarTupleType() | inspect.ListType():
            return _wanted_list(kind, keys, unit)
        case _:
            return f"a table [{'.'.join(key for key in keys if isinstance(key, str))}]"


def _wanted_list(kind: inspect.VarTupleType | inspect.ListType, keys: tuple[str | int, ...], unit: str | None) -> str:
    least = {None: "", 0: "", 1: "one or more ", 2: "two or more "}[kind.min_length]
    match kind.item_type:
        case inspect.StructType():
            return f"{least}[[{'.'.join(key for key in keys if isinstance(key, str))}]] tables"
        case inspect.StrType():
            return f"a list of {least}texts"
        case inspect.VarTupleType() | inspect.ListType():
            what = "pairs of numbers"
        case _ if kind.max_length is None:
            what = "numbers"
        case _:
            length = "2" if kind.max_length == 2 else "2 or 3"
            what = f"{length} numbers"
    return f"a list of {what}{f' in {unit}' if unit else ''}"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {number(kind.ge)} to {number(kind.le)}"
    bounds = [
        f"{words} {number(bound)}"
        for words, bound in (
            ("at least", kind.ge),
            ("greater than", kind.gt),
            ("at most", kind.le),
            ("below", kind.lt),
        )
        if bound is not None
    ]
    return " " + " and ".join(bounds) if bounds else ""


def number(value: float) -> str:
    """Shortest usual form: 2.4e9."""
    short = f"{value:g}" if float(f"{value:g}") == value else str(value)
    return re.sub(r"e\+?(-?)0*", r"e\1", short)
