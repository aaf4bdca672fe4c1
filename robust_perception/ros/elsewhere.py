"""Where a sensor may be heard, when not on the topic that is listened to."""

from __future__ import annotations

from collections.abc import Collection
from difflib import SequenceMatcher
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from robust_perception.ros.qos import type_name

MOST = 4
"""Topics that are named; on a large robot there are dozens of pictures."""

OTHER_TRANSPORT = {Image: (CompressedImage, "compressed"), CompressedImage: (Image, "raw")}
"""Type of the pictures -> the other type that is taken, and the value of `<sensor>.transport` for it."""


def elsewhere(node: Any, sensor: str, subscription: Any, taken: Collection[str]) -> str:
    """In words, the topics of a subscription's type, or of the other transport's, that somebody publishes.

    Args:
        node: the node that subscribes; what it publishes itself is left out.
        sensor: whose transport may be set.
        subscription: what hears nothing.
        taken: topics of other sensors, which are left out.
    """
    name, kind = subscription.topic_name, subscription.msg_type
    there = _published(node, kind, name, taken)
    said = f"topics of that type: {', '.join(there)}" if there else "no topic of that type is published"
    if kind not in OTHER_TRANSPORT:
        return said
    other, transport = OTHER_TRANSPORT[kind]
    beside = _published(node, other, name, taken)
    return f"{said}; with {sensor}.transport {transport}: {', '.join(beside)}" if beside else said


def _published(node: Any, kind: Any, near: str, taken: Collection[str]) -> list[str]:
    """The names most like `near` come first."""
    wanted, own = type_name(kind), (node.get_name(), node.get_namespace())
    names = [
        topic
        for topic, types in node.get_topic_names_and_types()
        if wanted in types
        and topic not in taken
        and any(
            info.topic_type == wanted and (info.node_name, info.node_namespace) != own
            for info in node.get_publishers_info_by_topic(topic)
        )
    ]
    return sorted(names, key=lambda topic: -SequenceMatcher(None, topic, near).ratio())[:MOST]
