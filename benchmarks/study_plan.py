"""The study's configurations: what is common to all runs, and what each row changes.

A file has these keys:

    name: mm5-wide              # of the data set and setting, in every record
    extends: mm5.yaml           # optional: a file beside this one, whose sections this one changes
    common: {...}               # a training configuration's sections
    rows: {base: {...}, ...}    # what a row changes of them

A row's `teacher` or `start` names another row, whose weights of the same seed it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_perception.training.errors import ConfigError
from robust_perception.training.sections import read_yaml

KEYS = {"name", "common", "rows"}


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, section by section."""
    merged = dict(base)
    for key, value in change.items():
        inner = merged.get(key)
        merged[key] = (
            merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def read_plan(path: Path) -> dict[str, Any]:
    """Read a study's configuration.

    Raises:
        ConfigError: no YAML or not of its form, a key twice, or it extends what is not there or another.
    """
    content = _read(path)
    base = content.pop("extends", None)
    if base is not None:
        origin = path.parent / str(base)
        if not origin.is_file():
            msg = f"{path}: extends: expected a file beside it, got {base!r}"
            raise ConfigError(msg)
        content = merge(_read(origin), content)
    if set(content) != KEYS:
        msg = f"{path}: expected the keys {sorted(KEYS)}, got {sorted(content)}"
        raise ConfigError(msg)
    return content


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        msg = f"{path}: expected the keys {sorted(KEYS)}, got {content!r}"
        raise ConfigError(msg)
    return content
