"""A camera as a process of its own: best effort, 640x480 rgb8, 30 Hz.

    python camera.py FRAMES

Waits for a subscriber, publishes FRAMES frames with stamps exactly 1/30 s apart, or until it is ended. Once
the fusion node has answered a frame, the camera lets it fall `IN_FLIGHT` frames behind and no more: a machine
that stands still for seconds then delays the frames and overflows no shared memory. A node that falls silent
is waited for `PATIENCE_S` once, and no more until it is heard again: lost frames do not hold the camera up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from robust_perception.ros.images import from_array
from robust_perception.ros.messages import header, stamp_to_ns

PERIOD = 1.0 / 30
IN_FLIGHT = 15
"""Frames of 0.9 MB: less than half of what the profile's shared memory holds."""

PATIENCE_S = 10.0


class Answers:
    """The newest stamp the fusion node has told of, ns; 0 before the first."""

    def __init__(self, node: rclpy.node.Node) -> None:
        self.newest_ns = 0
        self._given_up_ns = 0  # the newest stamp when it was last waited for in vain
        self._node = node
        node.create_subscription(DiagnosticArray, "/fusion/presence", self._take, 10)

    def _take(self, message: DiagnosticArray) -> None:
        self.newest_ns = max(self.newest_ns, stamp_to_ns(message.header.stamp))

    def wait(self, stamp_ns: int) -> None:
        """Until the node has told of this stamp, was never heard, or is silent for too long."""
        deadline = time.monotonic() + PATIENCE_S
        rclpy.spin_once(self._node, timeout_sec=0.0)
        while self._given_up_ns < self.newest_ns < stamp_ns:
            if time.monotonic() > deadline:
                self._given_up_ns = self.newest_ns
            rclpy.spin_once(self._node, timeout_sec=0.1)


def main() -> None:
    frames = int(sys.argv[1])
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("camera")
    quality = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(Image, "/rgb/image", quality)
    rng = np.random.default_rng(1)
    pictures = [from_array(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8), "rgb8") for _ in range(4)]
    while publisher.get_subscription_count() == 0:
        if stop.wait(0.02):
            return
    answers = Answers(node)
    start, start_ns = time.monotonic(), node.get_clock().now().nanoseconds
    for number in range(frames):
        answers.wait(start_ns + round((number - IN_FLIGHT) * PERIOD * 1e9))
        if stop.wait(max(0.0, start + number * PERIOD - time.monotonic())):
            break
        picture = pictures[number % 4]
        picture.header = header(start_ns + round(number * PERIOD * 1e9), "camera")
        publisher.publish(picture)
    print("sent", frames, "last stamp", stamp_to_ns(picture.header.stamp), flush=True)
    stop.wait()
    # How the middleware is taken down is not what the tests are about, and a busy one may take long over it.
    os._exit(0)


if __name__ == "__main__":
    main()
