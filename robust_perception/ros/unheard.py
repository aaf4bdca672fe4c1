"""Why a sensor is not heard, in words: its publisher's messages cannot arrive, or it has no publisher."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from robust_perception.presence import SensorState, SensorStatus
from robust_perception.ros import qos
from robust_perception.ros.elsewhere import elsewhere
from robust_perception.vocabulary import Modality

UNHEARD_NS = 2_000_000_000
"""Silence of a matched publisher after which a word about the transport is due."""

UNPUBLISHED_NS = 5_000_000_000
"""Time without any publisher after which the topic's name may be a mistake; drivers need a while to start."""

MUCH = 0.2
"""Part of the messages lost above which it is said."""


class Unheard:
    """Looks at the graph around a node's subscriptions to sensors.

    Args:
        node: the node.
        subscriptions: of its sensors; looked at whenever something is asked.
    """

    def __init__(self, node: Any, subscriptions: Mapping[Modality, Any]) -> None:
        self._node, self._subscriptions = node, subscriptions
        self._matched_ns: dict[Modality, int] = {}  # since when a silent sensor is known to have a publisher
        self._unpublished_ns: dict[Modality, int] = {}  # since when a sensor never seen is known to have none

    def hint(self, subscription: Any, status: SensorStatus, lost: float) -> str:
        """Why the sensor's publisher cannot be heard, and the mend; empty when nothing is known to be wrong.

        Args:
            subscription: the sensor's.
            status: the sensor's.
            lost: part of its messages of the last seconds that the middleware lost.
        """
        # Sound is small: what the transport does to large messages is no reason for its silence.
        why = qos.transport_hint() if status.modality.is_image else ""
        if lost > MUCH:
            because = f": {why}" if why else ""
            return f"{lost:.0%} of its messages of the last seconds were lost on the way{because}"
        if status.state not in (SensorState.NEVER_SEEN, SensorState.LATE) or status.rate_hz > 0.0:
            self._matched_ns.pop(status.modality, None)
            return ""
        topic, kind = subscription.topic_name, subscription.msg_type
        wrong = self.unmatched(subscription)
        if qos.publishers_of_another_type(self._node, topic, kind):
            wrong.append(f"remap {subscription.topic}; {self._elsewhere(status.modality, subscription)}")
        if wrong:
            return "; ".join(wrong)
        # Whoever was heard has a way here: its silence is its own.
        heard = status.state is not SensorState.NEVER_SEEN
        matched = (
            [] if heard else qos.publishers_that_match(self._node, topic, kind, subscription.qos_profile)
        )
        if not matched:
            self._matched_ns.pop(status.modality, None)
            return ""
        if not _lasts(self._matched_ns, status.modality, UNHEARD_NS):
            return ""
        guess = f"either it sends nothing, or it is lost: {why}" if why else "it seems to send nothing"
        return f"{', '.join(matched)} publishes {topic}, but nothing arrives: {guess}"

    def note(self, subscription: Any, status: SensorStatus) -> str:
        """That a sensor never seen has had no publisher for a while, and what to do; else empty."""
        topic, sensor = subscription.topic_name, status.modality
        never_seen = status.state is SensorState.NEVER_SEEN
        if not never_seen or self._node.get_publishers_info_by_topic(topic):
            self._unpublished_ns.pop(sensor, None)
            return ""
        if not _lasts(self._unpublished_ns, sensor, UNPUBLISHED_NS):
            return ""
        return (
            f"expected a publisher of {topic} ({qos.type_name(subscription.msg_type)}), got none; remap "
            f"{subscription.topic} (in the launch file {sensor}_topic), or set {sensor}.enabled to false "
            f"where there is no such sensor; {self._elsewhere(sensor, subscription)}"
        )

    def unmatched(self, subscription: Any) -> list[str]:
        """For every publisher that cannot reach a subscription, a sentence that names both sides."""
        topic, kind = subscription.topic_name, subscription.msg_type
        return [
            *qos.publishers_that_do_not_match(self._node, topic, kind, subscription.qos_profile),
            *qos.publishers_of_another_type(self._node, topic, kind),
        ]

    def _elsewhere(self, sensor: Modality, subscription: Any) -> str:
        # A copy: the inference thread asks too, while the executor's may be closing.
        taken = [other.topic_name for m, other in tuple(self._subscriptions.items()) if m is not sensor]
        return elsewhere(self._node, sensor, subscription, taken)


def _lasts(since_ns: dict[Modality, int], sensor: Modality, wanted_ns: int) -> bool:
    """Whether something has lasted for so long; the first asking is its beginning."""
    now_ns = time.monotonic_ns()
    return now_ns - since_ns.setdefault(sensor, now_ns) >= wanted_ns
