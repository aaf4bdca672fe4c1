"""Plain values to dataclasses and back: what a configuration file's sections are read by.

A key nobody knows is refused with the list of those that are allowed: a misspelt learning rate would cost a
night.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robust_perception.training.errors import ConfigError

Section = TypeVar("Section")


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would keep the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        found = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                expect(key.value not in found, key.value, "each key once", f"it again in line {line}")
                found.add(key.value)
        return node


def read_yaml(path: Path) -> Any:
    """What a YAML file holds: plain values.

    Raises:
        ConfigError: no such file, no YAML, nested too deeply, or a key is in one place twice; names the file.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: expected a YAML file, got {error}"
        raise ConfigError(msg) from None
    except RecursionError:
        msg = f"{path}: expected a YAML file of a few levels, got one nested too deeply to be read"
        raise ConfigError(msg) from None
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from None


def expect(condition: bool, what: str, expected: str, got: object) -> None:
    """Refuse a value.

    Raises:
        ConfigError: what it is, what was expected and what came.
    """
    if not condition:
        msg = f"{what}: expected {expected}, got {got!r}"
        raise ConfigError(msg)


def different(section: Any, default: Any) -> dict[str, Any]:
    """What of a dataclass differs from another of its kind, sections in full depth."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        mine, other = getattr(section, item.name), getattr(default, item.name)
        if mine == other:
            continue
        nested = dataclasses.is_dataclass(mine) and not isinstance(mine, type)
        found[item.name] = different(mine, other) if nested else mine
    return found


def read_section(kind: type[Section], content: object, where: str) -> Section:
    """A dataclass out of plain values, its nested dataclasses included.

    Args:
        kind: the dataclass.
        content: what YAML gave.
        where: dotted place of the section, for messages.

    Raises:
        ConfigError: a key is unknown, or a value has another type or is not allowed.
    """
    if not isinstance(content, Mapping):
        msg = f"{where or 'configuration'}: expected keys and values, got {content!r}"
        raise ConfigError(msg)
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in content.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            msg = f"unknown key {place!r}: expected one of {sorted(hints)}{hint}"
            raise ConfigError(msg)
        values[str(key)] = _read(hints[key], value, place)
    return kind(**values)


def _read(hint: Any, value: object, place: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read_section(hint, value, place)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        fits = isinstance(value, list) and (inner[-1] is Ellipsis or len(value) == len(inner))
        expect(fits, place, _name(hint), value)
        kinds = [inner[0]] * len(typing.cast("list[Any]", value)) if inner[-1] is Ellipsis else inner
        return tuple(_read(k, v, place) for k, v in zip(kinds, typing.cast("list[Any]", value), strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, float):
        expect(math.isfinite(value), place, "a finite number", value)
    exact = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    expect(exact, place, _name(hint), value)
    return value


def _name(hint: Any) -> str:
    return str(hint) if isinstance(hint, types.GenericAlias) else hint.__name__


def plain(value: Any) -> Any:
    """Mappings, lists and scalars alone, as YAML writes them."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value
