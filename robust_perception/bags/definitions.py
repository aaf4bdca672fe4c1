"""Definitions of message types, as a bag carries them: text in ROS's .msg language, and the hash of the type.

A type that the typestore knows is taken from there, unless whoever publishes it says another hash: a robot's
own types, and those of another distribution, are read from the `.msg` files below the prefixes in
AMENT_PREFIX_PATH, as `ros2 bag` does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robust_perception.bags import types
from robust_perception.bags.errors import MessageTypeError


class Definition(NamedTuple):
    """What a bag says of a type.

    Attributes:
        text: the definition and those of all types in it; empty when nobody has it.
        type_hash: RIHS01; empty when nobody knows it.
    """

    text: str
    type_hash: str


def known(msgtype: str) -> Definition:
    """The definition of a type of the typestore; MessageTypeError when it is not one."""
    types.message_class(msgtype)
    return _from_store(types.typestore(), msgtype)


def find(msgtype: str, type_hash: str = "") -> Definition:
    """The definition of a type, wherever it is; an empty text when it is nowhere.

    Args:
        msgtype: `package/msg/Name`.
        type_hash: what the publisher says of it (RIHS01); empty = it says nothing.
    """
    try:
        definition = known(msgtype)
    except MessageTypeError:
        pass
    else:
        if type_hash in ("", definition.type_hash):
            return definition
    installed = _installed(msgtype)
    return (
        Definition(installed.text, type_hash or installed.type_hash)
        if installed
        else Definition("", type_hash)
    )


def _from_store(store: Typestore, msgtype: str) -> Definition:
    text, _ = store.generate_msgdef(msgtype, ros_version=2)
    return Definition(text, store.hash_rihs01(msgtype))


def _installed(msgtype: str) -> Definition | None:
    """From `.msg` files; None when one is missing, for the type or for a type in it."""
    store = get_typestore(Stores.EMPTY)
    wanted = [msgtype]
    while wanted:
        name = wanted.pop()
        if name in store.types:
            continue
        file = _file(name)
        if file is None:
            return None
        found = get_types_from_msg(file.read_text(encoding="utf-8"), name)
        store.register(found)
        wanted += _types_in(found)
    return _from_store(store, msgtype)


def _file(msgtype: str) -> Path | None:
    package, _, name = msgtype.partition("/msg/")
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        file = Path(prefix) / "share" / package / "msg" / f"{name}.msg"
        if prefix and file.is_file():
            return file
    return None


def _types_in(parsed: Any) -> Iterator[str]:
    """Names of message types anywhere in a parsed definition."""
    if isinstance(parsed, str):
        if parsed.count("/") == 2 and "/msg/" in parsed:
            yield parsed
    elif isinstance(parsed, dict):
        for value in parsed.values():
            yield from _types_in(value)
    elif isinstance(parsed, (list, tuple)):
        for value in parsed:
            yield from _types_in(value)
