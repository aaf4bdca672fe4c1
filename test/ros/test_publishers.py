"""The overlay costs nothing while nobody looks, and one threshold is true of all patterns."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from robust_perception.engine.engine import Engine
from robust_perception.engine.manifest import Manifest
from robust_perception.presence import SensorState, SensorStatus
from robust_perception.ros.publishers import Publishers
from robust_perception.runtime import overlay
from robust_perception.vocabulary import MODALITIES, FrameSet, Modality, Pattern, SensorFrame


def test_threshold_of_label_info_is_that_of_no_pattern_less(tiny: Path) -> None:
    manifest = Manifest.load(tiny)
    thresholds = {pattern.bits: 0.2 + 0.01 * pattern.bits for pattern in manifest.patterns}
    engine = SimpleNamespace(
        manifest=replace(manifest, score_threshold=thresholds), score_threshold=None, folder=tiny
    )
    node, topics = MagicMock(), defaultdict(MagicMock)
    node.create_lifecycle_publisher.side_effect = lambda kind, name, profile: topics[name]
    publishers = Publishers(node, engine)
    for live, told in ((None, 0.21), (0.75, 0.75)):
        engine.score_threshold = live
        publishers.describe()
        assert topics["~/label_info"].publish.call_args.args[0].threshold == pytest.approx(told)


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
