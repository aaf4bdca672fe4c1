"""Other ways in than raw images under the default names: compressed, remapped, in simulated time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from live_graph import OUTPUTS, START_S, Graph, pattern_of, profile, values
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensors import Sensors

from robust_perception.ros import images
from robust_perception.ros.messages import header, ns_to_stamp
from robust_perception.vocabulary import MODALITIES, Modality

pytestmark = pytest.mark.ros


def test_compressed_images(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny, "rgb.transport:=compressed", "depth.transport:=compressed")
    rng = np.random.default_rng(0)
    publishers = {
        m: live.node.create_publisher(CompressedImage, f"/{m}/image/compressed", profile(5, False))
        for m in (Modality.RGB, Modality.DEPTH)
    }

    def send() -> None:
        stamped = header(live.node.get_clock().now().nanoseconds, "camera")
        colour = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        jpeg = cv2.imencode(".jpg", colour)[1].tobytes()
        publishers[Modality.RGB].publish(CompressedImage(header=stamped, format="jpeg", data=jpeg))
        counts = rng.integers(500, 9000, (64, 96), dtype=np.uint16)
        png = images.COMPRESSED_DEPTH_HEADER.pack(0, 0.0, 0.0) + cv2.imencode(".png", counts)[1].tobytes()
        text = "16UC1; compressedDepth png"
        publishers[Modality.DEPTH].publish(CompressedImage(header=stamped, format=text, data=png))

    timer = live.node.create_timer(0.1, send)
    live.wait_for("/fusion/presence", "both", lambda m: pattern_of(m) == "rgb+depth", START_S)
    timer.cancel()


def test_overlay_and_camera_info(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)
    live.listen({"/fusion/overlay": Image})
    info = live.node.create_publisher(CameraInfo, "/rgb/camera_info", profile(5, False))
    timer = live.node.create_timer(0.1, lambda: info.publish(CameraInfo(width=96, height=64)))
    with Sensors(live, [Modality.RGB]):
        picture = live.wait_for("/fusion/overlay", "a picture", lambda m: True, 10.0).message
        assert picture.encoding == "rgb8"
        assert (picture.width, picture.header.frame_id) == (96, "rgb_frame")
        assert np.unique(images.to_array(picture)).size > 10
        live.diagnosis("rgb", "its CameraInfo", lambda s: values(s)["camera_info"] == "96x64")
        live.diagnosis("depth", "no CameraInfo", lambda s: values(s)["camera_info"] == "none")
    timer.cancel()


def test_frozen_pictures_leave_the_pattern(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny)

    def freeze() -> Any:
        held: list[Any] = []

        def spoil(message: Any) -> Any:
            held.append(message)
            held[0].header = message.header
            return held[0]

        return spoil

    with Sensors(live, [Modality.RGB, Modality.AUDIO]) as sensors:
        live.wait_for("/fusion/presence", "both", lambda m: pattern_of(m) == "rgb+audio", 10.0)
        sensors.spoil(Modality.RGB, freeze())
        without = live.wait_for("/fusion/presence", "audio", lambda m: pattern_of(m) == "audio", 5.0).message
        assert values(without.status[1])["reason"] == "frozen"
        assert "identical content" in without.status[1].message
        assert without.header.frame_id == "audio_frame"


def test_simulated_time(live: Graph, tiny: Path) -> None:
    live.start_fusion(tiny, "use_sim_time:=true")
    now_ns = [0]

    def stamp(message: Any) -> Any:
        message.header.stamp = ns_to_stamp(now_ns[0])
        return message

    with Sensors(live) as sensors:
        status = live.diagnosis("rgb", "no clock", lambda s: "use_sim_time" in s.message)
        assert values(status)["reason"] == "stamp from the future"
        for modality in MODALITIES:
            sensors.spoil(modality, stamp)
        clock = live.node.create_publisher(Clock, "/clock", profile(5, False))

        def tick() -> None:
            now_ns[0] = max(now_ns[0], 1000 * 10**9) + 20_000_000
            clock.publish(Clock(clock=ns_to_stamp(now_ns[0])))

        timer = live.node.create_timer(0.02, tick)
        message = live.wait_for("/fusion/detections", "simulated stamps", lambda m: True, 10.0).message
        assert 1000 <= message.header.stamp.sec < 1100
        timer.cancel()


def test_a_clock_below_zero_is_told_and_passed_over(live: Graph, tiny: Path) -> None:
    process = live.start_fusion(tiny, "use_sim_time:=true")
    clock = live.node.create_publisher(Clock, "/clock", profile(5, False))
    now_ns = -1

    timer = live.node.create_timer(0.02, lambda: clock.publish(Clock(clock=ns_to_stamp(now_ns))))
    live.wait_until("a word about it", lambda: "/clock: expected a time from 0 on" in process.text())
    now_ns = 7 * 10**9
    live.wait_for("/diagnostics", "the time of later", lambda m: m.header.stamp.sec == 7, 10.0)
    timer.cancel()


def test_namespace_and_remapping(live: Graph, tiny: Path) -> None:
    live.start(
        "fusion_node", f"model:={tiny}", remap=("__ns:=/robot", "rgb/image:=/camera/colour", "audio:=/audio")
    )
    live.listen({topic.replace("/fusion", "/robot/fusion"): kind for topic, kind in OUTPUTS.items()})
    publisher = live.node.create_publisher(Image, "/camera/colour", profile(5, False))
    rng = np.random.default_rng(0)

    def send() -> None:
        message = images.from_array(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), "rgb8")
        message.header = header(live.node.get_clock().now().nanoseconds, "camera")
        publisher.publish(message)

    timer = live.node.create_timer(0.1, send)
    live.wait_for("/robot/fusion/presence", "rgb", lambda m: pattern_of(m) == "rgb", START_S)
    status = live.diagnosis("rgb", "the remapped topic", lambda s: s.hardware_id == "/camera/colour")
    assert values(status)["state"] == "alive"
    timer.cancel()
