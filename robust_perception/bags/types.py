"""Message types as bags know them: names to classes and bytes, without rclpy.

The standard types are those of ROS 2 Kilted; the types used here have not changed since Humble, and a bag of
another distribution is read by the definitions that it carries itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robust_perception.bags.errors import BagError, MessageTypeError
from robust_perception.bags.interfaces import DEFINITIONS

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
AUDIO = "audio_common_msgs/msg/AudioDataStamped"
AUDIO_INFO = "audio_common_msgs/msg/AudioInfo"


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The types of ROS 2, vision_msgs and audio_common_msgs."""
    store = get_typestore(Stores.ROS2_KILTED)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def message_class(msgtype: str) -> Any:
    """The class of a type's messages, a dataclass; MessageTypeError when nobody defines the type."""
    try:
        return typestore().types[msgtype]
    except KeyError:
        msg = f"type {msgtype!r}: expected one of ROS 2, vision_msgs or audio_common_msgs, got an unknown one"
        raise MessageTypeError(msg) from None


def serialize(message: Any, msgtype: str) -> bytes:
    """CDR bytes of a message, as they go over the wire; MessageTypeError for an unknown type."""
    message_class(msgtype)
    return bytes(typestore().serialize_cdr(message, msgtype))


def deserialize(data: bytes, msgtype: str) -> Any:
    """The message in CDR bytes.

    Raises:
        MessageTypeError: the type is unknown.
        BagError: the bytes are not a message of the type.
    """
    message_class(msgtype)
    try:
        return typestore().deserialize_cdr(data, msgtype)
    except Exception as error:  # its decoder is generated code: short bytes raise whatever they run into
        msg = f"expected the CDR bytes of a {msgtype}, got {len(data)} bytes that are not: {error!r}"
        raise BagError(msg) from None
