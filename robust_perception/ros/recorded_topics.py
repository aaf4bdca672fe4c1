"""Which topics are recorded, and their subscriptions: raw bytes, whoever publishes them, however late.

The graph is looked at again and again. A topic that appears is subscribed as soon as a publisher of it is
known, for only then is its quality of service; when a publisher joins that the subscription does not hear,
the topic is subscribed anew. Messages are not taken apart: what goes over the wire is what is recorded.

Where ROS time counts, nothing is subscribed before it has begun, for nothing could be stamped; what was
latched until then comes all the same.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.qos import QoSProfile

from robust_perception.bags import definitions
from robust_perception.bags.definitions import Definition
from robust_perception.bags.types import IMAGE
from robust_perception.bags.writer import SECOND_NS
from robust_perception.ros import qos, recorder_qos
from robust_perception.ros.errors import ParameterError

DRAWN = "/overlay"
"""Ends the name of the picture that a graph draws of its input and output, while somebody looks."""


class Sink(Protocol):
    """What takes the topics and their messages."""

    def add_topic(self, topic: str, msgtype: str, profiles: Sequence[Any], definition: Definition) -> None:
        """A topic is about to be recorded."""

    def put(self, topic: str, msgtype: str, data: bytes, stamp_ns: int, published_ns: int) -> bool:
        """A message has come."""


@dataclass(frozen=True)
class Choice:
    """Which topics are recorded.

    Attributes:
        names: these, by their full names.
        pattern: and those whose full name this regular expression matches; with neither, all.
        exclude: but none whose full name this one matches.
    """

    names: frozenset[str]
    pattern: re.Pattern[str] | None
    exclude: re.Pattern[str] | None

    @property
    def is_all(self) -> bool:
        """Whether nobody has said which."""
        return not self.names and self.pattern is None

    @classmethod
    def of(cls, names: Sequence[str], pattern: str, exclude: str) -> Choice:
        """From parameters; ParameterError names the expression that is none."""
        full = frozenset("/" + name.strip("/") for name in names if name)
        return cls(full, _compiled("pattern", pattern), _compiled("exclude", exclude))

    def takes(self, topic: str) -> bool:
        """Whether a topic is recorded; a hidden one, with a part that begins with `_`, only by name."""
        if topic in self.names:
            return True
        if self.exclude is not None and self.exclude.search(topic):
            return False
        if self.pattern is not None:
            return self.pattern.search(topic) is not None
        return not self.names and "/_" not in topic


def _compiled(name: str, expression: str) -> re.Pattern[str] | None:
    try:
        return re.compile(expression) if expression else None
    except re.error as error:
        raise ParameterError(name, "a regular expression", f"{expression} ({error})") from None


class RecordedTopics:
    """The subscriptions of a recorder.

    Args:
        node: the node that subscribes.
        choice: which topics.
        sink: takes what comes.
        depth: messages of a topic that may wait for the node.
        ros_time: stamp by the node's clock, which may be a simulation's, instead of by the middleware's.
    """

    def __init__(self, node: Any, choice: Choice, sink: Sink, depth: int, ros_time: bool) -> None:
        self._node, self._choice, self._sink = node, choice, sink
        self._depth, self._ros_time = depth, ros_time
        self._subscriptions: dict[str, Any] = {}
        self._profiles: dict[str, QoSProfile] = {}
        self._types: dict[str, str] = {}
        self._said: set[str] = set()
        self._newest_ns = 0
        self.lost: Counter[str] = Counter()
        """Messages by topic that got lost before they came here, where the middleware tells."""

    @property
    def missing(self) -> list[str]:
        """Topics that were asked for by name and have not appeared."""
        return sorted(self._choice.names - self._types.keys())

    def __len__(self) -> int:
        return len(self._types)

    @property
    def waiting(self) -> bool:
        """Whether ROS time counts and has not begun: nothing can be stamped."""
        return self._ros_time and not self._node.get_clock().now().nanoseconds

    def look(self) -> None:
        """Look at the graph and subscribe what is new in it, as soon as there is a time."""
        if self.waiting:
            self._say("waiting for the first time on /clock (use_sim_time is on): nothing is recorded before")
            return
        for topic, kinds in self._node.get_topic_names_and_types():
            if not self._choice.takes(topic):
                continue
            if self._choice.is_all and topic.endswith(DRAWN) and IMAGE in kinds:
                self._say(
                    f"not recorded, for it can be drawn again of what is: {topic}; "
                    "a regular expression that matches it takes it, e.g. '.'"
                )
                continue
            infos = self._node.get_publishers_info_by_topic(topic)
            if not infos:
                continue
            kinds = sorted(set(kinds) | {info.topic_type for info in infos})
            if topic not in self._types:
                self._begin(topic, kinds, infos)
            elif topic in self._subscriptions:
                self._follow(topic, infos)
            if len(kinds) > 1:
                self._say(
                    f"{topic}: expected one type, got {' and '.join(kinds)}; "
                    f"{self._types.get(topic, 'none of them')} is recorded"
                )

    def close(self) -> None:
        """Take the subscriptions away."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _begin(self, topic: str, kinds: Sequence[str], infos: Sequence[Any]) -> None:
        info = infos[0]
        msgtype = str(info.topic_type)
        try:
            kind = message_class(msgtype)
        except (ImportError, AttributeError, ValueError):
            self._say(f"not recorded, for its type is not installed here: {topic} ({msgtype})")
            return
        of_type = [i.qos_profile for i in infos if i.topic_type == msgtype]
        definition = definitions.find(msgtype, _hash(info))
        if not definition.text:
            self._say(f"{topic}: recorded without the definition of {msgtype}, which is not installed here")
        self._types[topic] = msgtype
        self._sink.add_topic(topic, msgtype, recorder_qos.of_bag(of_type), definition)
        self._subscribe(topic, kind, recorder_qos.request(of_type, self._depth))

    def _follow(self, topic: str, infos: Sequence[Any]) -> None:
        """Subscribe anew when somebody has joined whom the subscription does not hear."""
        msgtype, before = self._types[topic], self._profiles[topic]
        wanted = recorder_qos.request(
            [info.qos_profile for info in infos if info.topic_type == msgtype], self._depth
        )
        if recorder_qos.is_looser(wanted, before):
            self._node.get_logger().info(
                f"{topic}: subscribed anew, {wanted.reliability.name} and {wanted.durability.name}, "
                "for the sake of a publisher that has joined"
            )
            self._node.destroy_subscription(self._subscriptions.pop(topic))
            # What the looser one asks for less was asked for by nobody else: the stricter stays where it was.
            self._subscribe(topic, message_class(msgtype), recorder_qos.loosest(wanted, before))

    def _subscribe(self, topic: str, kind: Any, profile: QoSProfile) -> None:
        self._profiles[topic] = profile
        self._subscriptions[topic] = qos.subscribe_raw(
            self._node, kind, topic, self._taker(topic), profile, self._loser(topic)
        )

    def _taker(self, topic: str) -> Callable[[bytes, Any], None]:
        msgtype, put = self._types[topic], self._sink.put

        def take(data: bytes, info: Any) -> None:
            put(topic, msgtype, data, self._stamp(info), int(info["source_timestamp"]))

        return take

    def _stamp(self, info: Any) -> int:
        """Time of reception in ns.

        Topics are served in any order. What lies back less than a second of the newest is stamped like it, so
        that a bag is in order; what lies back more tells of a clock that was set.
        """
        if self._ros_time or info["received_timestamp"] <= 0:
            stamp = int(self._node.get_clock().now().nanoseconds)
        else:
            stamp = int(info["received_timestamp"])
        if stamp < self._newest_ns < stamp + SECOND_NS:
            return self._newest_ns
        self._newest_ns = stamp
        return stamp

    def _loser(self, topic: str) -> Callable[[Any], None]:
        def lose(event: Any) -> None:
            self.lost[topic] += int(event.total_count_change)

        return lose

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._node.get_logger().warning(text)


def message_class(msgtype: str) -> Any:
    """The class of `package/msg/Name`; ImportError or AttributeError when it is not installed."""
    package, _, name = msgtype.partition("/msg/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _hash(info: Any) -> str:
    """The hash of a publisher's type as text; empty where it does not say, as before Jazzy."""
    said = getattr(info, "topic_type_hash", None)
    text = "" if said is None else str(said)
    return text if text.startswith("RIHS01_") else ""
