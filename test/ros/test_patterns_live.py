"""Any subset from a cold start, any loss and return, on the live graph: processes over DDS."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from live_graph import Graph, pattern_of, values
from sensors import Sensors

from robust_perception.presence.config import TIMEOUTS_S
from robust_perception.ros.messages import stamp_to_ns
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern

pytestmark = pytest.mark.ros

OUTPUT_TOPICS = ("/fusion/detections", "/fusion/segmentation", "/fusion/scene", "/fusion/presence")
OUTPUT_PERIOD = 1 / 15
SLACK = 0.5
"""Seconds for transport and the outputs under way."""


def outputs_within(seconds: float) -> int:
    """How many outputs a promise of so many seconds leaves room for.

    Promises of time are counted in outputs here: a machine that does other things makes them fewer, never
    more. The demo measures the seconds.
    """
    return math.ceil(seconds / OUTPUT_PERIOD)


def outputs_between(live: Graph, start: float, end: float) -> list[str]:
    """Their patterns: those that came in [start, end), in monotonic seconds."""
    return [pattern_of(a.message) for a in live.received("/fusion/presence") if start <= a.at < end]


@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=str)
def test_cold_start_with_any_subset(pattern: Pattern, live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)
    with Sensors(live, pattern) as sensors:
        right = live.wait_for(
            "/fusion/presence", f"pattern {pattern}", lambda m: pattern_of(m) == str(pattern), 10.0
        )
        first = min(sensors.first.values())
        stamp = stamp_to_ns(right.message.header.stamp)
        for topic in OUTPUT_TOPICS:
            message = live.wait_for(
                topic, "the same stamp", lambda m: stamp_to_ns(m.header.stamp) == stamp, 2.0
            ).message
            reference = next(iter(pattern))
            assert message.header.frame_id == f"{reference}_frame", topic
        assert len(outputs_between(live, first, right.at)) <= outputs_within(1.0)
    presence = right.message
    assert values(presence.status[0])["bits"] == str(pattern.bits)
    states = {m: values(presence.status[1 + m.position]) for m in MODALITIES}
    for modality in MODALITIES:
        assert states[modality]["state"] == ("alive" if modality in pattern else "never seen"), modality
    patterns = {Pattern.parse(pattern_of(a.message)).bits for a in live.received("/fusion/presence")}
    assert all(bits & ~pattern.bits == 0 for bits in patterns), "a sensor that never spoke took part"


def test_every_sensor_lost_and_regained(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)
    everything = str(ALL_PATTERNS[0])
    with Sensors(live) as sensors:
        live.wait_for("/fusion/presence", everything, lambda m: pattern_of(m) == everything, 10.0)
        for modality in MODALITIES:
            rest = str(Pattern.of(m for m in MODALITIES if m is not modality))
            gone = sensors.lose(modality)
            reduced = live.wait_for(
                "/fusion/presence", rest, lambda m, rest=rest: pattern_of(m) == rest, 5.0, since=gone
            )
            still = outputs_between(live, gone, reduced.at)
            assert len(still) <= outputs_within(TIMEOUTS_S[modality] + SLACK), f"{modality}: {still}"
            status = reduced.message.status[1 + modality.position]
            assert values(status)["reason"] == "late", status
            assert reduced.message.header.frame_id == f"{next(iter(Pattern.parse(rest)))}_frame"
            back = live.wait_for(
                "/fusion/presence",
                everything,
                lambda m: pattern_of(m) == everything,
                5.0,
                since=sensors.regain(modality),
            )
            returned = values(back.message.status[1 + modality.position])
            assert returned["recovery_frames"] == "2", returned
            assert returned["losses"] == "1", returned


def test_all_lost_is_silence_and_an_error(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)
    everything = str(ALL_PATTERNS[0])
    with Sensors(live) as sensors:
        live.wait_for("/fusion/presence", everything, lambda m: pattern_of(m) == everything, 10.0)
        sensors.lose(*MODALITIES)
        status = live.diagnosis("pattern", "an error", lambda s: s.level == DiagnosticStatus.ERROR)
        assert "no sensor is alive" in status.message
        status = live.diagnosis("pattern", "a report", lambda s: True)
        assert status.level == DiagnosticStatus.ERROR
        before = {topic: len(live.received(topic)) for topic in OUTPUT_TOPICS}
        for _ in range(2):  # two more reports: a second at least
            status = live.diagnosis("pattern", "a report", lambda s: True)
            assert status.level == DiagnosticStatus.ERROR
        for topic in OUTPUT_TOPICS:
            assert len(live.received(topic)) == before[topic], f"{topic} went on without any sensor"
        back = sensors.regain(*MODALITIES)
        live.wait_for("/fusion/presence", everything, lambda m: pattern_of(m) == everything, 5.0, since=back)
        good = live.diagnosis("pattern", "all well", lambda s: s.level == DiagnosticStatus.OK)
        assert good.message == everything


def test_diagnostics_change_at_once_with_the_pattern(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)
    with Sensors(live) as sensors:
        everything = str(ALL_PATTERNS[0])
        live.wait_for("/fusion/presence", everything, lambda m: pattern_of(m) == everything, 10.0)
        gone = sensors.lose(Modality.RGB)
        rest = "depth+thermal+audio"
        output = live.wait_for("/fusion/presence", rest, lambda m: pattern_of(m) == rest, 5.0, since=gone)
        told = live.wait_for(
            "/diagnostics", rest, lambda m: m.status and m.status[0].message == rest, 5.0, since=gone
        )
        since = outputs_between(live, output.at, told.at)
        assert len(since) <= outputs_within(0.4), "the 1 Hz report would have come up to a second later"
        assert told.message.status[0].level == DiagnosticStatus.WARN
        names = [status.name for status in told.message.status]
        assert names == [f"fusion: {n}" for n in ("pattern", *MODALITIES, "engine")]
