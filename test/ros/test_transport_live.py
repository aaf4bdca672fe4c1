"""Best-effort images of 0.9 MB: none is lost under the shipped profile; a sensor not heard is told why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from live_graph import START_S, Graph, values

from robust_perception.ros.messages import stamp_to_ns

pytestmark = pytest.mark.ros

CAMERA = str(Path(__file__).with_name("camera.py"))
TALKER = str(Path(__file__).with_name("talker.py"))
FRAMES = 150


def test_no_frame_is_lost_under_the_profile(live: Graph, tiny: Path) -> None:
    # A busy machine may make the node late by any time, which is not the transport's loss: every frame of the
    # run may wait in the queue, and an old one counts like another.
    live.start_fusion(
        tiny, f"qos_overrides./rgb/image.subscription.depth:={FRAMES}", "rgb.check_header_age:=false"
    )
    camera = live.run([sys.executable, CAMERA, str(FRAMES)], "camera")
    live.wait_until("the camera to be done", lambda: "sent" in camera.text(), 60.0)
    got = values(live.diagnosis("rgb", "the end", lambda s: values(s)["state"] == "late"))
    # Each side learns of the other by itself; what the camera sends before the node knows of it, nobody lost.
    # From there on there is no gap in the stamps, up to the last one.
    assert (got["transport_lost"], got["gaps"], got["refused"]) == ("0", "0", "0"), got
    assert FRAMES - 45 <= int(got["frames"]) <= FRAMES, got
    last = live.received("/fusion/presence")[-1].message.header.stamp
    assert f"last stamp {stamp_to_ns(last)}" in camera.text()


def test_without_the_profile_the_node_says_what_is_wrong(live: Graph, tiny: Path) -> None:
    process = live.start_fusion(tiny, with_profile=False)
    assert "FASTDDS_DEFAULT_PROFILES_FILE" in process.text()
    live.run([sys.executable, CAMERA, "100000"], "camera", with_profile=False)
    status = live.diagnosis(
        "rgb", "why nothing arrives", lambda s: s.level == DiagnosticStatus.ERROR, deadline_s=START_S
    )
    assert "nothing arrives" in status.message or "lost on the way" in status.message
    assert "larger than the 512 KiB" in status.message
    assert "fastdds.xml" in status.message
    assert status.hardware_id == "/rgb/image"


def test_publisher_that_cannot_match_is_named(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny, "qos_overrides./rgb/image.subscription.reliability:=reliable")
    live.run([sys.executable, CAMERA, "100000"], "camera")

    def named(status: DiagnosticStatus) -> bool:
        # A publisher is found before the name of its node is.
        return status.level == DiagnosticStatus.ERROR and "/camera publishes" in status.message

    status = live.diagnosis("rgb", "both sides' QoS", named, deadline_s=START_S)
    assert "/camera publishes /rgb/image BEST_EFFORT" in status.message
    assert "asks for RELIABLE" in status.message
    assert "qos_overrides./rgb/image.subscription.reliability" in status.message


def test_publisher_of_another_type_is_named(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)
    live.run([sys.executable, TALKER, "0", "1", "/rgb/image:text:reliable"], "talker")

    def named(status: DiagnosticStatus) -> bool:
        return status.level == DiagnosticStatus.ERROR and "(by /talker)" in status.message

    status = live.diagnosis("rgb", "both types", named, deadline_s=START_S)
    words = "topic /rgb/image is published as std_msgs/msg/String, expected sensor_msgs/msg/Image (by /t"
    assert words in status.message
    assert "nothing arrives" not in status.message


def test_topic_that_nobody_publishes_is_told_once(live: Graph, tiny: Path) -> None:
    live.run([sys.executable, TALKER, "0", "1", "/camera/image_raw:rgb:reliable"], "talker")
    process = live.start_fusion(tiny, "audio.enabled:=false")
    status = live.diagnosis("rgb", "what to do", lambda s: "/camera/image_raw" in s.message, START_S)
    assert status.level == DiagnosticStatus.STALE
    assert "expected a publisher of /rgb/image (sensor_msgs/msg/Image), got none" in status.message
    live.diagnosis("rgb", "the next report", lambda s: "/camera/image_raw" in s.message)
    assert process.text().count("rgb (/rgb/image): expected a publisher") == 1
    assert "audio (/audio): expected" not in process.text()
