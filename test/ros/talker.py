"""Sensors as a process of their own, for recordings: what they say is known byte by byte.

    python talker.py FRAMES HZ [TOPIC:KIND:RELIABILITY ...]

KIND is rgb (640x480 rgb8), depth or thermal (640x480 16UC1), audio (1/30 s of sound) or text.
Waits until every topic has a subscriber, publishes FRAMES messages on each, all stamped, prints how many, and
stays until it is ended. Pictures repeat after four.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import rclpy
from audio_common_msgs.msg import AudioData, AudioDataStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from robust_perception.ros.images import from_array
from robust_perception.ros.messages import header

KINDS = {"rgb": Image, "depth": Image, "thermal": Image, "audio": AudioDataStamped, "text": String}


def contents(kind: str) -> list[Any]:
    """Four messages of a kind."""
    rng = np.random.default_rng(len(kind))
    if kind == "audio":
        sounds = [rng.integers(-9000, 9000, 533, dtype=np.int16).tobytes() for _ in range(4)]
        return [AudioDataStamped(audio=AudioData(data=sound)) for sound in sounds]
    if kind == "text":
        return [String(data=f"{number}") for number in range(4)]
    if kind == "rgb":
        return [from_array(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8), "rgb8") for _ in range(4)]
    return [from_array(rng.integers(0, 5000, (480, 640), dtype=np.uint16), "16UC1") for _ in range(4)]


def main() -> None:
    frames, rate = int(sys.argv[1]), float(sys.argv[2])
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("talker")
    speakers = []
    for word in sys.argv[3:]:
        topic, kind, quality = word.split(":")
        profile = QoSProfile(depth=10)
        if quality == "best_effort":
            profile.reliability = ReliabilityPolicy.BEST_EFFORT
        if quality == "latched":
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        speakers.append((node.create_publisher(KINDS[kind], topic, profile), contents(kind), quality))
    waited_for = [publisher for publisher, _, quality in speakers if quality != "latched"]
    for publisher, messages, quality in speakers:
        if quality == "latched":
            publisher.publish(messages[0])
    while not all(publisher.get_subscription_count() for publisher in waited_for):
        if stop.wait(0.02):
            return
    start, start_ns = time.monotonic(), node.get_clock().now().nanoseconds
    for number in range(frames):
        if stop.wait(max(0.0, start + number / rate - time.monotonic())):
            break
        for publisher, messages, quality in speakers:
            message = messages[number % 4]
            if quality == "latched":
                continue
            if hasattr(message, "header"):
                message.header = header(start_ns + round(number / rate * 1e9), "sensor")
            publisher.publish(message)
    print("sent", frames, flush=True)
    stop.wait()
    # How the middleware is taken down is not what the tests are about, and a busy one may take long over it.
    os._exit(0)


if __name__ == "__main__":
    main()
