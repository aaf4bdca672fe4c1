"""Four synthetic sensors with noise, published over DDS, that can be lost and spoilt one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import numpy as np
from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from live_graph import Graph, profile
from sensor_msgs.msg import Image

from robust_perception.ros.messages import audio_info, audio_message, image_message
from robust_perception.vocabulary import AUDIO_RATE, MODALITIES, Modality, SensorFrame

Spoil = Callable[[Any], Any]
ENCODINGS = {Modality.RGB: "rgb8", Modality.DEPTH: "16UC1", Modality.THERMAL: "16UC1"}


def measure(
    modality: Modality, rng: np.random.Generator, stamp_ns: int, size: tuple[int, int], seconds: float = 0.1
) -> SensorFrame:
    """A frame of noise around a plausible value."""
    if modality is Modality.RGB:
        data: Any = rng.integers(60, 200, (*size, 3), dtype=np.uint8)
    elif modality is Modality.DEPTH:
        data = rng.normal(3.0, 0.1, size).astype(np.float32)
    elif modality is Modality.THERMAL:
        data = rng.normal(295.0, 1.0, size).astype(np.float32)
    else:
        data = rng.normal(0.0, 0.1, round(seconds * AUDIO_RATE)).astype(np.float32)
    return SensorFrame(modality, data, stamp_ns, f"{modality}_frame")


class Sensors:
    """Publishes until its `with` block ends.

    Args:
        graph: where.
        alive: the sensors that speak from the start.
        rate_hz: messages a second of each.
        size: rows, columns.
    """

    def __init__(
        self,
        graph: Graph,
        alive: Iterable[Modality] = MODALITIES,
        rate_hz: float = 10.0,
        size: tuple[int, int] = (64, 96),
    ) -> None:
        self.alive = set(alive)
        self.spoilt: dict[Modality, Spoil] = {}
        """Per sensor, what becomes of its messages on the way; None instead of a message sends nothing."""
        self.first: dict[Modality, float] = {}
        """Per sensor, monotonic time of its first message."""
        self.last: dict[Modality, float] = {}
        """Per sensor, monotonic time just before its newest message."""
        self._graph, self._period, self._size = graph, 1.0 / rate_hz, size
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._heard_ns = 0
        self._rng = np.random.default_rng(5)
        self._publishers: dict[Modality, Any] = {
            m: graph.node.create_publisher(Image, f"/{m}/image", profile(5, False))
            for m in MODALITIES
            if m.is_image
        }
        self._publishers[Modality.AUDIO] = graph.node.create_publisher(
            AudioDataStamped, "/audio", profile(20, False)
        )
        info = graph.node.create_publisher(AudioInfo, "/audio_info", profile(1, True))
        info.publish(audio_info())
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sensors:
        for modality, publisher in self._publishers.items():
            self._graph.wait_until(
                f"a subscription of {modality}", lambda p=publisher: p.get_subscription_count() > 0
            )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(10)

    def lose(self, *modalities: Modality) -> float:
        """Silence sensors; the monotonic time of the last message of any of them."""
        with self._lock:
            self.alive -= set(modalities)
            return max(self.last[m] for m in modalities)

    def regain(self, *modalities: Modality) -> float:
        """Let sensors speak again; the monotonic time."""
        with self._lock:
            self.alive |= set(modalities)
            return time.monotonic()

    def spoil(self, modality: Modality, spoil: Spoil | None) -> None:
        """Change a sensor's messages on their way; None ends that."""
        with self._lock:
            if spoil is None:
                self.spoilt.pop(modality, None)
            else:
                self.spoilt[modality] = spoil

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._period, time.monotonic())
            now_ns = self._graph.node.get_clock().now().nanoseconds
            with self._lock:
                for modality in MODALITIES:
                    if modality in self.alive:
                        self._send(modality, now_ns)

    def _listen(self, now_ns: int) -> SensorFrame:
        """The sound since the last chunk, without a seam; after a pause one period of it."""
        seconds = (now_ns - self._heard_ns) / 1e9
        if seconds > 0.3:
            seconds = self._period
        samples = round(seconds * AUDIO_RATE)
        start_ns = now_ns - round(seconds * 1e9)
        self._heard_ns = start_ns + round(samples * 1e9 / AUDIO_RATE)
        return measure(Modality.AUDIO, self._rng, start_ns, self._size, samples / AUDIO_RATE)

    def _send(self, modality: Modality, now_ns: int) -> None:
        if modality is Modality.AUDIO:
            message: Any = audio_message(self._listen(now_ns))
        else:
            frame = measure(modality, self._rng, now_ns, self._size)
            message = image_message(frame, ENCODINGS[modality])
        if modality in self.spoilt:
            message = self.spoilt[modality](message)
        if message is None:
            return
        self.last[modality] = time.monotonic()
        self.first.setdefault(modality, self.last[modality])
        self._publishers[modality].publish(message)
