"""Stamps in serialized messages: read, and moved with nothing else changed.

A stamp that is zero is none and stays so, and so does one that would move beyond what a stamp can hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from robust_perception.bags import types
from robust_perception.bags.errors import BagError

TRANSFORMS = "tf2_msgs/msg/TFMessage"
"""The type of /tf and /tf_static, whose stamps are one level deeper than those of other types."""

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


def restamped_transforms(data: bytes, move: Move) -> bytes:
    """A message of the type `TRANSFORMS` with another stamp on each; unchanged when it cannot be read."""
    try:
        message = types.deserialize(data, TRANSFORMS)
    except BagError:
        return data
    for transform in message.transforms:
        stamp = transform.header.stamp
        stamp.sec, stamp.nanosec = _moved(stamp.sec, stamp.nanosec, move)
    return types.serialize(message, TRANSFORMS)


def _layout(data: bytes) -> struct.Struct:
    return struct.Struct("<iI" if data[1] & 1 else ">iI")


def _moved(seconds: int, nanoseconds: int, move: Move) -> tuple[int, int]:
    before = seconds * SECOND + nanoseconds
    after = divmod(move(before), SECOND) if before else (0, 0)
    return after if -(1 << 31) <= after[0] < 1 << 31 else (seconds, nanoseconds)
