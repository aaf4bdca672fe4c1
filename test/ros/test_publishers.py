"""The overlay costs nothing while nobody looks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from robust_perception.engine.engine import Engine
from robust_perception.presence import SensorState, SensorStatus
from robust_perception.ros.publishers import Publishers
from robust_perception.runtime import overlay
from robust_perception.vocabulary import MODALITIES, FrameSet, Modality, Pattern, SensorFrame


def test_overlay_is_drawn_only_for_a_subscriber(
    tiny: Path, domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = overlay.draw

    def counting(*arguments: object) -> object:
        drawn.append(1)
        return draw(*arguments)

    monkeypatch.setattr(overlay, "draw", counting)
    engine = Engine.load(tiny)
    frame = SensorFrame(Modality.RGB, np.full((64, 96, 3), 90, np.uint8), 5, "camera")
    perception = engine.infer(FrameSet(Pattern.of([Modality.RGB]), {Modality.RGB: frame}, Modality.RGB))
    statuses = {m: SensorStatus(m, SensorState.ALIVE, None) for m in MODALITIES}
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = LifecycleNode("fusion", context=context)
    try:
        publishers = Publishers(node, engine)
        node.trigger_configure()
        node.trigger_activate()
        publishers.publish(perception, statuses)
        assert not drawn
        node.create_subscription(Image, "/fusion/overlay", lambda message: None, 1)
        end, gate = time.monotonic() + 10.0, threading.Event()
        while not drawn:
            assert time.monotonic() < end, "a subscriber is there, and nothing is drawn"
            publishers.publish(perception, statuses)
            gate.wait(0.02)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
