"""Quality of service of every topic, and words for why a publisher is not heard.

Inputs take what a sensor gives and hold one message: best effort, depth 1 (REP-2003); each can be overridden
by the standard parameters `qos_overrides.<topic>.subscription.reliability` and its siblings. Outputs are
reliable, so that both kinds of subscriber match. What describes classes is latched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.exceptions import InvalidParameterTypeException
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.utilities import get_rmw_implementation_identifier

from robust_perception.environment import PROFILE_VARIABLES, share_folder
from robust_perception.ros.errors import ParameterError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

SENSOR = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""Images: the newest is wanted, an older one is not."""

SOUND = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""Chunks of sound belong together: a late one still completes the last second."""

OUTPUT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""What the node says about the present."""


def latched(depth: int) -> QoSProfile:
    """What stays true: a late subscriber gets the last so many messages too."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


LATCHED = latched(1)
"""What stays true, in one message."""

OVERRIDES = "qos_overrides."
"""What the names of such parameters begin with."""

UNNAMED = "_NODE_NAME_UNKNOWN_"
"""What the middleware calls a node of which it has found a publisher, but not yet its name."""


def overridable() -> QoSOverridingOptions:
    """Options that let parameters override history, depth, reliability and durability of one endpoint."""
    kinds = (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
    return QoSOverridingOptions(kinds)


def subscribe(
    node: Any,
    kind: Any,
    topic: str,
    take: Callable[[Any], None],
    profile: QoSProfile,
    incompatible: Callable[[Any], None],
    lost: Callable[[Any], None],
) -> Any:
    """Subscribe with a profile that parameters may override, and be told what goes wrong below.

    Args:
        node: the node that subscribes.
        kind: type of the messages.
        topic: its name.
        take: takes every message.
        profile: what is asked for unless a parameter says otherwise.
        incompatible: told of a publisher that cannot reach the subscription.
        lost: told of messages that were lost on the way; never called where the middleware cannot say.

    Raises:
        ParameterError: an override that is not allowed.
    """
    make = partial(node.create_subscription, kind, topic, take, qos_overriding_options=overridable())
    events = SubscriptionEventCallbacks(incompatible_qos=incompatible, message_lost=lost)
    try:
        # rclpy writes the overrides of one topic into the profile it is given.
        try:
            return make(copy(profile), event_callbacks=events)
        except UnsupportedEventTypeError:
            return make(copy(profile))
    except (RuntimeError, TypeError, InvalidParameterTypeException) as error:  # TypeError: a number too large
        name = f"qos_overrides.{node.resolve_topic_name(topic)}.subscription.*"
        raise ParameterError(name, _overrides(), str(error)) from None


def idle_overrides(node: Any) -> list[str]:
    """Overrides of the quality of service that were given to a node and belong to none of its subscriptions.

    To be called when all of them are there. rclpy keeps what was given to itself, hence the fallback.
    """
    given = getattr(node, "_parameter_overrides", {})
    return [name for name in given if name.startswith(OVERRIDES) and not node.has_parameter(name)]


def subscribe_raw(
    node: Any,
    kind: Any,
    topic: str,
    take: Callable[[bytes, Any], None],
    profile: QoSProfile,
    lost: Callable[[Any], None],
) -> Any:
    """Subscribe to messages as they go over the wire: CDR bytes, never taken apart.

    Args:
        node: the node that subscribes.
        kind: type of the messages.
        topic: its name.
        take: takes the bytes of every message, and a mapping with `received_timestamp` and
            `source_timestamp` in ns.
        profile: what is asked for.
        lost: told of messages that were lost on the way; never called where the middleware cannot say.
    """

    def arrived(data: bytes, info: Any) -> None:  # rclpy counts the arguments of what it is given
        take(data, info)

    try:
        events = SubscriptionEventCallbacks(message_lost=lost)
        return node.create_subscription(kind, topic, arrived, profile, event_callbacks=events, raw=True)
    except UnsupportedEventTypeError:
        return node.create_subscription(kind, topic, arrived, profile, raw=True)


def publishers_that_do_not_match(node: Any, topic: str, kind: Any, wanted: QoSProfile) -> list[str]:
    """For every publisher whose quality of service cannot reach a subscription, a sentence naming both sides.

    Args:
        node: the node that subscribes.
        topic: resolved name of the topic.
        kind: type of the messages; publishers of another type are left out.
        wanted: profile of the subscription.
    """
    sentences = []
    for info in _publishers(node, topic, kind):
        verdict, why = qos_check_compatible(info.qos_profile, wanted)
        if verdict == QoSCompatibility.ERROR:
            sentences.append(
                f"{_name(info)} publishes {topic} {_words(info.qos_profile)}, this node asks for "
                f"{_words(wanted)} ({why.strip().rstrip(';')}); set "
                f"qos_overrides.{topic}.subscription.reliability or .durability"
            )
    return sentences


def publishers_that_match(node: Any, topic: str, kind: Any, wanted: QoSProfile) -> list[str]:
    """Names and profiles of the publishers whose messages should arrive."""
    return [
        f"{_name(info)} ({_words(info.qos_profile)})"
        for info in _publishers(node, topic, kind)
        if qos_check_compatible(info.qos_profile, wanted)[0] != QoSCompatibility.ERROR
    ]


def publishers_of_another_type(node: Any, topic: str, kind: Any) -> list[str]:
    """For every publisher of the topic whose messages are of another type, a sentence naming both types."""
    return [
        f"topic {topic} is published as {info.topic_type}, expected {type_name(kind)} (by {_name(info)})"
        for info in node.get_publishers_info_by_topic(topic)
        if info.topic_type != type_name(kind)
    ]


def type_name(kind: Any) -> str:
    """`sensor_msgs/msg/Image`, as the graph names the type of a class of messages."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def profile_warning(environ: Mapping[str, str]) -> str:
    """What is wrong with the Fast DDS profile this process was started with; empty when nothing is."""
    if "fastrtps" not in get_rmw_implementation_identifier():
        return ""
    new, old = PROFILE_VARIABLES
    said = {name: environ[name] for name in PROFILE_VARIABLES if environ.get(name)}
    wrong = [f"{name}={path}" for name, path in said.items() if not Path(path).is_file()]
    if wrong:
        return f"expected {new} to name a Fast DDS profile, got {', '.join(wrong)}, which is no file"
    if said:
        return ""
    return (
        f"{new} ({old} before ROS 2 Kilted) was not set: this process now uses the profile of this package, "
        "but cameras started without it lose best-effort images larger than 512 KiB (640x480 rgb8 is) on the "
        f"same machine; start them with {new}={shipped_profile()} too"
    )


def shipped_profile() -> str:
    """Path of config/fastdds.xml of this package."""
    return str(share_folder() / "config" / "fastdds.xml")


def transport_hint(environ: Mapping[str, str] = os.environ) -> str:
    """Why messages of a matched publisher may get lost with this middleware, and the mend; may be empty."""
    if "fastrtps" not in get_rmw_implementation_identifier():
        return ""
    new, old = PROFILE_VARIABLES
    here = next((environ[variable] for variable in PROFILE_VARIABLES if environ.get(variable)), None)
    state = f"this process uses {here}" if here else "this process uses none"
    return (
        "messages larger than the 512 KiB of shared memory that Fast DDS has without a profile are lost when "
        "they are sent as best effort: start its process with the variable "
        f"{new} ({old} before ROS 2 Kilted) naming {shipped_profile()} ({state})"
    )


def _overrides() -> str:
    policies = {"history": HistoryPolicy, "reliability": ReliabilityPolicy, "durability": DurabilityPolicy}
    words = []
    for name, values in policies.items():
        known = [value.name.lower() for value in values if value.name != "UNKNOWN"]
        words.append(f"{name} out of {', '.join(known)}")
    return f"{'; '.join(words)}; depth a whole number"


def _publishers(node: Any, topic: str, kind: Any) -> list[Any]:
    name = type_name(kind)
    return [info for info in node.get_publishers_info_by_topic(topic) if info.topic_type == name]


def _name(info: Any) -> str:
    if info.node_name == UNNAMED:
        return "a node whose name is not known yet"
    namespace = info.node_namespace.rstrip("/")
    return f"{namespace}/{info.node_name}"


def _words(profile: QoSProfile) -> str:
    return f"{profile.reliability.name}, {profile.durability.name}"
