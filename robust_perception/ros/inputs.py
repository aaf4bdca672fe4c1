"""The sensors' topics: a message comes in, a frame or a refusal goes to the synchronizer, and nothing else.

| sensor  | topic                                      | type                                    |
|---------|--------------------------------------------|-----------------------------------------|
| rgb     | rgb/image (rgb/image/compressed)           | sensor_msgs/Image (CompressedImage)     |
| depth   | depth/image (depth/image/compressed)       | the same                                |
| thermal | thermal/image (thermal/image/compressed)   | the same                                |
| audio   | audio, audio_info (latched)                | audio_common_msgs/AudioDataStamped, AudioInfo |

Both clocks are read first, before the message is unpacked, so that the ages are those of the arrival.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from robust_perception.presence import SensorStatus, Synchronizer
from robust_perception.ros import qos
from robust_perception.ros.diagnostics import Link
from robust_perception.ros.fusion_parameters import audio_format
from robust_perception.ros.parameters import ParameterTable
from robust_perception.ros.transport_loss import TransportLoss
from robust_perception.ros.unheard import Unheard
from robust_perception.ros.unit_parameters import image_units
from robust_perception.runtime.decoders import AudioDecoder, ImageDecoder
from robust_perception.runtime.errors import MessageError
from robust_perception.vocabulary import Modality, Reason

AGAIN_S = 10.0
"""Seconds between two log lines about the same kind of refusal of one sensor."""


class Inputs:
    """The subscriptions of a node's sensors, from making to `close`.

    Args:
        node: the node; logs go to its logger.
        synchronizer: where frames and refusals go.
        table: the node's parameters.
        modalities: sensors of the model.

    Raises:
        ParameterError: an override of the quality of service is not allowed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        synchronizer: Synchronizer,
        table: ParameterTable,
        modalities: tuple[Modality, ...],
    ) -> None:
        self._node, self._synchronizer = node, synchronizer
        self._log = node.get_logger()
        self._logged: dict[tuple[Modality, str], float] = {}
        self._noted: set[Modality] = set()
        self._subscriptions: dict[Modality, Any] = {}
        self._beside: list[Any] = []
        self._sound: tuple[AudioDecoder, Any] | None = None  # and the subscription that tells it the format
        self._camera_infos: dict[Modality, str] = {}
        self._losses = {modality: TransportLoss() for modality in modalities}
        self._unheard = Unheard(node, self._subscriptions)
        try:
            for modality in modalities:
                self._open(modality, table)
        except Exception:
            self.close()
            raise
        self._warn_of_idle_overrides()

    @property
    def topics(self) -> list[str]:
        """The resolved topics of the sensors."""
        return [subscription.topic_name for subscription in self._subscriptions.values()]

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in (*self._subscriptions.values(), *self._beside):
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._beside.clear()

    def links(self, statuses: Mapping[Modality, SensorStatus]) -> dict[Modality, Link]:
        """Where each sensor is listened to and, if it is silent, why."""
        found = {}
        # A copy: the inference thread asks too, while the executor's may be closing.
        for modality, subscription in tuple(self._subscriptions.items()):
            losses, status = self._losses[modality], statuses[modality]
            lost = losses.part(time.monotonic_ns())
            hint = self._unheard.hint(subscription, status, lost) or self._format_hint(modality)
            if hint:
                self._say(modality, hint, kind="unheard")
            note = self._unheard.note(subscription, status)
            if note and modality not in self._noted:
                self._noted.add(modality)
                self._say(modality, note)
            info = self._camera_infos.get(modality, "")
            found[modality] = Link(subscription.topic_name, info, losses.lost, hint, note)
        return found

    def _warn_of_idle_overrides(self) -> None:
        topics = [*self.topics, *([self._sound[1].topic_name] if self._sound else [])]
        for name in qos.idle_overrides(self._node):
            self._log.warning(
                f"parameter {name} has no effect: expected qos_overrides.TOPIC.subscription.POLICY with "
                f"history, depth, reliability or durability of one of {', '.join(topics)}"
            )

    def _format_hint(self, modality: Modality) -> str:
        if modality is not Modality.AUDIO or self._sound is None:
            return ""
        decoder, subscription = self._sound
        return "" if decoder.format is not None else "; ".join(self._unheard.unmatched(subscription))

    def _open(self, modality: Modality, table: ParameterTable) -> None:
        if modality is Modality.AUDIO:
            self._open_audio(AudioDecoder(audio_format(table), partial(self._say, modality)))
        else:
            compressed = table[f"{modality}.transport"] == "compressed"
            decoder = ImageDecoder(modality, lambda: image_units(table), partial(self._say, modality))
            self._open_image(modality, compressed, decoder)

    def _open_image(self, modality: Modality, compressed: bool, decoder: ImageDecoder) -> None:
        topic = f"{modality}/image/compressed" if compressed else f"{modality}/image"
        take = partial(self._take, modality, decoder)
        self._subscribe(modality, CompressedImage if compressed else Image, topic, qos.SENSOR, take)
        note = partial(self._take_camera_info, modality)
        info = self._node.create_subscription(CameraInfo, f"{modality}/camera_info", note, qos.SENSOR)
        self._beside.append(info)

    def _open_audio(self, decoder: AudioDecoder) -> None:
        take = partial(self._take, Modality.AUDIO, decoder)
        self._subscribe(Modality.AUDIO, AudioDataStamped, "audio", qos.SOUND, take)
        note = partial(self._take_audio_info, decoder)
        info = qos.subscribe(
            self._node, AudioInfo, "audio_info", note, qos.LATCHED, lambda _: None, lambda _: None
        )
        self._beside.append(info)
        self._sound = decoder, info

    def _subscribe(self, modality: Modality, kind: Any, topic: str, profile: Any, take: Any) -> None:
        def note_lost(status: Any) -> None:
            self._losses[modality].lost += status.total_count_change

        self._subscriptions[modality] = qos.subscribe(
            self._node, kind, topic, take, profile, lambda _: self._incompatible(modality), note_lost
        )

    def _take(self, modality: Modality, decoder: ImageDecoder | AudioDecoder, message: Any) -> None:
        now_ns, steady_ns = self._clocks()
        self._losses[modality].came += 1
        try:
            frame = decoder.decode(message)
        except MessageError as error:
            self._refuse(error, steady_ns)
        except Exception as error:  # whatever bytes do to a decoder, the node and the other sensors go on
            detail = f"expected a message that decodes, got {type(error).__name__}: {error}"
            self._refuse(MessageError(modality, Reason.BAD_DATA, detail), steady_ns)
        else:
            self._synchronizer.observe(frame, now_ns, steady_ns)

    def _take_audio_info(self, decoder: AudioDecoder, message: AudioInfo) -> None:
        before = decoder.format
        try:
            decoder.describe(message)
        except MessageError as error:
            self._refuse(error, time.monotonic_ns())
        else:
            if decoder.format != before:  # some drivers say it with every chunk
                self._log.info(f"audio: {decoder.format}")

    def _take_camera_info(self, modality: Modality, message: CameraInfo) -> None:
        self._camera_infos[modality] = f"{message.width}x{message.height}"

    def _clocks(self) -> tuple[int, int]:
        return self._node.get_clock().now().nanoseconds, time.monotonic_ns()

    def _refuse(self, error: MessageError, steady_ns: int) -> None:
        self._synchronizer.reject(error.modality, error.reason, error.detail, steady_ns)
        self._say(error.modality, f"message refused, {error.reason}: {error.detail}", kind=error.reason)

    def _incompatible(self, modality: Modality) -> None:
        subscription = self._subscriptions.get(modality)
        if subscription is None:
            return
        for sentence in self._unheard.unmatched(subscription):
            self._say(modality, sentence, kind=sentence)

    def _say(self, modality: Modality, text: str, kind: Reason | str = "") -> None:
        now = time.monotonic()
        key = (modality, str(kind) or text)
        if now - self._logged.get(key, -AGAIN_S) >= AGAIN_S:
            self._logged[key] = now
            topic = self._subscriptions[modality].topic_name if modality in self._subscriptions else ""
            self._log.warning(f"{modality} ({topic}): {text}")
