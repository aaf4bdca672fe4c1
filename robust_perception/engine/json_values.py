"""JSON's values to the dataclasses that describe a model: each of the type its field is annotated with.

Nothing is converted but whole numbers to floats: a constructor would make 240 of 240.9 and names of the
letters of a text, and a count of 1.5 would come to light at the first inference.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import reprlib
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from robust_perception.engine.errors import ManifestError

Described = TypeVar("Described")

DEEPEST = 16
"""Levels of a value that may be anything: whatever copies or writes it calls itself once a level."""

_NUMBER = re.compile("[1-9][0-9]{0,8}")
_NAMES = {str: "a text of Unicode characters", int: "a whole number", float: "a finite number"}


def read(kind: type[Described], content: object, place: str = "") -> Described:
    """A dataclass of what JSON gave, with those inside it.

    Args:
        kind: the dataclass.
        content: what JSON gave.
        place: where in the file, for messages: "graphs: fusion".

    Raises:
        ManifestError: a field is unknown or missing, or a value is of another type or is not allowed.
    """
    given, hints = _mapping(content, place), typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    nothing = dataclasses.MISSING
    required = [f.name for f in fields if f.default is nothing and f.default_factory is nothing]
    unknown = [name for name in given if name not in hints]
    missing = [name for name in required if name not in given]
    if unknown:
        raise _wrong(place, f"fields out of {sorted(hints)}", unknown)
    if missing:
        raise _wrong(place, f"also the fields {missing}", sorted(given))
    values = {name: _read(hints[name], value, _inside(place, name)) for name, value in given.items()}
    try:
        return kind(**values)
    except ManifestError as error:
        raise ManifestError(_inside(place, str(error))) from None


def _read(hint: Any, value: object, place: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # with None, the only one there is
        return None if value is None else _read(inner[0], value, place)
    if origin is Mapping:
        items = _mapping(value, place).items()
        return {_key(inner[0], k, place): _read(inner[1], v, _inside(place, k)) for k, v in items}
    if origin is tuple:
        return _tuple(inner, value, place)
    if hint is Any:
        return _anything(value, place, DEEPEST)
    if dataclasses.is_dataclass(hint):
        return read(typing.cast("type[Any]", hint), value, place)
    if issubclass(hint, enum.Enum):
        names = [member.value for member in hint]
        if value not in names:
            raise _wrong(place, f"one of {names}", value)
        return hint(value)
    return _scalar(hint, value, place)


def _scalar(kind: type, value: object, place: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    good = type(value) is kind  # bool is an int to isinstance
    if isinstance(value, float):
        good = good and math.isfinite(value)
    if isinstance(value, str):
        good = good and value.encode(errors="ignore").decode() == value  # else half of a surrogate pair
    if not good:
        raise _wrong(place, _NAMES[kind], value)
    return value


def _tuple(inner: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(place, "a list", value)
    kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
    if len(value) != len(kinds):
        raise _wrong(place, f"{len(kinds)} values", value)
    return tuple(_read(kind, item, place) for kind, item in zip(kinds, value, strict=True))


def _mapping(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong(place, "names and values", value)
    return {_scalar(str, key, place): item for key, item in value.items()}


def _key(kind: type, key: str, place: str) -> Any:
    if kind is not int:
        return key
    if not _NUMBER.fullmatch(key):  # nor "015", which would be one with "15"
        raise _wrong(place, "a pattern's bits for a name", key)
    return int(key)


def _anything(value: object, place: str, levels: int) -> object:
    if isinstance(value, (dict, list)) and not levels:
        raise _wrong(place, f"at most {DEEPEST} levels", value)
    if isinstance(value, dict):
        return {k: _anything(v, _inside(place, k), levels - 1) for k, v in _mapping(value, place).items()}
    if isinstance(value, list):
        return [_anything(item, place, levels - 1) for item in value]
    return _scalar(type(value), value, place)


def _inside(place: str, name: str) -> str:
    return f"{place}: {name}" if place else name


def _wrong(place: str, expected: str, got: object) -> ManifestError:
    # What came is told by its beginning: it may be a megabyte, and thousands of levels deep.
    return ManifestError(_inside(place, f"expected {expected}, got {reprlib.repr(got)}"))
