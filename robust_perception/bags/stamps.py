"""Stamps in serialized messages: read, and moved with nothing else changed.

A stamp that is zero is none and stays so, and so does one that would move beyond what a stamp can hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from rosbags.interfaces import Nodetype

from robust_perception.bags import types
from robust_perception.bags.errors import BagError

HEADER = "std_msgs/msg/Header"

SECOND = 1_000_000_000

Move = Callable[[int], int]
"""Old stamp in ns to new stamp in ns."""


def stamp_in(data: bytes) -> int:
    """Stamp in ns of a message whose first field is a header; 0 when the bytes are too few.

    CDR: two bytes of encapsulation, the last bit of which says little-endian, two of options, then seconds
    (int32) and nanoseconds (uint32).
    """
    if len(data) < 12:
        return 0
    seconds, nanoseconds = _layout(data).unpack_from(data, 4)
    return int(seconds) * SECOND + int(nanoseconds)


def restamped(data: bytes, move: Move) -> bytes:
    """A message whose first field is a header, with another stamp; unchanged when the bytes are too few."""
    if len(data) < 12:
        return data
    layout = _layout(data)
    seconds, nanoseconds = layout.unpack_from(data, 4)
    return data[:4] + layout.pack(*_moved(seconds, nanoseconds, move)) + data[12:]


def has_headers_within(msgtype: str) -> bool:
    """Whether messages of a type have headers beside the one they begin with, as detections do."""
    return bool(set(_leading(msgtype)) - {("header", HEADER)})


def restamped_throughout(data: bytes, msgtype: str, move: Move) -> bytes:
    """A message with another stamp in each of its headers; unchanged when it cannot be read.

    Args:
        data: CDR bytes.
        msgtype: a type of which `has_headers_within` is true.
        move: old stamp to new.
    """
    try:
        message = types.deserialize(data, msgtype)
    except BagError:
        return data
    _move_headers(message, msgtype, move)
    return types.serialize(message, msgtype)


def _layout(data: bytes) -> struct.Struct:
    return struct.Struct("<iI" if data[1] & 1 else ">iI")


@cache
def _leading(msgtype: str) -> tuple[tuple[str, str], ...]:
    """The fields of a type that are headers or have some in them, and the type of each or of its elements."""
    found = []
    fields: Any = types.typestore().fielddefs.get(msgtype, ((), ()))[1]
    for name, (kind, inner) in fields:
        if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            kind, inner = inner[0]
        if kind == Nodetype.NAME and (inner == HEADER or _leading(inner)):
            found.append((name, inner))
    return tuple(found)


def _move_headers(message: Any, msgtype: str, move: Move) -> None:
    if msgtype == HEADER:
        message.stamp.sec, message.stamp.nanosec = _moved(message.stamp.sec, message.stamp.nanosec, move)
    for name, inner in _leading(msgtype):
        value = getattr(message, name)
        for item in value if isinstance(value, list) else (value,):
            _move_headers(item, inner, move)


def _moved(seconds: int, nanoseconds: int, move: Move) -> tuple[int, int]:
    before = seconds * SECOND + nanoseconds
    after = divmod(move(before), SECOND) if before else (0, 0)
    return after if -(1 << 31) <= after[0] < 1 << 31 else (seconds, nanoseconds)
