"""Listens to a live graph, sensors, outputs and truth, and keeps all of it in a bag.

Pictures of sensors are taken as bytes: only their stamp is read, so that listening costs the machine little.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import rclpy
from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo

from robust_perception import environment
from robust_perception.bags.stamps import stamp_in
from robust_perception.bags.writer import BagWriter
from robust_perception.ros.messages import stamp_to_ns
from robust_perception.ros.outputs import UNLABELLED_NAME
from robust_perception.vocabulary import AUDIO_RATE, IMAGE_MODALITIES, MODALITIES, Modality, Pattern

DEPTH = 50
"""Messages a subscription holds: a listener that is held up for some seconds misses nothing."""


class Listener(Protocol):
    """What is told of the graph, from the monitor's thread; times are ROS time in ns."""

    def model_classes(self, names: tuple[str, ...]) -> None:
        """The node is active; these are its classes."""

    def sensor(self, modality: Modality, end_ns: int) -> None:
        """A message of a sensor came, whose measurement ended at `end_ns`."""

    def truth(self, stamp_ns: int, label: npt.NDArray[np.uint8]) -> None:
        """The true label map of an instant."""

    def true_scene(self, stamp_ns: int, names: frozenset[str]) -> None:
        """The scene classes present at an instant."""

    def script_time(self, stamp_ns: int, time_s: float) -> None:
        """The time in the fault script at an instant."""

    def label_map(self, stamp_ns: int, label_map: npt.NDArray[np.uint8]) -> None:
        """The segmentation of an output."""

    def scene(self, stamp_ns: int, names: frozenset[str]) -> None:
        """The scene classes an output gives more than one half."""

    def output(
        self,
        *,
        published_ns: int,
        stamp_ns: int,
        pattern: Pattern,
        measured_ns: Mapping[Modality, int],
        states: Mapping[Modality, str],
        rates_hz: Mapping[Modality, float],
        latency_ms: float,
        inference_ms: float,
    ) -> None:
        """The presence message of an output."""

    def diagnosis(self, at_ns: int, error: bool, text: str) -> None:
        """What `/diagnostics` says of the pattern."""


class Monitor:
    """A node on a thread of its own; a context manager.

    Args:
        listener: told of everything.
        domain: ROS domain of the graph.
        bag: keeps every message as it came, under the time at which it came; None keeps nothing.
    """

    def __init__(self, listener: Listener, domain: int, bag: BagWriter | None = None) -> None:
        self._listener, self._domain, self._bag = listener, domain, bag
        self._context = rclpy.Context()
        self._to_write: queue.SimpleQueue[tuple[str, str, bytes, int] | None] = queue.SimpleQueue()
        self.failure: Exception | None = None
        """What ended the listening or the writing too early."""

    def __enter__(self) -> Monitor:
        environment.prepare()
        rclpy.init(context=self._context, domain_id=self._domain)
        self._node = rclpy.create_node("monitor", context=self._context)
        self._subscribe()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._spinning = threading.Thread(target=self._spin, name="monitor", daemon=True)
        self._writing = threading.Thread(target=self._write, name="bag", daemon=True)
        self._spinning.start()
        self._writing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rclpy.shutdown(context=self._context)
        self._spinning.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._to_write.put(None)
        self._writing.join()

    def now_ns(self) -> int:
        """ROS time."""
        return int(self._node.get_clock().now().nanoseconds)

    def _subscribe(self) -> None:
        for modality in IMAGE_MODALITIES:
            self._listen(Image, f"/{modality}/image", partial(self._picture, modality))
            self._listen(CameraInfo, f"/{modality}/camera_info")
        self._listen(AudioDataStamped, "/audio", self._sound)
        self._listen(AudioInfo, "/audio_info", latched=True)
        self._listen(Image, "/truth/segmentation", self._truth)
        self._listen(Detection2DArray, "/truth/detections")
        self._listen(Classification, "/truth/scene", self._true_scene)
        self._listen(LabelInfo, "/truth/label_info", latched=True)
        self._listen(DiagnosticArray, "/truth/faults", self._faults)
        self._listen(LabelInfo, "/fusion/label_info", self._classes, latched=True)
        self._listen(Image, "/fusion/segmentation", self._label_map)
        self._listen(Detection2DArray, "/fusion/detections")
        self._listen(Classification, "/fusion/scene", self._scene)
        self._listen(DiagnosticArray, "/fusion/presence", self._presence)
        self._listen(DiagnosticArray, "/diagnostics", self._diagnostics)

    def _listen(
        self, kind: Any, topic: str, take: Callable[[bytes], None] | None = None, latched: bool = False
    ) -> None:
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        msgtype = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        if self._bag is not None:
            self._bag.add_topic(topic, msgtype, latched)

        def arrived(data: bytes) -> None:
            if self._bag is not None:
                self._to_write.put((topic, msgtype, data, self.now_ns()))
            if take is not None:
                take(data)

        self._node.create_subscription(
            kind, topic, arrived, QoSProfile(depth=DEPTH, durability=durability), raw=True
        )

    def _picture(self, modality: Modality, data: bytes) -> None:
        self._listener.sensor(modality, stamp_in(data))

    def _sound(self, data: bytes) -> None:
        message = deserialize_message(data, AudioDataStamped)
        samples = len(message.audio.data) // 2
        self._listener.sensor(
            Modality.AUDIO, stamp_to_ns(message.header.stamp) + samples * 1_000_000_000 // AUDIO_RATE
        )

    def _truth(self, data: bytes) -> None:
        message = deserialize_message(data, Image)
        self._listener.truth(stamp_to_ns(message.header.stamp), _mono8(message))

    def _true_scene(self, data: bytes) -> None:
        message = deserialize_message(data, Classification)
        self._listener.true_scene(stamp_to_ns(message.header.stamp), _likely(message))

    def _faults(self, data: bytes) -> None:
        message = deserialize_message(data, DiagnosticArray)
        self._listener.script_time(
            stamp_to_ns(message.header.stamp), float(_values(message.status[0])["time_s"])
        )

    def _classes(self, data: bytes) -> None:
        message = deserialize_message(data, LabelInfo)
        names = [entry.class_name for entry in sorted(message.class_map, key=lambda entry: entry.class_id)]
        self._listener.model_classes(tuple(name for name in names if name != UNLABELLED_NAME))

    def _label_map(self, data: bytes) -> None:
        message = deserialize_message(data, Image)
        self._listener.label_map(stamp_to_ns(message.header.stamp), _mono8(message))

    def _scene(self, data: bytes) -> None:
        message = deserialize_message(data, Classification)
        self._listener.scene(stamp_to_ns(message.header.stamp), _likely(message))

    def _presence(self, data: bytes) -> None:
        message = deserialize_message(data, DiagnosticArray)
        stamp_ns = stamp_to_ns(message.header.stamp)
        head = _values(message.status[0])
        sensors = {m: message.status[1 + m.position] for m in MODALITIES}
        values = {m: _values(status) for m, status in sensors.items()}
        measured_ns = {m: int(v["measured_ns"]) for m, v in values.items() if v["measured_ns"]}
        latency_ms = float(head["latency_ms"])
        self._listener.output(
            published_ns=measured_ns[Modality(head["reference"])] + round(latency_ms * 1e6),
            stamp_ns=stamp_ns,
            pattern=Pattern.parse(head["pattern"]),
            measured_ns=measured_ns,
            states={m: str(status.message).partition(";")[0] for m, status in sensors.items()},
            rates_hz={m: float(v["rate_hz"]) for m, v in values.items()},
            latency_ms=latency_ms,
            inference_ms=float(head["total_ms"]),
        )

    def _diagnostics(self, data: bytes) -> None:
        message = deserialize_message(data, DiagnosticArray)
        for status in message.status:
            if status.name == "fusion: pattern":
                error = status.level == DiagnosticStatus.ERROR
                self._listener.diagnosis(stamp_to_ns(message.header.stamp), error, str(status.message))

    def _spin(self) -> None:
        _give_way()
        try:
            with suppress(ExternalShutdownException):
                self._executor.spin()
        except Exception as error:  # told by whoever owns the monitor
            self.failure = error

    def _write(self) -> None:
        _give_way()
        while (entry := self._to_write.get()) is not None:
            if self.failure is None and self._bag is not None:
                try:
                    self._bag.write(*entry)
                except Exception as error:  # a full disk; the run goes on, its owner tells
                    self.failure = error


def _give_way() -> None:
    """Lower the priority of the calling thread: listening must not slow down what is listened to."""
    with suppress(OSError, AttributeError):  # where threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _mono8(message: Image) -> npt.NDArray[np.uint8]:
    return np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.width)


def _likely(message: Classification) -> frozenset[str]:
    return frozenset(result.class_id for result in message.results if result.score > 0.5)


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}
