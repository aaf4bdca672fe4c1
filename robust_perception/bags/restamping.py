"""Serialized messages with other stamps; nothing else in them changes.

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


def restamped(data: bytes, move: Move) -> bytes:
    """A message whose first field is a header, with another stamp; 8 bytes change.

    Args:
        data: CDR: two bytes of encapsulation, the last bit of which says little-endian, two of options, then
            seconds (int32) and nanoseconds (uint32).
        move: the change.

    Returns:
        The message; unchanged when the bytes are too few for a header.
    """
    if len(data) < 12:
        return data
    stamp = struct.Struct("<iI" if data[1] & 1 else ">iI")
    moved = _moved(*stamp.unpack_from(data, 4), move)
    return data[:4] + stamp.pack(*moved) + data[12:]


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


def _moved(seconds: int, nanoseconds: int, move: Move) -> tuple[int, int]:
    before = seconds * SECOND + nanoseconds
    after = divmod(move(before), SECOND) if before else (0, 0)
    return after if -(1 << 31) <= after[0] < 1 << 31 else (seconds, nanoseconds)
