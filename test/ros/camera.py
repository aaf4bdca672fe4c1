"""A camera as a process of its own: best effort, 640x480 rgb8, 30 Hz.

    python camera.py FRAMES

Waits for a subscriber, publishes FRAMES frames with stamps exactly 1/30 s apart, or until it is ended.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from robust_perception.ros.images import from_array
from robust_perception.ros.messages import header, stamp_to_ns

PERIOD = 1.0 / 30


def main() -> int:
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
            return 0
    start, start_ns = time.monotonic(), node.get_clock().now().nanoseconds
    for number in range(frames):
        if stop.wait(max(0.0, start + number * PERIOD - time.monotonic())):
            break
        picture = pictures[number % 4]
        picture.header = header(start_ns + round(number * PERIOD * 1e9), "camera")
        publisher.publish(picture)
    print("sent", frames, "last stamp", stamp_to_ns(picture.header.stamp), flush=True)
    stop.wait()
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
