"""The quality of service of a recorder's subscription, and of offers as a bag keeps them.

Two policies decide whether a message arrives at all. Reliability: a RELIABLE subscription hears no
BEST_EFFORT publisher. Durability: a TRANSIENT_LOCAL subscription, which alone gets what was said before it
came, hears no VOLATILE publisher. So each asks for the stricter where all publishers of the topic offer it,
and for the looser otherwise. The others keep no message away, or are the publisher's own business.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from robust_perception.bags.writer import FOREVER, SECOND_NS


def request(offered: Sequence[QoSProfile], depth: int) -> QoSProfile:
    """A profile that hears every publisher of a topic.

    Args:
        offered: what its publishers offer; none gives the looser of everything.
        depth: messages that may wait for the recorder.
    """
    reliable = bool(offered) and all(p.reliability == ReliabilityPolicy.RELIABLE for p in offered)
    latched = bool(offered) and all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def is_looser(one: QoSProfile, other: QoSProfile) -> bool:
    """Whether `one` hears a publisher that `other` does not."""
    reliability = (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE)
    durability = (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)
    return (one.reliability, other.reliability) == reliability or (
        one.durability,
        other.durability,
    ) == durability


def loosest(one: QoSProfile, other: QoSProfile) -> QoSProfile:
    """A profile that hears whom either hears; it keeps as many messages as `one`."""
    best_effort = ReliabilityPolicy.BEST_EFFORT in (one.reliability, other.reliability)
    volatile = DurabilityPolicy.VOLATILE in (one.durability, other.durability)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=one.depth,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE if volatile else DurabilityPolicy.TRANSIENT_LOCAL,
    )


def of_bag(offered: Sequence[QoSProfile]) -> tuple[Qos, ...]:
    """Offers as a bag keeps them, each once; a depth that discovery does not tell is 0."""
    found: dict[Qos, None] = {}
    for profile in offered:
        kept = Qos(
            history=QosHistory(int(profile.history)),
            depth=profile.depth,
            reliability=QosReliability(int(profile.reliability)),
            durability=QosDurability(int(profile.durability)),
            deadline=_time(profile.deadline.nanoseconds),
            lifespan=_time(profile.lifespan.nanoseconds),
            liveliness=QosLiveliness(int(profile.liveliness)),
            liveliness_lease_duration=_time(profile.liveliness_lease_duration.nanoseconds),
            avoid_ros_namespace_conventions=bool(profile.avoid_ros_namespace_conventions),
        )
        found[kept] = None
    return tuple(found)


def _time(nanoseconds: int) -> QosTime:
    return QosTime(*divmod(nanoseconds, SECOND_NS)) if 0 < nanoseconds < 2**63 - 1 else FOREVER
